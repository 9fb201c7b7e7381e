"""The record of an evaluation: what was evaluated, on which datasets, and the metrics; its JSON and CSV formats."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from anomaly.errors import InputError
from anomaly.metrics.pixel import PixelResult
from anomaly.utils.files import write_whole
from anomaly.utils.given import plain
from anomaly.utils.names import check_distinct

FORMAT_VERSION = 5
COUNTS = ("frames", "known_pixels", "anomaly_pixels", "ignored_pixels")
STATE = "{}.{}.npz"  # file of the pixel metrics of a dataset and score
PARTS = ("components", "open_world", "at_threshold")
_Record = TypeVar("_Record")


@dataclass(frozen=True)
class ScoreResult:
    """Metrics of one score on one dataset.

    Args:
        values: Pixel metrics by name, as in :class:`anomaly.metrics.PixelResult`; NaN if undefined.
        bounds: Lower and upper bound by metric name, for metrics in binned mode: the exact value lies between them.
        confidence_intervals: Lower and upper end by metric name: the range that other frames of the same kind would
            likely give.
        frames: Number of frames.
        known_pixels: Number of pixels labelled known.
        anomaly_pixels: Number of pixels labelled anomalous.
        ignored_pixels: Number of pixels labelled ignore.
        undefined_frames: Frames that are left out of the means over images.
        components: Component metrics by name, and their ``threshold``; empty if they were not measured.
        open_world: Open-world IoU by name; empty if it was not measured.
        at_threshold: Metrics at a ``threshold`` that was chosen on another dataset, by name; empty without a threshold.
        per_frame: Metrics by name, for each frame; frames without known or anomalous pixels have none.
        remarks: Remarks on the score on this dataset, such as that all its values are equal.
    """

    values: dict[str, float]
    bounds: dict[str, list[float]]
    confidence_intervals: dict[str, list[float]]
    frames: int
    known_pixels: int
    anomaly_pixels: int
    ignored_pixels: int
    undefined_frames: list[str]
    components: dict[str, float] = field(default_factory=dict)
    open_world: dict[str, float] = field(default_factory=dict)
    at_threshold: dict[str, float] = field(default_factory=dict)
    per_frame: dict[str, dict[str, float]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        pixels: PixelResult,
        *,
        confidence_intervals: dict[str, list[float]] | None = None,
        components: dict[str, float] | None = None,
        open_world: dict[str, float] | None = None,
        at_threshold: dict[str, float] | None = None,
        remarks: list[str] | None = None,
    ) -> ScoreResult:
        """Make the record of pixel metrics, without their curve, and of the other metrics."""
        return cls(
            values=pixels.values,
            bounds={name: list(ends) for name, ends in pixels.bounds.items()},
            confidence_intervals=confidence_intervals or {},
            frames=pixels.frames,
            known_pixels=pixels.known_pixels,
            anomaly_pixels=pixels.anomaly_pixels,
            ignored_pixels=pixels.ignored_pixels,
            undefined_frames=list(pixels.undefined_frames),
            components=components or {},
            open_world=open_world or {},
            at_threshold=at_threshold or {},
            per_frame={frame: dict(pixels.per_frame[frame]) for frame in sorted(pixels.per_frame)},
            remarks=remarks or [],
        )


@dataclass(frozen=True)
class DatasetResult:
    """Metrics of all scores on one dataset.

    Args:
        dataset: Name of the dataset.
        frames: Number of frames evaluated.
        layout: Which of its published layouts the dataset was read from.
        scores: Metrics of each score, by its name, in the order in which they were requested.
        version: Version of the dataset, if there are several.
        fingerprint: Fingerprint of the frames (:class:`anomaly.datasets.fingerprint.Fingerprint`); empty in results of
            earlier formats.
        published_frames: Number of frames of the published dataset; 0 if it is not known.
        notes: Differences to the published dataset.
        images: :func:`anomaly.frames.image_hash` of each frame's image; empty in results of earlier formats.
    """

    dataset: str
    frames: int
    layout: str
    scores: dict[str, ScoreResult]
    version: str = ""
    fingerprint: str = ""
    published_frames: int = 0
    notes: list[str] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ClosedSet:
    """Segmentation metrics on known classes, as fractions in 0..1; NaN if undefined.

    Args:
        dataset: Type of the dataset in the config, such as ``CityscapesDataset``.
        frames: Number of images evaluated.
        miou: Mean IoU (intersection over union) over classes.
        macc: Mean accuracy over classes.
        aacc: Share of correctly classified pixels.
        class_iou: IoU by class name.
        unlabelled: Classes without a labelled pixel. Their IoU is 0 if they are predicted, which lowers ``miou``, else
            NaN.
    """

    dataset: str
    frames: int
    miou: float
    macc: float
    aacc: float
    class_iou: dict[str, float]
    unlabelled: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class EvaluationRecord:
    """The record of an evaluation. Its dictionaries hold only what JSON can represent.

    Args:
        model: Description of the model; tables show its ``name``.
        closed_set: Metrics on known classes; None if they were not measured.
        datasets: One entry for each dataset.
        settings: Settings that the metrics depend on, besides the model.
        provenance: Command, date, code, versions and inputs, from :func:`anomaly.results.provenance.provenance`.
        protocol: Rules of the evaluation, in words. Results with different rules are not comparable.
        timings: Seconds of each stage.
        format_version: Version of the file format.

    Raises:
        InputError: ``model`` has no name, or two datasets have the same name.
    """

    model: dict[str, Any]
    closed_set: ClosedSet | None
    datasets: list[DatasetResult]
    settings: dict[str, Any]
    provenance: dict[str, Any]
    protocol: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if not isinstance(self.model, dict) or not isinstance(self.model.get("name"), str):
            raise InputError(f"model: expected a 'name' of type str for the tables, found {self.model}; add one")
        check_distinct(
            (entry.dataset for entry in self.datasets if isinstance(entry, DatasetResult)), "datasets in one result"
        )

    def to_json(self) -> str:
        """Convert the record to indented JSON, with keys in the order of the fields; NaN and infinity become null.

        Numbers of numpy or torch are written as numbers, paths as strings; see :func:`anomaly.utils.given.plain`.

        Raises:
            InputError: The record holds something that JSON cannot represent; the message names its key.
        """
        return json.dumps(_without_nan(plain(self)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> EvaluationRecord:
        """Read the output of :meth:`to_json`; null in a field of type float becomes NaN.

        Files of earlier format versions are accepted. Version 1 had only AUROC, AP and FPR95; version 2 had no
        fingerprints, protocol and per-frame metrics; version 3 had no images, remarks and unlabelled classes; version 4
        had other names for some keys (``sets``, ``set``, ``figures``, ``intervals``).

        Raises:
            InputError: The text is not JSON, not the record of an evaluation, or of a later format version.
        """
        try:
            record = json.loads(text, object_pairs_hook=_once)
        except json.JSONDecodeError as error:
            raise InputError(f"expected JSON, found a text that is truncated or not JSON ({error})") from error
        if not isinstance(record, dict) or "format_version" not in record:
            raise InputError("expected the results of an evaluation with a 'format_version', found other JSON")
        version = record["format_version"]
        if version not in range(1, FORMAT_VERSION + 1) or isinstance(version, bool):
            raise InputError(
                f"expected results of format version {FORMAT_VERSION} or earlier, found {version!r}; read them with "
                "the version of the software that wrote them, or evaluate again with this one"
            )
        record = _upgraded(record, version)
        run = _read(cls, {**record, "format_version": FORMAT_VERSION})
        closed = None
        if run.closed_set is not None:
            found: Any = run.closed_set
            closed = _read(ClosedSet, {**found, "unlabelled": []} if version < 4 and isinstance(found, dict) else found)
        if closed is not None:
            ious = {name: _checked("float", name, iou) for name, iou in closed.class_iou.items()}
            closed = ClosedSet(**{**vars(closed), "class_iou": ious})
        datasets = [_read_dataset(entry) for entry in run.datasets]
        return cls(**{**vars(run), "closed_set": closed, "datasets": datasets})

    def rows(self) -> list[dict[str, Any]]:
        """One row for each dataset and score: names, counts, then metrics as fractions in 0..1.

        A metric ``NAME`` with a confidence interval is followed by ``NAME_low`` and ``NAME_high``. Other metrics than
        those of pixels are ``components.NAME``, ``open_world.NAME`` and ``at_threshold.NAME``. ``miou`` of the closed
        set is the same in every row, and empty if it was not measured.
        """
        miou = "" if self.closed_set is None else self.closed_set.miou
        return [
            plain(
                {"dataset": entry.dataset, "score": name, **_columns(score), "miou": miou}, f"{entry.dataset}, {name}"
            )
            for entry in self.datasets
            for name, score in entry.scores.items()
        ]

    def to_csv(self) -> str:
        """Convert :meth:`rows` to CSV with a header line, in full precision, with ``nan`` for undefined values."""
        rows = self.rows()
        columns = dict.fromkeys(column for row in rows for column in row if column != "miou")
        text = io.StringIO()
        names = [*columns, "miou"] if rows else ["dataset", "score", *COUNTS, "miou"]
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def write_results(result: EvaluationRecord, out: Path) -> None:
    """Write ``results.json`` and ``results.csv`` into a folder; each file appears whole or not at all.

    Args:
        result: The record.
        out: The folder; created if missing.

    Raises:
        InputError: ``out`` is not a folder.
    """
    texts = {"results.json": result.to_json(), "results.csv": result.to_csv()}
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder for the results, found a file; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_whole(out / name, text)


def state_name(dataset: str, score: str) -> str:
    """File name for the pixel metrics of a dataset and a score, whose names may contain slashes and dots."""
    safe = " +:,="
    return STATE.format(quote(dataset, safe=safe).replace(".", "%2E"), quote(score, safe=safe))


def read_results(path: Path) -> EvaluationRecord:
    """Read a ``results.json`` file.

    Raises:
        InputError: The file is missing, truncated, not a result, or of a later format version.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: expected the results.json of an evaluation, found {found}; name that file")
    try:
        return EvaluationRecord.from_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected the results.json of an evaluation, found a binary file; name that file"
        ) from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def state_files(path: Path) -> list[Path]:
    """Files with the pixel metrics of each score, beside a ``results.json``.

    ``anomaly evaluate --save-states`` writes them.

    Args:
        path: A ``results.json`` file, or one such ``.npz`` file, which is returned itself.

    Raises:
        InputError: Files are missing.
    """
    if path.suffix == ".npz":
        return [path]
    names = [state_name(entry.dataset, score) for entry in read_results(path).datasets for score in entry.scores]
    files = [path.parent / "states" / name for name in names]
    if missing := [file.name for file in files if not file.is_file()]:
        raise InputError(
            f"{path}: expected every pixel's score in {path.parent / 'states'}, found no {', '.join(missing)}; "
            "evaluate again with anomaly evaluate --save-states"
        )
    return files


def have_states(path: Path) -> bool:
    """Whether all files of :func:`state_files` exist."""
    try:
        return bool(state_files(path))
    except InputError:
        return False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object whose keys are distinct."""
    check_distinct((key for key, _ in pairs), "keys of one JSON object", "the file is damaged; write it again")
    return dict(pairs)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _columns(score: ScoreResult) -> dict[str, float | int]:
    columns: dict[str, float | int] = {name: getattr(score, name) for name in COUNTS}
    for name, value in score.values.items():
        columns[name] = value
        if name in score.confidence_intervals:
            columns[f"{name}_low"], columns[f"{name}_high"] = score.confidence_intervals[name]
    for part in PARTS:
        columns |= {f"{part}.{name}": value for name, value in getattr(score, part).items()}
    return columns


def _upgraded(record: dict[str, Any], version: int) -> dict[str, Any]:
    """Convert a record of an earlier format to the current one; anything else stays unchanged."""
    if version >= FORMAT_VERSION:
        return record
    record = _renamed(record, {"sets": "datasets"})
    if version < 3:
        record = {**record, "protocol": {}, "timings": {}}
    if isinstance(entries := record.get("datasets"), list):
        record["datasets"] = [_upgraded_dataset(entry, version) for entry in entries]
    for part, key in (("settings", "threshold"), ("provenance", "calibration")):
        if isinstance(found := record.get(part), dict) and key in found:
            record[part] = {**found, key: _renamed(found[key], {"set": "dataset"})}
    return record


def _upgraded_dataset(entry: Any, version: int) -> Any:
    entry = _renamed(_from_version_1(entry) if version == 1 else entry, {"set": "dataset"})
    if not isinstance(entry, dict) or not isinstance(entry.get("scores"), dict):
        return entry
    words = {"figures": "values", "intervals": "confidence_intervals"}
    scores = {name: _renamed(score, words) for name, score in entry["scores"].items()}
    for before, of_dataset, of_score in (
        (3, {"version": "", "fingerprint": "", "published_frames": 0, "notes": []}, {"per_frame": {}}),
        (4, {"images": {}}, {"remarks": []}),
    ):
        if version < before:
            scores = {name: {**one, **of_score} if isinstance(one, dict) else one for name, one in scores.items()}
            entry = {**entry, **of_dataset}
    return {**entry, "scores": scores}


def _renamed(record: Any, names: dict[str, str]) -> Any:
    """An object with other names for some of its keys; anything else stays unchanged."""
    if not isinstance(record, dict):
        return record
    return {names.get(key, key): value for key, value in record.items()}


def _from_version_1(entry: Any) -> Any:
    """Convert a dataset's entry of version 1 to version 2; anything else stays unchanged."""
    try:
        scores = {
            name: {
                "figures": {figure: score[figure] for figure in ("auroc", "ap", "fpr95")},
                **{count: score[count] for count in COUNTS},
                **{"bounds": {}, "intervals": {}, "undefined_frames": [], **{part: {} for part in PARTS}},
            }
            for name, score in entry["scores"].items()
        }
    except (KeyError, TypeError, AttributeError):
        return entry
    return {**entry, "scores": scores}


def _read_dataset(record: Any) -> DatasetResult:
    entry = _read(DatasetResult, record)
    scores = {name: _read_score(score) for name, score in entry.scores.items()}
    images = {frame: _checked("str", frame, image) for frame, image in entry.images.items()}
    return DatasetResult(**{**vars(entry), "scores": scores, "images": images})


def _read_score(record: Any) -> ScoreResult:
    score = _read(ScoreResult, record)
    floats = {
        part: {name: _checked("float", name, value) for name, value in getattr(score, part).items()}
        for part in ("values", *PARTS)
    }
    per_frame = {
        frame: {name: _checked("float", name, value) for name, value in _read_dict(frame, metrics).items()}
        for frame, metrics in score.per_frame.items()
    }
    ends = {
        part: {name: [_checked("float", name, end) for end in _pair(name, pair)] for name, pair in found.items()}
        for part, found in (("bounds", score.bounds), ("confidence_intervals", score.confidence_intervals))
    }
    return ScoreResult(**{**vars(score), **floats, **ends, "per_frame": per_frame})


def _read_dict(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"expected {name!r} to be an object, found {value!r}")
    return value


def _pair(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"expected {name!r} to be a list of two numbers, found {value!r}")
    return value


def _read(cls: type[_Record], record: Any) -> _Record:
    """Build a dataclass from a JSON object with exactly its fields; nested values stay unchanged."""
    types = {field.name: str(field.type) for field in fields(cls)}  # type: ignore[arg-type]
    if not isinstance(record, dict) or record.keys() != types.keys():
        found = sorted(record) if isinstance(record, dict) else type(record).__name__
        raise InputError(f"expected an object with the keys {sorted(types)}, found {found}")
    return cls(**{name: _checked(types[name], name, value) for name, value in record.items()})


def _checked(kind: str, name: str, value: Any) -> Any:
    """Check a JSON value against the type of a field; null becomes NaN for a float."""
    if kind == "float" and value is None:
        return math.nan
    types: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "dict": dict, "list": list}
    accepted = types.get(kind.partition("[")[0])
    if accepted is not None and (not isinstance(value, accepted) or isinstance(value, bool)):
        raise InputError(f"expected {name!r} to be of type {kind}, found {value!r}")
    return value
