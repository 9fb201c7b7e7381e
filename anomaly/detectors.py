"""What the evaluator asks of a network: an image in, per-pixel class scores out, never a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from anomaly.labels import Image


@dataclass(frozen=True)
class Prediction:
    """One network's answer for one image.

    ``(h, w)`` is the resolution the network works at and may differ from the image's: anomaly scores are
    computed at ``(h, w)`` and the evaluator resizes them to the label.

    Args:
        logits: Class logits before the softmax. Shape: ``(C, h, w)``, float32, any device.
        class_log_likelihood: ``log p(x | c)`` of a generative classifier, before any normalisation over
            classes; ``None`` for a network that has none. Shape: ``(C, h, w)``, float32.
    """

    logits: Tensor
    class_log_likelihood: Tensor | None = None


class Detector(Protocol):
    """Anything that turns a photograph into a :class:`Prediction`.

    Attributes:
        gives: Names of the :class:`Prediction` fields that are never ``None``: ``"logits"`` and, for a
            generative classifier, ``"class_log_likelihood"``.
        classes: Names of the classes of the logits, in their order; empty where they are not known.
    """

    gives: frozenset[str]
    classes: tuple[str, ...]

    def __call__(self, image: Image) -> Prediction:
        """Predict one RGB photograph. Shape: ``(H, W, 3)``, uint8."""
        ...
