"""What labels hold, and which images two datasets share: against loops over the frames."""

import numpy as np
import pytest
from PIL import Image

from anomaly.datasets.dataset import Dataset
from anomaly.datasets.folder import open_folders
from anomaly.datasets.label_counts import check_both_kinds, count_labels
from anomaly.datasets.overlap import shared_images
from anomaly.errors import InputError
from anomaly.scores import SCORES
from anomaly.utils.names import by_name
from tests.anomaly import set_trees

MEANING = {0: 0, 3: 1, 4: 1, 9: 255}


def folders(root, labels, name="mine"):
    for i, label in enumerate(labels):
        set_trees.write(root / f"labels/f{i}.png", label)
        set_trees.write(root / f"images/f{i}.png", set_trees.photo(i, *label.shape))
    return open_folders(name, root / "images", root / "labels", MEANING)


def test_counts_equal_those_of_a_loop(tmp_path):
    draws = np.random.default_rng(0)
    labels = [draws.choice(np.uint8([0, 3, 4, 9]), (5 + i, 7), p=(0.6, 0.1, 0.1, 0.2)) for i in range(4)]
    dataset, visited = folders(tmp_path, labels), []
    counts = count_labels(dataset, on_frame=lambda: visited.append(1))
    pixels = np.concatenate([label.ravel() for label in labels])
    assert (counts.known, counts.ignored) == ((pixels == 0).sum(), (pixels == 9).sum())
    assert counts.anomaly == ((pixels == 3) | (pixels == 4)).sum()
    assert counts.values == dict(zip(*map(np.ndarray.tolist, np.unique(pixels, return_counts=True)), strict=True))
    assert (counts.frames, len(visited)) == (4, 4)
    for i, frame in enumerate(dataset):
        assert (dataset.label(i)[0] == frame.label).all()


@pytest.mark.parametrize(("value", "missing"), [(0, "anomalous"), (3, "known")])
def test_both_kinds_of_pixels_have_to_be_there(tmp_path, value, missing):
    dataset = folders(tmp_path, [np.full((4, 4), value, np.uint8)])
    with pytest.raises(InputError, match=rf"not one {missing} pixel .* label values are {value} \(100.00 %\)"):
        check_both_kinds(dataset, count_labels(dataset))


def test_an_image_of_another_size_is_told_without_decoding_it(tmp_path):
    dataset = folders(tmp_path, [np.zeros((4, 4), np.uint8)])
    set_trees.write(tmp_path / "images/f0.png", set_trees.photo(0, 4, 6))
    with pytest.raises(InputError, match=r"one size, found 6x4 in .*f0.png and 4x4"):
        count_labels(dataset)
    (tmp_path / "images/f0.png").write_text("no image")
    with pytest.raises(InputError, match=r"f0.png: expected a complete image"):
        count_labels(dataset)


@pytest.mark.parametrize("encoding", [{-1: 1, 0: 0}, {256: 1}, {0: 0, 1: 2}, {0: 0, 1: 7}])
def test_an_encoding_that_no_label_map_can_have(tmp_path, encoding):
    files = folders(tmp_path, [np.zeros((4, 4), np.uint8)]).files
    with pytest.raises(InputError, match="correct the encoding"):
        Dataset("mine", tmp_path, "", files, encoding)


def test_shared_images_are_told_by_what_is_in_the_files(tmp_path):
    label = np.zeros((6, 6), np.uint8)
    first, second = folders(tmp_path / "a", [label] * 4), folders(tmp_path / "b", [label] * 4)
    Image.fromarray(set_trees.photo(9, 6, 6)).save(tmp_path / "b/images/f1.png")
    (tmp_path / "b/images/f2.png").unlink()
    (tmp_path / "b/images/f2.png").symlink_to(tmp_path / "a/images/f3.png")
    assert shared_images(first, second) == ["f0", "f2", "f3"]
    assert shared_images(first, folders(tmp_path / "c", [np.zeros((8, 8), np.uint8)])) == []


def test_a_table_has_no_two_things_of_one_name():
    with pytest.raises(InputError, match="scores of different names, found 'msp' 2 times"):
        by_name([SCORES["msp"], SCORES["msp"]], "scores")
    assert list(by_name([SCORES["msp"], SCORES["energy"]], "scores")) == ["msp", "energy"]
