"""Tiny networks of transformers with random weights, saved with their processors as people save their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the extra transformers needs Python 3.11 or newer")

CLASSES = ("road", "car", "building", "sky")
LABELS = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: i for i, name in enumerate(CLASSES)}}
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def swin() -> Any:
    return transformers.SwinConfig(
        embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_features=STAGES
    )


def segformer() -> tuple[Any, Any]:
    sizes = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 1, 2, 2]}
    config = transformers.SegformerConfig(**sizes, decoder_hidden_size=16, **LABELS)
    processor = transformers.SegformerImageProcessorPil(size={"height": 64, "width": 96})
    return transformers.SegformerForSemanticSegmentation(config), processor


def beit() -> tuple[Any, Any]:
    config = transformers.BeitConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        out_indices=[1, 2, 3, 4],
        use_relative_position_bias=True,
        **LABELS,
    )
    processor = transformers.BeitImageProcessorPil(size={"height": 64, "width": 64})
    return transformers.BeitForSemanticSegmentation(config), processor


def upernet() -> tuple[Any, Any]:
    backbone = transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_features=STAGES)
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=16, auxiliary_in_channels=24, auxiliary_channels=8, **LABELS
    )
    return transformers.UperNetForSemanticSegmentation(config), transformers.SegformerImageProcessorPil(
        size={"shortest_edge": 64}, default_to_square=False
    )


def dpt() -> tuple[Any, Any]:
    config = transformers.DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        **LABELS,
    )
    return transformers.DPTForSemanticSegmentation(config), transformers.DPTImageProcessorPil(
        size={"height": 64, "width": 64}
    )


def dpt_on_dinov2() -> tuple[Any, Any]:
    backbone = transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_features=STAGES,
        reshape_hidden_states=False,
    )
    config = transformers.DPTConfig(
        backbone_config=backbone,
        hidden_size=16,
        num_attention_heads=2,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        **LABELS,
    )
    processor = transformers.DPTImageProcessorPil(size={"height": 56, "width": 56})
    return transformers.DPTForSemanticSegmentation(config), processor


def mobilevit() -> tuple[Any, Any]:
    config = transformers.MobileViTConfig(
        hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32],
        num_attention_heads=2,
        aspp_out_channels=16,
        output_stride=16,
        **LABELS,
    )
    return transformers.MobileViTForSemanticSegmentation(config), transformers.MobileViTImageProcessorPil(
        size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}
    )


def mask2former(queries: int = 7) -> tuple[Any, Any]:
    config = transformers.Mask2FormerConfig(
        backbone_config=swin(),
        hidden_dim=32,
        feature_size=32,
        mask_feature_size=32,
        num_queries=queries,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        **LABELS,
    )
    return transformers.Mask2FormerForUniversalSegmentation(config), transformers.Mask2FormerImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 200}, pad_size={"height": 128, "width": 160}
    )


def maskformer() -> tuple[Any, Any]:
    decoder = transformers.DetrConfig(
        d_model=32,
        decoder_layers=2,
        encoder_layers=1,
        num_queries=7,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
    )
    config = transformers.MaskFormerConfig(
        backbone_config=swin(), decoder_config=decoder, fpn_feature_size=32, mask_feature_size=32, **LABELS
    )
    return transformers.MaskFormerForInstanceSegmentation(config), transformers.MaskFormerImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 200}
    )


def eomt(*, split: bool = False) -> tuple[Any, Any]:
    config = transformers.EomtConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=64,
        patch_size=8,
        num_queries=7,
        num_blocks=1,
        num_register_tokens=1,
        **LABELS,
    )
    size = {"shortest_edge": 64, "longest_edge": None if split else 64}
    return transformers.EomtForUniversalSegmentation(config), transformers.EomtImageProcessorPil(
        size=size, do_split_image=split, do_pad=not split
    )


NETWORKS: dict[str, Callable[[], tuple[Any, Any]]] = {
    one.__name__: one
    for one in (segformer, beit, upernet, dpt, dpt_on_dinov2, mobilevit, mask2former, maskformer, eomt)
}
SEMANTIC = ("segformer", "beit", "upernet", "dpt", "dpt_on_dinov2", "mobilevit")
MASKS = ("mask2former", "maskformer", "eomt")


def write_network(folder: Path, name: str) -> Path:
    """Save a tiny network and its processor into ``folder / name``."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, processor = NETWORKS[name]()
    network.save_pretrained(folder / name)
    processor.save_pretrained(folder / name)
    return folder / name
