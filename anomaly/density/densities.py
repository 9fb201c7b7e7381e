"""Densities of classes over features: whitening, a mixture or bank for each class, and optionally one of outliers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anomaly.density.checks import check_features
from anomaly.density.mixtures import Mixtures
from anomaly.density.neighbours import Banks
from anomaly.density.sample import StratifiedSample
from anomaly.density.whitening import SHRINKAGE, Whitening
from anomaly.errors import InputError

UNSEEN_LOG_LIKELIHOOD = -1e9
"""Log-likelihood of a class without pixels: finite, and below that of any density fitted to features."""
WHITENED_FLOOR = 0.05
"""Default floor of the variance in whitened coordinates, where features have unit variance."""
_CHUNK = 1 << 16  # pixels whose densities are computed at a time


class ClassDensities(nn.Module):
    r"""A density over features for each class, fitted to pixels: a mixture of Gaussians, or a bank of features.

    .. math:: \log p(x | c) = \log \sum_p w_{cp} N(W^T (x - m); \mu_{cp}, \Sigma_{cp})

    Densities are those of the whitened features :math:`W^T (x - m)`, in which all classes together have unit
    covariance; all classes have equal weight in it, whatever their number of pixels. They leave out the determinant of
    W, which is the same for all classes and for outliers. A diagonal Gaussian in these coordinates has a full
    covariance over the features: directions of small variance count as much as those of large variance.

    With ``num_classes=1`` it is a density without labels. All that determines the shapes of the buffers is given here,
    so that a state dict loads strictly into densities of the same arguments.

    Args:
        num_classes: Number of classes, C.
        dim: Size of a feature, D.
        num_components: Largest number of components per class, P. Not used by a bank, which has one.
        covariance: Kind of covariance: ``diagonal``, ``tied`` (one full covariance that all components of all classes
            share), ``low_rank`` or ``full``. Not used by a bank.
        rank: Number of leading directions that the whitening keeps, R; ``None`` keeps all.
        covariance_rank: Number of factors of ``low_rank`` covariances, below R; for these only.
        bank: Largest number of features per class of a bank, which replaces the mixture; ``None`` for a mixture.
        neighbours: Number of the neighbour whose distance gives the density of a bank.
        outliers: Whether there is one more density, of outliers, of the same kind.

    Shape:
        The buffers are those of :class:`~anomaly.density.whitening.Whitening`, and those of
        :class:`~anomaly.density.mixtures.Mixtures` or :class:`~anomaly.density.neighbours.Banks` in R dimensions.

    Raises:
        InputError: A setting is unknown or out of range.

    Source: the idea of whitened deep features with a Gaussian per class, Lee et al. (NeurIPS 2018); of a density of
    outliers, Bishop, Novelty Detection and Neural Network Validation (1994).
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        *,
        num_components: int = 5,
        covariance: str = "diagonal",
        rank: int | None = None,
        covariance_rank: int | None = None,
        bank: int | None = None,
        neighbours: int = 1,
        outliers: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes, self.dim = num_classes, dim
        self.whitening = Whitening(dim, rank)

        def densities(classes: int) -> Mixtures | Banks:
            if bank is not None:
                return Banks(classes, self.whitening.rank, bank, neighbours)
            return Mixtures(classes, self.whitening.rank, num_components, covariance, covariance_rank)

        self.known = densities(num_classes)
        self.outliers = densities(1) if outliers else None

    def fit(
        self,
        sample: StratifiedSample,
        generator: torch.Generator,
        *,
        outliers: Tensor | None = None,
        shrinkage: float = SHRINKAGE,
        variance_floor: float | None = None,
        whiten: bool = True,
        coreset: str = "greedy",
    ) -> list[int]:
        """Fit the whitening to all classes, then the density of every class, and that of outliers, on the CPU.

        Args:
            sample: Features of pixels of every class.
            generator: CPU generator that draws the starting points of mixtures, or the features of random coresets.
            outliers: Features of outlier pixels; needed if and only if there is a density of outliers. Shape
                ``(n, D)``.
            shrinkage: Share of the mean variance that the whitening adds to the variance of every direction.
            variance_floor: Added to every variance of a mixture, in the coordinates of the mixtures; ``None`` for
                ``WHITENED_FLOOR``, or without whitening for 0.64 / D, which suits unit vectors.
            whiten: Whether to whiten; otherwise densities are those of the features themselves.
            coreset: How features of a bank are chosen: ``greedy`` (k-centre) or ``random``.

        Returns:
            Number of components (features, for a bank) of each class; 0 for a class without pixels, which gets no
            density.

        Raises:
            InputError: There is no pixel, or one whose features are not finite; all pixels are equal; the covariance
                has directions without variance and neither shrinkage nor floor give them one; outliers are missing,
                not expected, or mostly pixels of the sample; or a setting is out of range.
        """
        classes = [sample.of_class(k) for k in range(len(sample.seen))]
        rows = check_features("densities", torch.cat(classes), self.dim)
        if outliers is not None:
            outliers = check_features("outliers", outliers.cpu(), self.dim)
        self._check_outliers(rows, outliers)
        if whiten:
            weights = [torch.full((len(each),), 1 / max(1, len(each)), dtype=torch.float64) for each in classes]
            self.whitening.fit(rows, torch.cat(weights), shrinkage)
        else:
            self.whitening.reset()
        variance_floor = WHITENED_FLOOR if variance_floor is None and whiten else variance_floor

        def fit(densities: Mixtures | Banks, samples: list[Tensor]) -> list[int]:
            samples = [self.whitening(each) for each in samples]
            if isinstance(densities, Banks):
                return densities.fit(samples, generator, coreset)
            return densities.fit(samples, generator, variance_floor)

        found = fit(self.known, classes)
        if self.outliers is not None and outliers is not None:
            fit(self.outliers, [outliers])
        return found

    def _check_outliers(self, rows: Tensor, outliers: Tensor | None) -> None:
        """Check that outliers are there if they are needed, and are other pixels than the known ones."""
        if (outliers is None) != (self.outliers is None):
            expected, found = ("none", "some") if self.outliers is None else ("features of outlier pixels", "none")
            raise InputError(
                f"outliers: expected {expected}, as the densities were made with outliers={self.outliers is not None}, "
                f"found {found}; make and fit them alike"
            )
        if outliers is None:
            return
        values = [row.tobytes() for row in outliers.numpy()]
        other = set(values)
        known = {value for row in rows.numpy() if (value := row.tobytes()) in other}
        same = sum(value in known for value in values)
        if 2 * same >= len(values):
            raise InputError(
                f"outliers: expected pixels that are not known, found {same} of {len(values)} equal to pixels of the "
                "known data; give images of other objects"
            )

    def of_components(self, features: Tensor) -> Tensor:
        """Compute the log-density of every component, including its weight.

        They are computed in float64, because the features of some networks lie close together.

        Args:
            features: Features, scaled as those the densities were fitted to. Shape ``(N, D)``.

        Returns:
            ``log(w_cp N(x; cp))``; minus infinity for components that a class does not have. Shape ``(N, C, P)``,
            float32; P is 1 for a bank.
        """
        return self._log_prob([self.known], features)[0]

    def of_components_and_outliers(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the log-densities of components and of outliers, for which the features are whitened once.

        Args:
            features: Features, scaled as those the densities were fitted to. Shape ``(N, D)``.

        Returns:
            Those of every component, including its weight, and minus infinity for components that a class does not
            have. Shape ``(N, C, P)``, float32. Those of outliers; None without a density of outliers. Shape ``(N,)``,
            float32.
        """
        if self.outliers is None:
            return self.of_components(features), None
        known, outliers = self._log_prob([self.known, self.outliers], features)
        return known, self.of_classes(outliers)[:, 0]

    def _log_prob(self, densities: Sequence[Mixtures | Banks], features: Tensor) -> list[Tensor]:
        """Log-densities of components, of several densities of the same whitened features."""
        white = (self.whitening(chunk) for chunk in features.split(_CHUNK))
        parts = [[each.log_prob(chunk).float() for each in densities] for chunk in white]
        return [torch.cat(of_one) for of_one in zip(*parts, strict=True)]

    @staticmethod
    def of_classes(component_log_prob: Tensor) -> Tensor:
        """Sum the components of each class; a class without pixels gets ``UNSEEN_LOG_LIKELIHOOD``.

        Args:
            component_log_prob: Output of :meth:`of_components`. Shape ``(N, C, P)``.

        Returns:
            Class log-likelihoods. Shape ``(N, C)``.
        """
        return component_log_prob.logsumexp(2).clamp_min(UNSEEN_LOG_LIKELIHOOD)

    def forward(self, features: Tensor) -> Tensor:
        """Compute class log-likelihoods; a class without pixels gets ``UNSEEN_LOG_LIKELIHOOD``.

        Args:
            features: Features, scaled as those the densities were fitted to. Shape ``(N, D)``.

        Returns:
            Natural logarithms of densities. Shape ``(N, C)``, float32.
        """
        return self.of_classes(self.of_components(features))

    def of_outliers(self, features: Tensor) -> Tensor:
        """Compute log-densities of outliers, in the coordinates of the classes.

        Args:
            features: Features, scaled as those the densities were fitted to. Shape ``(N, D)``.

        Returns:
            Natural logarithms of densities. Shape ``(N,)``, float32.

        Raises:
            InputError: There is no density of outliers.
        """
        if self.outliers is None:
            raise InputError(
                "outliers: expected densities that were made with outliers=True, found none; fit them with outliers"
            )
        return self.of_classes(self._log_prob([self.outliers], features)[0])[:, 0]

    def peak(self) -> Tensor | None:
        """Compute the log-density of every component at its mean, including its weight.

        Returns:
            Its largest value for each component. Shape ``(C, P)``; ``None`` for a bank, whose density has no mean.
        """
        return None if isinstance(self.known, Banks) else self.known.peak()
