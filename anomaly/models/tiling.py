"""How a model is applied to an image: whole or in sliding windows, mirrored, at several scales.

A *view* is a crop of the input at a scale, mirrored or not. Windows are placed as in mmsegmentation's sliding
inference.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from anomaly.errors import InputError
from anomaly.utils.given import choice, real, switch, whole

Resolution = Literal["features", "input"]
Size = tuple[int, int]

AFFECTING = ("window", "scales", "resolution", "precision")
"""Settings that affect the distribution of features and scores."""
MOST_WINDOWS = 4096
"""Largest number of windows of one image at one scale: more are probably a typing error, and would run for hours."""


@dataclass(frozen=True)
class View:
    """A crop of the input at a scale.

    Args:
        size: Height and width of the whole input at that scale.
        rows: Rows of the crop.
        columns: Columns of the crop.
        flipped: Whether the crop is mirrored left to right.
    """

    size: Size
    rows: slice
    columns: slice
    flipped: bool

    @property
    def part(self) -> Size:
        """Height and width of the crop."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


@dataclass(frozen=True)
class Inference:
    """Settings of inference: sliding windows, test-time augmentation, resolution and precision.

    Numbers may be of any type, such as numpy scalars; they are stored as Python numbers.

    Args:
        window: Height and width of the sliding windows. None predicts the whole image at once. If the image is smaller
            than the window in one direction, the window covers it whole in that direction.
        stride: Vertical and horizontal distance between windows. Default: two thirds of the window. The last window of
            a row or column ends at the border of the image.
        flip: Whether to predict the mirrored image too and average the scores.
        scales: Factors by which the input is resized. The scores of several scales are averaged.
        resolution: ``"features"`` computes scores at the network's own resolution and resizes them to the input;
            ``"input"`` resizes the network's maps to the input first.
        batch: Number of images and windows of one size that the network processes at once.
        precision: ``"float32"``, or ``"bfloat16"`` to run the network under autocast. Densities, scores and the last
            layer ``conv_seg`` stay in float32.

    Raises:
        InputError: A value is out of range or of a wrong type.
    """

    window: Size | None = None
    stride: Size | None = None
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    resolution: Resolution = "features"
    batch: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for name in ("window", "stride"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _sides(name, getattr(self, name)))
        if self.window is None and self.stride is not None:
            raise InputError("stride: expected a window too, found none; set both or neither")
        if self.window and self.stride and (self.stride[0] > self.window[0] or self.stride[1] > self.window[1]):
            (high, wide), (down, across) = self.window, self.stride
            raise InputError(
                f"stride {down}x{across}: expected at most the window {high}x{wide}, since a larger one "
                "skips pixels; set a smaller stride"
            )
        scales = tuple(real("scales", scale) for scale in _items("scales", self.scales))
        if not scales or not all(0.05 <= scale <= 20 for scale in scales):
            raise InputError(f"scales: expected numbers from 0.05 to 20, found {self.scales}; correct them")
        if len(set(scales)) < len(scales):
            raise InputError(f"scales: expected different numbers, found {self.scales}; give each once")
        object.__setattr__(self, "scales", scales)
        object.__setattr__(self, "batch", whole("batch", self.batch, 1, "a whole number of 1 or more"))
        object.__setattr__(self, "flip", switch("flip", self.flip))
        choice("resolution", self.resolution, ("features", "input"))
        choice("precision", self.precision, ("float32", "bfloat16"))

    def record(self) -> dict[str, Any]:
        """The settings that scores depend on, for the record of a result."""
        kept = {name: value for name, value in asdict(self).items() if name != "batch"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}

    def differences(self, fitted: Mapping[str, Any]) -> str:
        """Describe settings that differ from those of a fit, such as ``window 64x64 (here the whole)``.

        Args:
            fitted: Settings of the fit, as :meth:`record` gives them.

        Returns:
            A text; empty if nothing that matters differs.
        """
        here = self.record()
        names = [name for name in AFFECTING if name in fitted and fitted[name] != here[name]]
        return ", ".join(f"{name} {_in_words(fitted[name])} (here {_in_words(here[name])})" for name in names)

    def views(self, size: Size) -> Iterator[View]:
        """Iterate over the views of an input.

        Args:
            size: Height and width of the input.
        """
        for scale in self.scales:
            scaled = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
            window = scaled if self.window is None else self.window
            stride = self.stride or (max(1, window[0] * 2 // 3), max(1, window[1] * 2 // 3))
            for flipped in (False, True)[: 1 + self.flip]:
                for rows, columns in windows(scaled, window, stride):
                    yield View(scaled, rows, columns, flipped)


def _in_words(setting: Any) -> str:
    """Format a window, scales or a word."""
    if not isinstance(setting, list):
        return "the whole" if setting is None else str(setting)
    return ("x" if isinstance(setting[0], int) else " ").join(map(str, setting))


def windows(size: Size, window: Size, stride: Size) -> list[tuple[slice, slice]]:
    """Rows and columns of the sliding windows of an image.

    Windows start at the upper left corner at even distances; the last one in each direction ends at the border.

    Args:
        size: Height and width of the image.
        window: Height and width of a window.
        stride: Vertical and horizontal distance between windows.

    Raises:
        InputError: There are more than 4096 windows.
    """
    rows, columns = (_places(*sides) for sides in zip(size, window, stride, strict=True))
    if (count := math.prod((len(rows), len(columns)))) > MOST_WINDOWS:
        raise InputError(
            f"window {window[0]}x{window[1]}: expected at most {MOST_WINDOWS} windows in an image, found "
            f"{count} in {size[0]}x{size[1]}; set larger windows, or a larger stride"
        )
    return [(down, across) for down in rows for across in columns]


def sliding_windows(test_cfg: Mapping[str, Any] | None) -> tuple[Size, Size] | None:
    """Read window and stride from mmsegmentation's ``model.test_cfg``; None if images are predicted whole.

    Args:
        test_cfg: The setting; without a ``mode`` it means ``"whole"``.

    Raises:
        InputError: The mode is unknown, a window or stride is not a pair of positive integers, or the stride is larger
            than the window.
    """
    settings = test_cfg or {}
    mode = settings.get("mode", "whole")
    if mode not in ("whole", "slide"):
        close = difflib.get_close_matches(str(mode), ("whole", "slide"), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "; set one of the two"
        raise InputError(f"model.test_cfg.mode: expected 'whole' or 'slide', found {mode!r}{hint}")
    if mode == "whole":
        return None
    window, stride = (_configured(name, settings.get(name)) for name in ("crop_size", "stride"))
    if stride[0] > window[0] or stride[1] > window[1]:
        raise InputError(
            f"model.test_cfg.stride: expected at most crop_size {window}, found {stride}, which skips pixels; set a "
            "smaller stride"
        )
    return window, stride


def _configured(name: str, value: Any) -> Size:
    sides = list(value) if isinstance(value, list | tuple) else []
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise InputError(
            f"model.test_cfg.{name}: expected two positive integers, a height and a width, as model.test_cfg.mode is "
            f"'slide', found {value!r}; set them, such as {name}=(512,512)"
        )
    return sides[0], sides[1]


def _items(name: str, values: Any, example: str = "") -> list[Any]:
    try:
        return [] if isinstance(values, str) else list(values)
    except TypeError as error:
        example = example or f"({values},)"
        raise InputError(f"{name}: expected several numbers, as a tuple, found {values!r}; write {example}") from error


def _sides(name: str, sides: Any) -> Size:
    found = [
        whole(name, side, expected="a height and a width, whole numbers")
        for side in _items(name, sides, "(HEIGHT, WIDTH)")
    ]
    if len(found) != 2 or min(found) < 1:
        size = "x".join(map(str, found)) or "nothing"
        raise InputError(f"{name}: expected a height and a width of 1 or more, found {size}; correct it")
    return found[0], found[1]


def _places(length: int, window: int, stride: int) -> list[slice]:
    if window >= length:
        return [slice(0, length)]
    starts = [*range(0, length - window, stride), length - window]
    return [slice(start, start + window) for start in starts]
