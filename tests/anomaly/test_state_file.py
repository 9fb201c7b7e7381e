"""States of pixel metrics on disk: the same figures after reading, and nothing but an error from a damaged file."""

import io
import json
import zipfile

import numpy as np
import pytest

from anomaly.errors import InputError
from anomaly.metrics import PixelMetrics, binned
from anomaly.utils import state_file

MODES = ("exact", "binned")


def frames(count=5):
    random = np.random.default_rng(0)
    for index in range(count):
        label = random.choice([0, 0, 0, 1, 255], (20, 30)).astype(np.uint8)
        yield f"frame {index} ä", random.normal(label == 1, 1).astype(np.float32), label


def filled(chosen, **settings):
    metrics = PixelMetrics("msp", **{"dataset": "road", "threshold": 0.5, "tpr": 0.9, **settings})
    for frame in chosen:
        metrics.update(*frame)
    return metrics


@pytest.mark.parametrize("settings", [{"mode": "exact"}, {"mode": "exact", "memory_budget": 1}, {"mode": "binned"}])
@pytest.mark.parametrize("window", [1, 10**9])
def test_what_is_written_is_read_back(tmp_path, settings, window, monkeypatch):
    monkeypatch.setattr(binned, "OPEN", window)
    metrics = filled(frames(), **settings)
    metrics.save(tmp_path / "state.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]
    found = PixelMetrics.load(tmp_path / "state.npz")
    assert found.compute() == metrics.compute()
    assert (found.name, found.dataset, found.levels) == ("msp", "road", metrics.levels)
    found.update(*next(frames()))
    assert found.compute() == metrics.compute()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("window", [1, 10**9])
def test_parts_from_files_are_the_whole(tmp_path, mode, window, monkeypatch):
    monkeypatch.setattr(binned, "OPEN", window)
    everything = list(frames())
    whole = filled(everything, mode=mode)
    for name, part in (("a", everything[:2]), ("b", everything[2:])):
        filled(part, mode=mode).save(tmp_path / f"{name}.npz")
    first, second = (PixelMetrics.load(tmp_path / f"{name}.npz") for name in "ba")
    first.merge(second)
    assert first.compute() == whole.compute()


def test_no_frames(tmp_path):
    for mode in MODES:
        filled([], mode=mode).save(tmp_path / "empty.npz")
        assert PixelMetrics.load(tmp_path / "empty.npz").num_known == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_file_cut_short_is_named(tmp_path, mode):
    path = tmp_path / "state.npz"
    filled(frames(), mode=mode).save(path)
    whole = path.read_bytes()
    for length in (0, 10, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            InputError, match=r"state\.npz: expected the state of pixel metrics, found a file that is truncated"
        ):
            PixelMetrics.load(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    path.write_bytes(flipped)
    with pytest.raises(InputError, match=r"state\.npz: "):
        PixelMetrics.load(path)


def members(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def tampered(path, **changes):
    arrays = members(path)
    header = json.loads(bytes(arrays["header"]))
    for name, value in changes.items():
        if name in arrays:
            arrays[name] = value
        else:
            header[name] = value
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 99}, "expected version 1, found 99"),
        ({"format": "something"}, "truncated, damaged or something else"),
        ({"frames": [["a", 3]] * 9}, "truncated, damaged or something else"),
        ({"frames": [["a", -3]]}, "truncated, damaged or something else"),
        ({"settings": {"name": "msp"}, "frames": 3}, "truncated, damaged or something else"),
        ({"settings": {"name": "msp", "mode": "other"}}, "mode: expected one of exact, binned"),
        ({"settings": {"surprise": 1}}, "truncated, damaged or something else"),
        ({"array_000000": np.float32([2, 1])}, "expected a 1-D array of ascending scores"),
        ({"array_000000": np.float32([1, np.nan])}, "expected a 1-D array of ascending scores"),
        ({"array_000001": np.float32([1, np.inf])}, "finite"),
        ({"array_000000": np.array([1, 2])}, "truncated, damaged or something else"),
        ({"array_000000": np.array([{"a": 1}], object)}, "truncated, damaged or something else"),
    ],
)
def test_other_contents_are_refused(tmp_path, changes, message):
    path = tmp_path / "state.npz"
    filled(frames()).save(path)
    tampered(path, **changes)
    with pytest.raises(InputError, match=message) as caught:
        PixelMetrics.load(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"array_000000": np.arange(5)},
        {"array_000000": np.float64([1.5])},
        {"range": [5, 1]},
        {"range": [0, 2**70]},
        {"frames": [["a", 1, 2]]},
        {"figures": {}},
        {"open": ["nobody"]},
        {"at_threshold": {}},
    ],
)
def test_other_contents_of_a_binned_state_are_refused(tmp_path, changes, monkeypatch):
    monkeypatch.setattr(binned, "OPEN", 1)
    path = tmp_path / "state.npz"
    filled(frames(), mode="binned").save(path)
    tampered(path, **changes)
    with pytest.raises(InputError, match=r"state\.npz: expected the state of pixel metrics"):
        PixelMetrics.load(path).compute()


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.npz: expected the state of pixel metrics, found no such file"):
        PixelMetrics.load(tmp_path / "gone.npz")
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    for name in ("text", "arrays", "one"):
        with pytest.raises(InputError, match=rf"{name}\.npz: expected the state of pixel metrics, found a file"):
            PixelMetrics.load(tmp_path / f"{name}.npz")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("header.npy", header_of(10**13))
    with pytest.raises(InputError, match=r"bomb\.npz"):
        PixelMetrics.load(tmp_path / "bomb.npz")


def header_of(size):
    """A file that announces far more bytes than it has."""
    text = io.BytesIO()
    np.lib.format.write_array_header_1_0(text, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
    return text.getvalue() + b"{}"


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    filled(frames()).save(path)
    old = path.read_bytes()

    def fail(file, name, array):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_file, "_write", fail)
    with pytest.raises(InputError, match=r"state\.npz: expected a place .*No space left"):
        filled(frames(2)).save(path)
    assert path.read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(InputError, match=r"ends in \.npz"):
        filled(frames(2)).save(tmp_path / "state.npy")
