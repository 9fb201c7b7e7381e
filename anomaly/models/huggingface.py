"""Adapter for segmentation networks of Hugging Face ``transformers``, with the preprocessing of their processor."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING,
    MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES,
    MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING,
    MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES,
)

from anomaly.errors import InputError
from anomaly.frames import Image, check_image
from anomaly.models.base import Prediction
from anomaly.models.checkpoints import read_safely
from anomaly.models.checks import MapChecks, as_float32
from anomaly.models.evaluation_mode import Steady, evaluation_mode
from anomaly.models.hub import PICKLED, SAFETENSORS, local_folder, quiet_transformers
from anomaly.models.tiling import Inference, Size
from anomaly.models.torch import move_pixels, pick_device, weights_record
from anomaly.models.user_code import user_code
from anomaly.utils.file_records import file_record
from anomaly.utils.names import check_distinct

SEMANTIC = frozenset(MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES.values())
UNIVERSAL = frozenset(MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES.values()) - {
    "DetrForSegmentation",  # its masks are those of objects, without the surroundings
    "VideomtForUniversalSegmentation",  # takes several images of a video
}
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
PREPARES = {"resize", "rescale", "normalize", "pad", "convert_rgb", "flip_channel_order", "reduce_labels"}
LEFT_OUT = {"center_crop", "split_image"}
ONE_SIZE = "if the network takes one size only, set it in the processor's config, and use no windows and scales"
TASK = "the task is semantic"
"""What OneFormer is asked."""


def load_huggingface(
    spec: str | Path, *, device: str | torch.device | None = None, allow_pickle: bool = False
) -> HuggingFaceModel:
    """Load a network and its image processor from a folder of ``save_pretrained``, or from the hub.

    Code from the folder or the hub is never executed.

    Args:
        spec: The folder, or a hub id such as ``"nvidia/segformer-b0-finetuned-cityscapes-1024-1024"``, which is
            downloaded once.
        device: Device such as ``"cuda:1"``. Default: CUDA if available, else the CPU.
        allow_pickle: Whether weights may come from a ``pytorch_model.bin`` where there are no safetensors. Only tensors
            and plain containers are loaded from it.

    Raises:
        InputError: The hub cannot be reached, a file is missing or damaged, or the network is not one for semantic or
            universal segmentation.
    """
    spec = str(spec)
    folder = local_folder(spec, allow_pickle=allow_pickle)
    kind = _architecture(folder, spec)
    weights = _weights(folder, spec, allow_pickle)
    if weights[0].suffix != ".safetensors":
        for path in weights:  # tells what else than tensors is in it
            read_safely(path)
    if not any(_settings(folder / name) for name in PROCESSORS):
        raise InputError(
            f"{spec}: expected an image processor ({PROCESSORS[0]}), found none; save the one that the network was "
            "trained with there: processor.save_pretrained(FOLDER)"
        )
    with quiet_transformers():
        try:
            mapping = MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING
            mapping = mapping if kind in SEMANTIC else MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            network, found = mapping[type(config)].from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=weights[0].suffix == ".safetensors",
                weights_only=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            processor = AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, backend="pil"
            )
            task = _task(folder) if kind.startswith("OneFormer") else None
        except Exception as error:  # the library passes on any error of its readers
            reason = re.sub(r"\s+", " ", str(error)).strip()[:300]
            raise InputError(
                f"{spec}: expected a network and a processor that transformers can read, found "
                f"{type(error).__name__}: {reason}; save or download them again"
            ) from error
    if misshapen := sorted(found["mismatched_keys"]):
        key, theirs, ours = misshapen[0]
        raise InputError(
            f"{spec}: expected weights of the shapes of config.json, whose id2label names {config.num_labels} classes, "
            f"found {key} of shape {tuple(theirs)} in place of {tuple(ours)}; correct config.json"
        )
    if absent := sorted(found["missing_keys"]):
        raise InputError(
            f"{spec}: expected weights of the whole {kind}, found none for {len(absent)} tensors, such as {absent[0]}; "
            "save the trained network again"
        )
    model = HuggingFaceModel(network, processor, device=device, task=task, name=_name(spec))
    model.inputs = {"model": _record(folder, spec, weights)}
    return model


class HuggingFaceModel:
    """Model made of a segmentation network of Hugging Face ``transformers`` and its image processor.

    Networks for semantic segmentation (SegFormer, BEiT, UPerNet, DPT, ...) give logits, and the features of their last
    layer if that is a convolution. Networks for universal segmentation (MaskFormer, Mask2Former, OneFormer, EoMT) give
    class probabilities and masks of their queries, and the pixel decoder's embedding of each pixel as features.

    The processor prepares images as it always does (resizing, padding, normalisation), with two exceptions, because
    every pixel is scored: it does not crop, and a processor that splits an image (EoMT's) leaves that to sliding
    windows of the same size. Padding is cut off the predictions. Score maps are resized to the image.

    Args:
        network: A network such as ``SegformerForSemanticSegmentation``; moved to ``device``. It is in evaluation mode
            during each call, and then as before.
        processor: Its image processor. Those without torchvision (PIL) are enough.
        device: Device such as ``"cuda:1"``. Default: CUDA if available, else the CPU.
        classes: Names of the classes, in the order of the logits. Default: ``network.config.id2label``, unless these
            are only numbered.
        task: Tokens of OneFormer's task. Shape: ``(1, 77)``, int64. :func:`anomaly.load_model` makes them.
        name: Name in tables. Default: the type of the network.

    Attributes:
        network: The network.
        device: Its device.
        inference: Sliding windows, if the processor splits images; None otherwise.
        resizes: Whether the processor resizes images, so that windows are cut from the resized image.
        inputs: Files that it was loaded from, with checksums, for results.

    Raises:
        InputError: The network is none of these kinds, or the processor changes images in an unknown way.
    """

    def __init__(
        self,
        network: Any,
        processor: Any,
        *,
        device: str | torch.device | None = None,
        classes: tuple[str, ...] | None = None,
        task: Tensor | None = None,
        name: str | None = None,
    ) -> None:
        kind = next((base.__name__ for base in type(network).__mro__ if base.__name__ in SEMANTIC | UNIVERSAL), None)
        if kind is None:
            raise _other_architecture("network", type(network).__name__)
        if kind.startswith("OneFormer") and task is None:
            raise InputError(
                "task: expected the tokens of OneFormer's task, found none; save the network with its processor and "
                "pass the folder to anomaly.load_model"
            )
        if not all(hasattr(processor, name) for name in ("preprocess", "to_dict")):
            raise InputError(
                f"processor: expected an image processor of transformers, found {type(processor).__name__}; pass the "
                "one that the network was trained with"
            )
        self.device = pick_device(device)
        self.network = network.to(self.device)
        self.classes = class_names(network.config.id2label) if classes is None else tuple(classes)
        check_distinct(self.classes, "classes", "correct id2label in the config of the network")
        self._kind, self._name, self._processor, self._task = kind, name, processor, task
        self._how = _preprocessing(processor)
        self.inference: Inference | None = None
        if getattr(processor, "do_split_image", None):
            side = int(processor.size["shortest_edge"])
            self.inference = Inference(window=(side, side), stride=(side, side))
        self._padding: dict[Size, tuple[Size, Tensor]] = {}
        self._seen: nn.Module | None = _seen_layer(network, kind)
        self._steady, self._check = Steady(), MapChecks(self.classes, kind)
        self.resizes = bool(getattr(processor, "do_resize", False))
        self.inputs: dict[str, dict[str, Any]] = {}
        fields = {"logits"} if kind in SEMANTIC else {"query_class_prob", "mask_logits"}
        self.gives = frozenset(fields | ({"features"} if self._seen is not None else set()))

    def __repr__(self) -> str:
        return f"<HuggingFaceModel {self._name or self._kind}: {self._kind}, {len(self.classes) or 'unnamed'} classes>"

    @property
    def record(self) -> dict[str, Any]:
        """Name, type, preprocessing and a hash of the present weights, for results."""
        named = {"name": self._name or self._kind, "type": self._kind, "preprocessing": self._how}
        return {**named, **weights_record(self.network)}

    def prepare(self, image: Image) -> Tensor:
        """Preprocess one RGB image with the processor, and cut off padding, which ``__call__`` adds again.

        The processor runs on the CPU.

        Args:
            image: RGB image. Shape: ``(H, W, 3)``, uint8.

        Returns:
            The input of the network, on its device. Shape: ``(3, h, w)``, float32.

        Raises:
            InputError: ``image`` has another shape or type, or the processor cannot prepare it, or pads it elsewhere
                than below and on the right.
        """
        check_image(image)
        found = self._process(image)
        whole: Tensor = found["pixel_values"][0].float()
        if "pixel_mask" in found:
            mask = found["pixel_mask"][0] > 0
            size = (int(mask.any(1).sum()), int(mask.any(0).sum()))
        elif getattr(self._processor, "do_pad", None):
            inner = self._process(image, do_pad=False)["pixel_values"][0].float()
            size = (inner.shape[1], inner.shape[2])
            if not torch.equal(whole[:, : size[0], : size[1]], inner):
                raise InputError(
                    f"{type(self._processor).__name__}: expected padding below and on the right, found it elsewhere; "
                    "set do_pad to false in the processor's config"
                )
        else:
            return move_pixels(whole, self.device)
        padded = (whole.shape[1], whole.shape[2])
        if size != padded:
            self._padding[size] = (padded, whole[:, -1, -1].clone())
        return move_pixels(whole[:, : size[0], : size[1]].contiguous(), self.device)

    def _process(self, image: Image, **settings: Any) -> Mapping[str, Tensor]:
        left_out = {f"do_{name}": False for name in LEFT_OUT if getattr(self._processor, f"do_{name}", None)}
        try:
            found: Mapping[str, Tensor] = self._processor.preprocess(
                images=image, return_tensors="pt", input_data_format="channels_last", **left_out, **settings
            )
        except (TypeError, ValueError, KeyError, IndexError, RuntimeError) as error:
            raise InputError(
                f"{type(self._processor).__name__} cannot prepare an image of {image.shape[1]}x{image.shape[0]}: "
                f"{type(error).__name__}: {error}; correct the processor's config"
            ) from error
        return found

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Prediction:
        """Predict a batch of inputs of one size.

        Args:
            inputs: Images from :meth:`prepare`, or views of them. Shape: ``(B, 3, h, w)``, float32.

        Raises:
            InputError: The network does not take inputs of this size, or returns something else than its kind does.
        """
        size = (inputs.shape[2], inputs.shape[3])
        padded, value = self._padding.get(size, (size, None))
        inputs = inputs.to(self.device, next(self.network.parameters()).dtype)
        if value is not None:
            canvas = value.to(inputs)[None, :, None, None].expand(len(inputs), -1, *padded).clone()
            canvas[:, :, : size[0], : size[1]] = inputs
            inputs = canvas
        with evaluation_mode(self.network):
            maps: dict[str, Any] = dict(self._steady(self._ask, inputs))
        return Prediction(**maps, covers=padded)

    def _ask(self, inputs: Tensor) -> dict[str, Tensor]:
        more: dict[str, Tensor] = {}
        if self._task is not None:
            more["task_inputs"] = self._task.to(self.device).expand(len(inputs), -1)
        call = f"{self._kind} on an input of {inputs.shape[3]}x{inputs.shape[2]} (width x height)"
        with _outputs_of(self._seen) as seen, user_code(call, ONE_SIZE):
            found = self.network(pixel_values=inputs, **more)
        if self._kind in SEMANTIC:
            maps = {"logits": as_float32(found.logits, "logits", self._kind)}
        else:
            prob = found.class_queries_logits.float().softmax(dim=-1)
            masks = as_float32(found.masks_queries_logits, "masks", self._kind)
            maps = {"query_class_prob": prob, "mask_logits": masks}
        if self._seen is not None:
            maps["features"] = seen[-1].float()
        self._check(maps, len(inputs))
        return maps


def class_names(id2label: Mapping[Any, str]) -> tuple[str, ...]:
    """Names of the classes in the order of the logits; empty if the config only numbers them (``LABEL_0``).

    Args:
        id2label: ``config.id2label`` of a network, keyed by number.

    Raises:
        InputError: The numbers are not 0 to C - 1.
    """
    numbers = sorted(map(int, id2label))
    if numbers != list(range(len(numbers))):
        raise InputError(
            f"id2label: expected the classes 0 to {len(numbers) - 1}, found {numbers[:1]} to {numbers[-1:]} with gaps; "
            "correct the config of the network"
        )
    names = tuple(str(id2label[key]) for key in sorted(id2label, key=int))
    return () if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names


def _architecture(folder: Path, spec: str) -> str:
    """Name of the network's class, of a kind that is supported; nothing in the folder is executed."""
    config = _settings(folder / "config.json")
    if not config:
        raise InputError(
            f"{spec}: expected the config.json of a network of transformers, found none that can be read; give a "
            "folder of save_pretrained"
        )
    kinds, family = config.get("architectures"), str(config.get("model_type"))
    kind = str(kinds[0]) if isinstance(kinds, list) and kinds else "nothing"
    if family not in CONFIG_MAPPING_NAMES:
        own = "custom code, which is never executed" if config.get("auto_map") else "an unknown model_type"
        raise InputError(
            f"{spec}: expected a network that transformers itself has, found {own} ({family}); use another network, or "
            "wrap it in a Python file and pass --model FILE.PY:NAME"
        )
    if kind not in SEMANTIC | UNIVERSAL:
        raise _other_architecture(spec, kind)
    return kind


def _settings(path: Path) -> dict[str, Any]:
    """The settings in a JSON file; empty if there is no such file, or something else in it."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _other_architecture(what: str, kind: str) -> InputError:
    known = ", ".join(sorted(name.rpartition("For")[0] for name in SEMANTIC | UNIVERSAL))
    return InputError(
        f"{what}: expected a network for semantic or universal segmentation, found {kind}; use one of {known}"
    )


def _weights(folder: Path, spec: str, allow_pickle: bool) -> list[Path]:
    """The files with the weights: safetensors, or pickled ones if these are allowed."""
    if found := sorted(folder.glob(SAFETENSORS[0])):
        return found
    pickled = sorted(folder.glob(PICKLED[0]))
    if pickled and allow_pickle:
        return pickled
    if pickled:
        raise InputError(
            f"{spec}: expected weights in safetensors, found only {pickled[0].name}, which is a pickle; save the "
            "network again with save_pretrained, or pass --allow-pickle (allow_pickle=True) to read tensors from it"
        )
    raise InputError(
        f"{spec}: expected weights (model.safetensors), found none; save the network there with save_pretrained"
    )


def _name(spec: str) -> str:
    return Path(spec).resolve().name if Path(spec).is_dir() else spec.rpartition("/")[2]


def _task(folder: Path) -> Tensor:
    """Tokens of OneFormer's task, as its processor makes them. Shape: ``(1, 77)``, int64."""
    length = int(_settings(folder / "config.json").get("task_seq_len") or 77)
    tokens = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)(
        [TASK], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    return tokens["input_ids"] * tokens["attention_mask"]


def _record(folder: Path, spec: str, weights: list[Path]) -> dict[str, Any]:
    """Path or hub id, and SHA-256 of everything that the prediction depends on."""
    names = ["config.json", *(name for name in PROCESSORS if (folder / name).is_file()), *(one.name for one in weights)]
    files = {name: file_record(folder / name)["sha256"] for name in names}
    found: dict[str, Any] = {"path": spec, "sha256": hashlib.sha256(json.dumps(files).encode()).hexdigest()}
    if not Path(spec).is_dir():
        found["revision"] = folder.name
    return {**found, "files": files}


def _preprocessing(processor: Any) -> dict[str, Any]:
    """What a processor does to images, for results.

    Raises:
        InputError: It does something that is not known here, so that pixels could not be found again.
    """
    settings = processor.to_dict()
    done = {name.removeprefix("do_"): value for name, value in settings.items() if name.startswith("do_") and value}
    if unknown := sorted(done.keys() - PREPARES - LEFT_OUT):
        raise InputError(
            f"{type(processor).__name__}: expected a processor that resizes, pads and normalises images, found one "
            f"with do_{unknown[0]}; set it to false in the processor's config"
        )
    of_steps = {
        "resize": ("size", "resample", "keep_aspect_ratio", "ensure_multiple_of", "size_divisor"),
        "rescale": ("rescale_factor",),
        "normalize": ("image_mean", "image_std"),
    }
    names = [name for step, of_step in of_steps.items() if step in done for name in of_step] + ["pad_size"]
    kept = {name: _plain(settings[name]) for name in names if settings.get(name) is not None}
    left_out = dict.fromkeys(done.keys() & LEFT_OUT, "left out")
    return {"processor": type(processor).__name__.removesuffix("Pil"), "steps": sorted(done.keys() & PREPARES)} | {
        **kept,
        **left_out,
        "maps": "resized bilinearly to the input, padding cut off, then resized bilinearly to the image",
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping) or hasattr(value, "items"):
        return {str(key): _plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _seen_layer(network: Any, kind: str) -> nn.Module | None:
    """The module whose input or output is the feature of each pixel; None without one."""
    if kind in UNIVERSAL:
        found = getattr(network, "upscale_block", None) or getattr(network.model, "pixel_level_module", None)
        return found
    last = None
    for name, module in network.named_modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.out_channels == network.config.num_labels
            and "auxiliary" not in name
        ):
            last = module
    return last


@contextmanager
def _outputs_of(module: nn.Module | None) -> Iterator[list[Tensor]]:
    """Record the pixel features that a module takes (a convolution) or gives (a pixel decoder) in the context."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        if isinstance(module, nn.Conv2d):
            seen.append(inputs[0])
        else:
            names = ("decoder_last_hidden_state", "decoder_last_feature")
            seen.append(output if isinstance(output, Tensor) else next(output[one] for one in names if one in output))

    if module is None:
        yield seen
        return
    handle = module.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
