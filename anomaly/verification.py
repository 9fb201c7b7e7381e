"""Whether a result comes out again: what differs between a record and a second measurement."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from anomaly.result import COUNTS, PARTS, RunResult, ScoreResult, SetResult


@dataclass(frozen=True)
class Agreement:
    """How one thing agrees.

    Args:
        what: Set and score, or what else it is.
        largest: The largest absolute difference of its figures; 0 where it has none.
        faults: What differs, a sentence each.
    """

    what: str
    largest: float
    faults: tuple[str, ...]

    def __str__(self) -> str:
        """A line, and one for each fault."""
        if not self.faults:
            return f"{self.what}: matches (largest difference {self.largest:.1e})"
        return "\n".join([f"{self.what}: DIFFERS", *(f"  - {fault}" for fault in self.faults)])


def agreements(recorded: RunResult, again: RunResult, tolerance: float) -> list[Agreement]:
    """Compare a record with a second measurement, figure by figure.

    What the record does not have (a fingerprint, in results of an earlier format) is not compared.

    Args:
        recorded: The record.
        again: The second measurement.
        tolerance: Largest absolute difference of a figure (fractions, thresholds relative to their size).
    """
    found = []
    if recorded.closed_set is not None and again.closed_set is not None:
        pairs = [
            (name, getattr(recorded.closed_set, name), getattr(again.closed_set, name)) for name in ("miou", "aacc")
        ]
        found.append(_agreement("closed set", pairs, tolerance, []))
    others = {entry.set: entry for entry in again.sets}
    for entry in recorded.sets:
        if entry.set not in others:
            found.append(Agreement(entry.set, 0.0, ("it was not measured again",)))
            continue
        found += _set(entry, others[entry.set], tolerance)
    return found


def _set(entry: SetResult, other: SetResult, tolerance: float) -> Iterator[Agreement]:
    faults = []
    if entry.fingerprint and entry.fingerprint != other.fingerprint:
        faults.append(f"fingerprint: recorded {entry.fingerprint}, found {other.fingerprint}: other frames or labels")
    if entry.frames != other.frames:
        faults.append(f"frames: recorded {entry.frames}, found {other.frames}")
    yield Agreement(f"{entry.set}, its frames and labels", 0.0, tuple(faults))
    for name, score in entry.scores.items():
        if name in other.scores:
            yield _agreement(
                f"{entry.set}, {name}",
                list(_pairs(score, other.scores[name])),
                tolerance,
                _counts(score, other.scores[name]),
            )
        else:
            yield Agreement(f"{entry.set}, {name}", 0.0, ("it was not measured again",))


def _counts(score: ScoreResult, other: ScoreResult) -> list[str]:
    pairs = [(name, getattr(score, name), getattr(other, name)) for name in COUNTS]
    return [f"{name}: recorded {mine}, found {theirs}" for name, mine, theirs in pairs if mine != theirs]


def _pairs(score: ScoreResult, other: ScoreResult) -> Iterator[tuple[str, float, float]]:
    for part in ("figures", *PARTS):
        mine, theirs = getattr(score, part), getattr(other, part)
        if not theirs:  # stored scores have no classes, so no open-world IoU
            continue
        yield from ((name, value, theirs.get(name, math.nan)) for name, value in mine.items())
    for name, (low, high) in score.intervals.items():
        ends = other.intervals.get(name, [math.nan, math.nan])
        yield from ((f"{name}'s interval", low, ends[0]), (f"{name}'s interval", high, ends[1]))


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
