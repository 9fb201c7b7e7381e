"""A SegFormer small enough for tests: its config file, its data and its weights, all on disk."""

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from anomaly.models.mmseg import build_model
from tests.anomaly import set_trees

HEIGHT, WIDTH = 48, 64
CLASSES = ("road", "sky", "car", "tree")

CONFIG = """
default_scope = 'mmseg'
data_preprocessor = dict(
    type='SegDataPreProcessor', mean=[120., 110., 100.], std=[60., 55., 50.], bgr_to_rgb=True, pad_val=0,
    seg_pad_val=255, size=(32, 32), test_cfg=dict(size_divisor=32))
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MixVisionTransformer', embed_dims=8, num_stages=4, num_layers=[1, 1, 1, 1], num_heads=[1, 1, 2, 4],
        patch_sizes=[7, 3, 3, 3], sr_ratios=[8, 4, 2, 1], out_indices=(0, 1, 2, 3), mlp_ratio=2),
    decode_head=dict(
        type='SegformerHead', in_channels=[8, 8, 16, 32], in_index=[0, 1, 2, 3], channels=16, num_classes=4,
        norm_cfg=dict(type='BN'), align_corners=False, loss_decode=dict(type='CrossEntropyLoss')),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(80, 40), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')]
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset', data_root={data_root!r}, img_suffix='.png', seg_map_suffix='.png',
        metainfo=dict(classes={classes!r}), data_prefix=dict(img_path='images', seg_map_path='labels'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
val_cfg = dict(type='ValLoop')
"""


def write_config(path: Path, closed_set: Path) -> Path:
    """Write the config file; its validation data are looked for in ``closed_set``."""
    path.write_text(CONFIG.replace("{data_root!r}", repr(str(closed_set))).replace("{classes!r}", repr(CLASSES)))
    return path


def write_closed_set(root: Path, frames: int = 4) -> Path:
    """Write images of noise with labels of blocks, some of them ignored; class 3 never occurs."""
    for seed in range(frames):
        blocks = np.random.default_rng(seed).choice(np.uint8([0, 1, 2, 255]), (6, 8))
        set_trees.write(root / "images" / f"{seed}.png", set_trees.photo(seed, HEIGHT, WIDTH))
        set_trees.write(root / "labels" / f"{seed}.png", np.kron(blocks, np.ones((8, 8), np.uint8)))
    return root


def write_checkpoint(path: Path, config) -> Path:
    """Write random weights whose predictions vary from pixel to pixel."""
    torch.manual_seed(0)
    state = build_model(config).state_dict()
    for name, value in state.items():
        if value.is_floating_point() and "running" not in name:
            state[name] = torch.randn_like(value) * 0.3 + ("norm" in name or ".bn.weight" in name)
    weight = state["decode_head.conv_seg.weight"]
    state["decode_head.conv_seg.weight"] = 5 * (weight - weight.mean(1, keepdim=True))
    torch.save({"state_dict": state, "meta": {}}, path)
    return path


def write_all(folder: Path, more: str = "") -> None:
    """Write ``closed``, ``tiny.py`` (with ``more`` at its end) and ``tiny.pth`` into a folder."""
    config = write_config(folder / "tiny.py", write_closed_set(folder / "closed"))
    config.write_text(config.read_text() + more)
    write_checkpoint(folder / "tiny.pth", Config.fromfile(config))
