import json
import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from anomaly.errors import InputError
from anomaly.metrics import PixelMetrics
from anomaly.results.rank_map import LEVELS, RankMap, Ties
from anomaly.results.score_export import METRICS, write_smiyc
from anomaly.results.score_store import ScoreWriter, open_scores

RANDOM = np.random.default_rng(0)
FRAMES = ("a", "town/b 1", "c.d", "ü%2F")


def label(shape=(30, 40)):
    return np.random.default_rng(7).choice(np.uint8([0, 0, 0, 1, 255]), shape)


def likelihoods(shape=(30, 40), seed=0):
    """Like negative log-likelihoods: hundreds, of heavy tails."""
    return (400 + 80 * np.random.default_rng(seed).standard_t(3, shape)).astype(np.float32)


def figures(read, frames=FRAMES):
    metrics = PixelMetrics()
    for frame in frames:
        metrics.update(frame, read(frame), label())
    result = metrics.compute()
    return [result[name] for name in METRICS]


def expected(frames=FRAMES, change=lambda score: score):
    return figures(lambda frame: change(likelihoods(seed=frames.index(frame))), frames)


@pytest.fixture
def store(tmp_path):
    writer = ScoreWriter(tmp_path / "scores", dataset="street", method="net", settings={"size": [2, 3]})
    for seed, frame in enumerate(FRAMES):
        writer.write(frame, "gmm_nll", likelihoods(seed=seed))
    return tmp_path / "scores"


# Own format


def test_own_format_keeps_everything(store):
    stored = open_scores(store)
    assert (stored.format, stored.dataset, stored.method, stored.scores) == ("own", "street", "net", ("gmm_nll",))
    assert stored.settings == {"size": [2, 3]}
    assert set(stored.files["gmm_nll"]) == set(FRAMES)
    read = stored.of_frames(FRAMES).read
    assert figures(lambda frame: read("gmm_nll", frame)) == expected()
    assert read("gmm_nll", "a").dtype == np.float32


@pytest.mark.parametrize("value", [np.float64(0.1), np.int64(2**30 + 1), np.float16(0.1), True, np.uint8(7)])
def test_every_type_is_kept_exactly(tmp_path, value):
    writer = ScoreWriter(tmp_path / "x", dataset="s", method="m")
    writer.write("a", "msp", np.full((2, 3), value))
    read = open_scores(tmp_path / "x").read("msp", "a")
    assert read.shape == (2, 3)
    assert (read == value).all()


@given(
    frames=st.sets(
        st.text(min_size=1, max_size=20).filter(lambda t: t.isprintable() or "/" in t), min_size=1, max_size=5
    )
)
@settings(max_examples=30, deadline=None)
def test_any_name_stays_in_the_folder_and_comes_back(tmp_path_factory, frames):
    folder = tmp_path_factory.mktemp("names") / "scores"
    writer = ScoreWriter(folder, dataset="s", method="m")
    for place, frame in enumerate(sorted(frames)):
        writer.write(frame, "msp", np.full((1, 2), place, np.float32))
    stored = open_scores(folder).of_frames(sorted(frames))
    assert [int(stored.read("msp", frame)[0, 0]) for frame in sorted(frames)] == list(range(len(frames)))
    assert {path.parent.parent for path in folder.rglob("*.npy")} == {folder}


def test_stopped_run_goes_on(tmp_path):
    def writer():
        return ScoreWriter(tmp_path / "x", dataset="s", method="m", settings={"blur": 1})

    writer().write("a", "msp", likelihoods())
    assert writer().has("a", ["msp"])
    assert not writer().has("a", ["msp", "energy"])
    assert not writer().has("b", ["msp"])
    np.testing.assert_array_equal(writer().read("msp", "a"), likelihoods())


@pytest.mark.parametrize("other", [{"dataset": "t"}, {"method": "n"}, {"settings": {"blur": 2}}])
def test_maps_of_something_else_are_not_mixed(store, other):
    same = {"dataset": "street", "method": "net", "settings": {"size": [2, 3]}}
    ScoreWriter(store, **same)
    with pytest.raises(InputError, match=f"expected score maps of {next(iter(other))}"):
        ScoreWriter(store, **{**same, **other})


def test_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="found other files"):
        ScoreWriter(tmp_path, dataset="s", method="m")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (np.float32([[1, np.nan]]), "'frame_7'"),
        (np.float32([[1, np.inf]]), "'frame_7'"),
        (np.zeros((2, 3, 4)), r"\(H, W\)"),
        (np.zeros((2, 3), complex), "of type float, integer or bool"),
        (np.array([["a"]]), "of type float, integer or bool"),
    ],
)
def test_what_is_no_score_is_not_written(tmp_path, score, message):
    writer = ScoreWriter(tmp_path / "x", dataset="s", method="m")
    with pytest.raises(InputError, match=message):
        writer.write("frame_7", "msp", score)
    assert not list((tmp_path / "x").rglob("*.npy"))


def test_full_disk_is_told_and_leaves_no_part(tmp_path, monkeypatch):
    writer = ScoreWriter(tmp_path / "x", dataset="s", method="m")
    monkeypatch.setattr(np, "save", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="No space left on device"):
        writer.write("a", "msp", likelihoods())
    assert not [path for path in (tmp_path / "x").rglob("*") if path.is_file() and path.name != "scores.json"]


# Others' formats


def write_npy(path, score):
    np.save(path.with_suffix(".npy"), score)


def write_npz(path, score):
    np.savez_compressed(path.with_suffix(".npz"), score)


def write_named(path, score):
    np.savez(path.with_suffix(".npz"), score=score, threshold=np.float32(3))


def write_tiff(path, score):
    Image.fromarray(score).save(path.with_suffix(".tiff"))


def write_hdf5(path, score):
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        file.create_dataset("value", data=score, compression=9)


EXACT = {"npy": write_npy, "npz": write_npz, "npz with more": write_named, "tiff": write_tiff, "hdf5": write_hdf5}
PLAIN = ("a", "b1", "c")


def fill(folder, write, change=lambda score: score, frames=PLAIN):
    for seed, frame in enumerate(frames):
        path = folder / frame
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, change(likelihoods(seed=seed)))
    return folder


@pytest.mark.parametrize("kind", EXACT)
def test_exact_formats_give_the_same_figures(tmp_path, kind):
    folder = tmp_path / "anomaly_p" / "net" / "street"
    fill(folder, EXACT[kind])
    stored = open_scores(tmp_path).of_frames([f"town/{f}" for f in PLAIN])
    assert figures(lambda f: stored.read("predictions", f"town/{f}"), PLAIN) == expected(PLAIN)
    assert (stored.method, stored.dataset) == (("net", "street") if kind == "hdf5" else ("", ""))


@pytest.mark.parametrize(("bits", "suffix"), [(16, ".png"), (16, ".tiff"), (8, ".png")])
def test_integers_have_the_scores_their_scale_says(tmp_path, bits, suffix):
    top = 2**bits - 1
    integers = [RANDOM.integers(0, top + 1, (30, 40)).astype(f"uint{bits}") for _ in PLAIN]
    for frame, values in zip(PLAIN, integers, strict=True):
        Image.fromarray(values).save((tmp_path / frame).with_suffix(suffix))
    stored = open_scores(tmp_path, scale=(-5, 400)).of_frames(PLAIN)
    for frame, values in zip(PLAIN, integers, strict=True):
        read = stored.read("predictions", frame)
        np.testing.assert_allclose(read, -5 + 405 * (values.astype(float) / top), rtol=0, atol=1e-12)
    with pytest.raises(InputError, match=r"uint.*need a scale.*--score-scale LOW HIGH"):
        open_scores(tmp_path).read("predictions", "a")


def test_folders_in_names_decide(tmp_path):
    fill(tmp_path, write_npy, frames=("t5/1", "t6/1"))
    stored = open_scores(tmp_path)
    assert stored.of_frames(["t5/1", "t6/1"]).files["predictions"]["t6/1"] == tmp_path / "t6/1.npy"
    with pytest.raises(InputError, match="expected one file for frame 'x/1'"):
        stored.of_frames(["x/1"])


def test_incomplete_folder_gives_no_figure(tmp_path):
    fill(tmp_path, write_npy)
    with pytest.raises(InputError, match=r"each of 5 frames, found none for 'd' \(2 are missing\)"):
        open_scores(tmp_path).of_frames([*PLAIN, "d", "e"])


def several_formats(folder):
    fill(folder, write_npy)
    write_npz(folder / "a", likelihoods())


def several_sets(folder):
    for name in ("road", "street"):
        ScoreWriter(folder / name, dataset=name, method="m").write("a", "msp", likelihoods())


def several_methods(folder):
    fill(folder / "anomaly_p/one/set", write_hdf5)
    fill(folder / "anomaly_p/two/set", write_hdf5)


def two_files(folder):
    fill(folder, write_hdf5)
    (folder / "a.hdf5").rename(folder / "a.h5")
    write_hdf5(folder / "a", likelihoods())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder.rmdir(), "expected a folder with score maps, found none"),
        (lambda folder: None, "one format of .*, found none"),
        (several_formats, "found npy and npz"),
        (several_sets, "the maps of one dataset, found those of road, street"),
        (several_methods, "found 2 folders of them, such as .*one/set and .*two/set"),
        (two_files, "expected one file of frame 'a', found a.h5 and a.hdf5"),
        (lambda folder: (folder / "scores.json").write_text("{"), r"scores\.json: expected the description"),
        (
            lambda folder: (folder / "scores.json").write_text('{"format": "x"}'),
            r"scores\.json: expected the description",
        ),
    ],
)
def test_folder_that_is_not_clear_is_refused(tmp_path, make, message):
    folder = tmp_path / "scores"
    folder.mkdir()
    make(folder)
    with pytest.raises(InputError, match=message):
        open_scores(folder)


def test_later_version_is_refused(store):
    manifest = json.loads((store / "scores.json").read_text())
    (store / "scores.json").write_text(json.dumps({**manifest, "version": 9}))
    with pytest.raises(InputError, match="expected version 1 of this layout, found 9"):
        open_scores(store)


def hdf5(path, fill_in):
    with h5py.File(path, "w") as file:
        fill_in(file)


def bomb(path):
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    path.write_bytes(header.ljust(128) + bytes(64))


def bomb_in_zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(
            "arr_0.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (9999999, 999), }"
        )


HOSTILE = {
    "pickle": ("a.npy", lambda p: np.save(p, np.array([{}], object), allow_pickle=True)),
    "cut npy": ("a.npy", lambda p: (np.save(p, likelihoods()), p.write_bytes(p.read_bytes()[:300]))),
    "huge npy": ("a.npy", bomb),
    "not npy": ("a.npy", lambda p: p.write_text("hello")),
    "empty npy": ("a.npy", lambda p: p.write_text("")),
    "colour array": ("a.npy", lambda p: np.save(p, np.zeros((3, 4, 3), np.float32))),
    "complex array": ("a.npy", lambda p: np.save(p, np.zeros((3, 4), complex))),
    "no pixel": ("a.npy", lambda p: np.save(p, np.zeros((0, 4), np.float32))),
    "NaN": ("a.npy", lambda p: np.save(p, np.full((3, 4), np.nan, np.float32))),
    "pickle in npz": ("a.npz", lambda p: np.savez(p, np.array([{}], object))),
    "huge npz": ("a.npz", bomb_in_zip),
    "two arrays": ("a.npz", lambda p: np.savez(p, x=likelihoods(), y=likelihoods())),
    "cut npz": ("a.npz", lambda p: (np.savez(p, likelihoods()), p.write_bytes(p.read_bytes()[:900]))),
    "colour png": ("a.png", lambda p: Image.new("RGB", (4, 3)).save(p)),
    "palette png": ("a.png", lambda p: Image.new("P", (4, 3)).save(p)),
    "cut png": ("a.png", lambda p: (Image.new("I;16", (40, 30)).save(p), p.write_bytes(p.read_bytes()[:60]))),
    "hdf5 of another name": ("a.hdf5", lambda p: hdf5(p, lambda f: f.create_dataset("score", data=likelihoods()))),
    "hdf5 group": ("a.hdf5", lambda p: hdf5(p, lambda f: f.create_group("value"))),
    "hdf5 text": ("a.hdf5", lambda p: hdf5(p, lambda f: f.create_dataset("value", data=["a", "b"]))),
    "hdf5 that leads elsewhere": (
        "a.hdf5",
        lambda p: hdf5(p, lambda f: f.__setitem__("value", h5py.ExternalLink("/etc/passwd", "/value"))),
    ),
    "hdf5 with data elsewhere": (
        "a.hdf5",
        lambda p: hdf5(
            p, lambda f: f.create_dataset("value", (2, 2), "u1", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
        ),
    ),
    "huge hdf5": ("a.hdf5", lambda p: hdf5(p, lambda f: f.create_dataset("value", (10**6, 10**6), "f4", chunks=True))),
    "cut hdf5": ("a.hdf5", lambda p: (write_hdf5(p, likelihoods()), p.write_bytes(p.read_bytes()[:700]))),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_and_broken_files_are_refused(tmp_path, kind):
    name, make = HOSTILE[kind]
    make(tmp_path / name)
    with pytest.raises(InputError, match=r"a\.|frame 'a'"):
        open_scores(tmp_path, scale=(0, 1)).read("predictions", "a")


# float16


@pytest.mark.parametrize("kind", ["likelihoods", "few", "narrow", "held"])
def test_float16_for_segment_me_if_you_can(tmp_path, kind):
    change = {
        "likelihoods": lambda s: s * 1000,  # beyond what float16 can hold
        "few": lambda s: np.round(s) * 1000,
        "narrow": lambda s: 1000 + s / 1e5,  # closer than float16 can tell
        "held": lambda s: np.round(s),
    }[kind]
    fill(tmp_path / "in", write_npy, change)
    labels = dict.fromkeys(PLAIN, label())
    report = write_smiyc(
        open_scores(tmp_path / "in"), "predictions", tmp_path, method="net", dataset="S-val", labels=labels
    )
    assert sorted(p.name for p in (tmp_path / "anomaly_p/net/S-val").iterdir()) == ["a.hdf5", "b1.hdf5", "c.hdf5"]
    with h5py.File(tmp_path / "anomaly_p/net/S-val/a.hdf5") as file:
        assert (file["value"].dtype, file["value"].compression_opts) == (np.float16, 9)
    stored = open_scores(tmp_path / "anomaly_p").of_frames(PLAIN)
    read = {frame: stored.read("predictions", frame) for frame in PLAIN}
    given = {frame: change(likelihoods(seed=i)) for i, frame in enumerate(PLAIN)}
    assert figures(read.get, PLAIN) == pytest.approx([report.after[n] for n in METRICS], abs=1e-12)
    assert figures(given.get, PLAIN) == pytest.approx([report.before[n] for n in METRICS], abs=1e-12)
    # order is kept, and what was counted as tied is
    old, new = (np.concatenate([one[f].ravel() for f in PLAIN]) for one in (given, read))
    order = np.argsort(old, kind="stable")
    assert (np.diff(new[order]) >= 0).all()
    assert all(len(set(new[old == value])) == 1 for value in np.unique(old)[:50])
    shared = {value for value in np.unique(new) if len(np.unique(old[new == value])) > 1}
    assert report.tied == sum(int((new == value).sum()) for value in shared)
    assert report.pixels == old.size
    if kind in ("few", "held"):
        assert report.tied == 0
        assert report.before == report.after
    if kind == "held":
        assert not report.rescaled
        np.testing.assert_array_equal(old, new)
    else:
        assert report.rescaled
        assert new.min() >= 0
        assert new.max() <= 1


def test_rank_map_beats_plain_float16_where_scores_are_many():
    score = likelihoods((400, 500)) * 100
    rank_map, ties = RankMap.of([score]), Ties.empty()
    ties.add(rank_map, score)
    assert ties.values > 0.9 * LEVELS
    assert np.isfinite(rank_map(score)).all()
    wanted = figures(lambda _: score[:30, :40], ("a",))
    assert np.abs(np.subtract(figures(lambda _: rank_map(score[:30, :40]), ("a",)), wanted)).max() < 2e-3


@given(values=st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=60), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_rank_map_never_swaps_and_keeps_few_scores_apart(values, seed):
    score = np.random.default_rng(seed).permutation(np.array(values)).reshape(1, -1)
    mapped = RankMap.of([score[:, : len(values) // 2], score[:, len(values) // 2 :]])(score)
    assert np.isfinite(mapped).all()
    np.testing.assert_array_equal(np.unique(score, return_inverse=True)[1], np.unique(mapped, return_inverse=True)[1])


@pytest.mark.parametrize("name", ["..", "a/b", "", "a\\b"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    fill(tmp_path / "in", write_npy)
    with pytest.raises(InputError, match="plain names"):
        write_smiyc(open_scores(tmp_path / "in"), "predictions", tmp_path / "out", method=name, dataset="S")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "a/../b", "score.with.dots"])
def test_scores_and_frames_of_any_name_stay_in_the_folder_and_are_found(tmp_path, name):
    writer = ScoreWriter(tmp_path / "maps", dataset="set", method="net")
    values = np.float32([[1, 2]])
    writer.write(name, name, values)
    assert [path.name for path in tmp_path.iterdir()] == ["maps"]
    stored = open_scores(tmp_path / "maps")
    assert stored.scores == (name,)
    assert (stored.read(name, name) == values).all()


@pytest.mark.parametrize(
    "values",
    [np.ma.array([[1.0, 2.0]], mask=[[True, False]]), np.array([[2**53 + 1]]), np.array([["a"]]), np.zeros((2, 2, 2))],
)
def test_maps_that_would_not_be_what_they_are_given_as_are_refused(tmp_path, values):
    writer = ScoreWriter(tmp_path / "maps", dataset="set", method="net")
    with pytest.raises(InputError):
        writer.write("f", "msp", values)
    assert not (tmp_path / "maps/msp").exists()


def test_what_a_folder_cannot_say_of_itself_is_refused_before_a_map_is_written(tmp_path):
    for wrong in ({"dataset": None}, {"method": 5}, {"settings": {"a": {1, 2}}}):
        with pytest.raises(InputError):
            ScoreWriter(tmp_path / "maps", **{"dataset": "street", "method": "net", **wrong})
    assert not (tmp_path / "maps").exists()
    settings = {"steps": np.int64(3), "at": np.float32(0.5), "from": tmp_path}
    writer = ScoreWriter(tmp_path / "maps", dataset="set", method="net", settings=settings)
    assert writer.manifest["settings"] == {"steps": 3, "at": 0.5, "from": str(tmp_path)}


@pytest.mark.parametrize("scale", [(1, 0), (0, 0), (np.nan, 1), ("0", "1"), (0,), (0, 1, 2)])
def test_a_scale_has_two_numbers_the_smaller_first(tmp_path, scale):
    Image.fromarray(np.uint8([[0, 255]])).save(tmp_path / "f.png")
    with pytest.raises(InputError, match="scale: expected"):
        open_scores(tmp_path, scale=scale)
