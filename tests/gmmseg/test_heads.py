# ruff: noqa: RUF012 (class attributes that describe a network)
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmseg.models.decode_heads import SegformerHead

from anomaly.errors import InputError
from anomaly.models.mmseg import build_model
from gmmseg.models.heads import FastSegformerHead
from tests.gmmseg.head_tester import BN, HeadTester
from tests.gmmseg.networks import segformer

ROOT = Path(__file__).resolve().parents[2]


class TestSegformer(HeadTester):
    head = {"type": "gmmseg.SegformerGMMSegHead", "in_channels": [8, 16, 40, 64], "in_index": [0, 1, 2, 3]}
    backbone = {
        "type": "MixVisionTransformer",
        "embed_dims": 8,
        "num_layers": [1, 1, 1, 1],
        "num_heads": [1, 2, 5, 8],
        "qkv_bias": True,
    }

    @pytest.mark.parametrize("norm", [BN, None])
    def test_fusion_is_that_of_mmseg(self, norm):
        """Each map fused at its own size gives what mmseg gives, gradients too."""
        arguments = {key: value for key, value in self.head.items() if key != "type"}
        head = FastSegformerHead(**arguments, channels=24, num_classes=5, norm_cfg=norm, dropout_ratio=0).double()
        maps = [torch.randn(2, c, 16 // s, 24 // s) for c, s in zip((8, 16, 40, 64), (1, 2, 4, 8), strict=True)]
        found = []
        for forward in (SegformerHead.forward, FastSegformerHead.forward):
            inputs = [m.double().requires_grad_() for m in maps]
            output = forward(head, inputs)
            gradients = torch.autograd.grad(output.square().sum(), [*inputs, *head.parameters()])
            found.append([output, *gradients])
        for expected, ours in zip(*found, strict=True):
            assert torch.allclose(ours, expected, rtol=1e-9, atol=1e-9)


class TestDepthwiseSeparableASPP(HeadTester):
    head = {
        "type": "gmmseg.DepthwiseSeparableASPPGMMSegHead",
        "in_channels": 64,
        "in_index": 3,
        "dilations": (1, 2, 3),
        "c1_in_channels": 8,
        "c1_channels": 8,
    }


class TestUPer(HeadTester):
    head = {
        "type": "gmmseg.UPerGMMSegHead",
        "in_channels": [8, 16, 32, 64],
        "in_index": [0, 1, 2, 3],
        "pool_scales": (1, 2),
    }


class TestFCN(HeadTester):
    head = {"type": "gmmseg.FCNGMMSegHead", "in_channels": 64, "in_index": 3, "num_convs": 1}


class TestOCRCascade(HeadTester):
    first = {"type": "FCNHead", "in_channels": 64, "in_index": 3, "num_convs": 1}
    head = {"type": "gmmseg.OCRGMMSegHead", "in_channels": 64, "in_index": 3, "ocr_channels": 8}

    def test_first_head_trains_too(self):
        losses = self.learn(self.network())
        assert {"decode_0.loss_ce", "decode_1.loss_ce", "decode_1.loss_contrast"} < set(losses)


def test_sliding_windows_average_both_maps():
    torch.manual_seed(0)
    network = segformer(mode="slide", crop_size=(64, 64), stride=(64, 32)).eval()
    image = torch.randn(1, 3, 64, 96)
    slide = network(image, mode="predict")[0]
    network.test_cfg = type(network.test_cfg)(mode="whole")
    with torch.no_grad():
        left, right = (network(image[..., at : at + 64], mode="predict")[0] for at in (0, 32))
    for name in ("seg_logits", "class_log_likelihood"):
        first, second = left.get(name).data, right.get(name).data
        expected = (first[..., 32:] + second[..., :32]) / 2
        assert torch.allclose(slide.get(name).data[..., 32:64], expected, atol=1e-4)
        assert torch.allclose(slide.get(name).data[..., :32], first[..., :32], atol=1e-4)


def test_prediction_is_the_largest_likelihood_of_each_pixel():
    """With the fresh LayerNorm over classes, logits and likelihoods rank the classes alike."""
    network = segformer().eval()
    with torch.no_grad():
        output = network.decode_head.classify(network.extract_feat(torch.randn(1, 3, 64, 64)))
    assert torch.equal(output.logits.argmax(1), output.class_log_likelihood.argmax(1))


def test_unknown_mixture_key_is_an_error():
    with pytest.raises(InputError, match="unknown mixture setting 'num_prototype'"):
        segformer(mixture={"num_prototype": 3})


@pytest.mark.parametrize(
    "former",
    [
        {"type": "gmmseg.PosthocSegmentor", "num_components": 5},
        {"type": "gmmseg.PosthocCascadeSegmentor", "num_components": 5, "frozen": {"stage": -1}},
        {"frozen": {"stage": -1}},
    ],
)
def test_networks_with_mixtures_of_version_0_2_are_refused(former):
    config = Config.fromfile(ROOT / "configs/gmmseg/segformer-gmmseg_mit-b0_8xb2-160k_ade20k-512x512.py")
    config.merge_from_dict({"model": former})
    with pytest.raises(
        InputError, match=r"^model: expected a network, [^.]* version 0\.2 .*; run `gmmseg fit` with [^.]*$"
    ):
        build_model(config)
