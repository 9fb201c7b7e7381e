"""Whitening: unit covariance of weighted features, the leading directions, shrinkage, and few or bad pixels."""

import numpy as np
import pytest
import torch

from anomaly.density.whitening import Whitening
from anomaly.errors import InputError
from tests.anomaly.density_oracles import blobs, seeded

X = blobs(400, 6) * torch.tensor([1, 2, 5, 1, 0.1, 3])
WEIGHTS = torch.rand(400, generator=seeded(1), dtype=torch.float64) + 0.1


def fitted(x=X, weights=None, rank=None, **settings):
    whitening = Whitening(x.shape[1], rank)
    whitening.fit(x, torch.ones(len(x), dtype=torch.float64) if weights is None else weights, **settings)
    return whitening


@pytest.mark.parametrize("rank", [None, 6, 4, 1])
def test_weighted_covariance_becomes_the_identity(rank):
    y = fitted(weights=WEIGHTS, rank=rank, shrinkage=0)(X.float())
    assert y.dtype == torch.float64
    assert y.shape == (400, rank or 6)
    np.testing.assert_allclose(np.average(y, axis=0, weights=WEIGHTS), 0, atol=1e-5)
    found = np.atleast_2d(np.cov(y.T, aweights=WEIGHTS, ddof=0))
    np.testing.assert_allclose(found, np.eye(rank or 6), atol=1e-5)


def test_rank_keeps_the_leading_directions():
    matrix = fitted(weights=WEIGHTS, rank=2, shrinkage=0).matrix.double().numpy()
    away = X.numpy() - np.average(X, axis=0, weights=WEIGHTS)
    directions = np.linalg.svd(away * np.sqrt(WEIGHTS.numpy())[:, None])[2]  # in order of their variance
    np.testing.assert_allclose(directions[2:] @ matrix, 0, atol=1e-5)


def test_shrinkage_adds_a_share_of_the_mean_variance():
    found = np.cov(fitted(shrinkage=0.1)(X).T, ddof=0)
    variance = np.linalg.eigvalsh(np.cov(X.T, ddof=0))
    np.testing.assert_allclose(found, np.diag(variance / (variance + 0.1 * variance.mean())), atol=1e-5)


def test_fewer_pixels_than_dimensions_need_shrinkage_or_a_lower_rank():
    few = X[:4]
    with pytest.raises(InputError, match="differ in all 6 directions, found 4 that differ in 3; set shrinkage above 0"):
        fitted(few, shrinkage=0)
    variance = np.linalg.eigvalsh(np.cov(few.T, ddof=0))
    found = np.cov(fitted(few, shrinkage=0.01)(few).T, ddof=0)
    np.testing.assert_allclose(found, np.diag(variance / (variance + 0.01 * variance.mean())), atol=1e-4)
    np.testing.assert_allclose(np.cov(fitted(few, rank=3, shrinkage=0)(few).T, ddof=0), np.eye(3), atol=1e-4)


def test_identity_until_it_is_fitted_and_when_it_is_reset():
    assert torch.equal(Whitening(6)(X), X)
    whitening = fitted()
    assert not torch.equal(whitening(X), X)
    whitening.reset()
    assert torch.equal(whitening(X), X)
    with pytest.raises(InputError, match="expected None without whitening, found 2 of 6"):
        fitted(rank=2).reset()


@pytest.mark.parametrize(
    ("x", "settings", "message"),
    [
        (X[:0], {}, "expected features of at least one pixel, found none"),
        (X[:1], {}, "expected pixels that differ in their features, found 1 that are all equal"),
        (X[:1].expand(300, -1) * 1.1, {}, "found 300 that are all equal"),
        (X.where(X.abs() < X.abs().max(), torch.nan), {}, "found NaN or infinity in 1 of 400 pixels"),
        (X, {"shrinkage": -0.1}, "shrinkage: expected a share of at least 0, found -0.1"),
        (X, {"rank": 0}, "rank: expected a number of directions between 1 and the 6 of the features, found 0"),
        (X, {"rank": 7}, "found 7"),
    ],
)
def test_bad_input_is_refused(x, settings, message):
    with pytest.raises(InputError, match=message):
        fitted(x, **settings)
    assert torch.equal(Whitening(6)(X), X)
