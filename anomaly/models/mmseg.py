"""Adapter for networks of mmsegmentation: build from a config, load a checkpoint, predict."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmseg.datasets.transforms import LoadImageFromNDArray
from mmseg.models import BaseSegmentor
from mmseg.models.utils import resize
from mmseg.registry import DATASETS, MODELS
from mmseg.utils import stack_batch
from torch import Tensor, nn

from anomaly.errors import InputError
from anomaly.frames import Image
from anomaly.models.base import Prediction
from anomaly.models.checkpoints import check_classes, load_checkpoint_file, load_weights
from anomaly.models.evaluation_mode import Steady, evaluation_mode
from anomaly.models.tiling import Inference, sliding_windows
from anomaly.models.torch import move_pixels, pick_device, weights_hash
from anomaly.utils.file_records import config_record, file_record
from anomaly.utils.names import check_distinct
from anomaly.utils.shipped import find_shipped

_LOADERS = ("LoadImageFromFile", "LoadAnnotations")


def build_model(config: Config) -> BaseSegmentor:
    """Build the config's network without weights. Pretrained weights are not loaded, because a checkpoint follows.

    Raises:
        InputError: The config describes no network, or one that cannot be built.
    """
    if "model" not in config:
        raise InputError(
            f"config {config.filename}: expected a 'model', found none; use the config of a segmentation network"
        )
    if not isinstance(config.model, dict):
        raise InputError(
            f"config {config.filename}: expected a dict as 'model', found a {type(config.model).__name__}; if it is a "
            f"Python file that makes a model, write {config.filename}:model without a checkpoint"
        )
    init_default_scope(config.get("default_scope", "mmseg"))
    network = copy.deepcopy(config.model)
    _drop_pretrained(network)
    try:
        return MODELS.build(network)
    except (KeyError, TypeError, ImportError, AssertionError, ValueError, AttributeError) as error:
        if type(error).__name__ == "InputError":  # the network's own library already says what to correct
            raise
        reason = str(error) or type(error).__name__
        raise InputError(f"config {config.filename}: its network cannot be built: {reason}") from error


def read_config(path: str | Path) -> Config:
    """Read an mmengine config. A config is Python code, which is executed.

    Args:
        path: The file, or a config that is shipped with the package, such as ``configs/demo/NAME.py``.

    Raises:
        InputError: The file does not exist, or is not a config.
    """
    path = find_shipped(path)
    if not path.is_file():
        raise InputError(f"config {path} does not exist; give a file such as those in configs/")
    with quiet_mmengine():
        try:
            return Config.fromfile(path)
        except Exception as error:  # a config may raise anything
            raise InputError(f"config {path} cannot be read: {type(error).__name__}: {error}") from error


@contextmanager
def quiet_mmengine() -> Iterator[None]:
    """Suppress what mmengine logs about every variable of a config and about every initial weight."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)  # unlike logging.disable, this reaches mmengine's cache of what is logged
    try:
        yield
    finally:
        logger.setLevel(level)


def load_mmseg(
    config: str | Path | Config, checkpoint: str | Path, *, device: str | torch.device | None = None
) -> MMSegModel:
    """Build the config's network and load the checkpoint's weights.

    Args:
        config: Path of the config, or the config object.
        checkpoint: File with the weights. Only tensors and plain containers are loaded from it.
        device: Device such as ``"cuda:1"``. Default: CUDA if available, else the CPU.

    Raises:
        InputError: A file is missing or cannot be read, or the checkpoint belongs to another network or other classes.
    """
    config = config if isinstance(config, Config) else read_config(config)
    place, network = pick_device(device), build_model(config)
    loaded = load_checkpoint_file(checkpoint)
    load_weights(network, loaded["state_dict"], checkpoint)
    model = MMSegModel(config, network, place)
    if model.classes:
        check_classes(loaded, model.classes, checkpoint)
    model.checkpoint = loaded
    model.inputs = {
        "config": config_record(Path(config.filename), config.pretty_text),
        "checkpoint": file_record(find_shipped(checkpoint)),
    }
    if model.fitted_images:
        model.inputs["checkpoint"]["images"] = sorted(model.fitted_images)
    return model


class MMSegModel:
    """Model made of an mmsegmentation network, with the preprocessing of its config.

    Predictions have the resolution of the network's last feature map in two cases: if the segmentor has a method
    ``describe(inputs)`` that returns fields of :class:`anomaly.Prediction` by name (generative segmentors do), or if
    its decode head ends in mmseg's ``conv_seg``. Other networks give logits at the resolution of the input.

    Args:
        config: Its ``test_dataloader.dataset.pipeline`` (or ``test_pipeline``) defines the preprocessing.
        model: The network; moved to ``device``. It is in evaluation mode during each call, and then as before.
        device: A torch device or its name.

    Attributes:
        config: The config.
        network: The network.
        device: Its device.
        inference: Sliding windows of the config's ``test_cfg``.
        record: Name and type, for results.
        inputs: Files that it was loaded from, with checksums, for results.
        linear: Weight ``(C, D)`` and bias ``(C,)`` of the last layer, which maps features to logits; None without such
            a layer.

    Raises:
        InputError: The config does not define the preprocessing, or the network gives one logit per pixel.
    """

    def __init__(self, config: Config, model: BaseSegmentor, device: str | torch.device) -> None:
        if getattr(model, "out_channels", None) == 1:
            raise InputError(
                f"config {config.filename}: expected a network with at least two logits per pixel, found "
                "out_channels=1, "
                "whose softmax is 1 everywhere; train it again with out_channels=2"
            )
        init_default_scope(config.get("default_scope", "mmseg"))
        self.config = config
        self.network = self._model = model.to(device)
        self.device = torch.device(device)
        self.inference = config_inference(config)
        kind = (config.get("model") or {}).get("type", type(model).__name__)
        self.record = {"name": Path(config.filename or "network").stem, "type": kind}
        self.inputs: dict[str, dict[str, Any]] = {}
        self.checkpoint: dict[str, Any] = {}
        self._steady = Steady()
        self._pipeline = Compose([LoadImageFromNDArray(), *_test_transforms(config)])
        self._normalise = copy.deepcopy(model.data_preprocessor).to(self.device).eval()
        self._padding = dict(getattr(self._normalise, "test_cfg", None) or {})
        self._normalise.test_cfg = None  # __call__ pads, so that windows are padded in the same way
        self._describe = getattr(model, "describe", None)
        self._last: nn.Conv2d | None = None if self._describe else _last_layer(model)
        self._ends_there: bool | None = None  # whether the output of the last layer is the logits
        self.align_corners = bool(getattr(model, "align_corners", False))
        self.classes = _class_names(config)
        check_distinct(self.classes, "classes", "correct the metainfo of the config's dataset")
        self.gives: frozenset[str] = frozenset(
            getattr(model, "describes", ()) or (("logits",) if self._last is None else ("logits", "features"))
        )
        if getattr(model, "num_classes", None) == 1:  # a generative network: its likelihood is still informative
            self.gives -= {"logits"}
        self.linear = _linear(self._last)

    @property
    def weights(self) -> str:
        """SHA-256 of the network's weights, without what only training uses."""
        return weights_hash(self.network.state_dict())

    @property
    def fitted_images(self) -> frozenset[str]:
        """Hashes of the images that mixtures were fitted to after training, as recorded in the checkpoint."""
        meta = self.checkpoint.get("meta")
        record = meta.get("posthoc") if isinstance(meta, dict) else None
        images = record.get("fitted_images") if isinstance(record, dict) else None
        return frozenset(map(str, images)) if isinstance(images, (list, tuple)) else frozenset()

    def prepare(self, image: Image) -> Tensor:
        """Preprocess one RGB image.

        The transforms of the config run on the CPU. What they return, usually uint8, is normalised on the device.

        Args:
            image: RGB image. Shape: ``(H, W, 3)``, uint8.

        Returns:
            The input of the network, on its device. Shape: ``(3, h, w)``, float32.

        Raises:
            InputError: The config's test pipeline cannot prepare the image.
        """
        try:
            data = self._pipeline({"img": cv2.cvtColor(image, cv2.COLOR_RGB2BGR)})
        except (TypeError, ValueError, KeyError, AssertionError) as error:
            raise InputError(
                f"the config's test pipeline cannot prepare an image of {image.shape[1]}x{image.shape[0]}: "
                f"{type(error).__name__}: {error}; correct its settings"
            ) from error
        data["inputs"] = move_pixels(data["inputs"], self.device)
        inputs: Tensor = self._normalise(pseudo_collate([data]), False)["inputs"][0]
        return inputs

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Prediction:
        """Predict a batch of inputs of one size. Shape: ``(B, 3, h, w)``."""
        inputs = inputs.to(self.device)
        if self._padding:
            inputs = stack_batch(list(inputs), pad_val=self._normalise.pad_val, **self._padding)[0]
        size = (inputs.shape[2], inputs.shape[3])
        with evaluation_mode(self._model):
            maps: dict[str, Any] = dict(self._steady(self._ask, inputs))
        return Prediction(**maps, covers=size, align_corners=self.align_corners)

    def _ask(self, inputs: Tensor) -> dict[str, Tensor]:
        maps = self._logits(inputs) if self._describe is None else self._describe(inputs)
        return {name: found.float() for name, found in maps.items()}

    def _logits(self, inputs: Tensor) -> dict[str, Tensor]:
        """Logits, and the features of the last layer if there is one."""
        metas = [dict.fromkeys(("ori_shape", "img_shape", "pad_shape"), inputs.shape[2:])] * len(inputs)
        with _calls_of(self._last) as calls:
            logits = self._model.encode_decode(inputs, metas)
        if not calls:
            return {"logits": logits}
        features, small = calls[-1]
        if self._ends_there is None:  # checked once: it is a property of the head
            resized = resize(small, inputs.shape[2:], mode="bilinear", align_corners=self.align_corners).float()
            same = resized.shape == logits.shape and torch.allclose(resized, logits.float(), rtol=1e-3, atol=1e-3)
            self._ends_there = bool(same)
        if self._ends_there and self._last is not None:
            if small.dtype != self._last.weight.dtype:  # bfloat16 logits have 8 bits, too few to rank pixels
                with torch.autocast(inputs.device.type, enabled=False):
                    small = self._last(features.to(self._last.weight.dtype))
            return {"logits": small, "features": features}
        return {"logits": logits, "features": resize(features.float(), inputs.shape[2:], mode="bilinear")}


def _last_layer(model: BaseSegmentor) -> nn.Conv2d | None:
    """The convolution that maps features to logits; None if mmseg's decode head has none."""
    heads = getattr(model, "decode_head", None)
    head = heads[-1] if isinstance(heads, nn.ModuleList) else heads
    last = getattr(head, "conv_seg", None)
    return last if isinstance(last, nn.Conv2d) and last.out_channels == getattr(model, "out_channels", None) else None


def _linear(layer: Any) -> tuple[Tensor, Tensor] | None:
    if not isinstance(layer, nn.Conv2d) or layer.kernel_size != (1, 1) or layer.bias is None:
        return None
    return layer.weight.detach().flatten(1).cpu(), layer.bias.detach().cpu()


@contextmanager
def _calls_of(layer: nn.Module | None) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Record inputs and outputs of a layer while the context lasts."""
    calls: list[tuple[Tensor, Tensor]] = []
    if layer is None:
        yield calls
        return
    handle = layer.register_forward_hook(lambda _, inputs, output: calls.append((inputs[0], output)))
    try:
        yield calls
    finally:
        handle.remove()


def config_inference(config: Config) -> Inference:
    """Inference settings with the sliding windows of the config's ``model.test_cfg``.

    Raises:
        InputError: The windows are invalid.
    """
    found = sliding_windows((config.get("model") or {}).get("test_cfg"))
    return Inference() if found is None else Inference(window=found[0], stride=found[1])


def _class_names(config: Config) -> tuple[str, ...]:
    """Class names of the config's validation data; empty if the config does not say."""
    settings = (config.get("val_dataloader") or {}).get("dataset") or {}
    dataset = DATASETS.get(settings["type"]) if settings.get("type") else None
    known = {**getattr(dataset, "METAINFO", {}), **(settings.get("metainfo") or {})}
    return tuple(known.get("classes") or ())


def _test_transforms(config: Config) -> list[dict[str, Any]]:
    """The config's test pipeline after loading, without the label."""
    try:
        transforms = config.test_dataloader.dataset.pipeline
    except AttributeError:
        transforms = config.get("test_pipeline")
    if not transforms:
        raise InputError(
            f"config {config.filename}: expected test_dataloader.dataset.pipeline or test_pipeline, which define the "
            "preprocessing, found neither; add one"
        )
    return [transform for transform in transforms if transform["type"].split(".")[-1] not in _LOADERS]


def _drop_pretrained(node: Any) -> None:
    """Remove every request for pretrained weights from a config, in place."""
    if isinstance(node, dict):
        node.update(dict.fromkeys(node.keys() & {"pretrained", "init_cfg"}))
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, dict | list | tuple):
            _drop_pretrained(value)
