import cv2
import numpy as np
import pytest

from anomaly.errors import InputError
from gmmseg.datasets import CamVidDataset

PIPELINE = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}, {"type": "PackSegInputs"}]
PREFIX = {"img_path": "images/val", "seg_map_path": "annotations/val"}


@pytest.fixture(autouse=True)
def _scope():
    from mmengine.registry import init_default_scope

    init_default_scope("mmseg")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_unlabelled_becomes_ignored(tmp_path, suffix):
    for folder in PREFIX.values():
        (tmp_path / folder).mkdir(parents=True)
    label = np.arange(12, dtype=np.uint8).reshape(3, 4)
    cv2.imwrite(str(tmp_path / f"images/val/a{suffix}"), np.full((3, 4, 3), 90, np.uint8))
    cv2.imwrite(str(tmp_path / "annotations/val/a.png"), label)
    data = CamVidDataset(data_root=str(tmp_path), data_prefix=PREFIX, pipeline=PIPELINE)
    assert len(data) == 1
    assert len(data.metainfo["classes"]) == len(data.metainfo["palette"]) == 11
    expected = label.astype(int)
    expected[2, 3] = 255
    assert np.array_equal(data[0]["data_samples"].gt_sem_seg.data[0], expected)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no CamVid images in .*images/val: expected \.png or \.jpg"):
        CamVidDataset(data_root=str(tmp_path), data_prefix=dict(PREFIX), pipeline=PIPELINE)


def test_real_camvid(data_root):
    data = CamVidDataset(data_root=str(data_root / "camvid"), data_prefix=PREFIX, pipeline=PIPELINE)
    assert len(data) == 101
    label = data[0]["data_samples"].gt_sem_seg.data
    assert label.shape == (1, 360, 480)
    assert set(label.unique().tolist()) <= {*range(11), 255}


def test_fewer_classes_are_numbered_anew():
    label_map = CamVidDataset.get_label_map(("road", "sky"))
    assert (label_map[3], label_map[0], label_map[11]) == (0, 1, 255)
    assert all(label_map[other] == 255 for other in (1, 2, 4, 10))
