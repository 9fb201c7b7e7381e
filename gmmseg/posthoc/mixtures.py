"""Class mixtures fitted afterwards, on the frozen features of a trained network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmmseg.functional import diagonal_log_prob, gaussian_peak

PIXELS_PER_COMPONENT = 50
"""A class gets one component for each so many of its pixels, up to what was asked for; one at least."""
UNSEEN_LOG_LIKELIHOOD = -1e9
"""Of a class without a mixture: finite, and below what any mixture gives a unit vector."""
VARIANCE_FLOOR = 0.64
"""Times 1 / D, the variance of an even spread over the sphere: at 64 dimensions this is GMMSeg's floor of 0.01."""
_CHUNK = 1 << 16  # pixels whose densities are computed at a time


class ClassDensities(nn.Module):
    r"""A mixture of diagonal Gaussians for each class, with weights and free means: what EM fits to given features.

    .. math:: \log p(x | c) = \log \sum_p w_{cp} N(x; \mu_{cp}, \sigma_{cp}^2)

    Args:
        num_classes: C.
        num_components: P, most components of a class.
        dim: D, size of a feature.

    Shape:
        ``means``, ``stds (C, P, D)``; ``log_weights (C, P)``, minus infinity where a class has fewer components, and
        throughout for a class that has none.
    """

    means: Tensor
    stds: Tensor
    log_weights: Tensor

    def __init__(self, num_classes: int, num_components: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(num_classes, num_components, dim))
        self.register_buffer("stds", torch.ones(num_classes, num_components, dim))
        self.register_buffer("log_weights", torch.full((num_classes, num_components), -torch.inf))

    variance_floor: float | None = None

    def transform(self, features: Tensor) -> Tensor:
        """Bring features to the coordinates that the mixtures are in. Shape ``(N, D)``, float64."""
        return features

    def fit(self, sample: StratifiedSample, generator: torch.Generator) -> list[int]:
        """Fit the mixture of every class to its sample, by :func:`fit_mixture`.

        Args:
            sample: Features of pixels.
            generator: Draws the starts; of the CPU.

        Returns:
            The number of components of each class; 0 for a class without a pixel, which gets no mixture.
        """
        self.log_weights.fill_(-torch.inf)
        for k in (sample.seen > 0).nonzero().flatten().tolist():
            features = self.transform(sample.of_class(k).double())
            mixture = fit_mixture(features, self.log_weights.shape[1], generator, self.variance_floor)
            used = len(mixture.weights)
            self.means[k, :used], self.stds[k, :used] = mixture.means, mixture.stds
            self.log_weights[k, :used] = mixture.weights.log()
        return self.log_weights.isfinite().sum(1).tolist()

    def forward(self, features: Tensor) -> Tensor:
        """Class log-likelihoods, ``UNSEEN_LOG_LIKELIHOOD`` for a class that has no mixture.

        Computed in float64: features of some networks are close to each other.

        Args:
            features: Unit vectors. Shape ``(N, D)``.

        Returns:
            Natural logarithms of densities. Shape ``(N, C)``, float32.
        """
        return self.of_classes(self.of_components(features))

    @staticmethod
    def of_classes(component_log_prob: Tensor) -> Tensor:
        """Class log-likelihoods of what :meth:`of_components` gives. Shape ``(N, C, P)`` -> ``(N, C)``."""
        return component_log_prob.logsumexp(2).clamp_min(UNSEEN_LOG_LIKELIHOOD)

    def of_components(self, features: Tensor) -> Tensor:
        """``log(w_cp N(x; cp))``, minus infinity for a component that is not there.

        Args:
            features: Unit vectors. Shape ``(N, D)``.

        Returns:
            Shape ``(N, C, P)``, float32.
        """
        means, stds = self.means.flatten(0, 1).double(), self.stds.flatten(0, 1).double()
        parts = []
        for chunk in features.split(_CHUNK):
            log_prob = diagonal_log_prob(self.transform(chunk.double()), means, stds).unflatten(
                1, self.log_weights.shape
            )
            parts.append((log_prob + self.log_weights).float())
        return torch.cat(parts)

    def peak(self) -> Tensor:
        """The same at the component's mean, its largest value. Shape ``(C, P)``."""
        return gaussian_peak(self.stds) + self.log_weights


class WhitenedDensities(ClassDensities):
    """Mixtures over features of any scale, in coordinates where all classes together have unit covariance.

    Each class counts the same, however many its pixels. A diagonal Gaussian there is one with a full covariance in the
    features: directions in which pixels hardly vary count as much as those in which they vary most. (The determinant of
    the change of coordinates, the same for all classes, is left out.)

    Shape:
        ``centre (D,)``, ``whitening (D, D)``, and those of :class:`ClassDensities`.
    """

    variance_floor = 0.05
    shrinkage = 0.01
    """Share of the mean variance that is added to the variance of every direction."""
    centre: Tensor
    whitening: Tensor

    def __init__(self, num_classes: int, num_components: int, dim: int) -> None:
        super().__init__(num_classes, num_components, dim)
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("whitening", torch.eye(dim))

    def transform(self, features: Tensor) -> Tensor:
        """See :meth:`ClassDensities.transform`."""
        return (features - self.centre.double()) @ self.whitening.double()

    def fit(self, sample: StratifiedSample, generator: torch.Generator) -> list[int]:
        """Find the coordinates, then fit as :class:`ClassDensities`."""
        classes = [sample.of_class(k).double() for k in sample.seen.nonzero().flatten().tolist()]
        weights = torch.cat([torch.full((len(x),), 1 / len(x), dtype=torch.float64) for x in classes])
        rows = torch.cat(classes)
        centre = weights @ rows / weights.sum()
        away = rows - centre
        variance, basis = torch.linalg.eigh(away.T @ (weights[:, None] * away) / weights.sum())
        self.centre.copy_(centre)
        self.whitening.copy_(basis / (variance + self.shrinkage * variance.mean()).clamp_min(1e-12).sqrt())
        return super().fit(sample, generator)


class StratifiedSample:
    """An even random sample of the pixels of every class, from one pass over any number of them.

    Every pixel draws a number, and each class keeps the pixels with its smallest ones: after any number of
    batches, each of a class's pixels is in its sample with the same chance.

    Args:
        num_classes: C.
        per_class: Most pixels kept of a class.
        dim: D, size of a feature.
        generator: Draws the numbers; of the CPU.

    Shape:
        ``seen (C,)``: pixels met of each class, int64.
    """

    def __init__(self, num_classes: int, per_class: int, dim: int, generator: torch.Generator) -> None:
        self.seen = torch.zeros(num_classes, dtype=torch.long)
        self._draws = torch.full((num_classes, per_class), torch.inf, dtype=torch.float64)
        self._features = torch.empty(num_classes, per_class, dim)  # takes memory only where it is written
        self._generator = generator

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Let pixels take part.

        Args:
            features: Shape ``(N, D)``.
            labels: Their classes. Shape ``(N,)``, int64 in ``[0, C)``.
        """
        features, labels = features.cpu(), labels.cpu()
        self.seen += torch.bincount(labels, minlength=len(self.seen))
        for k in labels.unique().tolist():
            of_class = features[labels == k]
            slots = self._draws.shape[1]
            draws = torch.rand(len(of_class), dtype=torch.float64, generator=self._generator)
            draws = torch.cat([self._draws[k], draws])
            chosen = draws.topk(slots, largest=False).indices
            arriving = chosen[chosen >= slots]
            free = torch.ones(slots, dtype=torch.bool)
            free[chosen[chosen < slots]] = False
            self._draws[k, free] = draws[arriving]
            self._features[k, free] = of_class[arriving - slots]

    def of_class(self, index: int) -> Tensor:
        """The pixels kept of a class. Shape ``(n, D)``, n at most ``per_class``."""
        return self._features[index, self._draws[index] < torch.inf]


@dataclass(frozen=True)
class DiagonalMixture:
    """One mixture. Shape: ``weights (P,)``, ``means (P, D)``, ``stds (P, D)``, float64."""

    weights: Tensor
    means: Tensor
    stds: Tensor


def fit_mixture(
    features: Tensor,
    num_components: int,
    generator: torch.Generator,
    variance_floor: float | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
) -> DiagonalMixture:
    """Fit a mixture of diagonal Gaussians by EM from a k-means++ start, in float64.

    Fewer pixels than ``PIXELS_PER_COMPONENT`` for each component, or fewer different ones than components, give
    fewer components; a single pixel gives a Gaussian of the floor's width.

    Args:
        features: Shape ``(n, D)``, n at least 1.
        num_components: P, most components.
        generator: Draws the start; of the CPU.
        variance_floor: Added to every variance; ``None`` gives ``VARIANCE_FLOOR / D``.
        tolerance: EM ends when the mean log-likelihood of a pixel gains less, in nats.
        max_iterations: EM ends after so many at the latest.

    Source: Dempster et al. (1977); Arthur & Vassilvitskii, k-means++ (SODA 2007).
    """
    x = features.double()
    floor = VARIANCE_FLOOR / x.shape[1] if variance_floor is None else variance_floor
    num_components = max(1, min(num_components, len(x) // PIXELS_PER_COMPONENT))
    share = F.one_hot(torch.cdist(x, _spread_seeds(x, num_components, generator)).argmin(1)).double()
    reached = -torch.inf
    for _ in range(max_iterations):
        mixture = _maximise(x, share, floor)
        log_joint = diagonal_log_prob(x, mixture.means, mixture.stds) + mixture.weights.log()
        log_density = log_joint.logsumexp(1, keepdim=True)
        before, reached = reached, log_density.mean().item()
        if reached - before < tolerance:
            break
        share = (log_joint - log_density).exp()
    return mixture


def _maximise(x: Tensor, share: Tensor, variance_floor: float) -> DiagonalMixture:
    """M-step. Shape: pixels ``(n, D)``, their shares in the components ``(n, P)``."""
    weight = share.sum(0).clamp_min(1e-12)[:, None]
    means = share.T @ x / weight
    variance = (share.T @ x.square() / weight - means.square()).clamp_min(0) + variance_floor
    return DiagonalMixture(weight[:, 0] / weight.sum(), means, variance.sqrt())


def _spread_seeds(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Draw seeds by k-means++, fewer where there are fewer different pixels. Shape ``(<= most, D)``."""
    seeds = x[torch.randint(len(x), (1,), generator=generator)]
    while len(seeds) < most:
        distance = torch.cdist(x, seeds, compute_mode="donot_use_mm_for_euclid_dist").amin(1).square()
        if not distance.any():
            break
        seeds = torch.cat([seeds, x[torch.multinomial(distance, 1, generator=generator)]])
    return seeds
