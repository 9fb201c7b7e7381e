"""A complete evaluation: check labels, choose thresholds, measure the closed set and the datasets, make the record."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from anomaly.datasets.dataset import Dataset
from anomaly.datasets.fingerprint import check_unseen, file_digests
from anomaly.datasets.label_counts import LabelCounts, check_both_kinds, count_labels
from anomaly.datasets.overlap import shared_images
from anomaly.errors import InputError
from anomaly.evaluation.callbacks import Callback, ProgressCallback, ScoreMapCallback
from anomaly.evaluation.config import Calibration, MetricConfig
from anomaly.evaluation.evaluator import calibrate, chosen_on_it, evaluate
from anomaly.evaluation.score_maps import NO_POST, ScorePipeline, Store, check_scores
from anomaly.evaluation.shares import frame_share
from anomaly.metrics.calibration import check_pixels
from anomaly.models.base import Model
from anomaly.models.tiling import Inference
from anomaly.postprocessing.table import Chain
from anomaly.results.records import ClosedSet, EvaluationRecord
from anomaly.results.score_store import ScoreWriter
from anomaly.scores.registry import Score
from anomaly.utils.names import check_distinct
from anomaly.utils.processes import ALONE, Processes
from anomaly.utils.profile import Profile

PROTOCOL = {
    "pooling": "all pixels of a set count together",
    "auroc": "ties count half",
    "ap": "sum over thresholds of recall gained times precision",
    "fpr": "at the first threshold, from the highest down, whose TPR is at least the level",
    "ignored": "pixels labelled 255 count nowhere",
    "labels": "at their own size; scores are resized to them, bilinearly, where they come smaller",
}

Progress = Callable[[str, int], Callable[[], None]]
"""Called with the name and the number of frames of a part of the work; returns what is called after each frame."""


@dataclass(frozen=True)
class Evaluation:
    """The configuration of an evaluation. It is made once and does not change.

    Args:
        scores: At least one; fitted scores with their statistics.
        post: Chains of post-processing steps, each applied to every score.
        inference: How the model is applied to an image.
        metrics: Which metrics are computed.
        calibration: Where thresholds are chosen before the datasets are measured; None for no thresholds.
        stores: Stored score maps, by dataset name; maps that a ``ScoreWriter`` lacks are written to it.
        fitted_images: Hashes of the images that the model's densities were fitted to; these images are refused.
        settings: Further settings that the values depend on, for the record.
    """

    scores: Sequence[Score]
    post: Sequence[Chain] = NO_POST
    inference: Inference = field(default_factory=Inference)
    metrics: MetricConfig = field(default_factory=MetricConfig)
    calibration: Calibration | None = None
    stores: Mapping[str, Store] = field(default_factory=dict)
    fitted_images: frozenset[str] = frozenset()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def check(self, frame: str, image: str) -> None:
        """Refuse an image that must not be evaluated.

        Args:
            frame: Name of the frame.
            image: :func:`anomaly.frames.image_hash` of its image.

        Raises:
            InputError: The model's densities were fitted to this image.
        """
        if self.fitted_images:
            check_unseen(frame, image, self.fitted_images, "the model's densities or scores")


def run(
    model: Model | None,
    datasets: Sequence[Dataset],
    evaluation: Evaluation,
    *,
    record: Mapping[str, Any],
    provenance: Mapping[str, Any],
    closed_set: Callable[[Callable[[], None]], ClosedSet] | None = None,
    closed_frames: int = 0,
    callbacks: Sequence[Callback] = (),
    progress: Progress = lambda what, total: lambda: None,
    profile: Profile | None = None,
    on_labels: Callable[[Dataset, LabelCounts], None] = lambda dataset, counts: None,
    processes: Processes = ALONE,
) -> EvaluationRecord:
    """Run an evaluation and make its record.

    Several processes share the frames. Each calls this function with the same arguments, and gets the same record but
    for the timings, which are its own.

    Args:
        model: The model; None if all scores are stored.
        datasets: Anomaly datasets, already limited.
        evaluation: The configuration.
        record: Description of the model; tables show its ``name``.
        provenance: Origin of the result, for the record.
        closed_set: Measures the model on known classes; calls its argument after each frame. None leaves this out.
        closed_frames: Number of frames of the closed set.
        callbacks: Called for every frame and dataset.
        progress: Called for each part: reading labels, closed set, choosing thresholds, datasets.
        profile: Receives the seconds spent in each stage.
        on_labels: Called with each dataset and the counts of its labels, before the model runs.
        processes: The processes that share the work.

    Raises:
        InputError: The input is invalid as described in :func:`anomaly.evaluation.evaluator.evaluate`, a dataset
            shares images with the one on which thresholds are chosen, or the processes do not see the same model, data
            and settings.
    """
    profile, calibration, metrics = profile or Profile(), evaluation.calibration, evaluation.metrics
    check_distinct((dataset.name for dataset in datasets), "datasets")
    names = ScorePipeline(evaluation.scores, evaluation.post).names
    check_scores(evaluation.scores, model)
    _check_apart(calibration, datasets)
    _check_same(record, datasets, evaluation, provenance, processes)
    _read_labels(datasets, calibration, progress, on_labels, processes)

    def own(dataset: Dataset) -> int:
        return len(frame_share(dataset, evaluation.scores, evaluation.stores.get(dataset.name), processes))

    closed = None if closed_set is None else closed_set(progress("closed set", closed_frames))
    if calibration is not None:
        thresholds = calibrate(
            model,
            calibration,
            evaluation.scores,
            inference=evaluation.inference,
            post=evaluation.post,
            check=evaluation.check,
            store=evaluation.stores.get(calibration.dataset.name),
            config=metrics,
            on_frame=progress(f"threshold on {calibration.dataset.name}", own(calibration.dataset)),
            profile=profile,
            processes=processes,
        )
        metrics = replace(metrics, thresholds=thresholds)
        _tell_classes(model, datasets)
    stores = {one.name: evaluation.stores[one.name] for one in datasets if one.name in evaluation.stores}
    writers = {name: store for name, store in stores.items() if isinstance(store, ScoreWriter)}
    advance = {dataset.name: progress(dataset.name, own(dataset)) for dataset in datasets}
    found = evaluate(
        model,
        datasets,
        evaluation.scores,
        inference=evaluation.inference,
        post=evaluation.post,
        check=evaluation.check,
        stores=stores,
        config=metrics,
        callbacks=[ScoreMapCallback(writers), *callbacks, ProgressCallback(lambda name: advance[name]())],
        profile=profile,
        processes=processes,
    )
    colour_scales: dict[str, Any] = next(
        (scales for one in callbacks if (scales := getattr(one, "colour_scales", None))), {}
    )
    return EvaluationRecord(
        model=dict(record),
        closed_set=closed,
        datasets=found,
        settings={
            "scores": [score.name for score in evaluation.scores],
            "post": [chain.name or "none" for chain in evaluation.post],
            "inference": None if model is None else evaluation.inference.record(),
            "batch": None if model is None else evaluation.inference.batch,
            **evaluation.settings,
            "heatmaps": {0: "none", len(names): "all"}.get(len(colour_scales), "first"),
            **_settings(metrics, calibration),
            "colour_scales": colour_scales,
        },
        provenance={**provenance, **_calibration_images(metrics), **_number(processes)},
        protocol=PROTOCOL,
        timings={name: round(seconds, 3) for name, seconds in profile.seconds().items()},
    )


def _check_apart(calibration: Calibration | None, datasets: Sequence[Dataset]) -> None:
    """Check that no threshold is applied to images on which it was chosen."""
    if calibration is None:
        return
    name = calibration.dataset.name
    others = [dataset for dataset in datasets if dataset.name != name]
    if not others:
        raise InputError(
            f"--calibrate-on {name}: expected other datasets too, because a threshold is not applied to the dataset on "
            "which it was chosen; name another with --data"
        )
    for dataset in others:
        if shared := shared_images(calibration.dataset, dataset):
            raise InputError(chosen_on_it(dataset.name, name, shared))


def _check_same(
    record: Mapping[str, Any],
    datasets: Sequence[Dataset],
    evaluation: Evaluation,
    provenance: Mapping[str, Any],
    processes: Processes,
) -> None:
    """Check that all processes see the same model, data and settings."""
    if processes.size == 1:
        return
    calibration = evaluation.calibration
    of_process = ("command", "date", "git_commit", "machine")
    processes.check_same("model", dict(record))
    processes.check_same("inputs and versions", {k: v for k, v in provenance.items() if k not in of_process})
    settings = {name: value for name, value in evaluation.settings.items() if name != "device"}
    names = ScorePipeline(evaluation.scores, evaluation.post).names
    rule = None if calibration is None else (calibration.rule, repr(calibration.level))
    settings |= {"scores": names, "inference": evaluation.inference, "threshold": rule}
    processes.check_same("settings", {**settings, **_metric_settings(evaluation.metrics)})
    for dataset in (*datasets, *([] if calibration is None else [calibration.dataset])):
        processes.check_same(f"files of {dataset.name}", file_digests(dataset))


def _read_labels(
    datasets: Sequence[Dataset],
    calibration: Calibration | None,
    progress: Progress,
    on_labels: Callable[[Dataset, LabelCounts], None],
    processes: Processes,
) -> None:
    """Check that every label value is declared, and that the pixels that the metrics need are there."""
    chosen_on = [] if calibration is None else [calibration.dataset]
    every = list({dataset.name: dataset for dataset in (*datasets, *chosen_on)}.values())
    advance, counts = progress("labels", sum(len(processes.in_turn(one.files)) for one in every)), {}
    for dataset in every:
        counts[dataset.name] = count_labels(dataset, on_frame=advance, processes=processes)
        on_labels(dataset, counts[dataset.name])
    for dataset in datasets:
        check_both_kinds(dataset, counts[dataset.name])
    if calibration is not None:
        found = counts[calibration.dataset.name]
        check_pixels(calibration.rule, found.known, found.anomaly, calibration.dataset.name)


def _number(processes: Processes) -> dict[str, int]:
    """The number of processes, if there were several, for the record."""
    return {} if processes.size == 1 else {"processes": processes.size}


def _calibration_images(metrics: MetricConfig) -> dict[str, Any]:
    """The images on which the thresholds were chosen, for the record."""
    first = next(iter(metrics.thresholds.values()), None)
    return {} if first is None else {"calibration": {"dataset": first.dataset, "images": sorted(first.images)}}


def _settings(metrics: MetricConfig, calibration: Calibration | None) -> dict[str, Any]:
    """The settings of the metrics, for the record."""
    chosen = None
    if calibration is not None:
        first = next(iter(metrics.thresholds.values()))
        level = None if math.isnan(first.level) else first.level
        chosen = {"dataset": first.dataset, "frames": len(calibration.dataset), "rule": first.rule, "level": level}
    return {**_metric_settings(metrics), "threshold": chosen}


def _metric_settings(metrics: MetricConfig) -> dict[str, Any]:
    track = None if metrics.track is None else {**asdict(metrics.track), "at": metrics.components_at}
    return {
        "mode": metrics.mode,
        "components": track,
        "bootstrap": {"replicates": metrics.replicates, "seed": 0},
        "levels": {"tpr": metrics.tpr, "fpr": metrics.fpr},
    }


def _tell_classes(model: Model | None, datasets: Sequence[Dataset]) -> None:
    for dataset in datasets if model is not None else ():
        if dataset.classes and model is not None and dataset.classes != model.classes:
            warnings.warn(
                f"{dataset.name}: open-world IoU is left out, because the network's classes "
                f"({', '.join(model.classes) or 'not named'}) differ from the dataset's ({', '.join(dataset.classes)})",
                stacklevel=3,
            )
