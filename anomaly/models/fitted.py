"""A network with densities of features, or such densities alone: a detector without a network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly.density.densities import ClassDensities
from anomaly.errors import InputError
from anomaly.frames import Image, check_image
from anomaly.models.backbone import Backbone
from anomaly.models.base import Model, Prediction
from anomaly.models.feature_density import FeatureDensity, check_members, fields_given
from anomaly.models.image_planes import image_of, short_side, with_image
from anomaly.models.tiling import Inference
from anomaly.models.torch import weights_record
from anomaly.utils.given import plain


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
            components, outliers = densities.of_components_and_outliers(rows)
            classes = densities.of_classes(components)
            return maps(components), maps(classes), None if outliers is None else maps(outliers)

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
        check_unfitted(network)
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
        """Run the network and the backbones on inputs of one size.

        Args:
            inputs: Inputs from :meth:`prepare`, or views of them. Shape ``(B, K, h, w)``, float32.

        Returns:
            What the network gives, and the features of every density.
        """
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


def check_unfitted(network: Model | None) -> None:
    """Raise ``InputError`` if a network is a detector, or has fitted densities already."""
    if isinstance(network, FeatureModel):
        raise InputError(
            "expected a network, or none, found a detector or a model that is fitted already; use it as it is, or fit "
            "to the network itself"
        )


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
