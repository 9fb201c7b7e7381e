"""Banks of features: distances against scikit-learn, the density that they estimate, and coresets."""

import numpy as np
import pytest
import torch
from scipy import special, stats
from sklearn.neighbors import NearestNeighbors

from anomaly.density import neighbours
from anomaly.density.neighbours import EXTENT, Banks, greedy_coreset, nearest_distances
from anomaly.errors import InputError
from tests.anomaly.density_oracles import blobs, seeded


@pytest.mark.parametrize("k", [1, 3, 40])
def test_distances_are_scikit_learns(k):
    bank, x = blobs(40), blobs(100, seed=1)
    expected = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(bank).kneighbors(x)[0][:, -1]
    np.testing.assert_allclose(nearest_distances(x, bank, k), expected)


@pytest.mark.parametrize("k", [1, 4])
def test_log_density_is_that_of_the_distances(k, monkeypatch):
    monkeypatch.setattr(neighbours, "_CHUNK", 7)
    samples, x = [blobs(60), blobs(0), blobs(3, seed=1)], blobs(50, seed=2).float()
    banks = Banks(3, 5, 100, k)
    assert banks.fit(samples, seeded(), "random") == [60, 0, 3]
    found = banks.log_prob(x)
    assert found.shape == (50, 3, 1)
    for c in (0, 2):
        used = min(k, len(samples[c]))
        away = np.sort(np.linalg.norm(x.numpy()[:, None] - samples[c].float().numpy(), axis=2), axis=1)[:, used - 1]
        log_volume = np.log(np.pi ** (5 / 2) / special.gamma(5 / 2 + 1))
        expected = np.log(used) - np.log(len(samples[c])) - log_volume - 5 * np.log(away)
        np.testing.assert_allclose(found[:, c, 0], expected, rtol=1e-4)
    assert torch.isneginf(found[:, 1]).all()


def test_estimates_the_density_that_the_features_have():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(20000, 2))
    banks = Banks(1, 2, len(x), 100)
    banks.fit([torch.tensor(x)], seeded(), "random")
    at = draw.normal(size=(300, 2))
    true = stats.multivariate_normal(np.zeros(2)).logpdf(at)
    error = banks.log_prob(torch.tensor(at))[:, 0, 0].numpy() - true
    assert abs(np.median(error)) < 0.03
    assert np.percentile(abs(error), 90) < 0.3


def test_features_of_the_bank_have_a_finite_density():
    x = blobs(50)
    banks = Banks(1, 5, 50)
    banks.fit([x], seeded())
    extent = np.linalg.norm(x - x.mean(0), axis=1).max()
    expected = -np.log(50) - np.log(np.pi ** (5 / 2) / special.gamma(5 / 2 + 1)) - 5 * np.log(EXTENT * extent)
    np.testing.assert_allclose(banks.log_prob(x.float())[:, 0, 0], expected, rtol=1e-5)


def test_greedy_coreset_is_farthest_first():
    x = blobs(200).numpy()
    away = np.linalg.norm(x[:, None] - x, axis=2)
    expected = [int(np.linalg.norm(x - x.mean(0), axis=1).argmin())]
    while len(expected) < 30:
        expected.append(int(away[expected].min(0).argmax()))
    assert greedy_coreset(torch.tensor(x), 30).tolist() == expected


def test_greedy_coreset_keeps_equal_features_once():
    x = blobs(20).repeat(5, 1)
    assert sorted(np.unique(greedy_coreset(x, 100) % 20)) == list(range(20))
    assert len(greedy_coreset(x, 100)) == 20
    assert len(greedy_coreset(x, 100, least=1e9)) == 1


def test_random_coreset_draws_every_feature_equally_often():
    x, drawn = torch.arange(30.0)[:, None], np.zeros(30)
    for seed in range(300):
        banks = Banks(1, 1, 10)
        banks.fit([x], seeded(seed), "random")
        kept = banks.features.flatten().long()
        assert len(kept.unique()) == 10
        drawn[kept] += 1
    assert stats.chisquare(drawn).pvalue > 1e-3


@pytest.mark.parametrize(
    ("samples", "settings", "message"),
    [
        ([blobs(0)], {}, "expected features of at least one pixel, found none"),
        ([blobs(1).expand(300, -1)], {}, "found 300 that are all equal"),
        ([blobs(9) / 0], {}, "found NaN or infinity in 9 of 9 pixels"),
        ([blobs(9)], {"coreset": "all"}, "coreset: expected one of greedy, random, found 'all'"),
        ([blobs(9)], {"size": 0}, "bank: expected a number of features of at least 1, found 0"),
        ([blobs(9)], {"k": 0}, "neighbours: expected a number between 1 and the 20 features of a bank, found 0"),
        ([blobs(9)], {"k": 21}, "found 21"),
    ],
)
def test_bad_input_is_refused(samples, settings, message):
    with pytest.raises(InputError, match=message):
        Banks(1, 5, settings.pop("size", 20), settings.pop("k", 1)).fit(samples, seeded(), **settings)
