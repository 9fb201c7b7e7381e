"""One run's record: what was evaluated, on which sets, and what came out."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from anomaly.errors import InputError
from anomaly.metrics.pixel import PixelResult

FORMAT_VERSION = 1
CSV_COLUMNS = (
    "set",
    "score",
    "frames",
    "known_pixels",
    "anomaly_pixels",
    "ignored_pixels",
    "auroc",
    "ap",
    "fpr95",
    "miou",
)
_Record = TypeVar("_Record")


@dataclass(frozen=True)
class SetResult:
    """What the scores reached on one evaluation set.

    Args:
        set: Name of the set.
        frames: Number of frames evaluated.
        layout: Which of its published layouts the set was read from.
        scores: Pixel metrics by score name, in the order asked for.
    """

    set: str
    frames: int
    layout: str
    scores: dict[str, PixelResult]


@dataclass(frozen=True)
class ClosedSet:
    """Ordinary segmentation figures on known classes, all fractions in 0..1, NaN where undefined.

    Args:
        dataset: Name of the data set's type in the config, such as ``CityscapesDataset``.
        frames: Number of images evaluated.
        miou: Mean over classes of intersection over union.
        macc: Mean over classes of the accuracy within the class.
        aacc: Share of all pixels classified rightly.
        class_iou: Intersection over union by class name.
    """

    dataset: str
    frames: int
    miou: float
    macc: float
    aacc: float
    class_iou: dict[str, float]


@dataclass(frozen=True)
class RunResult:
    """One run's record; its dictionaries hold only what JSON can.

    Args:
        model: What was evaluated; its ``name`` is what tables call it.
        closed_set: Figures on known classes, or ``None`` where they were not measured.
        sets: One entry for each evaluation set.
        settings: What the numbers depend on beside the model.
        provenance: What :func:`anomaly.provenance.provenance` gives: command, date, code, versions, inputs.
        format_version: Of the file this is written to.

    Raises:
        InputError: ``model`` has no name.
    """

    model: dict[str, Any]
    closed_set: ClosedSet | None
    sets: list[SetResult]
    settings: dict[str, Any]
    provenance: dict[str, Any]
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if not isinstance(self.model, dict) or not isinstance(self.model.get("name"), str):
            raise InputError(f"a run's model needs a 'name' of type str for the tables, found {self.model}")

    def to_json(self) -> str:
        """Write as indented JSON, keys in the order of the fields; NaN and infinity become null."""
        return json.dumps(_without_nan(asdict(self)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> RunResult:
        """Read what ``to_json`` wrote; null in a field of type float becomes NaN.

        Raises:
            InputError: The text is not JSON, not a run's record, or of another format version.
        """
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"expected JSON, found a text that is cut off or not JSON ({error})") from error
        if not isinstance(record, dict) or "format_version" not in record:
            raise InputError("expected a run's results with a 'format_version', found other JSON")
        if record["format_version"] != FORMAT_VERSION:
            raise InputError(
                f"expected results of format version {FORMAT_VERSION}, found {record['format_version']!r}; "
                "evaluate again with this version of the software"
            )
        run = _read(cls, record)
        closed = None if run.closed_set is None else _read(ClosedSet, run.closed_set)
        if closed is not None:
            ious = {name: _checked("float", name, iou) for name, iou in closed.class_iou.items()}
            closed = ClosedSet(**{**vars(closed), "class_iou": ious})
        return cls(**{**vars(run), "closed_set": closed, "sets": [_read_set(entry) for entry in run.sets]})

    def to_csv(self) -> str:
        """Write one row for each set and score, ``CSV_COLUMNS`` first.

        Figures are fractions in full precision, ``nan`` where undefined; ``miou`` is the closed-set figure,
        the same in every row and empty where it was not measured.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        miou = "" if self.closed_set is None else self.closed_set.miou
        for entry in self.sets:
            for score, result in entry.scores.items():
                row = {**vars(result), "set": entry.set, "score": score, "miou": miou}
                writer.writerow([row[column] for column in CSV_COLUMNS])
        return text.getvalue()


def write_results(result: RunResult, out: Path) -> None:
    """Write ``results.json`` and ``results.csv`` into ``out``; each file appears whole or not at all.

    Args:
        result: What to write.
        out: Folder, made if missing.

    Raises:
        InputError: ``out`` is not a folder.
    """
    texts = {"results.json": result.to_json(), "results.csv": result.to_csv()}
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder for the results, found a file; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        temporary = out / f".{name}.{os.getpid()}.tmp"
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, out / name)
        finally:
            temporary.unlink(missing_ok=True)


def read_results(path: Path) -> RunResult:
    """Read a ``results.json``.

    Raises:
        InputError: The file is missing, cut off, not a run's results, or of another format version.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected the results.json of an evaluation, found no such file")
    try:
        return RunResult.from_json(path.read_text(encoding="utf-8"))
    except (InputError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_set(record: Any) -> SetResult:
    entry = _read(SetResult, record)
    scores = {name: _read(PixelResult, result) for name, result in entry.scores.items()}
    return SetResult(**{**vars(entry), "scores": scores})


def _read(cls: type[_Record], record: Any) -> _Record:
    """Build a dataclass from a JSON object with exactly its fields; what is nested in it stays as it is."""
    types = {field.name: str(field.type) for field in fields(cls)}  # type: ignore[arg-type]
    if not isinstance(record, dict) or record.keys() != types.keys():
        found = sorted(record) if isinstance(record, dict) else type(record).__name__
        raise InputError(f"expected an object with the keys {sorted(types)}, found {found}")
    return cls(**{name: _checked(types[name], name, value) for name, value in record.items()})


def _checked(kind: str, name: str, value: Any) -> Any:
    """Check a JSON value against a field's type as written; null is NaN where a float belongs."""
    if kind == "float" and value is None:
        return math.nan
    types: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "dict": dict, "list": list}
    accepted = types.get(kind.partition("[")[0])
    if accepted is not None and (not isinstance(value, accepted) or isinstance(value, bool)):
        raise InputError(f"expected {name!r} to be of type {kind}, found {value!r}")
    return value
