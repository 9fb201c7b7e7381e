"""``anomaly evaluate --folder``: two folders of one's own as a set."""

import json

import pytest

from tests.anomaly import set_trees
from tests.test_ood_eval import GOOD, call, place  # noqa: F401


def test_two_folders_are_a_set(place, monkeypatch):
    for i in range(3):
        set_trees.write(place / f"mine/labels/f{i}.png", set_trees.label((0, 3, 9), 48, 72))
        set_trees.write(place / f"mine/images/f{i}.png", set_trees.photo(i, 48, 72))
    words = ("--folder", "mine/images", "mine/labels", "--label-values", "0=known", "3-4=anomaly", "9=ignore")
    options = ("--no-closed-set", "--heatmaps", "none", "--scores", "msp", "--out", "out/run")
    assert call(monkeypatch, *GOOD[:2], *words, *options) == 0
    (entry,) = json.loads((place / "out/run/results.json").read_text())["datasets"]
    score = entry["scores"]["msp"]
    assert (entry["dataset"], score["anomaly_pixels"], score["ignored_pixels"]) == ("mine", 3 * 1152, 3 * 1152)


def test_labels_of_another_meaning_are_told_before_the_closed_set_is_visited(place, monkeypatch, capfd):
    from anomaly.mmengine import closed_set

    set_trees.write(place / "mine/labels/f.png", set_trees.label((0, 3, 9), 48, 72))
    set_trees.write(place / "mine/images/f.png", set_trees.photo(0, 48, 72))
    monkeypatch.setattr(closed_set, "evaluate_closed_set", lambda *_, **__: pytest.fail("the closed set was visited"))
    words = ("--folder", "mine/images", "mine/labels", "--label-values", "0=known", "1=anomaly")
    assert call(monkeypatch, *GOOD[:2], *words, "--out", "out/run") == 2
    assert "f.png" in capfd.readouterr().err


def test_the_closed_set_is_not_demanded_where_it_is_absent(place, monkeypatch, capfd):
    import shutil

    shutil.rmtree(place / "closed")
    for name in ("f", "g"):
        set_trees.write(place / f"mine/labels/{name}.png", set_trees.label((0, 1), 48, 72))
        set_trees.write(place / f"mine/images/{name}.png", set_trees.photo(0, 48, 72))
    words = ("--folder", "mine/images", "mine/labels", "--label-values", "0=known", "1=anomaly", "--heatmaps", "none")
    with pytest.warns(UserWarning, match=r"no closed-set mIoU: closed set of tiny\.py: expected images and labels"):
        assert call(monkeypatch, *GOOD[:2], *words, "--scores", "msp", "--out", "out/run") == 0
    assert json.loads((place / "out/run/results.json").read_text())["closed_set"] is None
    assert call(monkeypatch, *GOOD[:2], "--sets", "road_anomaly", "--heatmaps", "none", "--out", "out/run") == 2
    assert "closed set" in capfd.readouterr().err  # a published benchmark comes with the closed set
