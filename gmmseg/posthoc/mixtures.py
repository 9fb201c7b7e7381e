"""Class mixtures that are fitted to the features of a trained network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anomaly.utils.processes import Processes
from gmmseg.functional import diagonal_log_prob, gaussian_peak

PIXELS_PER_COMPONENT = 50
"""Pixels that a class needs for each of its components; every class with a pixel gets at least one component."""
UNSEEN_LOG_LIKELIHOOD = -1e9
"""Log-likelihood of a class without a mixture: finite, and below that of any mixture at any unit vector."""
VARIANCE_FLOOR = 0.64
"""Floor of the variance, in units of 1 / D, the variance of an even spread over the sphere.

At 64 dimensions it equals GMMSeg's floor of 0.01.
"""
_CHUNK = 1 << 16  # pixels whose densities are computed at a time


class ClassDensities(nn.Module):
    r"""A mixture of diagonal Gaussians for each class, with weights, fitted to features by EM.

    .. math:: \log p(x | c) = \log \sum_p w_{cp} N(x; \mu_{cp}, \sigma_{cp}^2)

    Args:
        num_classes: Number of classes, C.
        num_components: Largest number of components per class, P.
        dim: Size of a feature, D.

    Shape:
        ``means``, ``stds``: ``(C, P, D)``.
        ``log_weights (C, P)``: minus infinity for components that a class does not have.
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
        """Map features to the coordinates of the mixtures; here the identity. Shape ``(N, D)``, float64."""
        return features

    def fit(self, sample: StratifiedSample, generator: torch.Generator) -> list[int]:
        """Fit the mixture of every class to its sample with :func:`fit_mixture`.

        Args:
            sample: Features of pixels of every class.
            generator: CPU generator that draws the starting points.

        Returns:
            Number of components of each class; 0 for a class without pixels, which gets no mixture.
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
        """Compute class log-likelihoods; a class without a mixture gets ``UNSEEN_LOG_LIKELIHOOD``.

        They are computed in float64, because the features of some networks lie close together.

        Args:
            features: Features, scaled as those the mixtures were fitted to. Shape ``(N, D)``.

        Returns:
            Natural logarithms of densities. Shape ``(N, C)``, float32.
        """
        return self.of_classes(self.of_components(features))

    @staticmethod
    def of_classes(component_log_prob: Tensor) -> Tensor:
        """Sum the components of each class.

        Args:
            component_log_prob: Output of :meth:`of_components`. Shape ``(N, C, P)``.

        Returns:
            Class log-likelihoods. Shape ``(N, C)``.
        """
        return component_log_prob.logsumexp(2).clamp_min(UNSEEN_LOG_LIKELIHOOD)

    def of_components(self, features: Tensor) -> Tensor:
        """Compute the log-density of every component, including its weight.

        Args:
            features: Features, scaled as those the mixtures were fitted to. Shape ``(N, D)``.

        Returns:
            ``log(w_cp N(x; cp))``; minus infinity for components that a class does not have. Shape ``(N, C, P)``,
            float32.
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
        """Compute the log-density of every component at its mean, including its weight. Shape ``(C, P)``."""
        return gaussian_peak(self.stds) + self.log_weights


class WhitenedDensities(ClassDensities):
    """Mixtures over features of any scale, in coordinates where all classes together have unit covariance.

    All classes have equal weight in the covariance, whatever their number of pixels. A diagonal Gaussian in these
    coordinates has a full covariance over the features: directions of small variance count as much as those of large
    variance. Densities leave out the determinant of the transform, which is the same for all classes.

    Shape:
        ``centre (D,)`` and ``whitening (D, D)``, besides the buffers of :class:`ClassDensities`.

    Attributes:
        shrinkage: Share of the mean variance that is added to the variance of every direction.
    """

    variance_floor = 0.05
    shrinkage = 0.01
    centre: Tensor
    whitening: Tensor

    def __init__(self, num_classes: int, num_components: int, dim: int) -> None:
        super().__init__(num_classes, num_components, dim)
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("whitening", torch.eye(dim))

    def transform(self, features: Tensor) -> Tensor:
        """Centre and whiten features. Shape ``(N, D)``, float64."""
        return (features - self.centre.double()) @ self.whitening.double()

    def fit(self, sample: StratifiedSample, generator: torch.Generator) -> list[int]:
        """Compute centre and whitening, then fit the mixture of every class in these coordinates.

        Args:
            sample: Features of pixels of every class.
            generator: CPU generator that draws the starting points.

        Returns:
            Number of components of each class; 0 for a class without pixels, which gets no mixture.
        """
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
    """A uniform random sample of the pixels of every class, drawn in one pass over any number of pixels.

    Every pixel gets a random number, and each class keeps the pixels with the smallest ones. After any number of
    batches, all pixels of a class are therefore in its sample with equal probability.

    Args:
        num_classes: Number of classes, C.
        per_class: Largest number of pixels kept per class.
        dim: Size of a feature, D.
        generator: CPU generator that draws the random numbers.

    Shape:
        ``seen (C,)``: number of pixels of each class that were added, int64.
    """

    def __init__(self, num_classes: int, per_class: int, dim: int, generator: torch.Generator) -> None:
        self.seen = torch.zeros(num_classes, dtype=torch.long)
        self._draws = torch.full((num_classes, per_class), torch.inf, dtype=torch.float64)
        self._features = torch.empty(num_classes, per_class, dim)  # uses memory only where it is written
        self._here = torch.zeros(num_classes, per_class, dtype=torch.bool)
        self._generator = generator

    def add(self, features: Tensor | None, labels: Tensor) -> None:
        """Add pixels to the sample.

        Several processes add all pixels in the same order, with generators in the same state. :meth:`gather` then
        brings the features together.

        Args:
            features: Features of the pixels; None if another process has them. Shape ``(N, D)``.
            labels: Classes of the pixels. Shape ``(N,)``, int64 in ``[0, C)``.
        """
        features, labels = None if features is None else features.cpu(), labels.cpu()
        self.seen += torch.bincount(labels, minlength=len(self.seen))
        for k in labels.unique().tolist():
            of_class = labels == k
            slots = self._draws.shape[1]
            draws = torch.rand(int(of_class.sum()), dtype=torch.float64, generator=self._generator)
            draws = torch.cat([self._draws[k], draws])
            chosen = draws.topk(slots, largest=False).indices
            arriving = chosen[chosen >= slots]
            free = torch.ones(slots, dtype=torch.bool)
            free[chosen[chosen < slots]] = False
            self._draws[k, free] = draws[arriving]
            self._here[k, free] = features is not None
            if features is not None:
                self._features[k, free] = features[of_class][arriving - slots]

    def gather(self, processes: Processes) -> None:
        """Bring the features of all processes together, on each of them.

        Args:
            processes: The processes that added the pixels.
        """
        for k in range(len(self.seen)) if processes.size > 1 else ():
            here = self._here[k]
            for places, features in processes.gather((here, self._features[k, here])):
                self._features[k, places] = features
                self._here[k] |= places

    def of_class(self, index: int) -> Tensor:
        """Return the sampled features of a class. Shape ``(n, D)``, with n at most ``per_class``."""
        return self._features[index, self._draws[index] < torch.inf]


@dataclass(frozen=True)
class DiagonalMixture:
    """A mixture of diagonal Gaussians.

    Shape:
        ``weights (P,)``, ``means (P, D)``, ``stds (P, D)``, all float64.
    """

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
    """Fit a mixture of diagonal Gaussians by EM in float64, starting from k-means++.

    The mixture has fewer components if there are fewer than ``PIXELS_PER_COMPONENT`` pixels for each, or fewer
    distinct pixels than components. A single pixel gives one Gaussian with the variance of the floor.

    Args:
        features: Features of pixels, at least one. Shape ``(n, D)``.
        num_components: Largest number of components, P.
        generator: CPU generator that draws the starting points.
        variance_floor: Added to every variance; ``None`` for ``VARIANCE_FLOOR / D``.
        tolerance: EM stops when the mean log-likelihood per pixel gains less than this, in nats.
        max_iterations: Largest number of EM iterations.

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
    """M-step from pixels ``x (n, D)`` and their responsibilities ``share (n, P)``."""
    weight = share.sum(0).clamp_min(1e-12)[:, None]
    means = share.T @ x / weight
    variance = (share.T @ x.square() / weight - means.square()).clamp_min(0) + variance_floor
    return DiagonalMixture(weight[:, 0] / weight.sum(), means, variance.sqrt())


def _spread_seeds(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Draw up to ``most`` seeds by k-means++, fewer if there are fewer distinct pixels. Shape ``(p, D)``."""
    seeds = x[torch.randint(len(x), (1,), generator=generator)]
    while len(seeds) < most:
        distance = torch.cdist(x, seeds, compute_mode="donot_use_mm_for_euclid_dist").amin(1).square()
        if not distance.any():
            break
        seeds = torch.cat([seeds, x[torch.multinomial(distance, 1, generator=generator)]])
    return seeds
