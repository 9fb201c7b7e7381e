"""Generated street scenes: what is in them, and what is written where."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import NearestCentroid

from anomaly.datasets import street_scenes
from anomaly.datasets.street_scenes import CLASSES, PALETTE, Scene, render_scene, write_street_scenes
from anomaly.datasets.synthetic.camera import Camera
from anomaly.datasets.synthetic.canvas import Canvas
from anomaly.datasets.synthetic.light import sample_light
from anomaly.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SIZE = (90, 120)


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(seed, (180, 240)) for seed in range(16)]


@pytest.fixture
def rendered(monkeypatch):
    """Replace the renderer by one that is quick and has known answers; give the list of its calls."""
    calls = []

    def render(seed, size, anomalies):
        calls.append((seed, anomalies))
        image = np.full((*size, 3), (seed % 200, 100, 50), np.uint8)
        label = np.full(size, seed % len(CLASSES), np.uint8)
        anomaly = np.zeros(size, bool)
        anomaly[:, : 3 * anomalies] = True
        label[anomaly] = 255
        return Scene(image, label, anomaly)

    monkeypatch.setattr(street_scenes, "render_scene", render)
    return calls


def contents(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def digest(scene):
    return hashlib.sha256(scene.image.tobytes() + scene.label.tobytes() + scene.anomaly.tobytes()).hexdigest()


# --- one scene


def test_same_seed_same_bytes_in_any_order_and_process():
    first = digest(render_scene(5, SIZE, 2))
    assert digest(render_scene(6, SIZE, 2)) != first
    assert digest(render_scene(5, SIZE, 2)) == first
    code = (
        "import hashlib; from anomaly.datasets.street_scenes import render_scene; s = render_scene(5, (90, 120), 2);"
        "print(hashlib.sha256(s.image.tobytes() + s.label.tobytes() + s.anomaly.tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == first


def test_scene_has_the_stated_shapes_and_labels(scenes):
    for scene in scenes:
        assert scene.image.shape == (180, 240, 3)
        assert scene.image.dtype == np.uint8
        assert scene.label.shape == scene.anomaly.shape == (180, 240)
        assert scene.label.dtype == np.uint8
        assert scene.label.max() < len(CLASSES)
        assert not scene.anomaly.any()
        assert scene.image.std() > 10
    assert len(CLASSES) == len(set(CLASSES)) == len(PALETTE) == len(set(PALETTE)) >= 8


def test_every_class_appears(scenes):
    share = np.mean([np.bincount(s.label.ravel(), minlength=len(CLASSES)) / s.label.size for s in scenes], axis=0)
    assert (share > 0.001).all(), dict(zip(CLASSES, share, strict=True))
    assert share.max() < 0.5


def test_scenes_are_laid_out_as_streets_are(scenes):
    for scene in scenes:
        rows = {
            name: np.nonzero(scene.label == i)[0].mean() for i, name in enumerate(CLASSES) if (scene.label == i).any()
        }
        assert rows["sky"] < rows["building"] < rows["road"]
        assert rows["car"] > rows["sky"]
        bottom = scene.label[-1]
        assert np.isin(bottom, [CLASSES.index("road"), CLASSES.index("lane_mark")]).mean() > 0.3


def test_colour_alone_tells_classes_apart_better_than_chance(scenes):
    def pixels(chosen):
        colours = np.concatenate([s.image[::3, ::3].reshape(-1, 3) for s in chosen]).astype(float)
        return colours, np.concatenate([s.label[::3, ::3].ravel() for s in chosen])

    model = NearestCentroid().fit(*pixels(scenes[:10]))
    colours, labels = pixels(scenes[10:])
    accuracy = balanced_accuracy_score(labels, model.predict(colours))
    assert 2 / len(CLASSES) < accuracy < 0.9


def test_light_texture_and_noise_vary(scenes):
    means = np.array([s.image.mean((0, 1)) for s in scenes])
    assert means.mean(1).std() > 10
    assert (means[:, 0] - means[:, 2]).std() > 3
    road = [s.image[s.label == 0].astype(float).std() for s in scenes]
    assert min(road) > 2


@pytest.mark.parametrize("size", [(64, 96), (32, 32), (48, 200), (200, 100)])
def test_any_size_works(size):
    scene = render_scene(3, size, 1)
    assert scene.image.shape == (*size, 3)
    assert CLASSES.index("road") in scene.label
    assert CLASSES.index("sky") in scene.label


@pytest.mark.slow
def test_anomalies_are_seen_and_their_sizes_differ():
    sizes = [render_scene(seed, (180, 240), 1).anomaly.mean() for seed in range(24)]
    assert min(sizes) > 20 / (360 * 480)
    assert min(sizes) < 500 / (360 * 480)
    assert max(sizes) > 0.02


def test_anomalies_are_added_to_an_unchanged_street():
    for seed in range(6):
        plain, odd = render_scene(seed, (180, 240)), render_scene(seed, (180, 240), 3)
        assert np.array_equal(odd.anomaly, odd.label == 255)
        assert odd.anomaly.any()
        assert np.array_equal(plain.label[~odd.anomaly], odd.label[~odd.anomaly])
        changed = (plain.image != odd.image).any(-1)
        assert changed[odd.anomaly].mean() > 0.9
        assert changed[~odd.anomaly].mean() < 0.25  # shadows, soft edges


def test_pens_paint_soft_colours_and_crisp_labels():
    camera = Camera(size=(40, 60), focal=50.0, height=1.6, horizon=15.0, centre=30.0, bend=0.0, offset=0.0)
    slanted = [(10.0, 5.0), (50.0, 12.0), (30.0, 35.0), (8.0, 30.0)]
    for stamped in (False, True):
        canvas = Canvas(camera, sample_light(np.random.default_rng(0)))
        canvas.label[:] = 7
        pen = canvas.pen(depth=3.0, label=4)
        if stamped:
            pen.stamp(np.full((8, 8, 3), 200, np.float32), np.ones((8, 8), np.float32), slanted)
        else:
            pen.fill(slanted, (200, 200, 200))
        red = canvas.image[..., 0]
        assert set(np.unique(canvas.label).tolist()) == {4, 7}
        assert abs((canvas.label == 4).sum() - _area(slanted)) < 0.1 * _area(slanted)
        assert np.array_equal(canvas.depth == 3.0, canvas.label == 4)
        assert ((red > 20) & (red < 180)).sum() > 30
        assert red[20, 25] == 200
        assert red[2, 2] == 0


def _area(corners):
    """Gauss's shoelace formula."""
    following = corners[1:] + corners[:1]
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(corners, following, strict=True))) / 2


def test_ground_coordinates_project_back_to_their_pixels():
    camera = Camera(size=(40, 60), focal=50.0, height=1.6, horizon=15.3, centre=28.0, bend=0.001, offset=1.5)
    top, s, z = camera.ground()
    assert top == 16
    pixels = camera.project(np.stack([s, np.zeros_like(s), np.broadcast_to(z, s.shape)], axis=-1))
    rows, columns = np.mgrid[top:40, 0:60]
    near = np.broadcast_to(z < 100, s.shape)
    assert np.abs(pixels[..., 0] - columns - 0.5)[near].max() < 0.01
    assert np.abs(pixels[..., 1] - rows - 0.5)[near].max() < 0.01


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"size": (16, 96)}, {"anomalies": -1}])
def test_render_refuses_what_it_cannot_do(arguments):
    with pytest.raises(InputError, match="expected seed"):
        render_scene(**{"seed": 0, **arguments})


# --- the set on disk


def test_layout_is_that_of_cityscapes_and_road_anomaly(tmp_path):
    root = tmp_path / "street_scenes"
    write_street_scenes(root, train=5, val=2, open_world=4, size=(64, 96))
    files = sorted(contents(root))
    images = [f for f in files if f.startswith("leftImg8bit/")]
    assert len(images) == 7
    for name in images:
        match = re.fullmatch(r"leftImg8bit/(train|val)/([a-z]+)/(\2_\d{6}_\d{6})_leftImg8bit\.png", name)
        assert match, name
        label = f"gtFine/{match[1]}/{match[2]}/{match[3]}_gtFine_labelTrainIds.png"
        files.remove(name)
        files.remove(label)
        pixels = Image.open(root / label)
        assert pixels.mode == "L"
        assert pixels.size == Image.open(root / name).size == (96, 64)
        assert np.asarray(pixels).max() < len(CLASSES)
    assert sum("/val/" in name for name in images) == 2
    frames = json.loads((root / "open_world/frame_list.json").read_text())
    assert len(frames) == 4
    for frame in frames:
        label = f"open_world/frames/{Path(frame).stem}.labels/labels_semantic.png"
        files.remove(f"open_world/frames/{frame}")
        files.remove(label)
        assert Image.open(root / "open_world/frames" / frame).format == "JPEG"
        assert set(np.unique(Image.open(root / label)).tolist()) <= {0, 2}
    assert files == ["open_world/frame_list.json", "street_scenes.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["street_scenes"]


def test_files_hold_the_scenes(tmp_path):
    root = tmp_path / "set"
    write_street_scenes(root, train=1, val=0, open_world=1, size=(64, 96), seed=0)
    scene = render_scene(0, (64, 96))
    name = "train/alderwick/alderwick_000000_000000"
    assert np.array_equal(Image.open(root / f"leftImg8bit/{name}_leftImg8bit.png"), scene.image)
    assert np.array_equal(Image.open(root / f"gtFine/{name}_gtFine_labelTrainIds.png"), scene.label)


def test_label_2_is_the_anomaly_and_some_frames_have_none(tmp_path, rendered):
    root = tmp_path / "set"
    write_street_scenes(root, train=2, val=1, open_world=20, size=(32, 48))
    counts = []
    for frame in json.loads((root / "open_world/frame_list.json").read_text()):
        label = np.asarray(Image.open(root / f"open_world/frames/{Path(frame).stem}.labels/labels_semantic.png"))
        columns = int((label == 2).all(0).sum())
        expected = np.zeros((32, 48))
        expected[:, :columns] = 2
        assert np.array_equal(label, expected)
        counts.append(columns // 3)
    assert counts.count(0) == 3
    assert set(counts) <= {0, 1, 2, 3, 4}
    assert counts == [anomalies for _, anomalies in rendered[3:]]
    assert all(anomalies == 0 for _, anomalies in rendered[:3])


def test_no_scene_is_in_two_splits_or_two_sets(tmp_path, rendered):
    write_street_scenes(tmp_path / "a", train=9, val=9, open_world=9, size=(32, 48), seed=0)
    write_street_scenes(tmp_path / "b", train=9, val=9, open_world=9, size=(32, 48), seed=1)
    seeds = [seed for seed, _ in rendered]
    assert len(seeds) == len(set(seeds)) == 54


def test_progress_counts_to_the_end(tmp_path, rendered):
    seen = []
    write_street_scenes(
        tmp_path / "set", train=2, val=1, open_world=1, size=(32, 48), progress=lambda *n: seen.append(n)
    )
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_stopped_run_leaves_no_half_set_and_is_taken_up(tmp_path, rendered, monkeypatch):
    small = {"train": 3, "val": 2, "open_world": 2, "size": (32, 48)}
    write_street_scenes(tmp_path / "whole", **small)
    rendered.clear()
    quick = street_scenes.render_scene

    def stop(seed, size, anomalies):
        if len(rendered) == 4:
            raise KeyboardInterrupt
        return quick(seed, size, anomalies)

    monkeypatch.setattr(street_scenes, "render_scene", stop)
    with pytest.raises(KeyboardInterrupt):
        write_street_scenes(tmp_path / "set", **small)
    assert not (tmp_path / "set").exists()
    monkeypatch.setattr(street_scenes, "render_scene", quick)
    rendered.clear()
    write_street_scenes(tmp_path / "set", **small)
    assert len(rendered) == 7 - 4
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set", "whole"]


def test_a_stopped_run_with_other_settings_is_not_mixed_in(tmp_path, rendered, monkeypatch):
    quick = street_scenes.render_scene
    monkeypatch.setattr(street_scenes, "_write_json", _failing_at("frame_list.json", street_scenes._write_json))
    with pytest.raises(OSError, match="disk full"):
        write_street_scenes(tmp_path / "set", train=3, val=0, open_world=1, size=(32, 48), seed=0)
    assert not (tmp_path / "set").exists()
    monkeypatch.undo()
    monkeypatch.setattr(street_scenes, "render_scene", quick)
    rendered.clear()
    write_street_scenes(tmp_path / "set", train=3, val=0, open_world=1, size=(32, 48), seed=7)
    assert len(rendered) == 4


def _failing_at(name, write):
    def fail(path, content):
        if path.name == name:
            raise OSError("disk full")
        write(path, content)

    return fail


def test_a_complete_set_is_left_alone(tmp_path, rendered):
    root = tmp_path / "set"
    write_street_scenes(root, train=2, val=1, open_world=1, size=(32, 48))
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    rendered.clear()
    write_street_scenes(root, train=2, val=1, open_world=1, size=(32, 48))
    assert rendered == []
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before


def test_an_empty_folder_is_filled(tmp_path, rendered):
    (tmp_path / "set").mkdir()
    write_street_scenes(tmp_path / "set", train=1, val=0, open_world=0, size=(32, 48))
    assert (tmp_path / "set/street_scenes.json").is_file()
    assert not (tmp_path / "set/open_world").exists()


def test_other_content_is_refused_and_kept(tmp_path, rendered):
    root = tmp_path / "set"
    root.mkdir()
    (root / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"set: expected an empty folder or street scenes, found other files; delete"):
        write_street_scenes(root, train=1, val=0, open_world=0, size=(32, 48))
    assert (root / "thesis.txt").read_text() == "years of work"
    with pytest.raises(InputError, match="found a file"):
        write_street_scenes(root / "thesis.txt", train=1, val=0, open_world=0, size=(32, 48))


def test_a_set_of_other_settings_or_with_lost_files_is_refused(tmp_path, rendered):
    root = tmp_path / "set"
    write_street_scenes(root, train=2, val=1, open_world=1, size=(32, 48))
    with pytest.raises(InputError, match=r"expected street scenes with train=3, found some with train=2; delete it"):
        write_street_scenes(root, train=3, val=1, open_world=1, size=(32, 48))
    lost = next(root.glob("gtFine/val/*/*.png"))
    lost.unlink()
    with pytest.raises(InputError, match=f"1 are missing, the first {lost.relative_to(root)}"):
        write_street_scenes(root, train=2, val=1, open_world=1, size=(32, 48))


@pytest.mark.parametrize("arguments", [{"train": -1}, {"seed": -2}, {"size": (16, 96)}])
def test_write_refuses_numbers_out_of_range(tmp_path, arguments):
    with pytest.raises(InputError, match="expected train, val"):
        write_street_scenes(tmp_path / "set", **arguments)
    assert list(tmp_path.iterdir()) == []
