"""All that a generative network says of an image, of which scores are made, against scipy in float64."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.models import SegDataPreProcessor
from scipy.special import logsumexp
from scipy.stats import norm

from anomaly.density.sample import StratifiedSample
from anomaly.errors import InputError
from anomaly.evaluation.score_maps import check_scores
from anomaly.models.backbone import Backbone
from anomaly.models.feature_density import FeatureDensity
from anomaly.models.fitted import FittedModel, Member
from anomaly.models.mmseg import MMSegModel
from anomaly.models.views import predict_inputs
from anomaly.scores import get_scores
from tests.gmmseg.networks import segformer
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


def model_of(network):
    network.data_preprocessor = SegDataPreProcessor(mean=[120.0] * 3, std=[60.0] * 3)
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "PackSegInputs"}]
    return MMSegModel(Config({"default_scope": "mmseg", "test_pipeline": pipeline}), network, "cpu")


def test_density_of_a_backbone_is_added():
    """To likelihoods and components alike; logits and features stay, and a component has no known peak any more."""
    torch.manual_seed(0)
    model = model_of(segformer())
    blocks = Backbone(torch.nn.Conv2d(3, 6, 8, stride=8), mean=(0.4,) * 3, std=(0.2,) * 3, device="cpu")
    settings = FeatureDensity(backbone="blocks", stages=(-1,), sizes=(64,))
    densities = settings.densities(6, 5, labelled=True)
    sample = StratifiedSample(5, 200, 6, torch.Generator().manual_seed(0))
    sample.add(torch.randn(1000, 6), torch.arange(1000) % 5)
    densities.fit(sample, torch.Generator().manual_seed(0))
    own = Member(settings=FeatureDensity.of_network(of="likelihood"), densities=None, backbone=None)
    fitted = FittedModel(model, [own, Member(settings=settings, densities=densities, backbone=blocks, weight=0.25)])
    image = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8).numpy()
    found, plain = fitted(fitted.prepare(image)[None]), model(model.prepare(image)[None])
    assert torch.equal(found.logits, plain.logits)
    assert torch.equal(found.features, plain.features)

    weight, bias = numpy(blocks.network.weight), numpy(blocks.network.bias)
    cells = ((image / 255 - 0.4) / 0.2).reshape(8, 8, 8, 8, 3)  # row, row in a block, column, column in a block
    maps = np.einsum("yixjc,dcij->dyx", cells, weight) + bias[:, None, None]
    white = np.einsum(
        "dyx,de->eyx", maps - numpy(densities.whitening.centre)[:, None, None], numpy(densities.whitening.matrix)
    )
    known = densities.known
    log_prob = (
        log_densities(white[None], numpy(known.means), numpy(known.stds)) + numpy(known.log_weights)[..., None, None]
    )
    added = 0.25 * bilinear(logsumexp(log_prob, axis=2), 16, 16)
    np.testing.assert_allclose(found.class_log_likelihood - plain.class_log_likelihood, added, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        found.component_log_prob - plain.component_log_prob, added[:, :, None].repeat(2, 2), rtol=1e-3, atol=1e-3
    )

    assert fitted.gives == {"logits", "class_log_likelihood", "component_log_prob", "features"}
    check_scores(get_scores(["gmm_nll", "marginal_nll"]), fitted)
    with pytest.raises(InputError, match="'nearest_component' needs the network's component_peak"):
        check_scores(get_scores(["nearest_component"]), fitted)


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
