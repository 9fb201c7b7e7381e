"""Folders of one's own: which of their files are images and label maps, and what is told of the others."""

import warnings

import numpy as np
import pytest
from PIL import Image

from anomaly.datasets.folder import find_images, open_folders
from anomaly.errors import InputError
from tests.anomaly import set_trees
from tests.anomaly.set_trees import LAYOUTS, label, photo, plant, write

ENCODING = {0: 0, 1: 1, 255: 255}


def fill(root, *names, suffix=".png"):
    """Write images and label maps of these names."""
    for seed, name in enumerate(names):
        write(root / f"images/{name}{suffix}", photo(seed))
        write(root / f"labels/{name}.png", label((0, 1)))


def pair(root):
    return [file.id for file in open_folders("mine", root / "images", root / "labels", ENCODING).files]


def names(folder):
    return [name for name, _ in find_images(folder)]


# Links


def test_a_linked_folder_has_its_frames(tmp_path):
    fill(tmp_path / "set", "a")
    fill(tmp_path / "else", *"bcd")
    for kind in ("images", "labels"):
        (tmp_path / "set" / kind / "more").symlink_to(tmp_path / "else" / kind)
    assert pair(tmp_path / "set") == names(tmp_path / "set/images") == ["a", "more/b", "more/c", "more/d"]


def test_links_to_nothing_are_refused_and_not_a_frame_less(tmp_path):
    fill(tmp_path, "a", "b")
    for path in (tmp_path / "images/b.png", tmp_path / "labels/b.png"):
        path.unlink()
        path.symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=r"images/b\.png: expected a file or a folder, found a link that leads to no"):
        pair(tmp_path)
    with pytest.raises(InputError, match="leads to nothing"):
        names(tmp_path / "images")


def test_hidden_files_and_hidden_folders_do_not_count(tmp_path):
    fill(tmp_path, "a", ".b", ".thumbnails/a", "c/.d")
    assert pair(tmp_path) == names(tmp_path / "images") == ["a"]


# Label maps among images


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_label_maps_of_every_layout_are_no_images(tmp_path, name, layout):
    plant(tmp_path, name, layout)
    images = sorted(image.rpartition(".")[0] for _, image, _ in LAYOUTS[name, layout][1:])
    with pytest.warns(UserWarning, match=rf"{len(images)} files such as .*\.png are left out: they are label maps"):
        assert names(tmp_path) == images


def test_everything_in_a_labels_folder_is_left_out(tmp_path):
    set_trees.road_anomaly(tmp_path)
    for name in ("labels_instance.png", "labels_semantic_color.png", "note.txt"):
        write(tmp_path / "frames/cow.labels/x.png", photo()).rename(tmp_path / "frames/cow.labels" / name)
    message = r"frames: 5 files such as bear\.labels/labels_semantic\.png are left out: they are label maps"
    with pytest.warns(UserWarning, match=message):
        assert names(tmp_path / "frames") == ["bear", "cow", "tyre"]
    for name in set_trees.NAMES:
        write(tmp_path / f"mine/{name}.png", label((0, 1)))
    with pytest.warns(UserWarning, match=message):
        dataset = open_folders("mine", tmp_path / "frames", tmp_path / "mine", ENCODING)
    assert [file.id for file in dataset.files] == ["bear", "cow", "tyre"]


def test_colour_versions_in_a_folder_of_label_maps_are_left_out(tmp_path):
    plant(tmp_path, "anomaly_track-val", "published")
    write(tmp_path / "dataset_AnomalyTrack/labels_masks/validation0000_labels_semantic_color.png", photo())
    with pytest.warns(UserWarning, match="2 files such as"):
        assert names(tmp_path) == ["dataset_AnomalyTrack/images/validation0000"]


@pytest.mark.parametrize(
    "files",
    [
        ("labels/a.png",),  # no image that these are of
        ("images/a.jpg", "labels/b.png"),
        ("a_labels.png", "b_rgb.png"),
        ("labels.png", "my labels/a.png"),
    ],
)
def test_what_only_looks_like_label_maps_is_kept(tmp_path, files):
    for file in files:
        write(tmp_path / file, photo()[..., 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert names(tmp_path) == sorted(file[:-4] for file in files)


def test_colour_images_in_a_folder_of_that_name_are_kept(tmp_path):
    for file in ("images/a.png", "labels/a.png"):
        write(tmp_path / file, photo())
    assert names(tmp_path) == ["images/a", "labels/a"]


def test_an_image_and_its_label_map_may_share_name_and_folder(tmp_path):
    write(tmp_path / "x.jpg", photo())
    write(tmp_path / "x.png", label((0, 1)))
    with pytest.warns(UserWarning, match=r"1 files such as x\.png"):
        dataset = open_folders("mine", tmp_path, tmp_path, ENCODING)
    assert [(file.image.name, file.label.name) for file in dataset.files] == [("x.jpg", "x.png")]
    write(tmp_path / "x.png", photo())  # the same image in another format
    with pytest.raises(InputError, match=r"expected one file 'x', found x\.jpg and x\.png"):
        names(tmp_path)


def test_real_frames_are_found_among_their_label_maps(data_root):
    with pytest.warns(UserWarning, match="label maps"):
        found = names(data_root / "road_anomaly/RoadAnomaly_jpg/frames")
    assert len(found) == 30
    assert not [name for name in found if "label" in name]


# Formats that are not read


@pytest.mark.parametrize("suffix", [".bmp", ".BMP", ".tif", ".gif"])
def test_pictures_that_are_not_read_are_refused_where_figures_would_be_of_a_part(tmp_path, suffix):
    fill(tmp_path, "a", "b", "c")
    for kind in ("images", "labels"):
        with Image.open(tmp_path / kind / "b.png") as picture:
            picture.save(tmp_path / kind / f"b{suffix}", format=suffix[1:].replace("tif", "tiff"))
        (tmp_path / kind / "b.png").unlink()
    with pytest.raises(InputError, match=rf"images: expected only images .*found b\{suffix} \(1 such files\)"):
        pair(tmp_path)
    with pytest.warns(UserWarning, match=rf"images: 1 images such as b\{suffix} are left out"):
        assert names(tmp_path / "images") == ["a", "c"]
    (tmp_path / f"images/b{suffix}").unlink()
    with pytest.raises(InputError, match=rf"labels: expected only label maps that end in \.png, found b\{suffix}"):
        pair(tmp_path)


def test_label_maps_that_are_no_png_are_refused(tmp_path):
    fill(tmp_path, "a")
    write(tmp_path / "labels/b.jpg", label((0, 1)))
    with pytest.raises(InputError, match=r"labels: expected only label maps that end in \.png, found b\.jpg"):
        pair(tmp_path)


def test_other_pictures_among_label_maps_of_images_are_no_fault(tmp_path):
    set_trees.road_anomaly(tmp_path)
    (tmp_path / "frames/cow.labels/scan.tif").write_bytes(b"")
    for name in set_trees.NAMES:
        write(tmp_path / f"mine/{name}.PNG", np.uint8(label((0, 1))))
    with pytest.warns(UserWarning, match="label maps"):
        assert len(open_folders("mine", tmp_path / "frames", tmp_path / "mine", ENCODING)) == 3
