"""A training stops before a NaN or a wrong label spoils the network, and says where it came from."""

import copy
import re

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from PIL import Image

from anomaly.errors import InputError
from tests.gmmseg.tiny_training import assert_same, saved, train, write_images


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_images(folder)
    return folder


class Spoil(Hook):
    """Calls a function on the network before the third step; keeps what the network was before it."""

    def __init__(self, spoil):
        self.spoil = spoil

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 2:
            self.spoil(runner.model)
            self.model, self.parameters = runner.model, copy.deepcopy(dict(runner.model.named_parameters()))


def stop(root, work_dir, spoil, **options):
    """Train until the guard ends it; give its message, after checking that weights and files are the good ones."""
    hook = Spoil(spoil)
    with pytest.raises(InputError, match=r"^training stopped in step 3, before its update: ") as ended:
        train(root, work_dir, 4, hook, **options)
    assert_same(dict(hook.model.named_parameters()), hook.parameters)
    assert [path.name for path in work_dir.glob("*.pth*")] == ["iter_2.pth"]
    assert all(value.isfinite().all() for value in saved(work_dir, 2)["state_dict"].values())
    return str(ended.value)


def nan_corner(module, inputs, output):
    output = output.clone()
    output[0, :2, 1, 1] = torch.nan  # 2 of its values
    return output


@pytest.mark.slow
@pytest.mark.parametrize("head", ["gmm", "softmax"])
def test_nan_feature(root, tmp_path, head):
    softmax = {"model.type": "EncoderDecoder", "model.decode_head.type": "SegformerHead"}
    name = "backbone.layers.1.0.projection"

    def spoil(model):
        model.get_submodule(name).register_forward_hook(nan_corner)
        if head == "softmax":
            assert not hasattr(model.decode_head, "classifier")

    options = {} if head == "gmm" else {**softmax, "model.decode_head": without_mixture()}
    message = stop(root, tmp_path, spoil, **options)
    assert re.search(r"decode\.loss_ce is nan; the first layer with an output that is not finite is", message)
    # 2 images of 16 channels and 4 x 4 places
    assert f"{name} (Conv2d), with 2 NaN and 0 infinite of 512 values" in message
    assert "check that image or layer" in message


def without_mixture():
    from tests.gmmseg.tiny_training import network

    head = network()["decode_head"]
    del head["mixture"]
    return {"_delete_": True, **head, "type": "SegformerHead"}


def test_nan_gradient_of_a_finite_loss(root, tmp_path):
    def spoil(model):
        model.decode_head.fusion_conv.conv.weight.register_hook(lambda gradient: gradient * torch.nan)

    message = stop(root, tmp_path, spoil)
    assert "the gradient of decode_head.fusion_conv.conv.weight holds 1024 NaN and 0 infinite of 1024 values" in message
    assert "all layer outputs are finite" in message


def test_nan_in_the_mixture(root, tmp_path):
    def spoil(model):
        model.decode_head.classifier.mixture.stds[1, 0, :3] = torch.nan

    assert "decode_head.classifier.mixture.stds holds 3 NaN and 0 infinite of 96 values" in stop(root, tmp_path, spoil)


@pytest.mark.slow
def test_image_that_is_not_finite(root, tmp_path):
    def spoil(model):
        model.data_preprocessor.std[:] = 0

    assert re.search(
        r"the image .*/images/\d.png \(.*\) is not finite after preprocessing", stop(root, tmp_path, spoil)
    )


@pytest.mark.slow
def test_no_checkpoint_of_a_spoilt_network(root, tmp_path):
    class AfterTheUpdate(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            runner.model.decode_head.fusion_conv.bn.running_var[0] = torch.inf

    with pytest.raises(
        InputError, match=r"no checkpoint was written, because .*running_var holds 0 NaN and 1 infinite"
    ):
        train(root, tmp_path, 4, AfterTheUpdate(), **{"default_hooks.checkpoint.priority": 100})
    assert not list(tmp_path.glob("*.pth*"))


@pytest.mark.slow
def test_guard_can_be_left_out(root, tmp_path):
    hook = Spoil(lambda model: model.backbone.layers[0][0].projection.weight.data.mul_(torch.nan))
    runner = train(root, tmp_path, 3, hook, **{"default_hooks.guard": None})
    assert runner.iter == 3


@pytest.mark.slow
@pytest.mark.parametrize(("value", "options"), [(3, {}), (0, {"reduce_zero_label": True}), (254, {})])
def test_label_outside_the_classes(tmp_path, value, options):
    write_images(tmp_path / "data", 1, labels=(1, 2, 255))
    path = tmp_path / "data/labels/0.png"
    label = np.array(Image.open(path))
    label[20, 10] = value
    Image.fromarray(label).save(path)
    whole = {"type": "RandomCrop", "crop_size": (40, 56)}
    sizes = {"model.data_preprocessor.size": (40, 56), "train_dataloader.dataset.pipeline.2": whole}
    run = {"root": tmp_path / "data", "work_dir": tmp_path / "run", "max_iters": 1}
    options = {f"train_dataloader.dataset.{key}": flag for key, flag in options.items()}
    if options:  # 0 becomes the label to ignore
        train(**run, **sizes, **options)
        return
    with pytest.raises(InputError) as ended:
        train(**run, **sizes)
    assert str(ended.value).startswith("step 1: expected the labels 0 to 2")
    assert f"in {tmp_path / 'data/images/0.png'} ({path}), found {value};" in str(ended.value)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["decode_head.num_classes", "decode_head"])
def test_class_count_of_another_data_set(root, tmp_path, head):
    from tests.gmmseg.tiny_training import network

    cascade = [dict(network()["decode_head"], num_classes=n) for n in (3, 5)]
    model = {"type": "gmmseg.CascadeGMMSegmentor", "num_stages": 2} if head == "decode_head" else {}
    options = {f"model.{key}": value for key, value in {head: cascade if model else 5, **model}.items()}
    with pytest.raises(InputError, match=r"num_classes=5, and the data of train_dataloader have 3 classes \(road, sky"):
        train(root, tmp_path, **options)


@pytest.mark.slow
def test_image_that_cannot_be_read_is_named(tmp_path):
    write_images(tmp_path / "data", 1)
    (tmp_path / "data/images/0.png").write_bytes(b"no image")
    for workers in (0, 1):
        with pytest.raises(InputError, match=r"^[^\n]*images/0.png cannot be read: [^\n]*$"):
            train(tmp_path / "data", tmp_path / "run", **{"train_dataloader.num_workers": workers})


def test_generative_head_needs_a_segmentor_that_hands_its_likelihoods_on(root, tmp_path):
    with pytest.raises(InputError, match=r"EncoderDecoder would discard .* set model\.type='gmmseg\.GMMSegmentor'"):
        train(root, tmp_path, 1, **{"model.type": "EncoderDecoder"})
