"""Every figure of a curve by name. A new one is a class in ``functional/``, its test and one line here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from anomaly.errors import InputError
from anomaly.metrics.functional.curve import OperatingPoints
from anomaly.metrics.functional.ranking import (
    Auroc,
    AveragePrecision,
    BestF1,
    BestF1Threshold,
    CurveFigure,
    FprAtTpr,
    RecallAtFpr,
    check_fpr,
    check_tpr,
)
from anomaly.utils.given import real

PER_IMAGE = "_per_image"


@dataclass(frozen=True)
class Levels:
    """At which levels and thresholds figures are taken; of any number type, kept as Python floats of the same value.

    Args:
        tpr: True-positive rate at which the false-positive rate is taken, ``0 < tpr <= 1``.
        fpr: False-positive rate that the recall may not exceed, ``0 <= fpr < 1``.
        threshold: Score from which on a pixel is called anomalous, for F1 and IoU at it; None leaves them out.

    Raises:
        InputError: A level is out of range, the threshold is not finite, or one is no number.
    """

    tpr: float = 0.95
    fpr: float = 0.05
    threshold: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tpr", check_tpr(self.tpr))
        object.__setattr__(self, "fpr", check_fpr(self.fpr))
        if self.threshold is not None:
            threshold = real("threshold", self.threshold, "a finite score, or None", finite=True)
            object.__setattr__(self, "threshold", threshold)


@dataclass(frozen=True)
class Figure:
    """A figure of a curve.

    Args:
        name: In results and columns; may hold a level, as percent: ``fpr{tpr}``.
        title: In tables.
        better: What is better, or None where neither is.
        make: Gives an empty one.
        per_image: Whether its mean over images is meaningful.
    """

    name: str
    title: str
    better: Callable[[Iterable[float]], float] | None
    make: Callable[[Levels], CurveFigure]
    per_image: bool = True

    def at(self, levels: Levels) -> str:
        """The name with its level."""
        return self.name.format(tpr=_percent(levels.tpr), fpr=_percent(levels.fpr).zfill(2))


def _percent(level: float) -> str:
    """A level in percent, with as many digits as it has, and no exponent."""
    text = f"{100 * level:.10f}".rstrip("0").rstrip(".")
    if float(text) in (0.0, 100.0) and level not in (0.0, 1.0):
        raise InputError(f"level: expected one that ten digits of a percentage tell from 0 and 1, found {level!r}")
    return text


FIGURES: tuple[Figure, ...] = (
    Figure("auroc", "AUROC", max, lambda levels: Auroc()),
    Figure("ap", "AP", max, lambda levels: AveragePrecision()),
    Figure("fpr{tpr}", "FPR{tpr}", min, lambda levels: FprAtTpr(levels.tpr)),
    Figure("best_f1", "best F1", max, lambda levels: BestF1()),
    Figure("best_f1_threshold", "its threshold", None, lambda levels: BestF1Threshold(), per_image=False),
    Figure("recall_at_fpr{fpr}", "recall at FPR {fpr}", max, lambda levels: RecallAtFpr(levels.fpr)),
)


def title_of(name: str) -> tuple[str, Callable[[Iterable[float]], float] | None]:
    """Give a pooled figure's title and what is better of it, from its name with its level: ``fpr95``.

    Raises:
        InputError: There is no figure of that name.
    """
    for figure in FIGURES:
        pattern = re.escape(figure.name).replace(r"\{tpr\}", r"([\d.]+)").replace(r"\{fpr\}", r"([\d.]+)")
        if found := re.fullmatch(pattern, name):
            level = found[1] if found.groups() else ""
            return figure.title.format(tpr=level, fpr=level), figure.better
    raise InputError(f"unknown figure {name!r}; figures are {', '.join(figure.name for figure in FIGURES)}")


def measure(
    curve: Iterable[OperatingPoints], levels: Levels, *, per_image: bool = False, more: Sequence[CurveFigure] = ()
) -> dict[str, float]:
    """Take every figure in one pass over a curve.

    Args:
        curve: Its parts, from the highest threshold down; at least one.
        levels: Where to take them.
        per_image: Leave out what has no meaningful mean over images.
        more: Get every part too.

    Returns:
        Figures by name; NaN where there is no known or no anomaly pixel.
    """
    taken = {figure.at(levels): figure.make(levels) for figure in FIGURES if figure.per_image or not per_image}
    for part in curve:
        for figure in (*taken.values(), *more):
            figure.add(part)
    return {name: figure.value() for name, figure in taken.items()}


def at_threshold(tp: int, fp: int, num_anomaly: int) -> dict[str, float]:
    """F1 and IoU of the anomaly class from counts of pixels; NaN where there is no anomaly pixel.

    ``F1 = 2 TP / (2 TP + FP + FN)`` and ``IoU = TP / (TP + FP + FN)``, with ``TP + FN`` the anomaly pixels.
    """
    if num_anomaly == 0:
        return {"f1": math.nan, "iou": math.nan}
    return {"f1": 2 * tp / (tp + fp + num_anomaly), "iou": tp / (fp + num_anomaly)}
