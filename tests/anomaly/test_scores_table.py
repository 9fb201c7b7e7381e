"""Every score against float64 numpy and scipy, and on a toy mixture with a known outlier."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal

from anomaly.errors import InputError
from anomaly.frames import image_hash
from anomaly.models.base import Prediction
from anomaly.scores import SCORES, get_scores, knn
from anomaly.scores.combinations import LEVELS, fit_distribution, rank_average
from anomaly.scores.quantiles import weighted_quantiles
from anomaly.scores.registry import check_not_learned
from anomaly.scores.sample import PixelSample, draw_pixels, join
from anomaly.scores.statistics import Statistics
from tests.anomaly.score_oracles import BETWEEN, ORACLES, Pixels, coreset, vim

C, P, D, N = 4, 3, 6, 400
OF_PIXELS = {name: score for name, score in SCORES.items() if "mask_logits" not in score.needs}
NAMES = tuple(OF_PIXELS)


def mixture(seed=0):
    random = np.random.default_rng(seed)
    return random.normal(0, 4, (C, P, D)), random.uniform(0.5, 1.5, (C, P, D)), random.dirichlet([3] * P, C)


def describe(features):
    """What a generative network with that mixture says of features ``(n, D)``: maps of n rows and one column."""
    means, stds, weights = mixture()
    log_prob = np.empty((len(features), C, P))
    for c in range(C):
        for p in range(P):
            normal = multivariate_normal(means[c, p], np.diag(stds[c, p] ** 2))
            log_prob[:, c, p] = normal.logpdf(features) + math.log(weights[c, p])
    peak = -np.log(stds).sum(2) - D / 2 * math.log(2 * math.pi) + np.log(weights)
    likelihood = logsumexp(log_prob, axis=2)

    def maps(rows):
        return torch.tensor(np.moveaxis(rows, 0, -1)[None, ..., None], dtype=torch.float32)

    scale = np.array([1.0, 1.2, 0.9, 1.1])  # as LayerNorm's weights: logits are not ordered as likelihoods
    logits = 0.1 * likelihood * scale
    peak = torch.tensor(peak, dtype=torch.float32)
    wide = np.atleast_1d(
        multivariate_normal(np.zeros(D), 400 * np.eye(D)).logpdf(features)
    )  # of outliers, which lie anywhere
    own = {"features": maps(features), "outlier_log_likelihood": maps(wide)}
    return Prediction(maps(logits), maps(likelihood), maps(log_prob), peak, **own)


@pytest.fixture(scope="module")
def sample():
    random = np.random.default_rng(1)
    means, stds, _ = mixture()
    labels = random.integers(0, C, N)
    component = random.integers(0, P, N)
    features = random.normal(means[labels, component], stds[labels, component])
    weights = random.integers(1, 5, N).astype(np.float32)
    return PixelSample(describe(features), torch.tensor(labels), torch.tensor(weights))


@pytest.fixture(scope="module")
def statistics(sample):
    return Statistics.of(sample, list(OF_PIXELS.values()), images=["x"], origin={})


def rows(sample, name):
    return sample.rows(name).numpy()


def pixels(sample, coreset):
    """A sample for the oracles."""
    maps = {"likelihood": "class_log_likelihood", "log_prob": "component_log_prob"}
    maps |= {"outliers": "outlier_log_likelihood"}
    maps |= {name: name for name in ("logits", "features")}
    means, stds, _ = mixture()
    return Pixels(
        **{name: rows(sample, field).astype(float) for name, field in maps.items()},
        **{"labels": sample.labels.numpy(), "weights": sample.weights.numpy().astype(float)},
        **{"means": means, "stds": stds, "coreset": coreset},
    )


@pytest.mark.parametrize("name", NAMES)
def test_equals_float64(name, sample, statistics):
    (score,) = statistics.attach(get_scores([name]))
    result = score(sample.prediction)
    assert result.shape == (1, N, 1)
    assert result.dtype == torch.float32
    assert name in ORACLES, f"write {name} in float64 in tests/anomaly/score_oracles.py"
    coreset = score.statistics["coreset"].numpy().astype(float) if name == "knn" else None
    np.testing.assert_allclose(result[0, :, 0], ORACLES[name](pixels(sample, coreset)), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("most", [1, 25, 60])
def test_knn_keeps_features_that_leave_none_far_from_all(sample, monkeypatch, most):
    monkeypatch.setattr(knn, "CORESET", most)
    features = sample.prediction.features.clone()
    features[:, :, 40:] = 3 * features[:, :, :1]  # directions that are there
    kept = knn.fit(replace(sample, prediction=replace(sample.prediction, features=features)))["coreset"].numpy()
    unit = features[0, :, :, 0].T.numpy().astype(float)
    expected = coreset(unit / np.linalg.norm(unit, axis=1, keepdims=True), most)
    assert len(kept) == min(most, 40)
    np.testing.assert_allclose(kept, expected, atol=1e-6)


def test_vim_of_a_network_whose_last_layer_is_known(sample):
    random = np.random.default_rng(3)
    weight, bias = random.normal(size=(C, D)), random.normal(size=C)
    linear = (torch.tensor(weight).float(), torch.tensor(bias).float())
    score = replace(SCORES["vim"], statistics=SCORES["vim"].fit(replace(sample, linear=linear)))
    origin = np.linalg.lstsq(weight - weight.mean(0), bias.mean() - bias, rcond=None)[0]
    logits = weight @ origin + bias  # of the shortest feature whose logits are all the same
    np.testing.assert_allclose(logits, logits.mean(), atol=1e-9)
    expected = vim(pixels(sample, None), origin)
    np.testing.assert_allclose(score(sample.prediction)[0, :, 0], expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", [*NAMES, "rank_average:of=gmm_nll+mahalanobis", "zscore_sum:of=gmm_nll+entropy"])
def test_outlier_scores_higher_than_what_was_learned(name, statistics):
    """An outlier of the toy mixture, between its classes, against means of components."""
    means, _, _ = mixture()
    (score,) = statistics.attach(get_scores([name]))
    known = score(describe(means.reshape(-1, D) + 0.5))[0, :, 0]
    between = (means[0, 0] + means[1, 0]) / 2 + np.random.default_rng(0).normal(0, 0.1, (20, D))
    far = np.full((1, D), 30.0) * np.sign(np.random.default_rng(0).normal(size=(1, D)))
    outlier = score(describe(between if name in BETWEEN else far))[0, :, 0]
    assert outlier.median() > known.median(), "is it a score of doubt between classes? name it in BETWEEN"


def test_rank_average_and_zscore_sum(sample, statistics):
    ranks, sums = statistics.attach(get_scores(["rank_average:of=gmm_nll+energy", "zscore_sum:of=gmm_nll+energy"]))
    weights = sample.weights.numpy().astype(int)
    values = [SCORES[name](sample.prediction)[0, :, 0].numpy().astype(float) for name in ("gmm_nll", "energy")]
    copies = [np.sort(np.repeat(value, weights)) for value in values]
    pairs = zip(copies, values, strict=True)
    share = [(np.searchsorted(c, v) + np.searchsorted(c, v, side="right")) / 2 / len(c) for c, v in pairs]
    inner = np.all([(s > 0.02) & (s < 0.98) for s in share], axis=0)
    np.testing.assert_allclose(ranks(sample.prediction)[0, :, 0][inner], np.mean(share, axis=0)[inner], atol=0.01)
    z = sum((value - copy.mean()) / copy.std() for value, copy in zip(values, copies, strict=True))
    np.testing.assert_allclose(sums(sample.prediction)[0, :, 0], z, rtol=1e-3, atol=1e-3)


def test_ranks_go_on_beyond_all_training_pixels():
    found = fit_distribution(torch.linspace(0, 1, 1001), torch.ones(1001))
    scores = torch.tensor([-3.0, -1.0, 0.5, 1.0, 2.0, 7.0]).view(1, 1, 6, 1)
    ranks = rank_average(scores, quantiles=found["quantiles"][None])[0, :, 0]
    assert (ranks.diff() > 0).all()
    assert ranks[2] == pytest.approx(0.5, abs=1e-3)
    assert len(found["quantiles"]) == len(LEVELS)


def test_ranks_rise_above_the_largest_training_score_by_its_distance_from_the_median():
    values = np.random.default_rng(0).lognormal(sigma=2, size=20_001).astype(np.float32)
    quantiles = fit_distribution(torch.tensor(values), torch.ones(len(values)))["quantiles"][None]
    top, way = values.max(), values.max() - np.median(values)
    second = np.sort(values)[-2]
    scores = torch.tensor([second, top, top + way, top + 2 * way]).view(1, 1, 4, 1)
    ranks = rank_average(scores, quantiles=quantiles)[0, :, 0]
    assert ranks[0] < 1
    np.testing.assert_allclose(ranks[1:], [1, 2, 3], rtol=1e-3)


@pytest.mark.parametrize("levels", [[0.0, 0.3, 1.0], [0.5]])
def test_weighted_quantiles_are_those_of_copies(levels):
    random = np.random.default_rng(0)
    values, weights = random.normal(size=50), random.integers(1, 4, 50)
    copies = np.quantile(np.repeat(values, weights), levels, method="hazen")
    even = weighted_quantiles(torch.tensor(values), torch.ones(50), levels)
    np.testing.assert_allclose(even, np.quantile(values, levels, method="hazen"), atol=1e-12)
    spread = weighted_quantiles(torch.tensor(values), torch.tensor(weights), levels)
    np.testing.assert_allclose(spread, copies, atol=0.2)
    assert weighted_quantiles(torch.tensor([3.0]), torch.tensor([2.0]), levels).tolist() == [3.0] * len(levels)


def test_parameters_change_the_score_and_are_in_its_name(sample):
    (warm,) = get_scores(["energy:temperature=2"])
    assert warm.name == "energy:temperature=2"
    logits = rows(sample, "logits")
    np.testing.assert_allclose(
        warm(sample.prediction)[0, :, 0], -2 * logsumexp(logits / 2, axis=1) + math.log(C), rtol=1e-5, atol=1e-6
    )
    (few,) = get_scores(["gen:gamma=0.5:top=2"])
    p = np.sort(softmax(logits, axis=1), axis=1)[:, -2:]
    np.testing.assert_allclose(few(sample.prediction)[0, :, 0], np.sqrt(p * (1 - p)).sum(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 1, 30, 1e3])
def test_ranks_survive_any_temperature(temperature):
    """Pixels keep their order, and their differences, as float64 has them."""
    logits = np.random.default_rng(0).normal(size=(2000, 19)).astype(np.float32)
    (score,) = get_scores([f"energy:temperature={temperature}"])
    found = score(Prediction(torch.tensor(logits.T.copy())[None, ..., None]))[0, :, 0].numpy()
    exact = -temperature * logsumexp(logits.astype(float) / temperature, axis=1)
    order = np.argsort(exact)
    assert len(np.unique(found)) > 0.99 * len(found)
    assert np.diff(found[order]).min() > -1e-6
    np.testing.assert_allclose(found - found.mean(), exact - exact.mean(), atol=2e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("energy:temperature=0", "expected a temperature from 0.001 to 1000, found 0.0"),
        ("energy:temperature=1e30", "expected a temperature from 0.001 to 1000, found 1e\\+30"),
        ("energy:temperature=1e-40", "expected a temperature from 0.001 to 1000, found 1e-40"),
        ("knn:k=0", "expected k between 1 and the 2000 features that are kept, found 0"),
        ("knn:k=2001", "expected k between 1 and the 2000 features that are kept, found 2001"),
        ("energy:temperature=hot", "score 'energy': expected a number for temperature, found 'hot'"),
        ("energy:temperatur=1", "unknown parameter 'temperatur': did you mean 'temperature'"),
        ("energy:temperature", "expected NAME:KEY=VALUE, each key once, found 'temperature'"),
        ("gen:gamma=2", "expected gamma between 0 and 1 and top of 1 or more, found 2.0 and 100"),
        ("gen:top=0", "top of 1 or more, found 0.1 and 0"),
        ("sml:mean=1", "unknown parameter 'mean': it has none"),
        ("rank_average:of=gmm_nll", "expected at least two scores of"),
        ("rank_average", "such as rank_average:of=gmm_nll\\+energy"),
        ("zscore_sum:of=gmm_nll+nosuch", "expected at least two scores of"),
    ],
)
def test_bad_parameters_are_refused_before_anything_runs(text, message):
    with pytest.raises(InputError, match=message):
        get_scores([text])


def test_knn_wants_as_many_neighbours_as_there_are(sample, statistics):
    (kept,) = statistics.attach(get_scores([f"knn:k={N}"]))
    assert kept(sample.prediction).isfinite().all()
    with pytest.raises(InputError, match=f"expected k between 1 and the {N} features that are kept, found {N + 1}"):
        statistics.attach(get_scores([f"knn:k={N + 1}"]))


@pytest.mark.parametrize("name", ["margin", "likelihood_margin"])
def test_one_class_has_no_margin(name):
    prediction = Prediction(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    with pytest.raises(InputError, match=f"score '{name}' needs at least two classes, found 1"):
        SCORES[name](prediction)


def test_components_and_classes_that_are_not_there(sample):
    """Minus infinity for a component, -1e9 for a class without any: scores stay finite."""
    log_prob = sample.prediction.component_log_prob.clone()
    peak = sample.prediction.component_peak.clone()
    log_prob[:, 0, 1], peak[0, 1] = -torch.inf, -torch.inf
    log_prob[:, 3], peak[3] = -torch.inf, -torch.inf
    likelihood = log_prob.logsumexp(2).clamp_min(-1e9)
    prediction = Prediction(sample.prediction.logits, likelihood, log_prob, peak)
    for name in ("gmm_nll", "marginal_nll", "nearest_component", "likelihood_margin", "predicted_nll"):
        assert SCORES[name](prediction).isfinite().all(), name


@pytest.mark.parametrize("absent", [(), (2,), (0, 1, 3)])
@pytest.mark.parametrize("classes", [1, 4])
def test_outlier_ratio_counts_all_classes_alike(classes, absent):
    """A class that no training pixel had, at -1e9, adds nothing and counts in the mean over classes; also one alone."""
    random = np.random.default_rng(0)
    likelihood, outliers = random.normal(-2e3, 30, (2, classes, 3, 5)), random.normal(-2e3, 30, (2, 3, 5))
    likelihood[:, [c for c in absent if c < classes - 1]] = -1e9
    likelihood, outliers = (each.astype(np.float32) for each in (likelihood, outliers))
    maps = {"class_log_likelihood": torch.tensor(likelihood), "outlier_log_likelihood": torch.tensor(outliers)}
    found = SCORES["outlier_ratio"](Prediction(**maps))
    assert found.shape == (2, 3, 5)
    assert found.dtype == torch.float32
    for at in np.ndindex(2, 3, 5):
        values = [float(likelihood[at[0], c, at[1], at[2]]) for c in range(classes)]
        top = max(values)
        known = top + math.log(sum(math.exp(value - top) for value in values) / classes)
        assert found[at] == pytest.approx(float(outliers[at]) - known, abs=1e-3)


@pytest.mark.parametrize("offset", [0.0, 700.0, -30_000.0])
def test_outlier_ratio_knows_no_unit_of_the_embedding_and_no_order_of_classes(sample, offset):
    """Another scale of the embedding adds the same to all log-densities, of classes and of outliers."""
    likelihood, outliers = sample.prediction.class_log_likelihood, sample.prediction.outlier_log_likelihood
    maps = {"class_log_likelihood": likelihood.flip(1) + offset, "outlier_log_likelihood": outliers + offset}
    before, after = SCORES["outlier_ratio"](sample.prediction), SCORES["outlier_ratio"](Prediction(**maps))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4 if abs(offset) < 1e4 else 0.02)


def test_rare_and_missing_classes_in_the_sample(sample):
    """A class of one pixel, and one that no pixel is predicted as, borrow what all pixels have."""
    one = torch.arange(N)[sample.labels != 0]
    kept = torch.cat([one, (sample.labels == 0).nonzero()[:1, 0]])
    maps = {n: getattr(sample.prediction, n)[..., kept, :] for n in ("logits", "class_log_likelihood", "features")}
    maps |= {n: getattr(sample.prediction, n)[..., kept, :] for n in ("component_log_prob", "outlier_log_likelihood")}
    part = PixelSample(
        Prediction(**maps, component_peak=sample.prediction.component_peak), sample.labels[kept], sample.weights[kept]
    )
    found = Statistics.of(part, list(OF_PIXELS.values()), images=[], origin={})
    for score in found.attach(OF_PIXELS.values()):
        assert score(sample.prediction).isfinite().all(), score.name


def test_statistics_come_back_from_their_state(sample, statistics):
    again = Statistics.of_state(statistics.state(), ["x"])
    assert again.images == frozenset(["x"])
    for before, after in zip(statistics.attach(OF_PIXELS.values()), again.attach(OF_PIXELS.values()), strict=True):
        torch.testing.assert_close(before(sample.prediction), after(sample.prediction), rtol=0, atol=0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda header, tensors: (header, tensors[1:]),
        lambda header, tensors: ({"scores": header["scores"]}, tensors),
        lambda header, tensors: (header, [tensors[0] * torch.nan, *tensors[1:]]),
        lambda header, tensors: (header, [tensors[0].double(), *tensors[1:]]),
        lambda header, tensors: ([], tensors),
    ],
)
def test_damaged_statistics_are_refused(statistics, damage):
    with pytest.raises(InputError, match="statistics of scores: expected those that `anomaly fit` wrote, found others"):
        Statistics.of_state(damage(*statistics.state()), [])


def test_unfitted_score_names_what_is_missing(statistics):
    only = Statistics({"sml": {}}, {}, frozenset(), {})
    with pytest.raises(InputError, match="score 'knn' needs statistics of knn, and the file has those of sml"):
        only.attach(get_scores(["knn"]))
    with pytest.raises(InputError, match="needs statistics of gmm_nll"):
        only.attach(get_scores(["rank_average:of=gmm_nll+knn"]))


def test_photograph_that_was_learned_from_is_refused():
    image = np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    seen = Statistics({}, {}, frozenset([image_hash(image)]), {})
    (score,) = replace(seen, fitted={"knn": {"coreset": torch.eye(2)}}).attach(get_scores(["knn"]))
    with pytest.raises(InputError, match="frame 'f' is one of the 1 images that the scores' statistics"):
        check_not_learned([score], "f", image_hash(image.copy()))
    image[0, 0, 0] ^= 1
    check_not_learned([score], "f", image_hash(image))


def test_pixels_are_drawn_evenly_from_each_class():
    labels = torch.full((30, 40), 2)
    labels[:3], labels[3:6] = 0, -1
    prediction = Prediction(
        torch.arange(1200.0).view(1, 1, 30, 40).repeat(1, 3, 1, 1), features=torch.ones(1, 2, 30, 40)
    )
    (sample,) = draw_pixels([(prediction, labels)], 101, torch.Generator().manual_seed(0))
    assert torch.bincount(sample.labels).tolist() == [50, 0, 50]
    place = sample.rows("logits")[:, 0].long()
    assert len(place.unique()) == 100
    assert (labels.flatten()[place] == sample.labels).all()
    assert sample.weights[sample.labels == 2].sum() == pytest.approx(24 * 40)
    assert sample.weights[sample.labels == 0].sum() == pytest.approx(120)
    both = join([sample, sample])
    assert both.rows("features").shape == (200, 2)
    with pytest.raises(InputError, match="expected labelled pixels in the training images, found none"):
        join(draw_pixels([(prediction, torch.full((30, 40), -1))], 5, torch.Generator()))


def test_classes_that_are_not_drawn_are_stood_for():
    """With fewer pixels than classes the weights are those of all classes, on average."""
    labels = torch.arange(6).repeat_interleave(torch.tensor([1, 2, 3, 4, 5, 15])).view(5, 6)
    prediction, generator = Prediction(torch.zeros(1, 6, 5, 6)), torch.Generator().manual_seed(0)
    totals = torch.zeros(6)
    for _ in range(600):
        (sample,) = draw_pixels([(prediction, labels)], 4, generator)
        assert len(sample.labels.unique()) == len(sample.labels) == 4
        totals.index_add_(0, sample.labels, sample.weights)
    np.testing.assert_allclose(totals / 600, [1, 2, 3, 4, 5, 15], rtol=0.15)


def test_a_combination_with_neighbours_that_are_the_training_pixels_themselves_is_refused():
    """Of at most 2,000 pixels all are kept, so each is at distance 0 of itself, and no scale can be told."""
    draw = torch.Generator().manual_seed(0)
    maps = {"logits": torch.randn(1, 3, 500, 1, generator=draw), "features": torch.randn(1, 4, 500, 1, generator=draw)}
    sample = PixelSample(Prediction(**maps), torch.randint(0, 3, (500,), generator=draw), torch.ones(500))
    for name in ("zscore_sum:of=msp+knn", "rank_average:of=msp+knn"):
        (score,) = get_scores([name])
        fitted = Statistics.of(sample, [score], images=[], origin={})
        with pytest.raises(InputError, match="knn is 0 for all training pixels"):
            fitted.attach([score])


@pytest.mark.parametrize(
    ("labels", "weights"),
    [
        (torch.tensor([0, 1, 255]), torch.ones(3)),
        (torch.tensor([0, 1, -1]), torch.ones(3)),
        (torch.tensor([0.0, 1.0, 1.0]), torch.ones(3)),
        (torch.tensor([0, 1]), torch.ones(3)),
        (torch.tensor([0, 1, 1]), torch.tensor([1.0, 0.0, 1.0])),
        (torch.tensor([0, 1, 1]), torch.tensor([1.0, torch.nan, 1.0])),
        (torch.tensor([0, 1, 1]), torch.tensor([1.0, -1.0, 1.0])),
    ],
)
def test_a_sample_of_pixels_has_a_class_and_a_weight_for_each(labels, weights):
    with pytest.raises(InputError, match="pixel sample: expected"):
        PixelSample(Prediction(logits=torch.zeros(1, 2, 3, 1)), labels, weights)
