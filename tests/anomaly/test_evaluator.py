"""The evaluation loop against scikit-learn on score maps resized by torch, and its behaviour on bad input."""

import threading
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from anomaly.datasets.catalog import load_dataset
from anomaly.errors import InputError
from anomaly.evaluation.callbacks import ProgressCallback, ScoreMapCallback
from anomaly.evaluation.config import Calibration, MetricConfig
from anomaly.evaluation.evaluator import calibrate, evaluate
from anomaly.evaluation.score_maps import resize_score
from anomaly.evaluation.write_scores import write_scores
from anomaly.frames import image_hash
from anomaly.metrics.calibration import Threshold
from anomaly.metrics.functional.components import TRACKS
from anomaly.models.base import Prediction
from anomaly.models.tiling import Inference
from anomaly.models.torch import TorchModel
from anomaly.postprocessing.table import parse_chain
from anomaly.results.remarks import SeenValues
from anomaly.results.score_store import ScoreWriter
from anomaly.scores.registry import SCORES, get_scores, serves
from anomaly.utils.background import Worker, read_ahead
from anomaly.utils.profile import Profile
from tests.anomaly import set_trees

HEIGHT, WIDTH = 24, 32
PLAIN = {n: s for n, s in SCORES.items() if not s.fitted and serves(s, ("logits", "class_log_likelihood"))}


class ColourModel:
    """Four fixed random projections of the colours, at half the image's size; counts its calls."""

    def __init__(self, gives=("logits", "class_log_likelihood")):
        self.gives = frozenset(gives)
        self.classes = ()
        self.calls = 0

    def prepare(self, image):
        return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 64

    def __call__(self, inputs):
        self.calls += 1
        weights = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
        logits = torch.einsum("bchw,ck->bkhw", inputs[:, :, ::2, ::2], weights)
        return Prediction(logits, 2 * logits if "class_log_likelihood" in self.gives else None)


class BrokenModel(ColourModel):
    def __call__(self, inputs):
        return Prediction(torch.full((len(inputs), 4, 12, 16), torch.nan))


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path)


def make_dataset(root, name="road_anomaly", frames=6, values=(0, 0, 0, 2, 0, 2, 0), first=0):
    folder = root / {"road_anomaly": "road_anomaly", "street_scenes": "street_scenes/open_world"}[name]
    set_trees.write_list(folder, [f"f{seed}.png" for seed in range(frames)])
    for seed in range(frames):
        frame = folder / "frames" / f"f{seed}"
        set_trees.write(frame.with_suffix(".png"), set_trees.photo(first + seed, HEIGHT, WIDTH))
        labels = frame.with_suffix(".labels") / "labels_semantic.png"
        set_trees.write(labels, set_trees.label(values, HEIGHT, WIDTH))
    return load_dataset(name, root)


@pytest.mark.parametrize("name", PLAIN)
def test_pooled_metrics_equal_scikit_learn(dataset, name):
    (result,) = evaluate(ColourModel(), [dataset], get_scores([name]))
    score, model = SCORES[name], ColourModel()
    truth, values = [], []
    for frame in dataset:
        maps = score(model(model.prepare(frame.image)[None]))[None]
        full = torch.nn.functional.interpolate(maps, size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)
        truth.append(frame.label.ravel())
        values.append(full.numpy().ravel())
    truth, values = np.concatenate(truth), np.concatenate(values)
    assert result.scores[name].values["auroc"] == pytest.approx(roc_auc_score(truth, values), abs=1e-5)
    assert result.scores[name].values["ap"] == pytest.approx(average_precision_score(truth, values), abs=1e-5)
    assert (result.dataset, result.frames, result.scores[name].frames) == ("road_anomaly", 6, 6)


def test_network_runs_once_per_frame_whatever_the_scores(dataset, tmp_path):
    model, seen = ColourModel(), []
    datasets = [dataset, make_dataset(tmp_path, "street_scenes", frames=3)]
    results = evaluate(model, datasets, list(PLAIN.values()), callbacks=[ProgressCallback(seen.append)])
    assert model.calls == 9
    assert sorted(seen) == ["road_anomaly"] * 6 + ["street_scenes"] * 3
    assert [result.dataset for result in results] == ["road_anomaly", "street_scenes"]
    assert [list(result.scores) for result in results] == [list(PLAIN)] * 2


def test_every_score_on_two_sets_is_what_it_is_alone(dataset, tmp_path):
    datasets = [dataset, make_dataset(tmp_path, "street_scenes", frames=3)]
    together = evaluate(ColourModel(), datasets, list(PLAIN.values()))
    alone = [evaluate(ColourModel(), [s], list(PLAIN.values()))[0] for s in datasets]
    assert together == alone


def test_score_the_network_cannot_give_is_refused_before_it_runs(dataset):
    model = ColourModel(gives=["logits"])
    with pytest.raises(InputError, match=r"'gmm_nll' needs .*class_log_likelihood.* msp, max_logit"):
        evaluate(model, [dataset], get_scores(["msp", "gmm_nll"]))
    assert model.calls == 0


@pytest.mark.parametrize(("values", "missing"), [((0,), "anomalous"), ((2,), "known")])
@pytest.mark.filterwarnings("error")
def test_set_without_one_kind_of_pixel_is_refused(tmp_path, values, missing):
    dataset = make_dataset(tmp_path, "street_scenes", frames=2)
    for files in dataset.files:
        set_trees.write(files.label, set_trees.label(values, HEIGHT, WIDTH))
    with pytest.raises(InputError, match=rf"street_scenes: .*not one {missing} pixel in 2 frames .*--limit"):
        evaluate(ColourModel(), [dataset], get_scores(["msp"]))


def forbid(name):
    def check(frame, image):
        assert image == image_hash(set_trees.photo(int(frame[1:]), HEIGHT, WIDTH))
        if frame == name:
            raise InputError(f"{frame} was learned from")

    return check


def test_frame_that_must_not_be_evaluated_is_refused_though_its_scores_are_stored(dataset, tmp_path):
    stores = {dataset.name: ScoreWriter(tmp_path / "maps", dataset=dataset.name, method="colour")}
    evaluate(ColourModel(), [dataset], get_scores(["msp"]), callbacks=[ScoreMapCallback(stores)])
    model = ColourModel()
    with pytest.raises(InputError, match="f4 was learned from"):
        evaluate(model, [dataset], get_scores(["msp"]), stores=stores, check=forbid("f4"))
    with pytest.raises(InputError, match="f2 was learned from"):
        calibrate(
            model,
            Calibration(dataset, "best_f1"),
            get_scores(["msp"]),
            store=stores[dataset.name],
            check=forbid("f2"),
        )
    evaluate(model, [dataset], get_scores(["msp"]), stores=stores, check=forbid("none"))
    assert model.calls == 0


@pytest.mark.parametrize("before", [False, True])
def test_frame_that_must_not_be_scored_is_not_written(dataset, tmp_path, before):
    writer = ScoreWriter(tmp_path / "maps", dataset="images", method="colour")
    images = [(f"f{i}", files.image) for i, files in enumerate(dataset.files)]
    if before:
        assert write_scores(ColourModel(), images, get_scores(["msp"]), writer) == 6
    with pytest.raises(InputError, match="f1 was learned from"):
        write_scores(ColourModel(), images, get_scores(["msp"]), writer, check=forbid("f1"))
    assert writer.has("f1", ["msp"]) == before
    shown = write_scores(ColourModel(), images, get_scores(["msp"]), writer, check=forbid("none"))
    assert shown == (0 if before else 5)


def test_nan_scores_name_frame_and_score(dataset):
    with pytest.raises(InputError, match="frame 'f0': score 'max_logit'"):
        evaluate(BrokenModel(), [dataset], get_scores(["max_logit"]))


def test_unreadable_frame_is_the_error_that_surfaces(dataset):
    path = dataset.files[4].image
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=str(path)):
        evaluate(ColourModel(), [dataset], get_scores(["msp"]))


def test_profile_adds_up_to_the_wall_time(dataset):
    profile = Profile()
    evaluate(ColourModel(), [dataset], get_scores(["msp"]), profile=profile)
    profile.stop()
    seconds = profile.seconds()
    assert seconds["forward"] > 0
    assert seconds["other"] >= 0
    assert sum(seconds.values()) == pytest.approx(2 * seconds["wall"])
    assert "forward" in str(profile)


def test_profile_shares_follow_the_clock():
    times = iter([0.0, 1.0, 7.0, 7.0, 8.0, 10.0])
    profile = Profile(clock=lambda: next(times))
    with profile.stage("forward"):
        pass
    with profile.stage("reading"):
        pass
    profile.stop()
    assert profile.overhead() == pytest.approx(0.3)
    assert profile.seconds()["other"] == pytest.approx(3)


def test_resize_puts_pixel_centres_at_half_integers():
    assert resize_score(np.float32([[0, 1]]), (1, 4)).tolist() == [[0, 0.25, 0.75, 1]]


def test_read_ahead_keeps_order_and_raises_in_turn():
    def read(job):
        if job == 3:
            raise InputError("three")
        return job * 10

    seen = []
    with pytest.raises(InputError, match="three"):
        seen.extend(read_ahead(lambda job: seen.append(read(job)) or seen[-1], range(6), ahead=0))
    assert seen == [0, 0, 10, 10, 20, 20]


def test_closing_read_ahead_drops_what_is_not_yet_being_read():
    started, may_end, jobs = threading.Event(), threading.Event(), []

    def read(job):
        jobs.append(job)
        if job == 1:
            started.set()
            may_end.wait(5)

    frames = read_ahead(read, range(100), ahead=3)
    next(frames)
    started.wait(5)
    threading.Timer(0.1, may_end.set).start()
    frames.close()
    assert jobs == [0, 1]


def test_worker_does_jobs_in_order_and_raises_what_they_raise():
    done = []
    with Worker(backlog=2) as worker:
        for job in range(20):
            worker.submit(done.append, job)
        worker.finish()
        assert done == list(range(20))
        worker.submit([].pop)
        with pytest.raises(IndexError):
            worker.finish()


def inverted(score):
    """The same score upside down, under the same name."""
    return replace(score, function=lambda *maps, **settings: -score.function(*maps, **settings))


def test_things_of_one_name_are_refused_before_a_frame_is_read(dataset, tmp_path):
    model = ColourModel()
    (msp,) = get_scores(["msp"])
    other = make_dataset(tmp_path / "b", frames=3, values=(2, 0))
    smooth = [parse_chain("smooth:sigma=1"), replace(parse_chain("smooth:sigma=9"), name="smooth:sigma=1")]
    for arguments, settings, message in (
        (([dataset, other], [msp]), {}, "datasets of different names, found 'road_anomaly' 2 times"),
        (([dataset], [msp, inverted(msp)]), {}, "found 'msp' 2 times"),
        (([dataset], [msp]), {"post": smooth}, r"found 'msp\+smooth:sigma=1' 2 times"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(model, *arguments, **settings)
    assert model.calls == 0


def test_datasets_of_one_kind_under_names_of_their_own_have_values_of_their_own(dataset, tmp_path):
    other = replace(make_dataset(tmp_path / "b", frames=3, values=(2, 0)), name="other")
    scores = get_scores(["msp"])
    both = evaluate(ColourModel(), [dataset, other], scores)
    alone = [evaluate(ColourModel(), [each], scores)[0] for each in (dataset, other)]
    assert both == alone
    assert both[0].scores["msp"].values != both[1].scores["msp"].values


def test_what_would_do_nothing_is_refused(dataset):
    scores = get_scores(["msp"])
    threshold = Threshold(0.5, "tpr", 0.95, "mps", "elsewhere")
    with pytest.raises(InputError, match="thresholds: expected names of msp, found 'mps'"):
        evaluate(ColourModel(), [dataset], scores, config=MetricConfig(thresholds={"mps": threshold}))
    with pytest.raises(InputError, match="stores: expected names of road_anomaly, found 'road'"):
        evaluate(ColourModel(), [dataset], scores, stores={"road": None})
    with pytest.raises(InputError, match=r"components_at=0.5: expected a track too"):
        MetricConfig(components_at=0.5)


def test_a_threshold_is_not_applied_to_images_that_it_was_chosen_on(dataset, tmp_path):
    """Told by the pixels: the second dataset is a part of the first under another name, with other labels."""
    scores = get_scores(["msp"])
    thresholds = calibrate(ColourModel(), Calibration(dataset), scores)
    assert len(thresholds["msp"].images) == 6
    part = replace(make_dataset(tmp_path / "b", frames=2, values=(2, 0)), name="part")
    with pytest.raises(InputError, match="part: expected images on which no threshold was chosen, found 1 of road_an"):
        evaluate(ColourModel(), [part], scores, config=MetricConfig(thresholds=thresholds))
    other = make_dataset(tmp_path / "c", frames=2, first=20)
    with pytest.raises(InputError, match="found another image, frame 'f0'"):
        evaluate(ColourModel(), [other], scores, config=MetricConfig(thresholds=thresholds))
    (same,) = evaluate(ColourModel(), [dataset], scores, config=MetricConfig(thresholds=thresholds))
    assert same.scores["msp"].at_threshold == {}


def test_remarks_on_a_constant_score(dataset):
    (msp,) = get_scores(["msp"])
    constant = replace(msp, name="constant", function=lambda logits: torch.zeros_like(logits[:, 0]))
    (result,) = evaluate(ColourModel(), [dataset], [constant])
    assert result.scores["constant"].remarks == ["all values are equal (0), so this score tells no pixel from another"]


@pytest.mark.parametrize(("auroc", "told"), [(0.0, True), (0.39, True), (0.4, False), (0.9, False), (np.nan, False)])
def test_remarks_on_a_score_that_seems_reversed(auroc, told):
    seen = SeenValues()
    seen.add("f", np.float32([[0, 1]]), np.uint8([[0, 1]]))
    assert ["is the sign reversed?" in remark for remark in seen.remarks(auroc)] == [True] * told


def test_images_are_told_by_their_pixels(dataset):
    (result,) = evaluate(ColourModel(), [dataset], get_scores(["msp"]))
    photos = {f"f{seed}": set_trees.photo(seed, HEIGHT, WIDTH) for seed in range(6)}
    names = {
        frame: sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()[:24] for frame, image in photos.items()
    }
    assert result.images == names


def test_scores_refuse_the_images_that_they_learned_from(dataset):
    (knn,) = get_scores(["knn"])
    images = frozenset({next(iter(dataset)).image_hash})
    learned = replace(knn, statistics={"coreset": torch.eye(4)}, learned_from=images)
    model = ColourModel(("logits", "features"))
    for ask, of in ((evaluate, [dataset]), (calibrate, Calibration(dataset))):
        with pytest.raises(InputError, match="frame 'f0' is one of the 1 images that the scores' statistics"):
            ask(model, of, [learned])


def test_what_is_asked_for_is_measured_or_refused(dataset):
    scores = get_scores(["msp"])
    (result,) = evaluate(ColourModel(), (each for each in [dataset]), (each for each in scores))
    assert list(result.scores) == ["msp"]
    for datasets, some, post in (([], scores, None), ([dataset], [], None), ([dataset], scores, [])):
        with pytest.raises(InputError, match="one post-processing chain, found none"):
            evaluate(ColourModel(), datasets, some, **({} if post is None else {"post": post}))
    config = MetricConfig(track=TRACKS["obstacle_track"], components_at="calibrated")
    with pytest.raises(InputError, match="components_at='calibrated': expected a threshold for msp, found none"):
        evaluate(ColourModel(), [dataset], scores, config=config)


def test_a_constant_score_is_called_so_whatever_resizing_leaves_of_it(dataset):
    constant = TorchModel(lambda inputs: torch.full((len(inputs), 3, 7, 5), 0.3))
    (result,) = evaluate(constant, [dataset], get_scores(["entropy", "energy"]), inference=Inference(window=(13, 17)))
    assert all("all values are equal" in score.remarks[0] for score in result.scores.values())
