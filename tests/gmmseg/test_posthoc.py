"""Mixtures of frozen features: the fit against scikit-learn, the sample against chance, the network against itself."""

import copy
from typing import ClassVar

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from scipy import stats
from sklearn.mixture import GaussianMixture

from anomaly.errors import InputError
from gmmseg.models.posthoc_segmentor import PosthocCascadeSegmentor, PosthocSegmentor, posthoc_config
from gmmseg.posthoc.mixtures import (
    PIXELS_PER_COMPONENT,
    UNSEEN_LOG_LIKELIHOOD,
    ClassDensities,
    StratifiedSample,
    fit_mixture,
)
from gmmseg.training.feature_pass import collect_features


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def blobs(n=3000, dim=6, seed=0):
    """Three overlapping blobs of unit vectors, of unequal number and width."""
    draw = np.random.default_rng(seed)
    centres, which = draw.normal(size=(3, dim)), draw.choice(3, n, p=[0.6, 0.3, 0.1])
    x = centres[which] + draw.normal(size=(n, dim)) * np.array([0.2, 0.5, 0.3])[which, None]
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def sklearn_mixture(mixture):
    """The same parameters as scikit-learn's mixture."""
    model = GaussianMixture(len(mixture.weights), covariance_type="diag")
    model.weights_, model.means_ = mixture.weights.numpy(), mixture.means.numpy()
    model.covariances_ = mixture.stds.numpy() ** 2
    model.precisions_cholesky_ = 1 / mixture.stds.numpy()
    return model


@pytest.mark.parametrize("seed", range(3))
def test_fit_is_as_good_as_scikit_learns_and_a_fixed_point_of_its_em(seed):
    x = blobs(seed=seed)
    mixture = fit_mixture(torch.tensor(x), 3, seeded(seed), 1e-6, tolerance=1e-7, max_iterations=2000)
    best = GaussianMixture(3, covariance_type="diag", n_init=10, tol=1e-6, max_iter=1000, random_state=0).fit(x)
    assert sklearn_mixture(mixture).score(x) > best.score(x) - 0.02
    again = GaussianMixture(
        3,
        covariance_type="diag",
        weights_init=mixture.weights.numpy(),
        means_init=mixture.means.numpy(),
        precisions_init=mixture.stds.numpy() ** -2,
        tol=1e-7,
    ).fit(x)
    np.testing.assert_allclose(again.means_, mixture.means, atol=1e-3)
    np.testing.assert_allclose(again.covariances_, mixture.stds**2, atol=1e-3)
    np.testing.assert_allclose(again.weights_, mixture.weights, atol=1e-3)


def densities_of(*samples, components=3):
    """Densities fitted to the features of each class, and the components that each class got."""
    sample = StratifiedSample(len(samples), 5000, samples[0].shape[1], seeded())
    for k, features in enumerate(samples):
        sample.add(features, torch.full((len(features),), k))
    densities = ClassDensities(len(samples), components, samples[0].shape[1])
    return densities, densities.fit(sample, seeded())


def test_class_log_likelihood_is_scikit_learns():
    x = torch.tensor(blobs(dim=16), dtype=torch.float32)
    narrow = torch.nn.functional.normalize(torch.randn(400, 16, generator=seeded()) * 0.003 + x[0])
    densities, components = densities_of(x, narrow)
    assert components == [3, 3]
    found = densities(x[:500])
    for k in range(2):
        parts = {
            "weights": densities.log_weights[k].double().exp(),
            "means": densities.means[k].double(),
            "stds": densities.stds[k].double(),
        }
        parts["weights"] /= parts["weights"].sum()
        expected = sklearn_mixture(ConfigDict(parts)).score_samples(x[:500].double().numpy())
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-6, atol=1e-4)


def test_rare_classes_get_fewer_components_and_absent_ones_none():
    x = torch.tensor(blobs(), dtype=torch.float32)
    absent = x[:0]
    densities, components = densities_of(
        x, x[: 2 * PIXELS_PER_COMPONENT], x[:7], x[:1], x[:1].expand(400, -1), absent, components=4
    )
    assert components == [4, 2, 1, 1, 1, 0]
    likelihood = densities(x)
    assert likelihood.isfinite().all()
    assert (likelihood[:, 5] == UNSEEN_LOG_LIKELIHOOD).all()
    assert (likelihood[:, :5] > UNSEEN_LOG_LIKELIHOOD).all()
    assert likelihood[0, 3] == likelihood[:, 3].max()  # the one pixel it saw
    opposite = densities(-x[:1])
    assert (opposite[0, :5] > UNSEEN_LOG_LIKELIHOOD).all()


def test_few_pixels_give_their_own_moments():
    x = torch.tensor(blobs(n=20))
    for floor, added in ((1e-6, 1e-6), (None, 0.64 / 6)):
        mixture = fit_mixture(x, 3, seeded(), floor)
        np.testing.assert_allclose(mixture.means[0], x.numpy().mean(0))
        np.testing.assert_allclose(mixture.stds[0] ** 2, x.numpy().var(0) + added)


def test_sample_is_even_over_batches_and_equal_per_class():
    chosen = np.zeros(60)
    for seed in range(400):
        sample = StratifiedSample(2, 10, 1, seeded(seed))
        for first in (0, 5, 25):  # batches of 5, 20 and 35 pixels
            index = torch.arange(first, {0: 5, 5: 25, 25: 60}[first])
            sample.add(index[:, None].float(), torch.zeros(len(index), dtype=torch.long))
            sample.add(index[:1, None].float(), torch.ones(1, dtype=torch.long))
        assert sample.seen.tolist() == [60, 3]
        kept = sample.of_class(0).flatten().long()
        assert len(kept.unique()) == 10
        chosen[kept] += 1
        assert sorted(sample.of_class(1).flatten().tolist()) == [0, 5, 25]
    assert stats.chisquare(chosen).pvalue > 1e-3


HEADS = {
    "SegformerHead": {"in_channels": [8, 8, 16, 32], "in_index": [0, 1, 2, 3]},
    "UPerHead": {"in_channels": [8, 8, 16, 32], "in_index": [0, 1, 2, 3], "pool_scales": (1, 2)},
    "FCNHead": {"in_channels": 32, "in_index": 3, "num_convs": 1},
    "DAHead": {"in_channels": 32, "in_index": 3, "pam_channels": 4},
}
TEST_CFGS = {
    "whole": {"mode": "whole"},
    "slide": {"mode": "slide", "crop_size": (32, 40), "stride": (20, 24)},
}


def network_config(head="SegformerHead", mode="whole", cascade=False, **changes):
    common = {"channels": 12, "num_classes": 4, "norm_cfg": {"type": "BN"}, "align_corners": False}
    decode_head = {"type": head, **HEADS[head], **common, **changes}
    if cascade:
        first = {"type": "FCNHead", **HEADS["FCNHead"], **common}
        ocr = {"type": "OCRHead", "in_channels": 32, "in_index": 3, "ocr_channels": 6, **common}
        decode_head = [first, {**ocr, **changes}]
    return Config(
        {
            "default_scope": "mmseg",
            "model": {
                "type": "CascadeEncoderDecoder" if cascade else "EncoderDecoder",
                **({"num_stages": 2} if cascade else {}),
                "backbone": {
                    "type": "MixVisionTransformer",
                    "embed_dims": 8,
                    "num_layers": [1, 1, 1, 1],
                    "num_heads": [1, 1, 2, 4],
                },
                "decode_head": decode_head,
                "test_cfg": TEST_CFGS[mode],
            },
        }
    )


def build(config):
    init_default_scope("mmseg")
    return MODELS.build(config.model).eval()


def pair(components=2, **settings):
    """A network, and the same with random mixtures beside it."""
    config = network_config(**settings)
    torch.manual_seed(0)
    plain, posthoc = build(config), build(posthoc_config(config, components))
    missing, unexpected = posthoc.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert missing == ["densities.means", "densities.stds", "densities.log_weights"]
    densities = posthoc.densities
    densities.means.normal_(std=0.3)
    densities.stds.uniform_(0.2, 0.9)
    densities.log_weights.normal_()
    return plain, posthoc


@pytest.mark.parametrize("mode", TEST_CFGS)
@pytest.mark.parametrize("settings", [*({"head": head} for head in HEADS), {"cascade": True}], ids=str)
def test_closed_set_stays_the_networks_own_to_the_last_bit(settings, mode):
    plain, posthoc = pair(mode=mode, **settings)
    images = torch.randn(2, 3, 44, 70)
    metas = [{"ori_shape": (44, 70), "img_shape": (44, 70), "pad_shape": (44, 70)}] * 2
    with torch.no_grad():
        before = {key: value.clone() for key, value in posthoc.state_dict().items()}
        logits, likelihood = posthoc.infer(images, [dict(meta) for meta in metas])
        expected = plain.inference(images, [dict(meta) for meta in metas])
        assert torch.equal(logits, expected)
        assert torch.equal(posthoc.inference(images, metas), expected)
        assert likelihood.shape == expected.shape
        assert (likelihood[:, :, 1:] != likelihood[:, :, :-1]).any()
        ours, theirs = posthoc.predict(images), plain.predict(images)
    for sample, other in zip(ours, theirs, strict=True):
        assert torch.equal(sample.pred_sem_seg.data, other.pred_sem_seg.data)
        assert sample.class_log_likelihood.data.shape == sample.seg_logits.data.shape
    assert all(torch.equal(value, before[key]) for key, value in posthoc.state_dict().items())


def naive_log_likelihood(densities, feature):
    """Of one feature vector, for every class, by scipy."""
    unit = feature / np.linalg.norm(feature)
    found = []
    for k in range(len(densities.means)):
        parts = [
            log_weight + stats.norm.logpdf(unit, mean, std).sum()
            for log_weight, mean, std in zip(
                densities.log_weights[k].tolist(), densities.means[k].numpy(), densities.stds[k].numpy(), strict=True
            )
        ]
        found.append(np.logaddexp.reduce(parts))
    return found


@pytest.mark.parametrize("cascade", [False, True])
def test_likelihoods_are_of_the_unit_features_under_conv_seg(cascade):
    _, posthoc = pair(cascade=cascade)
    head = posthoc.decode_head[-1] if cascade else posthoc.decode_head
    images, metas = torch.randn(1, 3, 64, 64), [{"ori_shape": (64, 64), "img_shape": (64, 64)}]
    caught = []
    head.conv_seg.register_forward_hook(lambda _, inputs, output: caught.append(inputs[0]))
    with torch.no_grad():
        _, features = posthoc.embed(images, metas)
        grid = posthoc.densities(features.permute(0, 2, 3, 1).flatten(0, 2)).view(*features.shape[2:], 4)
        _, full = posthoc.infer(images, metas)
    raw = caught[0][0].double().numpy()
    for row, column in ((0, 0), (1, 0), (features.shape[2] - 1, features.shape[3] - 1)):
        expected = naive_log_likelihood(posthoc.densities, raw[:, row, column])
        np.testing.assert_allclose(grid[row, column], expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(full[0, :, 0, 0], grid[0, 0], rtol=1e-5, atol=1e-4)  # a corner is not interpolated


def test_bfloat16_leaves_the_logits_in_float32():
    _, posthoc = pair()
    weight, bias = (each.detach().double() for each in (posthoc.last_layer.weight.flatten(1), posthoc.last_layer.bias))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = posthoc.describe(torch.randn(1, 3, 64, 64))
    assert found["features"].dtype == torch.bfloat16
    expected = np.einsum("bdhw,cd->bchw", found["features"].double(), weight) + bias.numpy()[:, None, None]
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)
    assert len(found["logits"].unique()) > 900  # of 1,024


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(InputError, match="a model of type EncoderDecoder or CascadeEncoderDecoder, found None"):
        posthoc_config(Config({"default_scope": "mmseg"}), 3)
    config = network_config()
    config.model.type = "gmmseg.GMMSegmentor"
    with pytest.raises(InputError, match=r"found gmmseg\.GMMSegmentor"):
        posthoc_config(config, 3)
    with pytest.raises(InputError, match="num_components must be"):
        build(posthoc_config(network_config(), 0))
    config = posthoc_config(network_config(num_classes=2, out_channels=1), 3)
    config.model.decode_head.loss_decode = {"type": "CrossEntropyLoss", "use_sigmoid": True}
    with pytest.raises(InputError, match="a logit for each of its 2 classes"):
        build(config)
    config = posthoc_config(network_config(), 3)
    config.model.decode_head = {
        **{"type": "SegmenterMaskTransformerHead", "in_channels": 32, "in_index": 3, "channels": 12, "num_classes": 4},
        **{"num_layers": 1, "num_heads": 2, "embed_dims": 12},
    }
    with pytest.raises(InputError, match="found nothing as the conv_seg of SegmenterMaskTransformerHead"):
        build(config)
    with pytest.raises(InputError, match="cannot be trained"):
        build(posthoc_config(network_config(), 2)).loss(torch.zeros(1, 3, 8, 8), [])


def test_registered_under_their_names():
    assert type(build(posthoc_config(network_config(), 1))) is PosthocSegmentor
    assert type(build(posthoc_config(network_config(cascade=True), 1))) is PosthocCascadeSegmentor


class Labelled:
    """Images of noise with their labels, as mmseg packs them."""

    metainfo: ClassVar = {"classes": tuple("abcd")}

    def __len__(self):
        return 2

    def get_data_info(self, index):
        return {"img_path": str(index)}

    def __getitem__(self, index):
        draw = torch.Generator().manual_seed(index)
        sample = SegDataSample(metainfo={"img_shape": (64, 64), "ori_shape": (64, 64), "img_path": str(index)})
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 4, (1, 64, 64), generator=draw))
        return {"inputs": torch.randint(0, 256, (3, 64, 64), generator=draw).byte(), "data_samples": sample}


@pytest.mark.parametrize("fails", [False, True])
def test_fitting_asks_in_evaluation_mode_and_leaves_the_network_as_it_was(fails):
    config = network_config()
    config.model.data_preprocessor = {"type": "SegDataPreProcessor", "mean": [120.0] * 3, "std": [60.0] * 3}
    config.model.decode_head.dropout_ratio = 0.5
    torch.manual_seed(0)
    model = build(posthoc_config(config, 2)).train()
    model.backbone.eval()
    flags = {name: module.training for name, module in model.named_modules()}
    state = copy.deepcopy(model.state_dict())

    def embed(inputs, metas):
        if fails and metas[0]["img_path"] == "1":
            raise RuntimeError("out of memory")
        return model.embed(inputs, metas)[1]

    def collect():
        return collect_features(model, embed, 12, Labelled(), 2, 50, torch.Generator().manual_seed(0))

    if fails:
        with pytest.raises(RuntimeError, match="out of memory"):
            collect()
    else:
        found, again = collect(), collect()
        assert torch.equal(found.of_class(0), again.of_class(0))
    assert {name: module.training for name, module in model.named_modules()} == flags
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
