"""A whole training of seconds: a few random images on disk, a very small SegFormer, and the project's runner."""

import itertools
import json

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from PIL import Image

from gmmseg.training import SafeRunner

_RUNS = itertools.count()
CLASSES = ("road", "sky", "car")


def write_images(root, count=5, labels=(0, 1, 2, 255)):
    """Write random images and label maps of 40 x 56 pixels."""
    random = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for i in range(count):
        Image.fromarray(random.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(root / f"images/{i}.png")
        blocks = random.choice(np.array(labels, dtype=np.uint8), (5, 7)).repeat(8, 0).repeat(8, 1)
        Image.fromarray(blocks).save(root / f"labels/{i}.png")


def config(root, work_dir, max_iters=4, **options):
    """Give the config of a training on what :func:`write_images` wrote; ``options`` are of ``merge_from_dict``."""
    pipeline = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations"},
        {"type": "RandomCrop", "crop_size": (32, 32)},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "PhotoMetricDistortion"},
        {"type": "PackSegInputs"},
    ]
    dataset = {
        "type": "BaseSegDataset",
        "data_root": str(root),
        "data_prefix": {"img_path": "images", "seg_map_path": "labels"},
        "img_suffix": ".png",
        "seg_map_suffix": ".png",
        "metainfo": {"classes": CLASSES, "palette": [[0, 0, 0], [1, 1, 1], [2, 2, 2]]},
    }
    loader = {"batch_size": 2, "num_workers": 0, "sampler": {"type": "InfiniteSampler", "shuffle": True}}
    made = Config(
        {
            "default_scope": "mmseg",
            "model": network(),
            "work_dir": str(work_dir),
            "train_dataloader": {**loader, "dataset": {**dataset, "pipeline": pipeline}},
            "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": max_iters, "val_interval": 1000},
            "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 1e-3}},
            "param_scheduler": [{"type": "PolyLR", "power": 1.0, "by_epoch": False, "begin": 0, "end": 20}],
            "default_hooks": {
                "logger": {"type": "LoggerHook", "interval": 1, "log_metric_by_epoch": False},
                "checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": 2, "max_keep_ckpts": 2},
            },
            "log_processor": {"by_epoch": False},
            "randomness": {"seed": 0},
            "experiment_name": f"run {next(_RUNS)}",  # mmengine shares a logger among runs of one name
        }
    )
    made.merge_from_dict(options)
    return made


def network():
    """Give the config of the network; its dropout and drop path draw from torch's generator in every step."""
    return {
        "type": "gmmseg.GMMSegmentor",
        "data_preprocessor": {"type": "SegDataPreProcessor", "mean": [127.0] * 3, "std": [60.0] * 3, "size": (32, 32)},
        "backbone": {
            "type": "MixVisionTransformer",
            "embed_dims": 8,
            "num_layers": [1, 1, 1, 1],
            "num_heads": [1, 2, 5, 8],
            "drop_path_rate": 0.5,
        },
        "decode_head": {
            "type": "gmmseg.SegformerGMMSegHead",
            "in_channels": [8, 16, 40, 64],
            "in_index": [0, 1, 2, 3],
            "channels": 16,
            "dropout_ratio": 0.5,
            "num_classes": 3,
            "norm_cfg": {"type": "BN"},
            "mixture": {"num_components": 2, "embed_dim": 16, "memory_size": 8, "em_interval": 2},
        },
        "test_cfg": {"mode": "whole"},
    }


def train(root, work_dir, max_iters=4, hook=None, **options):
    """Train, and give the runner."""
    init_default_scope("mmseg")
    runner = SafeRunner.from_cfg(config(root, work_dir, max_iters, **options))
    if hook is not None:
        runner.register_hook(hook, "LOWEST")
    try:
        runner.train()
    finally:  # ends the workers of the loader: a garbage collection of all at once would wait five seconds for each
        runner.train_dataloader._iterator = None
        runner.train_loop.dataloader_iterator._iterator = None
    return runner


class StopAt(Hook):
    """Ends a training in the middle of it, after so many steps."""

    def __init__(self, step):
        self.step = step

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx + 1 == self.step:
            raise KeyboardInterrupt


def saved(work_dir, step):
    """Read a checkpoint with nothing allowed but tensors and plain containers."""
    return torch.load(work_dir / f"iter_{step}.pth", weights_only=True)


def logged_losses(work_dir):
    """Give the losses that were logged, by step; a step that was trained twice counts as it was trained last."""
    lines = [line for path in sorted(work_dir.glob("*/vis_data/*.json")) for line in path.read_text().splitlines()]
    records = [record for record in map(json.loads, lines) if "loss" in record]
    return {record["step"]: {k: v for k, v in record.items() if "loss" in k} for record in records}


def assert_same(one, other):
    """Compare two checkpoints, or parts of them, tensor by tensor and bit by bit."""
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other
