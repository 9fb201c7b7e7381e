"""The experiment of docs/new_classes.md: its split, its metric against a loop over pixels, and its table."""

import json

import numpy as np
import pytest
import torch

import new_class_study as study


def test_the_page_shows_the_record():
    runs = json.loads(study.RECORD.read_text())["runs"]
    assert len(runs) == len(study.METHODS) * len(study.SEEDS) * len(study.SIZES)
    assert f"\n\n{study.table(runs)}\n\n" in study.PAGE.read_text()


def test_marked_images_measure_nothing():
    drawn = json.loads(study.SPLIT.read_text())
    names = {name for part in drawn["seed 0"].values() for name in part}
    assert len(names) == 117
    assert study.split(sorted(names)) == drawn
    for part in drawn.values():
        assert (len(part["marked"]), len(part["measured"])) == (20, 97)
        assert not set(part["marked"]) & set(part["measured"])
        assert set(part["marked"]) | set(part["measured"]) == names
    assert len({tuple(part["marked"]) for part in drawn.values()}) == 3


def test_animals_are_the_new_class_and_unlabelled_pixels_are_ignored():
    assert study.with_new_class(np.uint8([0, 10, 11, 12, 255])).tolist() == [0, 10, 255, 11, 255]


def test_metric_is_that_of_a_loop_over_pixels():
    draw = np.random.default_rng(0)
    images, pairs = [], []
    for _ in range(2):
        label = draw.choice(np.uint8([0, 3, 11, 255]), (6, 8))
        values = torch.from_numpy(draw.normal(size=(12, 6, 8))).float()
        values[11] += 1  # the new class is found often, and wrong still more often
        images.append(study.Shown(None, values, None, label, None))
        pairs += [
            (int(label[i, j]), int(values[:, i, j].argmax())) for i in range(6) for j in range(8) if label[i, j] < 255
        ]

    def iou(k):
        union = sum(k in pair for pair in pairs)
        return 100 * sum(pair == (k, k) for pair in pairs) / union if union else np.nan

    hit = sum(pair == (11, 11) for pair in pairs)
    assert hit
    found = study.measure(images, lambda shown: shown.logits)
    assert found["new_iou"] == pytest.approx(iou(11))
    assert found["known"] == pytest.approx(np.nanmean([iou(k) for k in range(11)]))
    assert found["new_recall"] == pytest.approx(100 * hit / sum(label == 11 for label, _ in pairs))
    assert found["new_precision"] == pytest.approx(100 * hit / sum(predicted == 11 for _, predicted in pairs))
