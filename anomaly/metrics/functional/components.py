"""How well the connected components of a prediction match those of the label (Chan et al., SegmentMeIfYouCan, 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anomaly.frames import ANOMALY, IGNORE, Label
from anomaly.utils.given import text, whole

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True)
class Track:
    """The sizes below which components do not count.

    Args:
        name: In results.
        min_predicted: Predicted components with fewer pixels are taken out of the prediction.
        min_truth: Label components with fewer pixels are ignored, with what is predicted on them.

    Raises:
        InputError: A size is negative, or no whole number.
    """

    name: str
    min_predicted: int
    min_truth: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", text("track", self.name))
        for size in ("min_predicted", "min_truth"):
            number = whole(f"track {self.name}, {size}", getattr(self, size), 0, "sizes in pixels from 0 on")
            object.__setattr__(self, size, number)


TRACKS = {track.name: track for track in (Track("anomaly_track", 500, 100), Track("obstacle_track", 50, 10))}


@dataclass(frozen=True)
class FrameComponents:
    """The components of one frame, each a fraction in 0..1, higher is better.

    Args:
        siou: Adjusted IoU of each component of the label.
        ppv: Precision of each predicted component: the share of its pixels that are anomalous.
        siou_predicted: Adjusted IoU of each predicted component, the mirror image of ``siou``. SegmentMeIfYouCan
            computes it, but its F1 is made with ``ppv``.

    Shape:
        siou ``(K,)``, ppv and siou_predicted ``(K',)``, float64.
    """

    siou: npt.NDArray[np.float64]
    ppv: npt.NDArray[np.float64]
    siou_predicted: npt.NDArray[np.float64]


def frame_components(predicted: npt.NDArray[np.bool_], label: Label, track: Track) -> FrameComponents:
    r"""Match the components (8 neighbours) of a prediction with those of the label.

    Ignored pixels are cut out of the prediction before its components are found. Predicted components that are too
    small are dropped; label components that are too small are ignored from then on, so that a predicted component may
    lose pixels, but is still one. With :math:`\hat K(k)` all pixels of predicted components that touch the component
    :math:`k` of the label, and :math:`A(k)` those of them inside other components of the label,

    .. math:: sIoU(k) = \frac{|k \cap \hat K(k)|}{|k \cup \hat K(k)| - |A(k)|}, \qquad
              PPV(\hat k) = \frac{|\hat k \cap \bigcup k|}{|\hat k|}

    (Chan et al., NeurIPS 2021 data sets and benchmarks, equations 2 to 4). Nothing is looped over: both follow from how
    many pixels each pair of components shares.

    Args:
        predicted: What is called anomalous.
        label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel.
        track: Which components count.

    Shape:
        predicted and label ``(H, W)``.
    """
    from scipy import sparse

    of_truth, of_found = label == ANOMALY, predicted & (label != IGNORE)
    somewhere = np.flatnonzero(of_truth | of_found)  # a pixel of a component
    truth, found = _numbers(of_truth)[somewhere], _numbers(of_found)[somewhere]
    small, dropped = (
        np.bincount(truth, minlength=1) < track.min_truth,
        np.bincount(found, minlength=1) < track.min_predicted,
    )
    small[0] = dropped[0] = False  # number 0 is the background
    counts = ~small[truth]
    truth, found = np.cumsum(~small)[truth[counts]] - 1, np.where(dropped, 0, np.cumsum(~dropped) - 1)[found[counts]]
    shape = (int((~small).sum()), int((~dropped).sum()))
    pairs = sparse.coo_array((np.ones(truth.size, np.int64), (truth, found)), shape=shape).tocsr()
    truth_pixels, found_pixels = pairs.sum(axis=1)[1:], pairs.sum(axis=0)[1:]
    overlap = pairs[1:, 1:]
    present = found_pixels > 0  # a component wholly on small ones of the label is gone
    overlap, found_pixels = overlap[:, present], found_pixels[present]
    return FrameComponents(
        siou=_adjusted_iou(overlap, truth_pixels, found_pixels),
        ppv=overlap.sum(axis=0) / found_pixels,
        siou_predicted=_adjusted_iou(overlap.T.tocsr(), found_pixels, truth_pixels),
    )


def _numbers(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Number the components of a mask from 1 on; 0 elsewhere. Shape: ``(H, W)`` to ``(H * W,)``."""
    import cv2

    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1].ravel()


def _adjusted_iou(
    overlap: sparse.csr_array, pixels: npt.NDArray[np.int64], other_pixels: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """See ``frame_components``. Shape: overlap ``(K, K')``, pixels ``(K,)``, other_pixels ``(K',)`` to ``(K,)``."""
    touches = (overlap > 0).astype(np.int64)
    shared = overlap.sum(axis=1)
    union = touches @ other_pixels + pixels - shared
    elsewhere = touches @ overlap.sum(axis=0) - shared
    return shared / (union - elsewhere)
