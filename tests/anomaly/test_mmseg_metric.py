"""Anomaly metrics for mmengine's loops, on samples made by hand, against scikit-learn and naive counts."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from scipy.special import logsumexp
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN
from anomaly.metrics import PixelMetrics, UndefinedMetricWarning, exact, spill
from anomaly.metrics.component import ComponentMetrics
from anomaly.metrics.functional.components import TRACKS
from anomaly.mmengine.component_metric import ComponentAnomalyMetric
from anomaly.mmengine.iou_metric import ClosedSetIoUMetric
from anomaly.mmengine.pixel_metric import PixelAnomalyMetric
from tests.anomaly.metric_samples import ANOMALOUS, CLASSES, FRAMES, SIZE, data_sample, labels, run


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmseg")


obstacles = partial(ComponentAnomalyMetric, track="obstacle_track")


def pooled(samples, score):
    """Score and label of all pixels that count, by numpy alone."""
    values = {
        "max_logit": lambda s: -s.seg_logits.data.numpy().max(0),
        "gmm_nll": lambda s: -s.class_log_likelihood.data.numpy().max(0),
    }[score]
    label = np.concatenate([s.gt_sem_seg.data.numpy().ravel() for s in samples])
    scores = np.concatenate([values(s).ravel() for s in samples])
    return scores[label != 255], (label == ANOMALOUS)[label != 255]


def sklearn_figures(score, label):
    fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)
    figures = {"auroc": roc_auc_score(label, score), "ap": average_precision_score(label, score)}
    return {name: 100 * value for name, value in {**figures, "fpr95": fpr[tpr >= 0.95][0]}.items()}


def test_figures_are_scikit_learns_in_percent():
    samples = [data_sample(seed) for seed in range(FRAMES)]
    figures = run(PixelAnomalyMetric(ANOMALOUS, scores=["gmm_nll", "max_logit"], set="made"), samples)
    expected = {
        f"anomaly/made/{score}/{name}": value
        for score in ("gmm_nll", "max_logit")
        for name, value in sklearn_figures(*pooled(samples, score)).items()
    }
    assert figures == pytest.approx(expected, abs=1e-9)
    assert list(figures) == list(expected)
    assert 60 < figures["anomaly/made/max_logit/auroc"] < 99


def test_scores_by_default_are_all_that_the_network_allows():
    both = run(PixelAnomalyMetric(ANOMALOUS, figures="ap"), [data_sample(0)])
    logits = run(PixelAnomalyMetric(ANOMALOUS, figures=["ap"]), [data_sample(0, likelihood=False)])
    of_logits = [f"anomaly/{score}/ap" for score in ("msp", "max_logit", "entropy", "energy")]
    assert list(both) == ["anomaly/gmm_nll/ap", *of_logits]
    assert list(logits) == of_logits


def predicted_nll(sample):
    likelihood, logits = sample.class_log_likelihood.data.numpy(), sample.seg_logits.data.numpy()
    return -np.take_along_axis(likelihood, logits.argmax(0)[None], 0)[0]


def energy(temperature):
    return lambda sample: -temperature * logsumexp(sample.seg_logits.data.double().numpy() / temperature, axis=0)


@pytest.mark.parametrize("make", [PixelAnomalyMetric, obstacles])
def test_scores_as_they_are_written(make):
    """With parameters, one of them with and without, and of two maps; in the order asked for."""
    written = {"energy:temperature=2": energy(2), "predicted_nll": predicted_nll, "energy": energy(1)}
    samples = [data_sample(seed) for seed in range(FRAMES)]
    figures = run(make(ANOMALOUS, scores=list(written)), samples)
    assert list(dict.fromkeys(name.split("/")[1] for name in figures)) == list(written)
    for name, score in written.items():
        values = [score(sample).astype(np.float32) for sample in samples]
        if make is PixelAnomalyMetric:
            counts = np.concatenate([sample.gt_sem_seg.data.numpy().ravel() for sample in samples])
            pixels = np.concatenate([each.ravel() for each in values])
            found = sklearn_figures(pixels[counts != 255], (counts == ANOMALOUS)[counts != 255])
            assert [figures[f"anomaly/{name}/{figure}"] for figure in found] == pytest.approx(
                list(found.values()), 1e-4
            )
        else:
            metrics = ComponentMetrics(TRACKS["obstacle_track"])
            for sample, value in zip(samples, values, strict=True):
                metrics.update(sample.img_path, value, encoded(sample))
            assert figures[f"anomaly/{name}/components.f1_mean"] == pytest.approx(100 * metrics.compute()["f1_mean"])


@pytest.mark.parametrize("metric", [PixelAnomalyMetric, ComponentAnomalyMetric])
@pytest.mark.parametrize(
    ("score", "message"),
    [
        ("sml", r"'sml': expected a score without statistics .* use anomaly evaluate --fitted"),
        ("rank_average:of=msp+energy", r"'rank_average:of=msp\+energy': .* anomaly evaluate --fitted"),
        ("marginal_nll", r"'marginal_nll' needs the network's component_log_prob, .* use anomaly evaluate"),
    ],
)
def test_scores_that_loops_cannot_have_are_refused(metric, score, message):
    with pytest.raises(InputError, match=message):
        metric(ANOMALOUS, scores=["msp", score])


def test_repeated_frames_count_once_and_batches_do_not_matter():
    samples = [data_sample(seed) for seed in range(FRAMES)]
    for make in (PixelAnomalyMetric, obstacles):
        once = run(make(ANOMALOUS), samples)
        assert run(make(ANOMALOUS), samples[::-1] + samples[:3]) == once
        assert run(make(ANOMALOUS), samples[1:]) != once


@pytest.mark.parametrize("make", [PixelAnomalyMetric, obstacles])
def test_evaluate_forgets(make):
    metric = make(ANOMALOUS, scores=["energy"])
    whole = run(metric, [data_sample(seed) for seed in range(FRAMES)])
    one = run(metric, [data_sample(1)])
    assert one == pytest.approx(run(make(ANOMALOUS, scores=["energy"]), [data_sample(1)]), abs=0)
    assert one != whole
    assert run(metric, [data_sample(seed) for seed in range(FRAMES)]) == whole
    with pytest.raises(InputError, match="AnomalyMetric: expected frames"):
        metric.evaluate(FRAMES)


@pytest.mark.parametrize("make", [PixelAnomalyMetric, obstacles])
def test_scores_do_not_mix(make):
    samples = [data_sample(seed) for seed in range(FRAMES)]
    alone = {}
    for score in ("gmm_nll", "energy", "msp"):
        alone |= run(make(ANOMALOUS, scores=score), samples)
    assert run(make(ANOMALOUS, scores=["msp", "energy", "gmm_nll"]), samples) == pytest.approx(
        alone, abs=0, nan_ok=True
    )
    assert len(set(alone.values())) > 3


def test_settings_reach_the_metrics():
    samples = [data_sample(seed) for seed in range(FRAMES)]
    score, label = pooled(samples, "max_logit")
    names = ["fpr80", "recall_at_fpr20", "best_f1_threshold", "f1", "ap_per_image", "f1_per_image"]
    metric = PixelAnomalyMetric(
        ANOMALOUS, scores=["max_logit"], tpr=0.8, fpr=0.2, threshold=-1.0, figures=names, prefix="open", memory_budget=1
    )
    figures = run(metric, samples)
    assert list(figures) == [f"open/max_logit/{name}" for name in names]
    fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)
    assert figures["open/max_logit/fpr80"] == pytest.approx(100 * fpr[tpr >= 0.8][0])
    assert figures["open/max_logit/recall_at_fpr20"] == pytest.approx(100 * tpr[fpr <= 0.2][-1])
    found = score >= -1
    tp = (found & label).sum()
    assert figures["open/max_logit/f1"] == pytest.approx(100 * 2 * tp / (found.sum() + label.sum()))
    thresholds = np.unique(score)
    f1 = [2 * (label & (score >= t)).sum() / ((score >= t).sum() + label.sum()) for t in thresholds]
    assert figures["open/max_logit/best_f1_threshold"] == thresholds[np.argmax(f1)]
    per_image = [average_precision_score(*pooled([s], "max_logit")[::-1]) for s in samples]
    assert figures["open/max_logit/ap_per_image"] == pytest.approx(100 * np.mean(per_image))


def test_binned_figures_come_with_their_interval():
    samples = [data_sample(seed) for seed in range(FRAMES)]
    figures = run(PixelAnomalyMetric(ANOMALOUS, scores=["gmm_nll"], mode="binned", figures=["ap"]), samples)
    exact = average_precision_score(*pooled(samples, "gmm_nll")[::-1]) * 100
    assert list(figures) == ["anomaly/gmm_nll/ap", "anomaly/gmm_nll/ap_low", "anomaly/gmm_nll/ap_high"]
    assert figures["anomaly/gmm_nll/ap_low"] - 1e-9 <= exact <= figures["anomaly/gmm_nll/ap_high"] + 1e-9
    assert figures["anomaly/gmm_nll/ap"] == pytest.approx(exact, abs=0.1)


def test_set_without_anomalies_is_undefined():
    sample = data_sample(0, label=np.zeros((8, 8), int))
    with pytest.warns(UndefinedMetricWarning, match="anomaly pixels"):
        figures = run(PixelAnomalyMetric(ANOMALOUS, scores=["msp"]), [sample])
    names = ["f1_mean", "siou", "ppv", "threshold"]
    metric = ComponentAnomalyMetric(ANOMALOUS, scores=["msp"], figures=names)
    with pytest.warns(UndefinedMetricWarning, match="component F1"):
        components = run(metric, [sample])
    assert (len(figures), len(components)) == (3, 4)
    assert np.isnan([*figures.values(), *components.values()]).all()


def encoded(sample):
    label = sample.gt_sem_seg.data[0].numpy()
    return np.where(label == 255, IGNORE, np.where(label == ANOMALOUS, ANOMALY, KNOWN)).astype(np.uint8)


@pytest.mark.parametrize("threshold", ["best_f1", -1.25])
def test_component_figures_are_those_of_component_metrics(threshold):
    samples = [data_sample(seed) for seed in range(FRAMES)]
    expected = ComponentMetrics(TRACKS["obstacle_track"], threshold)
    pixels = PixelMetrics()
    for sample in samples:
        score = -sample.seg_logits.data.numpy().max(0)
        expected.update(sample.img_path, score, encoded(sample))
        pixels.update(sample.img_path, score, encoded(sample))
    result = expected.compute()
    metric = ComponentAnomalyMetric(
        ANOMALOUS,
        track="obstacle_track",
        threshold=threshold,
        scores=["max_logit"],
        set="made",
        figures=["f1_mean", "siou", "tp_25", "threshold"],
    )
    assert run(metric, samples) == {
        "anomaly/made/max_logit/components.f1_mean": 100 * result["f1_mean"],
        "anomaly/made/max_logit/components.siou": 100 * result["siou"],
        "anomaly/made/max_logit/components.tp_25": result["tp_25"],
        "anomaly/made/max_logit/components.threshold": result.threshold,
    }
    assert 0 < result["siou"] < 1
    if threshold == "best_f1":
        assert result.threshold == pixels.compute()["best_f1_threshold"]
        assert list(run(ComponentAnomalyMetric(ANOMALOUS, scores=["msp"]), samples)) == [
            f"anomaly/msp/components.{name}" for name in ("f1_mean", "siou", "ppv")
        ]


def naive_iou(samples):
    counts = np.zeros((CLASSES, CLASSES))
    for sample in samples:
        label, found = sample.gt_sem_seg.data[0].numpy(), sample.pred_sem_seg.data[0].numpy()
        for t, p in zip(label.ravel(), found.ravel(), strict=True):
            if t < CLASSES:
                counts[t, p] += 1
    return 100 * (counts.diagonal() / (counts.sum(0) + counts.sum(1) - counts.diagonal())).mean()


def test_closed_set_iou_leaves_anomalies_out():
    """And so does mmseg's own metric told to ignore them, as long as nothing else is to be ignored."""
    samples = [data_sample(seed) for seed in range(FRAMES)]
    expected = naive_iou(samples)
    metric = {"type": "mmseg.IoUMetric"}
    ours = run(ClosedSetIoUMetric(ANOMALOUS), samples + samples[:1])
    assert set(ours) == {"aAcc", "mIoU", "mAcc"}
    assert ours["mIoU"] == pytest.approx(expected, abs=0.0051)
    assert run(metric, samples)["mIoU"] < expected - 0.5  # anomalies count against the classes predicted there
    for sample in samples:
        label = sample.gt_sem_seg.data
        label[label == 255] = 0
    expected = naive_iou(samples)
    assert run({**metric, "ignore_index": ANOMALOUS}, samples)["mIoU"] == pytest.approx(expected, abs=0.0051)
    assert run(ClosedSetIoUMetric(ANOMALOUS), samples)["mIoU"] == pytest.approx(expected, abs=0.0051)


def test_only_the_images_of_a_pattern_count():
    other = [data_sample(seed, img_path=f"/data/other/{seed}.png") for seed in range(2)]
    for metric in (PixelAnomalyMetric, obstacles, ClosedSetIoUMetric):
        some = run(metric(ANOMALOUS, images="*/set/*"), [*other, data_sample(2), data_sample(3)])
        assert some == run(metric(ANOMALOUS), [data_sample(2), data_sample(3)])
        with pytest.raises(InputError, match=r"img_path matches '\*/set/\*'.*found none"):
            run(metric(ANOMALOUS, images="*/set/*"), other)


def test_labels_of_another_set():
    """As of sets with 0 known, 1 anomaly: there no class of the network is meant."""
    label = (labels(0) == ANOMALOUS).astype(int)
    label[0] = 255
    label[1] = 77
    metric = {"type": "anomaly.PixelAnomalyMetric", "scores": ["msp"], "anomaly_index": [1], "ignore_index": [255, 77]}
    plain = labels(0)
    plain[plain != ANOMALOUS] = 0
    plain[:2] = 255
    expected = run(PixelAnomalyMetric(ANOMALOUS, scores=["msp"]), [data_sample(0, plain)])
    logits = data_sample(0, plain).seg_logits
    sample = data_sample(0, label)
    sample.seg_logits = logits
    assert run({**metric, "known": [0]}, [sample]) == expected
    assert run(metric, [sample]) == expected  # 1 is a class too, but it was said to be anomalous


@pytest.mark.parametrize("metric", [PixelAnomalyMetric, ComponentAnomalyMetric, ClosedSetIoUMetric])
@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (lambda: data_sample(3, np.full((9, 9), 4)), r"frame '/data/set/3.png': .*0, 1, 2, 3 \(known\), 12 .*also 4;"),
        (lambda: data_sample(3, np.full((9, 9), 300)), "found also 300"),
        (lambda: data_sample(3, np.full((9, 9), -257)), "found also -257"),
        (lambda: without(data_sample(3), "gt_sem_seg"), "frame '/data/set/3.png': expected a label"),
        (lambda: without(data_sample(3), "img_path"), "'img_path'"),
    ],
)
def test_bad_labels_are_refused(metric, sample, message):
    with pytest.raises(InputError, match=message):
        run(metric(ANOMALOUS), [sample()])


def without(sample, name):
    delattr(sample, name)
    return sample


@pytest.mark.parametrize("metric", [PixelAnomalyMetric, ComponentAnomalyMetric])
def test_bad_scores_are_refused(metric):
    with pytest.raises(InputError, match=r"'/data/set/0.png': score 'gmm_nll' needs .*anomaly fit.*: msp, max_logit"):
        run(metric(ANOMALOUS, scores=["gmm_nll"]), [data_sample(0, likelihood=False)])
    with pytest.raises(InputError, match=r"needs the seg_logits .*test-time augmentation.*: gmm_nll$"):
        run(metric(ANOMALOUS, scores=["msp"]), [without(data_sample(0), "seg_logits")])
    sample = data_sample(0)
    sample.seg_logits.data[:, 5, 6] = torch.nan
    with pytest.raises(InputError, match=r"'/data/set/0.png': score 'energy' has 1 NaN"):
        run(metric(ANOMALOUS, scores=["energy"]), [sample])
    sample.seg_logits = PixelData(data=torch.rand(1, SIZE, SIZE))
    with pytest.raises(InputError, match="at least two classes, found one channel"):
        run(metric(ANOMALOUS, scores=["msp"]), [sample])
    small = data_sample(0)
    small.seg_logits = PixelData(data=torch.rand(4, SIZE, SIZE - 1))
    with pytest.raises(InputError, match=r"shape \(40, 39\), expected the label's \(40, 40\)"):
        run(metric(ANOMALOUS, scores=["msp"]), [small])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"anomaly_index": []}, "at least one"),
        ({"anomaly_index": 256}, "from 0 to 255, found 256"),
        ({"anomaly_index": "12"}, "from 0 to 255, found '12'"),
        ({"anomaly_index": [12, 255]}, r"\[255\]: expected one meaning"),
        ({"known": [0, 12]}, r"\[12\]: expected one meaning"),
        ({"scores": ["mps"]}, "unknown score 'mps'; the scores are msp"),
        ({"figures": ["fpr90"]}, "auroc, ap, fpr95, .*'fpr90'"),
        ({"mode": "fast"}, "mode: expected"),
        ({"threshold": 0.5}, r"threshold=0.5: expected exactly one score, .*found none"),
        ({"threshold": 0.5, "scores": ["msp", "energy"]}, r"found \['msp', 'energy'\]"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        PixelAnomalyMetric(**{"anomaly_index": ANOMALOUS, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"track": "fast"}, "track: expected one of anomaly_track, obstacle_track"),
        ({"threshold": "best"}, "threshold: expected a finite score"),
        ({"threshold": 0.5}, "threshold=0.5: expected exactly one score"),
        ({"figures": ["f1_30"]}, "f1_mean, .*threshold; found 'f1_30'"),
    ],
)
def test_bad_component_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        ComponentAnomalyMetric(ANOMALOUS, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("make", [PixelAnomalyMetric, obstacles, ClosedSetIoUMetric])
def test_values_may_be_numpys(make):
    samples = [data_sample(seed) for seed in range(FRAMES)]
    for value in (np.int64(ANOMALOUS), np.array(ANOMALOUS), torch.tensor(ANOMALOUS), np.array([ANOMALOUS])):
        assert run(make(value), samples) == run(make(ANOMALOUS), samples)
    for value in (True, 12.5, np.array([12.5]), np.datetime64(12, "ns")):
        with pytest.raises(InputError, match="anomaly_index: expected label values from 0 to 255"):
            make(value)


@pytest.mark.parametrize("make", [PixelAnomalyMetric, obstacles])
@pytest.mark.parametrize("threshold", [np.float32(-1.25), np.float64(-1.25), np.array(-1.25), torch.tensor(-1.25)])
def test_thresholds_may_be_numpys(make, threshold):
    samples = [data_sample(seed) for seed in range(FRAMES)]
    names = ["f1", "iou"] if make is PixelAnomalyMetric else ["f1_mean", "threshold"]
    given, expected = (
        run(make(ANOMALOUS, threshold=value, scores=["max_logit"], figures=names), samples)
        for value in (threshold, -1.25)
    )
    assert given == expected


@pytest.mark.parametrize(
    "make", [PixelAnomalyMetric, obstacles, partial(PixelAnomalyMetric, mode="binned"), ClosedSetIoUMetric]
)
def test_another_frame_of_a_path_is_refused(make):
    """Folders with files of one name, or a pass that did not end in evaluate()."""
    with pytest.raises(InputError, match=r"frame '/data/set/0.png' was seen .*another label"):
        run(make(ANOMALOUS), [data_sample(0), data_sample(1, img_path="/data/set/0.png")])
    other = data_sample(0)
    other.seg_logits.data = 2 * other.seg_logits.data.flip(0)
    other.class_log_likelihood.data = 2 * other.class_log_likelihood.data
    other.pred_sem_seg.data = other.seg_logits.data.argmax(0, keepdim=True)
    with pytest.raises(InputError, match=r"frame '/data/set/0.png' was seen .*other (scores|label or prediction)"):
        run(make(ANOMALOUS), [data_sample(0), other])


@pytest.mark.parametrize("metric", [PixelAnomalyMetric, ComponentAnomalyMetric, ClosedSetIoUMetric])
@pytest.mark.parametrize("value", [0.5, np.nan, 11.9])
def test_label_values_between_whole_numbers_are_refused(metric, value):
    """Once they were cut off: 0.5 counted as class 0, and 11.9 as 11."""
    sample = data_sample(0)
    sample.gt_sem_seg = PixelData(data=torch.full((1, SIZE, SIZE), value))
    with pytest.raises(InputError, match=r"frame '/data/set/0.png': expected label values that are integers"):
        run(metric(ANOMALOUS), [sample])


def test_labels_of_any_number_type_and_maps_of_half_precision():
    for dtype in (torch.uint8, torch.int32, torch.float32, torch.bfloat16):
        sample, plain = data_sample(0), data_sample(0)
        sample.gt_sem_seg = PixelData(data=sample.gt_sem_seg.data.to(dtype))
        assert run(PixelAnomalyMetric(ANOMALOUS, scores=["max_logit"]), [sample]) == run(
            PixelAnomalyMetric(ANOMALOUS, scores=["max_logit"]), [plain]
        )
    for dtype in (torch.float16, torch.bfloat16):
        sample, plain = data_sample(0), data_sample(0)
        sample.seg_logits = PixelData(data=sample.seg_logits.data.to(dtype))
        plain.seg_logits = PixelData(data=sample.seg_logits.data.float())
        found = [run(PixelAnomalyMetric(ANOMALOUS, scores=["max_logit"]), [each]) for each in (sample, plain)]
        assert found[0] == found[1]


@pytest.mark.parametrize("make", [PixelAnomalyMetric, ComponentAnomalyMetric])
def test_all_scores_share_the_memory(make, monkeypatch):
    """Five scores that fit together stay in memory; of a budget for fewer something goes to disk."""
    samples = [data_sample(seed) for seed in range(FRAMES)]
    made = []
    monkeypatch.setattr(exact, "SpillFile", lambda folder: made.append(folder) or spill.SpillFile(folder))
    held = 5 * FRAMES * SIZE**2 * 4
    expected = run(make(ANOMALOUS, memory_budget=2 * held), samples)
    assert not made
    assert run(make(ANOMALOUS, memory_budget=held), samples) == pytest.approx(expected, abs=0, nan_ok=True)
    assert made


def test_data_set_without_classes_needs_the_known_values():
    metric = Evaluator(PixelAnomalyMetric(ANOMALOUS))
    with pytest.raises(InputError, match="names no classes"):
        metric.process([data_sample(0)])


@pytest.mark.slow
def test_types_resolve_in_any_mmseg_config():
    """In an interpreter that has not imported the package, with mmseg's scope, through mmengine's own evaluator."""
    code = (
        "from mmengine.registry import init_default_scope; from mmengine.evaluator import Evaluator; import sys\n"
        "init_default_scope('mmseg')\n"
        "assert not any(name.startswith('anomaly') for name in sys.modules)\n"
        "names = ('PixelAnomaly', 'ComponentAnomaly', 'ClosedSetIoU')\n"
        "ours = [dict(type=f'anomaly.{name}Metric', anomaly_index=12) for name in names]\n"
        "print(*(type(metric).__name__ for metric in Evaluator([dict(type='IoUMetric'), *ours]).metrics))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = ["IoUMetric", "PixelAnomalyMetric", "ComponentAnomalyMetric", "ClosedSetIoUMetric"]
    assert done.stdout.splitlines()[-1].split() == expected
