from pathlib import Path

import numpy as np
import pytest

from anomaly.datasets.catalog import load_dataset
from anomaly.datasets.dataset import Dataset, FrameFiles
from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN, Frame
from tests.anomaly import set_trees
from tests.anomaly.set_trees import label, photo, write

ENCODING = {0: KNOWN, 1: KNOWN, 2: KNOWN, 7: ANOMALY, 9: KNOWN, 200: IGNORE}
VALUES = (0, 1, 2, 7, 9, 200)


def make_dataset(root: Path, ids=("b", "a", "c"), values=VALUES) -> Dataset:
    files = tuple(
        FrameFiles(name, write(root / f"{name}.png", photo(seed)), write(root / f"{name}_l.png", label(values)))
        for seed, name in enumerate(ids)
    )
    return Dataset("my_set", root, "flat", files, ENCODING)


def test_frames_come_in_order_with_mapped_labels(tmp_path):
    dataset = make_dataset(tmp_path)
    frames = list(dataset)
    assert [frame.id for frame in frames] == ["b", "a", "c"]
    assert len(dataset) == 3
    expected = [[ENCODING[int(value)] for value in row] for row in label(VALUES)]
    for seed, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.label, expected)
        np.testing.assert_array_equal(frame.image, photo(seed))
    np.testing.assert_array_equal(dataset.frame(1).image, frames[1].image)


def test_a_split_can_be_read_twice(tmp_path):
    dataset = make_dataset(tmp_path)
    assert [frame.id for frame in dataset] == [frame.id for frame in dataset]


def test_limit_takes_the_first_frames(tmp_path):
    dataset = make_dataset(tmp_path)
    assert [frame.id for frame in dataset.limit(2)] == ["b", "a"]
    assert len(dataset.limit(99)) == 3
    assert len(dataset) == 3
    for two in (np.int64(2), np.array(2), 2.0):
        assert dataset.limit(two) == dataset.limit(2)
    with pytest.raises(InputError, match="at least 1 frame, found 0"):
        dataset.limit(0)


def test_halves_are_sets_of_their_own_and_leave_nothing_out(tmp_path):
    dataset = load_dataset("camvid_ood", set_trees.camvid_ood(tmp_path / "camvid_ood").parent)
    first, second = (load_dataset(f"camvid_ood-{half}", tmp_path) for half in ("first", "second"))
    assert (first.name, second.name) == ("camvid_ood-first", "camvid_ood-second")
    assert (len(first), len(second)) == (1, 2)
    assert first.files + second.files == dataset.files
    with pytest.raises(InputError, match="camvid_ood-first: expected at least 2 frames"):
        first.half("second")
    with pytest.raises(InputError, match="unknown dataset 'camvid_ood-third'"):
        load_dataset("camvid_ood-third", tmp_path)


def test_known_pixels_have_their_class_where_the_set_tells_it(tmp_path):
    set_trees.camvid_ood(tmp_path / "camvid_ood")
    set_trees.road_anomaly(tmp_path / "road_anomaly")
    camvid, road = (load_dataset(name, tmp_path) for name in ("camvid_ood", "road_anomaly"))
    frame = camvid.frame(0)
    stored = set_trees.label(range(13))
    assert camvid.classes[0] == "sky"
    assert len(camvid.classes) == 11
    assert (frame.class_label[frame.label == KNOWN] == stored[stored < 11]).all()
    assert (frame.label == KNOWN).sum() == (stored < 11).sum()
    assert road.classes == ()
    assert road.frame(0).class_label is None


@pytest.mark.parametrize("value", [3, 8, 254, 255])
def test_undefined_label_value_names_file_defined_and_found(tmp_path, value):
    dataset = make_dataset(tmp_path, values=(0, value))
    defined = r"0-2 \(known\), 7 \(anomaly\), 9 \(known\), 200 \(ignore\)"
    with pytest.raises(InputError, match=rf"b_l\.png: .*my_set defines, {defined}; found also \[{value}\]"):
        dataset.frame(0)


def test_sizes_that_differ_name_both_files_and_sizes(tmp_path):
    dataset = make_dataset(tmp_path)
    write(dataset.files[2].label, label(VALUES, 3, 4))
    with pytest.raises(InputError, match=r"8x6 in .*c\.png and 4x3 in .*c_l\.png"):
        dataset.frame(2)


def test_transposed_label_is_refused(tmp_path):
    dataset = make_dataset(tmp_path)
    write(dataset.files[0].label, label(VALUES, 8, 6))
    with pytest.raises(InputError, match=r"8x6 in .*b\.png and 6x8 in .*b_l\.png"):
        dataset.frame(0)


def test_empty_repeated_and_missing_files_are_refused_at_opening(tmp_path):
    files = make_dataset(tmp_path).files
    with pytest.raises(InputError, match=r"my_set: expected at least one frame in .*found none"):
        Dataset("my_set", tmp_path, "flat", (), ENCODING)
    with pytest.raises(InputError, match=r"found 'a' 2 times"):
        Dataset("my_set", tmp_path, "flat", (*files, files[1]), ENCODING)
    files[2].label.unlink()
    with pytest.raises(InputError, match=r"expected the file .*c_l\.png, found none \(1 files of 3 frames"):
        Dataset("my_set", tmp_path, "flat", files, ENCODING)


def test_a_class_label_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"frame 'a': the label has 6x8 pixels .* but its class label has 6x7"):
        Frame("a", photo(), label([0, 1]), label([3], 6, 7))
