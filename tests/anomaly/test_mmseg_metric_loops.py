"""Anomaly metrics in mmengine's own loops, on one process and two."""

import cv2
import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from anomaly.datasets.dataset import Dataset, FrameFiles
from anomaly.errors import InputError
from anomaly.evaluation.evaluator import evaluate
from anomaly.evaluation.score_maps import predicted_classes
from anomaly.frames import ANOMALY, IGNORE, KNOWN
from anomaly.mmengine.component_metric import ComponentAnomalyMetric
from anomaly.mmengine.iou_metric import ClosedSetIoUMetric
from anomaly.mmengine.pixel_metric import PixelAnomalyMetric
from anomaly.models.mmseg import load_mmseg
from anomaly.models.tiling import Inference
from anomaly.models.views import predict_image
from anomaly.scores import SCORES
from tests.anomaly import set_trees, tiny_segmentor
from tests.anomaly.metric_samples import ANOMALOUS, FRAMES, META, data_sample
from tests.processes import leave, start

EVALUATORS = [
    {"type": "IoUMetric", "iou_metrics": ["mIoU"], "prefix": "all"},
    {"type": "anomaly.ClosedSetIoUMetric", "anomaly_index": ANOMALOUS},
    {"type": "anomaly.PixelAnomalyMetric", "anomaly_index": ANOMALOUS, "set": "open"},
    {"type": "anomaly.ComponentAnomalyMetric", "anomaly_index": ANOMALOUS, "set": "open", "scores": ["msp"]},
]
PIPELINE = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}, {"type": "PackSegInputs"}]


@pytest.fixture
def config(tmp_path):
    """A tiny network and images of its input's size, with known, ignored and anomalous pixels."""
    for seed in range(4):
        label = np.kron(np.random.default_rng(seed).choice(np.uint8([0, 1, 2, 255]), (8, 8)), np.ones((8, 8), np.uint8))
        label[10:40, 20:50] = ANOMALOUS
        image = set_trees.photo(seed, 64, 64)
        image[label == ANOMALOUS] //= 4
        set_trees.write(tmp_path / "set" / "images" / f"{seed}.png", image)
        set_trees.write(tmp_path / "set" / "labels" / f"{seed}.png", label)
    config = Config.fromfile(tiny_segmentor.write_config(tmp_path / "tiny.py", tmp_path / "set"))
    config.val_dataloader.dataset.pipeline = PIPELINE
    config.test_pipeline = PIPELINE
    config.pop("test_dataloader"), config.pop("test_evaluator")
    config.val_evaluator = EVALUATORS
    config.load_from = str(tiny_segmentor.write_checkpoint(tmp_path / "weights.pth", config))
    config.work_dir = str(tmp_path / "work")
    config.experiment_name = tmp_path.name  # mmengine's default, the second, is shared by quick tests
    config.log_level = "ERROR"
    return config


@pytest.mark.slow
def test_validation_gives_closed_set_and_open_world_figures(config, tmp_path):
    figures = Runner.from_cfg(config).val()

    model = load_mmseg(config, config.load_from, device="cpu")
    images, annotations = tmp_path / "set" / "images", tmp_path / "set" / "labels"
    files = tuple(FrameFiles(str(i), images / f"{i}.png", annotations / f"{i}.png") for i in range(4))
    encoding = {**dict.fromkeys(range(4), KNOWN), 255: IGNORE, ANOMALOUS: ANOMALY}
    dataset = Dataset("open", tmp_path, "", files, encoding)
    of_logits = [score for score in SCORES.values() if score.needs == ("logits",) and score.usual]
    at_input = Inference(resolution="input")  # as mmseg: logits are resized, then scored
    (result,) = evaluate(model, [dataset], of_logits, inference=at_input)
    expected = {
        f"anomaly/open/{score}/{name}": 100 * result.scores[score].values[name]
        for score in result.scores
        for name in ("auroc", "ap", "fpr95")
    }
    assert len(expected) == 12
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert len({round(value, 3) for value in expected.values()}) > 6
    assert set(figures) - set(expected) == {"mIoU", "mAcc", "aAcc", "all/mIoU", "all/mAcc", "all/aAcc"} | {
        f"anomaly/open/msp/components.{name}" for name in ("f1_mean", "siou", "ppv")
    }
    found = [predicted_classes(predict_image(model, frame.image), frame.label.shape) for frame in dataset]
    truth = [cv2.imread(str(pair.label), cv2.IMREAD_UNCHANGED) for pair in dataset.files]
    known = np.stack(truth) < 4
    right = np.stack(truth) == np.stack(found)
    assert figures["aAcc"] == pytest.approx(100 * right[known].mean(), abs=0.0051)
    assert figures["mIoU"] > figures["all/mIoU"]


@pytest.mark.slow
def test_every_validation_of_a_training_starts_afresh(config, tmp_path):
    """And its best checkpoint can be chosen by an anomaly figure."""
    closed = tiny_segmentor.write_closed_set(tmp_path / "closed")
    crop = {"type": "RandomCrop", "crop_size": (32, 32)}
    config.train_dataloader = {
        **config.val_dataloader,
        "batch_size": 2,
        "sampler": {"type": "InfiniteSampler"},
        "dataset": {
            **config.val_dataloader.dataset,
            "data_root": str(closed),
            "pipeline": [*PIPELINE[:2], crop, PIPELINE[2]],
        },
    }
    config.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": 2, "val_interval": 1}
    config.optim_wrapper = {"optimizer": {"type": "SGD", "lr": 0.1}}
    config.val_evaluator = EVALUATORS[2]
    key = "anomaly/open/msp/auroc"
    hook = {"type": "CheckpointHook", "by_epoch": False, "interval": 1, "save_best": key, "rule": "greater"}
    config.default_hooks = {"checkpoint": hook}
    runner = Runner.from_cfg(config)
    runner.train()
    recorded, _ = runner.message_hub.get_scalar(f"val/{key}").data
    assert len(recorded) == 2
    assert recorded[0] != recorded[1]
    assert list((tmp_path / "work").glob("best_anomaly_open_msp_auroc_iter_*.pth"))
    for name in ("train_dataloader", "train_cfg", "optim_wrapper", "default_hooks"):
        config.pop(name)
    for step, value in enumerate(recorded, start=1):
        config.load_from, config.experiment_name = str(tmp_path / "work" / f"iter_{step}.pth"), f"step_{step}"
        assert Runner.from_cfg(config).val()[key] == pytest.approx(value, abs=1e-9)


def metrics_of_all_kinds():
    return {
        "exact": PixelAnomalyMetric(ANOMALOUS, scores=["gmm_nll", "max_logit"], figures=["ap", "auroc_per_image"]),
        "spilled": PixelAnomalyMetric(ANOMALOUS, memory_budget=1, prefix="spilled"),
        "binned": PixelAnomalyMetric(ANOMALOUS, mode="binned", prefix="binned"),
        "best": ComponentAnomalyMetric(ANOMALOUS, track="obstacle_track", figures=["siou", "fp_50", "threshold"]),
        "given": ComponentAnomalyMetric(ANOMALOUS, track="obstacle_track", threshold=-1.0, scores=["max_logit"]),
        "iou": ClosedSetIoUMetric(ANOMALOUS),
        "some": ClosedSetIoUMetric(ANOMALOUS, images="*/[034].png"),
    }


def figures_of(seeds, make=data_sample):
    """Each metric's figures, or its refusal, from frames added one at a time."""
    figures = {}
    for name, metric in metrics_of_all_kinds().items():
        metric.dataset_meta = META
        for seed in seeds:
            metric.process({}, [make(seed).to_dict()])
        try:
            figures[name] = metric.evaluate(FRAMES)
        except InputError as error:
            figures[name] = str(error)
    return figures


def contradictory(seed):
    """A frame whose label differs from process to process."""
    sample = data_sample(seed)
    sample.gt_sem_seg.data[:, :3] = 255 * dist.get_rank()
    return sample


def _process(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    MMLogger.get_instance("test", log_level="ERROR")
    padded = list(DefaultSampler(range(FRAMES), shuffle=False))
    metric = PixelAnomalyMetric(ANOMALOUS)
    found = {
        "padded": figures_of(padded),
        "seeds": padded,
        "overlapping": figures_of([0, 3, 4] if rank else [0, 1, 2]),
        "uneven": figures_of(range(FRAMES) if rank else []),
        "contradictory": figures_of([rank, 2], contradictory),
    }
    try:
        metric.evaluate(0)
    except InputError as error:
        found["empty"] = str(error)
    torch.save(found, f"{folder}/{rank}.pth")
    leave()


@pytest.mark.slow
def test_two_processes_equal_one_to_the_last_bit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # mmengine leaves a folder there
    start(_process, tmp_path, count=2)
    first, second = (torch.load(tmp_path / f"{rank}.pth", weights_only=False) for rank in (0, 1))
    assert (first.pop("seeds"), second.pop("seeds")) == ([0, 2, 4], [1, 3, 0])  # frame 0 is seen twice
    assert first == second
    expected = figures_of(range(FRAMES))
    assert first["padded"] == expected
    assert first["overlapping"] == expected
    assert first["uneven"] == expected
    assert "PixelAnomalyMetric: expected frames" in first["empty"]
    for name in ("exact", "spilled", "binned", "best", "given", "iou"):
        assert "frame '/data/set/2.png' " in first["contradictory"][name], name
        assert "another label" in first["contradictory"][name], name
