"""Fingerprints of datasets, which show whether two results cover the same frames and labels."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from anomaly.errors import InputError
from anomaly.frames import Label, as_array, as_frame_id

if TYPE_CHECKING:
    from anomaly.datasets.dataset import Dataset


class Fingerprint:
    """A checksum of the names and the labels of frames, in any order.

    It covers the meanings ``KNOWN``, ``ANOMALY`` and ``IGNORE``, not the values in files. So a dataset whose label
    values were rewritten with the same meaning has the same fingerprint, and one with another ignored region has a
    different fingerprint.

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
        """Add a frame; a frame that is added twice counts once.

        Args:
            frame_id: Name of the frame.
            label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel. Shape ``(H, W)``, uint8.

        Raises:
            InputError: ``frame_id`` is not a str, ``label`` is not uint8 with two dimensions, or a frame of that id was
                added with another label.
        """
        frame_id, label = as_frame_id(frame_id), as_array(frame_id, "label", label)
        if label.ndim != 2 or label.dtype != np.uint8:
            raise InputError(
                f"frame {frame_id!r}: expected a label (H, W) of uint8, found {label.shape} of {label.dtype}; convert "
                "it"
            )
        digest = hashlib.sha256(f"{label.shape[0]}x{label.shape[1]}:".encode())
        digest.update(label.tobytes())
        self._add({frame_id: digest.hexdigest()})

    def merge(self, other: Fingerprint) -> None:
        """Add the frames of ``other``, which does not change.

        Raises:
            InputError: A frame is in both, with different labels; no frame is added then.
        """
        self._add(other._frames)

    def hexdigest(self) -> str:
        """Return the checksum of the frames added so far, SHA-256 in hexadecimal."""
        digest = hashlib.sha256()
        for frame_id in sorted(self._frames):
            digest.update(f"{len(frame_id.encode())}:{frame_id}={self._frames[frame_id]};".encode())
        return digest.hexdigest()

    def _add(self, frames: dict[str, str]) -> None:
        for frame_id, label in frames.items():
            if self._frames.get(frame_id, label) != label:
                raise InputError(
                    f"frame {frame_id!r} was seen before with another label; give every frame its own name, such as "
                    "its path"
                )
        self._frames |= frames


def file_digests(dataset: Dataset) -> dict[str, str]:
    """Checksum of each frame's label file and of the size of its image file, without decoding a file.

    Args:
        dataset: The dataset.

    Returns:
        The checksums by the frames' ids, and one of the meanings of the label values under an empty id.
    """
    found = {"": repr(sorted(dataset.encoding.items()))}
    for files in dataset.files:
        digest = hashlib.sha256(str(files.image.stat().st_size).encode())
        digest.update(files.label.read_bytes())
        found[files.id] = digest.hexdigest()
    return found


def check_unseen(frame: str, image: str, fitted: Collection[str], what: str) -> None:
    """Check that an image was not used for fitting, because values on such images are too good.

    Args:
        frame: Name of the frame, for the message.
        image: Hash of its image, from :func:`anomaly.frames.image_hash`.
        fitted: Hashes of the images used for fitting.
        what: What was fitted, in the plural, for the message.

    Raises:
        InputError: The image was used for fitting.
    """
    if image in fitted:
        raise InputError(
            f"frame {frame!r} is one of the {len(fitted)} images that {what} were fitted on, where values are too "
            "good; evaluate other images, or fit on other images"
        )
