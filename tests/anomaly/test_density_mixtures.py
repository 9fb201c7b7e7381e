"""Mixtures fitted by EM: against scikit-learn, against M-steps as loops, and few or bad pixels."""

import numpy as np
import pytest
import torch
from scipy import special
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from anomaly.density.mixtures import PIXELS_PER_COMPONENT, Mixtures, _spread_seeds, fit_mixtures
from anomaly.errors import InputError
from tests.anomaly.density_oracles import (
    KINDS,
    RANK,
    blobs,
    log_joint,
    matrix,
    maximise,
    mean_log_likelihood,
    seeded,
)

SKLEARN = {"diagonal": "diag", "tied": "tied", "full": "full"}


def of_kind(kind):
    return {"covariance": kind, "covariance_rank": RANK if kind == "low_rank" else None}


@pytest.mark.parametrize("kind", SKLEARN)
@pytest.mark.parametrize("seed", range(2))
def test_fit_is_as_good_as_scikit_learns_from_the_same_start(kind, seed):
    x = blobs(seed=seed)
    settings = {"covariance": kind, "variance_floor": 1e-6, "tolerance": 1e-5}
    (start,) = fit_mixtures([x], 3, seeded(seed), max_iterations=1, **settings)
    (found,) = fit_mixtures([x], 3, seeded(seed), max_iterations=500, **settings)
    precisions = [np.linalg.inv(matrix(start.parameters, p)) for p in range(3)]
    theirs = GaussianMixture(
        3,
        covariance_type=SKLEARN[kind],
        weights_init=start.weights.numpy(),
        means_init=start.means.numpy(),
        precisions_init={
            "diagonal": np.stack([np.diag(each) for each in precisions]),
            "tied": precisions[0],
            "full": np.stack(precisions),
        }[kind],
        tol=1e-5,
        max_iter=500,
    ).fit(x)
    assert mean_log_likelihood([found], [x]) > theirs.score(x) - 1e-4
    np.testing.assert_allclose(found.means, theirs.means_, atol=0.05)
    np.testing.assert_allclose(found.weights, theirs.weights_, atol=0.02)


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_next_iteration_is_the_m_step_of_loops(kind, iterations):
    samples = [blobs(200, 4, seed=1), blobs(130, 4, seed=2) + 1]
    settings = {"variance_floor": 0.03, "tolerance": -np.inf, **of_kind(kind)}
    before = fit_mixtures(samples, 3, seeded(), max_iterations=iterations, **settings)
    after = fit_mixtures(samples, 3, seeded(), max_iterations=iterations + 1, **settings)
    assert [len(mixture.weights) for mixture in after] == [3, 2]
    shares = [special.softmax(log_joint(mixture, x), axis=1) for mixture, x in zip(before, samples, strict=True)]
    expected = maximise([x.numpy() for x in samples], shares, kind, 0.03)
    for mixture, (weights, means, covariances) in zip(after, expected, strict=True):
        np.testing.assert_allclose(mixture.weights, weights, rtol=1e-9)
        np.testing.assert_allclose(mixture.means, means, rtol=1e-8)
        for p, covariance in enumerate(covariances):
            np.testing.assert_allclose(matrix(mixture.parameters, p), covariance, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_no_iteration_lowers_the_likelihood(kind):
    samples = [blobs(400, 4, seed=3), blobs(300, 4, seed=4)]
    reached = [
        mean_log_likelihood(
            fit_mixtures(
                samples, 3, seeded(), variance_floor=0, tolerance=-np.inf, max_iterations=iterations, **of_kind(kind)
            ),
            samples,
        )
        for iterations in range(1, 12)
    ]
    assert (np.diff(reached) > -1e-9).all()
    assert reached[-1] > reached[0] + 0.01


def test_tolerance_stops_the_iterations():
    x = blobs(300)
    (second,) = fit_mixtures([x], 3, seeded(), tolerance=1e9)  # the first gain is infinite
    (expected,) = fit_mixtures([x], 3, seeded(), tolerance=-np.inf, max_iterations=2)
    assert torch.equal(second.means, expected.means)


def test_low_rank_is_scikit_learns_probabilistic_pca():
    x = blobs(300, 6)
    (mixture,) = fit_mixtures([x], 1, seeded(), covariance="low_rank", covariance_rank=2, variance_floor=0)
    expected = PCA(2).fit(x).get_covariance() * (len(x) - 1) / len(x)  # theirs divides by n - 1
    np.testing.assert_allclose(matrix(mixture.parameters, 0), expected, rtol=1e-8, atol=1e-10)


def test_tied_covariance_is_shared_and_a_single_pixel_hardly_changes_it():
    x = blobs(300)
    alone, _ = fit_mixtures([x, x + 5], 2, seeded(), covariance="tied")
    found = fit_mixtures([x, x + 5, x[:1] + 9], 2, seeded(), covariance="tied")
    roots = [mixture.parameters["precision_cholesky"] for mixture in found]
    assert all(torch.equal(root, roots[0]) for root in roots)
    np.testing.assert_allclose(matrix(found[0].parameters, 0), matrix(alone.parameters, 0), rtol=0.05, atol=0.02)


@pytest.mark.parametrize(("floor", "added"), [(1e-3, 1e-3), (None, 0.64 / 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_few_pixels_give_their_own_moments(kind, floor, added):
    x = blobs(20)
    (mixture,) = fit_mixtures([x], 3, seeded(), variance_floor=floor, **of_kind(kind))
    ((_, means, covariances),) = maximise([x.numpy()], [np.ones((20, 1))], kind, added)
    np.testing.assert_allclose(mixture.means, means)
    np.testing.assert_allclose(matrix(mixture.parameters, 0), covariances[0], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_pixels_than_dimensions_work_with_a_floor(kind):
    x = blobs(4, dim=9)
    (mixture,) = fit_mixtures([x], 3, seeded(), variance_floor=0.1, **of_kind(kind))
    assert np.isfinite(log_joint(mixture, x)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_components_are_limited_by_pixels_and_by_distinct_pixels(kind):
    x = blobs()
    samples = [x, x[: 2 * PIXELS_PER_COMPONENT], x[:7], x[:1], x[:1].expand(400, -1), x[:2].repeat(200, 1)]
    found = fit_mixtures(samples, 4, seeded(), **of_kind(kind))
    assert [len(mixture.weights) for mixture in found] == [4, 2, 1, 1, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_module_keeps_the_mixtures_in_float32(kind):
    samples = [blobs(300), blobs(0), blobs(120, seed=1)]
    mixtures = Mixtures(3, 5, 4, **of_kind(kind))
    assert mixtures.fit(samples, seeded()) == [4, 0, 2]
    first, second = fit_mixtures([samples[0], samples[2]], 4, seeded(), **of_kind(kind))
    x = blobs(30, seed=5).float()
    found = mixtures.log_prob(x)
    np.testing.assert_allclose(found[:, 0], log_joint(first, x.double()), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found[:, 2, :2], log_joint(second, x.double()), rtol=1e-5, atol=1e-4)
    assert torch.isneginf(found[:, 1]).all()
    assert torch.isneginf(found[:, 2, 2:]).all()
    peak = mixtures.peak()
    at_means = np.diag(log_joint(first, first.means))
    np.testing.assert_allclose(peak[0], at_means, rtol=1e-5, atol=1e-4)
    assert torch.isneginf(peak[1]).all()


def test_seeds_are_drawn_by_their_squared_distance_to_the_nearest_before():
    x, draw = blobs(200), seeded(3)
    rows = [int(torch.randint(200, (1,), generator=draw))]
    while len(rows) < 12:
        away = np.linalg.norm(x.numpy()[:, None] - x.numpy()[rows], axis=2).min(1) ** 2
        rows.append(int(torch.multinomial(torch.tensor(away), 1, generator=draw)))
    assert torch.equal(_spread_seeds(x, 12, seeded(3)), x[rows])


X = torch.tensor([[0.3, 0.7, 0.1], [0.2, 0.9, 0.4], [0.5, 0.1, 0.8], [0.6, 0.6, 0.2], [0.9, 0.3, 0.3]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("x", "floor", "message"),
    [
        (X[:0], 1e-3, "expected features of at least one pixel, found none"),
        (X[:1].expand(400, -1), 0, "found a direction without variance; set variance_floor above 0"),
        (torch.where(X > 0.8, torch.nan, X), 1e-3, r"found NaN or infinity in 2 of 5 pixels"),
        (X / torch.zeros(()), 1e-3, r"found NaN or infinity in 5 of 5 pixels"),
        (X[0], 1e-3, r"expected features of shape \(n, D\), found \(3,\)"),
        (X, -1, "variance_floor: expected a variance of at least 0, found -1"),
    ],
    ids=["none", "equal", "nan", "infinite", "one dimension", "negative floor"],
)
def test_bad_pixels_are_refused(kind, x, floor, message):
    with pytest.raises(InputError, match=message):
        fit_mixtures([x], 2, seeded(), variance_floor=floor, **of_kind(kind))


@pytest.mark.parametrize("kind", ["tied", "low_rank", "full"])
def test_two_pixels_differ_in_one_direction_alone(kind):
    with pytest.raises(InputError, match="found a direction without variance"):
        fit_mixtures([X[:2]], 1, seeded(), variance_floor=0, **of_kind(kind))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"covariance": "spherical"}, "covariance: expected one of diagonal, tied, low_rank, full, found 'spherical'"),
        ({"covariance": "low_rank"}, "expected a number of factors between 1 and 2, .* found None"),
        ({"covariance": "low_rank", "covariance_rank": 0}, "covariance_rank: .* found 0"),
        ({"covariance": "low_rank", "covariance_rank": 3}, "covariance_rank: .* below the 3 dimensions, found 3"),
        ({"covariance": "full", "covariance_rank": 1}, "expected None for a covariance of kind full, found 1"),
        ({"num_components": 0}, "num_components: expected a number of components of at least 1, found 0"),
    ],
    ids=str,
)
def test_bad_settings_are_refused(settings, message):
    settings = {"num_components": 2, **settings}
    with pytest.raises(InputError, match=message):
        fit_mixtures([X], generator=seeded(), **settings)
    with pytest.raises(InputError, match=message):
        Mixtures(1, 3, **settings)


def test_no_sample_and_no_iteration_are_refused():
    with pytest.raises(InputError, match="expected at least one sample"):
        fit_mixtures([], 2, seeded())
    with pytest.raises(InputError, match="max_iterations"):
        fit_mixtures([X], 2, seeded(), max_iterations=0)
