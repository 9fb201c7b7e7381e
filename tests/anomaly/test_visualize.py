"""Pictures: colours against matplotlib, one scale per score for a whole run, and what is in a panel."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from anomaly.evaluation.callbacks import FrameResult
from anomaly.frames import ANOMALY, IGNORE, KNOWN, Frame
from anomaly.visualize.heatmap import Heatmap
from anomaly.visualize.heatmaps import HeatmapCallback
from anomaly.visualize.panel import GAP, HEADER, LABEL_COLOURS, Panel, cell_size, encode_png, shrink_label

SIZE = (20, 30)


def frame(name, seed=0, size=SIZE):
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    label = np.resize(np.uint8([KNOWN, ANOMALY, IGNORE]), size)
    return Frame(name, image, label)


def ramp(low, high, size=SIZE):
    return np.linspace(low, high, size[0] * size[1], dtype=np.float32).reshape(size)


def cell(picture, column, size=SIZE):
    left = GAP + column * (size[1] + GAP)
    return picture[HEADER : HEADER + size[0], left : left + size[1]]


def test_heatmap_is_matplotlibs_inferno():
    score = ramp(-3, 5)
    expected = matplotlib.colormaps["inferno"]((score - -1) / (4 - -1), bytes=True)[..., :3]
    # matplotlib floors to 256 bins, ours rounds to the nearest of 256 colours: at most one step apart
    assert np.abs(Heatmap(-1, 4).draw(score).astype(int) - expected.astype(int)).max() <= 6
    assert Heatmap(-1, 4).draw(score).dtype == np.uint8


def test_higher_is_brighter_and_ends_are_clipped():
    bright = Heatmap(0.2, 0.8).draw(ramp(0, 1)).astype(int).sum(2).ravel()
    assert (np.diff(bright) >= 0).all()
    assert (bright[:100] == bright[0]).all()
    assert (bright[-100:] == bright[-1]).all()


def test_robust_limits_pool_frames_of_different_sizes():
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=(40, 50)).astype(np.float32), rng.normal(5, 2, size=(9, 7)).astype(np.float32)]
    pooled = np.sort(np.concatenate([score.ravel() for score in scores]).astype(np.float64))
    scale = Heatmap.of(scores)
    assert (pooled < scale.low).mean() == pytest.approx(0.01, abs=1e-3)
    assert (pooled > scale.high).mean() == pytest.approx(0.01, abs=1e-3)


def test_constant_score_still_has_a_scale():
    assert Heatmap.of([np.full((3, 3), 7, np.float32)]) == Heatmap(7, 8)
    assert Heatmap(7, 8).draw(np.full((3, 3), 7, np.float32)).max() < 10


@pytest.mark.parametrize(
    ("size", "shown"), [((720, 1280), (225, 400)), ((360, 480), (288, 384)), ((1024, 2048), (200, 400)), (SIZE, SIZE)]
)
def test_cells_keep_the_aspect_and_never_grow(size, shown):
    assert cell_size(*size) == shown


def test_panel_holds_image_heatmap_and_label_side_by_side():
    view, score = frame("a"), ramp(0, 1)
    picture = Panel("msp", Heatmap(0.0, 1.0)).draw(view.image, score, view.label, "set: a")
    assert (cell(picture, 0) == view.image).all()
    assert (cell(picture, 1) == Heatmap(0.0, 1.0).draw(score)).all()
    for value, colour in LABEL_COLOURS.items():
        assert (cell(picture, 2)[view.label == value] == colour).all()


def test_panels_of_one_scale_differ_only_where_frame_or_title_do():
    first, second = (
        Panel("n", Heatmap(0.0, 1.0)).draw(f.image, ramp(0, 1), f.label, "t") for f in map(frame, "ab", (0, 1))
    )
    differs = (first != second).any(2)
    assert differs.any()
    cell(differs[..., None], 0)[:] = False
    assert not differs.any()


def test_titles_scale_and_legend_are_drawn():
    view, size = frame("a", size=(100, 300)), (100, 300)

    def draw(title="t", name="n", limits=(0.0, 1.0)):
        return Panel(name, Heatmap(*limits)).draw(view.image, ramp(0, 1, size), view.label, title)

    plain = draw()
    assert (plain[:HEADER] != draw(title="another title")[:HEADER]).any()
    assert (plain[:HEADER] != draw(name="another")[:HEADER]).any()
    below = HEADER + size[0]
    assert (plain[below:] != draw(limits=(0.0, 2.0))[below:]).any()
    legend = plain[below:, 3 * GAP + 2 * size[1] :].reshape(-1, 3)
    assert {tuple(colour) for colour in legend.tolist()} >= set(LABEL_COLOURS.values())


def test_long_titles_are_cut_and_nothing_runs_into_the_next_cell():
    view = frame("a", size=(60, 200))
    pictures = [
        Panel("n", Heatmap(0.0, 1.0)).draw(view.image, ramp(0, 1, (60, 200)), view.label, title)
        for title in ("t", "a very long title " * 20)
    ]
    assert (pictures[0][:, GAP + 200 :] == pictures[1][:, GAP + 200 :]).all()


def test_a_title_of_several_lines_is_written_in_one():
    view = frame("a", size=(60, 200))
    drawn = [
        Panel("n", Heatmap(0.0, 1.0)).draw(view.image, ramp(0, 1, (60, 200)), view.label, title)
        for title in ("new\nline\x00", "new?line?")
    ]
    assert (drawn[0] == drawn[1]).all()


def test_labels_shrink_without_new_values():
    label = np.resize(np.uint8([KNOWN, IGNORE, ANOMALY]), (40, 61))
    assert set(np.unique(shrink_label(label, (11, 13)))) <= {KNOWN, ANOMALY, IGNORE}


def result(dataset, name, **scores):
    view = frame(name, seed=ord(name))
    return FrameResult(dataset, view, scores, scores, computed=True)


def test_heatmaps_have_one_recorded_scale_per_score_for_all_datasets(tmp_path):
    """It is taken from the first four frames of each dataset; the fifth of the second is drawn by it."""
    with HeatmapCallback(tmp_path, ["msp", "energy"]) as heatmaps:
        heatmaps.on_start([range(4), range(5)], ["msp", "energy", "unused"])
        for name in "abcd":
            heatmaps.on_frame(result("one", name, msp=ramp(0, 1), energy=ramp(-9, -5), unused=ramp(0, 1)))
        for name in "efgh":
            heatmaps.on_frame(result("two", name, msp=ramp(1, 2), energy=ramp(-5, -1), unused=ramp(0, 1)))
        heatmaps.on_first_frames()
        heatmaps.on_frame(result("two", "i", msp=ramp(50, 60), energy=ramp(-5, -1), unused=ramp(0, 1)))
        heatmaps.on_end()
    assert heatmaps.colour_scales == {
        "msp": pytest.approx([0.02, 1.98], abs=5e-3),
        "energy": pytest.approx([-8.92, -1.08], abs=2e-2),
    }
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert written == [
        f"{dataset}/{score}/{name}.png"
        for dataset, names in (("one", "abcd"), ("two", "efghi"))
        for score in ("energy", "msp")
        for name in names
    ]
    later = np.asarray(Image.open(tmp_path / "two" / "msp" / "i.png"))
    assert (cell(later, 1) == heatmaps.scales["msp"].draw(ramp(50, 60))).all()
    assert (cell(later, 0) == frame("i", ord("i")).image).all()


def test_png_round_trip():
    picture = frame("a").image
    assert (np.asarray(Image.open(io.BytesIO(encode_png(picture)))) == picture).all()


def test_what_goes_wrong_in_the_background_is_raised(tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    with HeatmapCallback(tmp_path / "out") as heatmaps:
        heatmaps.on_start([range(1)], ["msp"])
        heatmaps.on_frame(result("one", "a", msp=ramp(0, 1)))
        heatmaps.on_first_frames()
        with pytest.raises(OSError, match="out"):
            heatmaps.on_end()
