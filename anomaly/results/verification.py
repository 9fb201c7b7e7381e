"""Comparison of a record with a second measurement: what agrees, and what differs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from anomaly.results.records import COUNTS, PARTS, DatasetResult, EvaluationRecord, ScoreResult

PLAIN = ("frames", "layout", "version", "published_frames")
"""Fields of a dataset's record that must be equal."""


@dataclass(frozen=True)
class Agreement:
    """How one part of a record agrees.

    Args:
        what: Dataset and score, or another part of the record.
        largest: Largest absolute difference of its metrics; 0 if it has none.
        faults: What differs, one sentence each.
    """

    what: str
    largest: float
    faults: tuple[str, ...]

    def __str__(self) -> str:
        """A line, and a line for each fault."""
        if not self.faults:
            return f"{self.what}: matches (largest difference {self.largest:.1e})"
        return "\n".join([f"{self.what}: DIFFERS", *(f"  - {fault}" for fault in self.faults)])


def agreements(recorded: EvaluationRecord, again: EvaluationRecord, tolerance: float) -> list[Agreement]:
    """Compare a record with a second measurement, metric by metric.

    What the record lacks, such as fingerprints in results of an earlier format, is not compared.

    Args:
        recorded: The record.
        again: The second measurement.
        tolerance: Largest difference of a metric: absolute for values up to 1 (fractions), else relative to the value.
    """
    found = [_inputs(recorded, again)]
    if recorded.protocol or any(entry.fingerprint for entry in recorded.datasets):  # formats before 3 had none
        keys = {**recorded.protocol, **again.protocol}
        faults = [_differs(k, recorded.protocol.get(k), again.protocol.get(k)) for k in keys]
        found.append(Agreement("protocol", 0.0, tuple(fault for fault in faults if fault)))
    if recorded.closed_set is not None and again.closed_set is not None:
        pairs = [
            (name, getattr(recorded.closed_set, name), getattr(again.closed_set, name)) for name in ("miou", "aacc")
        ]
        plain = ("dataset", "frames")
        faults = [_differs(n, getattr(recorded.closed_set, n), getattr(again.closed_set, n)) for n in plain]
        pairs += [
            (name, iou, again.closed_set.class_iou.get(name, math.nan))
            for name, iou in recorded.closed_set.class_iou.items()
        ]
        found.append(_agreement("closed set", pairs, tolerance, [fault for fault in faults if fault]))
    others = {entry.dataset: entry for entry in again.datasets}
    for entry in recorded.datasets:
        if entry.dataset not in others:
            found.append(Agreement(entry.dataset, 0.0, ("it was not measured again",)))
            continue
        found += _dataset(entry, others[entry.dataset], tolerance)
    return found


def not_measured(recorded: EvaluationRecord, again: EvaluationRecord) -> list[str]:
    """Parts of a record that the second measurement lacks, such as the closed set of stored scores."""
    missing = ["closed set"] if recorded.closed_set is not None and again.closed_set is None else []
    others = {entry.dataset: entry for entry in again.datasets}
    for entry in recorded.datasets:
        for name, score in entry.scores.items():
            other = others[entry.dataset].scores.get(name) if entry.dataset in others else None
            if other is not None and score.open_world and not other.open_world:
                missing.append(f"open world of {entry.dataset}, {name}")
    return missing


def _inputs(recorded: EvaluationRecord, again: EvaluationRecord) -> Agreement:
    """Whether the model and its files are those that the record names (or that of its score maps)."""
    faults = []
    if not {"predictions"} & (recorded.provenance.keys() | again.provenance.keys()):
        keys = [key for key in {**recorded.model, **again.model} if key in recorded.model and key != "name"]
        faults = [fault for key in keys if (fault := _differs(key, recorded.model[key], again.model.get(key)))]
    for name in ("config", "checkpoint", "model", "file", "statistics", "fitted"):
        mine, theirs = _hash(recorded, name), _hash(again, name)
        if mine and theirs and mine != theirs:
            faults.append(f"{name}: another file (SHA-256 recorded {mine}, found {theirs})")
    return Agreement("model and its files", 0.0, tuple(faults))


def _hash(result: EvaluationRecord, name: str) -> str:
    """SHA-256 of an input, recorded for a network or for stored score maps; empty if there is none."""
    direct = result.provenance.get(name)
    if isinstance(direct, dict):
        return str(direct.get("sha256", ""))
    maps = result.provenance.get("predictions")
    settings = maps.get("settings") if isinstance(maps, dict) else None
    return str(settings.get(name) or "") if isinstance(settings, dict) else ""


def _differs(name: str, mine: object, theirs: object) -> str:
    return "" if mine == theirs else f"{name}: recorded {mine!r}, found {theirs!r}"


def _dataset(entry: DatasetResult, other: DatasetResult, tolerance: float) -> Iterator[Agreement]:
    faults = []
    if entry.fingerprint:
        plain = [_differs(name, getattr(entry, name), getattr(other, name)) for name in PLAIN]
        faults += [fault for fault in plain if fault]
        if len(entry.notes) != len(other.notes):  # each is a sentence, which another version may word differently
            faults.append(_differs("notes", entry.notes, other.notes))
    if entry.fingerprint and entry.fingerprint != other.fingerprint:
        faults.append(f"fingerprint: recorded {entry.fingerprint}, found {other.fingerprint}: other frames or labels")
    yield Agreement(f"{entry.dataset}, its frames and labels", 0.0, tuple(faults))
    for name, score in entry.scores.items():
        if name in other.scores:
            yield _agreement(
                f"{entry.dataset}, {name}",
                list(_pairs(score, other.scores[name], whole=bool(entry.fingerprint))),
                tolerance,
                _counts(score, other.scores[name]) + (_remarks(score, other.scores[name]) if entry.images else []),
            )
        else:
            yield Agreement(f"{entry.dataset}, {name}", 0.0, ("it was not measured again",))


def _counts(score: ScoreResult, other: ScoreResult) -> list[str]:
    pairs = [(name, getattr(score, name), getattr(other, name)) for name in COUNTS]
    return [f"{name}: recorded {mine}, found {theirs}" for name, mine, theirs in pairs if mine != theirs]


def _remarks(score: ScoreResult, other: ScoreResult) -> list[str]:
    fault = _differs("remarks", score.remarks, other.remarks)
    return [fault] if fault else []


def _pairs(score: ScoreResult, other: ScoreResult, *, whole: bool) -> Iterator[tuple[str, float, float]]:
    """Values by name: recorded and measured again; for a complete record also values that only the second has."""
    for part in ("values", *PARTS):
        mine, theirs = getattr(score, part), getattr(other, part)
        if not theirs:  # stored scores have no classes, hence no open-world IoU
            continue
        names = {**mine, **(theirs if whole else {})}  # formats before 3 had fewer
        yield from ((name, mine.get(name, math.nan), theirs.get(name, math.nan)) for name in names)
    for frame in {**score.per_frame, **(other.per_frame if whole else {})}:
        mine, theirs = score.per_frame.get(frame, {}), other.per_frame.get(frame, {})
        names = {**mine, **(theirs if whole else {})}
        yield from ((f"{n} of frame {frame}", mine.get(n, math.nan), theirs.get(n, math.nan)) for n in names)
    for name in {**score.confidence_intervals, **(other.confidence_intervals if whole else {})}:
        low, high = score.confidence_intervals.get(name, [math.nan, math.nan])
        ends = other.confidence_intervals.get(name, [math.nan, math.nan])
        yield from ((f"{name}'s confidence interval", low, ends[0]), (f"{name}'s confidence interval", high, ends[1]))


def _agreement(what: str, pairs: list[tuple[str, float, float]], tolerance: float, faults: list[str]) -> Agreement:
    largest = 0.0
    for name, mine, theirs in pairs:
        if math.isnan(mine) and math.isnan(theirs):
            continue
        difference = abs(mine - theirs) / max(1.0, abs(mine))
        if not difference <= tolerance:
            faults.append(f"{name}: recorded {mine!r}, found {theirs!r}")
        largest = max(largest, difference)
    return Agreement(what, largest, tuple(faults))
