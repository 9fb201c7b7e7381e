"""Predictions of a model for all views of an image, and the scores and class maps that they are merged into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly.errors import InputError
from anomaly.frames import Image
from anomaly.models.base import Model, Prediction
from anomaly.models.tiling import Inference, Size, View

SMALLEST_WINDOW = 64
"""Side at which smaller windows are no longer tried when the memory of a GPU is too small."""


class ScoreFunction(Protocol):
    """Protocol of an anomaly score; :class:`anomaly.Score` implements it."""

    @property
    def name(self) -> str:
        """Name of the score."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the prediction's fields that the score is computed from."""
        ...

    def __call__(self, prediction: Prediction) -> Tensor:
        """Compute the score of every pixel. Shape: ``(B, h, w)``, float32."""
        ...


@dataclass(frozen=True)
class ViewPrediction:
    """The prediction of a model for one view of a batch of inputs."""

    view: View
    prediction: Prediction

    def labels(self, labels: Tensor, name: str) -> Tensor:
        """Cut class labels of the input to this view, at the resolution of a map of its prediction.

        Args:
            labels: Class of every pixel of the input, -1 for none. Shape: ``(H, W)``, int64.
            name: Name of the map, such as ``"features"``.

        Returns:
            The class at the centre of each cell, -1 in the padding. Shape: ``(h, w)``, int64.
        """
        part = labels[self.view.rows, self.view.columns]
        height, width = self.prediction.covers or part.shape
        part = F.pad(part, (0, width - part.shape[1], 0, height - part.shape[0]), value=-1)
        height, width = self.prediction.field(name).shape[-2:]
        return resize_labels(part, (height, width))


@dataclass(frozen=True)
class ImagePrediction:
    """The predictions of a model for all views of a batch of inputs.

    Args:
        views: The predictions, at least one.
        size: Height and width of the inputs.
        inference: The settings that the views come from; they also decide at which resolution scores are computed.
    """

    views: Sequence[ViewPrediction]
    size: Size
    inference: Inference

    def of(self, i: int) -> ImagePrediction:
        """Return the prediction for input ``i`` alone."""
        views = [ViewPrediction(one.view, one.prediction.of(i, i + 1)) for one in self.views]
        return ImagePrediction(views, self.size, self.inference)

    @property
    def device(self) -> torch.device:
        """The device of the prediction."""
        fields = vars(self.views[0].prediction).values()
        return next(value.device for value in fields if isinstance(value, Tensor))

    @torch.inference_mode()
    def scores(self, scores: Sequence[ScoreFunction]) -> Mapping[str, Tensor]:
        """Compute scores at the size of the inputs. Each view is scored, then the views are averaged.

        Args:
            scores: The scores.

        Returns:
            A map of shape ``(B, h, w)``, float32, on the device of the prediction, for each name.

        Raises:
            InputError: The memory of the GPU is too small.
        """
        needed = {name for score in scores for name in score.needs}

        def maps(prediction: Prediction, view: View) -> Tensor:
            if self.inference.resolution == "input":
                prediction = prediction.resized(view.part, needed)
            found = torch.stack([score(prediction) for score in scores], dim=1)
            return prediction.resize(found, view.part)

        try:
            found = self._blend(maps)
        except torch.OutOfMemoryError as error:
            raise InputError(self._too_large()) from error
        return {score.name: found[:, i] for i, score in enumerate(scores)}

    @torch.inference_mode()
    def class_maps(self, values: Callable[[Prediction], Tensor]) -> Tensor:
        """Average maps of the classes over all views, at the size of the inputs. Shape: ``(B, C, h, w)``.

        Args:
            values: Takes the maps from a prediction, such as :meth:`Prediction.class_values`.
        """
        return self._blend(lambda prediction, view: prediction.resize(values(prediction), view.part))

    def _too_large(self) -> str:
        """The message for scores that do not fit into the memory of the GPU, with what needs less."""
        advice = "use smaller windows (--window HxW), or fewer scores at once"
        if self.inference.resolution == "input":
            advice = 'compute them at the resolution of the network, which needs less: --score-at features ("features")'
        return f"out of GPU memory for the scores of an input of {self.size[1]}x{self.size[0]}: {advice}"

    def _blend(self, maps: Callable[[Prediction, View], Tensor]) -> Tensor:
        """Average maps ``(B, K, rows, columns)`` over views: windows are blended, scales have equal weight."""
        sums: dict[tuple[Size, bool], list[Tensor]] = {}
        for one in self.views:
            view = one.view
            part = maps(one.prediction, view)
            part = part.flip(-1) if view.flipped else part
            if part.shape[2:] == view.size == self.size and len(self.views) == 1:
                return part
            weight = _tent(part.shape[2], part.device)[:, None] * _tent(part.shape[3], part.device)
            key = (view.size, view.flipped)
            if key not in sums:
                sums[key] = [part.new_zeros(*part.shape[:2], *view.size), part.new_zeros(view.size)]
            total, weights = sums[key]
            total[:, :, view.rows, view.columns] += weight * part
            weights[view.rows, view.columns] += weight
        means = [total / weights for total, weights in sums.values()]
        return torch.stack([_resized(mean, self.size) for mean in means]).mean(0)


@torch.no_grad()  # not inference mode: it leaves tensors in the network that prevent training it later
def predict_inputs(model: Model, inputs: Tensor, inference: Inference | None = None) -> ImagePrediction:
    """Run a model on all views of inputs of one size.

    Args:
        model: The model.
        inputs: Preprocessed inputs. Shape: ``(B, 3, h, w)``.
        inference: Which views; by default the whole input once.

    Raises:
        InputError: The memory of the GPU is too small; the message says which batch or window would fit.
    """
    inference = inference or Inference()
    size = (inputs.shape[2], inputs.shape[3])
    scaled: dict[Size, Tensor] = {size: inputs}
    groups: dict[Size, list[View]] = {}
    for view in inference.views(size):
        if view.size not in scaled:
            scaled[view.size] = F.interpolate(inputs, view.size, mode="bilinear", antialias=True)
        groups.setdefault(view.part, []).append(view)
    found: list[ViewPrediction] = []
    for views in groups.values():
        at_once = max(1, inference.batch // len(inputs))
        for start in range(0, len(views), at_once):
            found += _predict(model, scaled, views[start : start + at_once], len(inputs), inference.precision)
    return ImagePrediction(found, size, inference)


def predict_image(model: Model, image: Image, inference: Inference | None = None) -> ImagePrediction:
    """Preprocess one image and run a model on all its views.

    Args:
        model: The model.
        image: RGB image. Shape: ``(H, W, 3)``, uint8.
        inference: Which views; by default the whole image once.
    """
    return predict_inputs(model, model.prepare(image)[None], inference)


def predict_batch(
    model: Model, inference: Inference, inputs: Sequence[Tensor | None]
) -> Sequence[ImagePrediction | None]:
    """Run a model on inputs of one size; None stays None.

    Args:
        model: The model.
        inference: Which views.
        inputs: Preprocessed inputs, or None where no prediction is needed. Shape: ``(3, h, w)`` each.
    """
    there = [each for each in inputs if each is not None]
    if not there:
        return [None] * len(inputs)
    found = predict_inputs(model, torch.stack(there), inference)
    if found.device.type == "cuda":  # so that the profile counts the time here, and other streams can read the maps
        torch.cuda.current_stream(found.device).synchronize()
    return [found.of(i) for i in range(len(there))]


@contextmanager
def scoring_stream(prediction: ImagePrediction | None) -> Iterator[None]:
    """Let a GPU work on a prediction of :func:`predict_batch` beside the next forward pass, in a stream of its own.

    What is copied back then waits for the scores only. The context ends when all work in it is done, so that memory
    that it read is free for the forward pass afterwards. On the CPU, and without a prediction, it does nothing.

    Args:
        prediction: The prediction that is scored in the context.

    Raises:
        InputError: The memory of the GPU is too small.
    """
    if prediction is None or prediction.device.type != "cuda":
        yield
        return
    stream = _stream(prediction.device)
    with torch.cuda.stream(stream):
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise InputError(prediction._too_large()) from error
        finally:
            stream.synchronize()


@lru_cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _predict(
    model: Model, scaled: Mapping[Size, Tensor], views: Sequence[View], inputs: int, precision: str
) -> Iterator[ViewPrediction]:
    parts = [scaled[view.size][:, :, view.rows, view.columns] for view in views]
    batch = torch.cat([part.flip(-1) if view.flipped else part for part, view in zip(parts, views, strict=True)])
    device = torch.device(getattr(model, "device", None) or batch.device)

    def ask(batch: Tensor) -> Prediction | _TooLarge:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            try:
                return model(batch)
            except torch.OutOfMemoryError:
                return _TooLarge()  # a traceback would hold the tensors of the forward pass while others are tried

    prediction = ask(batch)
    if isinstance(prediction, _TooLarge):
        raise InputError(_what_fits(ask, batch))
    if not isinstance(prediction, Prediction):
        raise InputError(
            f"model: expected it to return an anomaly.Prediction, found {type(prediction).__name__}; correct its "
            "__call__"
        )
    for i, view in enumerate(views):
        yield ViewPrediction(view, prediction.of(i * inputs, (i + 1) * inputs))


class _TooLarge:
    """In place of a prediction for which the memory of the GPU is too small."""


def _what_fits(ask: Callable[[Tensor], Prediction | _TooLarge], batch: Tensor) -> str:
    """The message for a batch that does not fit into the memory of the GPU, with a batch or a window that does.

    Args:
        ask: Runs the model.
        batch: The inputs. Shape: ``(B, 3, h, w)``.
    """
    count, height, width = len(batch), batch.shape[2], batch.shape[3]
    of = "an input" if count == 1 else f"a batch of {count} inputs"
    message = f"out of GPU memory for {of} of {width}x{height} (width x height)"

    def fits(part: Tensor) -> bool:
        torch.cuda.empty_cache()
        try:
            return not isinstance(ask(part), _TooLarge)
        except InputError:  # such as a network that takes one size only
            return False

    while count > 1:
        count //= 2
        if fits(batch[:count]):
            return f"{message}: a batch of {count} fits; use --batch {count}"
    alone = " --batch 1" if len(batch) > 1 else ""
    while max(height, width) > SMALLEST_WINDOW:
        height, width = (height // 2, width) if height > width else (height, width // 2)
        if fits(batch[:1, :, :height, :width]):
            window = f"{height}x{width}"
            return f"{message}: a window of {window} (height x width) fits; use --window {window}{alone}"
    return f"{message}: no smaller batch or window runs either; free memory on the GPU, or use another device"


def resize_labels(labels: Tensor, size: Size) -> Tensor:
    """Resize class labels: each cell gets the label at its centre. Shape: ``(H, W)`` -> ``size``, int64."""
    return F.interpolate(labels[None, None].float(), size, mode="nearest-exact")[0, 0].long()


def _tent(length: int, device: torch.device) -> Tensor:
    """Weights that fall linearly from the middle to both ends and stay above 0."""
    place = torch.arange(length, device=device, dtype=torch.float32) + 0.5
    return torch.minimum(place, length - place) * (2 / length)


def _resized(maps: Tensor, size: Size) -> Tensor:
    if maps.shape[2:] == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", antialias=True)
