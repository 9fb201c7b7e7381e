"""Settings of the terms of an ensemble: of which features, and which density."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from anomaly.density.densities import ClassDensities
from anomaly.density.gaussian import COVARIANCES
from anomaly.errors import InputError
from anomaly.models.base import Model
from anomaly.utils.given import choice, real, switch, whole
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

        Returns:
            The settings.

        Raises:
            InputError: A value is out of range.
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

        Returns:
            The densities, whose buffers have their shapes.

        Raises:
            InputError: A setting does not fit the number of dimensions.
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

    Returns:
        Settings of the terms, what the network adds first.

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

    Returns:
        The settings.

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


def fields_given(own: frozenset[str], members: Sequence[FeatureDensity], outliers: bool) -> frozenset[str]:
    """Fields of a prediction that a model with densities gives.

    Args:
        own: Fields that the network gives; empty without a network.
        members: Settings of the densities.
        outliers: Whether they have densities of outliers.

    Returns:
        Names of the fields.
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
