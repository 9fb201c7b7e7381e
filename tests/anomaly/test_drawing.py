"""Drawing objects against pixel-by-pixel loops; figures against the numbers they are drawn from."""

import cv2
import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.patches import Ellipse

from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN
from anomaly.metrics.pixel import PixelMetrics
from anomaly.visualize import (
    ClassColours,
    Contours,
    ErrorMap,
    Heatmap,
    Overlay,
    Panel,
    histogram_figure,
    mixture_figure,
    precision_recall_figure,
    roc_figure,
)
from anomaly.visualize.palette import hexadecimal
from anomaly.visualize.prediction import class_palette

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)
LABEL = RNG.choice(np.uint8([KNOWN, ANOMALY, IGNORE]), (12, 17))
SCORE = (RNG.normal(size=(12, 17)) + 2 * (LABEL == ANOMALY)).astype(np.float32)

BROKEN = SCORE.copy()
BROKEN[3, 4] = np.nan


def unchanged(draw, *arrays):
    before = [array.copy() for array in arrays]
    picture = draw(*arrays)
    assert all((array == old).all() for array, old in zip(arrays, before, strict=True))
    assert picture.dtype == np.uint8
    assert not any(np.shares_memory(picture, array) for array in arrays)
    return picture


def test_overlay_mixes_and_leaves_the_rest():
    other = PHOTO[::-1].copy()
    where = LABEL == ANOMALY
    mixed = unchanged(Overlay(0.25).draw, PHOTO, other, where)
    expected = np.rint(0.75 * PHOTO.astype(float) + 0.25 * other)
    assert np.abs(mixed[where] - expected[where]).max() <= 1e-6
    assert (mixed[~where] == PHOTO[~where]).all()
    assert (Overlay(1).draw(PHOTO, other) == other).all()
    assert (Overlay(0).draw(PHOTO, other) == PHOTO).all()


def test_contours_outline_the_mask_and_touch_nothing_far_from_it():
    photo, mask = np.full((40, 50, 3), 90, np.uint8), np.zeros((40, 50), bool)
    mask[10:30, 12:40] = True
    mask[18:22, 20:30] = False  # a hole
    drawn = unchanged(Contours((255, 0, 0), width=1).draw, photo, mask)
    edge = mask & ~(np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1))
    assert (drawn[edge] == (255, 0, 0)).all()
    assert (drawn[:7] == 90).all()
    assert (drawn[14, 16] == 90).all()
    assert (drawn[18:22, 18:20] != 90).any()


def test_classes_get_their_colours_and_unknown_ids_a_grey():
    palette = ((1, 2, 3), (4, 5, 6))
    classes = np.array([[0, 1, 2], [255, 1, 0]])
    drawn = unchanged(ClassColours(palette).draw, classes)
    for y, x in np.ndindex(classes.shape):
        assert tuple(drawn[y, x]) == (palette[classes[y, x]] if classes[y, x] < 2 else (214, 214, 220))


@pytest.mark.parametrize("count", [1, 7, 19, 171])
def test_palettes_do_not_repeat(count):
    palette = class_palette(count)
    assert len(set(palette)) == len(palette) == count
    assert palette == class_palette(200)[:count]


@pytest.mark.parametrize("vision", ["normal", "deuteranopia", "protanopia"])
def test_the_first_eleven_classes_are_told_apart(vision):
    """By CIELAB distance; colour vision as Machado, Oliveira & Fernandes (TVCG 2009) simulate it."""
    rgb = np.array(class_palette(11)) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    simulate = {
        "normal": np.eye(3),
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
    }[vision]
    seen = np.clip(linear @ np.transpose(simulate), 0, 1)
    seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = cv2.cvtColor(seen[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]
    distance = np.linalg.norm(lab[:, None] - lab, axis=-1)
    assert distance[np.triu_indices(11, 1)].min() > 20


def test_error_map_against_a_loop():
    threshold = 0.5
    drawn = unchanged(ErrorMap(threshold).draw, SCORE, LABEL)
    for y, x in np.ndindex(LABEL.shape):
        flagged = SCORE[y, x] >= threshold
        if LABEL[y, x] == IGNORE:
            kind = "ignored"
        elif LABEL[y, x] == ANOMALY:
            kind = "found anomaly" if flagged else "missed anomaly"
        else:
            kind = "false alarm" if flagged else "known"
        assert tuple(drawn[y, x]) == ErrorMap.colours[kind]


def luminance(colour):
    return float(np.dot((0.2126, 0.7152, 0.0722), (np.array(colour) / 255) ** 2.2))


def test_error_colours_differ_in_lightness_too():
    found, false, missed = (ErrorMap.colours[k] for k in ("found anomaly", "false alarm", "missed anomaly"))
    lights = sorted(map(luminance, (ErrorMap.colours["known"], found, missed, false)))
    assert min(np.diff(lights)) > 0.05


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: Heatmap(1.0, 1.0), "from a score to a higher one, found 1.0 to 1.0"),
        (lambda: Heatmap(0.0, np.inf), "from a score to a higher one"),
        (lambda: Overlay(1.5), "a number from 0 to 1, found 1.5"),
        (lambda: Overlay().draw(PHOTO, PHOTO[1:]), "of one size"),
        (lambda: Overlay().draw(PHOTO, PHOTO, LABEL[1:] == 0), "of one size"),
        (lambda: Contours().draw(PHOTO, LABEL[1:] == 0), "expected a mask of"),
        (lambda: ClassColours.of(3).draw(np.array([[-1]])), "class indices from 0, found -1"),
        (lambda: ErrorMap(0.0).draw(SCORE[1:], LABEL), "of one size"),
        (lambda: histogram_figure({"s": SCORE[1:]}, LABEL), "s: expected a score of the label's shape"),
        (lambda: histogram_figure({"s": SCORE}, np.zeros_like(LABEL)), "not one anomalous pixel"),
        (lambda: mixture_figure(np.zeros((2, 3)), np.ones((2, 3)), np.ones((2, 3)), "ab"), "means and deviations"),
        (
            lambda: Heatmap(0.0, 1.0).draw(BROKEN),
            "heatmap: expected finite scores, found 1 NaN or infinite ones of 204",
        ),
        (lambda: Heatmap(0.0, 1.0).draw(SCORE[None]), r"a score map \(H, W\), found shape \(1, 12, 17\)"),
        (lambda: Heatmap(0.0, 1.0).draw(SCORE.astype(str)), "scores, which are numbers"),
        (lambda: Heatmap.of([BROKEN]), "finite scores"),
        (lambda: Heatmap.of([]), "at least one score map"),
        (lambda: Overlay().draw(PHOTO / 255, PHOTO), r"an RGB image \(H, W, 3\) of uint8, found .* of float64"),
        (lambda: Contours().draw(PHOTO, SCORE), "a mask .* compare a score with a threshold"),
        (lambda: Contours().draw(PHOTO, LABEL), "a mask .* or a label with a value"),
        (lambda: Contours(width=0), "a width of 1 pixel or more, found 0"),
        (lambda: ClassColours.of(3).draw(SCORE), "a map .* of class indices"),
        (lambda: ErrorMap(0.0).draw(SCORE, LABEL * 0 + 7), r"error map: expected labels .* found \[7\]"),
        (lambda: ErrorMap(0.0).draw(BROKEN, LABEL), "error map: expected finite scores"),
        (lambda: histogram_figure({"s": BROKEN}, LABEL), "s: expected finite scores"),
        (lambda: histogram_figure({}, LABEL), "at least one score"),
        (lambda: roc_figure({}), "at least one result"),
        (lambda: precision_recall_figure({}), "at least one result"),
        (lambda: Panel("s", Heatmap(0.0, 1.0)).draw(PHOTO, SCORE[1:], LABEL, "a"), "panel: expected .* of one size"),
        (lambda: mixture_figure(np.zeros((2, 3, 4)), np.ones((2, 3, 4)), np.ones((2, 2)), "ab"), "shares"),
    ],
)
def test_what_does_not_fit_is_refused(draw, words):
    with pytest.raises(InputError, match=words):
        draw()


def test_tensors_and_lists_are_taken_too():
    tensor, heatmap = torch.from_numpy(SCORE), Heatmap.of([torch.from_numpy(SCORE)])
    assert (heatmap.draw(tensor) == Heatmap.of([SCORE]).draw(SCORE)).all()
    assert (heatmap.draw(SCORE.tolist()) == heatmap.draw(SCORE)).all()
    drawn = ErrorMap(0.5).draw(tensor, torch.from_numpy(LABEL))
    assert (drawn == ErrorMap(0.5).draw(SCORE, LABEL)).all()
    where = torch.from_numpy(LABEL == ANOMALY)
    assert (Contours().draw(PHOTO, where) == Contours().draw(PHOTO, where.numpy())).all()
    assert (Contours().draw(PHOTO, where.int()) == Contours().draw(PHOTO, where.numpy())).all()


@pytest.fixture
def result():
    metrics = PixelMetrics("s", dataset="set")
    metrics.update("a", SCORE, LABEL)
    return metrics.compute()


def test_curves_show_the_figures_and_the_points(result):
    figure = roc_figure({"ours": result})
    line, dot = figure.axes[0].lines[:2]
    assert line.get_label() == f"ours: AUROC {result['auroc']:.1%}"
    area = np.trapezoid(line.get_ydata(), line.get_xdata())
    assert area == pytest.approx(result["auroc"], abs=0.01)
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (result["fpr95"], 0.95)
    figure = precision_recall_figure({"ours": result})
    line, chance = figure.axes[0].lines
    assert (np.sum(np.diff(line.get_xdata(), prepend=0) * line.get_ydata())) == pytest.approx(result["ap"], abs=0.01)
    assert chance.get_ydata()[0] == (LABEL == ANOMALY).sum() / (LABEL != IGNORE).sum()


def test_histograms_count_known_and_anomalous_apart():
    figure = histogram_figure({"one": SCORE, "two": 2 * SCORE}, LABEL, threshold=1.0)
    assert [axis.get_title() for axis in figure.axes] == ["one", "two"]
    axis = figure.axes[0]
    known, anomalous = axis.containers
    assert sum(bar.get_height() * bar.get_width() for bar in known) == pytest.approx(1)
    places = [np.array([(bar.get_x(), bar.get_height()) for bar in bars]).T for bars in (known, anomalous)]
    apart = np.diff([np.average(x, weights=height) for x, height in places])[0]
    assert apart == pytest.approx(SCORE[LABEL == ANOMALY].mean() - SCORE[LABEL == KNOWN].mean(), abs=0.2)
    assert axis.lines[0].get_xdata()[0] == 1.0
    assert len(anomalous) == 80


def test_mixture_ellipses_are_projected_covariances():
    means, shares = RNG.normal(size=(3, 2, 5)), np.full((3, 2), 0.5)
    stds = RNG.uniform(0.1, 0.5, size=(3, 2, 5))
    figure = mixture_figure(means, stds, shares, ["a", "b", "c"], RNG.normal(size=(20, 5)))
    ellipses = [patch for patch in figure.axes[0].patches if isinstance(patch, Ellipse)]
    assert len(ellipses) == 6
    samples = means[1, 0] + stds[1, 0] * RNG.normal(size=(200_000, 5))
    flat = means.reshape(6, 5)
    vectors = np.linalg.eigh(np.cov(flat.T))[1]
    projected = (samples - flat.mean(0)) @ vectors[:, [-1, -2]]
    extent = np.sqrt(np.linalg.eigvalsh(np.cov(projected.T)))
    assert sorted((ellipses[2].width / 2, ellipses[2].height / 2)) == pytest.approx(extent, rel=0.02)
    assert sum(bar.get_width() for bar in figure.axes[1].patches) == pytest.approx(3)
    assert matplotlib.colors.to_hex(ellipses[0].get_facecolor()) == hexadecimal(class_palette(3)[0])
