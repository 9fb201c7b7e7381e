"""Frozen, pretrained networks that turn images into feature maps: EfficientNet-Lite, transformers, or any module."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anomaly.errors import InputError
from anomaly.models import efficientnet_lite
from anomaly.models.evaluation_mode import Steady, evaluation_mode, state_kept
from anomaly.models.hub import local_folder, quiet_transformers
from anomaly.models.loading import call_factory, is_factory, names_huggingface, run_file
from anomaly.models.torch import Channels, check_normalisation, pick_device, weights_record
from anomaly.models.transformers_backbone import TransformersBackbone, stored_settings
from anomaly.models.user_code import user_code
from anomaly.utils.file_records import file_record
from anomaly.utils.optional import needs

LITE = {f"efficientnet-lite{size}": size for size in efficientnet_lite.CHANNELS}
FORMS = f"{', '.join(LITE)}, a folder or hub id of Hugging Face, FILE.PY:NAME, or an nn.Module"
PROCESSOR = "preprocessor_config.json"
SIDE = 224
"""Sides of the image on which channels and strides are measured: whole cells at the strides 4, 8, 14, 16 and 32."""

Maps = Iterable[tuple[int, int]]
"""Channels and stride of each map."""
Normalisation = tuple[Channels, Channels]
Device = str | torch.device | None


class Backbone:
    """A frozen network that turns RGB images into feature maps, with the normalisation that it was trained with.

    The network runs without gradients and in evaluation mode; its training flags are restored after each call. When
    the backbone is made, the network is shown one image twice: a warning says if its maps are random.

    Args:
        network: Receives normalised images ``(B, 3, h, w)``, float32, of any size, and returns a map
            ``(B, C, h', w')`` or a sequence of maps, finest first. It is moved to ``device``.
        mean: Mean of each RGB channel on the scale 0..1, subtracted from the image.
        std: Standard deviation of each channel, by which the difference is divided.
        stages: Numbers of the maps to give, in increasing order; 0 is the first that the network returns, and negative
            ones count from the end. Default: all.
        device: Device such as ``"cuda:1"``. Default: CUDA if available, else the CPU.
        record: More entries for ``record``, in place of those of the same name.

    Attributes:
        network: The network.
        device: Its device.
        channels: Number of channels of each map.
        strides: Input pixels for each cell of each map, along a side, rounded to a whole number. They are measured on
            an image of ``SIDE`` x ``SIDE`` pixels.
        record: What identifies the backbone and its preprocessing: the ``type`` of the network, SHA-256 of its
            ``weights`` if it has any, ``mean``, ``std`` and the numbers of the ``stages``; of a Python file also the
            SHA-256 of the ``file``. ``spec``, if there is one, says where it was found; the same network may be found
            in several places.

    Raises:
        InputError: A stage or the normalisation is wrong, or the network fails, changes its own state, or returns
            something other than such maps.

    Examples:
        >>> edges = Backbone(nn.Conv2d(3, 8, 4, stride=4), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), device="cpu")
        >>> [tuple(each.shape) for each in edges(torch.zeros(1, 3, 64, 96))]
        [(1, 8, 16, 24)]
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        stages: Sequence[int] | None = None,
        device: str | torch.device | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        means, stds = check_normalisation(mean, std)
        self.device = pick_device(device)
        self.network = network.to(self.device)
        self._mean, self._std = (
            torch.tensor([255 * each for each in of], device=self.device)[:, None, None] for of in (means, stds)
        )
        self.record: dict[str, Any] = {"type": type(network).__name__, "mean": list(means), "std": list(stds)}
        self.record |= {**weights_record(network), **(record or {})}
        self._name = str(self.record.get("spec", self.record["type"]))
        self._count: int | None = None  # of maps, once they are measured
        self.channels: tuple[int, ...] = ()
        self.strides: tuple[int, ...] = ()
        every = self._measured()
        self._stages = list(range(len(every))) if stages is None else _numbers(stages, len(every), lambda: every)
        self._count = len(every)
        self.channels, self.strides = zip(*(every[stage] for stage in self._stages), strict=True)
        if list(self.strides) != sorted(self.strides):
            raise InputError(
                f"{self._name}: expected maps in the order from the finest to the coarsest, found strides of "
                f"{', '.join(map(str, self.strides))}; return them in that order"
            )
        self.record.setdefault("stages", self._stages)

    @torch.no_grad()
    def __call__(self, rgb: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps of images. Autocast is left to the caller.

        Args:
            rgb: Images with values 0 to 255. Shape: ``(B, 3, h, w)``, float32.

        Returns:
            The maps of the stages, finest first, on the device of the network. Shape: ``(B, channels[i], h_i, w_i)``,
            float32.

        Raises:
            InputError: ``rgb`` has another shape, the images are too small for the network, or the network fails or
                returns values that are not finite or maps of other shapes than before.
        """
        if rgb.ndim != 4 or rgb.shape[1] != 3:
            raise InputError(f"rgb: expected images (B, 3, h, w), found shape {tuple(rgb.shape)}; correct them")
        with evaluation_mode(self.network):
            maps = self._maps(rgb)
        found = tuple(maps[stage].float() for stage in self._stages)
        if (channels := tuple(each.shape[1] for each in found)) != self.channels:
            raise InputError(
                f"{self._name}: expected maps of {_listed(self.channels)} channels for images of every size, found "
                f"{_listed(channels)} for {_size(rgb)}; correct the network"
            )
        for stage, each in zip(self.record["stages"], found, strict=True):
            if not each.isfinite().all():
                raise InputError(
                    f"{self._name}: expected finite feature maps, found NaN or infinity in map {stage}; check the "
                    "image, the weights and the precision"
                )
        return found

    @torch.no_grad()
    def _measured(self) -> list[tuple[int, int]]:
        """Channels and stride of each map that the network returns."""
        image = torch.linspace(0, 255, 3 * SIDE * SIDE, device=self.device).reshape(1, 3, SIDE, SIDE)
        with evaluation_mode(self.network) as modules, state_kept(modules):
            maps = Steady()(lambda rgb: {f"map {i}": each for i, each in enumerate(self._maps(rgb))}, image)
        return [(each.shape[1], round(SIDE / each.shape[2])) for each in maps.values()]

    def _maps(self, rgb: Tensor) -> Sequence[Tensor]:
        """All maps that the network returns, of whatever float type."""
        small = self._count is not None and min(rgb.shape[2:]) < SIDE
        advice = f"give larger images ({SIDE}x{SIDE} were large enough)" if small else "correct the network"
        inputs = (rgb.to(self.device, torch.float32) - self._mean) / self._std
        with user_code(f"{self._name} on an image of {_size(rgb)}", advice):
            found = self.network(inputs)
        maps = [found] if isinstance(found, Tensor) else found
        if not isinstance(maps, list | tuple) or not maps or not all(isinstance(each, Tensor) for each in maps):
            raise InputError(
                f"{self._name}: expected a feature map (B, C, h, w) or a sequence of them, found "
                f"{type(found).__name__}; return tensors alone"
            )
        for each in maps:
            if each.ndim != 4 or len(each) != len(rgb) or not each.dtype.is_floating_point:
                raise InputError(
                    f"{self._name}: expected feature maps (B, C, h, w) of {len(rgb)} images and of a float type, found "
                    f"one of shape {tuple(each.shape)} and {each.dtype}; correct the network"
                )
            if not each.numel():
                raise InputError(
                    f"{self._name}: expected images that are large enough, found {_size(rgb)}, which gives a map of "
                    f"shape {tuple(each.shape)}; {advice}"
                )
        if self._count not in (None, len(maps)):
            raise InputError(
                f"{self._name}: expected {self._count} maps of every image, found {len(maps)} of {_size(rgb)}; correct "
                "the network"
            )
        return maps


def load_backbone(
    spec: str | Path | nn.Module,
    *,
    stages: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str | torch.device | None = None,
) -> Backbone:
    """Load a frozen, pretrained backbone from a specification.

    Args:
        spec: One of

            - ``"efficientnet-lite0"``, ``"efficientnet-lite1"``, ``"efficientnet-lite2"``: with the ImageNet weights
              of packages that the extra ``pretrained`` installs. Its maps have strides 4, 8, 16 and 32;
            - a folder of ``save_pretrained``, or the id of a model on the Hugging Face hub: any network of which
              ``transformers`` has a backbone (DINOv2, DINOv3, Swin, ConvNeXt, ResNet, ...), with weights in
              safetensors. Code from there is never executed. Images whose sides are not multiples of the patch size
              are resized to the nearest multiples. Map 0 is the stem; map i of a vision transformer is that after
              block i;
            - ``"file.py:name"``: an ``nn.Module`` that returns a map ``(B, C, h, w)`` or a sequence of maps, finest
              first, or a class or function that returns such a module when called without arguments. The file is
              executed;
            - such an ``nn.Module``.
        stages: Numbers of the maps, in increasing order; negative ones count from the end. Default: all maps; of
            Hugging Face those that the model's config names, or the last one.
        mean: Mean of each RGB channel on the scale 0..1. Default: with ``std``, the normalisation that the weights were
            trained with: 127/255 and 128/255 for EfficientNet-Lite; that of the image processor
            (``preprocessor_config.json``) of Hugging Face; the attributes ``mean`` and ``std`` of the module, or else
            of the file, for ``"file.py:name"``; none for an ``nn.Module``.
        std: Standard deviation of each channel.
        device: Device such as ``"cuda:1"``. Default: CUDA if available, else the CPU.

    Returns:
        The backbone.

    Raises:
        InputError: A package is not installed; a file, name or stage does not exist; there is no normalisation; the
            weights cannot be loaded; the network returns no maps; or ``spec`` is none of these.
    """
    if (mean is None) != (std is None):
        raise InputError(
            f"mean and std: expected both or none, found only {'std' if mean is None else 'mean'}; pass the other too"
        )
    given = None if mean is None or std is None else check_normalisation(mean, std)
    if isinstance(spec, nn.Module):
        if given is None:
            raise InputError(
                f"{type(spec).__name__}: expected the normalisation that the network was trained with, found none; "
                "pass mean= and std= on the scale 0..1"
            )
        return Backbone(spec, mean=given[0], std=given[1], stages=stages, device=device)
    text = str(spec)
    path, _, name = text.rpartition(":")
    if text in LITE:
        return _efficientnet(text, stages, given, device)
    if path.endswith(".py"):
        return _of_file(Path(path), name, stages, given, device)
    if names_huggingface(text):
        return _huggingface(text, stages, given, device)
    raise InputError(f"backbone: expected {FORMS}, found {text!r}; use one of these forms")


def _efficientnet(spec: str, stages: Sequence[int] | None, given: Normalisation | None, device: Device) -> Backbone:
    size = LITE[spec]
    maps = list(zip(efficientnet_lite.CHANNELS[size], efficientnet_lite.STRIDES, strict=True))
    numbers = list(range(len(maps))) if stages is None else _numbers(stages, len(maps), lambda: maps)
    network = efficientnet_lite.EfficientNetLite(size, pretrained=True, num_stages=numbers[-1] + 1)
    mean, std = given or (efficientnet_lite.MEAN, efficientnet_lite.STD)
    record = {"spec": spec, **weights_record(network)}  # those of the package, whatever rounding makes of them below
    network.fold_norms()
    return Backbone(network, mean=mean, std=std, stages=numbers, device=device, record=record)


def _huggingface(spec: str, stages: Sequence[int] | None, given: Normalisation | None, device: Device) -> Backbone:
    with needs("transformers", f"the backbone {spec}"):
        import transformers  # noqa: F401
    folder = local_folder(spec, what="backbone", use="give the folder in place of the id")
    mean, std = given or _of_processor(folder, spec)
    with quiet_transformers():
        count = len(getattr(stored_settings(str(folder)), "stage_names", None) or ())

    def every() -> Maps:
        one = Backbone(TransformersBackbone(str(folder), stages=range(count)), mean=mean, std=std, device="cpu")
        return zip(one.channels, one.strides, strict=True)

    numbers = stages if stages is None or not count else _numbers(stages, count, every)
    network = TransformersBackbone(str(folder), stages=numbers, frozen=True)
    network.load_weights()
    record = {
        "spec": spec,
        "type": type(network.network).__name__,
        "stages": [range(count)[index] for index in network.network.out_indices],
    }
    return Backbone(network, mean=mean, std=std, device=device, record=record)


def _of_processor(folder: Path, spec: str) -> Normalisation:
    """The normalisation of a model's image processor, for images scaled to 0..1."""
    try:
        settings = json.loads((folder / PROCESSOR).read_text())
        scale = 255 * settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 255
        used = settings.get("do_normalize", True)
        mean, std = (settings["image_mean"], settings["image_std"]) if used else ([0] * 3, [1] * 3)
        found = [each / scale for each in mean], [each / scale for each in std]
    except (OSError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        raise InputError(
            f"{spec}: expected the normalisation of an image processor ({PROCESSOR} with image_mean and image_std), "
            "found none that can be read; save the one that the network was trained with there "
            "(processor.save_pretrained(FOLDER)), or pass mean and std"
        ) from error
    if other := [name for name in ("do_flip_channel_order", "rescale_offset") if settings.get(name)]:
        raise InputError(
            f"{spec}: expected an image processor that rescales and normalises RGB images, found {other[0]} in "
            f"{PROCESSOR}; use another network, or pass FILE.PY:NAME of a module that does the same"
        )
    return check_normalisation(*found)


def _of_file(
    path: Path, name: str, stages: Sequence[int] | None, given: Normalisation | None, device: Device
) -> Backbone:
    spec = f"{path}:{name}"
    file = run_file(path, name)
    found = getattr(file, name)
    network = call_factory(found, spec) if is_factory(found) else found
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{spec}: expected an nn.Module, or a class or function without arguments that makes one, found "
            f"{type(network).__name__}; correct the file"
        )
    places: list[Any] = [each for each in (network, file) if hasattr(each, "mean") and hasattr(each, "std")]
    if given is None and not places:
        raise InputError(
            f"{spec}: expected the normalisation that the network was trained with, found none; define mean and std on "
            "the scale 0..1 in the file, or as attributes of the module"
        )
    mean, std = given or (places[0].mean, places[0].std)
    record = {"spec": spec, "file": file_record(path)["sha256"]}
    return Backbone(network, mean=mean, std=std, stages=stages, device=device, record=record)


def _numbers(stages: Sequence[int], count: int, maps: Callable[[], Maps]) -> list[int]:
    """The stages as numbers from 0; ``maps`` gives all there are, for the message."""
    try:
        numbers = [range(count)[stage] for stage in stages]
    except (IndexError, TypeError):
        numbers = []
    if not numbers or sorted(set(numbers)) != numbers:
        known = ", ".join(f"{i} ({channels} channels, stride {stride})" for i, (channels, stride) in enumerate(maps()))
        raise InputError(
            f"stages: expected numbers of maps in increasing order, of {known}, found {stages!r}; correct them"
        )
    return numbers


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _size(rgb: Tensor) -> str:
    return f"{rgb.shape[3]}x{rgb.shape[2]} (width x height)"
