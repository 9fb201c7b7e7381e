"""A network with densities of features, or such densities alone: a detector without a network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly.density.densities import ClassDensities
from anomaly.density.gaussian import COVARIANCES
from anomaly.errors import InputError
from anomaly.frames import Image, check_image
from anomaly.models.backbone import Backbone
from anomaly.models.base import Model, Prediction
from anomaly.models.tiling import Inference
from anomaly.models.torch import weights_record
from anomaly.utils.given import choice, plain, real, switch, whole
from anomaly.utils.parameters import bind, parse_call

LARGEST_SIDE = 4096
"""Largest short side of an image for a backbone: more is probably a typing error, and would need all memory."""
WITHOUT_LABELS, OF_A_CLASS = 30, 5
"""Default number of components of a density for all pixels, and of the density of one class."""
Of = Literal["backbone", "features", "logits", "likelihood"]
"""What a density is of: a frozen backbone, or one of three outputs of the network."""
OF: tuple[str, ...] = get_args(Of)
_OF_A_FIT = ("components", "covariance", "covariance_rank", "rank", "shrinkage", "bank", "neighbours")


@dataclass(frozen=True, kw_only=True)
class FeatureDensity:
    """Settings of one term of an ensemble: usually a density over features, of which features and which density.

    Two terms need no fit: the network's own likelihood (``of="likelihood"``), and its logits as an unnormalised
    likelihood (``of="logits"``), whose sum over classes is the energy score.

    The features of several stages and sizes are resized to the largest map and concatenated, so that one vector
    describes a place at several depths and scales.

    Args:
        backbone: Specification of a frozen backbone, see :func:`anomaly.models.backbone.load_backbone`; an
            ``nn.Module`` together with ``mean`` and ``std``; or a :class:`~anomaly.models.backbone.Backbone`, which has
            its own stages. None for what the network gives (see :meth:`of_network`).
        of: ``backbone``; or, without one, what the network gives: ``features``, those that its last layer classifies,
            scaled to unit length; ``logits``; or ``likelihood``, of a generative network.
        stages: Numbers of the backbone's feature maps, in increasing order; negative ones count from the end. Default:
            the two deepest. Empty for all that the backbone gives.
        sizes: Short sides in pixels to which each image (or window of an image) is resized for the backbone. For what
            the network gives at most one, to which its input is resized; by default it is not.
        components: Largest number of Gaussians, for each class if there are labels. Default: 30 without labels, 5 with.
        covariance: ``diagonal``, ``tied``, ``low_rank`` or ``full``, in whitened coordinates.
        covariance_rank: Number of factors of ``low_rank`` covariances.
        rank: Number of leading directions that the whitening keeps. Default: all.
        shrinkage: Share of the mean variance that the whitening adds to the variance of every direction.
        whiten: Whether features are whitened; those of a network are not.
        bank: Size of a memory bank of features, which replaces the mixture (0: a mixture).
        neighbours: Number of the neighbour whose distance gives the density of a memory bank.
        pixels: Largest number of pixels that the density of a class is fitted to.
        weight: Weight of the log-likelihood in an ensemble, after all terms are scaled to the same standard deviation
            over the ordinary pixels.
        mean: Mean of each RGB channel, for a backbone that is a module.
        std: Standard deviation of each channel.

    Raises:
        InputError: A value is out of range.
    """

    backbone: Any = "efficientnet-lite0"
    of: Of = "backbone"
    stages: tuple[int, ...] = (-2, -1)
    sizes: tuple[int, ...] = (540,)
    components: int = 0
    covariance: str = "diagonal"
    covariance_rank: int = 0
    rank: int = 0
    shrinkage: float = 0.01
    whiten: bool = True
    bank: int = 0
    neighbours: int = 1
    pixels: int = 20_000
    weight: float = 1.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for names, least in ((("components", "covariance_rank", "rank", "bank"), 0), (("neighbours", "pixels"), 1)):
            for name in names:
                found = whole(name, getattr(self, name), least, f"a whole number of {least} or more")
                object.__setattr__(self, name, found)
        for name in ("shrinkage", "weight"):
            object.__setattr__(self, name, real(name, getattr(self, name), finite=True))
            if getattr(self, name) < 0:
                raise InputError(f"{name}: expected a number of 0 or more, found {getattr(self, name):g}; correct it")
        if not self.weight:
            raise InputError("weight: expected a number above 0, found 0; leave this density out instead")
        for name, expected in (("stages", "whole numbers"), ("sizes", "whole numbers of 1 or more")):
            smallest = 1 if name == "sizes" else None
            given = getattr(self, name)
            given = given if isinstance(given, (tuple, list)) else (given,)
            values = tuple(whole(name, one, smallest, expected) for one in given)
            object.__setattr__(self, name, values)
        if self.sizes and max(self.sizes) > LARGEST_SIDE:
            raise InputError(f"sizes: expected at most {LARGEST_SIDE} pixels, found {max(self.sizes)}; choose fewer")
        choice("covariance", self.covariance, tuple(COVARIANCES))
        choice("of", self.of, OF)
        if (self.backbone is None) != (self.of != "backbone"):
            raise InputError(
                f"of: expected {'features, logits or likelihood' if self.backbone is None else 'backbone'}, found "
                f"{self.of}; name a backbone, or what the network gives"
            )
        switch("whiten", self.whiten)
        if self.backbone is not None and not self.sizes:
            raise InputError(
                "sizes: expected at least one short side for a backbone, found none; give one, such as 360"
            )
        if self.backbone is None and (self.stages or len(self.sizes) > 1):
            raise InputError(
                f"{'stages' if self.stages else 'sizes'}: expected {'none' if self.stages else 'at most one'} for what "
                "the network gives, which is one map, found more; leave them out"
            )
        if not self.fitted and (idle := [name for name in _OF_A_FIT if getattr(self, name) != _default(name)]):
            raise InputError(
                f"{idle[0]}: expected it for a density that is fitted, found it for {self.of}, which are used as they "
                "are; leave it out"
            )
        if self.neighbours > 1 and not self.bank:
            raise InputError(f"neighbours: expected a bank too, found {self.neighbours} without one; set bank")
        if self.rank and not self.whiten:
            raise InputError(f"rank: expected 0 without whitening, found {self.rank}; set whiten, or leave rank out")

    @classmethod
    def of_network(cls, **settings: Any) -> FeatureDensity:
        """Settings for what a network gives: by default its features, unit vectors, which are not whitened.

        Args:
            settings: Other settings than the default ones.
        """
        return cls(**{"backbone": None, "of": "features", "stages": (), "sizes": (), "whiten": False, **settings})

    @property
    def fitted(self) -> bool:
        """Whether there is a density to fit; logits and a network's own likelihood are used as they are."""
        return self.of in ("backbone", "features")

    def plain(self) -> dict[str, Any]:
        """All settings but those that say where the backbone is found, which its record has."""
        kept = (one.name for one in fields(self) if one.name not in ("backbone", "mean", "std"))
        return {name: getattr(self, name) for name in kept}

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


def _default(name: str) -> Any:
    return next(one.default for one in fields(FeatureDensity) if one.name == name)


@dataclass(frozen=True)
class FeatureSource:
    """Where the features of a density come from.

    Args:
        settings: Settings of the density.
        backbone: The backbone; None for the features of the network.
    """

    settings: FeatureDensity
    backbone: Backbone | None

    def features(self, prediction: Prediction, rgb: Tensor, seen: dict[Any, Sequence[Tensor]]) -> Tensor:
        """Compute the features.

        Args:
            prediction: What the network gives.
            rgb: The images, 0 to 255. Shape ``(B, 3, h, w)``.
            seen: Maps of backbones for these images, which densities with the same backbone and size share.

        Returns:
            Features. Shape ``(B, D, h', w')``, float32.
        """
        if self.settings.of == "features":
            return F.normalize(prediction.field("features").float(), dim=1)
        if self.backbone is None:
            return prediction.field("logits" if self.settings.of == "logits" else "class_log_likelihood").float()
        maps: list[Tensor] = []
        for size in self.settings.sizes:
            key = (id(self.backbone), size)
            if key not in seen:
                seen[key] = self.backbone(short_side(rgb, size))
            maps += seen[key]
        finest = largest_size(maps)
        return torch.cat([F.interpolate(each, finest, mode="bilinear") for each in maps], 1)


@dataclass(frozen=True)
class Member(FeatureSource):
    """A term of an ensemble: a fitted density and where its features come from, or what the network gives.

    Args:
        densities: The density of each class, or one for all; None for logits and for a network's own likelihood.
        weight: Weight of its log-likelihoods, relative to those of the first.
    """

    densities: ClassDensities | None
    weight: float = 1.0

    @property
    def has_outliers(self) -> bool:
        """Whether there is a density of outliers."""
        return self.densities is not None and self.densities.outliers is not None

    def log_likelihoods(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Compute log-likelihoods of features, without the weight.

        Args:
            features: Features. Shape ``(B, D, h, w)``.

        Returns:
            Those of components ``(B, C, P, h, w)``, of classes ``(B, C, h, w)`` and of outliers ``(B, h, w)``, which
            are None without a density of outliers.
        """
        batch, _, height, width = features.shape
        densities = self.densities
        if densities is None:  # the features are class values
            return features[:, :, None], features, None

        def maps(rows: Tensor) -> Tensor:
            return rows.view(batch, height, width, *rows.shape[1:]).movedim((1, 2), (-2, -1))

        with torch.autocast(features.device.type, enabled=False):
            rows = features.float().permute(0, 2, 3, 1).flatten(0, 2)
            components = densities.of_components(rows)
            outliers = None if densities.outliers is None else maps(densities.of_outliers(rows))
            return maps(components), maps(densities.of_classes(components)), outliers

    def record(self) -> dict[str, Any]:
        """Settings, backbone, weight and hash of what was fitted, as values that JSON can hold."""
        own = {} if self.backbone is None else {"backbone": self.backbone.record}
        settings = self.settings.plain() if self.settings.fitted else {"of": self.settings.of}
        found: dict[str, Any] = plain({**own, **settings, "weight": self.weight})
        return {**found, **({} if self.densities is None else weights_record(self.densities))}


@dataclass(frozen=True)
class FeaturePrediction(Prediction):
    """What a network gives, with the features of each density: what densities are fitted to."""

    members: tuple[Tensor, ...] = field(default=())

    def plain(self) -> Prediction:
        """What the network gives, without the features of the densities."""
        return Prediction(**{name: value for name, value in vars(self).items() if name != "members"})

    def of(self, start: int, stop: int) -> FeaturePrediction:
        """Return the prediction for inputs ``start`` to ``stop - 1`` of the batch."""
        part = self.plain().of(start, stop)
        return FeaturePrediction(**vars(part), members=tuple(each[start:stop] for each in self.members))


class FeatureModel:
    """A network together with frozen backbones, or such backbones alone: it gives the features of densities.

    Args:
        network: Any model; None for backbones alone.
        sources: Where the features of each density come from.

    Attributes:
        gives: The fields of a prediction.
        classes: Names of the network's classes.
        device: Device of the network and the backbones.

    Raises:
        InputError: There is neither a network nor a source, the network does not give the features of one, or it has
            fitted densities already.
    """

    def __init__(self, network: Model | None, sources: Sequence[FeatureSource]) -> None:
        if isinstance(network, FeatureModel):
            raise InputError(
                "expected a network, or none, found a model that has fitted densities already; fit all of them at once"
            )
        own = frozenset() if network is None else network.gives
        check_members(own, [source.settings for source in sources])
        if network is None and not sources:
            raise InputError("expected a network or densities, found neither; fit densities to features")
        self.base = network
        self.gives: frozenset[str] = own
        self.classes: tuple[str, ...] = () if network is None else network.classes
        backbones = [source.backbone for source in sources if source.backbone is not None]
        self.device = torch.device(getattr(network, "device", None) or (backbones[0].device if backbones else "cpu"))
        self._sources = tuple(sources)
        self._rgb = bool(backbones)
        sides = [(source.backbone is None, size) for source in sources for size in source.settings.sizes]
        self._side = max((size for of_network, size in sides if not of_network), default=0)
        self._network_side = _one_size([size for of_network, size in sides if of_network])

    def prepare(self, image: Image) -> Tensor:
        """Preprocess one RGB image.

        Args:
            image: RGB image. Shape: ``(H, W, 3)``, uint8.

        Returns:
            The network's input, and with backbones more channels that hold the image for them (see
            :func:`with_image`); without a network the image itself, 0 to 255. Shape: ``(K, h, w)``, float32, on the
            device of the model.

        Raises:
            InputError: ``image`` has another shape or type.
        """
        if self.base is not None and not self._rgb:
            return self.base.prepare(image)
        check_image(image)
        rgb = torch.tensor(image, device=self.device).permute(2, 0, 1)[None].float()
        if self.base is None:
            return short_side(rgb, self._side)[0]
        return with_image(self.base.prepare(image), rgb, self._side)

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Prediction:
        """Run the network and the backbones on inputs of one size.

        Args:
            inputs: Inputs from :meth:`prepare`, or views of them. Shape ``(B, K, h, w)``, float32.

        Returns:
            A :class:`FeaturePrediction`: what the network gives, and the features of every density.
        """
        return self.look(inputs)

    def look(self, inputs: Tensor) -> FeaturePrediction:
        """Run the network and the backbones; see :meth:`__call__`."""
        rgb = inputs
        if self.base is not None and self._rgb:
            inputs, rgb = inputs[:, :3], image_of(inputs)
        found = Prediction() if self.base is None else self._ask(self.base, inputs)
        if self._rgb and found.covers is not None:
            fine = rgb.shape[2] // inputs.shape[2]
            below, right = found.covers[0] - inputs.shape[2], found.covers[1] - inputs.shape[3]
            rgb = F.pad(rgb, (0, fine * right, 0, fine * below), mode="replicate")
        seen: dict[Any, Sequence[Tensor]] = {}
        features = tuple(source.features(found, rgb, seen) for source in self._sources)
        return FeaturePrediction(**vars(found), members=features)

    def _ask(self, network: Model, inputs: Tensor) -> Prediction:
        """Ask the network, at a size of its own if there is one; its maps then cover the same part of the input."""
        if self._network_side is None:
            return network(inputs)
        small = short_side(inputs, self._network_side)
        found = network(small)
        if found.covers is None:
            return found
        (height, width), (rows, columns) = inputs.shape[2:], small.shape[2:]
        covers = round(found.covers[0] * height / rows), round(found.covers[1] * width / columns)
        return replace(found, covers=covers)


class FittedModel(FeatureModel):
    r"""A network with densities that were fitted to training images, or densities of frozen features alone.

    An ensemble is a list of terms. Each term m gives :math:`\log p_m(x_m | c)` for every class c; one that was fitted
    without labels counts for every class. They are added up, as if the features were independent given the class:

    .. math:: \log p(x | c) = \sum_m w_m \log p_m(x_m | c)

    Logits as a term are unnormalised: :math:`\log p(x | c)` up to a constant, as in an energy-based model. The first
    term has the weight 1. Before the weights that are asked for, all terms are scaled to the standard deviation that
    the first has over the ordinary pixels, so that an ensemble is a sum of standardised log-likelihoods. Components
    are those of the first term, each with the other terms added to it, so that their sum is :math:`p(x | c)`. The
    density of outliers, if there is one, is the sum over the members that have one, with the same weights. All maps
    have the resolution of the network's class values, or without a network that of the finest features. If no density
    has classes, the maps have one class (C is 1).

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
        base: The network; None for a detector without one.
        members: The fitted densities.
        gives: The fields of a prediction: those of the network and of the densities.
        classes: Names of the classes.
        num_classes: Number of classes that the likelihoods have; None if it is that of the network.
        fitted_images: Hashes of all images that the network and the densities were fitted to.
        statistics: What scores learned.
        fit_record: What is known of the fit.
        title: Name of a detector in results: that of its file, once it has one.
        device: Device of the network and the backbones.
        inference: How the network's config shows images to it; None if it does not say.
        resizes: Whether images are resized, so that windows are cut from the resized image.
        inputs: Files that the model was loaded from, with checksums.
        linear: Weight and bias of the network's last layer; None without such a layer.
        config: The network's config, if it is one of mmsegmentation.
        network: The network's module, if it is one of mmsegmentation.

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
        super().__init__(network, members)
        self.members = tuple(members)
        _check_together(self.members)
        self.fitted_images = frozenset(fitted_images) | getattr(network, "fitted_images", frozenset())
        self.statistics = statistics
        self.fit_record = dict(record or {})
        self.title = "detector"
        for member in self.members:
            if member.densities is not None:
                member.densities.to(self.device)
        outliers = any(member.has_outliers for member in self.members)
        self.gives = fields_given(self.gives, [member.settings for member in self.members], outliers)
        self.classes = tuple(classes) if network is None else network.classes
        counts = [0 if one.densities is None else one.densities.num_classes for one in self.members]
        self.num_classes = None if 0 in counts or not counts else max(counts)
        self.inference: Inference | None = getattr(network, "inference", None)
        self.resizes = network is None or bool(getattr(network, "resizes", False))
        self.inputs: dict[str, Any] = dict(getattr(network, "inputs", {}))
        self.linear = getattr(network, "linear", None)
        self.config, self.network = getattr(network, "config", None), getattr(network, "network", None)
        if (score_name := getattr(network, "name", None)) is not None:
            self.name = score_name

    @property
    def record(self) -> dict[str, Any]:
        """Name and type of the model, and its densities, for results."""
        fitted = {"densities": [member.record() for member in self.members], **self.fit_record}
        if self.base is None:
            return {"name": self.title, "type": "densities of frozen features", "fitted": fitted}
        own = dict(getattr(self.base, "record", None) or {"name": "model", "type": type(self.base).__name__})
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

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Prediction:
        """Predict a batch of inputs of one size.

        Args:
            inputs: Inputs from :meth:`prepare`, or views of them. Shape ``(B, K, h, w)``, float32.

        Returns:
            What the network gives, and the log-likelihoods of the densities.
        """
        return self.add_densities(self.look(inputs))

    def add_densities(self, found: FeaturePrediction) -> Prediction:
        """Add the log-likelihoods of the densities to what the network gives.

        Args:
            found: What the network gives, and the features of every density.
        """
        own = found.plain()
        if not self.members:
            return own
        of_network = [own.logits, own.class_log_likelihood, own.mask_logits]
        size = largest_size(next(([each] for each in of_network if each is not None), found.members))

        def at(maps: Tensor) -> Tensor:  # features cover what the network's maps cover
            return replace(own, covers=None).resize(maps, size)

        classes: Tensor | None = None
        components: Tensor | None = None
        peak, outliers = None, None
        for member, features in zip(self.members, found.members, strict=True):
            of_components, of_classes, of_outliers = member.log_likelihoods(features)
            if classes is None:
                classes, components = at(of_classes), at(of_components)
                peak = None if member.densities is None else member.densities.peak()
                if member.settings.of == "likelihood":
                    components, peak = own.component_log_prob, own.component_peak
            else:
                added = member.weight * at(of_classes)
                classes = classes + added
                components = None if components is None else components + added[:, :, None]
            if of_outliers is not None:
                added = member.weight * at(of_outliers)
                outliers = added if outliers is None else outliers + added
        return replace(
            own,
            class_log_likelihood=classes,
            component_log_prob=components,
            component_peak=peak if "component_peak" in self.gives else None,
            outlier_log_likelihood=outliers,
        )


def choose_densities(
    network: Model | None, backbones: Sequence[FeatureDensity], own: str | None = None
) -> list[FeatureDensity]:
    """The terms of an ensemble: what the network adds, and backbones.

    Args:
        network: The network; None for a detector without one.
        backbones: Settings of the densities of backbones. Without a network and without any, ``efficientnet-lite0``.
        own: What the network adds: ``likelihood``, ``logits`` or ``features``, with settings such as
            ``features:components=3``, or ``none``. Default: its likelihood, if it is generative and there are
            backbones; else its logits, if there are backbones; else a density of its features, if it gives some.

    Raises:
        InputError: ``own`` is none of these, or given without a network.
    """
    if network is None:
        if own is not None:
            raise InputError(f"own: expected a network that gives {own}, found none; name it, or omit this")
        return list(backbones) or [FeatureDensity()]
    if own == "none":
        return list(backbones)
    if own is not None:
        if own.partition(":")[0] not in OF[1:]:
            raise InputError(f"own: expected {', '.join(OF[1:])} or none, found {own!r}; choose one of these")
        return [parse_density(own), *backbones]
    if backbones:
        fields = {"class_log_likelihood": "likelihood", "logits": "logits", "features": "features"}
        kind = next((of for name, of in fields.items() if name in network.gives), None)
        return [*([] if kind is None else [FeatureDensity.of_network(of=kind)]), *backbones]
    has_own = "features" in network.gives and "class_log_likelihood" not in network.gives
    return [FeatureDensity.of_network()] if has_own else []


def parse_density(text: str) -> FeatureDensity:
    """Parse settings such as ``efficientnet-lite0:stages=-2+-1:sizes=360+720``; a file is ``file.py:name:sizes=360``.

    Args:
        text: A backbone, or ``features``, ``logits`` or ``likelihood`` of the network, and settings of
            :class:`FeatureDensity`.

    Raises:
        InputError: A setting is unknown or out of range.
    """
    parts = text.split(":")
    first = next((i for i, part in enumerate(parts) if "=" in part), len(parts))
    name, where = ":".join(parts[:first]), f"density {text!r}"
    _, words = parse_call(":".join(["x", *parts[first:]]), "density")
    settings = bind(FeatureDensity, words, where)
    if name in OF[1:]:
        return FeatureDensity.of_network(**{"of": name, **settings})
    return FeatureDensity(backbone=name, **settings)


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


def _one_size(sizes: Sequence[int]) -> int | None:
    if len(set(sizes)) > 1:
        raise InputError(
            f"sizes: expected one size at which the network sees an image, found {' and '.join(map(str, sizes))}; "
            "choose one"
        )
    return sizes[0] if sizes else None


def largest_size(maps: Sequence[Tensor]) -> tuple[int, int]:
    """Height and width of the map with the most cells."""
    return max(((each.shape[-2], each.shape[-1]) for each in maps), key=math.prod)


def fields_given(own: frozenset[str], members: Sequence[FeatureDensity], outliers: bool) -> frozenset[str]:
    """Fields of a prediction that a model with densities gives.

    Args:
        own: Fields that the network gives; empty without a network.
        members: Settings of the densities.
        outliers: Whether they have densities of outliers.
    """
    if not members:
        return own
    first = members[0]
    of_density = (
        {"component_log_prob"} if first.bank or first.of == "logits" else {"component_log_prob", "component_peak"}
    )
    given = own & {"component_log_prob", "component_peak"} if first.of == "likelihood" else of_density
    if len(members) > 1:  # then no point is the mean of a component
        given = given - {"component_peak"}
    given = given | {"class_log_likelihood"} | ({"outlier_log_likelihood"} if outliers else set())
    return (own - {"component_log_prob", "component_peak"}) | given


def check_members(gives: frozenset[str], members: Sequence[FeatureDensity]) -> None:
    """Check that densities can be added to what a network gives.

    Args:
        gives: Names of the fields that the network gives; empty without a network.
        members: Settings of the densities.

    Raises:
        InputError: The network lacks features, or has a likelihood of its own already.
    """
    of_network = [member.of for member in members if member.backbone is None]
    if len(set(of_network)) < len(of_network):
        raise InputError(
            f"densities: expected each output of the network once, found {' and '.join(of_network)}; leave one out"
        )
    needed = {"likelihood": "class_log_likelihood"}
    if missing := [of for of in of_network if needed.get(of, of) not in gives]:
        raise InputError(
            f"densities: expected a network that gives {missing[0]}, found one that gives "
            f"{', '.join(sorted(gives)) or 'none'}; use a backbone"
        )
    if "features" in of_network and "class_log_likelihood" in gives:
        raise InputError(
            "densities: expected a network without likelihoods of its own, found one that has some; use them as they "
            "are, or add a backbone"
        )


def _check_together(members: Sequence[Member]) -> None:
    """Check that the first density has the weight 1, and that those with classes have as many."""
    if members and members[0].weight != 1:
        raise InputError(
            f"densities: expected the weight 1 of the first one, found {members[0].weight:g}; divide all weights by it"
        )
    counts = sorted({one.densities.num_classes for one in members if one.densities is not None} - {1})
    if len(counts) > 1:
        raise InputError(
            f"densities: expected the same number of classes in all, found {' and '.join(map(str, counts))}; fit them "
            "to the same labels"
        )


def model_identity(model: Model) -> dict[str, Any]:
    """What the outputs of a model depend on: its weights, its classes, and the preprocessing as the model records it.

    Args:
        model: The model.

    Returns:
        Values that JSON can hold.
    """
    record = {key: value for key, value in getattr(model, "record", {}).items() if key not in ("name", "fitted")}
    weights = getattr(model, "weights", None)
    own = {"weights": weights} if isinstance(weights, str) else weights_record(model)
    found: dict[str, Any] = plain({**record, **own, "classes": list(model.classes)})
    return found
