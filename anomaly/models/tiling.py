"""How a network looks at a image: whole or by windows, mirrored, at several scales; and what comes of it.

Every look is a *view*: a part of the input at a scale, perhaps mirrored. Scores are computed for each view, and
averaged where views overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly.errors import InputError
from anomaly.models.base import Model, Prediction
from anomaly.scores.table import Score
from anomaly.utils.given import choice, real, switch, whole

Resolution = Literal["features", "input"]

MOST_WINDOWS = 4096
"""Of one image at one size: more are a slip of the pen, and would run for hours."""


@dataclass(frozen=True)
class View:
    """A part of the input at a scale. ``size``: height and width of the whole input at that scale."""

    size: tuple[int, int]
    rows: slice
    columns: slice
    flipped: bool

    @property
    def part(self) -> tuple[int, int]:
        """Its own height and width."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


@dataclass(frozen=True)
class ViewPrediction:
    """What a network says of one view of a batch of inputs. ``size``: height and width of the inputs."""

    view: View
    prediction: Prediction


@dataclass(frozen=True)
class Inference:
    """How a network looks at a image.

    Args:
        window: Height and width of sliding windows; None looks at the whole. A image smaller than a window in
            either direction is seen whole in that direction.
        stride: How far windows are apart, vertically and horizontally; two thirds of the window by default. The last
            of a row ends where the image does.
        flip: ViewPrediction at the mirrored image too.
        scales: Sizes of the input to look at.
        resolution: ``"features"``: scores at the network's own resolution, then resized to the input; ``"input"``: the
            network's maps resized to the input, then scores.
        batch: Images and windows of one size that the network sees at once.
        precision: ``"float32"``, or ``"bfloat16"`` for the network's own arithmetic by autocast; densities, scores and
            what a last layer ``conv_seg`` makes of the features stay float32.

    Numbers may be of any type, and are kept as Python's own.

    Raises:
        InputError: A value is out of range, or not of its kind.
    """

    window: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
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
            raise InputError("stride: expected a window too, found none; name both or neither")
        if self.window and self.stride and (self.stride[0] > self.window[0] or self.stride[1] > self.window[1]):
            (high, wide), (down, across) = self.window, self.stride
            raise InputError(
                f"stride {down}x{across}: expected no more than the window {high}x{wide}, or pixels are left out"
            )
        scales = tuple(real("scales", scale) for scale in _items("scales", self.scales))
        if not scales or not all(0.05 <= scale <= 20 for scale in scales):
            raise InputError(f"scales: expected numbers from 0.05 to 20, found {self.scales}")
        if len(set(scales)) < len(scales):
            raise InputError(f"scales: expected different numbers, each of which counts once, found {self.scales}")
        object.__setattr__(self, "scales", scales)
        object.__setattr__(self, "batch", whole("batch", self.batch, 1, "1 or more"))
        object.__setattr__(self, "flip", switch("flip", self.flip))
        choice("resolution", self.resolution, ("features", "input"))
        choice("precision", self.precision, ("float32", "bfloat16"))

    def record(self) -> dict[str, Any]:
        """The settings that scores depend on, for a result."""
        kept = {name: value for name, value in asdict(self).items() if name != "batch"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}

    def views(self, size: tuple[int, int]) -> Iterator[View]:
        """The views of an input of height and width ``size``."""
        for scale in self.scales:
            scaled = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
            window = scaled if self.window is None else self.window
            stride = self.stride or (max(1, window[0] * 2 // 3), max(1, window[1] * 2 // 3))
            count = math.prod(len(_places(*sides)) for sides in zip(scaled, window, stride, strict=True))
            if count > MOST_WINDOWS:
                raise InputError(
                    f"window {window[0]}x{window[1]}: expected at most {MOST_WINDOWS} windows of a image, found "
                    f"{count} of {scaled[0]}x{scaled[1]}; give larger windows, or a larger stride"
                )
            for flipped in (False, True)[: 1 + self.flip]:
                for rows in _places(scaled[0], window[0], stride[0]):
                    for columns in _places(scaled[1], window[1], stride[1]):
                        yield View(scaled, rows, columns, flipped)

    @torch.no_grad()  # inference mode would leave tensors in a network that it cannot be trained with any more
    def look(self, detector: Model, inputs: Tensor) -> list[ViewPrediction]:
        """Show all views of inputs of one size to the network. Shape: ``(B, 3, h, w)``."""
        size = (inputs.shape[2], inputs.shape[3])
        scaled: dict[tuple[int, int], Tensor] = {size: inputs}
        groups: dict[tuple[int, int], list[View]] = {}
        for view in self.views(size):
            if view.size not in scaled:
                scaled[view.size] = F.interpolate(inputs, view.size, mode="bilinear", antialias=True)
            groups.setdefault(view.part, []).append(view)
        looks: list[ViewPrediction] = []
        for views in groups.values():
            at_once = max(1, self.batch // len(inputs))
            for start in range(0, len(views), at_once):
                looks += self._show(detector, scaled, views[start : start + at_once], len(inputs))
        return looks

    def _show(self, detector: Model, scaled: dict, views: Sequence[View], inputs: int) -> Iterator[ViewPrediction]:
        parts = [scaled[view.size][:, :, view.rows, view.columns] for view in views]
        batch = torch.cat([part.flip(-1) if view.flipped else part for part, view in zip(parts, views, strict=True)])
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            prediction = detector(batch)
        for i, view in enumerate(views):
            yield ViewPrediction(view, prediction.of(i * inputs, (i + 1) * inputs))

    @torch.inference_mode()
    def score(
        self, looks: Sequence[ViewPrediction], size: tuple[int, int], scores: Sequence[Score]
    ) -> dict[str, Tensor]:
        """Score the inputs, at their size. Shape: ``(B, h, w)`` float32 for each name."""
        needed = {name for score in scores for name in score.needs}

        def maps(prediction: Prediction, view: View) -> Tensor:
            if self.resolution == "input":
                prediction = prediction.resized(view.part, needed)
            found = torch.stack([score(prediction) for score in scores], dim=1)
            return prediction.resize(found, view.part)

        found = _blend(looks, size, maps)
        return {score.name: found[:, i] for i, score in enumerate(scores)}

    @torch.inference_mode()
    def logits(self, looks: Sequence[ViewPrediction], size: tuple[int, int]) -> Tensor:
        """Logits of the inputs at their size, averaged over views. Shape: ``(B, C, h, w)``."""
        return self.class_maps(looks, size, "logits")

    @torch.inference_mode()
    def class_maps(
        self, looks: Sequence[ViewPrediction], size: tuple[int, int], field: Literal["logits", "class_log_likelihood"]
    ) -> Tensor:
        """A field of the predictions that the network gives, as :meth:`logits`. Shape: ``(B, C, h, w)``."""

        def maps(prediction: Prediction, view: View) -> Tensor:
            return prediction.resize(getattr(prediction, field), view.part)

        return _blend(looks, size, maps)


def _items(name: str, values: Any) -> list[Any]:
    try:
        return [] if isinstance(values, str) else list(values)
    except TypeError as error:
        raise InputError(
            f"{name}: expected several numbers, as a tuple, found {values!r}; write ({values},)"
        ) from error


def _sides(name: str, sides: Any) -> tuple[int, int]:
    found = [whole(name, side, expected="a height and a width, whole numbers") for side in _items(name, sides)]
    if len(found) != 2 or min(found) < 1:
        size = "x".join(map(str, found)) or "nothing"
        raise InputError(f"{name}: expected a height and a width of 1 or more, found {size}")
    return found[0], found[1]


def _places(length: int, window: int, stride: int) -> list[slice]:
    """Where windows lie along a side: evenly from its start, the last one ending where the side does."""
    if window >= length:
        return [slice(0, length)]
    starts = [*range(0, length - window, stride), length - window]
    return [slice(start, start + window) for start in starts]


def _blend(
    looks: Sequence[ViewPrediction], size: tuple[int, int], maps: Callable[[Prediction, View], Tensor]
) -> Tensor:
    """Average maps of all views: windows fade into each other, scales and mirror images count alike.

    Args:
        looks: At least one.
        size: Height and width of the inputs.
        maps: Makes maps ``(B, K, rows, columns)`` of a view's prediction.
    """
    sums: dict[tuple[tuple[int, int], bool], list[Tensor]] = {}
    for look in looks:
        view = look.view
        part = maps(look.prediction, view)
        part = part.flip(-1) if view.flipped else part
        if part.shape[2:] == view.size == size and len(looks) == 1:
            return part
        weight = _tent(part.shape[2], part.device)[:, None] * _tent(part.shape[3], part.device)
        key = (view.size, view.flipped)
        if key not in sums:
            sums[key] = [part.new_zeros(*part.shape[:2], *view.size), part.new_zeros(view.size)]
        total, weights = sums[key]
        total[:, :, view.rows, view.columns] += weight * part
        weights[view.rows, view.columns] += weight
    means = [total / weights for total, weights in sums.values()]
    return torch.stack([_resized(mean, size) for mean in means]).mean(0)


def _tent(length: int, device: torch.device) -> Tensor:
    """Weights that fall linearly from the middle to both ends, never to 0."""
    place = torch.arange(length, device=device, dtype=torch.float32) + 0.5
    return torch.minimum(place, length - place) * (2 / length)


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if maps.shape[2:] == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", antialias=True)
