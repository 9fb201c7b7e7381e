"""AUROC, AP and FPR95 of a dataset as other projects compute them: one function for each convention.

:mod:`anomaly.metrics.conventions` lists them. Values are fractions. All scores are in memory twice, by frame and
pooled, some of them for a short time a third time. Each distinct anomaly score takes about 100 bytes more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from anomaly.errors import InputError
from anomaly.frames import as_array, as_frame_id
from anomaly.metrics.functional.curve import OperatingPoints, Scores, check_ascending, operating_points
from anomaly.metrics.functional.other_rules import (
    TPR,
    SmiycCurve,
    average_precision_trapezoid,
    binned_curve,
    corners,
    fpr_above_tpr,
    fpr_interpolated,
    fpr_nearest_tpr,
    smiyc_curve,
)
from anomaly.metrics.functional.ranking import (
    auroc,
    average_precision,
    fpr_at_tpr,
)
from anomaly.metrics.runs import FrameScores

Frames = Mapping[str, FrameScores] | Iterable[tuple[str, FrameScores]]
_Rule = Callable[[OperatingPoints], float]

UNIFORM_BINS = 4096  # SegmentMeIfYouCan's PixBinaryClass-uniThr
META_OOD_BINS = 100
META_OOD_BALANCED, META_OOD_ALL = 1e5, 1e7
DRAWN = 100_000
CUT_POINTS = 10_000  # ObsNet


@dataclass(frozen=True)
class ConventionValues:
    """Values under one convention, as fractions; NaN where undefined.

    Args:
        auroc: Area under the ROC curve.
        ap: Average precision.
        fpr95: False-positive rate at a true-positive rate of about 0.95.
        frames: Number of frames that the convention includes.
    """

    auroc: float
    ap: float
    fpr95: float
    frames: int


class DatasetScores:
    """The scores of a dataset, by frame and pooled; pooling is done once for all conventions.

    Args:
        frames: Sorted scores of each frame, by its id, such as ``PixelMetrics.frames()`` in exact mode.

    Raises:
        InputError: The scores of a frame are not ascending or not finite, or its id is not a str or occurs twice.
    """

    def __init__(self, frames: Frames) -> None:
        self.frames: dict[str, FrameScores] = {}
        for frame_id, frame in frames.items() if isinstance(frames, Mapping) else frames:
            if as_frame_id(frame_id) in self.frames:
                raise InputError(f"frame {frame_id!r}: expected every frame once, found it twice; rename one of them")
            known, anomaly = (
                as_array(frame_id, f"{kind} scores", getattr(frame, kind)) for kind in ("known", "anomaly")
            )
            frame = self.frames[as_frame_id(frame_id)] = FrameScores(known, anomaly, frame.ignored)
            for kind, scores in (("known", frame.known), ("anomaly", frame.anomaly)):
                check_ascending(f"frame {frame_id!r}, {kind}", scores)
                if scores.size and not np.isfinite(scores[[0, -1]]).all():
                    raise InputError(
                        f"frame {frame_id!r}: expected finite {kind} scores, found infinite ones; replace them"
                    )

    @cached_property
    def known(self) -> Scores:
        """Scores of all known pixels, ascending. Shape ``(N,)``."""
        return _pool([frame.known for frame in self.frames.values()])

    @cached_property
    def anomaly(self) -> Scores:
        """Scores of all anomaly pixels, ascending. Shape ``(P,)``."""
        return _pool([frame.anomaly for frame in self.frames.values()])

    @cached_property
    def points(self) -> OperatingPoints:
        """The operating points of all pixels together."""
        return operating_points(self.known, self.anomaly)

    @property
    def with_both(self) -> list[FrameScores]:
        """The frames that have both known and anomaly pixels."""
        return [frame for frame in self.frames.values() if frame.known.size and frame.anomaly.size]


def ours(scores: DatasetScores) -> ConventionValues:
    """Pool all pixels, exactly; AP is the step sum, FPR95 is taken at the first TPR >= 0.95."""
    return _pooled(scores)


def strict(scores: DatasetScores) -> ConventionValues:
    """Take FPR95 at the first TPR > 0.95, by :func:`fpr_above_tpr`."""
    return _pooled(scores, fpr95=fpr_above_tpr)


def nearest(scores: DatasetScores) -> ConventionValues:
    """Take FPR95 at the TPR nearest to 0.95, by :func:`fpr_nearest_tpr`."""
    return _pooled(scores, fpr95=fpr_nearest_tpr)


def trapezoid(scores: DatasetScores) -> ConventionValues:
    """Compute AP by :func:`average_precision_trapezoid`."""
    return _pooled(scores, ap=average_precision_trapezoid)


def ood_metrics(scores: DatasetScores) -> ConventionValues:
    """Compute AP by the trapezoid rule and FPR95 by interpolation, with :func:`fpr_interpolated`."""
    return _pooled(scores, ap=average_precision_trapezoid, fpr95=fpr_interpolated)


def per_image(scores: DatasetScores) -> ConventionValues:
    """Average over the frames with known and anomaly pixels."""
    return _mean_of_frames(scores.with_both)


def hendrycks(scores: DatasetScores) -> ConventionValues:
    """Average over the frames with known and anomaly pixels, with FPR95 by :func:`fpr_nearest_tpr`."""
    return _mean_of_frames(scores.with_both, fpr95=fpr_nearest_tpr)


def pytorch_ood(scores: DatasetScores) -> ConventionValues:
    """Average over the frames with known and anomaly pixels, after a sigmoid, with AP by the trapezoid rule.

    pytorch-ood itself raises an error for a frame without known or without anomaly pixels; it is left out here.
    """
    return _mean_of_frames([_sigmoid(frame) for frame in scores.with_both], ap=average_precision_trapezoid)


def anomalous_frames(scores: DatasetScores) -> ConventionValues:
    """Pool the pixels of the frames with at least one anomaly pixel."""
    kept = {name: frame for name, frame in scores.frames.items() if frame.anomaly.size}
    return _pooled(scores if len(kept) == len(scores.frames) else DatasetScores(kept))


def torchmetrics(scores: DatasetScores) -> ConventionValues:
    """Apply a sigmoid to the pooled scores if any of them is outside [0, 1]."""
    squeezed = _sigmoid(FrameScores(scores.known, scores.anomaly, 0))
    return _of(operating_points(squeezed.known, squeezed.anomaly), len(scores.frames))


def float16(scores: DatasetScores) -> ConventionValues:
    """Round scores to float16, which has about 3 digits and is infinite beyond 65504."""
    with np.errstate(over="ignore"):
        known, anomaly = (part.astype(np.float16).astype(np.float32) for part in (scores.known, scores.anomaly))
    return _of(operating_points(known, anomaly), len(scores.frames))


def smiyc(scores: DatasetScores) -> ConventionValues:
    """Count float16 scores of each frame in up to 769 bins between quantiles, by :func:`smiyc_curve`.

    Values are NaN if a score is infinite in float16.
    """
    return _of_curve(smiyc_curve(scores.frames.values()), scores)


def smiyc_uniform(scores: DatasetScores) -> ConventionValues:
    """Count float16 scores in 4096 uniform bins over [-0.01, 1.01]; scores outside [0, 1] are rescaled first."""
    with np.errstate(over="ignore"):
        known, anomaly = (part.astype(np.float16).astype(np.float64) for part in (scores.known, scores.anomaly))
    low, high = _range(known, anomaly)
    if not math.isfinite(high - low):
        return _of_curve(None, scores)
    margin = 0.01 * (high - low)
    edges = np.linspace(low - margin, high + margin, UNIFORM_BINS + 1)
    hits, ties = (np.histogram(part, edges)[0][::-1] for part in (anomaly, known))
    return _of_curve(binned_curve(edges[-2::-1], hits, ties), scores)


def meta_ood(scores: DatasetScores) -> ConventionValues:
    """Count scores in 100 bins over [0, 1]; scores outside are rescaled first.

    Meta-OOD scales the counts of the histogram, rounded down: to 1e5 pixels of each class for AUROC and FPR95, and to
    1e7 pixels in total for AP. FPR95 is taken at the point of scikit-learn's ``roc_curve`` whose TPR is nearest to 0.95
    (the first, if several). All pixels of a bin tie.
    """
    from sklearn import metrics as sklearn_metrics

    edges = np.linspace(*_range(scores.known, scores.anomaly), META_OOD_BINS + 1)
    known, anomaly = (np.histogram(part, edges)[0] for part in (scores.known, scores.anomaly))
    bins, labels = np.tile(np.arange(META_OOD_BINS), 2), np.repeat([0, 1], META_OOD_BINS)
    share = known.sum() / (known.sum() + anomaly.sum())
    equal, whole = (
        np.concatenate([np.floor(known / known.sum() * of_known), np.floor(anomaly / anomaly.sum() * of_anomaly)])
        for of_known, of_anomaly in (
            (META_OOD_BALANCED, META_OOD_BALANCED),
            (META_OOD_ALL * share, META_OOD_ALL * (1 - share)),
        )
    )
    both = whole[META_OOD_BINS:].any() and whole[:META_OOD_BINS].any()  # otherwise a class is rounded to 0 pixels
    fpr, tpr, _ = sklearn_metrics.roc_curve(labels, bins, sample_weight=equal)
    return ConventionValues(
        auroc=float(sklearn_metrics.auc(fpr, tpr)),
        ap=float(sklearn_metrics.average_precision_score(labels, bins, sample_weight=whole)) if both else math.nan,
        fpr95=float(fpr[np.argmin(np.abs(tpr - TPR))]),
        frames=len(scores.frames),
    )


def balanced(scores: DatasetScores) -> ConventionValues:
    """Sample equally many known and anomaly pixels with seed 0: 1e5 of each, fewer if a class has fewer."""
    generator = np.random.default_rng(0)
    size = min(DRAWN, scores.known.size, scores.anomaly.size)
    known, anomaly = (
        part[np.sort(generator.choice(part.size, size, replace=False, shuffle=False))]
        for part in (scores.known, scores.anomaly)
    )
    return _of(operating_points(known, anomaly), len(scores.frames))


def obsnet(scores: DatasetScores) -> ConventionValues:
    """Treat known as the positive class, accepted from the lowest score up to each of 9,999 cuts of all pixels.

    FPR95 is taken at the first cut with a TPR in 0.9495..0.9505; it is 0 if there is none. AP is the trapezoid of
    precision over recall of the known pixels. A cut between tied scores takes known and anomaly pixels in proportion;
    ObsNet takes them in the order of its files.
    """
    points = scores.points
    tp, fp = corners(points)
    tp, fp = np.append(tp, points.num_anomaly), np.append(fp, points.num_known)
    size = points.num_known + points.num_anomaly
    cuts = np.linspace(0, size, CUT_POINTS).astype(np.int64)[1:]
    rejected = np.interp(size - cuts, tp + fp, fp)  # known pixels above each cut
    accepted = points.num_known - rejected
    wrong = cuts - accepted
    tpr, fpr = accepted / points.num_known, wrong / points.num_anomaly
    inside = np.flatnonzero((tpr >= 0.9495) & (tpr <= 0.9505))
    return ConventionValues(
        auroc=float(np.trapezoid(tpr, fpr)),
        ap=float(np.trapezoid(accepted / np.maximum(cuts, 1), tpr)),
        fpr95=float(fpr[inside[0]]) if inside.size else 0.0,
        frames=len(scores.frames),
    )


def _of_curve(curve: SmiycCurve | None, scores: DatasetScores) -> ConventionValues:
    """Compute AUROC by the trapezoid rule, AP as step sum, and FPR95 at the first TPR >= 0.95."""
    if curve is None:
        return ConventionValues(math.nan, math.nan, math.nan, len(scores.frames))
    tp, fp = np.append(0, curve.tp), np.append(0, curve.fp)
    tpr, fpr = tp / tp[-1], fp / fp[-1]
    precision = np.divide(tp, tp + fp, out=np.ones(tp.size), where=tp + fp > 0)
    return ConventionValues(
        auroc=float(np.trapezoid(tpr, fpr)),
        ap=float(np.sum(np.diff(tpr) * precision[1:])),
        fpr95=float(fpr[np.searchsorted(tpr, TPR)]),
        frames=len(scores.frames),
    )


def _pool(parts: list[Scores]) -> Scores:
    pooled = np.concatenate(parts) if parts else np.empty(0, np.float32)
    pooled.sort()
    return pooled


def _of(
    points: OperatingPoints, frames: int, *, ap: _Rule = average_precision, fpr95: _Rule = fpr_at_tpr
) -> ConventionValues:
    return ConventionValues(auroc(points), ap(points), fpr95(points), frames)


def _pooled(scores: DatasetScores, *, ap: _Rule = average_precision, fpr95: _Rule = fpr_at_tpr) -> ConventionValues:
    return _of(scores.points, len(scores.frames), ap=ap, fpr95=fpr95)


def _mean_of_frames(
    frames: list[FrameScores], *, ap: _Rule = average_precision, fpr95: _Rule = fpr_at_tpr
) -> ConventionValues:
    if not frames:
        return ConventionValues(math.nan, math.nan, math.nan, 0)
    each = [_of(operating_points(frame.known, frame.anomaly), 1, ap=ap, fpr95=fpr95) for frame in frames]
    means = [math.fsum(getattr(one, name) for one in each) / len(each) for name in ("auroc", "ap", "fpr95")]
    return ConventionValues(means[0], means[1], means[2], len(each))


def _sigmoid(frame: FrameScores) -> FrameScores:
    """Apply a sigmoid in float32 if any score is outside [0, 1], as torchmetrics does; above about 17 it gives 1."""
    from scipy.special import expit

    parts = (frame.known, frame.anomaly)
    ends = [part[[0, -1]] for part in parts]
    if np.min(ends) >= 0 and np.max(ends) <= 1:
        return frame
    with np.errstate(over="ignore"):
        known, anomaly = (expit(part.astype(np.float32)) for part in parts)
    known.sort()  # rounding in float32 may swap neighbours
    anomaly.sort()
    return FrameScores(known, anomaly, frame.ignored)


def _range(known: Scores, anomaly: Scores) -> tuple[float, float]:
    """Return the range of the scores if any of them is outside [0, 1], else 0 and 1."""
    low, high = float(min(known[0], anomaly[0])), float(max(known[-1], anomaly[-1]))
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
