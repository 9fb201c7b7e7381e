"""Any mmseg segmentor as a :class:`anomaly.detectors.Detector`."""

from __future__ import annotations

import copy
from typing import Any

import cv2
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.datasets.transforms import LoadImageFromNDArray
from mmseg.models import BaseSegmentor
from mmseg.registry import DATASETS, MODELS
from torch import Tensor

from anomaly.detectors import Prediction
from anomaly.errors import InputError
from anomaly.labels import Image

_LOADERS = ("LoadImageFromFile", "LoadAnnotations")


def pick_device(name: str | None) -> torch.device:
    """Give the device of that name; without a name CUDA where there is one, else the CPU.

    Raises:
        InputError: torch does not know or does not have the device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r}: expected one that torch has here, such as cpu, found: {reason}") from error
    return device


def build_model(config: Config) -> BaseSegmentor:
    """Build the config's network without weights, asking for nothing pretrained: a checkpoint is to follow.

    Raises:
        InputError: The config describes no network, or one that cannot be built.
    """
    if "model" not in config:
        raise InputError(f"config {config.filename} has no 'model'; give the config of a segmentation network")
    init_default_scope(config.get("default_scope", "mmseg"))
    network = copy.deepcopy(config.model)
    _drop_pretrained(network)
    try:
        return MODELS.build(network)
    except (KeyError, TypeError, ImportError, AssertionError, ValueError, AttributeError) as error:
        if type(error).__name__ == "InputError":  # the network's own library says what to mend
            raise
        reason = str(error) or type(error).__name__
        raise InputError(f"config {config.filename}: its network cannot be built: {reason}") from error


class MMSegDetector:
    """Runs a segmentor on photographs, prepared and cut (whole or slide) as its config says.

    Predictions have the size of the network's input, before mmseg's resize to the photograph and without
    padding. A segmentor with a method ``infer(inputs, metas) -> (logits, class_log_likelihood)``, both
    ``(B, C, h, w)``, is a generative one; any other gives logits alone.

    Args:
        config: Its ``test_dataloader.dataset.pipeline`` (or ``test_pipeline``) is the preprocessing.
        model: The network; put into eval mode on ``device``.
        device: As torch names it.

    Raises:
        InputError: The config does not say how a photograph is prepared, or the network gives one logit a pixel.
    """

    def __init__(self, config: Config, model: BaseSegmentor, device: str | torch.device) -> None:
        if getattr(model, "out_channels", None) == 1:
            raise InputError(
                f"config {config.filename}: expected a network with a logit for each of at least two classes, found "
                "out_channels=1, whose softmax is 1 everywhere; train it again with out_channels=2"
            )
        init_default_scope(config.get("default_scope", "mmseg"))
        self._model = model.to(device).eval()
        self._pipeline = Compose([LoadImageFromNDArray(), *_test_transforms(config)])
        self._infer = getattr(model, "infer", None)
        generative = ("class_log_likelihood",) if self._infer else ()
        self.gives: frozenset[str] = frozenset(("logits", *generative))
        self.classes = _class_names(config)

    @torch.inference_mode()
    def __call__(self, image: Image) -> Prediction:
        """Predict one RGB photograph. Shape: ``(H, W, 3)``, uint8."""
        data = self._pipeline({"img": cv2.cvtColor(image, cv2.COLOR_RGB2BGR)})
        batch = self._model.data_preprocessor(pseudo_collate([data]), False)
        metas = [sample.metainfo for sample in batch["data_samples"]]
        if self._infer is None:
            return Prediction(_without_padding(self._model.inference(batch["inputs"], metas), metas[0]))
        logits, class_log_likelihood = self._infer(batch["inputs"], metas)
        return Prediction(_without_padding(logits, metas[0]), _without_padding(class_log_likelihood, metas[0]))


def _class_names(config: Config) -> tuple[str, ...]:
    """The classes of the config's validation data; none where it does not say."""
    settings = (config.get("val_dataloader") or {}).get("dataset") or {}
    dataset = DATASETS.get(settings["type"]) if settings.get("type") else None
    known = {**getattr(dataset, "METAINFO", {}), **(settings.get("metainfo") or {})}
    return tuple(known.get("classes") or ())


def _test_transforms(config: Config) -> list[dict[str, Any]]:
    """The config's test pipeline from the loaded image on, without the label."""
    try:
        transforms = config.test_dataloader.dataset.pipeline
    except AttributeError:
        transforms = config.get("test_pipeline")
    if not transforms:
        raise InputError(
            f"config {config.filename} has neither test_dataloader.dataset.pipeline nor test_pipeline; "
            "one of them must say how a photograph is prepared"
        )
    return [transform for transform in transforms if transform["type"].split(".")[-1] not in _LOADERS]


def _drop_pretrained(node: Any) -> None:
    """Take every request for pretrained weights out of a config, in place."""
    if isinstance(node, dict):
        node.update(dict.fromkeys(node.keys() & {"pretrained", "init_cfg"}))
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, dict | list | tuple):
            _drop_pretrained(value)


def _without_padding(maps: Tensor, meta: dict[str, Any]) -> Tensor:
    """Cut what the preprocessor padded. Shape: ``(1, C, H, W)`` to ``(C, h, w)``."""
    left, right, top, bottom = meta.get("img_padding_size", meta.get("padding_size", (0, 0, 0, 0)))
    height, width = maps.shape[2:]
    return maps[0, :, top : height - bottom, left : width - right].float()
