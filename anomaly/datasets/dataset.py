"""An evaluation dataset: its files, and the meaning of its label values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.datasets.images import add_overlay, image_size, read_image, read_label
from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN, Frame, Image, Label
from anomaly.utils.given import choice, whole

_MEANING = {KNOWN: "known", ANOMALY: "anomaly", IGNORE: "ignore"}
AS_FOUND = "--as-found"  # option of the commands that accepts a dataset that is not as published


@dataclass(frozen=True)
class FrameFiles:
    """Files of one frame.

    Args:
        id: Name of the frame, unique in its dataset.
        image: File of the image.
        label: File of the label map, with the values of the dataset.
        overlay: File of a signed difference that is added to the image; ``None`` if there is none.
    """

    id: str
    image: Path
    label: Path
    overlay: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files of the frame."""
        return (self.image, self.label) if self.overlay is None else (self.image, self.label, self.overlay)


@dataclass(frozen=True)
class Dataset:
    """An evaluation dataset: an ordered list of frames that are read on demand.

    ``len(dataset)`` is the number of frames, iteration yields each :class:`anomaly.frames.Frame`, and ``str(dataset)``
    describes it in a line.

    Args:
        name: Name of the dataset, as in the catalogue.
        root: Folder of the dataset.
        layout: Description of its folder layout.
        files: Files of the frames, in order.
        encoding: Meaning (``KNOWN``, ``ANOMALY`` or ``IGNORE``) of each label value that the dataset defines.
        classes: Names of the known classes, if the label values of known pixels are class indices from 0; else empty.
        roi: File of a mask, or ``None``. All pixels in the mask that are not anomalies are known, and known pixels
            outside it are ignored.
        published: Number of frames of the published dataset, if known.
        every_frame: Whether every frame has an anomaly.
        notes: Differences from the published dataset; empty if there are none.
        version: Version of the dataset, if there are several.

    Raises:
        InputError: There are no frames, two frames have the same id, a file does not exist, or the encoding has a value
            outside 0..255 or an unknown meaning.
    """

    name: str
    root: Path
    layout: str
    files: tuple[FrameFiles, ...]
    encoding: Mapping[int, int]
    classes: tuple[str, ...] = ()
    roi: Path | None = None
    published: int | None = None
    every_frame: bool = False
    notes: tuple[str, ...] = ()
    version: str = ""

    def __post_init__(self) -> None:
        if not self.files:
            raise InputError(
                f"{self.name}: expected at least one frame in {self.root}, found none; put the files there as "
                f"{self.layout}"
            )
        strange = [(v, m) for v, m in self.encoding.items() if m not in _MEANING or v not in range(256)]
        if strange:
            raise InputError(
                f"{self.name}: expected label values from 0 to 255 that mean {KNOWN} (known), {ANOMALY} (anomaly) or "
                f"{IGNORE} (ignore), found {strange[0][0]!r} with the meaning {strange[0][1]!r}; correct the encoding"
            )
        name, count = Counter(files.id for files in self.files).most_common(1)[0]
        if count > 1:
            raise InputError(
                f"{self.name}: expected every frame of {self.root} once, found {name!r} {count} times; remove the "
                "repeated lines from the list of frames"
            )
        absent = [path for files in self.files for path in files.paths if not path.is_file()]
        if absent:
            raise InputError(
                f"{self.name}: expected the file {absent[0]}, found none ({len(absent)} files of {len(self)} frames "
                "are missing); complete the dataset, or remove the frame from it"
            )

    def __len__(self) -> int:
        return len(self.files)

    def __str__(self) -> str:
        """Describe the dataset: name, number of images, folder and layout."""
        part = f" of {self.published}" if self.published not in (None, len(self)) else ""
        return f"{self.name}: {len(self)}{part} images in {self.root} ({self.layout})"

    def __iter__(self) -> Iterator[Frame]:
        """Read the frames one after the other, in order."""
        return (self.frame(i) for i in range(len(self)))

    def frame(self, i: int) -> Frame:
        """Read a frame and map its label to ``KNOWN``, ``ANOMALY`` and ``IGNORE``.

        If the dataset has class names, the frame has a class label too.

        Args:
            i: Index of the frame, from 0.

        Raises:
            InputError: A file cannot be read, image and label differ in size, or the label has a value that the
                dataset does not define, or no anomaly although every frame should have one.
        """
        return self.read(i)[0]

    def read(self, i: int) -> tuple[Frame, npt.NDArray[np.int64]]:
        """Read a frame, and count the values of its label file.

        Args:
            i: Index of the frame, from 0.

        Returns:
            The frame, and the number of pixels of each value in its label file, ``(256,)``.

        Raises:
            InputError: A file cannot be read, image and label differ in size, or the label has a value that the
                dataset does not define, or no anomaly although every frame should have one.
        """
        files = self.files[i]
        image = self.image(i)
        label, values, counts = self._label(i, image.shape[1], image.shape[0])
        return Frame(files.id, image, label, values if self.classes else None), counts

    def label(self, i: int) -> tuple[Label, npt.NDArray[np.int64]]:
        """Read the label of a frame, and only the size of its image.

        Args:
            i: Index of the frame, from 0.

        Returns:
            The label with the values ``KNOWN``, ``ANOMALY`` and ``IGNORE``, shape ``(H, W)``, uint8; and the number of
            pixels of each value in its file, shape ``(256,)``.

        Raises:
            InputError: The label cannot be read, differs from the image in size, has a value that the dataset does not
                define, or no anomaly although every frame should have one. A truncated image is not detected.
        """
        path = self.files[i].image
        width, height = image_size(path) or read_image(path).shape[1::-1]  # raises an error that names the fault
        label, _, counts = self._label(i, width, height)
        return label, counts

    def _label(self, i: int, width: int, height: int) -> tuple[Label, Label, npt.NDArray[np.int64]]:
        """Read the label of a frame, the values in its file, and how often each value occurs."""
        files = self.files[i]
        values = read_label(files.label)
        if (height, width) != values.shape:
            raise InputError(
                f"{self.name}: expected image and label of one size, found {width}x{height} in {files.image} "
                f"and {_size(values)} in {files.label} (width x height); use both as published, not resized"
            )
        counts = _value_counts(values)
        label = self._decode(values, counts, files.label)
        if self.every_frame and not any(
            counts[value] for value, meaning in self.encoding.items() if meaning == ANOMALY
        ):
            raise InputError(
                f"{files.label}: expected an anomaly, as every frame of {self.name} has one, found label values "
                f"{np.flatnonzero(counts).tolist()}; use the labels of the published dataset"
            )
        return label, values, counts

    def image(self, i: int) -> Image:
        """Read the image of a frame, including its overlay if there is one.

        Args:
            i: Index of the frame, from 0.

        Returns:
            RGB image. Shape ``(H, W, 3)``, uint8.

        Raises:
            InputError: A file cannot be read.
        """
        files = self.files[i]
        image = read_image(files.image)
        return image if files.overlay is None else add_overlay(image, files.overlay)

    def limit(self, n: int) -> Dataset:
        """Return a dataset of the first ``n`` frames, or of all frames if there are fewer.

        Raises:
            InputError: ``n`` is less than 1 or not a whole number.
        """
        n = whole("limit", n, expected="a number of frames")
        if n < 1:
            raise InputError(f"limit: expected at least 1 frame, found {n}; leave it out to use all frames")
        return replace(self, files=self.files[:n])

    def half(self, which: Literal["first", "second"]) -> Dataset:
        """Return half of the frames as a dataset, for example to choose a threshold on one half for the other.

        Halves are contiguous, because neighbouring frames of a video look alike.

        Args:
            which: ``"first"`` or ``"second"``; the second half has one frame more if the number of frames is odd.

        Raises:
            InputError: There is only one frame, or ``which`` is another word.
        """
        choice("half", which, ("first", "second"))
        if len(self) < 2:
            raise InputError(
                f"{self.name}: expected at least 2 frames to halve, found {len(self)}; use the whole dataset"
            )
        middle = len(self) // 2
        files = self.files[:middle] if which == "first" else self.files[middle:]
        return replace(self, name=f"{self.name}-{which}", files=files)

    def _decode(self, values: Label, counts: npt.NDArray[np.int64], path: Path) -> Label:
        table = np.full(256, IGNORE, dtype=np.uint8)
        table[list(self.encoding)] = list(self.encoding.values())
        if undefined := sorted(set(np.flatnonzero(counts).tolist()) - self.encoding.keys()):
            raise InputError(
                f"{path}: expected only the label values that {self.name} defines, "
                f"{describe(self.encoding)}; found also {undefined}; use the original label maps of class indices (not "
                "instance, colour or converted ones), or declare the values of your own folder with "
                "--label-values (in Python, label_values=)"
            )
        label: Label = cv2.LUT(values, table)
        return label if self.roi is None else self._within(label, read_label(self.roi))

    def _within(self, label: Label, roi: Label) -> Label:
        if roi.shape != label.shape:
            raise InputError(
                f"{self.roi}: expected a mask of the labels' size, {_size(label)}, found {_size(roi)} (width x "
                "height); use the published mask"
            )
        return np.where(label == ANOMALY, label, np.where(roi > 0, np.uint8(KNOWN), np.uint8(IGNORE)))


def _value_counts(values: Label) -> npt.NDArray[np.int64]:
    """Count the pixels of each value. Shape ``(256,)``."""
    rows = max(1, (1 << 24) // values.shape[1])  # OpenCV counts in float32, which holds 2^24
    parts = (values[top : top + rows] for top in range(0, len(values), rows))
    return sum(
        (cv2.calcHist([part], [0], None, [256], [0, 256]).ravel().astype(np.int64) for part in parts),
        start=np.zeros(256, np.int64),
    )


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"


def describe(encoding: Mapping[int, int]) -> str:
    """Describe an encoding in words: ``{0: 0, 1: 0, 2: 1}`` gives '0-1 (known), 2 (anomaly)'."""
    parts = []
    for meaning, items in groupby(sorted(encoding.items()), key=lambda item: item[1]):
        values = [value for value, _ in items]
        gapless = len(values) > 1 and values[-1] - values[0] == len(values) - 1
        numbers = f"{values[0]}-{values[-1]}" if gapless else ", ".join(map(str, values))
        parts.append(f"{numbers} ({_MEANING[meaning]})")
    return ", ".join(parts)
