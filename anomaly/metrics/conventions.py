"""AUROC, AP and FPR95 as other projects compute them, to reproduce their tables and to show the differences.

No convention is a default: this package computes the values of :mod:`anomaly.metrics.pixel`. A convention is a pure
function of the scores of a dataset. To add one, write such a function in :mod:`anomaly.metrics.convention_rules` and
add a line to the table below. Values are fractions. Higher AUROC, higher AP and lower FPR95 are better. Anomaly is the
positive class, except for ``obsnet``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from anomaly.metrics import convention_rules as rules
from anomaly.metrics.convention_rules import ConventionValues, DatasetScores, Frames
from anomaly.metrics.functional.ranking import UndefinedMetricWarning


@dataclass(frozen=True)
class Convention:
    """A named way to compute AUROC, AP and FPR95.

    Args:
        measure: Function that computes the values.
        title: Short description.
        used_by: Projects and papers that use it.
        differs: Differences from the values of this package.
    """

    measure: Callable[[DatasetScores], ConventionValues]
    title: str
    used_by: str
    differs: str

    @property
    def name(self) -> str:
        """Name in tables and files, which is the name of the function."""
        return self.measure.__name__

    def __call__(self, frames: Frames | DatasetScores) -> ConventionValues:
        """Compute the values of a dataset.

        Args:
            frames: Sorted scores of each frame, by its id; or :class:`DatasetScores`, to share pooled scores between
                conventions.

        Returns:
            The values; NaN if there is no known or no anomaly pixel, if the convention excludes all frames, or if
            scores exceed the range that it can represent.

        Raises:
            InputError: The scores of a frame are not ascending or not finite.

        Warns:
            UndefinedMetricWarning: A value is NaN.
        """
        scores = frames if isinstance(frames, DatasetScores) else DatasetScores(frames)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)  # one warning follows below
            undefined = ConventionValues(math.nan, math.nan, math.nan, len(scores.frames))
            values = self.measure(scores) if scores.known.size and scores.anomaly.size else undefined
        if math.isnan(values.auroc + values.ap + values.fpr95):
            message = f"convention {self.name!r}: a value is NaN, because it is undefined on this dataset"
            warnings.warn(message, UndefinedMetricWarning, stacklevel=2)
        return values


_LINES = (
    Convention(rules.ours, "exact, pooled", "this package, scikit-learn, Fishyscapes", "-"),
    Convention(rules.strict, "FPR95: first TPR > 0.95", "RbA, DenseHybrid", "> instead of >=, on a thinned ROC curve"),
    Convention(
        rules.nearest, "FPR95: TPR nearest to 0.95", "PEBAL, Hendrycks' anom_utils", "the TPR may lie below 0.95"
    ),
    Convention(
        rules.trapezoid,
        "AP: trapezoid",
        "OpenOOD, anomalib, SegmentMeIfYouCan before August 2023",
        "linear interpolation of the precision-recall curve",
    ),
    Convention(
        rules.ood_metrics,
        "AP: trapezoid; FPR95: interpolated",
        "ood-metrics: Mask2Anomaly, SML",
        "linear interpolation of both curves",
    ),
    Convention(
        rules.per_image,
        "mean over images",
        "RPL (image-wise); DenseHybrid on StreetHazards, with FPR95 as strict",
        "every image has equal weight; images without known or anomaly pixels are left out",
    ),
    Convention(
        rules.hendrycks,
        "mean over images; FPR95: TPR nearest to 0.95",
        "Hendrycks et al. (StreetHazards)",
        "`per_image` and `nearest` combined",
    ),
    Convention(
        rules.pytorch_ood,
        "mean over images after a sigmoid; AP: trapezoid",
        "pytorch-ood (segmentation)",
        "`per_image`, `torchmetrics` and `trapezoid` combined",
    ),
    Convention(
        rules.anomalous_frames,
        "pooled, images without anomaly left out",
        "Mask2Anomaly, RPL (HDF5)",
        "ignores false positives on images without an anomaly",
    ),
    Convention(
        rules.torchmetrics,
        "sigmoid where a score is outside [0, 1]",
        "torchmetrics, anomalib",
        "in float32 every score above about 17 becomes 1, so all of these tie",
    ),
    Convention(
        rules.float16, "scores stored as float16", "SegmentMeIfYouCan, RPL (HDF5)", "close scores tie (3 digits)"
    ),
    Convention(
        rules.smiyc,
        "float16, up to 769 quantile bins per image",
        "SegmentMeIfYouCan (PixBinaryClass)",
        "pixels of a bin count at its lower edge",
    ),
    Convention(
        rules.smiyc_uniform,
        "float16, 4096 uniform bins",
        "SegmentMeIfYouCan (PixBinaryClass-uniThr)",
        "pixels in one bin tie; scores outside [0, 1] are rescaled first",
    ),
    Convention(
        rules.meta_ood,
        "100 uniform bins; AUROC and FPR95 with balanced classes; FPR95: TPR nearest to 0.95",
        "Meta-OOD; AbeT (bins)",
        "pixels in one bin tie; scores outside [0, 1] are rescaled first",
    ),
    Convention(
        rules.balanced,
        "1e5 pixels sampled from each class",
        "Meta-OOD's balancing, without its bins",
        "half of the pixels are anomalous, which raises AP",
    ),
    Convention(
        rules.obsnet,
        "9,999 thresholds; known is positive",
        "ObsNet",
        "known is the positive class; FPR95 is 0 if no threshold has a TPR in 0.9495..0.9505",
    ),
)
CONVENTIONS: dict[str, Convention] = {convention.name: convention for convention in _LINES}


def convention_table(frames: Frames) -> list[tuple[Convention, ConventionValues]]:
    """Compute the values of a dataset under every convention.

    Args:
        frames: Sorted scores of each frame, by its id, such as ``PixelMetrics.frames()`` in exact mode.

    Returns:
        Each convention with its values, in the order of :data:`CONVENTIONS`; the convention of this package is first.

    Raises:
        InputError: The scores of a frame are not ascending or not finite.

    Warns:
        UndefinedMetricWarning: A convention is undefined on this dataset, and its values are NaN.
    """
    scores = DatasetScores(frames)
    return [(convention, convention(scores)) for convention in CONVENTIONS.values()]
