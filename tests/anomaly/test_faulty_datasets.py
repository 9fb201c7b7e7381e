"""Faults that sets on people's disks have: each is refused with what to do, or understood as stated."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from anomaly.datasets.catalog import SETS, load_dataset
from anomaly.errors import InputError
from tests.anomaly import set_trees
from tests.anomaly.set_trees import LAYOUTS, label, photo, plant, write

OTHER = "road_anomaly/frames/{}.labels/labels_semantic.png"


def planted(name, layout="published", values=None, change=None):
    """A function that writes the set and then ``change(root)``s it."""

    def make(root):
        plant(root, name, layout, values)
        if change is not None:
            change(root)

    return make


def relabel(path, values):
    return lambda root: write(root / path, label(values))


def text(path, content):
    return lambda root: (root / path).write_text(content)


def remove(path):
    return lambda root: (root / path).unlink()


def cut(path):
    return lambda root: (root / path).write_bytes((root / path).read_bytes()[:50])


def also(name, layout):
    return lambda root: plant(root, name, layout)


def static(version="v3", rgb=None, folder=None):
    """Fishyscapes Static as published, beside Cityscapes, with ``rgb`` as overlay."""

    def make(root):
        place = root / (folder or f"fs_val_{version}")
        write(root / "cityscapes/leftImg8bit/val/ulm/ulm_0_leftImg8bit.png", photo())
        write(place / "0000_ulm_0_labels.png", label((0, 1, 255)))
        if rgb is not None:
            np.savez(place / "0000_ulm_0_rgb.npz", rgb=rgb)

    return make


def pickled(root):
    static()(root)
    np.savez(root / "fs_val_v3/0000_ulm_0_rgb.npz", rgb=np.array([{}], dtype=object))


def without(folder, make):
    def changed(root):
        make(root)
        shutil.rmtree(root / folder)

    return changed


def colour(path):
    return lambda root: write(root / path, photo())


def deep(path):
    return lambda root: Image.fromarray(np.full((6, 8), 3000, np.uint16)).save(root / path)


def link(path):
    """Put a link to nothing in the place of a file."""
    return lambda root: (remove(path)(root), (root / path).symlink_to("gone"))


def large(path):
    return lambda root: write(root / path, label((0, 2), 12, 16))


RA, A, B = "road_anomaly", OTHER.format("a"), OTHER.format("b")
LIST, ODGT, CAMVID_LIST = "road_anomaly/frame_list.json", "bdd100k/test.odgt", "camvid_ood/test_ood.txt"
LAF = LAYOUTS["lost_and_found-test", "published"][1][2]
TWIN, TOWN = "LostAndFound/gtCoarse/test/02_S", "street_hazards/test/annotations/test/t7"
FAULTS = {
    # label values
    "both encodings in one file": (RA, planted(RA, change=relabel(A, (0, 1, 2))), r"found also \[1\]"),
    "another encoding in the next file": (RA, planted(RA, change=relabel(B, (0, 1))), r"b\.labels.*found also \[1\]"),
    "a class the set does not have": (RA, planted(RA, values=(0, 2, 7)), r"0 \(known\), 2 \(anomaly\).*also \[7\]"),
    "zeros alone": (RA, planted(RA, values=(0,)), r"expected anomalies, found none in 2 label maps.*values are \[0\]"),
    "one frame of zeros": (RA, planted(RA, change=relabel(B, (0,))), r"b\.labels.*every frame of road_anomaly has one"),
    "zeros for hidden labels": (
        "anomaly_track-val",
        planted("anomaly_track-val", values=(0,)),
        "expected anomalies, found none.*hidden split",
    ),
    "void = 2 where 255 is published": (
        "fishyscapes_lost_and_found",
        planted("fishyscapes_lost_and_found", "PEBAL, SynBoost", (0, 1, 2)),
        r"255 \(ignore\); found also \[2\]",
    ),
    "trainIds where labelIds are read": (
        "lost_and_found-test",
        planted("lost_and_found-test", values=(0, 1, 2, 255)),
        r"labelIds.*found also \[255\]",
    ),
    "labelIds where trainIds are read": (
        "lost_and_found-train_trainids",
        planted("lost_and_found-train_trainids", values=(0, 1, 2, 43)),
        r"labelTrainIds.*found also \[43\]",
    ),
    "a traffic sign or an anomaly": (
        "street_hazards",
        planted("street_hazards", values=tuple(range(1, 14))),
        r"\[1, .*13\].*can mean different things \(published; less one\)",
    ),
    "labels shifted by 2": (
        "bdd_anomaly",
        planted("bdd_anomaly", values=(2, 17, 18, 20, 1)),
        r"16-18 \(anomaly\).*found also \[20\]",
    ),
    "void that camvid_ood does not have": (
        "camvid_ood",
        planted("camvid_ood", values=(0, 12, 255)),
        r"11 \(ignore\), 12 \(anomaly\); found also \[255\]",
    ),
    "a value nobody documented": ("sos", planted("sos", values=(0, 7, 254)), r"254 \(anomaly\); found also \[7\]"),
    "road or off the road": (
        "small_obstacle-val",
        planted("small_obstacle-val", values=(0, 1)),
        r"\[0, 1\].*can mean different things",
    ),
    "a colour map for labels": (RA, planted(RA, change=colour(A)), "a.labels.*one channel.*colour version"),
    "an instance map for labels": (RA, planted(RA, change=deep(A)), "from 0 to 255, found values from 3000 to 3000"),
    # files
    "a label map cut short": (RA, planted(RA, change=cut(A)), "a.labels.*cannot be decoded"),
    "an empty label map": (RA, planted(RA, change=text(A, "")), r"a.labels.*empty file \(0 bytes\)"),
    "an image cut short": (
        "camvid_ood",
        planted("camvid_ood", change=cut("camvid_ood/test_ood/a.png")),
        "test_ood/a.png.*cannot be decoded",
    ),
    "label and image of two sizes": (RA, planted(RA, change=large(A)), "one size, found 8x6 .* 16x12"),
    "a label map without image": (
        RA,
        planted(RA, change=remove("road_anomaly/frames/b.jpg")),
        r"expected the image frames/b.* for the label map .*, found none \(1 of 2 ",
    ),
    "label maps alone": (
        RA,
        lambda root: write(root / "road_anomaly_masks/a.png", label((0, 2))),
        "found 1 label maps in .* without images",
    ),
    "a listed image that is not there": (
        RA,
        planted(RA, change=text(LIST, '["a.webp", "c.jpg"]')),
        r"expected the image c.jpg .*\(1 of 2 frames are incomplete\)",
    ),
    "a listed image without label map": (
        RA,
        planted(RA, change=lambda root: (text(LIST, '["a.webp", "b.jpg"]')(root), remove(B)(root))),
        "expected the image b.jpg of the dataset's list and its label map",
    ),
    "a list cut short": (RA, planted(RA, change=text(LIST, '["a.we')), "frame_list.json: .* found no JSON"),
    "a list of something else": (RA, planted(RA, change=text(LIST, '{"a": 1}')), "frame_list.json: .*something else"),
    "a frame listed twice": (
        RA,
        planted(RA, change=text(LIST, '["a.webp", "a.webp"]')),
        "every image once.*2 times",
    ),
    "two images of a frame": (
        RA,
        planted(RA, change=lambda root: write(root / "road_anomaly/frames/a.jpg", photo())),
        "one image for frame 'a', found a.jpg and a.webp",
    ),
    "two label maps of a frame": (
        RA,
        planted(
            RA, change=lambda root: write(root / "road_anomaly/frames/a.labels/labels_semantic.PNG", label((0, 2)))
        ),
        r"one label map for frame 'a', found frames/a.labels/labels_semantic.PNG and .*labels_semantic.png",
    ),
    "label maps of one frame in two scenes": (
        "lost_and_found-test",
        planted("lost_and_found-test", change=lambda root: shutil.copytree((root / LAF).parent, root / TWIN)),
        "one label map for frame '01_S_000001_000240', found gtCoarse/test/01_S/.* and gtCoarse/test/02_S/",
    ),
    "a link to no image": (
        RA,
        planted(RA, change=lambda root: (link("road_anomaly/frames/b.jpg")(root), remove(B)(root))),
        r"b\.jpg: expected a file or a folder, found a link that leads to nothing",
    ),
    "a link to no label map": (RA, planted(RA, change=link(B)), r"labels_semantic\.png: .*leads to nothing"),
    "a link to no folder": (
        "street_hazards",
        planted("street_hazards", change=lambda root: (root / TOWN).symlink_to("gone")),
        "annotations/test/t7: expected a file or a folder, found a link that leads to nothing",
    ),
    "two layouts in one folder": (
        RA,
        planted(RA, change=also(RA, "SynBoost, PEBAL, RPL")),
        "expected one layout in .*frames/NAME.* and original/NAME",
    ),
    "a list with a broken line": (
        "camvid_ood",
        planted("camvid_ood", change=text(CAMVID_LIST, "test_ood/a.png\n")),
        "test_ood.txt, line 1: expected the paths of an image and its label",
    ),
    "a list that pairs other names": (
        "camvid_ood",
        planted("camvid_ood", change=text(CAMVID_LIST, "test_ood/a.png testannot_ood/b.png\n")),
        "test_ood.txt, line 1",
    ),
    "a list with a frame twice": (
        "camvid_ood",
        planted("camvid_ood", change=text(CAMVID_LIST, "x/a.png y/a.png\nx/a.png y/a.png\n")),
        "line 2: expected every frame once, found a.png again",
    ),
    "a list that is no odgt": ("bdd_anomaly", planted("bdd_anomaly", change=text(ODGT, '[{"img": 1}]')), "'fpath_img'"),
    "images that come with another set": (
        "fishyscapes_lost_and_found",
        without("lost_and_found", planted("fishyscapes_lost_and_found", "published, beside LostAndFound")),
        "expected leftImg8bit.*found 2 label maps in .* without images",
    ),
    "no Cityscapes": (
        "fishyscapes_static-v3",
        without("cityscapes", static()),
        "found 1 label maps in .* without images",
    ),
    "a missing overlay": ("fishyscapes_static-v3", static(), "expected the file .*ulm_0_rgb.npz, found none"),
    "an overlay of another size": (
        "fishyscapes_static-v3",
        static(rgb=np.zeros((3, 4, 3), np.int16)),
        r"expected integers of shape \(6, 8, 3\).*found int16 of shape \(3, 4, 3\)",
    ),
    "an overlay that runs code": ("fishyscapes_static-v3", pickled, "rgb.npz: .* cannot be read"),
    "no mask": (
        "lost_and_found-test_roi",
        planted("lost_and_found-test"),
        "expected 1203 frames in .*of which 17 are excluded by their index, found 1",
    ),
    # versions and hidden labels
    "another version": ("fishyscapes_static-v1", static(folder="fishyscapes_static-v1/fs_val_v2"), "v1"),
    "a hidden split": (
        "anomaly_track-test",
        planted("anomaly_track-val"),
        "labels of this dataset are not public.*https://segmentmeifyoucan",
    ),
    "a hidden split with label maps of zeros": (
        "obstacle_track-test",
        planted("obstacle_track-val", values=(0,)),
        "labels of this dataset are not public",
    ),
}
AS_PUBLISHED = {
    "too few frames": (RA, planted(RA), r"expected 60 frames, found 2 in .*\(--as-found\)"),
    "too few frames beside the hidden ones": (
        "anomaly_track-val",
        planted("anomaly_track-val"),
        "expected 10 frames, found 1",
    ),
    "no list of the test frames": ("bdd_anomaly", planted("bdd_anomaly"), "expected 810 frames, found 2"),
    "no telling which version": (
        "fishyscapes_static-v3",
        planted("fishyscapes_static-v3", "Mask2Anomaly"),
        r"expected version v3.*names no version.*\(--as-found\)",
    ),
}


def read(name, root, **options):
    dataset = load_dataset(name, root, **options)
    return [dataset.frame(i) for i in range(len(dataset))]


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_refused(tmp_path, fault):
    name, make, message = FAULTS[fault]
    make(tmp_path)
    with pytest.raises(InputError, match=message):
        read(name, tmp_path, as_found=True)


@pytest.mark.parametrize("fault", AS_PUBLISHED)
def test_what_is_not_as_published_is_refused_and_taken_where_it_is_meant(tmp_path, fault):
    name, make, message = AS_PUBLISHED[fault]
    make(tmp_path)
    with pytest.raises(InputError, match=message):
        read(name, tmp_path)
    assert load_dataset(name, tmp_path, as_found=True).notes


def test_photographs_without_labels_among_a_part_are_refused(tmp_path):
    set_trees.camvid_ood(tmp_path)
    images = sorted((tmp_path / "images").iterdir())
    next((tmp_path / "labels").glob(f"{images[1].stem}.*")).unlink()
    message = rf"expected a label map for every image .* found none for '{images[1].stem}' \(1 of 3\)"
    with pytest.raises(InputError, match=message):
        SETS["camvid_ood"].open(tmp_path)
    notes = SETS["camvid_ood"].open(tmp_path, as_found=True).notes
    assert f"1 images have no label map, such as '{images[1].stem}', and are left out" in notes


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_photographs_without_labels_are_refused_where_no_number_is_published(tmp_path, suffix):
    plant(tmp_path, "street_hazards", "published")
    write(tmp_path / f"street_hazards/test/images/test/t5/2{suffix}", photo())
    with pytest.raises(InputError, match=r"expected a label map for every image .* none for 't5/2' \(1 of 3\)"):
        load_dataset("street_hazards", tmp_path)
    notes = load_dataset("street_hazards", tmp_path, as_found=True).notes
    assert "1 images have no label map, such as 't5/2', and are left out" in notes
    assert len(load_dataset("street_hazards-t6", tmp_path)) == 1


def test_frames_that_the_list_leaves_out_are_noted(tmp_path):
    set_trees.road_anomaly(tmp_path / "open_world")
    assert load_dataset("street_scenes", tmp_path).notes == ()
    set_trees.write_list(tmp_path / "open_world", ["cow.jpg"])
    dataset = load_dataset("street_scenes", tmp_path)
    note = (
        "2 label maps, such as frames/bear.labels/labels_semantic.png, are not in the dataset's list and are left out"
    )
    assert (len(dataset), dataset.notes) == (1, (note,))


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_hidden_split_has_every_photograph_once(tmp_path, suffix):
    images = tmp_path / "dataset_ObstacleTrack/images"
    for name in ("curvy-street_1.webp", "curvy-street_2.webp", "motorway_1.webp"):
        write(images / name, photo())
    assert len(SETS["obstacle_track-curvy"].find_images(tmp_path)) == 2
    write(images / f"curvy-street_2{suffix}", photo())
    fault = "one image for frame 'curvy-street_2', found curvy-street_2.jpg and curvy-street_2.webp"
    if suffix == ".bmp":
        fault = r"images that end in \.jpg, .* found curvy-street_2\.bmp \(1 of 3\)"
    with pytest.raises(InputError, match=f"expected {fault}"):
        SETS["obstacle_track-curvy"].find_images(tmp_path)


def test_a_set_of_links_and_of_suffixes_in_capitals_is_whole(tmp_path):
    plant(tmp_path / "else", "street_hazards", "published")
    for kind in ("images", "annotations"):
        folder = tmp_path / "street_hazards/test" / kind / "test"
        folder.mkdir(parents=True)
        for town in ("t5", "t6"):
            place = tmp_path / "else/street_hazards/test" / kind / "test" / town
            (place / "1.png").rename(place / "1.PNG")
            (folder / town).symlink_to(place)
    assert [file.id for file in load_dataset("street_hazards", tmp_path).files] == ["t5/1", "t6/1"]


def test_more_frames_than_published_are_refused(tmp_path):
    set_trees.camvid_ood(tmp_path)  # in a layout that may hold a part
    small = replace(SETS["camvid_ood"], frames=2)
    with pytest.raises(InputError, match=r"expected 2 frames, found 3 .* remove frames that do not belong to it"):
        small.open(tmp_path)


def test_folder_named_after_another_version_is_refused(tmp_path):
    static("v2", rgb=np.zeros((6, 8, 3), np.int16))(tmp_path)
    with pytest.raises(InputError, match=r"expected version v1, found .*fs_val_v2, which is named fs_val_v2"):
        load_dataset("fishyscapes_static-v1", tmp_path / "fs_val_v2")


def test_mask_of_another_size_is_refused(tmp_path):
    plant(tmp_path, "lost_and_found-test", "published")
    small = replace(SETS["lost_and_found-test_roi"], total=1, frames=1, excluded_places={})
    with pytest.raises(InputError, match=r"expected the mask LAF_roi_2048\.png in .* found none"):
        small.open(tmp_path)
    write(tmp_path / "LostAndFound/LAF_roi_2048.png", label((1,), 3, 4))
    with pytest.raises(InputError, match="mask of the labels' size, 8x6, found 4x3"):
        small.open(tmp_path).frame(0)


UNDERSTOOD = {
    "anomalies rewritten to 1": (RA, planted(RA, values=(0, 1)), "labels rewritten to 0 and 1"),
    "labels less one": ("street_hazards", planted("street_hazards", values=tuple(range(14))), "labels less one"),
    "void = 2 in DenseHybrid's copies": (
        "fishyscapes_lost_and_found",
        planted("fishyscapes_lost_and_found", "DenseHybrid"),
        "labels with void = 2",
    ),
    "a misspelt folder": (
        "obstacle_track-val",
        planted("obstacle_track-val", "Mask2Anomaly"),
        "images/NAME.* + labels_masks/NAME.png",
    ),
    "no instance labels": (RA, planted(RA), "frames/NAME"),
}


@pytest.mark.parametrize("kind", UNDERSTOOD)
def test_what_people_have_on_disk_is_understood(tmp_path, kind):
    name, make, words = UNDERSTOOD[kind]
    make(tmp_path)
    dataset = load_dataset(name, tmp_path, as_found=True)
    assert words in dataset.layout
    assert all((frame.label == 1).any() for frame in dataset)


def test_the_list_is_long_enough():
    assert len(FAULTS) + len(AS_PUBLISHED) + len(UNDERSTOOD) >= 50


def test_palette_label_gives_indices(tmp_path):
    plant(tmp_path, RA, "published")
    picture = Image.fromarray(label((0, 2)), mode="P")
    picture.putpalette([255, 0, 0] * 256)
    picture.save(tmp_path / A)
    assert (load_dataset(RA, tmp_path, as_found=True).frame(0).label == (label((0, 2)) == 2)).all()
