import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import norm

from anomaly.density.gaussian import diagonal_log_prob
from gmmseg.functional import direction_and_variance, scale_to_unit, sinkhorn_assign


@pytest.mark.parametrize(("n", "groups", "dim"), [(1, 1, 1), (17, 6, 4), (200, 95, 64)])
def test_log_prob_equals_scipy(n, groups, dim):
    generator = torch.Generator().manual_seed(n)
    features = F.normalize(torch.randn(n, dim, generator=generator), dim=1)
    means = F.normalize(torch.randn(groups, dim, generator=generator), dim=1)
    stds = 0.1 + torch.rand(groups, dim, generator=generator)
    expected = norm.logpdf(features.double()[:, None], means.double(), stds.double()).sum(2)
    assert np.abs(diagonal_log_prob(features, means, stds) - expected).max() < 1e-4
    exact = diagonal_log_prob(features.double(), means.double(), stds.double())
    np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-11 * dim)


def test_log_prob_gradient():
    features = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    means, stds = torch.randn(4, 3, dtype=torch.float64), 0.5 + torch.rand(4, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: diagonal_log_prob(x, means, stds), features)


def _sinkhorn_loop(scores, epsilon, iterations):
    """Element by element, in float64."""
    n, components = scores.shape
    plan = [[np.exp(scores[i, p] / epsilon) for p in range(components)] for i in range(n)]
    for _ in range(iterations):
        for p in range(components):
            mass = sum(plan[i][p] for i in range(n))
            for i in range(n):
                plan[i][p] /= mass * components
        for i in range(n):
            mass = sum(plan[i])
            plan[i] = [value / (mass * n) for value in plan[i]]
    return np.array([int(np.argmax(row)) for row in plan])


@pytest.mark.parametrize(("n", "components"), [(7, 3), (40, 5), (2, 4)])
def test_sinkhorn_equals_loop(n, components):
    scores = np.random.default_rng(n).uniform(-1, 1, (n, components))
    ours = sinkhorn_assign(torch.from_numpy(scores), epsilon=0.05, iterations=3)
    np.testing.assert_array_equal(ours, _sinkhorn_loop(scores, 0.05, 3))


def test_classes_are_assigned_as_if_alone():
    rng = np.random.default_rng(0)
    log_prob, classes = rng.normal(size=(90, 4)) * 30, rng.choice([0, 1, 4], 90)
    scores = scale_to_unit(torch.from_numpy(log_prob), torch.from_numpy(classes), 5)
    ours = sinkhorn_assign(scores, torch.from_numpy(classes), 5)
    for k in (0, 1, 4):
        alone = log_prob[classes == k] / np.abs(log_prob[classes == k]).max()
        np.testing.assert_allclose(scores[classes == k], alone)
        np.testing.assert_array_equal(ours[classes == k], _sinkhorn_loop(alone, 0.05, 3))


def test_sinkhorn_balances_what_argmax_does_not():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(1000, 4, generator=generator) * 0.1
    scores[:, 0] += 0.5  # every pixel likes component 0 best
    assert torch.bincount(sinkhorn_assign(scores, iterations=10), minlength=4).min() > 100


def test_scale_to_unit():
    assert scale_to_unit(torch.tensor([[-4.0, 2.0]])).tolist() == [[-1.0, 0.5]]
    assert scale_to_unit(torch.zeros(1, 3)).tolist() == [[0, 0, 0]]


def test_moments_equal_two_passes():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(50, 8)) + 1
    data /= np.linalg.norm(data, axis=1, keepdims=True)
    sums, squares = torch.from_numpy(data.sum(0))[None], torch.from_numpy((data**2).sum(0))[None]
    direction, variance = direction_and_variance(sums, squares, torch.tensor([50]))
    center = data.sum(0) / np.linalg.norm(data.sum(0))
    np.testing.assert_allclose(direction[0], center, atol=1e-12)
    np.testing.assert_allclose(variance[0], ((data - center) ** 2).mean(0), atol=1e-12)
