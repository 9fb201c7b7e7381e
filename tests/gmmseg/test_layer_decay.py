"""Layer-wise learning rates against rates worked out by hand, from names of parameters alone."""

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

from anomaly.errors import InputError
from gmmseg.training import LayerDecayConstructor
from tests.gmmseg.networks import MIXTURE, segformer
from tests.gmmseg.test_transformers_backbone import CONVNEXT, DINOV2, DINOV3, RESNET, SWIN

pytest.importorskip("transformers")
LR, DECAY = 0.1, 0.05

# Base rate 0.1, halved with every layer down from the top; the first part of a name that occurs counts.
# Three blocks: 0.05, 0.025, 0.0125, embeddings 0.00625.
DINO_RATES = {"layer.0.": 0.0125, "layer.1.": 0.025, "layer.2.": 0.05, "embeddings": 0.00625, "norm": 0.1}
# Stages of 1, 1 and 2 blocks; a stage ends in its downsampling.
SWIN_RATES = {
    "layers.0.blocks.0.": 0.00625,
    "layers.0.downsample": 0.00625,
    "layers.1.blocks.0.": 0.0125,
    "layers.1.downsample": 0.0125,
    "layers.2.blocks.0.": 0.025,
    "layers.2.blocks.1.": 0.05,
    "embeddings": 0.003125,
    "norm": 0.1,
}
# Stages of 1, 1, 2 and 1 blocks; a stage begins with its downsampling.
CONVNEXT_RATES = {
    "stages.0.layers.0.": 0.003125,
    "stages.1.": 0.00625,
    "stages.2.downsampling": 0.0125,
    "stages.2.layers.0.": 0.0125,
    "stages.2.layers.1.": 0.025,
    "stages.3.": 0.05,
    "embeddings": 0.0015625,
    "norm": 0.1,
}
RESNET_RATES = {key.replace("embeddings", "embedder"): rate for key, rate in CONVNEXT_RATES.items()}
NETWORKS = {
    "dinov2": (DINOV2, [1, 3], [32, 32], DINO_RATES),
    "dinov3": (DINOV3, [1, 3], [32, 32], DINO_RATES),
    "swin": (SWIN, [1, 3], [16, 64], SWIN_RATES),
    "convnext": (CONVNEXT, [1, 4], [8, 32], CONVNEXT_RATES),
    "resnet": (RESNET, [1, 4], [8, 32], RESNET_RATES),
}


def network(config, stages, channels, frozen=False):
    init_default_scope("mmseg")
    head = {"type": "gmmseg.SegformerGMMSegHead", "mixture": MIXTURE, "in_channels": channels, "in_index": [0, 1]}
    head |= {"channels": 24, "num_classes": 5, "norm_cfg": {"type": "BN"}}
    backbone = {"type": "gmmseg.TransformersBackbone", "config": config, "stages": stages, "frozen": frozen}
    return MODELS.build({"type": "gmmseg.GMMSegmentor", "backbone": backbone, "decode_head": head})


def settings_of(model, **paramwise):
    """Learning rate and weight decay by parameter name; every one that is trained is in one group."""
    wrapper = build_optim_wrapper(
        model,
        {
            "type": "OptimWrapper",
            "constructor": "gmmseg.LayerDecayConstructor",
            "paramwise_cfg": {"decay_rate": 0.5, **paramwise},
            "optimizer": {"type": "AdamW", "lr": LR, "weight_decay": DECAY},
        },
    )
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = [
        (names[parameter], (group["lr"], group["weight_decay"]))
        for group in wrapper.optimizer.param_groups
        for parameter in group["params"]
    ]
    assert sorted(name for name, _ in found) == sorted(
        name for name, parameter in model.named_parameters() if parameter.requires_grad
    )
    assert len(wrapper.optimizer.param_groups) == len({settings for _, settings in found})
    return dict(found)


@pytest.mark.parametrize("kind", NETWORKS)
def test_rates_halve_with_every_layer(kind):
    *arguments, wanted = NETWORKS[kind]
    model = network(*arguments)
    seen = set()
    for name, (rate, decay) in settings_of(model).items():
        shape = dict(model.named_parameters())[name].shape
        if name.startswith("decode_head."):
            assert rate == LR
        else:
            part = next(part for part in wanted if part in name)
            assert rate == pytest.approx(wanted[part]), name
            seen.add(part)
        plain = len(shape) > 1 and not any(word in name for word in ("position", "token"))
        assert decay == (DECAY if plain else 0), name
    unused = {"norm", "stages.2.downsampling"} if kind == "resnet" else set()  # its blocks hold what these are
    assert seen == wanted.keys() - unused


def test_tokens_and_position_embeddings_have_no_weight_decay():
    decays = {name: decay for name, (_, decay) in settings_of(network(DINOV2, [1, 3], [32, 32])).items()}
    for name in ("cls_token", "position_embeddings", "patch_embeddings.projection.bias"):
        assert decays[f"backbone.network.embeddings.{name}"] == 0
    assert decays["backbone.network.embeddings.patch_embeddings.projection.weight"] == DECAY
    table = "backbone.network.swin.encoder.layers.0.blocks.0.attention.relative_position_bias"
    found = settings_of(network(SWIN, [1, 3], [16, 64]))
    assert [found[name][1] for name in found if name.startswith(table)] == [0]


def test_frozen_backbone_is_in_no_group():
    found = settings_of(network(DINOV2, [1, 3], [32, 32], frozen=True))
    assert found
    assert all(name.startswith("decode_head.") for name in found)


def test_custom_keys_multiply():
    model = network(DINOV2, [1, 3], [32, 32])
    plain = settings_of(model)
    keys = {"decode_head": {"lr_mult": 10.0}, "decode_head.convs": {"decay_mult": 2.0}, "embeddings": {"lr_mult": 0.0}}
    for name, (rate, decay) in settings_of(model, custom_keys=keys).items():
        part = next((key for key in ("decode_head.convs", "decode_head", "embeddings") if key in name), "")
        assert rate == pytest.approx(plain[name][0] * keys.get(part, {}).get("lr_mult", 1))
        assert decay == pytest.approx(plain[name][1] * keys.get(part, {}).get("decay_mult", 1))


def test_mmsegs_own_backbones_decay_by_stage():
    found = settings_of(segformer())  # four stages without numbered blocks
    rates = {name.split(".")[2]: rate for name, (rate, _) in found.items() if name.startswith("backbone.layers")}
    assert rates == {"0": 0.00625, "1": 0.0125, "2": 0.025, "3": 0.05}


@pytest.mark.parametrize(
    ("paramwise", "message"),
    [
        ({"decay_rate": 0}, "found 0"),
        ({"decay_rate": 1.5}, "found 1.5"),
        ({"decay_rate": None}, "found None"),
        ({"norm_decay_mult": 0.0}, "found 'norm_decay_mult'"),
    ],
)
def test_settings_are_checked(paramwise, message):
    with pytest.raises(InputError, match=message):
        settings_of(segformer(), **paramwise)


def test_rate_and_weight_decay_have_to_be_given():
    optimizer = {"type": "AdamW", "lr": LR, "weight_decay": DECAY}
    with pytest.raises(InputError, match="decay_rate above 0 and at most 1, found None"):
        LayerDecayConstructor({"optimizer": optimizer})
    with pytest.raises(InputError, match=r"lr and weight_decay, found 0\.1 and None"):
        LayerDecayConstructor({"optimizer": {"type": "AdamW", "lr": LR}}, {"decay_rate": 0.5})


def test_backbone_without_blocks_is_refused():
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 4, 3))
    optimizer = {"optimizer": {"type": "AdamW", "lr": LR, "weight_decay": DECAY}}
    with pytest.raises(InputError, match="expected a backbone with numbered blocks, found none in Sequential"):
        LayerDecayConstructor(optimizer, {"decay_rate": 0.5})(model)


def test_custom_keys_that_occur_nowhere_are_refused():
    network = segformer(MIXTURE)
    settings = {"decay_rate": 1.0, "custom_keys": {"decode_haed": {"lr_mult": 10.0}}}
    optimizer = {"optimizer": {"type": "AdamW", "lr": LR, "weight_decay": DECAY}}
    with pytest.raises(InputError, match="found 'decode_haed', which occurs in none"):
        build_optim_wrapper(
            network, {"constructor": "gmmseg.LayerDecayConstructor", "paramwise_cfg": settings, **optimizer}
        )
