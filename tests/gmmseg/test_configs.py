"""Every network of the configs builds, trains a step and predicts, without the internet; GMMSeg configs differ from
their twins in the classifier alone; the twins are mmseg's own configs wherever mmseg has them."""

import copy
import functools
import itertools
import json
import os
import re
import socket
import sys
from pathlib import Path

import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS

import model_table
from anomaly.models.mmseg import build_model
from gmmseg.settings import MixtureSettings
from tests.gmmseg.networks import samples

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
MMSEG = Path(mmseg.__file__).parent / ".mim" / "configs"

NETWORKS = [
    *(f"segformer_mit-b{number}" for number in range(6)),
    "deeplabv3plus_r101-d8",
    "ocrnet_hr48",
    "upernet_swin-b",
    "fcn_r101-d8",
]
CLASSES = {"cityscapes-768x768": 19, "cityscapes-1024x1024": 19, "ade20k-512x512": 150, "coco-stuff10k-512x512": 171}
PAPER = {
    "embed_dim": 64,
    "memory_size": 32_000,
    "max_samples": 20,
    "em_interval": 5,
    "mean_momentum": 0.999,
    "std_momentum": 0.0,
    "sinkhorn_epsilon": 0.05,
    "sinkhorn_iterations": 3,
    "contrast_weight": 0.01,
}

NAMES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob("[!_]*/*.py"))
GENERATIVE = [name for name in NAMES if name.startswith("gmmseg/")]
# Backbones of transformers, which neither the paper nor mmseg has.
MODERN = [name for name in NAMES if re.search("_(dinov2|convnext)-", name)]
LARGE = [name for name in NAMES if name.endswith(tuple(f"_{data}.py" for data in CLASSES)) and name not in MODERN]
LARGE_GENERATIVE = [name for name in LARGE if name in GENERATIVE]
LARGE_TWINS = [name for name in LARGE if name.startswith("softmax/")]
# Each network is trained with the classes of one dataset: configs for others are shown to differ in little.
TRAINED = [name for name in NAMES if name not in LARGE or "_ade20k-" in name]
# One of each family is enough while working.
FAST = [name for name in LARGE_GENERATIVE if "_ade20k-" in name and not re.search("mit-b[1-5]", name)]
SLOW = [name for name in (*LARGE, *MODERN) if name not in FAST and "gmmseg_dinov2-s" not in name]

# Where mmseg has a config of the same network, data and crop, under its own name.
SHIPPED = {
    name: f"swin/swin-base-patch4-window7-in1k-pre_{name.removeprefix('softmax/').replace('_swin-b', '')}"
    if "swin" in name
    else f"{name.removeprefix('softmax/').split('_')[0]}/{name.removeprefix('softmax/')}"
    for name in LARGE_TWINS
}
SHIPPED = {ours: theirs for ours, theirs in SHIPPED.items() if (MMSEG / theirs).is_file()}


def read(name):
    return copy.deepcopy(read_once(CONFIGS / name, os.environ.get("DATA_ROOT")))


@functools.cache
def read_once(path, data_root):
    return Config.fromfile(path)


def network_and_data(name):
    """Names of the network (with its family) and of the data (with its crop) in a config's name."""
    parts = Path(name).stem.replace("-gmmseg", "").split("_")
    return "_".join(parts[:2]), parts[-1]


def last(head):
    return head[-1] if isinstance(head, list) else head


def plain(value):
    """A config's value as JSON knows it: no difference between lists and tuples; None counts as not given."""
    value = json.loads(json.dumps(value.to_dict() if hasattr(value, "to_dict") else value))
    return drop_none(value)


def drop_none(value):
    if isinstance(value, dict):
        return {key: drop_none(entry) for key, entry in value.items() if entry is not None}
    return [drop_none(entry) for entry in value] if isinstance(value, list) else value


@pytest.fixture
def no_internet(monkeypatch):
    def refuse(*address, **_):
        raise AssertionError(f"asked for {address}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_all_configs_are_found():
    wanted = set(itertools.product(NETWORKS, CLASSES))
    for large in (LARGE_GENERATIVE, LARGE_TWINS):
        assert len(large) == 40
        assert {network_and_data(name) for name in large} == wanted
    assert len(FAST) == 5
    others = [name for name in NAMES if name not in LARGE]
    assert {Path(name).parts[0] for name in others} == {"gmmseg", "softmax", "demo"}
    assert len(SHIPPED) == 16
    assert len(MODERN) == 10


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in TRAINED])
def test_config_trains_a_step_and_predicts(name, no_internet):
    config = read(name)
    init_default_scope(config.default_scope)
    if "pretrained" in config.model.backbone:
        config.model.backbone.pretrained = False
    head = last(config.model.decode_head)
    if "mixture" in head:
        head.mixture.memory_size = 8  # what the full size changes is memory and time
    network = revert_sync_batchnorm(MODELS.build(config.model)).train()
    assert network.backbone.training != config.model.backbone.get("frozen", False)
    classes = head.num_classes
    losses = network(torch.randn(2, 3, 32, 64), samples(2, 32, 64, classes), mode="loss")
    loss, _ = network.parse_losses(losses)
    loss.backward()
    assert torch.isfinite(loss)
    unused = [key for key, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not unused, "distributed training stops on weights without a gradient"
    with torch.no_grad():
        predicted = network.eval()(torch.randn(1, 3, 32, 64), mode="predict")
    assert predicted[0].seg_logits.data.shape == (classes, 32, 64)
    assert torch.isfinite(predicted[0].seg_logits.data).all()


def places_that_differ(one, other, place=""):
    """Where two configs have other values."""
    if isinstance(one, dict) and isinstance(other, dict):
        parts = [(f"{place}.{key}", one.get(key), other.get(key)) for key in {**one, **other}]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        parts = [(place, *pair) for pair in zip(one, other, strict=True)]
    else:
        return set() if one == other else {place}
    return {found for name, first, second in parts for found in places_that_differ(first, second, name)}


@pytest.mark.parametrize("name", [name for name in LARGE if name not in TRAINED])
def test_networks_for_other_data_differ_in_crop_and_classes_alone(name):
    (trained,) = [
        other
        for other in TRAINED
        if other in LARGE and Path(other).parent == Path(name).parent and same_network(other, name)
    ]
    differing = places_that_differ(plain(read(trained).model), plain(read(name).model))
    crop = {".data_preprocessor.size", ".test_cfg.mode", ".test_cfg.crop_size", ".test_cfg.stride"}
    heads = {".decode_head.num_classes", ".auxiliary_head.num_classes"}
    assert differing <= crop | heads | {".decode_head.mixture.num_components"}


def same_network(one, other):
    return network_and_data(one)[0] == network_and_data(other)[0]


@pytest.mark.parametrize("name", NAMES)
def test_heads_have_the_classes_of_the_data(name):
    config = read(name)
    dataset = config.train_dataloader.dataset
    meta = dataset.get("metainfo") or DATASETS.get(dataset.type).METAINFO
    heads = [config.model.decode_head, config.model.get("auxiliary_head") or []]
    heads = [head for some in heads for head in (some if isinstance(some, list) else [some])]
    assert {head.num_classes for head in heads} == {len(meta["classes"])}
    if name in LARGE:
        assert len(meta["classes"]) == CLASSES[network_and_data(name)[1]]


@pytest.mark.parametrize("name", NAMES)
def test_config_stands_alone(name):
    config = read(name)
    assert "custom_imports" not in config
    assert config.default_hooks.checkpoint.max_keep_ckpts == 2


@pytest.mark.parametrize("name", FAST)
def test_dump_in_a_work_dir_is_the_same_config(name):
    config = read(name)
    assert plain(Config.fromstring(config.pretty_text, ".py")) == plain(config)


@pytest.mark.parametrize("name", LARGE + MODERN)
def test_name_says_batch_length_and_crop(name, monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    config = read(name)
    batch, length, height, width = map(int, re.search(r"\dxb(\d)-(\d+)k_.*-(\d+)x(\d+)\.py", name).groups())
    assert config.train_dataloader.batch_size == batch
    assert config.train_cfg.max_iters == length * 1000 == config.param_scheduler[-1].end
    crops = [step.crop_size for step in config.train_dataloader.dataset.pipeline if step.type == "RandomCrop"]
    assert crops == [(height, width)] == [config.model.data_preprocessor.size]
    slides = {768: (512, 512), 770: (512, 512), 1024: (768, 768)}
    whole = {"mode": "whole"}
    wanted = {"mode": "slide", "crop_size": (height, width), "stride": slides[height]} if height in slides else whole
    assert config.model.test_cfg == wanted
    assert config.train_dataloader.dataset.data_root.startswith("data/")


@pytest.mark.parametrize("name", GENERATIVE)
def test_generative_config_differs_from_its_twin_in_the_classifier_alone(name):
    ours = plain(read(name))
    twin = plain(read(f"softmax/{Path(name).name.replace('-gmmseg', '')}"))
    ours.pop("mixture")  # the base that the head takes it from
    assert ours.pop("custom_hooks") == [{"type": "gmmseg.MixtureMonitorHook"}]
    model, twin_model = ours.pop("model"), twin.pop("model")
    assert ours == twin
    segmentors = {"EncoderDecoder": "gmmseg.GMMSegmentor", "CascadeEncoderDecoder": "gmmseg.CascadeGMMSegmentor"}
    assert model.pop("type") == segmentors[twin_model.pop("type")]
    head, twin_head = last(model["decode_head"]), last(twin_model["decode_head"])
    assert head.pop("type").replace("gmmseg.", "").replace("GMMSeg", "") == twin_head.pop("type")
    assert head.pop("mixture")
    assert model == twin_model


@pytest.mark.parametrize("name", LARGE_GENERATIVE + [name for name in MODERN if name in GENERATIVE])
def test_mixture_settings_are_the_papers(name):
    settings = MixtureSettings.from_config(last(read(name).model.decode_head).mixture)
    assert {key: getattr(settings, key) for key in PAPER} == PAPER
    assert settings.num_components == (8 if "_ade20k-" in name else 5)


@pytest.mark.parametrize("name", LARGE)
def test_head_learns_ten_times_faster_in_segformer_alone(name):
    config = read(name)
    keys = config.optim_wrapper.get("paramwise_cfg", {}).get("custom_keys", {})
    assert keys.get("head", {}) == ({"lr_mult": 10.0} if "segformer" in name else {})
    if "mit-b0_" not in name:
        return
    last(config.model.decode_head).get("mixture", {}).update(memory_size=8)
    init_default_scope(config.default_scope)
    network = MODELS.build(config.model)
    optimizer = build_optim_wrapper(network, config.optim_wrapper).optimizer
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    for key, weight in network.named_parameters():
        assert rates[id(weight)] == pytest.approx(6e-4 if key.startswith("decode_head") else 6e-5), key


# Millions of parameters without a classifier, as timm counts those of vit_small_patch14_dinov2,
# vit_base_patch14_dinov2 and convnext_base.
MILLIONS = {"dinov2-s": 22.06, "dinov2-b": 86.58, "convnext-b": 87.57}


@pytest.mark.parametrize("name", [name for name in MODERN if name in GENERATIVE])
def test_modern_network_needs_no_weights_for_evaluation(name, no_internet):
    config = read(name)
    assert config.model.backbone.pretrained
    network = build_model(config)
    assert config.model.backbone.pretrained, "the config itself stays as it is"
    backbone = network.backbone
    counts = {key: value.numel() for key, value in backbone.named_parameters()}
    counted = sum(count for key, count in counts.items() if not re.search("mask_token|hidden_states_norms", key))
    size = re.search("gmmseg_(.+?)(-frozen)?_", name)
    assert counted / 1e6 == pytest.approx(MILLIONS[size[1]], abs=0.01)
    assert backbone.frozen == bool(size[2])
    optimizer = build_optim_wrapper(network, config.optim_wrapper).optimizer
    rates = {id(value): group["lr"] for group in optimizer.param_groups for value in group["params"]}
    rates = {key: rates[id(value)] for key, value in network.named_parameters() if value.requires_grad}
    assert {rates[key] for key in rates if key.startswith("decode_head")} == {1e-3 if size[2] else 1e-4}
    stem = [rate for key, rate in rates.items() if "embeddings" in key and key.startswith("backbone")]
    layers, decay = (37, 0.9 ** (1 / 3)) if size[1] == "convnext-b" else (13, 0.8)
    assert stem == pytest.approx([1e-4 * decay**layers] * len(stem), rel=2e-3)
    assert bool(stem) != bool(size[2])
    side = config.train_dataloader.dataset.pipeline[3].crop_size[0]
    assert side % backbone.network.config.patch_size == 0


@pytest.mark.parametrize("name", SHIPPED)
def test_twin_is_mmsegs_own_config(name, monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    ours, theirs = plain(read(name)), plain(read_once(MMSEG / SHIPPED[name], None))
    if "pretrained" in theirs["model"]:  # mmseg's older way to write the same
        weights = {"type": "Pretrained", "checkpoint": theirs["model"].pop("pretrained")}
        theirs["model"]["backbone"]["init_cfg"] = weights
    if re.search("mit-b[2-5]", name):  # as SegFormer's paper has it
        assert ours["model"]["decode_head"].pop("channels") == 768
        assert theirs["model"]["decode_head"].pop("channels") == 256
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for config in (ours, theirs):
            del config[loader]["num_workers"]
            config[loader]["dataset"]["data_root"] = config[loader]["dataset"]["data_root"].rstrip("/")
    loaders = ("train_dataloader", "val_dataloader", "test_dataloader", "val_evaluator", "test_evaluator")
    for key in ("model", "optim_wrapper", "param_scheduler", "train_cfg", *loaders):
        assert ours[key] == theirs[key], key


@pytest.mark.parametrize("name", LARGE)
def test_backbone_weights_are_mmsegs(name):
    network = network_and_data(name)[0]
    (shipped,) = [
        read_once(MMSEG / theirs, None).model
        for twin, theirs in SHIPPED.items()
        if network_and_data(twin) == (network, "ade20k-512x512")
    ]
    address = shipped.get("pretrained") or shipped.backbone.init_cfg.checkpoint
    assert read(name).model.backbone.init_cfg == {"type": "Pretrained", "checkpoint": address}


def test_backbone_weights_are_asked_for_when_training_starts(no_internet, monkeypatch):
    asked = []

    def no_download(address, **_):
        asked.append(address)
        raise ConnectionError

    monkeypatch.setattr("mmengine.runner.checkpoint.load_url", no_download)
    config = read("softmax/segformer_mit-b0_8xb2-160k_ade20k-512x512.py")
    init_default_scope(config.default_scope)
    network = MODELS.build(config.model)
    assert not asked
    with pytest.raises(ConnectionError):
        network.init_weights()  # mmengine's runner calls it in train() alone
    assert asked == [config.model.backbone.init_cfg.checkpoint]


@pytest.mark.parametrize(
    ("data", "folders"),
    [
        ("cityscapes-768x768", "cityscapes leftImg8bit/train gtFine/train leftImg8bit/val gtFine/val"),
        (
            "ade20k-512x512",
            "ade/ADEChallengeData2016 images/training annotations/training images/validation annotations/validation",
        ),
        (
            "coco-stuff10k-512x512",
            "coco_stuff10k images/train2014 annotations/train2014 images/test2014 annotations/test2014",
        ),
    ],
)
def test_data_lie_where_mmsegs_documents_put_them(data, folders, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", "elsewhere")
    root, *folders = folders.split()
    (name,) = [name for name in LARGE_TWINS if network_and_data(name) == ("fcn_r101-d8", data)]
    config = read(name)
    loaders = (config.train_dataloader, config.val_dataloader)
    assert [prefix for loader in loaders for prefix in loader.dataset.data_prefix.values()] == folders
    assert {loader.dataset.data_root for loader in loaders} == {f"elsewhere/{root}"}


def test_street_scene_classes_are_the_generators():
    from anomaly.datasets.street_scenes import CLASSES, PALETTE

    meta = Config.fromfile(CONFIGS / "_base_/datasets/street_scenes.py").metainfo
    assert tuple(meta.classes) == tuple(CLASSES)
    assert [tuple(colour) for colour in meta.palette] == [tuple(colour) for colour in PALETTE]


@pytest.mark.slow
def test_model_table_is_what_the_tool_writes(tmp_path, monkeypatch):
    document = (ROOT / "docs/models.md").read_text()
    emptied, removed = re.subn(r"(?m)^\|.*gmmseg/.*\n", "", document)
    copy = tmp_path / "models.md"
    copy.write_text(emptied)
    monkeypatch.setattr(sys, "argv", ["model_table.py", "--file", str(copy)])
    model_table.main()
    assert removed == len(GENERATIVE)
    assert copy.read_text() == document, "run python tools/dev/model_table.py"


def test_published_figures_are_mmsegs():
    rows = re.findall(r"\[softmax\]\(\.\./configs/(\S+)\) \| ([\d.]*) \|", (ROOT / "docs/models.md").read_text())
    cited = {name: float(figure) for name, figure in rows if figure}
    assert len(cited) == 8
    for name, figure in cited.items():
        theirs = Path(SHIPPED[name])
        entries = re.split(r"(?m)^- Name: ", (MMSEG / theirs.parent / "metafile.yaml").read_text())
        # mmseg gives two entries this name, one of them of another length
        entries = [entry for entry in entries if entry.startswith(f"{theirs.stem}\n") and "80k_ade" not in entry]
        (found,) = {float(re.search(r"mIoU: ([\d.]+)", entry)[1]) for entry in entries}
        assert found == figure
