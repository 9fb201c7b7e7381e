"""What tells whether two results are of the same frames: their labels, and their images."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import numpy as np

from anomaly.errors import InputError
from anomaly.labels import Image, Label


class Fingerprint:
    """A checksum over the names and the labels of frames, whatever their order.

    The labels are those that count: ``KNOWN``, ``ANOMALY`` and ``IGNORE``. So a set whose label values were rewritten
    without another meaning has the same fingerprint, and one with another ignored region has not.

    Examples:
        >>> import numpy as np
        >>> one, other = Fingerprint(), Fingerprint()
        >>> one.add("a", np.zeros((2, 3), np.uint8)); one.add("b", np.ones((2, 3), np.uint8))
        >>> other.add("b", np.ones((2, 3), np.uint8)); other.add("a", np.zeros((2, 3), np.uint8))
        >>> one.hexdigest() == other.hexdigest()
        True
    """

    def __init__(self) -> None:
        self._frames: dict[str, str] = {}

    def add(self, frame_id: str, label: Label) -> None:
        """Take a frame into account; one that was seen before stays as it is. Shape of the label: ``(H, W)``, uint8."""
        if frame_id not in self._frames:
            digest = hashlib.sha256(f"{label.shape[0]}x{label.shape[1]}:".encode())
            digest.update(label.tobytes())
            self._frames[frame_id] = digest.hexdigest()

    def hexdigest(self) -> str:
        """The checksum of the frames so far, SHA-256 in hexadecimal."""
        digest = hashlib.sha256()
        for frame_id in sorted(self._frames):
            digest.update(f"{len(frame_id.encode())}:{frame_id}={self._frames[frame_id]};".encode())
        return digest.hexdigest()


def check_unseen(frame: str, image: Image, fitted: Collection[str], what: str) -> None:
    """Refuse an image that something was fitted on, where values look better than they are.

    Args:
        frame: Name of the frame.
        image: Shape ``(H, W, 3)``, uint8.
        fitted: :func:`image_hash` of the images that it was fitted on.
        what: What was fitted, in the plural.

    Raises:
        InputError: It is one of them.
    """
    if image_hash(image) in fitted:
        raise InputError(
            f"frame {frame!r} is one of the {len(fitted)} images that {what} were fitted on, where they look better "
            "than they are; evaluate other images, or fit on others"
        )


def image_hash(image: Image) -> str:
    """Name an image by its pixels, whatever its file is called. Shape: ``(H, W, 3)``, uint8."""
    return hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()[:24]
