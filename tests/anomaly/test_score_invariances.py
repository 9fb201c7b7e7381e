"""What every fitted score, and every combination, must not depend on; and fits to samples that hold too little."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, ortho_group, rankdata
from sklearn.metrics import roc_auc_score

from anomaly.errors import InputError
from anomaly.models.base import Prediction
from anomaly.scores import SCORES, get_scores
from anomaly.scores.combinations import LEVELS, fit_distribution, rank_average, zscore_sum
from anomaly.scores.registry import COMBINATIONS
from anomaly.scores.sample import PixelSample
from anomaly.scores.statistics import Statistics

C, D, N = 4, 8, 600
FITTED = tuple(name for name, score in SCORES.items() if score.fit is not None)
COMBINED = tuple(f"{name}:of=gmm_nll+knn" for name in COMBINATIONS)
ALL = (*FITTED, *COMBINED)


@pytest.fixture(autouse=True)
def few_features_are_kept(monkeypatch):
    monkeypatch.setattr("anomaly.scores.knn.CORESET", 60)


@dataclass(frozen=True)
class World:
    """What a network says of pixels, in float64: ``logits``, ``likelihood (n, C)``, ``features (n, D)``.

    ``linear`` is the weight ``(C, D)`` and the bias ``(C,)`` of the last layer; None where the network has none.
    """

    logits: np.ndarray
    likelihood: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    linear: tuple[np.ndarray, np.ndarray] | None = None

    def of(self, index: np.ndarray) -> "World":
        names = ("logits", "likelihood", "features", "labels", "weights")
        rows = {name: getattr(self, name)[index] for name in names}
        return replace(self, **rows)

    @property
    def prediction(self) -> Prediction:
        def maps(rows):
            return torch.tensor(np.moveaxis(rows, 0, -1)[None, ..., None], dtype=torch.float32)

        parts = np.stack([self.likelihood + np.log(0.25), self.likelihood + np.log(0.75)], axis=2)
        return Prediction(maps(self.logits), maps(self.likelihood), maps(parts), features=maps(self.features))

    @property
    def sample(self) -> PixelSample:
        linear = None if self.linear is None else tuple(torch.tensor(each).float() for each in self.linear)
        return PixelSample(self.prediction, torch.tensor(self.labels), torch.tensor(self.weights).float(), linear)


def centres() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(0, 4, (C, D)), random.uniform(0.5, 1.5, D)


@cache
def world(kind: str) -> World:
    """Pixels of four Gaussians: ``known`` ones to be fitted to or scored, or outliers far from all four."""
    random = np.random.default_rng({"training": 1, "known": 2, "outliers": 3}[kind])
    means, stds = centres()
    labels = random.integers(0, C, N)
    features = random.normal(means[labels], stds)
    if kind == "outliers":
        features = features + 12 * random.choice([-1, 1], (N, D))
    likelihood = np.stack([multivariate_normal(mean, np.diag(stds**2)).logpdf(features) for mean in means], axis=1)
    logits = 0.1 * likelihood * np.array([1.0, 1.2, 0.9, 1.1])
    return World(logits, likelihood, features, labels, random.integers(1, 5, N).astype(float))


@cache
def layered(kind: str) -> World:
    """The same with logits that a last layer makes of the features."""
    means, stds = centres()
    weight = means / stds**2
    bias = -0.5 * (means**2 / stds**2).sum(1)
    found = world(kind)
    return replace(found, logits=0.1 * (found.features @ weight.T + bias), linear=(0.1 * weight, 0.1 * bias))


def fit(name: str, training: World):
    """The score with its statistics, which have been through the types that a file holds."""
    scores = get_scores([name])
    written = Statistics.of(training.sample, scores, images=[], origin={})
    (score,) = Statistics.of_state(written.state(), []).attach(scores)
    return score


def scored(score, pixels: World) -> np.ndarray:
    found = score(pixels.prediction)[0, :, 0]
    assert found.dtype == torch.float32
    return found.numpy().astype(float)


def auroc(score) -> float:
    known, outliers = scored(score, world("known")), scored(score, world("outliers"))
    assert np.isfinite(known).all()
    assert np.isfinite(outliers).all()
    return roc_auc_score(np.repeat([0, 1], N), np.concatenate([known, outliers]))


Change = Callable[[World], World]
ROTATION = ortho_group.rvs(D, random_state=0)
OFFSET = np.linspace(-3, 5, D)


def with_features(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda pixels: replace(pixels, features=change(pixels.features))


def with_logits(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda pixels: replace(pixels, logits=change(pixels.logits))


def with_likelihoods(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda pixels: replace(pixels, likelihood=change(pixels.likelihood))


def class_order(pixels: World) -> World:
    order = np.array([2, 0, 3, 1])
    linear = None if pixels.linear is None else (pixels.linear[0][order], pixels.linear[1][order])
    labels = np.argsort(order)[pixels.labels]
    return replace(
        pixels,
        logits=pixels.logits[:, order],
        likelihood=pixels.likelihood[:, order],
        labels=labels,
        linear=linear,
    )


def linear_map(matrix: np.ndarray) -> Change:
    """Features that go through a matrix, and a last layer that takes it back."""

    def change(pixels: World) -> World:
        linear = pixels.linear and (pixels.linear[0] @ np.linalg.inv(matrix), pixels.linear[1])
        return replace(pixels, features=pixels.features @ matrix.T, linear=linear)

    return change


CHANGES: dict[str, Change] = {
    "logits + 20": with_logits(lambda rows: rows + 20),
    "logits - 300": with_logits(lambda rows: rows - 300),
    "10 logits": with_logits(lambda rows: 10 * rows),
    "logits / 1e7": with_logits(lambda rows: 1e-7 * rows),
    "likelihoods + 1000": with_likelihoods(lambda rows: rows + 1000),
    "likelihoods - 20000": with_likelihoods(lambda rows: rows - 20000),
    "likelihoods / 1e7": with_likelihoods(lambda rows: 1e-7 * rows),
    "features rotated": linear_map(ROTATION),
    "1e4 features": linear_map(1e4 * np.eye(D)),
    "features / 1e8": linear_map(1e-8 * np.eye(D)),
    "features moved": with_features(lambda rows: rows + OFFSET),
    "features far away": with_features(lambda rows: rows + 1e3 * OFFSET),
    "classes in another order": class_order,
}
OF_FEATURES = {"features rotated", "1e4 features", "features / 1e8"}
ANY = {"classes in another order"}
MOVED = {"features moved", "features far away"}
SHIFTED = {"logits + 20", "logits - 300"}
LIKELIER = {"likelihoods + 1000", "likelihoods - 20000"}

INVARIANT: dict[str, set[str]] = {
    "empirical_nll": ANY | LIKELIER,
    "typicality": ANY | LIKELIER | {"likelihoods / 1e7"},
    "standardised_nll": ANY | LIKELIER | {"likelihoods / 1e7"},
    "sml": ANY | SHIFTED | {"10 logits", "logits / 1e7"},
    "mahalanobis": ANY | OF_FEATURES | MOVED,
    "relative_mahalanobis": ANY | OF_FEATURES | MOVED,
    "knn": ANY | OF_FEATURES,
    "vim": ANY | OF_FEATURES | MOVED | SHIFTED,
    COMBINED[0]: ANY | OF_FEATURES | LIKELIER | {"likelihoods / 1e7"},
    COMBINED[1]: ANY | OF_FEATURES | LIKELIER | {"likelihoods / 1e7"},
}
"""By score, the changes of a network's output that change no rank; a score of the table without a line is an error."""


def test_every_fitted_score_has_its_line():
    assert set(INVARIANT) == set(ALL), "say in INVARIANT which changes of a network change no rank of it"


def equal_ranks(before: np.ndarray, after: np.ndarray, most: int) -> None:
    """No pixel goes past more than ``most`` others (of 1200): rounding may swap neighbours."""
    assert np.ptp(after) > 0
    assert np.abs(rankdata(before) - rankdata(after)).max() <= most


def ranks_under(name: str, change: Change, make: Callable[[str], World] = world) -> tuple[np.ndarray, np.ndarray]:
    def both(change: Change) -> np.ndarray:
        score = fit(name, change(make("training")))
        return np.concatenate([scored(score, change(make(kind))) for kind in ("known", "outliers")])

    return both(lambda pixels: pixels), both(change)


@pytest.mark.parametrize(("name", "change"), [(name, change) for name in ALL for change in sorted(INVARIANT[name])])
def test_ranks_do_not_change(name, change):
    equal_ranks(*ranks_under(name, CHANGES[change]), most=12 if "far" in change or "20000" in change else 3)


def bias_and(constant: float, weight: np.ndarray | float = 0.0) -> Change:
    """A last layer that adds the same to the logits of all classes: a constant, and ``weight (D,)`` times the features.

    The softmax is what it was.
    """

    def change(pixels: World) -> World:
        before, bias = pixels.linear
        shift = pixels.features @ np.broadcast_to(weight, D) + constant
        return replace(pixels, logits=pixels.logits + shift[:, None], linear=(before + weight, bias + constant))

    return change


@pytest.mark.parametrize(
    "change",
    [
        bias_and(20),
        bias_and(-20),
        bias_and(-300),
        *(CHANGES[name] for name in sorted(OF_FEATURES | ANY)),
    ],
)
def test_ranks_of_vim_do_not_change_where_the_last_layer_is_known(change):
    equal_ranks(*ranks_under("vim", change, layered), most=3)


@pytest.mark.parametrize("change", [bias_and(-20), bias_and(0, np.linspace(-1, 2, D)), bias_and(5, 10.0)])
def test_vim_learns_of_the_last_layer_what_the_softmax_knows(change):
    """The energy follows what is added to all classes of a pixel; scale and origin do not."""
    before, after = (fit("vim", each).statistics for each in (layered("training"), change(layered("training"))))
    for name in ("alpha", "origin"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-3, atol=1e-3)


def test_vim_is_the_papers_where_the_last_layer_is_centred():
    training = layered("training")
    weight, bias = (each - each.mean(0) for each in training.linear)
    training = replace(training, logits=training.features @ weight.T + bias, linear=(weight, bias))
    found = fit("vim", training).statistics
    origin = -np.linalg.pinv(weight) @ bias
    away = training.features - origin
    norm = np.linalg.norm(away @ found["residual"].numpy(), axis=1)
    alpha = np.average(training.logits.max(1), weights=training.weights) / np.average(norm, weights=training.weights)
    np.testing.assert_allclose(found["origin"], origin, rtol=1e-4, atol=1e-4)
    assert found["alpha"] == pytest.approx(alpha, rel=1e-4)


@pytest.mark.parametrize("make", [world, layered])
@pytest.mark.parametrize("shift", [-300, -20, 0, 20, 300])
def test_vim_points_upwards_whatever_is_added_to_all_logits(make, shift):
    change = with_logits(lambda rows: rows + shift)
    score = fit("vim", change(make("training")))
    values = [scored(score, change(make(kind))) for kind in ("known", "outliers")]
    assert roc_auc_score(np.repeat([0, 1], N), np.concatenate(values)) > 0.9
    assert score.statistics["alpha"] > 0


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("times", [2.0, 1e-3, 1e6])
def test_weights_count_relative_to_each_other(name, times):
    training = world("training")
    doubled = fit(name, replace(training, weights=times * training.weights))
    before = scored(fit(name, training), world("known"))
    np.testing.assert_allclose(scored(doubled, world("known")), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_order_of_pixels_does_not_count(name):
    training = world("training")
    other = fit(name, training.of(np.random.default_rng(5).permutation(N)))
    before = scored(fit(name, training), world("known"))
    np.testing.assert_allclose(scored(other, world("known")), before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_pixels_twice_are_pixels_of_twice_the_weight(name):
    training = world("training")
    twice = fit(name, training.of(np.tile(np.arange(N), 2)))
    before, after = (scored(score, world("known")) for score in (fit(name, training), twice))
    quantiles = name == "typicality" or name.startswith("rank_average")  # interpolated between pixels
    np.testing.assert_allclose(after, before, rtol=0.05 if quantiles else 1e-3, atol=0.02 if quantiles else 1e-3)


def ranks_of(values: np.ndarray, training: np.ndarray) -> np.ndarray:
    found = fit_distribution(torch.tensor(training), torch.ones(len(training)))
    scores = torch.tensor(values, dtype=torch.float32).view(1, 1, -1, 1)
    return rank_average(scores, quantiles=found["quantiles"][None])[0, :, 0].numpy()


MONOTONE = {
    "cube": lambda x: x**3,
    "exp": np.exp,
    "log": lambda x: np.log(x + 10),
    "negative exp": lambda x: -np.exp(-x),
}


@pytest.mark.parametrize("change", MONOTONE)
def test_rank_average_is_of_ranks(change):
    """Within the training scores a monotone map moves a rank by no more than two neighbouring levels lie apart."""
    random = np.random.default_rng(0)
    training, values = random.normal(size=5000), np.sort(random.normal(size=800))
    values = values[(values > training.min()) & (values < training.max())]
    before, after = ranks_of(values, training), ranks_of(MONOTONE[change](values), MONOTONE[change](training))
    assert np.abs(before - after).max() <= float(LEVELS.diff().max()) + 1e-6
    assert (np.diff(after) >= 0).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-6, 1.0, 1e6, 1e30])
def test_rank_average_knows_no_scale(scale):
    random = np.random.default_rng(0)
    training, values = random.lognormal(size=5000), random.lognormal(sigma=3, size=500) - 1
    np.testing.assert_allclose(ranks_of(scale * values, scale * training), ranks_of(values, training), rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-6, 1.0, 1e6, 1e15])
@pytest.mark.parametrize("shift", [0.0, -30.0])
def test_zscore_sum_knows_no_scale_and_no_shift(scale, shift):
    random = np.random.default_rng(0)
    training, values = random.lognormal(size=5000), random.lognormal(sigma=3, size=500)
    found = fit_distribution(torch.tensor(scale * (training + shift)), torch.ones(5000))
    scores = torch.tensor(scale * (values + shift), dtype=torch.float32).view(1, 1, -1, 1)
    z = zscore_sum(scores, mean=found["mean"][None], std=found["std"][None])[0, :, 0]
    np.testing.assert_allclose(z, (values - training.mean()) / training.std(), rtol=1e-3, atol=1e-3)


def test_ranks_where_most_training_scores_are_the_largest():
    """Half of the distance from the median to the largest is nothing then: what is beyond must not explode."""
    training = np.concatenate([np.linspace(0, 1, 400), np.full(600, 1.0)])
    ranks = ranks_of(np.array([0.5, 1.0, 1.5, 2.0, 11.0]), training)
    assert ranks[0] == pytest.approx(0.2, abs=0.01)
    assert (np.diff(ranks) > 0).all()
    assert ranks[-1] < 1 + 10 * 11  # at most ten for each range of the training scores


@pytest.mark.parametrize("constant", [0.0, -1.5, 1e6])
@pytest.mark.parametrize("name", COMBINATIONS)
def test_combination_with_a_constant_part_is_refused(name, constant):
    """Its deviation is 0, or rounding: it would decide alone what is odd."""
    likelihood = np.full((N, C), constant)
    likelihood[::7] *= 1 + 1e-9
    training = replace(world("training"), likelihood=likelihood)
    with pytest.raises(InputError, match=rf"{name}:of=gmm_nll\+msp.*gmm_nll is .*for all training pixels"):
        fit(f"{name}:of=gmm_nll+msp", training)


def test_statistics_that_were_written_with_a_constant_part_are_refused():
    """As an earlier version wrote them, with a deviation of a millionth in place of 0."""
    constant = {"quantiles": torch.full((len(LEVELS),), 3.0), "mean": torch.tensor(3.0), "std": torch.tensor(1e-6)}
    varied = fit_distribution(torch.arange(10.0), torch.ones(10))
    found = Statistics({"msp": {}, "entropy": {}}, {"msp": constant, "entropy": varied}, frozenset(), {})
    with pytest.raises(InputError, match="found that msp is 3 for all training pixels; leave it out"):
        found.attach(get_scores(["zscore_sum:of=entropy+msp"]))


def test_statistics_that_turn_vim_upside_down_are_refused():
    written = Statistics.of(world("training").sample, get_scores(["vim", "sml"]), images=[], origin={})
    Statistics.of_state(written.state(), []).attach(get_scores(["vim", "sml"]))
    written.fitted["vim"]["alpha"] = torch.tensor(-0.7)
    found = Statistics.of_state(written.state(), [])
    found.attach(get_scores(["sml"]))
    with pytest.raises(InputError, match=r"score 'vim': expected .* a scale above 0, found -0.7 .*; fit it again"):
        found.attach(get_scores(["vim"]))


def test_scores_that_nobody_named_are_left_out_where_they_cannot_be_fitted():
    training = replace(world("training"), features=np.ones((N, D)))
    named = {"images": [], "origin": {}}
    with pytest.warns(UserWarning, match="not fitted: score 'vim': expected features that vary in more than 4"):
        found = Statistics.of(training.sample, get_scores(["vim", "sml"]), **named, all_of_them=False)
    assert list(found.fitted) == list(found.distributions) == ["sml"]
    with pytest.raises(InputError, match="score 'vim': expected features that vary in more than 4 directions"):
        Statistics.of(training.sample, get_scores(["vim", "sml"]), **named)


def first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(C)])


def rare(count: int) -> Change:
    """All pixels of three classes, and a few of the first."""

    def change(pixels: World) -> World:
        few = np.flatnonzero(pixels.labels == 0)[:count]
        return pixels.of(np.concatenate([np.flatnonzero(pixels.labels != 0), few]))

    return change


def mostly_one_pixel(pixels: World) -> World:
    """Two thirds of the pixels are one and the same, as of a sky that is white."""
    return pixels.of(np.where(np.arange(N) % 3 == 0, np.arange(N), 5))


def of(**fields) -> Change:
    return lambda pixels: replace(pixels, **{name: make(getattr(pixels, name)) for name, make in fields.items()})


POOR: dict[str, Change] = {
    "one class": lambda pixels: pixels.of(np.flatnonzero(pixels.labels == 1)),
    "a class of one pixel": rare(1),
    "a class of two pixels, nearly the same": lambda pixels: nearly_the_same(rare(2)(pixels)),
    "one pixel of each class": lambda pixels: pixels.of(first_of_each(pixels.labels, 1)),
    "fewer pixels than dimensions": lambda pixels: pixels.of(first_of_each(pixels.labels, 2)[:6]),
    "hardly any pixel": lambda pixels: pixels.of(np.arange(3)),
    "one pixel": lambda pixels: pixels.of(np.arange(1)),
    "one pixel, often": lambda pixels: pixels.of(np.zeros(50, int)),
    "mostly one pixel": mostly_one_pixel,
    "equal logits": of(logits=np.zeros_like),
    "equal likelihoods": of(likelihood=lambda rows: np.full_like(rows, -77.7)),
    "features all the same": of(features=lambda rows: np.full_like(rows, 1000.1)),
    "features of each class all the same": lambda pixels: replace(pixels, features=centres()[0][pixels.labels]),
    "half of the features dead": of(features=lambda rows: rows * (np.arange(D) < D // 2)),
    "most of the features dead": of(features=lambda rows: rows * (np.arange(D) < 2)),
}
OF_THE_NETWORK = {name for name in POOR if "features" in name or name.startswith("equal")}
"""What it says of all pixels that it knows; of outliers it says something else."""
FAR: dict[str, Change] = {
    "features far away": of(features=lambda rows: rows + 1e4),
    "features in a far direction": of(features=lambda rows: rows + 1e3 * OFFSET),
    "likelihoods far down": of(likelihood=lambda rows: rows - 1e5),
    "logits far up": of(logits=lambda rows: rows + 1e4),
}


def nearly_the_same(pixels: World) -> World:
    rows = {name: getattr(pixels, name).copy() for name in ("logits", "likelihood", "features")}
    for values in rows.values():
        values[-1] = values[-2] * (1 + 1e-5)
    return replace(pixels, **rows)


@pytest.mark.parametrize("case", POOR)
@pytest.mark.parametrize(("name", "make"), [*((name, world) for name in ALL), ("vim", layered)])
def test_a_poor_sample_gives_a_score_that_points_upwards_or_a_sentence(name, make, case):
    try:
        score = fit(name, POOR[case](make("training")))
    except InputError:  # what it says: test_what_tells_nothing_is_refused
        return
    training, known = POOR[case](make("training")), make("known")
    known = known.of(np.flatnonzero(np.isin(known.labels, training.labels)))
    known = POOR[case](known) if case in OF_THE_NETWORK else known
    values = scored(score, known), scored(score, make("outliers"))
    assert np.isfinite(np.concatenate(values)).all()
    assert roc_auc_score(np.repeat([0, 1], [len(values[0]), N]), np.concatenate(values)) > 0.8


REFUSED = {
    "sml": {"one pixel", "one pixel, often", "equal logits"},
    "standardised_nll": {"one pixel", "one pixel, often", "equal likelihoods"},
    "typicality": {"one pixel", "one pixel, often", "equal likelihoods"},
    "mahalanobis": {"one pixel of each class", "one pixel", "features of each class all the same"},
    "relative_mahalanobis": {"one class", "one pixel of each class", "features all the same", "one pixel"},
    "vim": {"hardly any pixel", "equal logits", "half of the features dead", "most of the features dead"},
    "knn": set(),
    "empirical_nll": set(),
}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in REFUSED for case in sorted(REFUSED[name])])
def test_what_tells_nothing_is_refused(name, case):
    with pytest.raises(InputError, match=rf"score '{name}': expected .*, found .*; fit it to more training images, or"):
        fit(name, POOR[case](world("training")))


@pytest.mark.parametrize("case", FAR)
@pytest.mark.parametrize("name", ALL)
def test_a_large_offset_leaves_the_digits_that_tell_pixels_apart(name, case):
    score = fit(name, FAR[case](world("training")))
    known, outliers = (scored(score, FAR[case](world(kind))) for kind in ("known", "outliers"))
    assert roc_auc_score(np.repeat([0, 1], N), np.concatenate([known, outliers])) > 0.9


@pytest.mark.parametrize("name", ALL)
def test_a_plain_sample_tells_outliers(name):
    assert auroc(fit(name, world("training"))) > 0.95
