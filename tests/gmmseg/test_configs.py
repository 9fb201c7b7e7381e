"""Every config builds, trains a step and predicts; GMMSeg configs differ from their twins in the classifier alone."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from tests.gmmseg.networks import samples

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAMES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob("[!_]*/*.py"))
GENERATIVE = [name for name in NAMES if name.startswith("gmmseg/")]


def _plain(config):
    return config.to_dict() if hasattr(config, "to_dict") else config


def test_all_configs_are_found():
    assert GENERATIVE
    assert len(NAMES) > len(GENERATIVE)


@pytest.mark.parametrize("name", NAMES)
def test_config_trains_a_step_and_predicts(name):
    config = Config.fromfile(CONFIGS / name)
    init_default_scope(config.default_scope)
    backbone = config.model.backbone
    backbone.pretrained = False
    network = MODELS.build(config.model).train()
    classes = config.model.decode_head.num_classes
    losses = network(torch.randn(2, 3, 64, 96), samples(2, 64, 96, classes), mode="loss")
    loss, _ = network.parse_losses(losses)
    loss.backward()
    assert torch.isfinite(loss)
    with torch.no_grad():
        predicted = network.eval()(torch.randn(1, 3, 64, 96), mode="predict")
    assert predicted[0].seg_logits.data.shape == (classes, 64, 96)
    dataset = config.train_dataloader.dataset
    if "metainfo" in dataset:
        assert len(dataset.metainfo.classes) == classes


@pytest.mark.parametrize("name", GENERATIVE)
def test_generative_config_differs_from_its_twin_in_the_classifier_alone(name):
    ours = Config.fromfile(CONFIGS / name)
    twin = Config.fromfile(CONFIGS / "softmax" / Path(name).name.replace("-gmmseg", ""))
    for key in set(_plain(ours)) | set(_plain(twin)):
        if key != "model":
            assert ours.get(key) == twin.get(key), key
    model, twin_model = _plain(ours.model), _plain(twin.model)
    assert (model.pop("type"), twin_model.pop("type")) == ("gmmseg.GMMSegmentor", "EncoderDecoder")
    head, twin_head = model.pop("decode_head"), twin_model.pop("decode_head")
    assert head.pop("type").replace("gmmseg.", "").replace("GMMSeg", "") == twin_head.pop("type")
    assert head.pop("mixture")
    assert (model, head) == (twin_model, twin_head)


def test_street_scene_classes_are_the_generators():
    from anomaly.datasets.street_scenes import CLASSES, PALETTE

    meta = Config.fromfile(CONFIGS / "_base_/datasets/street_scenes.py").metainfo
    assert tuple(meta.classes) == tuple(CLASSES)
    assert [tuple(colour) for colour in meta.palette] == [tuple(colour) for colour in PALETTE]
