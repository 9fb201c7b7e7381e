import os

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from anomaly.errors import InputError
from anomaly.models.checkpoints import check_classes, load_checkpoint_file, load_weights
from tests.gmmseg.networks import MIXTURE, segformer


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_payload_is_refused_and_does_not_run(tmp_path):
    checkpoint = tmp_path / "hostile.pth"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "meta": Payload(tmp_path / "ran")}, checkpoint)
    with pytest.raises(InputError, match=r"hostile\.pth was refused: .* found posix\.mkdir"):
        load_checkpoint_file(checkpoint)
    assert not (tmp_path / "ran").exists()


class GetattrPayload:
    def __reduce__(self):
        return getattr, (np.ndarray, "tofile")


def test_getattr_beyond_log_histories_is_refused(tmp_path):
    torch.save({"state_dict": {}, "meta": GetattrPayload()}, tmp_path / "hostile.pth")
    with pytest.raises(InputError, match="was refused"):
        load_checkpoint_file(tmp_path / "hostile.pth")


class ArrayOfPointers:
    """Asks numpy for an array of objects at an address of the file's choosing."""

    def __reduce__(self):
        return np.ndarray, ((1,), np.dtype("O"), b"A" * 8)


@pytest.mark.parametrize("content", [ArrayOfPointers(), np.array([object], dtype=object)])
def test_array_of_objects_is_refused(tmp_path, content):
    torch.save({"state_dict": {}, "meta": content}, tmp_path / "hostile.pth")
    with pytest.raises(InputError, match="was refused"):
        load_checkpoint_file(tmp_path / "hostile.pth")


def test_numbers_of_numpy_become_plain_ones(tmp_path):
    numbers = [np.float32(1.5), np.float64(-2), np.int64(2**40), np.uint8(200), np.bool_(True), np.array([1, 2])]
    torch.save({"state_dict": {}, "meta": {"numbers": numbers}}, tmp_path / "numbers.pth")
    read = load_checkpoint_file(tmp_path / "numbers.pth")["meta"]["numbers"]
    assert read[:-1] == [1.5, -2.0, 2**40, 200, True]
    assert [type(number) for number in read[:-1]] == [float, float, int, int, bool]


def test_training_checkpoint_of_mmengine_is_read(tmp_path):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    messages = {
        "log_scalars": {"train/loss": history},
        "runtime_info": {"iter": np.int64(3), "lr": np.float64(0.1)},
    }
    torch.save({"state_dict": {"a": torch.ones(2)}, "message_hub": messages}, tmp_path / "iter_3.pth")
    assert load_checkpoint_file(tmp_path / "iter_3.pth")["state_dict"]["a"].tolist() == [1, 1]


def test_bare_state_dict_is_read(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "bare.pth")
    assert list(load_checkpoint_file(tmp_path / "bare.pth")["state_dict"]) == ["a"]


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pth does not exist"):
        load_checkpoint_file(tmp_path / "nowhere.pth")
    torch.save({"state_dict": segformer().state_dict()}, tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    for name, part in [
        ("half.pth", content[: len(content) // 2]),
        ("empty.pth", b""),
        ("text.pth", b"hello"),
    ]:
        (tmp_path / name).write_bytes(part)
        with pytest.raises(InputError, match=rf"{name} cannot be read.*copy it again"):
            load_checkpoint_file(tmp_path / name)
    for content in ([1, 2], {"state_dict": [1]}, {"state_dict": None}, {"state_dict": {"a": 3}}):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(InputError, match="expected a state_dict of named tensors, found none"):
            load_checkpoint_file(tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: segformer(mixture=None), "missing decode_head.projection.conv.weight"),
        (lambda: segformer(num_classes=7), "size mismatch"),
        (lambda: segformer(channels=16), "tensors do not fit"),
    ],
)
def test_checkpoint_of_another_network_is_refused(other, message):
    with pytest.raises(InputError, match=message) as caught:
        load_weights(segformer(), other().state_dict(), "other.pth")
    assert "use the config it was trained with" in str(caught.value)


def test_start_from_another_network_names_what_is_not_loaded():
    faults = load_weights(segformer(), segformer(mixture=None).state_dict(), "softmax.pth", whole=False)
    assert "left over decode_head.conv_seg.weight" in faults
    assert "missing decode_head.classifier.mixture.means" in faults
    with pytest.raises(InputError, match="another network"):
        load_weights(segformer(), {"nothing": torch.zeros(1)}, "nothing.pth", whole=False)


def softmax_twin(**settings):
    """A softmax SegFormer whose every tensor differs from a fresh one's."""
    network = segformer(mixture=None, **settings)
    return {
        key: torch.rand(value.shape) if value.is_floating_point() else value
        for key, value in network.state_dict().items()
    }


@pytest.mark.parametrize("num_classes", [5, 7])
def test_softmax_twin_is_a_start_for_all_but_the_classifier(num_classes):
    network, twin = segformer(), softmax_twin(num_classes=num_classes)
    faults = load_weights(network, twin, "softmax.pth", whole=False)
    loaded = network.state_dict()
    taken = [key for key in twin if key in loaded]
    assert {"backbone.layers.0.0.projection.weight", "decode_head.fusion_conv.conv.weight"} <= set(taken)
    assert all(torch.equal(loaded[key], twin[key]) for key in taken)
    new = [key for key in loaded if key not in twin and ".memory." not in key and "num_batches" not in key]
    expected = [f"left over decode_head.conv_seg.{name}" for name in ("weight", "bias")]
    assert sorted(faults) == sorted(expected + [f"missing {key}" for key in new])


def test_heads_of_another_shape_are_left_out_and_backbones_are_not():
    network, wide = segformer(), softmax_twin(channels=32)
    before = network.decode_head.fusion_conv.conv.weight.clone()
    faults = load_weights(network, wide, "softmax.pth", whole=False)
    assert "of another shape decode_head.fusion_conv.conv.weight" in faults
    assert torch.equal(network.decode_head.fusion_conv.conv.weight, before)
    name = "backbone.layers.0.0.projection.weight"
    assert torch.equal(network.state_dict()[name], wide[name])
    wide[name] = torch.zeros(16, 3, 7, 7)
    with pytest.raises(InputError, match=f"size mismatch for {name}"):
        load_weights(network, wide, "softmax.pth", whole=False)


def test_a_memory_of_another_size_is_left_out_whole():
    trained, network = segformer(), segformer(mixture={**MIXTURE, "memory_size": 6})
    trained.decode_head.classifier.em.memory.push(torch.rand(3, 16), torch.tensor([0, 0, 1]))
    faults = load_weights(network, trained.state_dict(), "trained.pth", whole=False)
    names = ("blocks", "pushed", "square_sums", "sums")
    assert sorted(faults) == [f"of another shape decode_head.classifier.em.memory.{name}" for name in names]
    assert not any(buffer.any() for buffer in network.decode_head.classifier.em.memory.buffers())


@pytest.mark.parametrize("meta", [{"dataset_meta": {"classes": ("sky", "car")}}, {"CLASSES": ["sky", "car"]}])
def test_checkpoint_of_other_classes_is_refused(meta):
    check_classes({"meta": meta}, ["sky", "car"], "a.pth")
    check_classes({"meta": {}}, ["road", "tree"], "a.pth")
    with pytest.raises(InputError, match=r"a\.pth was trained on the classes sky, car, .* have car, sky;"):
        check_classes({"meta": meta}, ["car", "sky"], "a.pth")
