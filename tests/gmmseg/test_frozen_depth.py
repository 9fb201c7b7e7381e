"""Mixtures over features of a frozen copy of the backbone, against scipy; the network itself stays as it is."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import multivariate_normal

from anomaly.errors import InputError
from anomaly.models.mmseg import build_model
from gmmseg.posthoc.mixtures import StratifiedSample, WhitenedDensities
from gmmseg.training.posthoc_fitting import fitting_config
from tests.gmmseg.test_posthoc import network_config


def sample_of(features, labels, classes):
    sample = StratifiedSample(classes, 10_000, features.shape[1], torch.Generator().manual_seed(0))
    sample.add(torch.tensor(features, dtype=torch.float32), torch.tensor(labels))
    return sample


def test_whitened_gaussians_are_full_ones():
    random = np.random.default_rng(0)
    mixing = random.normal(size=(5, 5)) * np.array([10, 3, 1, 0.3, 0.1])
    labels = np.repeat([0, 1], [1000, 3000])
    features = random.normal(size=(4000, 5)) @ mixing + 40 + 2.0 * labels[:, None]
    densities = WhitenedDensities(3, 1, 5)
    assert densities.fit(sample_of(features, labels, 3), torch.Generator().manual_seed(0)) == [1, 1, 0]
    found = densities(torch.tensor(features[::100], dtype=torch.float32)).numpy()

    even = np.where(labels == 0, 3, 1)  # classes count the same, however many pixels they have
    overall, centre = np.cov(features.T, ddof=0, aweights=even), np.average(features, axis=0, weights=even)
    values, vectors = np.linalg.eigh(overall)
    whitening = vectors / np.sqrt(values + 0.01 * values.mean())
    back = np.linalg.inv(whitening)
    for k in (0, 1):
        white = (features[labels == k] - centre) @ whitening
        covariance = back.T @ np.diag(white.var(0) + 0.05) @ back
        normal = multivariate_normal(features[labels == k].mean(0), covariance)
        expected = normal.logpdf(features[::100]) - np.linalg.slogdet(whitening)[1]
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-3, atol=1e-2)
    assert (found[:, 2] == -1e9).all()


METAS = [{"img_shape": (64, 96), "ori_shape": (64, 96)}] * 2


def effnet(kind="EncoderDecoder", **head):
    config = network_config()
    config.model.type = kind
    config.model.backbone = {"type": "gmmseg.EfficientNetLite0", "pretrained": True}
    config.model.decode_head.in_channels = [24, 40, 112, 320]
    config.model.decode_head.update(head)
    return config


@pytest.mark.parametrize("generative", [False, True])
def test_log_likelihoods_are_added_and_logits_stay(generative):
    if generative:
        mixture = {"num_components": 2, "embed_dim": 8, "memory_size": 10}
        config = effnet("gmmseg.GMMSegmentor", type="gmmseg.SegformerGMMSegHead", mixture=mixture)
    else:
        config = effnet()
    config, backbone = fitting_config(config, 2, -1, build_model)
    torch.manual_seed(0)
    model = build_model(config).eval()
    model.frozen.backbone.load_state_dict(backbone.state_dict())
    classes, images = model.num_classes, torch.randn(2, 3, 64, 96)
    dim = 8 if generative else config.model.decode_head.channels
    assert config.model.frozen["weight"] == dim / 640
    with torch.no_grad():
        twice = F.interpolate(images, (128, 192), mode="bilinear", antialias=True)
        once = F.interpolate(backbone(images)[-1], (4, 6), mode="bilinear")
        features = torch.cat([once, backbone(twice)[-1]], 1)
    rows = features.permute(0, 2, 3, 1).flatten(0, 2)
    labels = torch.arange(len(rows)) % classes
    model.frozen.densities.fit(sample_of(rows.numpy(), labels.numpy(), classes), torch.Generator().manual_seed(0))
    if not generative:
        own = F.normalize(torch.randn(100, dim), dim=1).numpy()
        model.densities.fit(sample_of(own, np.arange(100) % classes, classes), torch.Generator().manual_seed(0))
    assert not model.train().frozen.backbone.training
    model.eval()
    with torch.no_grad():
        found = model.describe(images)
        frozen, model.frozen = model.frozen, None
        plain = model.describe(images)
        added = frozen.weight * frozen.densities(rows).view(2, *features.shape[2:], classes).permute(0, 3, 1, 2)
        added = F.interpolate(added, found["logits"].shape[2:], mode="bilinear")
        _, expected = model.infer(images, METAS)
        model.frozen = frozen
        logits, likelihood = model.infer(images, METAS)
    torch.testing.assert_close(found["logits"], plain["logits"], rtol=0, atol=0)
    torch.testing.assert_close(found["features"], plain["features"], rtol=0, atol=0)
    torch.testing.assert_close(found["class_log_likelihood"], plain["class_log_likelihood"] + added)
    torch.testing.assert_close(found["component_log_prob"], plain["component_log_prob"] + added[:, :, None])
    assert found.keys() == plain.keys() - {"component_peak"} == set(model.describes)
    assert (likelihood != expected).any()
    assert logits.shape == likelihood.shape == (2, classes, 64, 96)


def test_what_cannot_be_frozen_is_refused():
    with pytest.raises(InputError, match="expected a backbone with pretrained weights for the frozen copy, found one"):
        fitting_config(network_config(), 2, -1, build_model)
    with pytest.raises(InputError, match=r"expected the number of one of the backbone's 4 feature maps, .* found 4"):
        fitting_config(effnet(), 2, 4, build_model)
