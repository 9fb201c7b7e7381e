"""Read from a record how its result was measured. Nothing else in the record is trusted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from anomaly.datasets.catalog import in_catalogue
from anomaly.errors import InputError
from anomaly.evaluation.config import MetricConfig
from anomaly.metrics.functional.components import TRACKS
from anomaly.models.tiling import Inference
from anomaly.results.records import EvaluationRecord
from anomaly.scores.registry import current_name


@dataclass(frozen=True)
class Repeated:
    """The settings of an evaluation that measures the same again.

    Args:
        datasets: Names of the datasets of the catalogue.
        own: Names of datasets that are not in the catalogue, whose folders must be given.
        scores: Names of the scores.
        postprocessing: Chains of post-processing steps.
        inference: How the model was applied to an image.
        metrics: Which metrics were computed.
        calibrate_on: Dataset on which thresholds were chosen; None without thresholds.
        calibrate_by: Rule of the thresholds.
        limit: Number of frames, from the first; None for all.
        as_found: Whether a dataset differed from its published form.
        label_values: Meaning of the label values of the user's own folders.
    """

    datasets: list[str]
    own: list[str]
    scores: list[str]
    postprocessing: list[str]
    inference: Inference
    metrics: MetricConfig
    calibrate_on: str | None
    calibrate_by: str
    limit: int | None
    as_found: bool
    label_values: list[str] | None


def in_current_names(record: EvaluationRecord) -> EvaluationRecord:
    """Return a record with the current names of its scores; the name that a score function gives its score stays.

    Args:
        record: A record, as it was read.
    """
    if record.model.get("type") == "score function":
        return record
    settings = record.settings
    if isinstance(names := settings.get("scores"), list):
        settings = {**settings, "scores": [current_name(str(name)) for name in names]}
    datasets = [
        replace(entry, scores={current_name(name): score for name, score in entry.scores.items()})
        for entry in record.datasets
    ]
    return replace(record, settings=settings, datasets=datasets)


def repeated(record: EvaluationRecord) -> Repeated:
    """Read the settings of a record.

    Raises:
        InputError: The settings are missing, or cannot be repeated.
    """
    settings = record.settings
    if not isinstance(settings.get("scores"), list) or not record.datasets:
        raise InputError("expected a result with scores and datasets in its settings, found none; evaluate again")
    names = [entry.dataset for entry in record.datasets]
    chosen = settings.get("threshold") or {}
    level = "" if chosen.get("level") is None else f"={chosen['level']}"
    return Repeated(
        datasets=[name for name in names if in_catalogue(name)],
        own=[name for name in names if not in_catalogue(name)],
        scores=list(map(str, settings["scores"])),
        postprocessing=list(map(str, settings.get("post") or ["none"])),
        inference=replace(_inference(settings.get("inference")), batch=settings.get("batch") or 1),
        metrics=_metrics(settings),
        calibrate_on=str(chosen["dataset"]) if chosen else None,
        calibrate_by=f"{chosen['rule']}{level}" if chosen else "",
        limit=settings.get("limit"),
        as_found=any(entry.notes or not entry.fingerprint for entry in record.datasets),
        label_values=settings.get("label_values"),
    )


def _inference(how: Any) -> Inference:
    """The inference settings of a record. Older records have none; their maps were resized before scoring."""
    if how is None:
        return Inference(resolution="input")
    fields = {name: how.get(name) for name in ("window", "stride", "flip", "scales", "resolution", "precision")}
    try:
        return Inference(**fields)
    except (TypeError, InputError) as error:
        raise InputError(f"settings of the result: {error}") from error


def _metrics(settings: dict[str, Any]) -> MetricConfig:
    draws = settings.get("bootstrap") or 0
    given: dict[str, Any] = {"replicates": draws["replicates"] if isinstance(draws, dict) else draws}
    given |= settings.get("levels") or {}
    if settings.get("mode") == "binned":
        given["mode"] = "binned"
    if track := settings.get("components"):
        rules = {key: value for key, value in track.items() if key != "at"}
        if (found := next((one for one in TRACKS.values() if asdict(one) == rules), None)) is None:
            raise InputError(
                f"settings: expected component rules of {', '.join(TRACKS)}, found {rules}; evaluate again by hand"
            )
        given |= {"track": found, "components_at": track["at"]}
    return MetricConfig(**given)
