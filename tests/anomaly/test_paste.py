"""Pasting of synthetic anomalies: blending, places, labels, and what is refused."""

import json
import math
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from anomaly.datasets.catalog import load_dataset
from anomaly.datasets.paste import PasteSettings, paste_objects
from anomaly.datasets.pasting.blending import blend, cast_shadow, edge_width, harmonised, matched, resized, spread_alpha
from anomaly.datasets.pasting.objects import Cutout, find_regions
from anomaly.errors import InputError
from anomaly.frames import image_hash
from tests.commands import status_of

HEIGHT, WIDTH = 96, 128
ROAD, WALL, CAR, NONE = 0, 1, 2, 255
NAMES = ("a", "b", "c", "d", "e", "f")
USUAL = PasteSettings(ground=(ROAD,), known_classes=(CAR,), horizon=0.5, height=(0.3, 0.6))


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def flat_rgba(height, width, colour=(200, 40, 90), margin=5):
    """An opaque box with transparent pixels around it, whose colour must never show."""
    rgba = np.full((height + 2 * margin, width + 2 * margin, 4), (0, 255, 0, 0), np.uint8)
    rgba[margin:-margin, margin:-margin] = (*colour, 255)
    return rgba


def write_world(root, *, flat=False):
    """Ordinary images with road in the lower part and one car each, and three cut-outs."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        label = np.full((HEIGHT, WIDTH), WALL, np.uint8)
        label[60:] = ROAD
        label[40:64, 20:60] = CAR
        label[:4] = NONE
        image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        if not flat:
            image = (
                ndimage.gaussian_filter(rng.normal(128, 400, image.shape), (1.5, 1.5, 0)).clip(0, 255).astype(np.uint8)
            )
        save(root / "images" / f"{name}.png", image)
        save(root / "labels" / f"{name}.png", label)
    save(root / "cutouts" / "box.png", flat_rgba(40, 30))
    save(root / "cutouts" / "more" / "wide.webp", flat_rgba(30, 44, (20, 60, 220)))
    y, x = np.mgrid[-30:31, -30:31]
    ball = np.dstack((*(np.full(y.shape, value, np.uint8) for value in (250, 200, 30)), (np.hypot(y, x) < 25) * 255))
    save(root / "cutouts" / "ball.png", ball.astype(np.uint8))


def paste(root, out="out", settings=USUAL, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return paste_objects(root / "images", root / "labels", root / "cutouts", root / out, settings, **options)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    write_world(root)
    return root


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """Grey images: nothing to match sharpness with, so that boxes stay boxes."""
    root = tmp_path_factory.mktemp("flat")
    write_world(root, flat=True)
    for path in (root / "cutouts").rglob("ball.png"):
        path.unlink()
    return root, paste(root, settings=PasteSettings((ROAD,), (), 2, horizon=0.5, height=(0.3, 0.3), matching=0))


def read(root, frame):
    image = np.array(Image.open(root / "out" / "frames" / f"{frame}.png"))
    return image, np.array(Image.open(root / "out" / "frames" / f"{frame}.labels" / "labels_semantic.png"))


# Blending


@pytest.mark.parametrize(("top", "left"), [(3, 5), (-4, -3), (14, 20)])
def test_blending_is_that_of_a_naive_loop(top, left):
    rng = np.random.default_rng(1)
    image, rgba = rng.uniform(0, 255, (20, 26, 3)), rng.integers(0, 256, (9, 8, 4))
    expected, alphas = image.copy(), np.zeros((20, 26))
    for y in range(9):
        for x in range(8):
            if 0 <= top + y < 20 and 0 <= left + x < 26:
                alpha = rgba[y, x, 3] / 255
                alphas[top + y, left + x] = alpha
                for c in range(3):
                    under = image[top + y, left + x, c]
                    expected[top + y, left + x, c] = rgba[y, x, c] * alpha + under * (1 - alpha)
    result = image.astype(np.float32)
    patch = resized(rgba.astype(np.uint8), 9, 8)
    blend(result, patch, top, left)
    np.testing.assert_allclose(result, expected, atol=1e-3)
    np.testing.assert_allclose(spread_alpha(patch, top, left, (20, 26)), alphas, atol=1e-6)


def test_shrinking_averages_premultiplied_colours_so_that_no_halo_appears():
    rgba = np.random.default_rng(2).integers(0, 256, (12, 8, 4)).astype(np.uint8)
    rgba[:, :3, 3] = 0
    rgba[:, :3, :3] = 255  # colours that nobody sees
    weights = rgba[..., 3:] / 255
    premultiplied = np.concatenate((rgba[..., :3] * weights, weights), 2)
    expected = premultiplied.reshape(3, 4, 2, 4, 4).mean((1, 3))
    np.testing.assert_allclose(resized(rgba, 3, 2), expected, rtol=1e-5, atol=1e-4)


def test_a_transparent_colour_never_shows():
    image = np.full((60, 60, 3), 100, np.float32)
    patch, top, left = harmonised(image, resized(flat_rgba(40, 40, margin=7), 25, 25), 20, 20, strength=0.0, edges=3.0)
    blend(image, patch, top, left)
    assert image[..., 1].max() <= 100.01  # the object has 40 of green, the transparent pixels around it 255


def cielab(rgb):
    """CIELAB of sRGB in 0..255, from its definition (D65)."""
    linear = np.where(rgb / 255 <= 0.04045, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    xyz = linear @ np.array(to_xyz).T / (0.950456, 1, 1.088754)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack((116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])), -1)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_colours_move_towards_the_surroundings_by_the_strength(strength):
    rng = np.random.default_rng(3)
    colours = rng.normal((150, 110, 90), 9, (30, 30, 3)).astype(np.float32)
    around = rng.normal((80, 90, 110), 9, (900, 3)).astype(np.float32)
    inside = np.zeros((30, 30), bool)
    inside[5:25, 5:25] = True
    own, target = cielab(colours[inside]), cielab(around)
    new = cielab(matched(colours, inside, around, strength)[inside])
    np.testing.assert_allclose(new.mean(0), own.mean(0) + strength * (target.mean(0) - own.mean(0)), atol=0.6)
    np.testing.assert_allclose(new.std(0), own.std(0) + strength * (target.std(0) - own.std(0)), rtol=0.06)


def step(sigma, size=80):
    image = np.full((size, size, 3), 60.0)
    image[:, size // 2 :] = 190
    return ndimage.gaussian_filter(image, (sigma, sigma, 0)).astype(np.float32)


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0])
def test_edge_width_is_the_blur_of_a_step(sigma):
    assert edge_width(step(sigma)) == pytest.approx(
        math.hypot(sigma, math.sqrt(1 / 3)), rel=0.15
    )  # differences of 2 px


def test_an_image_without_edges_has_no_edge_width():
    assert edge_width(np.full((30, 30, 3), 90, np.float32)) is None


@pytest.mark.parametrize(("sigma", "near_enough"), [(0.9, 0.05), (1.2, 0.05), (2.0, 0.12)])
def test_an_object_becomes_as_sharp_as_the_image(sigma, near_enough):
    image = step(sigma, 100)
    edges = edge_width(image)
    patch, top, left = harmonised(
        image, resized(flat_rgba(90, 90, (230, 230, 230)), 50, 50), 25, 0, strength=0, edges=edges
    )
    near = np.zeros((100, 100), bool)
    near[10:90, :45] = True
    assert edge_width(image, near) is None
    blend(image, patch, top, left)
    assert edge_width(image, near) == pytest.approx(edges, rel=near_enough)
    blunt, _, _ = harmonised(step(0), resized(flat_rgba(90, 90), 50, 50), 20, 0, strength=0, edges=edge_width(step(0)))
    assert ((blunt[..., 3] > 0) & (blunt[..., 3] < 1)).mean() < 0.1  # a sharp image leaves it sharp


def test_a_shadow_darkens_only_the_ground_at_the_foot():
    image = np.full((80, 60, 3), 100, np.float32)
    cast_shadow(image, resized(flat_rgba(40, 20, margin=1), 40, 20), 20, 20)
    assert 50 <= image.min() < 70
    assert image[59:62, 25:35].max() < 80
    assert (image[:40] == 100).all()
    assert (image[:, :8] == 100).all()


# Objects


def test_cutouts_are_trimmed_and_masks_give_their_outline(tmp_path):
    rgba = flat_rgba(20, 30, margin=6)
    save(tmp_path / "a.png", rgba)
    np.testing.assert_array_equal(Cutout(tmp_path / "a.png").read(), rgba[6:26, 6:36])
    save(tmp_path / "b.png", rgba[..., :3])
    save(tmp_path / "masks" / "b.png", (rgba[..., 3] > 0).astype(np.uint8) * 7)
    by_mask = Cutout(tmp_path / "b.png", tmp_path / "masks" / "b.png").read()
    assert (by_mask[..., 3] >= 128).sum() == pytest.approx(20 * 30, abs=4)  # corners are rounded
    assert by_mask.shape[0] - 20 == by_mask.shape[1] - 30 <= 4
    assert ((by_mask[..., 3] > 0) & (by_mask[..., 3] < 255)).any()  # a soft border


def test_regions_are_the_components_that_scipy_finds():
    label = (ndimage.gaussian_filter(np.random.default_rng(4).normal(size=(120, 160)), 5) > 0.03).astype(np.uint8) * 9
    numbers, count = ndimage.label(label == 9, np.ones((3, 3)))
    expected = set()
    for number, (rows, columns) in enumerate(ndimage.find_objects(numbers), 1):
        part = numbers[rows, columns] == number
        inside = rows.start > 0 and columns.start > 0 and rows.stop < 120 and columns.stop < 160
        if inside and part.sum() >= 150 and part.mean() >= 0.3:
            expected.add((rows.start, columns.start, part.tobytes()))
    assert count > len(expected) > 1
    assert {(one.top, one.left, one.mask.tobytes()) for one in find_regions(label, [9])} == expected
    assert not find_regions(label, [8])


def test_a_region_is_cut_out_within_its_border():
    label = np.zeros((40, 50), np.uint8)
    label[10:30, 10:40] = CAR
    image = np.zeros((40, 50, 3), np.uint8)
    image[10:30, 10:40] = 200
    (region,) = find_regions(label, [CAR])
    rgba = region.cut(image)
    assert rgba.shape == (20, 30, 4)
    assert (rgba[..., :3] == 200).all()
    opaque = rgba[..., 3] >= 128
    assert opaque[2:-2, 2:-2].all()
    assert not opaque[0].any()
    assert not opaque[:, -1].any()


# Places and labels


def test_height_follows_the_row_and_the_foot_is_on_the_ground(flat):
    root, record = flat
    for one in record["images"]:
        ground = np.array(Image.open(root / "labels" / one["source"])) == ROAD
        for pasted in one["objects"]:
            assert ground[pasted["row"], pasted["column"]]
            horizon = 0.5 * HEIGHT
            expected = 0.3 * HEIGHT * (pasted["row"] - horizon) / (HEIGHT - 1 - horizon)
            assert pasted["height"] == round(expected) >= 12
            shape = (40, 30) if pasted["source"] == "box.png" else (30, 44)
            assert pasted["width"] == pytest.approx(pasted["height"] * shape[1] / shape[0], abs=1)


def test_labels_are_exactly_where_the_boxes_are(flat):
    root, record = flat
    colours, shadows = {"box.png": (200, 40, 90), "more/wide.webp": (20, 60, 220)}, []
    for one in record["images"]:
        image, label = read(root, one["frame"])
        expected = np.zeros_like(label)
        for pasted in one["objects"]:
            left = pasted["column"] - pasted["width"] // 2
            rows, columns = (
                slice(pasted["row"] - pasted["height"] + 1, pasted["row"] + 1),
                slice(max(0, left), left + pasted["width"]),
            )
            assert not expected[rows, columns].any()  # no object covers another one
            expected[rows, columns] = 2
            assert pasted["pixels"] == (expected[rows, columns] == 2).sum()
            np.testing.assert_allclose(image[rows, columns].reshape(-1, 3).mean(0), colours[pasted["source"]], atol=3)
        np.testing.assert_array_equal(label, expected)
        for pasted in one["objects"]:
            if pasted["row"] + 1 < HEIGHT and not label[pasted["row"] + 1, pasted["column"]]:
                shadows.append(image[pasted["row"] + 1, pasted["column"]])
        assert (image[:30] == 120).all()
        assert len(one["objects"]) >= 1
    assert len(shadows) > 3
    assert np.max(shadows) < 100


def test_pixels_that_are_at_least_half_covered_are_the_anomaly(tmp_path):
    write_world(tmp_path, flat=True)
    for path in list((tmp_path / "cutouts").rglob("*.*")):
        path.unlink()
    rgba = np.full((60, 60, 4), (200, 40, 90, 140), np.uint8)
    rgba[:24, :, 3] = 110  # of 255: less than half
    save(tmp_path / "cutouts" / "two.png", rgba)
    record = paste(tmp_path, settings=PasteSettings((ROAD,), (), 1, horizon=0.5, height=(0.5, 0.5), matching=0))
    for one in record["images"]:
        _, label = read(tmp_path, one["frame"])
        (pasted,) = one["objects"]
        rows = np.flatnonzero(label.any(1))
        assert rows[-1] == pasted["row"]
        assert len(rows) == pytest.approx(0.6 * pasted["height"], abs=1)


def write_narrow_world(root):
    """A little road near the left border; a cut-out whose left quarter is opaque, and whose rest is hardly seen."""
    write_world(root, flat=True)
    for path in list((root / "cutouts").rglob("*.*")):
        path.unlink()
    for name in NAMES:
        label = np.full((HEIGHT, WIDTH), WALL, np.uint8)
        label[60:, 5:11] = ROAD
        save(root / "labels" / f"{name}.png", label)
    rgba = np.full((40, 40, 4), (200, 40, 90, 60), np.uint8)
    rgba[:, :10, 3] = 255
    save(root / "cutouts" / "post.png", rgba)


def test_mirrored_objects_are_mirrored_and_half_of_each_is_inside_the_image(tmp_path):
    write_narrow_world(tmp_path)
    record = paste(tmp_path, settings=PasteSettings((ROAD,), (), 2, horizon=0.5, height=(0.4, 0.4), matching=0))
    objects = [(one, pasted) for one in record["images"] for pasted in one["objects"]]
    assert len({pasted["mirrored"] for _, pasted in objects}) == 2
    for one, pasted in objects:
        _, label = read(tmp_path, one["frame"])
        height, width, left = pasted["height"], pasted["width"], pasted["column"] - pasted["width"] // 2
        first = left + width - round(width / 4) if pasted["mirrored"] else left
        columns = slice(max(0, first), first + round(width / 4))
        assert label[pasted["row"], columns].all()
        assert pasted["pixels"] == pytest.approx(height * (columns.stop - columns.start), rel=0.25)
        assert pasted["pixels"] >= 0.8 * height * width / 8  # half of the opaque quarter, whose border is resampled


def test_objects_prefer_places_whose_neighbours_are_ground_too(tmp_path):
    write_world(tmp_path, flat=True)
    for name in NAMES:
        label = np.full((HEIGHT, WIDTH), WALL, np.uint8)
        label[60:, :64] = ROAD
        label[60:, 64::4] = ROAD
        save(tmp_path / "labels" / f"{name}.png", label)
    record = paste(tmp_path, settings=PasteSettings((ROAD,), (), 2, horizon=0.5, height=(0.3, 0.3)))
    for one in record["images"]:
        ground = np.array(Image.open(tmp_path / "labels" / one["source"])) == ROAD
        for pasted in one["objects"]:
            quarter = pasted["width"] // 4
            foot = ground[pasted["row"], max(0, pasted["column"] - quarter) : pasted["column"] + quarter + 1]
            assert foot.mean() >= 0.8


def test_objects_that_found_no_place_are_counted_in_a_warning(tmp_path):
    write_world(tmp_path)
    places = (tmp_path / name for name in ("images", "labels", "cutouts"))
    settings = PasteSettings((ROAD,), (77,), 1, horizon=0.5, height=(0.3, 0.3))
    with pytest.warns(UserWarning, match=f"pasted 0 objects of kind 'known' instead of {len(NAMES)}"):
        paste_objects(*places, tmp_path / "out", settings)


def test_known_objects_stay_known(world, tmp_path):
    write_world(tmp_path)
    record = paste(tmp_path, settings=PasteSettings((ROAD,), (CAR,), 1, 3, horizon=0.5, height=(0.25, 0.25)))
    known = [(one, pasted) for one in record["images"] for pasted in one["objects"] if pasted["kind"] == "known"]
    assert len(known) > 6
    for one, pasted in known:
        image, label = read(tmp_path, one["frame"])
        before = np.array(Image.open(tmp_path / "images" / one["source"]))
        rows = slice(pasted["row"] - pasted["height"] // 2 - 2, pasted["row"] - pasted["height"] // 2 + 2)
        place = rows, slice(max(0, pasted["column"] - 2), pasted["column"] + 2)
        assert not label[place].any()
        assert (image[place] != before[place]).any()
        assert pasted["class"] == CAR
        assert (pasted["source_row"], pasted["source_column"]) == (40, 20)
        assert pasted["height"] <= 24 * 1.2


def test_without_ground_objects_stand_in_the_lower_half_and_warnings_say_so(tmp_path):
    write_world(tmp_path)
    places = (tmp_path / name for name in ("images", "labels", "cutouts"))
    with pytest.warns(UserWarning, match="lower half"), pytest.warns(UserWarning, match="every pasted border"):
        record = paste_objects(*places, tmp_path / "out", PasteSettings(horizon=0.2))
    rows = [pasted["row"] for one in record["images"] for pasted in one["objects"]]
    assert min(rows) >= HEIGHT // 2


# The whole


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_same_seed_gives_the_same_bytes_whatever_the_threads_and_the_limit(world):
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        paste(world, "one")
        cv2.setNumThreads(4)
        paste(world, "two")
    finally:
        cv2.setNumThreads(threads)
    one, two = contents(world / "one"), contents(world / "two")
    assert one == two
    assert len(one) == 2 * len(NAMES) + 2
    paste(world, "three", limit=3)
    three = {name: content for name, content in contents(world / "three").items() if name.startswith("frames/")}
    assert len(three) == 6
    assert three.items() <= one.items()
    paste(world, "other", PasteSettings((ROAD,), (CAR,), horizon=0.5, height=(0.3, 0.6), seed=1))
    other = contents(world / "other")
    assert all(other[f"frames/{name}.png"] != one[f"frames/{name}.png"] for name in NAMES)


def test_an_image_of_another_folder_content_is_the_same(tmp_path):
    """Without known objects, an image depends on no other."""
    write_world(tmp_path)
    settings = PasteSettings((ROAD,), (), horizon=0.5)
    paste(tmp_path, "all", settings)
    for folder in ("images", "labels"):
        (tmp_path / folder / "c.png").unlink()
    paste(tmp_path, "some", settings)
    some = {name: content for name, content in contents(tmp_path / "some").items() if name.startswith("frames/")}
    assert len(some) == 2 * len(NAMES) - 2
    assert some.items() <= contents(tmp_path / "all").items()


def test_read_back_as_synthetic_data_and_not_as_a_benchmark(flat):
    root, record = flat
    dataset = load_dataset("pasted_objects", root / "out")
    assert [frame.id for frame in dataset] == sorted(NAMES)
    assert any(note.startswith("synthetic") and "never report" in note for note in dataset.notes)
    for one, frame in zip(record["images"], dataset, strict=True):
        assert (frame.label == 1).sum() == sum(pasted["pixels"] for pasted in one["objects"])
        assert one["source_hash"] == image_hash(np.array(Image.open(root / "images" / one["source"])))
    with pytest.raises(InputError, match="expected the published dataset, found synthetic images"):
        load_dataset("road_anomaly", root / "out", as_found=True)
    assert json.loads((root / "out" / "record.json").read_text()) == record
    assert record["synthetic"] is True


def test_a_benchmark_is_not_read_as_pasted_objects(flat, tmp_path):
    root, _ = flat
    (tmp_path / "data").symlink_to(root / "out")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("frames", "frame_list.json"):
        (copy / name).symlink_to(root / "out" / name)
    assert len(load_dataset("road_anomaly", copy)) == len(NAMES)
    with pytest.raises(InputError, match=r"expected record\.json"):
        load_dataset("pasted_objects", copy)


def test_the_command_writes_and_says_what_for(tmp_path, capsys):
    write_world(tmp_path)
    places = [str(tmp_path / name) for name in ("images", "labels")]
    options = ["--cutouts", str(tmp_path / "cutouts"), "--out", str(tmp_path / "out"), "--ground", str(ROAD)]
    more = ["--known-classes", str(CAR), "--limit", "2", "--height", "0.3", "0.6", "--horizon", "0.5", "--seed", "3"]
    assert status_of("anomaly data", "paste", *places, *options, *more) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("2 synthetic images are in")
    assert "never report metrics" in printed
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["settings"]["seed"] == 3
    assert record["command"]
    assert load_dataset("pasted_objects", tmp_path / "out")
    assert status_of("anomaly data", "paste", *places, *options) == 2
    assert "expected an empty folder or none" in capsys.readouterr().err


# What is refused


def no_images(root):
    for path in (root / "images").iterdir():
        path.unlink()


def no_cutouts(root):
    for path in (root / "cutouts").rglob("*.*"):
        path.unlink()


def opaque(root):
    save(root / "cutouts" / "box.png", flat_rgba(9, 9)[..., :3])


def opaque_alpha(root):
    save(root / "cutouts" / "box.png", np.full((9, 9, 4), 255, np.uint8))


def transparent(root):
    save(root / "cutouts" / "box.png", np.full((9, 9, 4), 90, np.uint8))


def wide(root):
    save(root / "cutouts" / "box.png", flat_rgba(10, 90))


def label_size(root):
    save(root / "labels" / "c.png", np.zeros((HEIGHT, WIDTH - 1), np.uint8))


def no_ground(root):
    save(root / "labels" / "c.png", np.full((HEIGHT, WIDTH), WALL, np.uint8))


def no_label(root):
    (root / "labels" / "c.png").unlink()


def ordinary(root):
    pixels = np.dstack((np.zeros((9, 9, 3), np.uint8), np.eye(9, dtype=np.uint8) * 255))
    for name in ("images/c.png", "cutouts/c.png"):
        save(root / name, pixels)


def taken(root):
    save(root / "out" / "x.png", np.zeros((4, 4), np.uint8))


def same_names(root):
    for folder in ("images", "labels"):
        save(root / folder / "x_y.png", np.zeros((HEIGHT, WIDTH), np.uint8))
        save(root / folder / "x" / "y.png", np.zeros((HEIGHT, WIDTH), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_images, "images: expected files that end in"),
        (no_cutouts, "cutouts: expected files that end in"),
        (opaque, "expected a cut-out with transparent pixels around the object, found none; save it with an alpha"),
        (
            opaque_alpha,
            "expected a cut-out with transparent pixels around the object, found none; save it with an alpha",
        ),
        (transparent, "expected an object, found no pixel that is at least half opaque; give another"),
        (wide, "expected a cut-out that fits into the image .* of 128x96, found 518x58 .* make objects smaller"),
        (label_size, "expected a label map of the size of .* 128x96, found 127x96 .*; use the label map"),
        (no_ground, r"c.png: expected pixels of the ground \(class 0\) .*, found none; correct --ground"),
        (no_label, "labels: expected a label map for every image"),
        (ordinary, "c.png: expected a cut-out, found the ordinary image .*; give a folder"),
        (taken, "out: expected an empty folder or none, found files; delete it"),
        (same_names, "expected images of different names, found 'x_y' 2 times"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(tmp_path, spoil, message):
    write_world(tmp_path)
    spoil(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=message):
        paste(tmp_path)
    assert contents(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"images", "labels", "cutouts", "out"}


def test_masks_of_another_size_or_missing_are_refused(tmp_path):
    write_world(tmp_path)
    for name in ("box", "ball"):
        save(tmp_path / "masks" / f"{name}.png", np.ones((50, 40), np.uint8))
    with pytest.raises(InputError, match="found none for 'more/wide'"):
        paste(tmp_path, cutout_masks=tmp_path / "masks")
    save(tmp_path / "masks" / "more" / "wide.png", np.ones((50, 40), np.uint8))
    with pytest.raises(InputError, match=r"ball\.png: expected a mask of the size of .* 61x61, found 40x50"):
        paste(tmp_path, cutout_masks=tmp_path / "masks")
    save(tmp_path / "masks" / "ball.png", np.zeros((61, 61), np.uint8))
    with pytest.raises(InputError, match="expected an object, found no pixel"):
        paste(tmp_path, cutout_masks=tmp_path / "masks")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ground": (256,)}, "ground: expected class indices from 0 to 255, found 256"),
        ({"objects_per_image": 0}, "objects_per_image: expected at least 1 object"),
        ({"known_per_image": 2}, "known_per_image: expected known_classes too"),
        ({"height": (0.5, 0.2)}, "height: expected two shares"),
        ({"height": (0.0, 0.2)}, "height: expected two shares"),
        ({"horizon": 1.0}, "horizon: expected a number from 0 to 0.95, found 1"),
        ({"matching": float("nan")}, "matching: expected a number from 0 to 1, found nan"),
        ({"seed": -1}, "seed: expected a whole number of 0 or more"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        PasteSettings(**values)


def test_limit_below_one_is_refused(world):
    with pytest.raises(InputError, match="limit: expected at least 1 image"):
        paste(world, "none", limit=0)
    assert not Path(world / "none").exists()
