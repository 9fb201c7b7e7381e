"""All that a generative network says of an image, of which scores are made, against scipy in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from scipy.special import logsumexp
from scipy.stats import norm

from anomaly.errors import InputError
from anomaly.evaluation.score_maps import check_scores
from anomaly.models.mmseg import MMSegModel
from anomaly.models.views import predict_inputs
from anomaly.scores import get_scores
from gmmseg.models.posthoc_segmentor import posthoc_config
from tests.gmmseg.networks import segformer
from tests.gmmseg.test_posthoc import build, network_config, pair
from tests.oracles import bilinear

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def described(network, layer):
    """What the network says, and what went into one of its layers, in float64."""
    caught = []
    layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    with torch.no_grad():
        found = network.eval().describe(IMAGES)
    return {name: value.numpy() for name, value in found.items()}, numpy(caught[0])


def numpy(tensor):
    return tensor.detach().double().numpy()


def layer_norm(values, layer):
    """Over the second axis of maps. Shape: ``(B, D, h, w)``."""
    centred = values - values.mean(1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + layer.eps)
    return scaled * numpy(layer.weight)[:, None, None] + numpy(layer.bias)[:, None, None]


def log_densities(maps, means, stds):
    """Shape: ``(B, D, h, w)`` and twice ``(C, P, D)`` -> ``(B, C, P, h, w)``."""
    means, stds = means[..., None, None], stds[..., None, None]
    return norm.logpdf(maps[:, None, None], means, stds).sum(3)


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("channels", [16, 24])
def test_gmmseg_head(channels):
    torch.manual_seed(0)
    network = segformer(channels=channels)
    classifier = network.decode_head.classifier
    classifier.mixture.means.normal_()
    classifier.mixture.stds.uniform_(0.2, 0.9)
    for layer in (classifier.embed_norm, classifier.class_norm):
        torch.nn.init.normal_(layer.weight, mean=1)
        torch.nn.init.normal_(layer.bias)
    found, features = described(network, classifier)

    embedding = layer_norm(features, classifier.embed_norm)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    means, stds = numpy(classifier.mixture.means), numpy(classifier.mixture.stds)
    means /= np.linalg.norm(means, axis=2, keepdims=True)
    log_prob = log_densities(embedding, means, stds)
    expected = {
        "logits": layer_norm(log_prob.max(2), classifier.class_norm),
        "class_log_likelihood": log_prob.max(2),
        "component_log_prob": log_prob - np.log(2),
        "component_peak": norm.logpdf(means, means, stds).sum(2) - np.log(2),
        "features": embedding,
    }
    assert found["logits"].shape == (2, 5, 16, 16)
    assert_close(found, expected)


def randomised(densities, width=0.9):
    """Mixtures where the third class has one component of two, and the last none."""
    densities.means.normal_(std=0.3)
    densities.stds.uniform_(0.2, width)
    densities.log_weights.normal_()
    densities.log_weights[2, 1] = densities.log_weights[3] = -torch.inf


def described_posthoc(network):
    """What the network says, and what its mixtures and last layer should say of the features under the latter."""
    found, features = described(network, network.last_layer)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    densities = network.densities
    means, stds, log_weights = (numpy(each) for each in (densities.means, densities.stds, densities.log_weights))
    log_prob = log_densities(unit, means, stds) + log_weights[..., None, None]
    weight, bias = numpy(network.last_layer.weight)[..., 0, 0], numpy(network.last_layer.bias)
    return found, {
        "logits": np.einsum("bdhw,cd->bchw", features, weight) + bias[:, None, None],
        "class_log_likelihood": np.maximum(logsumexp(log_prob, axis=2), -1e9),
        "component_log_prob": log_prob,
        "component_peak": norm.logpdf(means, means, stds).sum(2) + log_weights,
        "features": features,
    }


@pytest.mark.parametrize("cascade", [False, True])
def test_mixtures_fitted_afterwards(cascade):
    _, network = pair(cascade=cascade)
    randomised(network.densities)
    found, expected = described_posthoc(network)
    assert np.isneginf(expected["component_log_prob"]).any()
    assert_close(found, expected)


def frozen_network():
    """A network with mixtures over its own features and over those of a frozen backbone at two sizes."""
    torch.manual_seed(0)
    config = posthoc_config(network_config(), 2)
    frozen = {"backbone": dict(config.model.backbone), "stage": -1, "channels": 32, "scales": (1.0, 2.0)}
    config.model.frozen = {**frozen, "num_components": 2, "weight": 0.25}
    network = build(config)
    for densities in (network.densities, network.frozen.densities):
        randomised(densities)
    network.frozen.densities.centre.normal_()
    network.frozen.densities.whitening.normal_(std=0.1)
    return network


def test_frozen_copy():
    network = frozen_network()
    found, expected = described_posthoc(network)
    frozen = network.frozen.densities
    with torch.no_grad():
        twice = F.interpolate(IMAGES, (128, 128), mode="bilinear", antialias=True)
        small, large = (numpy(network.frozen.backbone(each)[-1]) for each in (IMAGES, twice))
    features = np.concatenate([bilinear(small, *large.shape[2:]), large], axis=1)
    away = features - numpy(frozen.centre)[:, None, None]
    white = np.einsum("bdhw,de->behw", away, numpy(frozen.whitening))
    log_prob = log_densities(white, numpy(frozen.means), numpy(frozen.stds))
    likelihood = logsumexp(log_prob + numpy(frozen.log_weights)[..., None, None], axis=2)
    added = bilinear(0.25 * np.maximum(likelihood, -1e9), *found["logits"].shape[2:])
    expected["class_log_likelihood"] += added
    expected["component_log_prob"] += added[:, :, None]
    del expected["component_peak"]
    assert_close(found, expected)


def model_of(network):
    network.data_preprocessor = torch.nn.Identity()
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "PackSegInputs"}]
    return MMSegModel(Config({"default_scope": "mmseg", "test_pipeline": pipeline}), network, "cpu")


def test_no_nearest_component_with_a_frozen_copy():
    model = model_of(frozen_network())
    assert model.gives == {"logits", "class_log_likelihood", "component_log_prob", "features"}
    check_scores(get_scores(["gmm_nll", "marginal_nll"]), model)
    with pytest.raises(InputError, match=r"component_peak \(with a frozen copy of the backbone, components have no"):
        check_scores(get_scores(["nearest_component"]), model)


def test_one_class_has_likelihoods_alone():
    model = model_of(segformer(num_classes=1))
    assert model.gives == {"class_log_likelihood", "component_log_prob", "component_peak", "features"}
    likelihoods = get_scores(["gmm_nll", "marginal_nll", "nearest_component"])
    check_scores(likelihoods, model)
    found = predict_inputs(model, IMAGES).scores(likelihoods)
    assert all(score.unique().numel() > 1000 for score in found.values())
    for name in ("msp", "max_logit", "entropy", "energy", "gen", "predicted_nll"):
        with pytest.raises(
            InputError, match=rf"'{name}' needs the network's logits \(with one class they are not informative"
        ):
            check_scores(get_scores([name]), model)
    model = model_of(segformer(num_classes=2))
    check_scores(get_scores(["msp"]), model)
