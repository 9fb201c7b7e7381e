"""Backbones of transformers give what the library's own give, and say in one sentence what is wrong with a config."""

import copy
import json
import shutil
import sys

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from anomaly.errors import InputError
from anomaly.models.mmseg import quiet_mmengine
from anomaly.results.records import read_results
from gmmseg.models import TransformersBackbone
from tests.commands import status_of
from tests.gmmseg.networks import MIXTURE, samples
from tests.gmmseg.tiny_training import StopAt, assert_same, logged_losses, saved, train, write_images

transformers = pytest.importorskip("transformers")

VIT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
DINOV2 = {"model_type": "dinov2", **VIT, "patch_size": 14, "image_size": 56}
DINOV3 = {"model_type": "dinov3_vit", **VIT, "patch_size": 16, "intermediate_size": 64, "num_register_tokens": 2}
SWIN = {"model_type": "swin", "embed_dim": 16, "depths": [1, 1, 2], "num_heads": [1, 2, 4], "window_size": 4}
WIDTHS = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
CONVNEXT = {"model_type": "convnext", **WIDTHS}
RESNET = {"model_type": "resnet", "embedding_size": 8, **WIDTHS}
# With the stages that are asked for, their channels, and their sizes on an image of 112 x 224 pixels.
NETWORKS = {
    "dinov2": (DINOV2, [1, 2, 3], (32,) * 3, [(8, 16)] * 3),
    "dinov3": (DINOV3, [1, 3], (32,) * 2, [(7, 14)] * 2),
    "swin": (SWIN, [1, 2, 3], (16, 32, 64), [(28, 56), (14, 28), (7, 14)]),
    "convnext": (CONVNEXT, [1, 2, 4], (8, 16, 32), [(28, 56), (14, 28), (3, 7)]),
    "resnet": (RESNET, [1, 2, 3, 4], (8, 16, 24, 32), [(28, 56), (14, 28), (7, 14), (4, 7)]),
}
ALL = pytest.mark.parametrize("kind", NETWORKS)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def library_backbone(config, stages, seed=0):
    """The library's own backbone with random weights; all of them, so that no layer scale or norm is the identity."""
    settings = transformers.AutoConfig.for_model(**config, out_indices=stages)
    torch.manual_seed(seed)
    network = transformers.AutoBackbone.from_config(settings).eval()
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1) if value.ndim < 2 else value.normal_(std=0.1)
    return network


@ALL
def test_maps_are_the_librarys(kind):
    config, stages, channels, sizes = NETWORKS[kind]
    expected = library_backbone(config, stages)
    backbone = TransformersBackbone(config=ConfigDict(config), stages=stages).eval()
    backbone.network.load_state_dict(expected.state_dict())
    image = torch.randn(2, 3, 112, 224)
    with torch.no_grad():
        maps, wanted = backbone(image), expected(image).feature_maps
    assert isinstance(maps, tuple)
    assert backbone.out_channels == channels == tuple(each.shape[1] for each in maps)
    assert [tuple(each.shape[2:]) for each in maps] == sizes
    for one, other in zip(maps, wanted, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@ALL
def test_weights_of_a_folder_are_loaded(kind, tmp_path, capfd):
    config, stages, *_ = NETWORKS[kind]
    stored = library_backbone(config, stages)
    stored.save_pretrained(tmp_path)
    wanted = stored.state_dict()
    capfd.readouterr()
    by_folder = TransformersBackbone(str(tmp_path), stages=stages, pretrained=True)
    spelt_out = TransformersBackbone(str(tmp_path), config, stages, pretrained=True)
    for backbone in (by_folder, spelt_out):
        assert any(not torch.equal(value, wanted[key]) for key, value in backbone.network.state_dict().items())
        with quiet_mmengine():
            backbone.init_weights()
        weights = backbone.network.state_dict()
        assert weights.keys() == wanted.keys()
        assert all(torch.equal(value, weights[key]) for key, value in wanted.items())
    assert capfd.readouterr() == ("", "")
    random = TransformersBackbone(str(tmp_path), config, stages)
    before = copy.deepcopy(random.network.state_dict())
    random.init_weights()  # mmengine calls it for every network
    assert all(torch.equal(value, before[key]) for key, value in random.network.state_dict().items())


@pytest.mark.parametrize("kind", ["dinov2", "swin", "convnext"])
def test_weights_of_the_plain_model_are_loaded(kind, tmp_path):
    config, stages, *_ = NETWORKS[kind]
    torch.manual_seed(0)
    plain = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**config)).eval()
    plain.half().save_pretrained(tmp_path)
    backbone = TransformersBackbone(str(tmp_path), config, stages, pretrained=True).eval()
    backbone.init_weights()
    weights = {key.removeprefix(f"{kind}."): value for key, value in backbone.network.state_dict().items()}
    for key, value in plain.state_dict().items():
        if key in weights:
            assert weights[key].dtype == torch.float32
            assert torch.equal(weights[key], value.float())
    assert len(weights.keys() & plain.state_dict().keys()) > 20
    for value in backbone.network.parameters():
        value.data += 1  # as training would
    trained = copy.deepcopy(backbone.network.state_dict())
    backbone.init_weights()
    assert all(torch.equal(value, trained[key]) for key, value in backbone.network.state_dict().items())


@pytest.mark.parametrize(("side", "nearest"), [(50, 56), (48, 42), (5, 14), (56, 56)])
def test_images_are_resized_to_whole_patches(side, nearest):
    backbone = TransformersBackbone(config=DINOV2, stages=[1, -1]).eval()
    image = torch.randn(1, 3, side, 70)
    resized = F.interpolate(image, (nearest, 70), mode="bilinear")
    with torch.no_grad():
        assert all(torch.equal(*pair) for pair in zip(backbone(image), backbone(resized), strict=True))
    assert backbone(image)[0].shape[2:] == (nearest // 14, 5)


def test_default_is_the_last_stage():
    assert len(TransformersBackbone(config=DINOV2)(torch.zeros(1, 3, 28, 28))) == 1
    assert TransformersBackbone(config=CONVNEXT).out_channels == (32,)


def test_only_what_the_maps_depend_on_has_gradients():
    backbone = TransformersBackbone(config=DINOV2, stages=[1, 2])
    fixed = {key for key, parameter in backbone.named_parameters() if not parameter.requires_grad}
    assert "network.embeddings.mask_token" in fixed
    assert {key for key in fixed if "encoder" in key} == {
        key for key in dict(backbone.named_parameters()) if "layer.2." in key
    }
    sum(each.sum() for each in backbone(torch.randn(1, 3, 28, 28))).backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("config", [DINOV2, RESNET], ids=["dinov2", "resnet"])
def test_frozen_backbone_stays_as_it_is(config):
    init_default_scope("mmseg")
    channels = [32] * 2 if config is DINOV2 else [16, 32]
    head = {"type": "gmmseg.SegformerGMMSegHead", "mixture": MIXTURE, "in_channels": channels, "in_index": [0, 1]}
    head |= {"channels": 24, "num_classes": 5, "norm_cfg": {"type": "BN"}}
    stages = [1, 3] if config is DINOV2 else [2, 4]
    backbone = {"type": "gmmseg.TransformersBackbone", "config": config, "stages": stages, "frozen": True}
    network = MODELS.build({"type": "gmmseg.GMMSegmentor", "backbone": backbone, "decode_head": head}).train()
    assert network.training
    assert not any(module.training for module in network.backbone.modules())
    assert not any(parameter.requires_grad for parameter in network.backbone.parameters())
    before = copy.deepcopy(network.backbone.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.1)
    image = torch.randn(2, 3, 56, 70)
    assert not any(each.requires_grad for each in network.backbone(image))
    loss, _ = network.parse_losses(network(image, samples(2, 56, 70), mode="loss"))
    loss.backward()
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in network.backbone.state_dict().items())
    network.eval()
    assert not network.train().backbone.training


def refused(*parts, **arguments):
    with pytest.raises(InputError) as error:
        TransformersBackbone(**arguments).init_weights()
    message = str(error.value)
    assert message.startswith("TransformersBackbone")
    assert "\n" not in message
    assert ". " not in message, message
    for part in parts:
        assert part in message, message


def test_bad_architectures_are_refused():
    refused("found neither")
    refused("without a name", config=DINOV2, pretrained=True)
    refused("found 'dinov9'", config={"model_type": "dinov9"})
    refused("model_type", config={"hidden_size": 32})
    refused("Dinov2Config", "'num_layers'", config={**DINOV2, "num_layers": 3})
    refused("'bert'", "no backbone class", config={"model_type": "bert"})
    refused("'bert'", "no backbone class", config={"model_type": "bert"}, stages=[1])
    refused("expected int, got str", config={**DINOV2, "hidden_size": "wide"})
    refused("'swin' can be built", config={**SWIN, "num_heads": [3, 3, 3]})
    for stages in ([4], [-5], [2, 1], [1, 1], [], ["stage1"], 2):
        refused("stages of 0 (stem) to 3 (stage3)", repr(stages), config=DINOV2, stages=stages)


def test_weights_that_cannot_be_had_are_refused(tmp_path):
    refused("facebook/dinov2-small", "folder", name="facebook/dinov2-small")
    hub = {"name": "facebook/dinov2-small", "config": DINOV2, "pretrained": True}
    refused("facebook/dinov2-small", "folder", **hub)
    assert TransformersBackbone(**{**hub, "pretrained": False}).out_channels == (32,)
    folder = {"name": str(tmp_path), "pretrained": True}
    refused(str(tmp_path), "config.json", **folder)
    network = library_backbone(DINOV2, [3])
    network.config.save_pretrained(tmp_path)
    refused(str(tmp_path), "safetensors", **folder)
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    refused(str(tmp_path), "safetensors", **folder)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    refused(str(tmp_path), "safetensors", **folder)


def test_weights_of_another_architecture_are_refused(tmp_path):
    library_backbone(DINOV2, [3]).save_pretrained(tmp_path)
    folder = {"name": str(tmp_path), "pretrained": True}
    refused("model_type='dinov2'", "'swin'", config=SWIN, **folder)
    refused("num_attention_heads=2", "found 4", config={**DINOV2, "num_attention_heads": 4}, **folder)
    refused("embeddings.", "32)", "64)", config={**DINOV2, "hidden_size": 64}, **folder)
    refused("tensors missing", "layer.3.", config={**DINOV2, "num_hidden_layers": 4}, **folder)
    stored = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**stored, "model_type": "bert", "architectures": ["Bert"]}))
    refused("'bert'", **folder)


def test_code_of_a_model_is_never_run(tmp_path):
    library_backbone(DINOV2, [3]).save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    classes = {"AutoConfig": "mine.Config", "AutoBackbone": "mine.Net"}
    (tmp_path / "config.json").write_text(json.dumps({**stored, "model_type": "mine", "auto_map": classes}))
    (tmp_path / "mine.py").write_text("raise SystemExit('ran')")
    refused(str(tmp_path), name=str(tmp_path), pretrained=True)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"TransformersBackbone needs the package 'transformers'.*\[transformers\]"):
        TransformersBackbone(config=DINOV2)


@pytest.mark.slow
def test_training_on_a_frozen_backbone_resumes_exactly_and_is_evaluated(tmp_path):
    write_images(tmp_path / "data")
    stored = library_backbone(DINOV2, [1, 3])
    stored.save_pretrained(tmp_path / "weights")
    on_it = {"type": "gmmseg.TransformersBackbone", "name": str(tmp_path / "weights"), "config": DINOV2}
    on_it |= {"stages": [1, 3], "pretrained": True, "frozen": True}
    options = {"model.backbone": {"_delete_": True, **on_it}, "train_dataloader.num_workers": 1}
    options |= {"model.decode_head.in_channels": [32, 32], "model.decode_head.in_index": [0, 1]}
    whole = train(tmp_path / "data", tmp_path / "whole", 4, **options)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "data", tmp_path / "parts", 4, StopAt(3), **options)
    train(tmp_path / "data", tmp_path / "parts", 4, resume=True, **options)
    expected, resumed = saved(tmp_path / "whole", 4), saved(tmp_path / "parts", 4)
    for part in ("state_dict", "optimizer", "param_schedulers"):
        assert_same(expected[part], resumed[part])
    assert logged_losses(tmp_path / "whole") == logged_losses(tmp_path / "parts")
    for key, value in stored.state_dict().items():
        assert torch.equal(value, expected["state_dict"][f"backbone.network.{key}"])

    shutil.rmtree(tmp_path / "weights")  # training needs them, evaluation does not
    with pytest.raises(InputError, match=r"^TransformersBackbone: name .*expected a folder, or a hub id"):
        train(tmp_path / "data", tmp_path / "another", 4, **options)
    config = whole.cfg.copy()
    config.test_pipeline = [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "scale": (56, 40)},
        {"type": "PackSegInputs"},
    ]
    config.dump(tmp_path / "config.py")
    folder = ["--folder", tmp_path / "data/images", tmp_path / "data/labels"]
    folder += ["--label-values", "0=known", "1=known", "2=anomaly", "255=ignore"]
    words = [tmp_path / "config.py", tmp_path / "whole/iter_4.pth", *folder, "--out", tmp_path / "out"]
    assert status_of("anomaly evaluate", *words) == 0
    assert "gmm_nll" in read_results(tmp_path / "out/results.json").datasets[0].scores
