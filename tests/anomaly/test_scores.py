import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import roc_auc_score

from anomaly.errors import InputError
from anomaly.scores import SCORES, get_scores
from anomaly.scores.density import gmm_nll
from anomaly.scores.logits import energy, max_logit
from anomaly.scores.softmax import entropy, gen, msp
from tests import oracles

FUNCTIONS = (msp, entropy, max_logit, energy, gmm_nll)


def random_logits(scale, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(2, 7, 9, 11, generator=generator) * scale).to(dtype)


def pixels(logits):
    """One row of float64 logits for each pixel."""
    return logits.double().permute(0, 2, 3, 1).reshape(-1, logits.shape[1]).numpy()


def as_map(logits):
    """Rows of logits as an image one pixel high."""
    return torch.as_tensor(logits).T[None, :, None, :]


EXPECTED = {
    msp: oracles.msp,
    entropy: oracles.entropy,
    max_logit: lambda row: -max(row),
    energy: oracles.energy,
    gmm_nll: lambda row: -max(row),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_equals_an_exact_loop(function, scale, dtype):
    if dtype == torch.float16 and scale == 1e4:
        scale = 1e3
    logits = random_logits(scale, dtype)
    before = logits.clone()
    score = function(logits)
    assert score.dtype == torch.float32
    assert score.shape == (2, 9, 11)
    expected = [EXPECTED[function](row) for row in pixels(logits).tolist()]
    np.testing.assert_allclose(score.flatten().numpy(), expected, rtol=2e-5, atol=1e-37)
    torch.testing.assert_close(logits, before, rtol=0, atol=0)


def test_equals_scipy():
    logits = random_logits(3.0)
    rows = pixels(logits)
    probability = np.exp(rows - logsumexp(rows, axis=1, keepdims=True))
    np.testing.assert_allclose(msp(logits).flatten(), 1 - probability.max(1), rtol=1e-5)
    np.testing.assert_allclose(entropy(logits).flatten(), scipy_entropy(probability, axis=1), rtol=1e-5)
    np.testing.assert_allclose(energy(logits).flatten(), -logsumexp(rows, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(max_logit(logits).flatten(), -rows.max(1).astype(np.float32))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_doubt_scores_higher(function):
    """An anomaly is a pixel with low, even evidence: logits near 0 beside one clear winner."""
    clear, doubtful = as_map([[9.0, 0.0, 0.0]]), as_map([[0.1, 0.0, 0.0]])
    assert function(doubtful).item() > function(clear).item()


@pytest.mark.parametrize("function", [msp, entropy])
def test_confident_pixels_keep_their_ranks(function):
    """Margins from 0 to 30: float64's 1 - p tells them apart, float32's ties from 17 on."""
    margin = torch.arange(0, 30.5, 0.25)
    logits = as_map(torch.stack([margin, torch.zeros_like(margin), torch.zeros_like(margin)], dim=1))
    score = function(logits).flatten().numpy()
    probability = torch.softmax(logits.double(), dim=1)
    if function is msp:
        expected = (1 - probability.amax(dim=1)).flatten().numpy()
    else:
        expected = torch.special.entr(probability).sum(dim=1).flatten().numpy()
    assert np.array_equal(np.argsort(score), np.argsort(expected))
    assert len(np.unique(score)) == len(score)
    plain = (1 - torch.softmax(logits, dim=1).amax(dim=1)).flatten().numpy()
    assert len(np.unique(plain)) < len(plain)


@pytest.mark.parametrize("function", [msp, entropy])
def test_ranks_last_beyond_float64(function):
    """Margins of 40 to 85, where 1 - p is 0 in float64 too."""
    margin = torch.arange(40, 85, 0.5)
    score = function(as_map(torch.stack([margin, torch.zeros_like(margin)], dim=1))).flatten()
    assert (score.diff() < 0).all()
    assert (score > 0).all()


def test_confident_network_keeps_its_auroc():
    """Known pixels win by 25 to 35, anomalies by 20 to 30: plain float32 calls nearly all of them equal."""
    random = np.random.default_rng(0)
    label = np.repeat([0, 1], 2000)
    margin = random.uniform(25, 35, 4000) - 5 * label
    logits = as_map(np.stack([margin, 0 * margin, 0 * margin], axis=1).astype(np.float32))
    probability = torch.softmax(logits.double(), dim=1).amax(dim=1).flatten().numpy()
    expected = roc_auc_score(label, 1 - probability)
    assert roc_auc_score(label, msp(logits).flatten().numpy()) == pytest.approx(expected, abs=1e-4)
    plain = 1 - torch.softmax(logits, dim=1).amax(dim=1).flatten().numpy()
    assert abs(roc_auc_score(label, plain) - expected) > 0.1


@pytest.mark.parametrize("classes", [1, 2, 11])
def test_equal_logits_are_the_greatest_doubt(classes):
    logits = torch.full((1, classes, 2, 2), -1e4)
    torch.testing.assert_close(msp(logits), torch.full((1, 2, 2), 1 - 1 / classes))
    torch.testing.assert_close(entropy(logits), torch.full((1, 2, 2), math.log(classes)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_extreme_logits_stay_finite(function):
    rows = [[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4], [1e4, 1e4, -1e4]]
    score = function(as_map(rows))
    assert torch.isfinite(score).all()
    if function is msp:
        torch.testing.assert_close(score.flatten(), torch.tensor([0, 2 / 3, 2 / 3, 0.5]))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_half_precision_autocast_changes_nothing(function):
    logits = random_logits(10.0)
    with torch.autocast("cpu", torch.bfloat16):
        inside = function(logits)
    torch.testing.assert_close(inside, function(logits), rtol=0, atol=0)


def test_softmax_scores_forget_the_level_and_the_others_do_not():
    logits = random_logits(1.0)
    for function in (msp, entropy):
        torch.testing.assert_close(function(logits + 8), function(logits), rtol=1e-5, atol=1e-6)
    for function in (energy, max_logit, gmm_nll):
        torch.testing.assert_close(function(logits + 8), function(logits) - 8, rtol=1e-5, atol=1e-6)


def test_scores_by_name_in_order_each_once():
    assert [score.name for score in get_scores(["energy", "msp"])] == ["energy", "msp"]
    with pytest.raises(InputError, match="scores of different names, found 'energy' 2 times"):
        get_scores(["energy", "msp", "energy"])


def test_an_unknown_score_lists_all_the_closest_first():
    with pytest.raises(InputError) as caught:
        get_scores(["msp", "max_logits"])
    message = str(caught.value)
    assert message.startswith("unknown score 'max_logits'; the scores are max_logit, ")
    assert all(name in message for name in SCORES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gen_of_all_classes_is_bit_for_bit_that_of_topk(dtype):
    logits = torch.randn(2, 7, 9, 11, generator=torch.Generator().manual_seed(5)).mul(4).to(dtype)
    logits[:, :, :3] = logits[:, :, :3].round()  # ties
    expected = gen(logits.clone().requires_grad_()).detach()
    assert torch.equal(gen(logits), expected)
