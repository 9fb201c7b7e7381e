"""Matching of predicted connected components with those of the label (Chan et al., SegmentMeIfYouCan, 2021)."""

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
    """Sizes below which components do not count.

    Args:
        name: Name in results.
        min_predicted: Predicted components with fewer pixels are removed from the prediction.
        min_truth: Label components with fewer pixels are ignored, together with the predicted pixels on them.

    Raises:
        InputError: A size is negative or not a whole number.
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
    """Values of the components of one frame; fractions in 0..1, higher is better.

    Args:
        siou: Adjusted IoU of each label component.
        ppv: Precision of each predicted component: the share of its pixels that are anomalous.
        siou_predicted: Adjusted IoU of each predicted component, with the roles of label and prediction exchanged.
            SegmentMeIfYouCan computes it too, but not for F1, which uses ``ppv``.

    Shape:
        siou ``(K,)``, ppv and siou_predicted ``(K',)``, float64.
    """

    siou: npt.NDArray[np.float64]
    ppv: npt.NDArray[np.float64]
    siou_predicted: npt.NDArray[np.float64]


def frame_components(predicted: npt.NDArray[np.bool_], label: Label, track: Track) -> FrameComponents:
    r"""Match the connected components (8 neighbours) of a prediction with those of the label.

    Ignored pixels are removed from the prediction before its components are found. Predicted components that are too
    small are dropped. The pixels of label components that are too small are then ignored as well; a predicted
    component may lose pixels by this, but is not split. Let :math:`\hat K(k)` be the pixels of all predicted components
    that touch the label component :math:`k`, and :math:`A(k)` those of them inside other label components. Then

    .. math:: sIoU(k) = \frac{|k \cap \hat K(k)|}{|k \cup \hat K(k)| - |A(k)|}, \qquad
              PPV(\hat k) = \frac{|\hat k \cap \bigcup k|}{|\hat k|}

    Both follow from the number of pixels that each pair of components shares.

    Args:
        predicted: Whether each pixel is flagged as anomalous.
        label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel.
        track: Sizes below which components do not count.

    Shape:
        predicted and label ``(H, W)``.

    Source: Chan et al., SegmentMeIfYouCan (NeurIPS 2021 Datasets and Benchmarks), equations 2 to 4.
    """
    from scipy import sparse

    of_truth, of_found = label == ANOMALY, predicted & (label != IGNORE)
    somewhere = np.flatnonzero(of_truth | of_found)  # pixels of any component
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
    present = found_pixels > 0  # drops predicted components that lie completely on small label components
    overlap, found_pixels = overlap[:, present], found_pixels[present]
    return FrameComponents(
        siou=_adjusted_iou(overlap, truth_pixels, found_pixels),
        ppv=overlap.sum(axis=0) / found_pixels,
        siou_predicted=_adjusted_iou(overlap.T.tocsr(), found_pixels, truth_pixels),
    )


def _numbers(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Number the components of a mask from 1; the background is 0. Shape ``(H, W)`` to ``(H * W,)``."""
    import cv2

    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1].ravel()


def _adjusted_iou(
    overlap: sparse.csr_array, pixels: npt.NDArray[np.int64], other_pixels: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Compute the adjusted IoU of components on one side of a match.

    Args:
        overlap: Pixels that each pair of components shares. Shape ``(K, K')``.
        pixels: Sizes of the components. Shape ``(K,)``.
        other_pixels: Sizes of the components on the other side. Shape ``(K',)``.

    Returns:
        Adjusted IoU. Shape ``(K,)``.
    """
    touches = (overlap > 0).astype(np.int64)
    shared = overlap.sum(axis=1)
    union = touches @ other_pixels + pixels - shared
    elsewhere = touches @ overlap.sum(axis=0) - shared
    return shared / (union - elsewhere)
