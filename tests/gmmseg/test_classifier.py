import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anomaly.errors import InputError
from gmmseg.classifier import GMMClassifier
from gmmseg.settings import MixtureSettings


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return GMMClassifier(
        4, MixtureSettings(num_components=3, embed_dim=8, memory_size=30, max_samples=6, em_interval=2)
    )


def _batch(seed=0, size=(2, 8, 6, 5)):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (size[0], *size[2:]), generator=generator)
    labels[0, 0] = 255
    return torch.randn(size, generator=generator), labels


def _state(module):
    return copy.deepcopy(module.state_dict())


def _same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


def test_densities_equal_a_naive_loop(classifier):
    features, labels = _batch()
    for _ in range(3):
        classifier.learn(classifier(features), labels)
    output = classifier(features)
    means = F.normalize(classifier.mixture.means, dim=-1).double().numpy()
    stds = classifier.mixture.stds.double().numpy()
    flat = features.permute(0, 2, 3, 1).reshape(-1, 8)
    x = F.normalize(classifier.embed_norm(flat), dim=1).double().detach().numpy()
    expected = np.zeros((len(x), 4, 3))
    for c in range(4):
        for p in range(3):
            z = (x - means[c, p]) / stds[c, p]
            expected[:, c, p] = -0.5 * (z**2).sum(1) - np.log(stds[c, p]).sum() - 4 * np.log(2 * np.pi)
    assert np.abs(output.log_prob.detach().numpy() - expected).max() < 1e-4
    likelihood = output.class_log_likelihood.permute(0, 2, 3, 1).reshape(-1, 4)
    assert torch.equal(likelihood, output.log_prob.amax(2))


def test_forward_never_writes(classifier):
    before = _state(classifier)
    for mode in (True, False):
        classifier.train(mode)(_batch()[0])
    assert _same(before, classifier.state_dict())


def test_learn_fits_every_second_step(classifier):
    features, labels = _batch()
    classifier.learn(classifier(features), labels)
    first = _state(classifier.mixture)
    assert not torch.equal(first["stds"], torch.ones_like(first["stds"]))
    classifier.learn(classifier(features), labels)
    assert torch.equal(classifier.mixture.stds, first["stds"])
    classifier.learn(classifier(features), labels)
    assert not torch.equal(classifier.mixture.stds, first["stds"])
    assert classifier.em.step == 3


def test_only_what_was_pushed_moves_the_mixture(classifier):
    features, labels = _batch()
    labels[labels == 2] = 255
    before = classifier.mixture.stds.clone()
    classifier.learn(classifier(features), labels)
    count = classifier.em.memory.count.view(4, 3)
    untouched = (classifier.mixture.stds == before).all(2)
    assert torch.equal(untouched, count == 0)
    assert (count[2] == 0).all()
    assert count.max() <= 6


def test_class_that_was_never_fitted_can_still_win():
    """Beside fitted classes its log-density is of their size: a feature at its mean is its own."""
    torch.manual_seed(0)
    classifier = GMMClassifier(3, MixtureSettings(num_components=2, embed_dim=64, memory_size=500, mean_momentum=0.5))
    centers = torch.randn(3, 64)
    labels = torch.randint(0, 2, (1, 30, 30))  # nothing of class 2
    features = (centers[labels] + torch.randn(1, 30, 30, 64)).permute(0, 3, 1, 2)
    for _ in range(20):
        classifier.learn(classifier(features), labels)
    assert classifier.em.memory.count.view(3, 2).sum(1).tolist()[2] == 0
    log_prob = classifier.mixture.log_prob(F.normalize(classifier.mixture.means[2], dim=1))
    assert (log_prob.amax(2).argmax(1) == 2).all()
    fitted = classifier(features).class_log_likelihood
    assert (fitted[:, :2].amax(1) > fitted[:, 2]).float().mean() > 0.99


@pytest.mark.slow
def test_blocks_of_features_give_the_mixture_of_single_ones():
    """At M = 4,000 in blocks of 4 and with features that drift, the mixture differs by less than 1e-3."""
    mixtures = []
    for blocks in (4000, 1000):
        torch.manual_seed(0)
        settings = MixtureSettings(
            num_components=2, embed_dim=8, memory_size=4000, memory_blocks=blocks, mean_momentum=0.5
        )
        classifier = GMMClassifier(2, settings)
        assert classifier.em.memory.block == 4000 // blocks
        centers, drift = torch.randn(2, 2, 8)
        for step in range(260):
            labels = torch.randint(0, 2, (1, 20, 20))
            noise = 0.5 * torch.randn(1, 20, 20, 8)
            features = (centers + drift * step / 260)[labels] + noise
            classifier.learn(classifier(features.permute(0, 3, 1, 2)), labels)
        assert (classifier.em.memory.pushed > 4000).all()
        mixtures.append(classifier.mixture)
    assert (mixtures[0].means - mixtures[1].means).abs().max() < 1e-3
    assert (mixtures[0].stds - mixtures[1].stds).abs().max() < 1e-3
    assert not torch.equal(mixtures[0].stds, mixtures[1].stds)


def test_pixel_of_equal_features_has_a_bounded_gradient(classifier):
    features, labels = _batch()
    features[0, :, 3, 3] = 0
    features.requires_grad_()
    output = classifier(features)
    (F.cross_entropy(output.logits, labels, ignore_index=255) + classifier.learn(output, labels)).backward()
    assert classifier.embed_norm.bias.grad.abs().max() < 1e3


def test_deviation_is_that_of_the_memory(classifier):
    features, labels = _batch()
    classifier.learn(classifier(features), labels)
    memory = classifier.em.memory
    group = int(memory.count.argmax())
    kept = memory.blocks[group, : memory.count[group], 0].double()
    center = F.normalize(kept.sum(0), dim=0)
    expected = ((kept - center).square().mean(0) + 1e-2).sqrt()
    assert torch.allclose(classifier.mixture.stds.view(12, 8)[group].double(), expected, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_contrast_is_cross_entropy_over_components(weight):
    torch.manual_seed(1)
    classifier = GMMClassifier(4, MixtureSettings(num_components=3, embed_dim=8, memory_size=9, contrast_weight=weight))
    features, labels = _batch()
    output = classifier(features)
    valid = labels.flatten() != 255
    classes = labels.flatten()[valid]
    groups = classifier.em.assign(output.log_prob[valid, classes], classes)
    expected = F.cross_entropy(output.log_prob[valid].flatten(1), groups) * weight
    assert classifier.learn(output, labels).item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.equal(groups // 3, labels.flatten()[valid])


def test_component_numbers_never_meet_the_ignore_label():
    """C * P > 255: component 255 is a target like any other, unless the published behaviour is asked for."""
    losses = {}
    for ignore in (-100, 255):
        torch.manual_seed(0)
        settings = MixtureSettings(num_components=1, embed_dim=8, memory_size=2, contrast_ignore_index=ignore)
        classifier = GMMClassifier(256, settings)
        features = torch.randn(1, 8, 2, 2)
        losses[ignore] = classifier.learn(classifier(features), torch.full((1, 2, 2), 255), ignore_index=-1).item()
    assert losses[-100] > 0
    assert losses[255] == 0


def test_all_ignored_gives_a_zero_that_keeps_the_graph(classifier):
    features = _batch()[0].requires_grad_()
    loss = classifier.learn(classifier(features), torch.full((2, 6, 5), 255))
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert classifier.em.memory.count.sum() == 0


def test_densities_stay_in_float32_under_autocast(classifier):
    features = _batch()[0]
    expected = classifier(features).class_log_likelihood
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = classifier(features)
    assert output.class_log_likelihood.dtype == torch.float32
    assert torch.equal(output.class_log_likelihood, expected)


def test_learning_raises_the_likelihood_of_what_it_saw():
    torch.manual_seed(0)
    classifier = GMMClassifier(2, MixtureSettings(num_components=2, embed_dim=8, memory_size=64, mean_momentum=0.5))
    centers = torch.randn(2, 8) * 3
    labels = torch.randint(0, 2, (1, 12, 12))
    features = (centers[labels] + 0.3 * torch.randn(1, 12, 12, 8)).permute(0, 3, 1, 2)
    before = classifier(features).class_log_likelihood.amax(1).mean()
    for _ in range(40):
        classifier.learn(classifier(features), labels)
    output = classifier(features)
    unknown = classifier(-features.roll(3, 1)).class_log_likelihood.amax(1)
    assert (output.logits.argmax(1) == labels).float().mean() > 0.95
    assert output.class_log_likelihood.amax(1).mean() > before + 5
    assert output.class_log_likelihood.amax(1).median() > unknown.median() + 5


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_prototype": 3}, "unknown mixture setting 'num_prototype'"),
        ({"num_component": 3}, "did you mean 'num_components'"),
        ({"mean_momentum": 1.5}, "must be a share between 0 and 1, found 1.5"),
        ({"memory_size": 10_007}, "such as 11000, to divide into memory_blocks, found 10007"),
        ({"memory_size": 0}, "must be an integer of 1 or more, found 0"),
        ({"num_components": 2.5}, "must be an integer of 1 or more, found 2.5"),
        ({"sinkhorn_epsilon": 0.001}, "0.03 or more"),
        ({"sinkhorn_iterations": 2.5}, "an integer of 0 or more, found 2.5"),
        ({"memory_start": "full"}, "'empty' or 'random'"),
    ],
)
def test_bad_settings_are_named(config, message):
    with pytest.raises(InputError, match=message):
        MixtureSettings.from_config(config)


def test_pixels_that_are_not_finite_are_left_out(classifier):
    features, labels = _batch()
    classifier.learn(classifier(features), labels)
    broken = features.clone()
    broken[0] = torch.nan
    for _ in range(2):
        classifier.learn(classifier(broken), labels)
    assert all(value.isfinite().all() for value in classifier.state_dict().values())
    assert classifier.learn(classifier(features), labels).isfinite()
