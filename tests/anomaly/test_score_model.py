"""A function that gives a score map per image, as a model: numbers, intervals, components and a report."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import nn

import anomaly
from anomaly.datasets.catalog import load_dataset
from anomaly.datasets.street_scenes import write_street_scenes
from anomaly.errors import InputError
from anomaly.evaluation.score_maps import check_scores
from anomaly.metrics.functional.components import TRACKS
from anomaly.models.functions import ScoreModel
from anomaly.models.tiling import Inference
from anomaly.models.views import predict_image
from anomaly.scores.registry import get_scores, given_score

SIZE = (48, 64)


def redness(image):
    """How much more red than green a pixel is."""
    return image[..., 0].astype(np.float64) - image[..., 1]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_street_scenes(root / "street_scenes", train=0, val=0, open_world=5, size=SIZE)
    return load_dataset("street_scenes", root)


def image_of(seed=0, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def test_the_function_gets_the_image_and_its_map_is_the_score():
    image, given = image_of(), []
    model = ScoreModel(lambda shown: given.append(shown) or redness(shown), name="redness")
    (found,) = predict_image(model, image).scores([given_score("redness")]).values()
    np.testing.assert_array_equal(given[0], image)
    assert given[0].dtype == np.uint8
    np.testing.assert_array_equal(found[0], redness(image))
    assert (model.gives, model.classes, model.record) == (
        {"score"},
        (),
        {"name": "redness", "type": "score function"},
    )


def test_a_small_map_is_resized_to_the_image():
    found = anomaly.score(lambda image: redness(image)[::2, ::2], image_of())
    small = torch.from_numpy(redness(image_of())[::2, ::2])[None, None].float()
    expected = torch.nn.functional.interpolate(small, SIZE, mode="bilinear")[0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "inference", [Inference(window=(24, 32)), Inference(flip=True), Inference(scales=(1.0, 0.5)), Inference(batch=3)]
)
def test_views_are_images_too(inference):
    """A score of each pixel alone is the same, up to the resizing, however the image is shown."""
    shapes = []
    model = ScoreModel(lambda image: shapes.append(image.shape) or redness(image))
    (found,) = predict_image(model, image_of() // 2 + 60, inference).scores([given_score("s")]).values()
    assert len(shapes) == len(list(inference.views(SIZE)))
    if inference.scales == (1.0,):
        np.testing.assert_allclose(found[0], redness(image_of() // 2 + 60), atol=1e-3)
    else:
        assert found.shape == (1, *SIZE)


def test_it_is_measured_with_intervals_and_components_and_has_a_report(dataset, tmp_path):
    config = anomaly.MetricConfig(replicates=20, track=TRACKS["obstacle_track"])
    result = anomaly.evaluate(redness, dataset, metrics=config)
    (entry,) = result.datasets
    score = entry.scores["redness"]
    pixels = [(redness(frame.image)[frame.label < 2], frame.label[frame.label < 2]) for frame in dataset]
    values, labels = (np.concatenate(parts) for parts in zip(*pixels, strict=True))
    assert score.values["ap"] == pytest.approx(average_precision_score(labels, values), abs=1e-9)
    low, high = score.confidence_intervals["ap"]
    assert low < score.values["ap"] < high
    assert {"f1_mean", "siou", "ppv", "threshold"} <= score.components.keys()
    assert result.record.model == {"name": "redness", "type": "score function"}
    page = result.report(tmp_path / "report.html").read_text()
    assert page.count("street_") >= 5


def test_scores_of_classes_are_refused_and_why_is_told(dataset):
    model = ScoreModel(redness)
    with pytest.raises(
        InputError, match=r"'msp' needs .*logits \(a score function gives .*that work with it are redness"
    ):
        check_scores(get_scores(["msp"]), model)
    with pytest.raises(InputError, match="'energy' needs the network's logits"):
        anomaly.evaluate(model, dataset, "energy")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda image: image, r"score: expected a score map \(h, w\) .*found shape \(48, 64, 3\)"),
        (lambda image: 1.0, r"found shape \(\)"),
        (lambda image: None, "score"),
        (lambda image: np.full(SIZE, "a"), "score"),
        (lambda image: np.full(SIZE, np.nan), "'score'.* NaN"),
    ],
)
def test_what_is_no_score_map_is_refused(dataset, function, message):
    with pytest.raises(InputError, match=message):
        anomaly.evaluate(function, dataset)
    with pytest.raises(InputError, match=message):
        anomaly.score(function, image_of())


def test_maps_of_several_sizes_are_refused():
    sizes = iter([(4, 4), (4, 5)])
    model = ScoreModel(lambda image: np.zeros(next(sizes)), name="odd")
    with pytest.raises(InputError, match=r"odd: expected maps of one size .*\(4, 4\).*\(4, 5\)"):
        model(torch.zeros(2, 3, 8, 8))


def test_what_is_no_function_is_refused():
    with pytest.raises(InputError, match="function: expected a function of an image, found 3"):
        ScoreModel(3)


def test_modules_that_the_function_reaches_are_in_evaluation_mode():
    network = nn.Sequential(nn.Dropout(0.5))

    def score(image):
        assert not network.training
        return network(torch.ones(1, *image.shape[:2]))[0]

    assert (anomaly.score(score, image_of()) == 1).all()
    assert network.training
