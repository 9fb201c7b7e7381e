"""Post-processing against scipy and naive float64 loops, and every refusal."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter, uniform_filter

from anomaly.errors import InputError
from anomaly.postprocessing.boundary import boundary
from anomaly.postprocessing.guided import guided
from anomaly.postprocessing.smoothing import dilated_smoothing, smooth
from anomaly.postprocessing.table import STEPS, Chain, Context, parse_chain

SHAPES = [(23, 31), (1, 40), (5, 2), (1, 1)]


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(50, 5, shape).astype(np.float32)


def photo(shape, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def regions(shape):
    row, column = np.indices(shape)
    return ((row // 9 + column // 11) % 3).astype(np.int64)


def context(shape, **changes):
    return Context(
        **{"frame": "f", "image": photo(shape), "classes": regions(shape), "class_names": ("a", "b", "c")} | changes
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [0.7, 2.0, 6.0])
def test_smooth_is_scipys_over_what_is_there(shape, sigma):
    score, one = noise(shape).astype(np.float64), np.ones(shape)
    blurred, weight = (gaussian_filter(each, sigma, mode="constant") for each in (score, one))
    np.testing.assert_allclose(smooth(score.astype(np.float32), sigma=sigma), blurred / weight, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("changes", [{}, {"size": 3, "sigma": 2.0, "dilation": 2}, {"size": 1}])
def test_dilated_smoothing_is_a_loop(shape, changes):
    score = noise(shape)
    size, sigma, dilation = {"size": 7, "sigma": 1.0, "dilation": 6, **changes}.values()
    expected = np.empty(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            total = weights = 0.0
            for a in range(-(size // 2), size // 2 + 1):
                for b in range(-(size // 2), size // 2 + 1):
                    y, x = i + a * dilation, j + b * dilation
                    if 0 <= y < shape[0] and 0 <= x < shape[1]:
                        weight = np.exp(-(a * a + b * b) / (2 * sigma * sigma))
                        total, weights = total + weight * float(score[y, x]), weights + weight
            expected[i, j] = total / weights
    np.testing.assert_allclose(dilated_smoothing(score, **changes), expected, rtol=1e-5)


def neighbours(shape, i, j, reach):
    return [
        (y, x)
        for y in range(max(0, i - reach), min(shape[0], i + reach + 1))
        for x in range(max(0, j - reach), min(shape[1], j + reach + 1))
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("width", [8, 6, 2])
def test_boundary_suppression_is_a_loop(shape, width):
    score, classes = noise(shape), regions(shape)
    border = [
        (i, j)
        for i in range(shape[0])
        for j in range(shape[1])
        if any(
            0 <= i + a < shape[0] and 0 <= j + b < shape[1] and classes[i + a, j + b] != classes[i, j]
            for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0))
        )
    ]
    expected = score.astype(np.float64)
    for wide in range(width, 0, -2):
        inside = {
            (i, j)
            for i in range(shape[0])
            for j in range(shape[1])
            if min((abs(i - a) + abs(j - b) + 1 for a, b in border), default=np.inf) > wide / 2
        }
        before = expected.copy()
        for i in range(shape[0]):
            for j in range(shape[1]):
                known = [before[each] for each in neighbours(shape, i, j, 1) if each in inside]
                if (i, j) not in inside and known:
                    expected[i, j] = np.mean(known)
    np.testing.assert_allclose(boundary(score, classes, width=width), expected, rtol=1e-5)


def test_boundary_suppression_is_as_published():
    """Widths of 8, 6, 4 and 2 pixels, as binary dilations of the boundary; far from where the image ends."""
    score, classes = noise((40, 60)), np.indices((40, 60))[1] // 15
    border = np.zeros((40, 60), bool)
    border[:, [14, 15, 29, 30, 44, 45]] = True
    expected = score.astype(np.float64)
    for expansion in (3, 2, 1, 0):
        inside = ~(binary_dilation(border, iterations=expansion) if expansion else border)
        mean, share = uniform_filter(expected * inside, 3), uniform_filter(inside.astype(np.float64), 3)
        reached = ~inside & (share > 0.05)
        expected[reached] = mean[reached] / share[reached]
    np.testing.assert_allclose(boundary(score, classes)[5:-5], expected[5:-5], rtol=1e-5)


@pytest.mark.parametrize("width", [2, 4, 8, 20])
def test_a_ridge_along_a_boundary_disappears(width):
    """As wide as the boundary, it takes the score of what is around; a wider one keeps its middle."""
    column = np.arange(60)
    classes = np.tile((column >= 30).astype(np.int64), (9, 1))
    ridge = np.tile(np.abs(column - 29.5) < width / 2, (9, 1))
    score = np.where(ridge, 100, 1).astype(np.float32)
    np.testing.assert_array_equal(boundary(score, classes, width=width), np.ones((9, 60)))
    found = boundary(np.roll(score, 1, axis=1) + score, classes, width=width)
    assert found[4, 29] > 1


def test_boundary_without_a_change_of_class():
    score = noise((6, 7))
    np.testing.assert_array_equal(boundary(score, np.zeros((6, 7), np.int64)), score)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("radius", "eps"), [(2, 1e-3), (8, 1e-1)])
def test_guided_filter_is_a_loop(shape, radius, eps):
    score, image = noise(shape), photo(shape)
    guide = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) / 255.0
    slope, offset = np.empty(shape), np.empty(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            places = tuple(np.transpose(neighbours(shape, i, j, radius)))
            g, s = guide[places], score[places].astype(np.float64)
            slope[i, j] = (np.mean(g * s) - g.mean() * s.mean()) / (g.var() + eps)
            offset[i, j] = s.mean() - slope[i, j] * g.mean()
    expected = np.empty(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            places = tuple(np.transpose(neighbours(shape, i, j, radius)))
            expected[i, j] = slope[places].mean() * guide[i, j] + offset[places].mean()
    np.testing.assert_allclose(guided(score, image, radius=radius, eps=eps), expected, rtol=1e-4)


def test_guided_filter_beyond_float32_is_the_largest_float32():
    """One window, so a line by least squares: through (0, -m), (0.5, m) and (1, m) it gives about 4/3 m at 1."""
    m = np.finfo(np.float32).max
    image = np.repeat(np.uint8([[0, 128, 255]]), 3).reshape(1, 3, 3)
    found = guided(np.float32([[-0.1, 0.1, 0.1]]) * m, image, radius=3, eps=1e-9)
    np.testing.assert_allclose(found[0, 2] / m, 0.4 / 3, rtol=0.01)
    assert guided(np.float32([[-m, m, m]]), image, radius=3, eps=1e-9)[0, 2] == m


@pytest.mark.parametrize("text", ["smooth", "dilated_smoothing", "boundary", "guided"])
@pytest.mark.parametrize("value", [0.0, -3.5e5, 1e30])
def test_constant_maps_stay_as_they_are(text, value):
    score = np.full((12, 17), value, np.float32)
    found = parse_chain(text)(score, context((12, 17)))
    np.testing.assert_allclose(found, score, rtol=1e-6)
    assert found.dtype == np.float32


@settings(deadline=None, max_examples=150)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    st.sampled_from(
        ["smooth:sigma=0.3", "smooth:sigma=9", "dilated_smoothing", "boundary", "guided:radius=2", "never:names=b"]
    ),
)
def test_what_is_finite_stays_finite_and_means_stay_in_range(score, text):
    before, around = score.copy(), context(score.shape, classes=np.indices(score.shape).sum(0) // 4 % 2)
    found = parse_chain(text)(score, around)
    assert found.dtype == np.float32
    assert found.shape == score.shape
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(score, before)
    if not text.startswith("guided"):
        assert score.min() <= found.min()
        assert found.max() <= score.max()


@pytest.mark.parametrize("text", ["none", "boundary,smooth:sigma=2", "guided:radius=3:eps=0.01,never:names=a+c"])
def test_chain_applies_its_steps_in_order_and_leaves_its_input(text):
    score, around = noise((20, 24)), context((20, 24))
    before, expected = score.copy(), score
    for step in text.split(",") if text != "none" else ():
        expected = parse_chain(step)(expected, around)
    np.testing.assert_array_equal(parse_chain(text)(score, around), expected)
    np.testing.assert_array_equal(score, before)
    assert parse_chain(text).name == ("" if text == "none" else text)
    assert Chain().needs == set()


def test_never_anomalous_classes_get_the_smallest_score():
    score, around = noise((20, 24)), context((20, 24))
    found = parse_chain("never:names=b+c")(score, around)
    never = np.isin(around.classes, [1, 2])
    assert (found[never] == score.min()).all()
    np.testing.assert_array_equal(found[~never], score[~never])


@pytest.mark.parametrize("folder", [False, True])
def test_region_of_interest(tmp_path, folder):
    score, mask = noise((6, 8)), np.zeros((6, 8), np.uint8)
    mask[2:5, 1:4] = 255
    cv2.imwrite(str(tmp_path / "f.png"), mask)
    found = parse_chain(f"roi:mask={tmp_path if folder else tmp_path / 'f.png'}")(score, context((6, 8)))
    np.testing.assert_array_equal(found, np.where(mask > 0, score, score.min()))


@pytest.mark.parametrize("kind", ["bits16", "dark_blue", "alpha", "palette", "bilevel"])
def test_region_of_interest_is_where_a_mask_is_not_0(tmp_path, kind):
    """1 is inside however it is stored, an opaque 0 is not."""
    score, one = noise((6, 8)), np.zeros((6, 8), np.uint8)
    one[2:5, 1:4] = 1
    zero, opaque = np.zeros_like(one), np.full_like(one, 255)
    picture = {
        "bits16": Image.fromarray(one.astype(np.uint16)),
        "dark_blue": Image.fromarray(np.dstack([zero, zero, one])),
        "alpha": Image.fromarray(np.dstack([one, zero, zero, opaque])),
        "palette": Image.fromarray(one).convert("P"),
        "bilevel": Image.fromarray(one * 255).convert("1"),
    }[kind]
    picture.save(tmp_path / "mask.png")
    found = parse_chain(f"roi:mask={tmp_path / 'mask.png'}")(score, context((6, 8)))
    np.testing.assert_array_equal(found, np.where(one > 0, score, score.min()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smoth", "unknown post-processing 'smoth'; the steps are smooth, "),
        ("smooth:sigma=0", "smooth: expected sigma above 0 and at most 500 pixels, found 0.0"),
        ("smooth:sigma=wide", "post-processing smooth: expected a number for sigma, found 'wide'"),
        ("smooth:sigm=1", "unknown parameter 'sigm': did you mean 'sigma'"),
        ("smooth:sigma=1:sigma=2", "each key once"),
        ("boundary,", "unknown post-processing ''"),
        ("smooth:sigma=nan", "post-processing smooth: expected a number for sigma, found 'nan'"),
        ("boundary:width=3", "boundary: expected an even width from 2 to 200 pixels, found 3"),
        ("boundary:width=0", "boundary: expected an even width from 2 to 200 pixels, found 0"),
        ("boundary:width=202", "boundary: expected an even width from 2 to 200 pixels, found 202"),
        ("dilated_smoothing:size=4", "expected an odd size from 1 to 99.*found size=4"),
        ("dilated_smoothing:size=101", "expected an odd size from 1 to 99.*found size=101"),
        ("dilated_smoothing:sigma=0", "sigma above 0.*found size=7, sigma=0.0"),
        ("dilated_smoothing:dilation=0", "dilation from 1.*found size=7, sigma=1.0, dilation=0"),
        ("guided:eps=0", "expected radius from 1 to 500 and eps above 0, found 8 and 0.0"),
        ("guided:radius=2.5", "expected a whole number for radius, found '2.5'"),
        ("guided:radius=0", "expected radius from 1 to 500 and eps above 0, found 0 and 0.001"),
        ("roi", "post-processing roi: expected a value for mask, found none"),
        ("roi:mask=no.png", "post-processing roi: expected an existing file or folder for mask, found 'no.png'"),
        ("never", "post-processing never: expected a value for names, found none"),
        ("never:names=+", r"post-processing never: expected names joined by \+ for names, found '\+'"),
    ],
)
def test_bad_chains_are_refused_before_anything_runs(text, message):
    with pytest.raises(InputError, match=message):
        parse_chain(text)


def test_masks_that_do_not_fit(tmp_path):
    score, around = noise((6, 8)), context((6, 8))
    cv2.imwrite(str(tmp_path / "other.png"), np.ones((8, 6), np.uint8))
    with pytest.raises(InputError, match=r"expected a mask of the image's size, 8x6, for frame 'f', found 6x8"):
        parse_chain(f"roi:mask={tmp_path / 'other.png'}")(score, around)
    cv2.imwrite(str(tmp_path / "empty.png"), np.zeros((6, 8), np.uint8))
    with pytest.raises(InputError, match="found a mask that is 0 everywhere"):
        parse_chain(f"roi:mask={tmp_path / 'empty.png'}")(score, around)
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'f.png'}: expected an image file, found none")):
        parse_chain(f"roi:mask={tmp_path}")(score, around)
    cv2.imwrite(str(tmp_path / "whole.png"), photo((6, 8)))
    (tmp_path / "f.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-40])
    with pytest.raises(InputError, match=r"f\.png: expected a complete image, found one that cannot be decoded"):
        parse_chain(f"roi:mask={tmp_path}")(score, around)
    with pytest.raises(InputError, match=r"names of the network's classes \(a, b, c\), found 'sky'"):
        parse_chain("never:names=sky")(score, around)
    with pytest.raises(InputError, match="it has no names"):
        parse_chain("never:names=sky")(score, context((6, 8), class_names=()))


def test_stored_scores_have_no_classes():
    with pytest.raises(InputError, match="needs the network's classes, and stored scores have none"):
        parse_chain("boundary")(noise((4, 4)), context((4, 4), classes=None))


def test_table():
    assert all(step.name == name and step.source for name, step in STEPS.items())
    assert {need for step in STEPS.values() for need in step.needs} <= set(Context.__dataclass_fields__)
    page = (Path(__file__).parents[2] / "docs/postprocessing.md").read_text()
    assert [row.split("`")[1] for row in page.splitlines() if row.startswith("| `")] == list(STEPS)
