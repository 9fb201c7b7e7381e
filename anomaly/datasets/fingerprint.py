"""What tells whether two results are of the same frames: their labels, and their images."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import numpy as np

from anomaly.errors import InputError
from anomaly.frames import Label, as_array, as_frame_id


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
        """Take a frame into account; a frame that was seen before counts once. Shape of the label: ``(H, W)``, uint8.

        Raises:
            InputError: The id is no str, the label is not of uint8 and two dimensions, or a frame of that id had
                another label.
        """
        frame_id, label = as_frame_id(frame_id), as_array(frame_id, "label", label)
        if label.ndim != 2 or label.dtype != np.uint8:
            raise InputError(
                f"frame {frame_id!r}: expected a label (H, W) of uint8, found {label.shape} of {label.dtype}"
            )
        digest = hashlib.sha256(f"{label.shape[0]}x{label.shape[1]}:".encode())
        digest.update(label.tobytes())
        if self._frames.setdefault(frame_id, digest.hexdigest()) != digest.hexdigest():
            raise InputError(
                f"frame {frame_id!r} was seen before with another label; give every frame a name of its own, "
                "such as its path"
            )

    def hexdigest(self) -> str:
        """The checksum of the frames so far, SHA-256 in hexadecimal."""
        digest = hashlib.sha256()
        for frame_id in sorted(self._frames):
            digest.update(f"{len(frame_id.encode())}:{frame_id}={self._frames[frame_id]};".encode())
        return digest.hexdigest()


def check_unseen(frame: str, image: str, fitted: Collection[str], what: str) -> None:
    """Refuse an image that something was fitted on, where values look better than they are.

    Args:
        frame: Name of the frame.
        image: :func:`anomaly.frames.image_hash` of its image.
        fitted: The same of the images that it was fitted on.
        what: What was fitted, in the plural.

    Raises:
        InputError: It is one of them.
    """
    if image in fitted:
        raise InputError(
            f"frame {frame!r} is one of the {len(fitted)} images that {what} were fitted on, where they look better "
            "than they are; evaluate other images, or fit on others"
        )
