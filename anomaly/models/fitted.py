"""A network with densities of features, or such densities alone: a detector without a network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly.density.densities import ClassDensities
from anomaly.errors import InputError
from anomaly.frames import Image
from anomaly.models.backbone import Backbone
from anomaly.models.base import Model, Prediction
from anomaly.models.tiling import Inference
from anomaly.models.torch import weights_record
from anomaly.utils.given import real, whole
from anomaly.utils.parameters import bind, parse_call

DENSITIES = ("class_log_likelihood", "component_log_prob", "component_peak", "outlier_log_likelihood")
"""Fields of a prediction that densities give."""
WITHOUT_LABELS, OF_A_CLASS = 30, 5
"""Default number of components of a density for all pixels, and of the density of one class."""


@dataclass(frozen=True, kw_only=True)
class FeatureDensity:
    """Settings of a density over features: of which features, and which density.

    The features of several stages and sizes are resized to the largest map and concatenated, so that one vector
    describes a place at several depths and scales.

    Args:
        backbone: Specification of a frozen backbone, see :func:`anomaly.models.backbone.load_backbone`, or an
            ``nn.Module`` together with ``mean`` and ``std``. None for the features that the network's last layer
            classifies, scaled to unit length.
        stages: Numbers of the backbone's feature maps, in increasing order; negative ones count from the end. Default:
            the two deepest.
        sizes: Short sides in pixels to which each image (or window of an image) is resized for the backbone.
        components: Largest number of Gaussians, for each class if there are labels. Default: 30 without labels, 5 with.
        covariance: ``diagonal``, ``tied``, ``low_rank`` or ``full``, in whitened coordinates.
        covariance_rank: Number of factors of ``low_rank`` covariances.
        rank: Number of leading directions that the whitening keeps. Default: all.
        shrinkage: Share of the mean variance that the whitening adds to the variance of every direction.
        whiten: Whether features are whitened; those of a network are not.
        bank: Size of a memory bank of features, which replaces the mixture (0: a mixture).
        neighbours: Number of the neighbour whose distance gives the density of a memory bank.
        pixels: Largest number of pixels that the density of a class is fitted to.
        weight: Weight of the log-likelihood in an ensemble, relative to the first density. Default: the quotient of
            the numbers of dimensions, so that a dimension counts the same in all.
        mean: Mean of each RGB channel, for a backbone that is a module.
        std: Standard deviation of each channel.

    Raises:
        InputError: A value is out of range.
    """

    backbone: Any = "efficientnet-lite0"
    stages: tuple[int, ...] = (-2, -1)
    sizes: tuple[int, ...] = (360,)
    components: int = 0
    covariance: str = "diagonal"
    covariance_rank: int = 0
    rank: int = 0
    shrinkage: float = 0.01
    whiten: bool = True
    bank: int = 0
    neighbours: int = 1
    pixels: int = 20_000
    weight: float = 0.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("components", "covariance_rank", "rank", "bank"):
            whole(name, getattr(self, name), least=0)
        for name in ("neighbours", "pixels"):
            whole(name, getattr(self, name), least=1)
        for name in ("shrinkage", "weight"):
            if real(name, getattr(self, name), finite=True) < 0:
                raise InputError(f"{name}: expected a number of 0 or more, found {getattr(self, name)}; correct it")
        if not self.sizes or min(self.sizes) < 1:
            raise InputError(f"sizes: expected short sides of at least 1 pixel, found {self.sizes}; correct them")

    @classmethod
    def of_network(cls, **settings: Any) -> FeatureDensity:
        """Settings for the features of a network: unit vectors, which are not whitened."""
        return cls(**{"backbone": None, "stages": (), "whiten": False, **settings})

    def densities(self, dim: int, classes: int, labelled: bool, outliers: bool = False) -> ClassDensities:
        """Make the densities, not yet fitted.

        Args:
            dim: Number of dimensions of a feature.
            classes: Number of classes; 1 without labels.
            labelled: Whether there are labels.
            outliers: Whether there is a density of outliers too.
        """
        return ClassDensities(
            classes,
            dim,
            num_components=self.components or (OF_A_CLASS if labelled else WITHOUT_LABELS),
            covariance=self.covariance,
            rank=min(self.rank, dim) or None,
            covariance_rank=self.covariance_rank or None,
            bank=self.bank or None,
            neighbours=self.neighbours,
            outliers=outliers,
        )


@dataclass(frozen=True)
class Member:
    """A fitted density and where its features come from.

    Args:
        settings: Its settings.
        densities: The density of each class, or one for all; None before it is fitted.
        backbone: The backbone; None for the features of the network.
        weight: Weight of its log-likelihoods, relative to those of the first.
    """

    settings: FeatureDensity
    densities: ClassDensities | None
    backbone: Backbone | None
    weight: float = 1.0

    def features(self, prediction: Prediction, rgb: Tensor | None, seen: dict[Any, Sequence[Tensor]]) -> Tensor:
        """Compute the features.

        Args:
            prediction: What the network gives.
            rgb: The images, 0 to 255; needed with a backbone. Shape ``(B, 3, h, w)``.
            seen: Maps of backbones for these images, which members with the same backbone and size share.

        Returns:
            Features. Shape ``(B, D, h', w')``, float32.
        """
        if self.backbone is None or rgb is None:
            return F.normalize(prediction.field("features").float(), dim=1)
        maps: list[Tensor] = []
        for size in self.settings.sizes:
            key = (id(self.backbone), size)
            if key not in seen:
                seen[key] = self.backbone(short_side(rgb, size))
            maps += seen[key]
        finest = max((each.shape[2:] for each in maps), key=lambda shape: shape.numel())
        return torch.cat([F.interpolate(each, finest, mode="bilinear") for each in maps], 1)

    def record(self) -> dict[str, Any]:
        """Settings, backbone and weight, as values that JSON can hold."""
        found = asdict(replace(self.settings, backbone=None))
        for name in ("mean", "std", "weight", "backbone"):
            del found[name]
        own = {"of": "network"} if self.backbone is None else {"of": "backbone", "backbone": self.backbone.record}
        return {**own, **found, "weight": self.weight}


@dataclass(frozen=True)
class FeaturePrediction(Prediction):
    """What a network gives, with the features of each member: what densities are fitted to."""

    members: tuple[Tensor, ...] = field(default=())

    def plain(self) -> Prediction:
        """What the network gives, without the features of the members."""
        return Prediction(**{name: value for name, value in vars(self).items() if name != "members"})

    def of(self, start: int, stop: int) -> FeaturePrediction:
        """Return the prediction for inputs ``start`` to ``stop - 1`` of the batch."""
        part = self.plain().of(start, stop)
        return FeaturePrediction(**vars(part), members=tuple(each[start:stop] for each in self.members))


class FittedModel:
    r"""A network with densities that were fitted to training images, or densities of frozen features alone.

    Each density m gives :math:`\log p_m(x_m | c)` for every class c; one that was fitted without labels counts for
    every class. They are added up, as if the features were independent given the class:

    .. math:: \log p(x | c) = \sum_m w_m \log p_m(x_m | c)

    The first density has the weight 1: that of the network itself, if it is generative. Components are those of the
    first density, each with the other densities added to it, so that their sum is :math:`p(x | c)`. The density of
    outliers, if there is one, is the sum over the members that have one, with the same weights. All maps have the
    resolution of the network's class values, or without a network that of the finest features.

    Args:
        network: Any model; None for a detector without one.
        members: The fitted densities, at least one unless there are ``statistics``.
        fitted_images: Hashes (:func:`anomaly.frames.image_hash`) of the images they were fitted to; evaluating these
            is an error.
        statistics: What scores learned from the same images, as :meth:`anomaly.scores.statistics.Statistics.state`
            gives it; None if nothing was learned.
        classes: Names of the classes of a detector without a network.
        record: What is known of the fit, for results.

    Attributes:
        gives: The fields of a prediction: those of the network and of the densities.
        resizes: Whether images are resized, so that windows are cut from the resized image.

    Raises:
        InputError: The densities do not belong together, or need features that the network does not give.
    """

    def __init__(
        self,
        network: Model | None,
        members: Sequence[Member],
        *,
        fitted_images: Iterable[str] = (),
        statistics: Any = None,
        classes: Sequence[str] = (),
        record: Mapping[str, Any] | None = None,
    ) -> None:
        self.base, self.members = network, tuple(members)
        self.fitted_images = frozenset(fitted_images) | getattr(network, "fitted_images", frozenset())
        self.statistics = statistics
        self.fit_record = dict(record or {})
        self.classes = tuple(classes) if network is None else network.classes
        own = frozenset() if network is None else network.gives
        check_members(own, [member.settings for member in self.members])
        if network is None and not self.members:
            raise InputError("expected a network or densities, found neither; fit densities to features")
        backbones = [member.backbone for member in self.members if member.backbone is not None]
        self.device = torch.device(getattr(network, "device", None) or (backbones[0].device if backbones else "cpu"))
        self._rgb = bool(backbones)
        self._side = max((size for each in self.members for size in each.settings.sizes), default=0)
        self._generative = "class_log_likelihood" in own
        fitted = [member.densities for member in self.members if member.densities is not None]
        for each in fitted:
            each.to(self.device)
        self.gives = own | (frozenset(DENSITIES) if fitted else frozenset())
        alone = len(fitted) + self._generative == 1 and not any(member.settings.bank for member in self.members)
        if not alone and fitted:
            self.gives -= {"component_peak"}
        if not any(each.outliers is not None for each in fitted):
            self.gives -= {"outlier_log_likelihood"} - own
        self.inference: Inference | None = getattr(network, "inference", None)
        self.resizes = network is None or bool(getattr(network, "resizes", False))
        self.inputs: dict[str, Any] = dict(getattr(network, "inputs", {}))
        self.linear = getattr(network, "linear", None)
        if (score_name := getattr(network, "name", None)) is not None:
            self.name = score_name

    def __getattr__(self, name: str) -> Any:
        """What else the network has, such as its config."""
        network = self.__dict__.get("base")
        if network is None or name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(network, name)

    @property
    def record(self) -> dict[str, Any]:
        """Name and type of the model, and its densities, for results."""
        fitted = {"densities": [member.record() for member in self.members], **self.fit_record}
        for entry, member in zip(fitted["densities"], self.members, strict=True):
            entry |= weights_record(member.densities)
        if self.base is None:
            return {"name": "detector", "type": "densities of frozen features", "fitted": fitted}
        own = dict(getattr(self.base, "record", {"name": "model", "type": type(self.base).__name__}))
        return {**own, "fitted": fitted}

    def save(self, path: str | Path) -> None:
        """Write what was fitted, but not the networks, to a file for :func:`anomaly.load_model`.

        Args:
            path: The file; its name ends in ``.npz``.

        Raises:
            InputError: The name has another ending, or the file cannot be written.
        """
        from anomaly.models.fitted_file import save_fitted

        save_fitted(path, self)

    def prepare(self, image: Image) -> Tensor:
        """Preprocess one RGB image.

        Args:
            image: RGB image. Shape: ``(H, W, 3)``, uint8.

        Returns:
            The network's input, and with backbones more channels that hold the image for them (see
            :func:`with_image`); without a network the image itself, 0 to 255. Shape: ``(K, h, w)``, float32, on the
            device of the model.
        """
        if self.base is not None and not self._rgb:
            return self.base.prepare(image)
        rgb = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float()
        if self.base is None:
            return short_side(rgb, self._side)[0]
        return with_image(self.base.prepare(image), rgb, self._side)

    def look(self, inputs: Tensor) -> FeaturePrediction:
        """Run the network and the backbones on inputs of one size.

        Args:
            inputs: Inputs from :meth:`prepare`, or views of them. Shape ``(B, K, h, w)``.

        Returns:
            What the network gives, and the features of every member.
        """
        rgb = inputs if self._rgb else None
        if rgb is not None and self.base is not None:
            inputs, rgb = inputs[:, :3], image_of(inputs)
        found = Prediction() if self.base is None else self.base(inputs)
        if rgb is not None and found.covers not in (None, inputs.shape[2:]):
            assert found.covers is not None
            fine = rgb.shape[2] // inputs.shape[2]
            height, width = found.covers[0] - inputs.shape[2], found.covers[1] - inputs.shape[3]
            rgb = F.pad(rgb, (0, fine * width, 0, fine * height), mode="replicate")
        seen: dict[Any, Sequence[Tensor]] = {}
        features = tuple(member.features(found, rgb, seen) for member in self.members)
        return FeaturePrediction(**vars(found), members=features)

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Prediction:
        """Predict a batch of inputs of one size, and add the densities.

        Args:
            inputs: Inputs from :meth:`prepare`, or views of them. Shape ``(B, K, h, w)``, float32.
        """
        return self.add_densities(self.look(inputs))

    def add_densities(self, found: FeaturePrediction) -> Prediction:
        """Add the log-likelihoods to what :meth:`look` returned."""
        own = found.plain()
        if not any(member.densities for member in self.members):
            return own
        values = own.class_log_likelihood if own.logits is None else own.logits
        values = own.mask_logits if values is None else values
        sizes = [each.shape[2:] for each in found.members] if values is None else [values.shape[2:]]
        height, width = max(sizes, key=lambda shape: shape.numel())
        size = (height, width)
        classes, components, outliers, peak = own.class_log_likelihood, own.component_log_prob, None, own.component_peak
        for member, features in zip(self.members, found.members, strict=True):
            if (densities := member.densities) is None:
                continue
            with torch.autocast(features.device.type, enabled=False):
                rows = features.float().permute(0, 2, 3, 1).flatten(0, 2)
                each = _as_maps(densities.of_components(rows), features)
                of_classes = _at(
                    own, _as_maps(densities.of_classes(each.movedim((-2, -1), (1, 2)).flatten(0, 2)), features), size
                )
                of_outliers = None
                if densities.outliers is not None:
                    of_outliers = member.weight * _at(own, _as_maps(densities.of_outliers(rows), features), size)
            if classes is None:
                classes, components, peak = of_classes, _at(own, each, size), densities.peak()
            else:
                added = member.weight * of_classes
                classes = classes + added
                components = None if components is None else components + added[:, :, None]
            if of_outliers is not None:
                outliers = of_outliers if outliers is None else outliers + of_outliers
        return replace(
            own,
            class_log_likelihood=classes,
            component_log_prob=components,
            component_peak=peak if "component_peak" in self.gives else None,
            outlier_log_likelihood=outliers,
        )


def usual_densities(network: Model | None) -> list[FeatureDensity]:
    """Settings of the density of a model's own features, if it has any and no likelihood; without one, of a backbone.

    Args:
        network: The model; None if there is none.
    """
    if network is None:
        return [FeatureDensity()]
    has_own = "features" in network.gives and "class_log_likelihood" not in network.gives
    return [FeatureDensity.of_network()] if has_own else []


def parse_density(text: str) -> FeatureDensity:
    """Parse settings such as ``efficientnet-lite0:stages=-2+-1:sizes=360+720``; a file is ``file.py:name:sizes=360``.

    Args:
        text: A backbone, or ``features`` for those of the network, and settings of :class:`FeatureDensity`.

    Raises:
        InputError: A setting is unknown or out of range.
    """
    parts = text.split(":")
    first = next((i for i, part in enumerate(parts) if "=" in part), len(parts))
    name, where = ":".join(parts[:first]), f"density {text!r}"
    _, words = parse_call(":".join(["x", *parts[first:]]), "density")
    settings = bind(FeatureDensity, words, where)
    return FeatureDensity.of_network(**settings) if name == "features" else FeatureDensity(backbone=name, **settings)


def short_side(rgb: Tensor, size: int) -> Tensor:
    """Resize images so that their shorter side has a number of pixels (bilinear, antialiased).

    Args:
        rgb: Images. Shape ``(B, 3, h, w)``.
        size: Length of the shorter side in pixels.
    """
    height, width = rgb.shape[2:]
    factor = size / min(height, width)
    return _resized(rgb, (max(1, round(height * factor)), max(1, round(width * factor))))


def _resized(rgb: Tensor, size: tuple[int, int]) -> Tensor:
    return rgb if rgb.shape[2:] == size else F.interpolate(rgb, size, mode="bilinear", antialias=True)


def with_image(inputs: Tensor, rgb: Tensor, side: int) -> Tensor:
    """Add an image to the input of a network, so that views of the input are views of the image too.

    The image may need more pixels than the input. It is resized to r times as many rows and columns, and its r x r
    pixels for each pixel of the input become channels. One more channel grows from left to right, so that
    :func:`image_of` can tell mirrored views.

    Args:
        inputs: The network's input. Shape ``(3, h, w)``.
        rgb: The image, 0 to 255. Shape ``(1, 3, H, W)``.
        side: Largest number of pixels that a backbone needs along the short side; r is the smallest that suffices.

    Returns:
        The input with the image. Shape ``(3 + 3 r r + 1, h, w)``.
    """
    height, width = inputs.shape[1:]
    fine = math.ceil(side / min(height, width))
    planes = F.pixel_unshuffle(_resized(rgb, (fine * height, fine * width)), fine)[0]
    ramp = torch.arange(width, dtype=torch.float32).expand(1, height, width)
    return torch.cat([inputs, planes.to(inputs.device), ramp.to(inputs.device)])


def image_of(inputs: Tensor) -> Tensor:
    """The image that :func:`with_image` added, mirrored if the inputs are.

    Args:
        inputs: Views of such inputs. Shape ``(B, 3 + 3 r r + 1, h, w)``.

    Returns:
        RGB, 0 to 255. Shape ``(B, 3, r h, r w)``.
    """
    planes, ramp = inputs[:, 3:-1], inputs[:, -1, 0]
    fine = math.isqrt(planes.shape[1] // 3)
    mirrored = ramp[:, 0] > ramp[:, -1]
    cells = planes.unflatten(1, (3, fine, fine))
    cells = torch.where(mirrored[:, None, None, None, None, None], cells.flip(3), cells)
    return F.pixel_shuffle(cells.flatten(1, 3), fine)


def _as_maps(rows: Tensor, features: Tensor) -> Tensor:
    """Arrange values of pixels as maps. Shape ``(B h w, ...)`` -> ``(B, ..., h, w)``."""
    batch, _, height, width = features.shape
    return rows.view(batch, height, width, *rows.shape[1:]).movedim((1, 2), (-2, -1))


def _at(prediction: Prediction, maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps to the resolution of the others; minus infinity stays minus infinity."""
    return replace(prediction, covers=None).resize(maps, size)


def check_members(gives: frozenset[str], members: Sequence[FeatureDensity]) -> None:
    """Check that densities can be added to what a network gives.

    Args:
        gives: Names of the fields that the network gives; empty without a network.
        members: Settings of the densities.

    Raises:
        InputError: The network lacks features, or has a likelihood of its own already.
    """
    of_network = [member for member in members if member.backbone is None]
    if len(of_network) > 1:
        raise InputError("densities: expected one of the network's features, found several; leave the others out")
    if of_network and "features" not in gives:
        raise InputError(
            f"densities: expected a network that gives features, found one that gives {', '.join(sorted(gives))}; use "
            "a backbone"
        )
    if of_network and "class_log_likelihood" in gives:
        raise InputError(
            "densities: expected a network without likelihoods of its own, found one that has some; use them as they "
            "are, or add a backbone"
        )


def model_identity(model: Model) -> dict[str, Any]:
    """What the outputs of a model depend on: its weights, and the preprocessing as the model records it.

    Args:
        model: The model.
    """
    record = {key: value for key, value in getattr(model, "record", {}).items() if key not in ("name", "fitted")}
    weights = getattr(model, "weights", None)
    return {**record, **({"weights": weights} if isinstance(weights, str) else weights_record(model))}
