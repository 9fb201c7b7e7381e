"""The meaning of scores and columns, for the report and ``docs/glossary.md``.

The texts for scores are in the registry of scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from anomaly.scores.registry import COMBINATIONS, FORMER, SCORES, Score

BRIGHT = (
    "A higher score means that the pixel is more anomalous. In heatmaps such pixels are brighter. A score is no "
    "probability: only its order and a threshold matter."
)
TERMS = {
    "AUROC": "Area under the ROC curve: how often an anomalous pixel scores higher than a known one. 50 % is chance.",
    "AP": "Average precision: the mean precision over all recalls. Chance is the share of anomalous pixels.",
    "FPR{}": "False-positive rate: known pixels flagged as anomalous when {} % of the anomalous pixels are found.",
    "F1*": "F1 over objects (connected components), averaged over 11 required overlaps from 25 to 75 %.",
    "sIoU": "Intersection over union of a labelled anomaly with the flagged components that touch it, on average.",
    "PPV": "Share of anomalous pixels in a flagged component, on average.",
    "TPR@t": "Anomalous pixels flagged at a threshold that was chosen on another dataset.",
    "FPR@t": "Known pixels flagged at a threshold that was chosen on another dataset.",
    "open mIoU": "mIoU at a threshold: flagged known pixels count as missed by their class, missed anomalies as its "
    "false positives.",
    "gap": "Percentage points by which open mIoU is below the mIoU of the same images with nothing flagged.",
    "mIoU": "Mean IoU (intersection over union) of the predicted classes, on the closed-set data without anomalies.",
}
"""Meaning of the columns of tables, by title; ``{}`` stands for a level."""
_GIVEN = "Computed by the model itself, or read from score maps."


def explain_scores(names: Iterable[str], *, given: bool = False) -> list[Score]:
    """Return the score that each name stands for, and the parts of combinations, once each and without parameters.

    Args:
        names: Names as in results: with parameters (``energy:temperature=2``) and post-processing (``energy+smooth``).
        given: Whether the model computes the scores itself, so that names of the registry have no meaning.
    """
    known = {**SCORES, **COMBINATIONS}
    found: dict[str, Score] = {}
    for name in names:
        base, *further = re.findall(r"\w+", name) or [name]
        if given or FORMER.get(base, base) not in known:
            unknown = Score(name, lambda score: score, ("score",), "", description=_GIVEN)
            found.setdefault(name, unknown)
            continue
        parts = [part for part in further if FORMER.get(part, part) in SCORES] if base in COMBINATIONS else []
        found.update({one: _of_name(one, known) for one in (base, *parts) if one not in found})
    return list(found.values())


def _of_name(name: str, known: Mapping[str, Score]) -> Score:
    if name not in FORMER:
        return known[name]
    score = known[FORMER[name]]
    return replace(score, name=name, description=f"{score.description} It is now called {score.name}.")


def explain_columns(titles: Iterable[str]) -> dict[str, str]:
    """Return the meaning of each column that has one, by its title without the arrow."""
    found = {}
    for title in titles:
        plain = title.rstrip(" ↑↓").removeprefix("closed-set ")
        level = re.fullmatch(r"FPR([\d.]+)", plain)
        text = TERMS.get("FPR{}" if level else plain)
        if text is not None:
            found[plain] = text.format(level[1]) if level else text
    return found
