"""What ``model.test_cfg`` may say of sliding windows, against what mmseg's own inference does with it."""

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmseg.models import EncoderDecoder

from anomaly.errors import InputError
from anomaly.models.tiling import sliding_windows
from gmmseg.training import SafeRunner


class Windows(EncoderDecoder):
    """mmseg's inference around a network that only notes the windows it sees."""

    def __init__(self, test_cfg):
        torch.nn.Module.__init__(self)
        self.test_cfg, self.out_channels, self.seen = ConfigDict(test_cfg), 2, []

    def encode_decode(self, inputs, batch_img_metas):
        self.seen.append(tuple(inputs.shape[2:]))
        return inputs[:, :2]


SEEN = [
    ({"mode": "whole"}, None),
    ({"mode": "whole", "crop_size": (8, 8), "stride": (4, 4)}, None),
    ({"mode": "slide", "crop_size": (8, 12), "stride": (4, 6)}, ((8, 12), (4, 6))),
    ({"mode": "slide", "crop_size": [8, 12], "stride": [8, 12]}, ((8, 12), (8, 12))),
]
REFUSED = [
    ({"mode": "hole"}, "did you mean 'whole'"),
    ({"mode": "slide"}, "crop_size"),
    ({"mode": "slide", "crop_size": (8, 12)}, "stride"),
    ({"mode": "slide", "crop_size": 8, "stride": (4, 6)}, "crop_size"),
    ({"mode": "slide", "crop_size": (8, 12, 3), "stride": (4, 6)}, "crop_size"),
    ({"mode": "slide", "crop_size": (8, 12), "stride": (0, 6)}, "stride"),
    ({"mode": "slide", "crop_size": (8, 12), "stride": (4.5, 6)}, "stride"),
    ({"mode": "slide", "crop_size": (8, 12), "stride": (4, 13)}, "skips pixels"),
]


def windows_shown(test_cfg):
    network = Windows(test_cfg)
    network.inference(torch.zeros(1, 3, 24, 36), [{"ori_shape": (24, 36)}])
    return network.seen


@pytest.mark.parametrize(("test_cfg", "expected"), SEEN)
def test_windows_that_mmseg_can_use_are_given(test_cfg, expected):
    assert sliding_windows(test_cfg) == expected
    assert set(windows_shown(test_cfg)) == {(24, 36) if expected is None else expected[0]}


@pytest.mark.parametrize(("test_cfg", "message"), REFUSED)
def test_windows_that_mmseg_cannot_use_are_refused(test_cfg, message):
    with pytest.raises(InputError, match=message) as refused:
        sliding_windows(test_cfg)
    assert "model.test_cfg" in str(refused.value)
    with pytest.raises(Exception):  # noqa: B017  of mmseg, each of another kind
        windows_shown(test_cfg)


def test_a_network_without_a_setting_is_shown_whole_images():
    assert sliding_windows(None) is sliding_windows({}) is None


def test_a_runner_finds_the_fault_before_it_writes(tmp_path):
    config = Config({"model": {"type": "EncoderDecoder", "test_cfg": {"mode": "slide"}}, "work_dir": f"{tmp_path}/w"})
    with pytest.raises(InputError, match="crop_size"):
        SafeRunner.from_cfg(config)
    assert not any(tmp_path.iterdir())
