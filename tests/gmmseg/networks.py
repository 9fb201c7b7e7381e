"""Tiny networks and samples that the tests of heads, segmentors and checkpoints share."""

import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

MIXTURE = {"num_components": 2, "embed_dim": 16, "memory_size": 8}


def segformer(mixture=MIXTURE, channels=24, num_classes=5, **test_cfg):
    """A SegFormer on a very small MiT; the softmax twin where ``mixture`` is None."""
    init_default_scope("mmseg")
    head = {"type": "SegformerHead"} if mixture is None else {"type": "gmmseg.SegformerGMMSegHead", "mixture": mixture}
    return MODELS.build(
        {
            "type": "EncoderDecoder" if mixture is None else "gmmseg.GMMSegmentor",
            "backbone": {
                "type": "MixVisionTransformer",
                "embed_dims": 8,
                "num_layers": [1, 1, 1, 1],
                "num_heads": [1, 2, 5, 8],
                "qkv_bias": True,
            },
            "decode_head": {
                "in_channels": [8, 16, 40, 64],
                "in_index": [0, 1, 2, 3],
                "channels": channels,
                "num_classes": num_classes,
                "norm_cfg": {"type": "BN"},
                **head,
            },
            "test_cfg": ConfigDict(test_cfg or {"mode": "whole"}),
        }
    )


def samples(batch, height, width, num_classes=5):
    """Labelled data samples with random classes and an ignored corner."""
    made = []
    for _ in range(batch):
        label = torch.randint(0, num_classes, (1, height, width))
        label[:, :8, :8] = 255
        sample = SegDataSample(metainfo={"ori_shape": (height, width), "img_shape": (height, width)})
        sample.gt_sem_seg = PixelData(data=label)
        made.append(sample)
    return made
