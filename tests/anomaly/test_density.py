"""Densities of classes and outliers in whitened coordinates, against numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy import special

from anomaly.density import densities
from anomaly.density.densities import UNSEEN_LOG_LIKELIHOOD, ClassDensities
from anomaly.density.sample import StratifiedSample
from anomaly.errors import InputError
from tests.anomaly.density_oracles import KINDS, RANK, blobs, gaussian, matrix, seeded, whitening

DIM = 5
SETTINGS = [
    *({"covariance": kind, "covariance_rank": RANK if kind == "low_rank" else None, "rank": 4} for kind in KINDS),
    {"bank": 30, "neighbours": 2},
]
A, B, OUTLIERS = blobs(400).float(), (blobs(150, seed=1) + 2).float(), (blobs(120, seed=2) - 6).float()
NONE = A[:0]
X = torch.cat([blobs(40, seed=3), 10 * blobs(10, seed=4)]).float()


def sample_of(*classes):
    sample = StratifiedSample(len(classes), 1000, classes[0].shape[1], seeded())
    for k, features in enumerate(classes):
        sample.add(features, torch.full((len(features),), k))
    return sample


def fitted(*classes, outliers=None, fit=None, **settings):
    found = ClassDensities(len(classes), DIM, outliers=outliers is not None, **settings)
    components = found.fit(sample_of(*classes), seeded(), outliers=outliers, **(fit or {}))
    return found, components


def of_mixture(mixtures, c, y):
    """Class log-likelihood by scipy, from the buffers."""
    weights = mixtures.log_weights[c].double().numpy()
    parameters = {name: getattr(mixtures, name) for name in mixtures.parameter_names}
    if not mixtures.kind.shared:
        parameters = {name: value[c] for name, value in parameters.items()}
    parts = [
        weight + gaussian(y, mixtures.means[c, p].double(), matrix(parameters, p))
        for p, weight in enumerate(weights)
        if np.isfinite(weight)
    ]
    return special.logsumexp(parts, axis=0)


@pytest.mark.parametrize("settings", SETTINGS[:-1], ids=KINDS)
def test_class_log_likelihoods_are_scipys_in_whitened_coordinates(settings, monkeypatch):
    monkeypatch.setattr(densities, "_CHUNK", 7)
    found, components = fitted(A, NONE, B, num_components=3, **settings)
    assert components == [3, 0, 3]
    centre, by = whitening([A, B], 4, 0.01)
    y = (X.double().numpy() - centre) @ by
    signs = np.sign((found.whitening.matrix.numpy() * by).sum(0))  # eigenvectors have two
    result = found(X)
    assert result.dtype == torch.float32
    for c in (0, 2):
        np.testing.assert_allclose(result[:, c], of_mixture(found.known, c, y * signs), rtol=1e-4, atol=1e-3)
    assert (result[:, 1] == UNSEEN_LOG_LIKELIHOOD).all()
    parts = found.of_components(X)
    assert parts.shape == (50, 3, 3)
    assert torch.isneginf(parts[:, 1]).all()
    assert torch.equal(found.of_classes(parts), result)


def test_bank_is_in_whitened_coordinates():
    found, sizes = fitted(A, NONE, B, bank=30, neighbours=2)
    assert sizes == [30, 0, 30]
    centre, by = whitening([A, B], DIM, 0.01)
    y, parts = (X.double().numpy() - centre) @ by, found.of_components(X)
    assert parts.shape == (50, 3, 1)
    log_volume = np.log(np.pi ** (DIM / 2) / special.gamma(DIM / 2 + 1))
    for c, known in ((0, A), (2, B)):
        every = (known.double().numpy() - centre) @ by
        kept = [np.abs(abs(every) - row).sum(1).argmin() for row in found.known.features[c].abs().numpy()]  # any sign
        away = np.sort(np.linalg.norm(y[:, None] - every[kept], axis=2), axis=1)[:, 1]
        expected = np.log(2 / 30) - log_volume - DIM * np.log(away)
        np.testing.assert_allclose(parts[:, c, 0], expected, rtol=1e-4, atol=1e-3)
    assert found.peak() is None


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_density_without_labels_is_that_of_one_class(settings):
    alone, _ = fitted(A, **settings)
    among, components = fitted(NONE, A, NONE, **settings)
    assert components[0] == components[2] == 0
    assert torch.equal(alone(X)[:, 0], among(X)[:, 1])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_outliers_have_a_density_of_the_same_kind_in_the_coordinates_of_the_classes(settings):
    found, _ = fitted(A, B, outliers=OUTLIERS, **settings)
    without, _ = fitted(A, B, **settings)
    assert torch.equal(found(X), without(X))
    if "bank" not in settings:
        expected = of_mixture(found.outliers, 0, found.whitening(X))
        np.testing.assert_allclose(found.of_outliers(X), expected, rtol=1e-5, atol=1e-3)
    others = (blobs(80, seed=2, dim=DIM)[20:] - 6).float()
    assert (found.of_outliers(others) > found(others).amax(1)).all()
    assert (found.of_outliers(A) < found(A).amax(1)).all()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_state_loads_strictly_into_densities_of_the_same_arguments(settings):
    found, _ = fitted(A, NONE, B, outliers=OUTLIERS, **settings)
    other = ClassDensities(3, DIM, outliers=True, **settings)
    other.load_state_dict(found.state_dict())
    assert torch.equal(other.of_components(X), found.of_components(X))
    assert torch.equal(other.of_outliers(X), found.of_outliers(X))
    assert not list(found.parameters())  # nothing that an optimizer could move
    with pytest.raises(RuntimeError, match=r"size mismatch|Unexpected"):
        ClassDensities(3, DIM, num_components=2).load_state_dict(found.state_dict())


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_fitting_again_forgets_what_was_fitted(settings):
    again, _ = fitted(A, B, B + 3, **settings)
    again.fit(sample_of(A[:70], NONE, B), seeded())
    fresh, _ = fitted(A[:70], NONE, B, **settings)
    assert torch.equal(again(X), fresh(X))


@pytest.mark.parametrize("settings", SETTINGS[:-1], ids=KINDS)
def test_without_whitening_densities_are_of_the_features(settings):
    settings = {**settings, "rank": None}
    found, _ = fitted(A, B, **settings, fit={"whiten": False})
    for c in range(2):
        np.testing.assert_allclose(found(X)[:, c], of_mixture(found.known, c, X.double()), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("whiten", "floor"), [(True, 0.05), (False, 0.64 / DIM)])
def test_default_floor_of_the_variance(whiten, floor):
    found, _ = fitted(A[:20], B[:20], fit={"whiten": whiten})
    inside = found.whitening(A[:20]).numpy()
    np.testing.assert_allclose(found.known.stds[0, 0] ** 2, inside.var(0) + floor, rtol=1e-4)


@pytest.mark.parametrize("settings", SETTINGS[:-1], ids=KINDS)
def test_peak_bounds_every_component(settings):
    found, _ = fitted(A, NONE, B, **settings)
    peak = found.peak()
    assert peak.shape == (3, 5)
    parts = found.of_components(torch.cat([X, A, B]))
    assert (parts <= peak + 1e-3).all()
    assert (peak[1] == -torch.inf).all()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_autocast_changes_nothing(settings):
    found, _ = fitted(A, B, outliers=OUTLIERS, **settings)
    with torch.autocast("cpu", torch.bfloat16):
        inside = found.of_components(X), found.of_outliers(X)
    assert torch.equal(inside[0], found.of_components(X))
    assert torch.equal(inside[1], found.of_outliers(X))


def test_features_of_far_fewer_pixels_than_dimensions_are_fitted():
    draw = np.random.default_rng(0)
    x = torch.tensor(draw.normal(size=(12, 40)), dtype=torch.float32)
    sample = sample_of(x[:6], x[6:])
    found = ClassDensities(2, 40)
    assert found.fit(sample, seeded()) == [1, 1]
    assert (found(x).argmax(1) == torch.arange(2).repeat_interleave(6)).all()
    with pytest.raises(InputError, match="found 12 that differ in 11; set shrinkage above 0, a lower rank"):
        found.fit(sample, seeded(), shrinkage=0)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize(
    ("classes", "fit", "message"),
    [
        ([NONE, NONE], {}, "densities: expected features of at least one pixel, found none"),
        ([A[:1].expand(200, -1), A[:1]], {}, "whitening: expected pixels that differ in their features, found 201"),
        ([A, B.where(B.abs() < B.abs().max(), torch.nan)], {}, "found NaN or infinity in 1 of 550 pixels"),
        ([A, B], {"outliers": OUTLIERS}, "outliers: expected none, .* made with outliers=False, found some"),
        ([A[:3], NONE], {"shrinkage": 0}, "set shrinkage above 0"),
    ],
    ids=["none", "equal", "nan", "outliers", "few"],
)
def test_bad_pixels_are_refused(settings, classes, fit, message):
    with pytest.raises(InputError, match=message):
        ClassDensities(2, DIM, **settings).fit(sample_of(*classes), seeded(), **fit)


@pytest.mark.parametrize(
    ("outliers", "message"),
    [
        (None, "expected features of outlier pixels, .* made with outliers=True, found none"),
        (NONE, "outliers: expected features of at least one pixel, found none"),
        (A[:100], "expected pixels that are not known, found 100 of 100 equal to pixels of the known data"),
        (torch.cat([OUTLIERS[:50], B[:50]]), "found 50 of 100 equal"),
        (OUTLIERS / 0, "outliers: expected finite features"),
        (OUTLIERS[:, :3], r"outliers: expected features of shape \(n, 5\), found \(120, 3\)"),
    ],
    ids=["none", "no pixel", "known", "half known", "infinite", "other size"],
)
def test_bad_outliers_are_refused(outliers, message):
    with pytest.raises(InputError, match=message):
        ClassDensities(2, DIM, outliers=True).fit(sample_of(A, B), seeded(), outliers=outliers)


def test_few_known_pixels_among_the_outliers_are_accepted():
    ClassDensities(2, DIM, outliers=True).fit(sample_of(A, B), seeded(), outliers=torch.cat([OUTLIERS, A[:20]]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"covariance": "spherical"}, "covariance: expected one of"),
        ({"rank": 6}, "rank: expected .* the 5 of the features, found 6"),
        ({"rank": 3, "covariance": "low_rank", "covariance_rank": 3}, "below the 3 dimensions, found 3"),
        ({"bank": 0}, "bank: expected"),
        ({"bank": 4, "neighbours": 5}, "neighbours: expected a number between 1 and the 4 features"),
    ],
    ids=str,
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        ClassDensities(2, DIM, **settings)


def test_what_was_not_made_is_refused():
    found, _ = fitted(A, B)
    with pytest.raises(InputError, match="outliers=True, found none"):
        found.of_outliers(X)
    with pytest.raises(InputError, match="expected None without whitening, found 3 of 5"):
        fitted(A, B, rank=3, fit={"whiten": False})
    with pytest.raises(InputError, match=r"expected features of shape \(n, 4\), found \(550, 5\)"):
        ClassDensities(2, 4).fit(sample_of(A, B), seeded())
