"""Mixtures of Gaussians with every kind of covariance, fitted by EM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anomaly.density.checks import ROUNDING, check_features
from anomaly.density.gaussian import COVARIANCES
from anomaly.errors import InputError
from anomaly.utils.given import choice, real, whole

PIXELS_PER_COMPONENT = 50
"""Pixels that a class needs for each of its components; every class with a pixel gets at least one component."""
VARIANCE_FLOOR = 0.64
"""Default floor of the variance, in units of 1 / D, the variance of an even spread over the sphere.

It is meant for unit vectors. At 64 dimensions it equals GMMSeg's floor of 0.01.
"""


@dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians.

    Args:
        weights: Weights of the components. Shape ``(P,)``.
        means: Their means. Shape ``(P, D)``.
        covariance: Kind of covariance, a name of :data:`anomaly.density.gaussian.COVARIANCES`.
        parameters: Parameters of the covariances, by name, each of shape ``(P, ...)`` except for a shared one.

    Shape:
        All tensors are float64.
    """

    weights: Tensor
    means: Tensor
    covariance: str
    parameters: dict[str, Tensor]

    def log_prob(self, features: Tensor) -> Tensor:
        """Compute the log-density of every component, including its weight. Shape ``(N, D)`` -> ``(N, P)``."""
        log_prob = COVARIANCES[self.covariance].log_prob(features, self.means, **self.parameters)
        return log_prob + self.weights.log()


def fit_mixtures(
    samples: Sequence[Tensor],
    num_components: int,
    generator: torch.Generator,
    *,
    covariance: str = "diagonal",
    covariance_rank: int | None = None,
    variance_floor: float | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
) -> list[Mixture]:
    """Fit a mixture of Gaussians to each sample by EM in float64, starting from k-means++.

    Every mixture has its own parameters, except for a tied covariance. It is the covariance within the components of
    all mixtures, in which every pixel counts equally, and they are fitted together.

    A mixture has fewer components if there are fewer than ``PIXELS_PER_COMPONENT`` pixels for each, or fewer distinct
    pixels than components. A single pixel gives one Gaussian with the variance of the floor.

    Args:
        samples: Features of the pixels of each mixture, at least one each. Shape ``(n, D)``.
        num_components: Largest number of components of each mixture, P.
        generator: CPU generator that draws the starting points.
        covariance: Kind of covariance, a name of :data:`anomaly.density.gaussian.COVARIANCES`.
        covariance_rank: Number of factors of ``low_rank`` covariances, below D; for these only.
        variance_floor: Added to the variance of every direction; ``None`` for ``VARIANCE_FLOOR / D``.
        tolerance: EM stops when the mean log-likelihood per pixel gains less than this, in nats.
        max_iterations: Largest number of EM iterations.

    Returns:
        The mixture of each sample.

    Raises:
        InputError: A sample has no pixel or features that are not finite, a setting is out of range, or a direction has
            no variance and the floor is 0.

    Source: Dempster et al. (1977); Arthur & Vassilvitskii, k-means++ (SODA 2007); for ``low_rank``, Tipping & Bishop,
    Mixtures of Probabilistic Principal Component Analyzers (Neural Computation 1999).
    """
    rows = [check_features("mixture", each) for each in samples]
    if not rows:
        raise InputError("mixture: expected at least one sample of pixels, found none; fit it to other images")
    dim = rows[0].shape[1]
    rank = check_covariance(covariance, covariance_rank, dim)
    num_components = whole("num_components", num_components, 1, "a number of components of at least 1")
    most = whole("max_iterations", max_iterations, 1, "a number of iterations of at least 1")
    floor = VARIANCE_FLOOR / dim if variance_floor is None else real("variance_floor", variance_floor, finite=True)
    if floor < 0:
        raise InputError(f"variance_floor: expected a variance of at least 0, found {floor:g}; choose another")

    def fit(group: list[Tensor]) -> list[Mixture]:
        return _expectation_maximisation(group, num_components, generator, covariance, rank, floor, tolerance, most)

    return fit(rows) if COVARIANCES[covariance].shared else [mixture for each in rows for mixture in fit([each])]


def check_covariance(covariance: str, covariance_rank: int | None, dim: int) -> int:
    """Check the kind of covariance and the number of its factors.

    Args:
        covariance: Kind of covariance.
        covariance_rank: Number of factors of ``low_rank`` covariances.
        dim: Size of a feature, D.

    Returns:
        The number of factors; 0 for a kind that has none.

    Raises:
        InputError: There is no such kind, or the number is missing, out of range, or given for another kind.
    """
    choice("covariance", covariance, tuple(COVARIANCES))
    if covariance != "low_rank":
        if covariance_rank is not None:
            raise InputError(
                f"covariance_rank: expected None for a covariance of kind {covariance}, found {covariance_rank}; "
                "leave it out, or choose low_rank"
            )
        return 0
    rank = None if covariance_rank is None else whole("covariance_rank", covariance_rank)
    if rank is None or not 1 <= rank < dim:
        raise InputError(
            f"covariance_rank: expected a number of factors between 1 and {dim - 1}, below the {dim} dimensions, found "
            f"{covariance_rank}; choose another"
        )
    return rank


def _expectation_maximisation(
    samples: list[Tensor],
    num_components: int,
    generator: torch.Generator,
    covariance: str,
    rank: int,
    floor: float,
    tolerance: float,
    max_iterations: int,
) -> list[Mixture]:
    shares = []
    for x in samples:
        seeds = _spread_seeds(x, max(1, min(num_components, len(x) // PIXELS_PER_COMPONENT)), generator)
        shares.append(F.one_hot(torch.cdist(x, seeds).argmin(1)).double())
    reached = -torch.inf
    for _ in range(max_iterations):
        mixtures = _maximise(samples, shares, covariance, rank, floor)
        log_joint = [mixture.log_prob(x) for mixture, x in zip(mixtures, samples, strict=True)]
        log_density = [each.logsumexp(1, keepdim=True) for each in log_joint]
        before, reached = reached, torch.cat(log_density).mean().item()
        if reached - before < tolerance:
            break
        shares = [(joint - density).exp() for joint, density in zip(log_joint, log_density, strict=True)]
    return mixtures


def _maximise(samples: list[Tensor], shares: list[Tensor], covariance: str, rank: int, floor: float) -> list[Mixture]:
    """M-step from the pixels ``x (n, D)`` of each mixture and their responsibilities ``share (n, P)``."""
    masses = [share.sum(0).clamp_min(1e-12)[:, None] for share in shares]
    means = [share.T @ x / mass for x, share, mass in zip(samples, shares, masses, strict=True)]
    parts = list(zip(samples, shares, masses, means, strict=True))
    least = (ROUNDING * max(float(x.abs().max()) for x in samples)) ** 2
    if covariance == "diagonal":
        parameters = [_diagonal(*part, floor, least) for part in parts]
    elif covariance == "low_rank":
        parameters = [_low_rank(*part, floor, least, rank) for part in parts]
    elif covariance == "full":
        parameters = [{"precision_cholesky": _precision(torch.stack(list(_scatters(*p))), floor, least)} for p in parts]
    else:
        within = torch.stack([_within(*part) for part in parts]).sum(0) / sum(len(x) for x in samples)
        parameters = [{"precision_cholesky": _precision(within, floor, least)}] * len(samples)
    return [
        Mixture(mass[:, 0] / mass.sum(), mean, covariance, each)
        for mass, mean, each in zip(masses, means, parameters, strict=True)
    ]


def _diagonal(x: Tensor, share: Tensor, mass: Tensor, means: Tensor, floor: float, least: float) -> dict[str, Tensor]:
    variance = (share.T @ x.square() / mass - means.square()).clamp_min(0) + floor
    _require(bool((variance > least).all()))
    return {"stds": variance.sqrt()}


def _low_rank(
    x: Tensor, share: Tensor, mass: Tensor, means: Tensor, floor: float, least: float, rank: int
) -> dict[str, Tensor]:
    factors, noise = [], []
    for covariance in _scatters(x, share, mass, means):
        variance, basis = torch.linalg.eigh(covariance)
        variance = variance.clamp_min(0) + floor
        noise.append(variance[:-rank].mean())
        factors.append(basis[:, -rank:] * (variance[-rank:] - noise[-1]).sqrt())
    variances = torch.stack(noise)
    _require(bool((variances > least).all()))
    return {"factors": torch.stack(factors), "stds": variances.sqrt()}


def _scatters(x: Tensor, share: Tensor, mass: Tensor, means: Tensor) -> Iterator[Tensor]:
    """Yield the covariance of each component, one after the other. Shape ``(D, D)``."""
    for weights, total, mean in zip(share.T, mass, means, strict=True):
        away = x - mean
        yield away.T @ (weights[:, None] * away) / total


def _within(x: Tensor, share: Tensor, mass: Tensor, means: Tensor) -> Tensor:
    """Compute the scatter of the pixels around the means of their components: the total less that of the means."""
    centre = x.mean(0)
    away, between = x - centre, means - centre
    return away.T @ away - between.T @ (mass * between)


def _precision(covariance: Tensor, floor: float, least: float) -> Tensor:
    """Return upper triangular A with ``A A' = (covariance + floor I)^-1``. Shape ``(..., D, D)``."""
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype)
    factor, failed = torch.linalg.cholesky_ex(covariance + floor * identity)
    _require(not failed.any() and bool((factor.diagonal(dim1=-2, dim2=-1).square() > least).all()))
    return torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False).mT


def _require(has_variance: bool) -> None:
    if not has_variance:
        raise InputError(
            "mixture: expected pixels that differ in all directions within each component, found a direction without "
            "variance; set variance_floor above 0, use fewer components, or more pixels"
        )


def _spread_seeds(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Draw up to ``most`` seeds by k-means++, fewer if there are fewer distinct pixels. Shape ``(p, D)``."""
    seeds = x[torch.randint(len(x), (1,), generator=generator)]
    nearest = x.new_full((len(x),), torch.inf)  # squared distances to the nearest seed
    while len(seeds) < most:
        added = torch.cdist(x, seeds[-1:], compute_mode="donot_use_mm_for_euclid_dist")[:, 0]
        nearest = torch.minimum(nearest, added.square())
        if not nearest.any():
            break
        seeds = torch.cat([seeds, x[torch.multinomial(nearest, 1, generator=generator)]])
    return seeds


class Mixtures(nn.Module):
    """A mixture for each class, stored in float32.

    Args:
        num_classes: Number of classes, C.
        dim: Size of a feature, D.
        num_components: Largest number of components of a class, P.
        covariance: Kind of covariance, a name of :data:`anomaly.density.gaussian.COVARIANCES`.
        covariance_rank: Number of factors of ``low_rank`` covariances, below D; for these only.

    Shape:
        ``means (C, P, D)``; ``log_weights (C, P)``, minus infinity for components that a class does not have; and the
        parameters of the covariances: ``stds (C, P, D)`` if diagonal, ``precision_cholesky (D, D)`` if tied and
        ``(C, P, D, D)`` if full, ``factors (C, P, D, q)`` and ``stds (C, P)`` if of low rank.

    Raises:
        InputError: A setting is out of range.
    """

    means: Tensor
    log_weights: Tensor

    def __init__(
        self,
        num_classes: int,
        dim: int,
        num_components: int,
        covariance: str = "diagonal",
        covariance_rank: int | None = None,
    ) -> None:
        super().__init__()
        self.covariance, self.covariance_rank = covariance, covariance_rank
        rank = check_covariance(covariance, covariance_rank, dim)
        self.kind = COVARIANCES[covariance]
        of_all = num_classes, whole("num_components", num_components, 1, "a number of components of at least 1")
        self.register_buffer("means", torch.zeros(*of_all, dim))
        self.register_buffer("log_weights", torch.full(of_all, -torch.inf))
        self.parameter_names = tuple(self.kind.shapes(dim, rank))
        for name, shape in self.kind.shapes(dim, rank).items():
            unit = torch.eye(dim) if name == "precision_cholesky" else torch.full(shape, float(name == "stds"))
            self.register_buffer(name, unit if self.kind.shared else unit.repeat(*of_all, *[1] * len(shape)))

    def fit(
        self, samples: Sequence[Tensor], generator: torch.Generator, variance_floor: float | None = None
    ) -> list[int]:
        """Fit the mixture of every class, on the CPU, with :func:`fit_mixtures`.

        Args:
            samples: Features of the pixels of each class; a class without pixels gets no mixture. Shape ``(n, D)``.
            generator: CPU generator that draws the starting points.
            variance_floor: Added to the variance of every direction; ``None`` for ``VARIANCE_FLOOR / D``.

        Returns:
            Number of components of each class; 0 for a class without pixels.

        Raises:
            InputError: There is no pixel, or one whose features are not finite; or a direction has no variance and the
                floor is 0.
        """
        seen = [k for k, features in enumerate(samples) if len(features)]
        mixtures = fit_mixtures(
            [samples[k] for k in seen],
            self.log_weights.shape[1],
            generator,
            covariance=self.covariance,
            covariance_rank=self.covariance_rank,
            variance_floor=variance_floor,
        )
        self.log_weights.fill_(-torch.inf)
        for k, mixture in zip(seen, mixtures, strict=True):
            used = len(mixture.weights)
            self.means[k, :used], self.log_weights[k, :used] = mixture.means, mixture.weights.log()
            for name, value in mixture.parameters.items():
                place = getattr(self, name) if self.kind.shared else getattr(self, name)[k, :used]
                place.copy_(value)
        return self.log_weights.isfinite().sum(1).tolist()

    def log_prob(self, features: Tensor) -> Tensor:
        """Compute the log-density of every component, including its weight, in float64.

        Args:
            features: Features. Shape ``(N, D)``.

        Returns:
            ``log(w_cp N(x; cp))``; minus infinity for components that a class does not have. Shape ``(N, C, P)``.
        """
        parameters = {name: getattr(self, name).double() for name in self.parameter_names}
        if not self.kind.shared:
            parameters = {name: value.flatten(0, 1) for name, value in parameters.items()}
        log_prob = self.kind.log_prob(features.double(), self.means.flatten(0, 1).double(), **parameters)
        return log_prob.unflatten(1, self.log_weights.shape) + self.log_weights

    def peak(self) -> Tensor:
        """Compute the log-density of every component at its mean, including its weight. Shape ``(C, P)``."""
        return self.kind.peak(**{name: getattr(self, name) for name in self.parameter_names}) + self.log_weights
