import json
from dataclasses import replace

import numpy as np
import pytest

from anomaly.datasets.catalog import SETS, find_entry, load_dataset
from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN
from tests.anomaly import set_trees
from tests.anomaly.set_trees import LAYOUTS, label, photo, plant, write

OPEN = {name for name, layout in LAYOUTS if SETS[name].anomalies}


def ids(dataset):
    return [frame.id for frame in dataset]


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_each_layout_is_recognised_and_every_frame_read(tmp_path, name, layout):
    frames = plant(tmp_path, name, layout)
    dataset = load_dataset(name, tmp_path, as_found=True)
    assert sorted(ids(dataset)) == sorted(frames)
    values = label(LAYOUTS[name, layout][0])
    for seed, frame in enumerate(LAYOUTS[name, layout][1:]):
        read = dataset.frame(ids(dataset).index(frame[0]))
        assert read.label.shape == values.shape
        if frame[1].endswith((".png", ".webp")):
            assert np.abs(read.image.astype(int) - photo(seed)).max() <= (0 if frame[1].endswith(".png") else 255)
        expected = {KNOWN, ANOMALY} if name in OPEN else {KNOWN}
        assert expected <= set(np.unique(read.label).tolist())


MEANINGS = [
    ("road_anomaly", "published", {0: KNOWN, 2: ANOMALY}),
    ("road_anomaly", "SynBoost, PEBAL, RPL", {0: KNOWN, 1: ANOMALY}),
    ("fishyscapes_lost_and_found", "Mask2Anomaly", {0: KNOWN, 1: ANOMALY, 255: IGNORE}),
    ("fishyscapes_lost_and_found", "DenseHybrid", {0: KNOWN, 1: ANOMALY, 2: IGNORE}),
    ("fishyscapes_lost_and_found", "SML", {0: KNOWN, 1: ANOMALY, 7: IGNORE}),
    ("anomaly_track-val", "published", {0: KNOWN, 1: ANOMALY, 255: IGNORE}),
    ("lost_and_found-test", "published", {0: IGNORE, 1: KNOWN, 2: ANOMALY, 43: ANOMALY}),
    ("lost_and_found-train_trainids", "published", {0: KNOWN, 1: KNOWN, 2: ANOMALY, 255: IGNORE}),
    ("street_hazards", "published", {**dict.fromkeys(range(1, 14), KNOWN), 14: ANOMALY}),
    ("street_hazards", "ObsNet", {**dict.fromkeys(range(13), KNOWN), 13: ANOMALY}),
    ("bdd_anomaly", "published", {0: KNOWN, 15: KNOWN, 16: ANOMALY, 17: ANOMALY, 18: ANOMALY, 255: IGNORE}),
    ("camvid_ood", "published", {**dict.fromkeys(range(11), KNOWN), 11: IGNORE, 12: ANOMALY}),
    ("small_obstacle-val", "published", {0: IGNORE, 1: KNOWN, 2: ANOMALY, 254: ANOMALY}),
    ("sos", "published", {0: IGNORE, 253: KNOWN, 254: ANOMALY}),
    ("wos", "Labels and Images", {0: IGNORE, 1: KNOWN, 2: ANOMALY, 200: ANOMALY}),
    ("ade20k-validation", "mmsegmentation", {0: IGNORE, 150: KNOWN}),
]


@pytest.mark.parametrize(("name", "layout", "meaning"), MEANINGS)
def test_label_values_mean_what_the_set_says(tmp_path, name, layout, meaning):
    plant(tmp_path, name, layout)
    read = load_dataset(name, tmp_path, as_found=True).frame(0).label
    expected = [[meaning[int(value)] for value in row] for row in label(LAYOUTS[name, layout][0])]
    np.testing.assert_array_equal(read, expected)


def test_every_layout_of_the_catalogue_has_a_tree():
    planted = {layout for _, layout in LAYOUTS}
    known = {layout.name for one in SETS.values() for layout in one.layouts if one.name != "street_scenes"}
    assert known <= planted | {"masks alone", "published, beside Cityscapes"}


@pytest.mark.parametrize("name", SETS)
def test_every_set_says_where_it_comes_from(name):
    one = SETS[name]
    assert one.name == name
    assert all((one.title, one.citation, one.licence, one.folders, one.layouts, one.home or one.obtain))
    assert all(download.url.startswith("http") for download in one.downloads)


@pytest.mark.parametrize(
    ("name", "below"),
    [("road_anomaly", "road_anomaly"), ("camvid_ood", "camvid_ood"), ("street_scenes", "street_scenes")],
)
def test_data_root_may_be_the_sets_own_folder(tmp_path, name, below):
    if name == "street_scenes":
        set_trees.road_anomaly(tmp_path / below / "open_world")
    else:
        plant(tmp_path, name, "published")
    assert len(load_dataset(name, tmp_path / below, as_found=True)) >= 2


def test_road_anomaly_is_not_taken_for_street_scenes(tmp_path):
    set_trees.road_anomaly(tmp_path)
    with pytest.raises(InputError, match="street_scenes"):
        load_dataset("street_scenes", tmp_path)


def test_unknown_name_lists_the_closest_first():
    with pytest.raises(InputError, match=r"'camvid_odd'.*closest first\) camvid_ood, "):
        find_entry("camvid_odd")


@pytest.mark.parametrize(
    ("name", "layout", "obtain"),
    [
        ("street_scenes", "labels_semantic.png", "anomaly data street_scenes"),
        ("road_anomaly", "labels_semantic.png", "https://www.epfl.ch/labs/cvlab/data/road-anomaly/"),
        ("camvid_ood", "testannot_ood/NAME.png", "https://github.com/valeoai/obsnet"),
    ],
)
def test_missing_folder_says_where_it_looked_what_for_and_how_to_get_it(tmp_path, name, layout, obtain):
    with pytest.raises(InputError) as raised:
        load_dataset(name, tmp_path / "data")
    for part in (str(tmp_path / "data" / name), "no such folder", layout, obtain):
        assert part in str(raised.value)


# Which frames


def test_road_anomaly_list_decides_frames_and_order(tmp_path):
    set_trees.road_anomaly(tmp_path)
    (tmp_path / "frame_list.json").write_text('["tyre.jpg", "bear.jpg"]')
    assert ids(load_dataset("road_anomaly", tmp_path, as_found=True)) == ["tyre", "bear"]


def test_list_settles_which_of_two_images(tmp_path):
    set_trees.road_anomaly(tmp_path)
    write(tmp_path / "frames" / "cow.webp", photo())
    assert load_dataset("road_anomaly", tmp_path).files[0].image.name == "cow.jpg"


@pytest.mark.parametrize("text", ['[{"fpath_img": "images/val/x-2.jpg"}]', '{"fpath_img": "images/val/x-2.jpg"}\n'])
def test_bdd_anomaly_takes_the_frames_of_its_list(tmp_path, text):
    plant(tmp_path, "bdd_anomaly", "published")
    (tmp_path / "bdd100k" / "test.odgt").write_text(text)
    assert [file.id for file in load_dataset("bdd_anomaly", tmp_path).files] == ["x-2"]


@pytest.mark.parametrize("prefix", ["/SegNet/CamVid/", "", None])
def test_camvid_ood_list_decides_frames_and_order(tmp_path, prefix):
    set_trees.camvid_ood_published(tmp_path, prefix)
    names = ids(load_dataset("camvid_ood", tmp_path, as_found=True))
    assert names == (sorted(set_trees.NAMES) if prefix is None else list(set_trees.NAMES))


def test_excluded_frames_stay_out(tmp_path):
    for number in (0, 1, 19, 21, 2):
        place = tmp_path / "dataset_ObstacleTrack"
        write(place / "images" / f"validation_{number}.webp", photo())
        write(place / "labels_masks" / f"validation_{number}_labels_semantic.png", label((0, 1)))
    write(place / "images" / "driveway_1.webp", photo())
    write(place / "labels_masks" / "driveway_1_labels_semantic.png", label((0, 1)))
    assert [file.id for file in load_dataset("obstacle_track-val", tmp_path, as_found=True).files] == [
        "validation_0",
        "validation_1",
        "validation_2",
    ]


def test_lost_and_found_leaves_out_empty_label_maps_by_their_place(tmp_path):
    small = replace(SETS["lost_and_found-test_valid"], total=4, frames=3, excluded_places={"empty": (1,)})
    for number in range(4):
        name = f"01_S_000000_00000{number}"
        write(tmp_path / f"leftImg8bit/test/01_S/{name}_leftImg8bit.png", photo())
        write(tmp_path / f"gtCoarse/test/01_S/{name}_gtCoarse_labelIds.png", label((0, 1, 2)))
    assert [file.id[-1] for file in small.open(tmp_path).files] == ["0", "2", "3"]
    (tmp_path / "gtCoarse/test/01_S/01_S_000000_000003_gtCoarse_labelIds.png").unlink()
    with pytest.raises(InputError, match=r"expected 4 frames .* found 3"):
        small.open(tmp_path, as_found=True)


def test_a_set_as_published_has_no_notes(tmp_path):
    small = replace(SETS["camvid_ood"], frames=2, sizes=((set_trees.WIDTH, set_trees.HEIGHT),))
    plant(tmp_path, "camvid_ood", "published")
    assert small.open(tmp_path).notes == ()
    assert replace(small, frames=3).open(tmp_path, as_found=True).notes == ("2 frames where 3 are published",)


def test_a_part_in_folders_is_noted(tmp_path):
    set_trees.camvid_ood(tmp_path)
    frames, sizes = load_dataset("camvid_ood", tmp_path).notes
    assert frames == "3 frames where 233 are published"
    assert sizes == "3 images of 8x6 pixels where 480x360 is published"


# Composed images and masks


def test_fishyscapes_static_adds_signed_differences(tmp_path):
    city = write(tmp_path / "cityscapes/leftImg8bit/val/ulm/ulm_0_leftImg8bit.png", photo(1))
    write(tmp_path / "fs_val_v3/0000_ulm_0_labels.png", label((0, 1, 255)))
    overlay = np.random.default_rng(0).integers(-200, 200, photo().shape).astype(np.int16)
    np.savez(tmp_path / "fs_val_v3/0000_ulm_0_rgb.npz", rgb=overlay)
    dataset = load_dataset("fishyscapes_static-v3", tmp_path, as_found=True)
    assert dataset.files[0].image.resolve() == city
    expected = [min(255, max(0, int(a) + int(b))) for a, b in zip(photo(1).ravel(), overlay.ravel(), strict=True)]
    np.testing.assert_array_equal(dataset.frame(0).image.ravel(), expected)


def test_lost_and_found_roi_makes_all_but_anomalies_known_inside(tmp_path):
    small = replace(SETS["lost_and_found-test_roi"], total=1, frames=1, excluded_places={})
    plant(tmp_path, "lost_and_found-test", "published", (0, 1, 2, 0, 1, 2))
    mask = np.repeat(np.uint8([[255] * 4 + [0] * 4]), set_trees.HEIGHT, axis=0)
    write(tmp_path / "LostAndFound" / "LAF_roi_2048.png", mask)
    read = small.open(tmp_path).frame(0).label
    values = label((0, 1, 2, 0, 1, 2))
    for y in range(set_trees.HEIGHT):
        for x in range(set_trees.WIDTH):
            inside = KNOWN if x < 4 else IGNORE
            assert read[y, x] == (ANOMALY if values[y, x] == 2 else inside)


def test_camvid_ood_in_both_layouts_gives_the_same_labels(tmp_path):
    for layout in ("published", "folders"):
        plant(tmp_path / layout, "camvid_ood", layout)
    first, second = (
        load_dataset("camvid_ood", tmp_path / one, as_found=True).frame(0) for one in ("published", "folders")
    )
    np.testing.assert_array_equal(first.label, second.label)
    np.testing.assert_array_equal(first.class_label, second.class_label)


def test_real_sets_are_found_as_they_are(data_root):
    road, camvid = (load_dataset(name, data_root) for name in ("road_anomaly", "camvid_ood"))
    assert (len(road), len(camvid)) == (30, 117)
    assert json.loads((road.root / "frame_list.json").read_text())[0].startswith(road.files[0].id)
