"""``anomaly.fit`` and the images it is given: what comes out of one pass, and what is refused."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import anomaly
from anomaly.api import choose_scores
from anomaly.datasets.paste import PasteSettings, paste_objects
from anomaly.errors import InputError
from anomaly.fitting.fit import fit_model
from anomaly.fitting.images import TrainingImages, pasted_into
from anomaly.frames import ANOMALY, KNOWN, image_hash
from anomaly.models.feature_density import FeatureDensity
from anomaly.models.tiling import Inference
from anomaly.models.torch import TorchModel
from anomaly.models.views import predict_image
from anomaly.scores import SCORES
from anomaly.scores.registry import get_scores
from tests.anomaly import set_trees, tiny_backbones
from tests.anomaly.tiny_backbones import body, labels_of, pictures

FEW = {"components": 2, "pixels": 300}
SIZE = (48, 64)


def density(**more):
    return FeatureDensity(**{"backbone": body(0), "sizes": (32,), **FEW, **more})


def write_folders(root, count=4, **more):
    """Ordinary images with label maps of three classes."""
    for i, image in enumerate(pictures(count, SIZE, **more)):
        set_trees.write(root / "images" / f"{i}.png", image)
        set_trees.write(root / "labels" / f"{i}.png", labels_of(image).numpy().astype(np.uint8))
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Ordinary images with labels, objects, and a dataset with these pasted into them."""
    root = write_folders(tmp_path_factory.mktemp("fit"))
    box = np.zeros((30, 20, 4), np.uint8)
    box[3:-3, 3:-3] = (250, 10, 200, 255)
    set_trees.write(root / "objects/box.png", box)
    settings = PasteSettings(height=(0.4, 0.6))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paste_objects(root / "images", root / "labels", root / "objects", root / "pasted", settings, limit=3)
    return root


def network():
    return TorchModel(tiny_backbones.Net(), gives=("logits", "features"), mean=(0.5,) * 3, std=(0.2,) * 3, device="cpu")


# ---- what comes out


def test_folders_and_arrays_give_the_same_detector(folders):
    given = pictures(4, SIZE)
    one, other = anomaly.fit(folders / "images", backbones=density()), anomaly.fit(given, backbones=[density()])
    assert one.fitted_images == other.fitted_images == set(map(image_hash, given))
    for mine, again in zip(one.members[0].densities.buffers(), other.members[0].densities.buffers(), strict=True):
        assert torch.equal(mine, again)
    assert one.classes == ()


def test_labels_make_classes_of_a_detector(folders):
    fitted = anomaly.fit(folders / "images", folders / "labels", backbones=density())
    cells = [labels_of(image)[2::4, 2::4] for image in pictures(4, SIZE)]  # of 48 rows, 32 are shown, in 8 cells
    assert len(fitted.fit_record["pixels"]) == 3
    assert sum(fitted.fit_record["pixels"]) <= sum(each.numel() for each in cells)
    prediction = predict_image(fitted, pictures(1, SIZE, seed=4)[0]).views[0].prediction
    assert prediction.class_log_likelihood.shape[:2] == (1, 3)


def test_a_network_gets_its_features_and_all_its_scores(folders):
    fitted = anomaly.fit(folders / "images", folders / "labels", model=network(), own="features:components=2")
    learned = set(fitted.statistics[0]["scores"])
    assert learned == {name for name, score in SCORES.items() if set(score.needs) <= fitted.gives}
    assert {"typicality", "empirical_nll", "knn", "msp"} <= learned
    image = pictures(1, SIZE, seed=4)[0]
    for name in learned | {"rank_average:of=gmm_nll+energy", "predicted_nll"}:
        assert np.isfinite(anomaly.score(fitted, image, name)).all(), name


def test_statistics_of_densities_are_those_of_the_pixels(folders):
    """The median and the 5 % tail of the likelihoods of all training pixels, as typicality has them."""
    scores = ["typicality"]
    fitted = anomaly.fit(
        folders / "images", folders / "labels", model=network(), backbones=density(), own="none", scores=scores
    )
    likelihood = []
    for image in pictures(4, SIZE):
        found = predict_image(fitted, image).views[0].prediction
        cells = labels_of(image)[2::4, 2::4]
        assert found.logits.shape[2:] == cells.shape
        features = fitted.look(fitted.prepare(image)[None]).members[0]
        at_logits = nn.functional.interpolate(features, cells.shape, mode="bilinear")
        rows = at_logits[0].flatten(1).T[(cells >= 0).flatten()]
        likelihood.append(fitted.members[0].densities(rows))
    best, winner = torch.cat(likelihood).max(1)
    header, tensors = fitted.statistics
    quantiles = dict(zip(header["tensors"], tensors, strict=True))["typicality/quantiles"]
    for k in winner.unique().tolist():
        own = best[winner == k]
        if len(own) > 50:
            np.testing.assert_allclose(quantiles[k], np.quantile(own, (0.05, 0.5, 0.95)), atol=2)


def test_without_labels_a_network_learns_no_score_and_keeps_its_classes(folders):
    fitted = anomaly.fit(folders / "images", model=network(), backbones=density(), own="none")
    assert fitted.statistics is None
    image = pictures(1, SIZE, seed=4)[0]
    np.testing.assert_allclose(
        anomaly.score(fitted, image, "gmm_nll"), anomaly.score(fitted, image, "predicted_nll"), rtol=1e-5
    )  # one density counts for every class
    with pytest.raises(InputError, match="scores: expected labelled images and a network with logits, found none"):
        anomaly.fit(folders / "images", model=network(), scores="knn")


def test_logits_and_a_backbone_are_the_usual_terms(folders):
    """Also of a network whose classes have no names; scores learn from the sum of both."""
    how = {"model": network(), "backbones": density()}
    fitted = anomaly.fit(folders / "images", folders / "labels", **how, scores=["typicality", "knn"])
    assert [member.settings.of for member in fitted.members] == ["logits", "backbone"]
    image = pictures(1, SIZE, seed=4)[0]
    for name in ("typicality", "knn", "marginal_nll", "energy"):
        assert np.isfinite(anomaly.score(fitted, image, name)).all()
    chosen = [score.name for score in choose_scores(fitted, "all")]
    assert {name for name in chosen if SCORES[name].fitted} == {"typicality", "knn"}  # what was learned
    assert {"likelihood_margin", "marginal_nll", "msp"} <= set(chosen)


def test_all_scores_of_a_single_density_are_those_that_compare_no_classes(folders):
    fitted = anomaly.fit(folders / "images", backbones=density())
    image = pictures(1, SIZE, seed=4)[0]
    chosen = choose_scores(fitted, "all")
    assert [score.name for score in chosen] == ["gmm_nll", "marginal_nll", "nearest_component"]
    assert all(np.isfinite(anomaly.score(fitted, image, score)).all() for score in chosen)


def test_windows_are_those_of_the_fit(folders):
    images = TrainingImages(pictures(2, SIZE), lambda image: (image, labels_of(image)), labelled=True, classes=3)
    look = Inference(window=(32, 32), flip=True, scales=(1.0, 2.0))
    fitted = fit_model(network(), images, [FeatureDensity.of_network(**FEW)], scores=None, inference=look)
    assert fitted.fit_record["inference"] == replace(look, flip=False, scales=(1.0,)).record()
    labels = [labels_of(image)[2::4, 2::4] for image in pictures(2, SIZE)]
    tops, lefts = (0, 4), (0, 5, 8)  # in cells: windows of 8, a stride of 21 pixels
    count = sum(int((each[y : y + 8, x : x + 8] >= 0).sum()) for each in labels for y in tops for x in lefts)
    assert abs(sum(fitted.fit_record["pixels"]) - count) < 0.1 * count  # windows do not lie on the cells


@pytest.mark.slow
@pytest.mark.parametrize("name", ["segformer", "mask2former"])
def test_networks_of_hugging_face_get_densities_of_their_features(folders, tmp_path, name):
    pytest.importorskip("transformers")
    from tests.anomaly.tiny_huggingface import write_network

    place = write_network(tmp_path, name)
    how = {"model": place, "own": "features:components=2:pixels=500", "device": "cpu"}
    fitted = anomaly.fit(folders / "images", folders / "labels", **how)
    assert len(fitted.fit_record["pixels"]) == 4  # classes of the network
    assert (fitted.statistics is None) == (name == "mask2former")
    image = pictures(1, SIZE, seed=4)[0]
    score = anomaly.score(fitted, image, "gmm_nll")
    assert score.std() > 0
    fitted.save(tmp_path / "fitted.npz")
    again = anomaly.load_model(place, fitted=tmp_path / "fitted.npz", device="cpu")
    np.testing.assert_array_equal(anomaly.score(again, image, "gmm_nll"), score)


# ---- outliers


def test_outliers_of_pasted_objects(folders):
    fitted = anomaly.fit(
        folders / "images",
        backbones=density(sizes=(48,)),
        outliers=anomaly.load_dataset("pasted_objects", folders / "pasted"),
    )
    assert "outlier_log_likelihood" in fitted.gives
    record = json.loads((folders / "pasted/record.json").read_text())
    sources = {image["source_hash"] for image in record["images"]}
    assert len(sources) == 3
    assert pasted_into(folders / "pasted") == sources
    pasted = anomaly.load_dataset("pasted_objects", folders / "pasted")
    seen = {image_hash(pasted.image(i)) for i in range(3)}
    assert fitted.fitted_images == seen | set(map(image_hash, pictures(4, SIZE)))
    inside, outside = [], []
    for frame in map(pasted.frame, range(3)):
        ratio = predict_image(fitted, frame.image).scores(get_scores(["outlier_ratio"]))["outlier_ratio"][0].numpy()
        inside.append(ratio[frame.label == ANOMALY])
        outside.append(ratio[frame.label == KNOWN])
    assert np.median(np.concatenate(inside)) > 3 > -3 > np.median(np.concatenate(outside))


def test_images_that_objects_were_pasted_into_are_refused(folders, tmp_path):
    """Also if the densities were fitted to others."""
    others = write_folders(tmp_path, seed=6)
    outliers = anomaly.load_dataset("pasted_objects", folders / "pasted")
    fitted = anomaly.fit(others / "images", backbones=density(sizes=(48,)), outliers=outliers)
    sources = {image_hash(image): image for image in pictures(4, SIZE)}
    for name in pasted_into(folders / "pasted"):
        with pytest.raises(
            InputError, match="is one of the 10 images that the model's densities or scores were fitted on"
        ):
            anomaly.score(fitted, sources[name])
    encoding = ["0,1=known", "2=anomaly", "255=ignore"]
    dataset = anomaly.from_folders(folders / "images", folders / "labels", encoding)
    with pytest.raises(InputError, match="is one of the 10 images that the model's densities or scores were fitted on"):
        anomaly.evaluate(fitted, dataset)


def test_a_record_of_pasting_that_cannot_be_read_is_told(tmp_path):
    assert pasted_into(tmp_path) == frozenset()
    (tmp_path / "record.json").write_text('{"generator": "street_scenes", "images": 3}')
    assert pasted_into(tmp_path) == frozenset()
    for text in ("{", "[]", '{"generator": "paste"}', '{"generator": "paste", "images": [{"frame": "a"}]}'):
        (tmp_path / "record.json").write_text(text)
        with pytest.raises(InputError, match=r"record\.json: expected the record of `anomaly data paste`"):
            pasted_into(tmp_path)


def test_outliers_that_are_the_known_data_are_refused(folders):
    images = TrainingImages(pictures(4, SIZE), lambda image: (image, torch.zeros(SIZE, dtype=torch.long)))
    with pytest.raises(
        InputError, match=r"outliers: expected pixels that are not known, found .* equal to pixels of the"
    ):
        fit_model(None, images, [density()], outliers=images)


def test_outliers_without_any_are_refused(folders):
    images = TrainingImages(pictures(2, SIZE), lambda image: (image, torch.zeros(SIZE, dtype=torch.long)))
    none = TrainingImages(pictures(2, SIZE, 3), lambda image: (image, torch.full(SIZE, -1)))
    with pytest.raises(InputError, match="outliers: expected anomalous pixels in the images, found none"):
        fit_model(None, images, [density()], outliers=none)
    for terms in ([], [FeatureDensity.of_network(of="logits")]):
        with pytest.raises(
            InputError, match="outliers: expected a fitted density to go with that of outliers, found no"
        ):
            fit_model(network(), replace(images, labelled=True), terms, scores=None, outliers=none)


# ---- bad input


def test_few_images_and_pixels(folders):
    with pytest.raises(InputError, match="expected images to fit to, found none"):
        anomaly.fit([], backbones=density())
    one = anomaly.fit(pictures(1), backbones=density())
    assert one.fit_record["images"] == 1
    with pytest.warns(UserWarning, match="a density of 10 dimensions is fitted to 8 pixels, so that shrinkage decides"):
        few = anomaly.fit(pictures(1), backbones=density(pixels=8))
    assert np.isfinite(anomaly.score(few, pictures(1, seed=3)[0])).all()
    with pytest.raises(InputError, match="expected different images, found 3 copies of one"):
        anomaly.fit(pictures(1) * 3, backbones=density())
    with pytest.warns(UserWarning, match="1 of the 4 images are copies of others, and count as often"):
        anomaly.fit([*pictures(3), pictures(1)[0]], backbones=density())
    grey = np.full((40, 40, 3), 90, np.uint8)
    with pytest.raises(InputError, match=r"expected pixels that differ in their features, found .* that are all equal"):
        anomaly.fit([grey], backbones=density())


def test_a_class_without_pixels_is_never_the_likeliest(folders):
    images = TrainingImages(pictures(), lambda image: (image, labels_of(image)), labelled=True, classes=5)
    fitted = fit_model(None, images, [density()])
    assert [bool(count) for count in fitted.fit_record["pixels"]] == [True] * 3 + [False] * 2
    found = predict_image(fitted, pictures(1, seed=8)[0]).views[0].prediction
    assert (found.class_log_likelihood[:, 3:] == -1e9).all()
    assert found.component_log_prob[:, 3:].isneginf().all()
    none = TrainingImages(pictures(), lambda image: (image, torch.full(image.shape[:2], -1)), labelled=True, classes=2)
    with pytest.raises(InputError, match="densities: expected features of at least one pixel, found none"):
        fit_model(None, none, [density()])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limit": 0}, "limit: expected 1 or more, found 0"),
        ({"pixels": 0}, "pixels: expected 1 or more, found 0"),
        ({"seed": 0.5}, "seed: expected a whole number, found 0.5"),
        ({"backbones": "efficientnet-lite0:foo=1"}, "unknown parameter 'foo'"),
        ({"backbones": "nothing.py"}, "backbone: expected efficientnet-lite0"),
        ({"own": "features"}, "own: expected a network that gives features, found none"),
        ({"labels": "labels"}, "labels: expected a folder of images too, found none"),
        ({"images": None}, "images: expected a folder or images, because only a config of mmsegmentation names"),
        ({"images": np.zeros((9, 9, 3), np.uint8)}, "expected"),
        ({"images": "nowhere"}, "nowhere"),
        ({"scores": "knn"}, "scores: expected labelled images and a network with logits, found none"),
        ({"scores": "nosuch"}, "unknown score 'nosuch'"),
    ],
)
def test_what_makes_no_sense_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        anomaly.fit(**{"images": pictures(), "backbones": density(), **given})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"stages": (5,)}, "stages: expected numbers of maps in increasing order, of 0 .4 channels, stride 4., 1 .6"),
        ({"stages": (1, 0)}, "stages: expected numbers of maps in increasing order"),
        ({"rank": 99, "covariance_rank": 3}, "covariance_rank: expected None for a covariance of kind diagonal"),
        ({"covariance": "low_rank"}, "covariance_rank: expected a number of factors between 1 and 9"),
        ({"bank": 3, "neighbours": 4}, "neighbours: expected a number between 1 and the 3 features of a bank, found 4"),
    ],
)
def test_densities_that_cannot_be_are_refused_at_the_first_image(how, message):
    seen = []

    def read(image):
        seen.append(image)
        return image, torch.zeros(image.shape[:2], dtype=torch.long)

    one = density(**{"backbone": body(0).network, "mean": (0.5,) * 3, "std": (0.5,) * 3, "stages": (0, 1), **how})
    with pytest.raises(InputError, match=message):
        fit_model(None, TrainingImages(pictures(12), read), [one], device="cpu")
    assert len(seen) < 12


def test_nothing_to_fit_is_told():
    logits = TorchModel(lambda x: x, mean=(0,) * 3, std=(1,) * 3)
    with pytest.raises(InputError, match="expected densities or scores to fit, found neither"):
        anomaly.fit(pictures(), model=logits)
    with pytest.raises(InputError, match="own: expected features, logits, likelihood or none, found 'loss'"):
        anomaly.fit(pictures(), model=logits, own="loss")
    images = TrainingImages(pictures(), lambda image: (image, labels_of(image)), labelled=True, classes=3)
    with pytest.raises(InputError, match="score 'knn' needs the network's features, but this network gives only"):
        fit_model(logits, images, [], scores=get_scores(["knn"]))


def test_damaged_networks_are_told():
    class Broken(tiny_backbones.Net):
        def forward(self, inputs):
            return {name: maps / 0 * 0 for name, maps in super().forward(inputs).items()}

    broken = TorchModel(Broken(), gives=("logits", "features"), mean=(0,) * 3, std=(1,) * 3, device="cpu")
    images = TrainingImages(pictures(), lambda image: (image, labels_of(image)), labelled=True, classes=3)
    with pytest.raises(InputError, match="expected finite features, found NaN or infinity"):
        fit_model(broken, images, [FeatureDensity.of_network(**FEW)])
    with pytest.raises(InputError, match="logits: expected finite values, found NaN or infinity"):
        fit_model(broken, images, [], scores=get_scores(["msp"]))


def test_labels_that_do_not_belong_to_the_images_are_told(tmp_path):
    write_folders(tmp_path)
    fit = {"images": tmp_path / "images", "labels": tmp_path / "labels", "backbones": density()}
    set_trees.write(tmp_path / "labels/1.png", np.full(SIZE, 9, np.uint8))
    assert len(anomaly.fit(**fit).fit_record["pixels"]) == 10
    with pytest.raises(InputError, match="labels: expected the classes 0 to 2 of the network, found 9"):
        anomaly.fit(**fit, model=network())
    set_trees.write(tmp_path / "labels/1.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(InputError, match=r"1\.png: expected the size of .*, 64x48, found 9x9"):
        anomaly.fit(**fit)
    (tmp_path / "labels/1.png").unlink()
    with pytest.raises(InputError, match="1"):
        anomaly.fit(**fit)
    for path in (tmp_path / "labels").iterdir():
        set_trees.write(path, np.full(SIZE, 255, np.uint8))
    set_trees.write(tmp_path / "labels/1.png", np.full(SIZE, 255, np.uint8))
    with pytest.raises(InputError, match="expected class indices, found only 255"):
        anomaly.fit(**fit)


def test_an_image_it_was_fitted_to_is_refused(folders):
    fitted = anomaly.fit(folders / "images", backbones=density())
    with pytest.raises(
        InputError, match="frame 'image' is one of the 4 images that the model's densities or scores were fitted"
    ):
        anomaly.score(fitted, pictures(4, SIZE)[2])
    changed = pictures(4, SIZE)[2]
    changed[0, 0, 0] ^= 1
    assert anomaly.score(fitted, changed).shape == SIZE


def test_other_windows_than_those_of_the_fit_are_told(folders):
    fitted = anomaly.fit(folders / "images", backbones=density())
    image = pictures(1, SIZE, seed=7)[0]
    with pytest.warns(UserWarning, match=r"what they need was fitted with window the whole \(here 16x16\)"):
        anomaly.score(fitted, image, inference=Inference(window=(16, 16)))


def test_a_backbone_is_one_argument_and_a_detector_has_the_name_of_its_file(tmp_path):
    backbone = FeatureDensity(backbone=body(), sizes=(36,), components=1)
    alone, listed = (anomaly.fit(pictures(), backbones=given) for given in (backbone, [backbone]))
    for each in (alone, listed):
        each.save(tmp_path / "mine.npz")
    assert alone.record["name"] == "detector"
    found = anomaly.load_model(tmp_path / "mine.npz", backbones=body())
    assert found.record["name"] == "mine"
    again = anomaly.load_model(tmp_path / "mine.npz", backbones=backbone)  # what the fit was given
    assert again.record["fitted"] == found.record["fitted"]
    assert FeatureDensity(sizes=36).sizes == (36,)
    image = pictures(1, seed=5)[0]
    np.testing.assert_array_equal(*(anomaly.score(each, image, "gmm_nll") for each in (alone, found)))
    with pytest.raises(InputError, match="expected a network, or none, found a detector or a model that is fitted"):
        anomaly.fit(pictures(), model=found)


def test_images_that_are_read_only_cause_no_warning(recwarn):
    detector = anomaly.fit(pictures(), backbones=FeatureDensity(backbone=body(), sizes=(36,), components=1))
    image = pictures(1, seed=5)[0]
    image.flags.writeable = False
    anomaly.score(detector, image, "gmm_nll")
    assert not [one for one in recwarn if "writable" in str(one.message)]
