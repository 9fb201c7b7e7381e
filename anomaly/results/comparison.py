"""Whether results are comparable, and what a reader must know about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from anomaly.errors import InputError
from anomaly.results.records import DatasetResult, EvaluationRecord
from anomaly.results.remarks import unlabelled_classes


def check_comparable(results: Sequence[EvaluationRecord]) -> None:
    """Refuse results of different frames, labels or rules.

    Raises:
        InputError: Two results differ in closed set, protocol, component rules or threshold rules, or in the
            fingerprint of a dataset; the message says what differs.
    """
    for first, other in _pairs(results):
        if first.closed_set is not None and other.closed_set is not None:
            closed = [{"dataset": c.dataset, "frames": c.frames} for c in (first.closed_set, other.closed_set)]
            _refuse(first, other, "closed set", *closed)
        _refuse(first, other, "protocol", first.protocol, other.protocol)
        for part, words in (("components", "component rules"), ("threshold", "rules of the threshold")):
            mine, theirs = first.settings.get(part), other.settings.get(part)
            if mine and theirs:
                _refuse(first, other, words, mine, theirs)
        for mine, theirs in _same_sets(first, other):
            known = mine.fingerprint and theirs.fingerprint
            if mine.frames == theirs.frames and not (known and mine.fingerprint != theirs.fingerprint):
                continue
            frames = f"{mine.frames} and {theirs.frames} frames" if mine.frames != theirs.frames else "other labels"
            raise InputError(
                f"{mine.dataset}: expected results of the same frames and labels, found {frames} for {_name(first)} "
                f"and {_name(other)} (fingerprints {mine.fingerprint[:12] or '?'} and "
                f"{theirs.fingerprint[:12] or '?'}; layouts {mine.layout} and {theirs.layout}); "
                f"evaluate both on the same dataset, or print separate tables"
            )


def remarks(results: Sequence[EvaluationRecord]) -> list[str]:
    """Remarks that a table does not show, one sentence each.

    They concern datasets that are not as published, methods fitted on images that they are measured on, scores that are
    constant or seem reversed, and classes without a labelled pixel.
    """
    found = []
    for result in results:
        found += [f"{_name(result)}: {remark}" for remark in measured_remarks(result)]
        for entry in result.datasets:
            found += [f"{_name(result)}: {entry.dataset} is not as published: {note}" for note in entry.notes]
            if not entry.fingerprint and len(results) > 1:
                found.append(
                    f"{_name(result)}: a result of an earlier format, which does not say which frames of "
                    f"{entry.dataset} it has"
                )
            for fitted in _fitted_on(result):
                if _overlap(fitted, entry):
                    where = fitted.get("dataset", fitted.get("set", "images of it"))
                    found.append(
                        f"{_name(result)}: parameters were fitted on {where}, so its metrics on {entry.dataset} are "
                        "too optimistic"
                    )
            chosen = _chosen_on(result)
            if chosen and _overlap(chosen, entry) and any(score.at_threshold for score in entry.scores.values()):
                found.append(
                    f"{_name(result)}: its threshold was chosen on {chosen['dataset']}, so the metrics at this "
                    "threshold on "
                    f"{entry.dataset} are too optimistic"
                )
    return list(dict.fromkeys(found))


def measured_remarks(result: EvaluationRecord) -> list[str]:
    """Remarks on measured values, such as that a score is constant or seems reversed, one sentence each."""
    closed = result.closed_set
    found = [] if closed is None else unlabelled_classes("closed-set mIoU", closed.unlabelled)
    for entry in result.datasets:
        first: dict[str, str] = {}
        twice = [frame for frame, image in entry.images.items() if first.setdefault(image, frame) != frame]
        if twice:
            found.append(
                f"{entry.dataset}: {len(twice)} of {entry.frames} frames have the same image as another frame, such as "
                f"{twice[0]!r} and {first[entry.images[twice[0]]]!r}; both count"
            )
    return found + [
        f"{entry.dataset}, {name}: {remark}"
        for entry in result.datasets
        for name, score in entry.scores.items()
        for remark in score.remarks
    ]


def _fitted_on(result: EvaluationRecord) -> Iterator[dict[str, Any]]:
    """Datasets on which a part of a method was chosen, as far as the record says."""
    came = {name: one for name, one in result.provenance.items() if isinstance(one, dict)}
    yield from (one for name, one in came.items() if name != "calibration" and one.get("images"))
    inputs = [result.model, result.settings, *came.values()]
    for one in [*inputs, *(one["settings"] for one in inputs if isinstance(one.get("settings"), dict))]:
        found = one.get("fitted_on", [])
        for entry in found if isinstance(found, list) else [found]:
            yield entry if isinstance(entry, dict) else {"set": str(entry)}


def _chosen_on(result: EvaluationRecord) -> dict[str, Any]:
    """The dataset on which the threshold was chosen, with its images if the record has them, or nothing."""
    chosen, images = result.settings.get("threshold"), result.provenance.get("calibration")
    if not isinstance(chosen, dict):
        return {}
    return {**images, **chosen} if isinstance(images, dict) else chosen


def _overlap(fitted: dict[str, Any], entry: DatasetResult) -> bool:
    """Whether a dataset shares images with the one on which something was fitted.

    Decided by the images if both are known, else by the names; the two halves of a dataset share no image.
    """
    if isinstance(images := fitted.get("images"), list) and images and entry.images:
        return not {str(image) for image in images}.isdisjoint(entry.images.values())
    if fitted.get("fingerprint") and fitted["fingerprint"] == entry.fingerprint:
        return True
    name = str(fitted.get("dataset", fitted.get("set", "")))
    whole, _, half = name.rpartition("-")
    other, _, other_half = entry.dataset.rpartition("-")
    halves = ("first", "second")
    if half in halves and other_half in halves:
        return (whole, half) == (other, other_half)
    return (whole if half in halves else name) == (other if other_half in halves else entry.dataset)


def _pairs(results: Sequence[EvaluationRecord]) -> Iterator[tuple[EvaluationRecord, EvaluationRecord]]:
    return ((first, other) for place, first in enumerate(results) for other in results[place + 1 :])


def _same_sets(first: EvaluationRecord, other: EvaluationRecord) -> Iterator[tuple[DatasetResult, DatasetResult]]:
    return ((mine, theirs) for mine in first.datasets for theirs in other.datasets if mine.dataset == theirs.dataset)


def _refuse(
    first: EvaluationRecord, other: EvaluationRecord, words: str, mine: dict[str, Any], theirs: dict[str, Any]
) -> None:
    if mine and theirs and (differing := [k for k in {**mine, **theirs} if mine.get(k) != theirs.get(k)]):
        key = differing[0]
        raise InputError(
            f"expected results with the same {words}, found {key} {mine.get(key)!r} for {_name(first)} and "
            f"{theirs.get(key)!r} for {_name(other)}; evaluate both in the same way, or print separate tables"
        )


def _name(result: EvaluationRecord) -> str:
    return str(result.model["name"])
