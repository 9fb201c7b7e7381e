"""Score maps find their frames by name and by what the image shows, whatever folders are called, and across stops."""

import contextlib
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.datasets.catalog import load_dataset
from anomaly.datasets.dataset import Dataset, FrameFiles
from anomaly.errors import InputError
from anomaly.evaluation.callbacks import ScoreMapCallback
from anomaly.evaluation.config import Calibration
from anomaly.evaluation.evaluator import calibrate, evaluate
from anomaly.evaluation.write_scores import write_scores
from anomaly.frames import image_hash
from anomaly.results.score_store import IMAGES, MANIFEST, ScoreWriter, StoredScores, open_dataset_scores, open_scores
from anomaly.scores.registry import get_scores, stored_scores
from tests.anomaly import set_trees
from tests.anomaly.test_evaluator import ColourModel, make_dataset

MSP = get_scores(["msp"])


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path)


def writer(folder, name="road_anomaly"):
    return ScoreWriter(folder, dataset=name, method="m")


def maps(folder, *frames, name="mine", value=0, images=True):
    """Maps as they are written, with hashes made of the frames' names, or as earlier versions wrote them, without."""
    store = writer(folder, name)
    for frame in frames:
        store.write(frame, "msp", np.full((2, 3), value, np.float32), f"image of {frame}" if images else None)
    return folder


def evaluate_into(folder, model, dataset):
    """Evaluate with the maps of a folder, which gets those that it lacks."""
    writers = {dataset.name: writer(folder)}
    return evaluate(model, [dataset], MSP, stores=writers, callbacks=[ScoreMapCallback(writers)])


def of(*frames, name="road_anomaly"):
    """Something with the names of frames, as a set has them."""
    return SimpleNamespace(name=name, files=[SimpleNamespace(id=frame) for frame in frames])


def images(dataset):
    return [(files.id, files.image) for files in dataset.files]


def replace_image(dataset, place):
    set_trees.write(dataset.files[place].image, set_trees.photo(100 + place, 24, 32))


# What is written


def test_images_are_a_readable_line_for_each_map(dataset, tmp_path):
    store = writer(tmp_path / "maps")
    write_scores(ColourModel(), images(dataset), get_scores(["msp", "energy"]), store)
    lines = [json.loads(line) for line in (tmp_path / "maps/images.jsonl").read_text().splitlines()]
    expected = {
        (name, files.id, image_hash(np.asarray(set_trees.photo(i, 24, 32))))
        for i, files in enumerate(dataset.files)
        for name in ("msp", "energy")
    }
    assert {(line["score"], line["frame"], line["image"]) for line in lines} == expected
    assert len(lines) == 12


@pytest.mark.parametrize("frame", [7, None, ("a", 1), b"a", ""])
def test_a_frame_without_a_name_is_refused(tmp_path, frame):
    with pytest.raises(InputError, match="expected the name of a frame as a string, found"):
        writer(tmp_path / "maps").write(frame, "msp", np.zeros((2, 3)))
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [MANIFEST]


# An image that was replaced


def test_a_run_that_goes_on_scores_replaced_images_again(dataset, tmp_path):
    model = ColourModel()
    assert write_scores(model, images(dataset), MSP, writer(tmp_path / "maps")) == 6
    replace_image(dataset, 3)
    assert write_scores(model, images(dataset), MSP, writer(tmp_path / "maps")) == 1
    fresh = writer(tmp_path / "fresh")
    write_scores(model, images(dataset), MSP, fresh)
    for files in dataset.files:
        np.testing.assert_array_equal(writer(tmp_path / "maps").read("msp", files.id), fresh.read("msp", files.id))
    assert write_scores(model, images(dataset), MSP, writer(tmp_path / "maps")) == 0


def test_an_evaluation_that_goes_on_does_too(dataset, tmp_path):
    model = ColourModel()
    evaluate_into(tmp_path / "maps", model, dataset)
    replace_image(dataset, 3)
    found = evaluate_into(tmp_path / "maps", model, dataset)
    assert model.calls == 7
    assert found == evaluate(ColourModel(), [dataset], MSP)
    assert (
        evaluate(None, [dataset], MSP, stores={dataset.name: open_dataset_scores(tmp_path / "maps", dataset)}) == found
    )


def test_maps_of_images_that_were_replaced_give_no_figure(dataset, tmp_path):
    evaluate_into(tmp_path / "maps", ColourModel(), dataset)
    replace_image(dataset, 3)
    stored, scores = open_dataset_scores(tmp_path / "maps", dataset), stored_scores(["msp"])
    message = "f3.npy: expected the scores of the image of frame 'f3', found those of another image of that name"
    with pytest.raises(InputError, match=message):
        evaluate(None, [dataset], scores, stores={dataset.name: stored})
    with pytest.raises(InputError, match=message):
        evaluate(None, [dataset], scores, stores={dataset.name: writer(tmp_path / "maps")})
    with pytest.raises(InputError, match=message):
        calibrate(None, Calibration(dataset, "best_f1"), scores, store=stored)


@pytest.mark.parametrize("step", ["replace", "append", "half a line"])
def test_a_stop_never_leaves_a_map_under_the_name_of_another_image(tmp_path, monkeypatch, step):
    store = writer(tmp_path)
    for name in ("msp", "energy"):
        store.write("a", name, np.zeros((2, 3)), "old")
    with monkeypatch.context() as patched:
        if step == "replace":
            patched.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        else:

            def stop(path, entry):
                with path.open("ab") as file:
                    file.write(json.dumps(entry).encode()[: 20 if step == "half a line" else 0])
                raise KeyboardInterrupt

            patched.setattr("anomaly.results.score_store._append", stop)
        with pytest.raises(KeyboardInterrupt):
            store.write("a", "msp", np.ones((2, 3)), "new")
    again = writer(tmp_path)
    assert not again.has("a", ["msp"])
    assert again.has("a", ["energy"], "old")
    again.write("a", "msp", np.ones((2, 3)), "new")
    again.write("b", "msp", np.ones((2, 3)), "b")
    assert writer(tmp_path).has("a", ["msp"], "new")
    assert not writer(tmp_path).has("a", ["msp"], "old")
    assert writer(tmp_path).has("b", ["msp"], "b")


@given(
    events=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), min_size=1, max_size=6),
    length=st.integers(0, 60),
)
@settings(max_examples=60, deadline=None)
def test_whatever_a_stop_cuts_a_map_is_of_the_image_it_is_said_to_be(tmp_path_factory, events, length):
    folder = tmp_path_factory.mktemp("cut")

    def cut(path, entry):
        with path.open("ab") as file:
            file.write(json.dumps(entry).encode()[:length])
        raise KeyboardInterrupt

    def write(store, frame, image):
        store.write(frame, "msp", np.full((1, 1), ord(image), np.float32), image)

    def is_true():
        store = writer(folder)
        for frame in "ab":
            named = [image for image in "xyz" if store.has(frame, ["msp"], image)]
            assert all(store.read("msp", frame)[0, 0] == ord(image) for image in named)
            assert bool(named) == store.has(frame, ["msp"])

    for frame, image in events[:-1]:
        write(writer(folder), frame, image)
    with pytest.MonkeyPatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr("anomaly.results.score_store._append", cut)
        write(writer(folder), *events[-1])
    is_true()
    write(writer(folder), "c", "z")
    write(writer(folder), *events[-1])
    is_true()
    assert writer(folder).has(events[-1][0], ["msp"], events[-1][1])
    assert writer(folder).has("c", ["msp"], "z")


def test_a_map_whose_image_is_not_known_is_read_but_not_gone_on_from(tmp_path):
    folder = maps(tmp_path / "maps", "f0", "f1", name="road_anomaly", images=False)
    assert not (folder / IMAGES).exists()
    assert open_dataset_scores(folder, of("f0", "f1")).has("f0", ["msp"], "whatever")
    assert writer(folder).has("f0", ["msp"])
    assert not writer(folder).has("f0", ["msp"], "image of f0")
    writer(folder).write("f0", "msp", np.ones((2, 3)), "image of f0")
    assert writer(folder).has("f0", ["msp"], "image of f0")
    writer(folder).write("f0", "msp", np.ones((2, 3)))  # by who does not say of which image
    assert not writer(folder).has("f0", ["msp"], "image of f0")


# A set that was renamed


def test_a_run_goes_on_after_the_set_was_renamed(dataset, tmp_path):
    model = ColourModel()
    write_scores(model, images(dataset)[:4], MSP, writer(tmp_path / "maps", "before"))
    (tmp_path / "maps/msp/f0.npy").unlink()
    assert write_scores(model, images(dataset), MSP, writer(tmp_path / "maps", "after")) == 3
    assert model.calls == 7


def test_maps_of_other_images_are_not_written_over(dataset, tmp_path):
    before = {path.name: path.read_bytes() for path in maps(tmp_path / "maps", "f0", "f1").rglob("*.*")}
    for frames in (images(dataset), images(dataset)[3:]):
        with pytest.raises(InputError, match="expected score maps of dataset 'road_anomaly', found those of 'mine'"):
            write_scores(ColourModel(), frames, MSP, writer(tmp_path / "maps"))
    with pytest.raises(InputError, match="expected score maps of dataset 'road_anomaly', found those of 'mine'"):
        evaluate_into(tmp_path / "maps", ColourModel(), dataset)
    assert {path.name: path.read_bytes() for path in (tmp_path / "maps").rglob("*.*")} == before


@pytest.mark.parametrize("place", [".", "road_anomaly", "renamed", "deep/er"])
def test_maps_are_found_in_the_folder_and_in_one_of_any_name_below(dataset, tmp_path, place):
    folder = tmp_path / "maps" / place
    write_scores(ColourModel(), images(dataset), MSP, writer(folder, "frames"))
    stored = open_dataset_scores(tmp_path / "maps", dataset)
    assert (stored.folder, stored.unused) == (folder, ())
    half = dataset.half("second")
    assert len(open_dataset_scores(tmp_path / "maps", half).unused) == 3
    if place == "renamed":
        maps(tmp_path / "maps/other", "x")  # without these frames
        assert open_dataset_scores(tmp_path / "maps", dataset).folder == folder
        with pytest.raises(InputError, match="found those of other, renamed, none of which has every frame"):
            open_dataset_scores(tmp_path / "maps", of("f0", "x"))
        shutil.copytree(folder, tmp_path / "maps/copy")
        with pytest.raises(InputError, match=r"in one folder, found its frames in .*/copy, .*/renamed; name"):
            open_dataset_scores(tmp_path / "maps", dataset)
        (tmp_path / "maps/copy").rename(tmp_path / "maps/road_anomaly")
        assert open_dataset_scores(tmp_path / "maps", half).folder == tmp_path / "maps/road_anomaly"


def test_maps_below_a_linked_folder_are_found(dataset, tmp_path):
    write_scores(ColourModel(), images(dataset), MSP, writer(tmp_path / "else", "frames"))
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/linked").symlink_to(tmp_path / "else")
    assert open_dataset_scores(tmp_path / "maps", dataset).scores == ("msp",)


def test_an_incomplete_folder_of_any_name_says_what_is_missing(tmp_path):
    maps(tmp_path / "maps/renamed", "f0")
    with pytest.raises(InputError, match=r"each of 2 frames, found none for 'f1' \(1 are missing\)"):
        open_dataset_scores(tmp_path / "maps", of("f0", "f1"))


@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize("named", ["fishyscapes_static-v1", "frames"])
def test_maps_that_say_another_set_of_the_catalogue_need_the_hashes_of_their_images(tmp_path, images, named):
    maps(tmp_path / "maps", "0", "1", name=named, images=images)
    if named == "frames" or images:
        assert open_dataset_scores(tmp_path / "maps", of("0", "1")).dataset == named
    else:
        with pytest.raises(InputError, match="expected score maps of road_anomaly, found those of fishyscapes_static"):
            open_dataset_scores(tmp_path / "maps", of("0", "1"))


def test_halves_are_measured_by_maps_of_earlier_versions_of_the_whole(tmp_path):
    maps(tmp_path / "maps/road_anomaly", "0", "1", name="road_anomaly", images=False)
    for half in ("first", "second"):
        assert open_dataset_scores(tmp_path / "maps", of("1", name=f"road_anomaly-{half}")).unused == ("0",)


# Names


MATCHES = [
    # files, frames, the file of each frame
    (("a", "b"), ("b", "a"), ("b", "a")),
    (("frames/a", "frames/b"), ("a", "b"), ("frames/a", "frames/b")),
    (("x/t5/1", "x/t6/1"), ("t5/1", "t6/1"), ("x/t5/1", "x/t6/1")),
    (("t5/1", "t6/1"), ("y/t6/1", "y/t5/1"), ("t6/1", "t5/1")),
    (("1", "t5/1"), ("t5/1",), ("t5/1",)),
    (("old/1",), ("new/1",), ("old/1",)),
    (("a b/ü", "c"), ("x/a b/ü",), ("a b/ü",)),
]
DOUBTS = [
    (("t5/1", "t6/1"), ("1",), "'1', and for no other frame, found t5/1 and t6/1"),
    (("t5/1", "t6/1"), ("x/1",), "'x/1', and for no other frame, found t5/1 and t6/1"),
    (("1",), ("t5/1", "t6/1"), "'t6/1', and for no other frame, found 1"),
    (("1", "t5/1"), ("x/t5/1",), "'x/t5/1', and for no other frame, found 1 and t5/1"),
    (("t5/1",), ("t5/1", "1"), "'1', and for no other frame, found t5/1"),
    (("x/1",), ("a/1", "b/1"), "'a/1', and for no other frame, found x/1"),
]


@pytest.mark.parametrize(("files", "frames", "expected"), MATCHES)
def test_names_that_leave_no_doubt(tmp_path, files, frames, expected):
    stored = StoredScores(tmp_path, "npy", {"s": {name: tmp_path / f"{name}.npy" for name in files}})
    found = stored.of_frames(frames)
    assert [found.files["s"][frame] for frame in frames] == [tmp_path / f"{name}.npy" for name in expected]
    assert set(found.unused) == set(files) - set(expected)


@pytest.mark.parametrize(("files", "frames", "message"), DOUBTS)
def test_names_that_leave_a_doubt(tmp_path, files, frames, message):
    stored = StoredScores(tmp_path, "npy", {"s": {name: tmp_path / f"{name}.npy" for name in files}})
    with pytest.raises(InputError, match=f"expected one file for frame {message}"):
        stored.of_frames(frames)


# What lies elsewhere


def test_own_maps_that_lie_too_deep_are_told(tmp_path):
    maps(tmp_path / "maps", "a", "b")
    (tmp_path / "maps/msp/old").mkdir()
    (tmp_path / "maps/msp/b.npy").rename(tmp_path / "maps/msp/old/b.npy")
    np.save(tmp_path / "maps/c.npy", np.zeros((2, 3)))
    assert open_scores(tmp_path / "maps").of_frames(["a"]).unused == ("c.npy", "msp/old/b.npy")


def test_own_folders_deep_below_are_not_taken_for_files_of_another_format(tmp_path):
    for name in ("x", "y"):
        maps(tmp_path / "maps/deep" / name, "a")
    with pytest.raises(InputError, match="expected the maps of one dataset, found those of deep/x, deep/y"):
        open_scores(tmp_path / "maps")


@pytest.mark.parametrize("suffix", [".npy", ".NPY"])
def test_linked_folders_of_maps_are_read_and_hidden_ones_are_not(tmp_path, suffix):
    for place, frame in (("else", "b"), ("maps", "a"), ("maps/.old", "c")):
        (tmp_path / place).mkdir()
        with (tmp_path / place / f"{frame}{suffix}").open("wb") as file:
            np.save(file, np.zeros((2, 3)))
    (tmp_path / "maps/more").symlink_to(tmp_path / "else")
    stored = open_scores(tmp_path / "maps")
    assert sorted(stored.files["predictions"]) == ["a", "more/b"]
    assert stored.of_frames(["a", "b"]).read("predictions", "b").shape == (2, 3)
    (tmp_path / f"maps/d{suffix}").symlink_to("gone")
    with pytest.raises(InputError, match="leads to nothing"):
        open_scores(tmp_path / "maps")


def test_files_of_other_software_are_found_below_any_folder(dataset, tmp_path):
    for i in range(6):
        (tmp_path / "maps/renamed/frames").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / f"maps/renamed/frames/f{i}.npy", np.full((24, 32), i, np.float32))
    for frames in (dataset, dataset.half("second")):
        stored = open_dataset_scores(tmp_path / "maps", frames)
        assert [stored.read("predictions", files.id)[0, 0] for files in frames.files] == [
            int(files.id[1:]) for files in frames.files
        ]
    (tmp_path / "maps/copy").mkdir()
    shutil.copy(tmp_path / "maps/renamed/frames/f3.npy", tmp_path / "maps/copy")
    with pytest.raises(
        InputError, match="expected one file for frame 'f3', and for no other frame, found copy/f3 and renamed"
    ):
        open_dataset_scores(tmp_path / "maps", dataset)


def test_a_real_set_of_another_name_is_found_by_its_frames(data_root, tmp_path):
    dataset = load_dataset("road_anomaly", data_root).limit(3)
    store = writer(tmp_path / "maps/frames", "frames")
    for i, files in enumerate(dataset.files):
        image = dataset.image(i)
        store.write(files.id, "msp", np.zeros(image.shape[:2]), image_hash(image))
    stored = open_dataset_scores(tmp_path / "maps", dataset)
    stored.check(dataset.files[0].id, ["msp"], image_hash(dataset.image(0)))
    with pytest.raises(InputError, match="another image"):
        stored.check(dataset.files[0].id, ["msp"], image_hash(dataset.image(1)))


def test_composed_images_are_those_that_are_told_apart(tmp_path):
    """An overlay is part of the image: maps of the bare image are not those of the composed one."""
    image = set_trees.write(tmp_path / "a.png", set_trees.photo())
    label = set_trees.write(tmp_path / "a_l.png", set_trees.label((0, 1)))
    np.savez(tmp_path / "a.npz", rgb=np.ones(set_trees.photo().shape, np.int16))
    dataset = Dataset("mine", tmp_path, "", (FrameFiles("a", image, label, tmp_path / "a.npz"),), {0: 0, 1: 1})
    store = writer(tmp_path / "maps", "mine")
    write_scores(ColourModel(), [("a", image)], MSP, store)
    with pytest.raises(InputError, match="another image"):
        evaluate(
            None, [dataset], stored_scores(["msp"]), stores={"mine": open_dataset_scores(tmp_path / "maps", dataset)}
        )
