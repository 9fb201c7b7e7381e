"""Log-densities of Gaussians of every kind of covariance against scipy, and the memory that they take."""

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from anomaly.density.gaussian import COVARIANCES
from tests.anomaly.density_oracles import KINDS, gaussian, matrix, seeded


def random_gaussians(kind, count=3, dim=5, rank=2, seed=0):
    """Means, and random parameters of the covariances, in float64."""
    draw = seeded(seed)
    shapes = COVARIANCES[kind].shapes(dim, rank)
    parameters = {}
    for name, shape in shapes.items():
        full = shape if COVARIANCES[kind].shared else (count, *shape)
        value = torch.randn(full, generator=draw, dtype=torch.float64)
        if name == "stds":
            value = 0.2 + value.abs()
        elif name == "precision_cholesky":
            value = value.triu(1) + torch.diag_embed(0.3 + value.diagonal(dim1=-2, dim2=-1).abs())
        parameters[name] = value
    return 3 * torch.randn(count, dim, generator=draw, dtype=torch.float64), parameters


def test_every_kind_is_tested():
    assert set(COVARIANCES) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_log_density_is_scipys(kind):
    means, parameters = random_gaussians(kind)
    x = 10 * torch.randn(40, 5, generator=seeded(1), dtype=torch.float64)
    found = COVARIANCES[kind].log_prob(x, means, **parameters)
    assert found.shape == (40, 3)
    for g in range(3):
        np.testing.assert_allclose(found[:, g], gaussian(x, means[g], matrix(parameters, g)), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_peak_is_the_density_at_the_mean(kind):
    means, parameters = random_gaussians(kind)
    peak = COVARIANCES[kind].peak(**parameters).expand(3)
    for g in range(3):
        np.testing.assert_allclose(peak[g], gaussian(means[g : g + 1], means[g], matrix(parameters, g))[0], rtol=1e-9)


class Largest(TorchFunctionMode):
    """Notes the number of values of the largest tensor that any function of torch returns."""

    values = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(each, torch.Tensor):
                self.values = max(self.values, each.numel())
        return found


@pytest.mark.parametrize("kind", KINDS)
def test_no_array_has_every_feature_under_every_gaussian(kind):
    means, parameters = random_gaussians(kind, count=20, dim=30, rank=3)
    x = torch.randn(2000, 30, generator=seeded(1), dtype=torch.float64)
    with Largest() as largest:
        COVARIANCES[kind].log_prob(x, means, **parameters)
    assert 0 < largest.values <= 2000 * 30  # N D; N G D is twenty times as much
