"""What an evaluation tells its callbacks: when, of which frames, and with what."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anomaly.errors import InputError
from anomaly.evaluation.callbacks import Callback, ProgressCallback, ScoreMapCallback, first_frames
from anomaly.evaluation.evaluator import evaluate
from anomaly.evaluation.score_maps import predicted_classes, top_classes
from anomaly.metrics import PixelMetrics
from anomaly.models.views import predict_image
from anomaly.postprocessing.table import parse_chain
from anomaly.results.score_store import ScoreWriter
from anomaly.scores.registry import get_scores, given_score
from tests.anomaly.test_evaluator import HEIGHT, WIDTH, ColourModel, make_dataset

MSP = get_scores(["msp"])


class Told(Callback):
    """Remembers everything."""

    def __init__(self, needs_curves=False, classes_of=()):
        self.needs_curves = needs_curves
        self.events, self.frames, self.ends, self.started = [], [], {}, None
        self.classes_of = classes_of

    def wants_classes(self, dataset, frame_id):
        return (dataset, frame_id) in self.classes_of

    def on_start(self, datasets, scores):
        self.events.append("start")
        self.started = ([dataset.name for dataset in datasets], list(scores))

    def on_frame(self, result):
        self.events.append(f"{result.dataset} {result.frame.id}")
        self.frames.append(result)

    def on_dataset_end(self, end):
        self.events.append(f"end of {end.result.dataset}")
        self.ends[end.result.dataset] = end

    def on_end(self):
        self.events.append("end")


@pytest.fixture
def datasets(tmp_path):
    return [make_dataset(tmp_path, frames=6), make_dataset(tmp_path, "street_scenes", frames=5)]


def logits_of(frame):
    """The network's logits at the image's size, resized by torch."""
    model = ColourModel()
    logits = model(model.prepare(frame.image)[None]).logits
    return F.interpolate(logits, (HEIGHT, WIDTH), mode="bilinear")[0]


def test_order(datasets):
    """Four evenly spaced frames of every dataset come first; a dataset ends after its last frame."""
    told = Told()
    evaluate(ColourModel(), datasets, get_scores(["msp", "energy"]), callbacks=[told])
    assert told.started == (["road_anomaly", "street_scenes"], ["msp", "energy"])
    assert told.events == [
        "start",
        *(f"road_anomaly f{i}" for i in (0, 2, 3, 5)),
        *(f"street_scenes f{i}" for i in (0, 1, 3, 4)),
        *(f"road_anomaly f{i}" for i in (1, 4)),
        "end of road_anomaly",
        "street_scenes f2",
        "end of street_scenes",
        "end",
    ]


@pytest.mark.parametrize(
    ("count", "places"), [(1, [0]), (2, [0, 1]), (4, [0, 1, 2, 3]), (5, [0, 1, 3, 4]), (100, [0, 33, 66, 99])]
)
def test_first_frames_are_evenly_spaced(count, places):
    assert first_frames(count) == places


def test_callbacks_are_told_one_after_the_other(datasets):
    order = []
    callbacks = [ProgressCallback(lambda name: order.append(1)), ProgressCallback(lambda name: order.append(2))]
    evaluate(ColourModel(), datasets[:1], MSP, callbacks=callbacks)
    assert order == [1, 2] * 6


def test_scores_of_a_frame_before_and_after_post_processing(datasets):
    told = Told()
    (entry,) = evaluate(
        ColourModel(),
        datasets[:1],
        MSP,
        post=[parse_chain("none"), parse_chain("smooth:sigma=2")],
        callbacks=[told],
    )
    assert told.started[1] == list(entry.scores) == ["msp", "msp+smooth:sigma=2"]
    metrics = {name: PixelMetrics() for name in entry.scores}
    for result in told.frames:
        assert list(result.raw) == ["msp"]
        np.testing.assert_array_equal(result.scores["msp"], result.raw["msp"])
        assert result.scores["msp+smooth:sigma=2"].std() < result.raw["msp"].std()
        for name, score in result.scores.items():
            metrics[name].update(result.frame.id, score, result.frame.label)
    for name, score in entry.scores.items():
        assert metrics[name].compute().values == pytest.approx(score.values)


def test_classes_are_there_where_somebody_wants_them(datasets):
    wanted = [("road_anomaly", "f0"), ("street_scenes", "f3")]
    told = Told(classes_of=wanted)
    evaluate(ColourModel(), datasets, MSP, callbacks=[told, Told()])
    for result in told.frames:
        if (result.dataset, result.frame.id) in wanted:
            np.testing.assert_array_equal(result.classes, logits_of(result.frame).argmax(0))
        else:
            assert result.classes is None


def test_one_density_of_all_pixels_ranks_no_classes():
    class OneDensity(ColourModel):
        def __call__(self, inputs):
            found = super().__call__(inputs)
            return replace(found, class_log_likelihood=found.class_log_likelihood[:, :1])

    image = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    found = predict_image(OneDensity(("logits", "class_log_likelihood")), image)
    top = top_classes(found, (24, 32), np.array([0, 7]), np.array([1, 31]))
    assert top.kind == "log_softmax"
    assert np.array_equal(top.classes[0], predicted_classes(found, (24, 32))[[0, 7]][:, [1, 31]])


@pytest.mark.parametrize("gives", [("logits",), ("logits", "class_log_likelihood")], ids=len)
def test_most_likely_classes_of_some_pixels(datasets, gives):
    rows, columns = np.array([0, 7, 23]), np.array([1, 31])
    found = []

    class Asking(Callback):
        def on_frame(self, result):
            found.append((result.frame, result.top_classes(rows, columns)))

    evaluate(ColourModel(gives), datasets[:1], MSP, callbacks=[Asking()])
    assert len(found) == 6
    for frame, top in found:
        maps = logits_of(frame)[:, rows][:, :, columns]
        maps = maps.log_softmax(0) if len(gives) == 1 else 2 * maps
        values, order = maps.sort(dim=0, descending=True)
        assert top.kind == ("log_softmax" if len(gives) == 1 else "class_log_likelihood")
        np.testing.assert_array_equal(top.classes, order)  # all four, of the five asked for
        np.testing.assert_allclose(top.values, values, rtol=1e-4, atol=1e-5)


def test_end_of_a_dataset(datasets):
    model, told = ColourModel(), Told(needs_curves=True)
    model.classes = ("a", "b", "c", "d")
    entries = evaluate(model, datasets, get_scores(["msp", "energy"]), callbacks=[Told(), told])
    assert [told.ends[entry.dataset].result for entry in entries] == entries
    for end in told.ends.values():
        assert end.classes == model.classes
        assert list(end.curves) == list(end.tables) == ["msp", "energy"]
        assert list(end.tables["msp"].frames) == sorted(end.result.scores["msp"].per_frame)
        assert end.curves["msp"].level_tpr[0] <= 1


def test_curves_are_measured_for_those_who_need_them_alone(datasets):
    told = Told()
    evaluate(ColourModel(), datasets[:1], MSP, callbacks=[told])
    assert told.ends["road_anomaly"].curves == told.ends["road_anomaly"].tables == {}


def test_numbers_are_the_same_whoever_listens(datasets):
    alone = evaluate(ColourModel(), datasets, MSP)
    told = Told(needs_curves=True, classes_of=[("road_anomaly", "f1")])
    assert evaluate(ColourModel(), datasets, MSP, callbacks=[told]) == alone


def test_stored_scores_are_told_of_and_the_model_is_asked_for_what_they_lack(datasets, tmp_path):
    writers = {"road_anomaly": ScoreWriter(tmp_path / "maps", dataset="road_anomaly", method="m")}
    first = Told()
    before = evaluate(ColourModel(), datasets, MSP, callbacks=[first, ScoreMapCallback(writers)])
    model, told = ColourModel(), Told(classes_of=[("road_anomaly", "f4")])
    again = evaluate(model, datasets, MSP, stores=writers, callbacks=[told])
    assert again == before
    assert model.calls == 1 + 5  # the frame whose classes are wanted, and the dataset without a store
    for result, earlier in zip(told.frames, first.frames, strict=True):
        assert earlier.computed
        asked = result.dataset == "street_scenes" or result.frame.id == "f4"
        assert result.computed == asked == (result.top_classes is not None)
        np.testing.assert_array_equal(result.raw["msp"], earlier.raw["msp"])


def test_score_maps_are_written_before_post_processing_and_once(datasets, tmp_path):
    writer = ScoreWriter(tmp_path / "maps", dataset="road_anomaly", method="m")
    told = Told()
    smooth = [parse_chain("smooth:sigma=2")]
    writing = ScoreMapCallback({"road_anomaly": writer})
    evaluate(ColourModel(), datasets, MSP, post=smooth, callbacks=[writing, told])
    files = sorted((tmp_path / "maps/msp").iterdir())
    assert [file.name for file in files] == [f"f{i}.npy" for i in range(6)]
    for result in told.frames[:4]:
        np.testing.assert_array_equal(np.load(tmp_path / f"maps/msp/{result.frame.id}.npy"), result.raw["msp"])
    times = [file.stat().st_mtime_ns for file in files]
    evaluate(ColourModel(), datasets, MSP, stores={"road_anomaly": writer}, callbacks=[writing])
    assert [file.stat().st_mtime_ns for file in files] == times


@pytest.mark.parametrize("method", ["on_start", "on_frame", "on_dataset_end", "on_end"])
def test_what_a_callback_raises_ends_the_evaluation(datasets, method):
    class Failing(Callback):
        pass

    def fail(self, *arguments):
        raise InputError("the disk is full")

    setattr(Failing, method, fail)
    model = ColourModel()
    with pytest.raises(InputError, match="the disk is full"):
        evaluate(model, datasets, MSP, callbacks=[Failing()])
    assert (model.calls == 0) == (method == "on_start")


def test_a_plain_callback_does_nothing(datasets):
    assert evaluate(ColourModel(), datasets, MSP, callbacks=[Callback()]) == evaluate(ColourModel(), datasets, MSP)


def test_a_score_model_has_no_classes(datasets):
    class Bright(ColourModel):
        def __call__(self, inputs):
            return replace(super().__call__(inputs), logits=None, class_log_likelihood=None, score=inputs.mean(1))

    model = Bright(gives=("score",))
    told = Told(classes_of=[("road_anomaly", "f0")])
    evaluate(model, datasets[:1], [given_score("bright")], callbacks=[told])
    result = told.frames[0]
    assert result.classes is None
    assert result.top_classes(np.array([0]), np.array([0])) is None
    expected = torch.from_numpy(result.frame.image.copy()).float().mean(2) / 64
    np.testing.assert_allclose(result.scores["bright"], expected, rtol=1e-5)
