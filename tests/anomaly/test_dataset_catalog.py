import json

import numpy as np
import pytest

from anomaly.datasets.catalog import SPLITS, open_split
from anomaly.errors import InputError
from anomaly.labels import ANOMALY, IGNORE, KNOWN
from tests.anomaly import set_trees

TREES = {
    "street_scenes": lambda root: set_trees.road_anomaly(root / "street_scenes" / "open_world"),
    "road_anomaly": lambda root: set_trees.road_anomaly(root / "road_anomaly" / "RoadAnomaly_jpg"),
    "camvid_ood": lambda root: set_trees.camvid_ood(root / "camvid_ood"),
}


def ids(split):
    return [frame.id for frame in split]


@pytest.mark.parametrize("name", SPLITS)
def test_each_set_opens_and_reads_every_frame(tmp_path, name):
    root = TREES[name](tmp_path)
    split = open_split(name, tmp_path)
    assert (split.name, split.root) == (name, root)
    assert sorted(ids(split)) == sorted(set_trees.NAMES)
    for frame in split:
        assert {KNOWN, ANOMALY} <= set(np.unique(frame.label).tolist())


@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("street_scenes", "street_scenes"),
        ("road_anomaly", "road_anomaly"),
        ("road_anomaly", "road_anomaly/RoadAnomaly_jpg"),
        ("camvid_ood", "camvid_ood"),
    ],
)
def test_data_root_may_be_the_sets_own_folder(tmp_path, name, below):
    TREES[name](tmp_path)
    assert len(open_split(name, tmp_path / below)) == 3


def test_road_anomaly_is_not_taken_for_street_scenes(tmp_path):
    set_trees.road_anomaly(tmp_path)
    with pytest.raises(InputError, match="street_scenes"):
        open_split("street_scenes", tmp_path)


def test_unknown_name_lists_the_known_ones_closest_first(tmp_path):
    with pytest.raises(InputError, match=r"'camvid_odd'.*closest first\) camvid_ood, ") as raised:
        open_split("camvid_odd", tmp_path)
    assert all(name in str(raised.value) for name in SPLITS)


@pytest.mark.parametrize(
    ("name", "layout", "obtain"),
    [
        ("street_scenes", "labels_semantic.png", "python tools/prepare_data.py street_scenes"),
        ("road_anomaly", "labels_semantic.png", "https://www.epfl.ch/labs/cvlab/data/road-anomaly/"),
        ("camvid_ood", "testannot_ood/NAME.png", "https://github.com/valeoai/obsnet"),
    ],
)
def test_missing_folder_says_where_it_looked_what_for_and_how_to_get_it(tmp_path, name, layout, obtain):
    with pytest.raises(InputError) as raised:
        open_split(name, tmp_path / "data")
    for part in (str(tmp_path / "data" / name), "no such folder", layout, obtain):
        assert part in str(raised.value)


def test_folder_in_another_layout_says_what_it_holds(tmp_path):
    for folder in ("original", "labels"):
        (tmp_path / "road_anomaly" / folder).mkdir(parents=True)
    with pytest.raises(InputError, match=r"road_anomaly \(holds labels, original\)"):
        open_split("road_anomaly", tmp_path)


@pytest.mark.parametrize("folders", [("images", "labels"), ("test_ood", "testannot_ood")])
def test_empty_camvid_ood_is_refused(tmp_path, folders):
    for folder in folders:
        (tmp_path / folder).mkdir()
    with pytest.raises(InputError, match="camvid_ood: expected at least one frame"):
        open_split("camvid_ood", tmp_path)


def test_empty_road_anomaly_is_refused(tmp_path):
    (tmp_path / "frames").mkdir()
    with pytest.raises(InputError, match="road_anomaly: expected at least one frame"):
        open_split("road_anomaly", tmp_path)


# RoadAnomaly


def test_road_anomaly_list_decides_frames_and_order(tmp_path):
    set_trees.road_anomaly(tmp_path)
    (tmp_path / "frame_list.json").write_text('["tyre.jpg", "bear.jpg"]')
    assert ids(open_split("road_anomaly", tmp_path)) == ["tyre", "bear"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_road_anomaly_without_list_is_sorted(tmp_path, suffix):
    set_trees.road_anomaly(tmp_path, suffix=suffix, listed=False)
    assert ids(open_split("road_anomaly", tmp_path)) == sorted(set_trees.NAMES)


def test_road_anomaly_doubles_are_settled_by_the_list_or_refused(tmp_path):
    set_trees.road_anomaly(tmp_path)
    set_trees.write(tmp_path / "frames" / "cow.webp", set_trees.photo())
    assert open_split("road_anomaly", tmp_path).files[0].image.name == "cow.jpg"
    (tmp_path / "frame_list.json").unlink()
    with pytest.raises(InputError, match=r"found cow\.jpg and cow\.webp"):
        open_split("road_anomaly", tmp_path)


@pytest.mark.parametrize("values", [(0, 2), (0, 1)])
def test_road_anomaly_takes_published_and_rewritten_labels(tmp_path, values):
    set_trees.road_anomaly(tmp_path, {"a": (0,), "b": values})
    clean, frame = open_split("road_anomaly", tmp_path)
    assert not clean.label.any()
    np.testing.assert_array_equal(frame.label, set_trees.label(values) > 0)


@pytest.mark.parametrize(("first", "second"), [((0, 2), (0, 1)), ((0, 1), (0, 2))])
def test_road_anomaly_in_both_encodings_is_refused(tmp_path, first, second):
    set_trees.road_anomaly(tmp_path, {"a": first, "b": second})
    split = open_split("road_anomaly", tmp_path)
    np.testing.assert_array_equal(split.frame(0).label, set_trees.label(first) > 0)
    with pytest.raises(InputError, match=rf"b\.labels.*{max(first)} \(anomaly\); found also \[{max(second)}\]"):
        split.frame(1)


def test_road_anomaly_label_with_both_values_is_refused(tmp_path):
    set_trees.road_anomaly(tmp_path, {"a": (0, 1, 2)})
    with pytest.raises(InputError, match=r"2 \(anomaly\); found also \[1\]"):
        open_split("road_anomaly", tmp_path).frame(0)


@pytest.mark.parametrize("gone", ["cow.jpg", "cow.labels/labels_semantic.png"])
@pytest.mark.parametrize("listed", [True, False])
def test_road_anomaly_frame_without_its_files_is_refused(tmp_path, gone, listed):
    set_trees.road_anomaly(tmp_path, listed=listed)
    (tmp_path / "frames" / gone).unlink()
    with pytest.raises(InputError, match="cow"):
        open_split("road_anomaly", tmp_path)


@pytest.mark.parametrize(("text", "found"), [("[1", "no JSON"), ('{"a": 1}', "something else"), ("[1]", "something")])
def test_road_anomaly_broken_list_is_refused(tmp_path, text, found):
    set_trees.road_anomaly(tmp_path)
    (tmp_path / "frame_list.json").write_text(text)
    with pytest.raises(InputError, match=rf"frame_list\.json: expected a JSON list of file names.*{found}"):
        open_split("road_anomaly", tmp_path)


# CamVid-OOD

CAMVID_EXPECTED = [KNOWN] * 11 + [IGNORE, ANOMALY]


@pytest.mark.parametrize(
    "tree",
    [
        set_trees.camvid_ood,
        set_trees.camvid_ood_published,
        lambda root: set_trees.camvid_ood_published(root, prefix=""),
        lambda root: set_trees.camvid_ood_published(root, prefix=None),
    ],
    ids=["folders", "published", "published relative", "published without list"],
)
def test_camvid_ood_layouts_give_the_same_labels(tmp_path, tree):
    tree(tmp_path)
    split = open_split("camvid_ood", tmp_path)
    for frame in split:
        np.testing.assert_array_equal(frame.label, set_trees.label(CAMVID_EXPECTED))
    listed = (tmp_path / "test_ood.txt").is_file()
    assert ids(split) == (list(set_trees.NAMES) if listed else sorted(set_trees.NAMES))


def test_camvid_ood_defines_no_255(tmp_path):
    set_trees.camvid_ood(tmp_path, values=(0, 255))
    with pytest.raises(InputError, match=r"0-10 \(known\), 11 \(ignore\), 12 \(anomaly\); found also \[255\]"):
        open_split("camvid_ood", tmp_path).frame(0)


@pytest.mark.parametrize("gone", ["images/cow.jpg", "labels/cow.png"])
def test_camvid_ood_frame_without_its_files_is_refused(tmp_path, gone):
    (set_trees.camvid_ood(tmp_path) / gone).unlink()
    with pytest.raises(InputError, match="cow"):
        open_split("camvid_ood", tmp_path)


@pytest.mark.parametrize("gone", ["test_ood/cow.png", "testannot_ood/cow.png"])
def test_camvid_ood_listed_frame_without_its_files_is_refused(tmp_path, gone):
    (set_trees.camvid_ood_published(tmp_path) / gone).unlink()
    with pytest.raises(InputError, match=rf"expected the file .*{gone}"):
        open_split("camvid_ood", tmp_path)


def test_camvid_ood_line_without_two_paths_is_refused(tmp_path):
    set_trees.camvid_ood_published(tmp_path)
    (tmp_path / "test_ood.txt").write_text("\ntest_ood/cow.png testannot_ood/cow.png\ntest_ood/bear.png\n")
    with pytest.raises(InputError, match=r"test_ood\.txt, line 3: .*'test_ood/bear\.png'"):
        open_split("camvid_ood", tmp_path)


# Real photographs


@pytest.mark.parametrize(("name", "count", "share"), [("camvid_ood", 117, 0.04), ("road_anomaly", 30, 0.10)])
def test_real_set_has_the_documented_frames_and_share_of_anomaly(data_root, name, count, share):
    split = open_split(name, data_root)
    assert len(split) == count
    histogram = sum(np.bincount(frame.label.ravel(), minlength=256) for frame in split)
    assert histogram.sum() == histogram[[KNOWN, ANOMALY, IGNORE]].sum()
    assert histogram[ANOMALY] / histogram.sum() == pytest.approx(share, rel=0.2)
    assert (histogram[IGNORE] > 0) == (name == "camvid_ood")


def test_real_road_anomaly_follows_its_list(data_root):
    split = open_split("road_anomaly", data_root)
    entries = json.loads((split.root / "frame_list.json").read_text())
    assert [files.image.name for files in split.files] == entries
