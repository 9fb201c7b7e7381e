"""Class mixtures over the pixel features of any model: of Hugging Face, a module, a network of mmsegmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly.errors import InputError
from anomaly.models.base import Model, Prediction
from anomaly.models.checkpoints import read_safely
from anomaly.models.loop import show
from anomaly.models.tiling import Inference
from anomaly.models.torch import weights_record
from anomaly.models.views import ImagePrediction, ViewPrediction, predict_image, resize_labels
from anomaly.utils.processes import ALONE, Processes
from gmmseg.posthoc.mixtures import ClassDensities, StratifiedSample

KIND = "mixtures of any model"
IGNORED = 255
Labelled = tuple[npt.NDArray[np.uint8], npt.NDArray[np.integer]]
_Pixels = tuple[tuple[int, int, list[Tensor]], list[Tensor]]
"""Numbers of classes and of features, and classes of labelled pixels, which every process needs; and their features."""


class MixtureModel:
    """A model with class log-likelihoods of its pixel features, besides all that it gives anyway.

    The features are those that the last layer of a network classifies, or the pixel decoder's embedding of each pixel
    in a mask classifier. They are scaled to unit length, because their length expresses the network's confidence.

    Args:
        model: A model that gives ``"features"``.
        densities: Mixtures of its classes, from :func:`fit_mixtures`.
        fitted_images: Hashes of the images that they were fitted to; evaluating these is an error.
        record: What is known of the fit, for results.

    Raises:
        InputError: The model gives no features, or has likelihoods of its own.
    """

    def __init__(
        self,
        model: Model,
        densities: ClassDensities,
        *,
        fitted_images: Iterable[str] = (),
        record: dict[str, Any] | None = None,
    ) -> None:
        _check_model(model)
        self._model = model
        self.device = getattr(model, "device", None) or torch.device("cpu")
        self._densities = densities.to(self.device)
        self.fitted_images = frozenset(fitted_images)
        self.classes = model.classes
        self.gives = frozenset({*model.gives, "class_log_likelihood", "component_log_prob", "component_peak"})
        self.inference: Inference | None = getattr(model, "inference", None)
        self.inputs: dict[str, Any] = dict(getattr(model, "inputs", {}))
        self._record = record or {}

    @property
    def record(self) -> dict[str, Any]:
        """Name and type of the model, and its mixtures, for results."""
        own = dict(getattr(self._model, "record", {"name": "model", "type": type(self._model).__name__}))
        return {**own, "mixtures": {**self._record, **weights_record(self._densities)}}

    def prepare(self, image: npt.NDArray[np.uint8]) -> Tensor:
        """Preprocess one RGB image as the model does. Shape: ``(H, W, 3)``, uint8 -> ``(3, h, w)``, float32."""
        return self._model.prepare(image)

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Prediction:
        """Predict a batch of inputs of one size, and add the log-likelihoods at the resolution of the class values.

        Args:
            inputs: Images from :meth:`prepare`, or views of them. Shape: ``(B, 3, h, w)``, float32.
        """
        found = self._model(inputs)
        features = unit_features(found)
        batch, _, height, width = features.shape
        rows = features.permute(0, 2, 3, 1).flatten(0, 2)
        with torch.autocast(features.device.type, enabled=False):
            components = self._densities.of_components(rows)
        maps = components.view(batch, height, width, *components.shape[1:]).movedim((1, 2), (-2, -1))
        likelihood = self._densities.of_classes(components).view(batch, height, width, -1).movedim(-1, 1)
        values = found.mask_logits if found.logits is None else found.logits
        if values is not None and values.shape[2:] != likelihood.shape[2:]:  # scores of both need one resolution
            likelihood = F.interpolate(likelihood, values.shape[2:], mode="bilinear")
        return replace(
            found, class_log_likelihood=likelihood, component_log_prob=maps, component_peak=self._densities.peak()
        )


def fit_mixtures(
    model: Model,
    images: Sequence[Any],
    read: Callable[[Any], Labelled],
    *,
    components: int = 5,
    pixels: int = 20_000,
    generator: torch.Generator,
    on_frame: Callable[[npt.NDArray[np.uint8]], None] = lambda image: None,
    processes: Processes = ALONE,
) -> tuple[ClassDensities, Tensor]:
    """Fit a mixture to the unit features of each class, in one pass over labelled images.

    Args:
        model: A model that gives ``"features"`` and classes.
        images: The images, in any form that ``read`` takes.
        read: Returns an image ``(H, W, 3)``, uint8, and the class of each pixel ``(H, W)``, 255 for none. It runs in
            another thread.
        components: Largest number of Gaussians per class.
        pixels: Largest number of pixels per class, lowered so that all classes together stay below 2 GiB.
        generator: CPU generator that draws pixels and the starting points of EM.
        on_frame: Called with each image of this process once the model has predicted it.
        processes: The processes that share the images, with generators in the same state.

    Returns:
        The mixtures, and the number of labelled pixels of each class. Shape: ``(C,)``, int64.

    Raises:
        InputError: The model gives no features or no classes, there is no image, a label is no class, or a feature is
            not finite.
    """
    _check_model(model)
    sample: StratifiedSample | None = None
    inference = getattr(model, "inference", None) or Inference()

    def ask(items: Sequence[Labelled]) -> Sequence[ImagePrediction]:
        return [predict_image(model, image, inference) for image, _ in items]

    def pixels_of(shown: Iterable[tuple[Labelled, ImagePrediction]]) -> Iterator[_Pixels]:
        for (image, labels), prediction in shown:
            first = prediction.views[0].prediction
            classes, dim = first.class_values().shape[1], first.field("features").shape[1]
            at_input = _at_input(labels, classes, prediction.size)
            views = [_labelled(one, at_input) for one in prediction.views]
            on_frame(image)
            yield (classes, dim, [kept for _, kept in views]), [features for features, _ in views]

    with closing(show(processes.in_turn(images), read, ask)) as shown:
        for (classes, dim, views), own in processes.in_order(len(images), pixels_of(shown), lambda each: each[0]):
            if sample is None:
                most = min(pixels, max(1, 2**29 // (classes * dim)))
                sample = StratifiedSample(classes, most, dim, generator)
            for features, labels in zip([None] * len(views) if own is None else own[1], views, strict=True):
                sample.add(features, labels)
    if sample is None:
        raise InputError("expected labelled images to fit mixtures to, found none; give a folder that has some")
    sample.gather(processes)
    densities = ClassDensities(len(sample.seen), components, dim)
    densities.fit(sample, generator)
    return densities, sample.seen


def unit_features(prediction: Prediction) -> Tensor:
    """Features of a prediction, scaled to unit length. Shape: ``(B, D, h, w)``, float32."""
    return F.normalize(prediction.field("features").float(), dim=1)


def _check_model(model: Model) -> None:
    if "features" not in model.gives or not {"logits", "mask_logits"} & model.gives:
        raise InputError(
            f"expected a model that gives features and classes, found one that gives {', '.join(sorted(model.gives))}; "
            "mixtures cannot be fitted to it"
        )
    if "class_log_likelihood" in model.gives:
        raise InputError(
            "expected a model without likelihoods of its own, found one that has some; use it as it is, or gmmseg fit "
            "CONFIG CHECKPOINT --frozen"
        )


def _at_input(labels: npt.NDArray[np.integer], classes: int, size: tuple[int, int]) -> Tensor:
    """Labels at the size of the network's input, -1 where there is no class. Shape: ``(H, W)`` -> ``size``, int64."""
    found = torch.from_numpy(labels.astype(np.int64))
    found = torch.where(found == IGNORED, -1, found)
    if undefined := found[(found < -1) | (found >= classes)].unique().tolist():
        raise InputError(
            f"label maps: expected the classes 0 to {classes - 1} of the network and {IGNORED} (ignored), found also "
            f"{undefined[:5]}; use the network's class indices"
        )
    return resize_labels(found, size)


def _labelled(one: ViewPrediction, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Features ``(n, D)`` and classes ``(n,)`` of the labelled pixels of a view."""
    classes = one.labels(labels, "features").flatten()
    rows = unit_features(one.prediction).permute(0, 2, 3, 1).flatten(0, 2)
    kept = rows[(classes >= 0).to(rows.device)]
    if not kept.isfinite().all():
        raise InputError("expected finite features, found NaN or infinity; the weights are damaged, use others")
    return kept, classes[classes >= 0]


def save_mixtures(path: Path, model: MixtureModel) -> None:
    """Write the mixtures of a model, but not the model itself, to a file of tensors and plain containers.

    Args:
        path: The file, ending in ``.pth``.
        model: The model with its mixtures.
    """
    header = {"kind": KIND, "model": _identity(model._model), "record": model._record}
    header["fitted_images"] = sorted(model.fitted_images)
    state = {name: values.cpu() for name, values in model._densities.state_dict().items()}  # the model stays in place
    torch.save({**header, "state_dict": state}, path)


def load_mixtures(path: str | Path, model: Model) -> MixtureModel:
    """Give a model the mixtures that ``gmmseg fit --model`` fitted to it.

    Args:
        path: File of :func:`save_mixtures`. Only tensors and plain containers are loaded from it.
        model: The model that they were fitted to.

    Raises:
        InputError: The file is missing, damaged or another one, or the model has other weights or other preprocessing.
    """
    if not Path(path).is_file():
        raise InputError(
            f"{path}: expected mixtures of `gmmseg fit --model`, found no file; move it along, or fit again"
        )
    found = read_safely(path)
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise InputError(f"{path}: expected mixtures of `gmmseg fit --model`, found another file; fit them again")
    try:
        own, fitted = _identity(model), dict(found["model"])
        state, record, images = found["state_dict"], dict(found["record"]), list(found["fitted_images"])
        densities = ClassDensities(*state["means"].shape)
        densities.load_state_dict(state)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: expected whole mixtures, found a damaged file; fit them again") from error
    if changed := sorted(key for key in {**own, **fitted} if own.get(key) != fitted.get(key)):
        raise InputError(
            f"{path}: expected the model that the mixtures were fitted to, found one with other {changed[0]}; fit them "
            "again"
        )
    return MixtureModel(model, densities, fitted_images=images, record=record)


def _identity(model: Model) -> dict[str, Any]:
    """What features depend on: all weights, and the preprocessing as the model records it."""
    record = {key: value for key, value in getattr(model, "record", {}).items() if key != "name"}
    return {**record, **weights_record(model)}
