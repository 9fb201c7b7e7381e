"""Predictions of detectors and ensembles, against loops over densities, classes and pixels in float64."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import nn

import anomaly
from anomaly.errors import InputError
from anomaly.fitting.fit import fit_model
from anomaly.fitting.images import TrainingImages, images_of
from anomaly.models.base import Prediction
from anomaly.models.feature_density import FeatureDensity, choose_densities, fields_given, parse_density
from anomaly.models.fitted import FittedModel, Member
from anomaly.models.image_planes import image_of, with_image
from anomaly.models.tiling import Inference
from anomaly.models.torch import TorchModel
from anomaly.models.views import predict_image, predict_inputs
from tests.anomaly.tiny_backbones import body, features_of, labels_of, log_prob, of_classes, pictures, resized

FEW = {"components": 2, "pixels": 1000}
NEW = pictures(2, (47, 61), seed=9)
LIKELIHOOD = FeatureDensity.of_network(of="likelihood")
PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1), "device": "cpu"}


def labelled(images, classes=3):
    return TrainingImages(images, lambda image: (image, labels_of(image, classes)), labelled=True, classes=classes)


def outliers(images):
    """Images whose left half is an outlier."""

    def read(image):
        return image, torch.where(torch.arange(image.shape[1]) < 30, 0, -1).expand(image.shape[:2])

    return TrainingImages(images, read)


@pytest.fixture(scope="module")
def bodies():
    return body(0), body(1, stages=[1])


@pytest.fixture(scope="module")
def ensemble(bodies):
    """Two densities with classes and outliers: a mixture over two sizes, and a bank."""
    densities = [
        FeatureDensity(backbone=bodies[0], sizes=(32, 45), **FEW),
        FeatureDensity(backbone=bodies[1], sizes=(40,), bank=30, neighbours=2, pixels=1000, weight=0.5),
    ]
    return fit_model(None, labelled(pictures()), densities, outliers=outliers(pictures(2, seed=3)))


@pytest.fixture(scope="module")
def detector(bodies):
    return fit_model(None, images_of(pictures()), [FeatureDensity(backbone=bodies[0], sizes=(32,), **FEW)])


def rgb_of(image, side=None):
    rgb = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    if side is None:
        return rgb
    shape = tuple(round(length * side / min(image.shape[:2])) for length in image.shape[:2])
    return nn.functional.interpolate(rgb, shape, mode="bilinear", antialias=True)


def expected_of(model, rgb, size=None):
    """Log-likelihoods of classes, components and outliers by a loop over the densities of an ensemble."""
    features = [features_of(one.backbone, rgb, one.settings.sizes) for one in model.members]
    size = size or max((each.shape[2:] for each in features), key=np.prod)
    first = resized(log_prob(model.members[0].densities, features[0]), size)
    classes, components, beyond = 0, first, 0
    for number, (member, each) in enumerate(zip(model.members, features, strict=True)):
        own = of_classes(log_prob(member.densities, each))
        classes = classes + member.weight * resized(own, size)
        if number:
            components = components + member.weight * resized(own, size)[:, :, None]
        if member.densities.outliers is not None:
            beyond = beyond + member.weight * resized(
                of_classes(log_prob(member.densities, each, outliers=True))[:, 0], size
            )
    return classes, components, beyond


def density_of(member, image):
    """Class log-likelihoods of one density. Shape ``(1, C, h, w)``."""
    return of_classes(log_prob(member.densities, features_of(member.backbone, rgb_of(image), member.settings.sizes)))


def close(found, expected):
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-4, atol=2e-3)


def test_an_ensemble_adds_the_log_likelihoods_of_its_densities(ensemble):
    assert ensemble.gives == {"class_log_likelihood", "component_log_prob", "outlier_log_likelihood"}
    for image in (*NEW, pictures(1, (45, 80), 4)[0]):
        inputs = ensemble.prepare(image)[None]
        assert min(inputs.shape[2:]) == 45
        found = ensemble(inputs)
        classes, components, beyond = expected_of(ensemble, rgb_of(image, 45))
        close(found.class_log_likelihood, classes)
        close(found.component_log_prob, components)
        close(found.outlier_log_likelihood, beyond)
        assert found.component_peak is None


def test_terms_are_scaled_to_the_spread_of_the_first(ensemble):
    spreads = []
    for member in ensemble.members:
        found = []
        for image in pictures():
            features = features_of(member.backbone, rgb_of(image), member.settings.sizes)
            height, width = features.shape[2:]
            rows, columns = (
                ((np.arange(count) + 0.5) * length / count).astype(int)
                for count, length in zip((height, width), image.shape[:2], strict=True)
            )
            labels = labels_of(image).numpy()[rows][:, columns]
            found.append(logsumexp(of_classes(log_prob(member.densities, features))[0], axis=0)[labels >= 0])
        spreads.append(np.concatenate(found).std())
    assert [member.weight for member in ensemble.members] == pytest.approx([1, 0.5 * spreads[0] / spreads[1]], rel=1e-3)


def test_batches_give_what_single_images_give(ensemble):
    inputs = torch.stack([ensemble.prepare(image) for image in NEW])
    both, single = ensemble(inputs), [ensemble(each[None]) for each in inputs]
    for name in ensemble.gives:
        expected = torch.cat([getattr(one, name) for one in single])
        torch.testing.assert_close(getattr(both, name), expected, rtol=1e-5, atol=1e-4)


def test_an_ensemble_of_one_is_that_one_to_the_last_bit(detector, bodies):
    (member,) = detector.members
    inputs = detector.prepare(NEW[0])[None]
    found = detector(inputs)
    fine, coarse = bodies[0](inputs)
    features = torch.cat([fine, nn.functional.interpolate(coarse, fine.shape[2:], mode="bilinear")], 1)
    components = member.densities.of_components(features.permute(0, 2, 3, 1).flatten(0, 2))
    assert torch.equal(found.component_log_prob[0].permute(2, 3, 0, 1).flatten(0, 1), components)
    assert torch.equal(found.class_log_likelihood[0].flatten(1).T, member.densities.of_classes(components))
    assert torch.equal(found.component_peak, member.densities.peak())
    assert found.outlier_log_likelihood is None
    score = anomaly.score(detector, NEW[0], "gmm_nll")
    assert score.shape == NEW[0].shape[:2]
    marginal = anomaly.score(detector, NEW[0], "marginal_nll")
    np.testing.assert_allclose(score, marginal, rtol=1e-4, atol=1e-3)  # one class: the sum of its components


# ---- with a network


def likelihoods(inputs):
    """A tiny generative classifier of three classes with two components, at a quarter of the resolution."""
    features = nn.functional.avg_pool2d(inputs, 4)
    centres = torch.tensor([[[0.2], [0.3]], [[0.5], [0.6]], [[0.8], [0.9]]])[None, :, :, :, None, None]
    components = -10 * (features[:, None, None] - centres).square().sum(3)
    classes = components.logsumexp(2)
    return {
        "logits": 2 * classes,
        "features": features,
        "class_log_likelihood": classes,
        "component_log_prob": components,
        "component_peak": torch.zeros(3, 2),
    }


GENERATIVE = tuple(likelihoods(torch.zeros(1, 3, 8, 8)))


def test_the_likelihood_of_a_network_comes_first_and_a_density_without_labels_counts_for_every_class(bodies):
    network = TorchModel(likelihoods, gives=GENERATIVE, **PLAIN)
    terms = [LIKELIHOOD, FeatureDensity(backbone=bodies[1], sizes=(24,), **FEW)]
    fitted = fit_model(network, images_of(pictures()), terms)
    assert fitted.members[0].weight == 1
    weight = fitted.members[1].weight
    found, own = (model(model.prepare(NEW[0])[None]) for model in (fitted, network))
    density = resized(density_of(fitted.members[1], NEW[0]), own.logits.shape[2:])
    assert density.shape[1] == 1  # one density, for three classes
    close(found.class_log_likelihood, own.class_log_likelihood.numpy() + weight * density)
    close(found.component_log_prob, own.component_log_prob.numpy() + weight * density[:, :, None])
    assert torch.equal(found.logits, own.logits)
    assert fitted.gives == network.gives - {"component_peak"}
    assert found.component_peak is None


def test_logits_are_a_likelihood_up_to_a_constant(bodies):
    """Their marginal is the energy score, and with a density it is the sum of both in the exponent."""
    network = TorchModel(coarse_features, gives=("logits", "features"), **PLAIN)
    logits = FeatureDensity.of_network(of="logits")
    alone = fit_model(network, images_of(pictures()), [logits])
    marginal, energy = (anomaly.score(alone, NEW[0], name) for name in ("marginal_nll", "energy"))
    np.testing.assert_allclose(marginal, energy + np.log(3), rtol=1e-5, atol=1e-5)

    both = fit_model(network, labelled(pictures()), [logits, FeatureDensity(backbone=bodies[1], sizes=(24,), **FEW)])
    found = both(both.prepare(NEW[0])[None])
    weight = both.members[1].weight
    expected = found.logits.numpy() + weight * resized(density_of(both.members[1], NEW[0]), found.logits.shape[2:])
    close(found.class_log_likelihood, expected)
    close(found.component_log_prob, expected[:, :, None])
    assert torch.equal(found.logits, alone(alone.prepare(NEW[0])[None]).logits)


def test_a_network_may_see_the_image_at_a_size_of_its_own(bodies):
    network = TorchModel(coarse_features, gives=("logits", "features"), **PLAIN)
    terms = [
        FeatureDensity.of_network(of="logits", sizes=(24,)),
        FeatureDensity(backbone=bodies[1], sizes=(24,), **FEW),
    ]
    fitted = fit_model(network, images_of(pictures()), terms)
    found = fitted(fitted.prepare(NEW[0])[None])
    small = nn.functional.interpolate(network.prepare(NEW[0])[None], (24, 31), mode="bilinear", antialias=True)
    torch.testing.assert_close(found.logits, coarse_features(small)["logits"])
    assert found.class_log_likelihood.shape == found.logits.shape
    assert anomaly.score(fitted, NEW[0], "marginal_nll").shape == NEW[0].shape[:2]
    twice = [FeatureDensity.of_network(of=of, sizes=(size,)) for of, size in (("logits", 24), ("features", 32))]
    with pytest.raises(
        InputError, match="sizes: expected one size at which the network sees an image, found 24 and 32"
    ):
        fit_model(network, images_of(pictures()), twice)


@pytest.mark.parametrize("gives", [("logits", "class_log_likelihood"), ("logits", "features", "class_log_likelihood")])
def test_a_network_gives_no_components_that_it_does_not_have(bodies, gives):
    network = TorchModel(lambda x: {name: likelihoods(x)[name] for name in gives}, gives=gives, **PLAIN)
    terms = [LIKELIHOOD, FeatureDensity(backbone=bodies[1], sizes=(24,), **FEW)]
    fitted = fit_model(network, images_of(pictures()), terms)
    assert fitted.gives == set(gives)
    found = fitted(fitted.prepare(NEW[0])[None])
    assert {name for name in GENERATIVE if getattr(found, name) is not None} == set(gives)


def coarse_features(inputs):
    """Logits at half the resolution, features at a quarter."""
    return {"logits": nn.functional.avg_pool2d(inputs, 2) * 3, "features": nn.functional.avg_pool2d(inputs, 4) - 0.2}


def test_features_of_a_network_are_unit_vectors_and_may_be_coarser_than_its_logits():
    network = TorchModel(coarse_features, gives=("logits", "features"), **PLAIN)
    fitted = fit_model(network, labelled(pictures()), [FeatureDensity.of_network(**FEW)])
    assert fitted.gives >= {"logits", "features", "class_log_likelihood", "component_log_prob", "component_peak"}
    inputs = fitted.prepare(NEW[0])[None]
    found = fitted(inputs)
    features = coarse_features(inputs)["features"].double().numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    components = log_prob(fitted.members[0].densities, features)
    close(found.component_log_prob, resized(components, found.logits.shape[2:]))
    close(found.class_log_likelihood, resized(of_classes(components), found.logits.shape[2:]))


def test_a_mask_classifier_fits_densities_to_its_features():
    def masks(inputs):
        few = nn.functional.avg_pool2d(inputs, 4)
        prob = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]).expand(len(inputs), 3, 3)
        return {"query_class_prob": prob, "mask_logits": 4 * few - 2, "features": few}

    network = TorchModel(masks, gives=("query_class_prob", "mask_logits", "features"), **PLAIN)
    fitted = fit_model(network, labelled(pictures(), 2), [FeatureDensity.of_network(**FEW)], scores=None)
    assert fitted.statistics is None
    found = fitted(fitted.prepare(NEW[0])[None])
    features = masks(fitted.prepare(NEW[0])[None])["features"].double().numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    close(found.class_log_likelihood, of_classes(log_prob(fitted.members[0].densities, features)))
    assert np.isfinite(anomaly.score(fitted, NEW[0], "gmm_nll")).all()


class Padding:
    """Pads its input to multiples of 16 on the right and below, as networks of mmsegmentation do."""

    gives, classes = frozenset({"logits"}), ()

    def prepare(self, image):
        return torch.from_numpy(image).permute(2, 0, 1).float() / 255

    def __call__(self, inputs):
        height, width = inputs.shape[2:]
        padded = nn.functional.pad(inputs, (0, -width % 16, 0, -height % 16))
        return Prediction(nn.functional.avg_pool2d(padded, 4), covers=tuple(padded.shape[2:]))


def test_densities_cover_what_a_padded_network_covers(bodies):
    density = FeatureDensity(backbone=bodies[0], sizes=(40,), **FEW)
    fitted = fit_model(Padding(), images_of(pictures()), [density])
    found = fitted(fitted.prepare(NEW[0])[None])
    padded = np.pad(NEW[0], ((0, 1), (0, 3), (0, 0)), mode="edge")
    assert found.covers == padded.shape[:2] == (48, 64)
    classes, components, _ = expected_of(fitted, rgb_of(padded), found.logits.shape[2:])
    close(found.class_log_likelihood, classes)
    close(found.component_log_prob, components)


def test_a_network_at_a_size_of_its_own_may_pad(bodies):
    """47 x 61 pixels become 24 x 31, padded to 32 x 32: in pixels of the image, the maps cover 63 x 63 of them."""
    terms = [
        FeatureDensity.of_network(of="logits", sizes=(24,)),
        FeatureDensity(backbone=bodies[0], sizes=(40,), **FEW),
    ]
    fitted = fit_model(Padding(), images_of(pictures()), terms)
    found = fitted(fitted.prepare(NEW[0])[None])
    assert NEW[0].shape[:2] == (47, 61)
    assert found.covers == (round(32 * 47 / 24), round(32 * 61 / 31)) == (63, 63)
    padded = np.pad(NEW[0], ((0, 16), (0, 2), (0, 0)), mode="edge")
    density = resized(density_of(fitted.members[1], padded), found.logits.shape[2:])
    close(found.class_log_likelihood, found.logits.numpy() + fitted.members[1].weight * density)


def test_what_is_fitted_does_not_depend_on_what_is_fitted_beside(bodies):
    densities = [FeatureDensity(backbone=body, sizes=(40,), **FEW) for body in bodies[:2]]
    together = fit_model(None, images_of(pictures()), densities).members
    for density, member in zip(densities, together, strict=True):
        (alone,) = fit_model(None, images_of(pictures()), [density]).members
        state, expected = member.densities.state_dict(), alone.densities.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in state)


@pytest.mark.parametrize("side", [20, 40, 100])
def test_the_image_beside_the_input_of_a_network_follows_its_views(side):
    inputs, rgb = torch.rand(3, 24, 36), rgb_of(pictures(1, (60, 90))[0])
    fine = -(-side // 24)
    image = nn.functional.interpolate(rgb, (24 * fine, 36 * fine), mode="bilinear", antialias=True)
    both = with_image(inputs, rgb, side)[None]
    assert torch.equal(both[0, :3], inputs)
    torch.testing.assert_close(image_of(both), image)
    torch.testing.assert_close(image_of(both.flip(-1)), image.flip(-1))
    mixed = torch.cat([both, both.flip(-1)])
    torch.testing.assert_close(image_of(mixed), torch.cat([image, image.flip(-1)]))
    window = both[:, :, 3:9, 5:17]
    torch.testing.assert_close(image_of(window), image[:, :, 3 * fine : 9 * fine, 5 * fine : 17 * fine])


@pytest.mark.parametrize("alone", [True, False])
def test_views_are_predicted_as_images_of_their_own(bodies, alone):
    """A window as the crop, and a mirrored view as the mirrored image: with a network, whose own input is the image."""
    density = FeatureDensity(backbone=bodies[0], sizes=(20,), **FEW)
    network = None if alone else TorchModel(lambda x: nn.functional.avg_pool2d(x, 2), **PLAIN)
    model = fit_model(network, images_of(pictures()), [density])
    image = pictures(1, (20, 44), seed=8)[0]  # its short side is that of the backbone: nothing is resized
    views = predict_image(model, image, Inference(window=(20, 24), stride=(20, 20), flip=True, batch=3)).views
    assert len(views) == 4
    for one in views:
        shown = image[one.view.rows, one.view.columns]
        shown = np.ascontiguousarray(shown[:, ::-1]) if one.view.flipped else shown
        expected = predict_image(model, shown).views[0].prediction
        for name in ("class_log_likelihood", "component_log_prob"):
            torch.testing.assert_close(getattr(one.prediction, name), getattr(expected, name), rtol=1e-4, atol=1e-3)


def test_the_precision_is_that_of_the_backbone_alone(detector, bodies):
    inputs = detector.prepare(NEW[0])[None]
    found = predict_inputs(detector, inputs, Inference(precision="bfloat16")).views[0].prediction
    with torch.autocast("cpu", torch.bfloat16):
        fine, coarse = (each.double().numpy() for each in bodies[0](inputs))
    features = np.concatenate([fine, resized(coarse, fine.shape[2:])], 1)
    components = log_prob(detector.members[0].densities, features)
    assert found.class_log_likelihood.dtype == torch.float32
    close(found.class_log_likelihood, of_classes(components))
    full = detector(inputs).class_log_likelihood
    assert not torch.equal(found.class_log_likelihood, full)


# ---- what is fitted


def states(model):
    return [member.densities.state_dict() for member in model.members]


def same(one, other):
    return all(
        torch.equal(value, again[name]) for mine, again in zip(one, other, strict=True) for name, value in mine.items()
    )


def test_without_labels_is_one_class_of_all_pixels(detector, bodies):
    """The same pixels, the same random numbers."""
    density = FeatureDensity(backbone=bodies[0], sizes=(32,), **FEW)
    zeros = TrainingImages(pictures(), lambda x: (x, torch.zeros(x.shape[:2], dtype=torch.long)), labelled=True)
    one = fit_model(None, zeros, [density])
    assert same(states(one), states(detector))
    assert one.fit_record["labels"] is True
    assert detector.fit_record["labels"] is False


def test_a_seed_decides_all(bodies):
    density = FeatureDensity(backbone=bodies[0], sizes=(32,), components=2, pixels=40)
    first, again, other = (fit_model(None, images_of(pictures()), [density], seed=seed) for seed in (4, 4, 5))
    assert same(states(first), states(again))
    assert not same(states(first), states(other))


def test_images_are_drawn(bodies):
    density = FeatureDensity(backbone=bodies[1], sizes=(32,), components=1, pixels=40)
    images = pictures(5)
    names = {anomaly.frames.image_hash(image) for image in images}
    found = [fit_model(None, images_of(images), [density], limit=2, seed=seed) for seed in range(8)]
    assert all(len(one.fitted_images) == one.fit_record["images"] == 2 for one in found)
    assert set().union(*(one.fitted_images for one in found)) == names


def test_weights_are_relative_to_the_first_density(bodies):
    def weights(*given):
        densities = [FeatureDensity(backbone=bodies[1], sizes=(24,), bank=3, weight=one) for one in given]
        return [member.weight for member in fit_model(None, images_of(pictures(1)), densities).members]

    assert weights(1, 1, 0.5) == [1, 1, 0.5]
    assert weights(2, 1, 1) == [1, 0.5, 0.5]
    with pytest.raises(InputError, match="weight: expected a number above 0, found 0"):
        FeatureDensity(weight=0)


def test_what_a_network_adds():
    generative, plain, scores = (
        TorchModel(likelihoods, gives=gives, **PLAIN) for gives in (GENERATIVE, GENERATIVE[:2], ("logits",))
    )
    backbone = FeatureDensity()

    def terms(network, backbones, own=None):
        return [one.of for one in choose_densities(network, backbones, own)]

    assert terms(None, []) == ["backbone"]
    assert terms(generative, []) == terms(scores, []) == []
    assert terms(plain, []) == ["features"]
    assert terms(generative, [backbone]) == ["likelihood", "backbone"]
    assert terms(plain, [backbone]) == terms(scores, [backbone]) == ["logits", "backbone"]
    assert terms(plain, [backbone], "none") == ["backbone"]
    assert terms(plain, [backbone, backbone], "features:components=3") == ["features", "backbone", "backbone"]
    for network, own, message in (
        (None, "logits", "own: expected a network that gives logits, found none"),
        (plain, "loss", "own: expected features, logits, likelihood or none, found 'loss'"),
    ):
        with pytest.raises(InputError, match=message):
            choose_densities(network, [], own)


def test_densities_of_one_backbone_share_it_but_not_with_another_normalisation():
    network = body(0).network
    how = {"backbone": network, "std": (0.2,) * 3, "sizes": (24,), "bank": 3, "stages": (-1,)}
    densities = [FeatureDensity(**how, mean=(mean,) * 3) for mean in (0.4, 0.4, 0.5)]
    members = fit_model(None, images_of(pictures(1)), densities).members
    assert members[0].backbone is members[1].backbone
    assert [member.backbone.record["mean"][0] for member in members] == [0.4, 0.4, 0.5]


def test_fields_of_all_kinds_of_models():
    own, bank = FeatureDensity(), FeatureDensity(bank=3)
    logits, features = FeatureDensity.of_network(of="logits"), FeatureDensity.of_network()
    both, likelihood = {"class_log_likelihood", "component_log_prob"}, {"class_log_likelihood"}
    none = frozenset()
    assert fields_given(none, [own], False) == both | {"component_peak"}
    assert fields_given(none, [bank], True) == both | {"outlier_log_likelihood"}
    assert fields_given(none, [own, bank], False) == both
    assert fields_given(frozenset({"logits", "features"}), [features], False) >= both | {"component_peak", "logits"}
    assert fields_given(frozenset({"logits"}), [logits], False) == both | {"logits"}
    assert fields_given(frozenset(likelihood), [LIKELIHOOD, own], False) == likelihood
    assert fields_given(frozenset(likelihood), [own], False) == both | {"component_peak"}
    assert fields_given(frozenset(likelihood), [], False) == likelihood


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"components": -1}, "components: expected a whole number of 0 or more, found -1"),
        ({"components": 2.5}, "components: expected a whole number of 0 or more, found 2.5"),
        ({"neighbours": 0}, "neighbours: expected a whole number of 1 or more, found 0"),
        ({"pixels": 0}, "pixels: expected a whole number of 1 or more, found 0"),
        ({"shrinkage": -0.1}, "shrinkage: expected a number of 0 or more, found -0.1"),
        ({"weight": float("nan")}, "weight: expected a number, found nan"),
        ({"sizes": ()}, "sizes: expected at least one short side for a backbone, found none"),
        ({"sizes": (0,)}, "sizes: expected whole numbers of 1 or more, found 0"),
        ({"sizes": (100_000,)}, "sizes: expected at most 4096 pixels, found 100000"),
        ({"stages": (0.5,)}, "stages: expected whole numbers, found 0.5"),
        ({"covariance": "round"}, "covariance: expected one of .*diagonal.*, found 'round'"),
        ({"rank": 3, "whiten": False}, "rank: expected 0 without whitening, found 3"),
        ({"neighbours": 2}, "neighbours: expected a bank too, found 2 without one"),
        (
            {"backbone": None, "of": "logits", "stages": (), "sizes": (), "components": 3},
            "components: expected it for a density that is fitted, found it for logits",
        ),
        ({"whiten": 1}, "whiten: expected True or False, found 1"),
        ({"backbone": None}, "of: expected features, logits or likelihood, found backbone"),
        ({"of": "logits"}, "of: expected backbone, found logits"),
        ({"backbone": None, "of": "all"}, "of: expected one of backbone, features, logits, likelihood, found 'all'"),
        ({"backbone": None, "of": "logits"}, "stages: expected none for what the network gives"),
        ({"backbone": None, "of": "logits", "stages": (), "sizes": (3, 4)}, "sizes: expected at most one for what the"),
    ],
)
def test_settings_out_of_range_are_refused(how, message):
    with pytest.raises(InputError, match=message):
        FeatureDensity(**how)


def test_settings_in_words():
    found = parse_density("net.py:Body:sizes=360+720:stages=-2+-1:whiten=no:weight=0.5")
    assert (found.backbone, found.sizes, found.stages) == ("net.py:Body", (360, 720), (-2, -1))
    assert (found.whiten, found.weight) == (False, 0.5)
    assert parse_density("efficientnet-lite0") == FeatureDensity()
    assert parse_density("features:components=3") == FeatureDensity.of_network(components=3)
    assert parse_density("logits:sizes=192") == FeatureDensity.of_network(of="logits", sizes=(192,))
    for text, message in {
        "efficientnet-lite0:foo=1": "unknown parameter 'foo': it has stages, sizes, components",
        "efficientnet-lite0:sizes=big": "expected whole numbers joined by \\+ for sizes, found 'big'",
        "efficientnet-lite0:sizes=8:sizes=9": "each key once",
        "features:sizes=36+72": "sizes: expected at most one for what the network gives",
    }.items():
        with pytest.raises(InputError, match=message):
            parse_density(text)


def test_what_does_not_belong_together_is_refused(detector, ensemble):
    (member,) = detector.members
    for network, members, message in (
        (None, [], "expected a network or densities, found neither"),
        (None, [Member(member.settings, member.backbone, member.densities, 2.0)], "expected the weight 1 of the first"),
        (detector, [member], "found a detector or a model that is fitted already; use it as it is"),
        (
            Padding(),
            [Member(FeatureDensity.of_network(), None, member.densities)],
            "expected a network that gives feat",
        ),
    ):
        with pytest.raises(InputError, match=message):
            FittedModel(network, members)
    two = fit_model(None, labelled(pictures(), 2), [FeatureDensity(backbone=body(0), sizes=(32,), **FEW)]).members
    with pytest.raises(InputError, match="expected the same number of classes in all, found 2 and 3"):
        FittedModel(None, [*two, ensemble.members[0]])
    with pytest.raises(InputError, match="expected"):
        detector.prepare(np.zeros((8, 8), np.uint8))
