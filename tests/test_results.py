"""The figures of docs/results.md are those of the committed results."""

import json
from pathlib import Path

import pandas as pd
import pytest

from anomaly.report.table import results_markdown
from anomaly.results.comparison import check_comparable
from anomaly.results.records import read_results

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "results.md").read_text()
MODELS = ("segformer-gmmseg", "segformer")


@pytest.mark.parametrize("kind", ["", "_calibrated"])
def test_open_world_tables(kind):
    table = results_markdown([read_results(ROOT / "results" / f"{model}{kind}.json") for model in MODELS])
    assert table in PAGE


def test_paired_differences():
    assert (ROOT / "results" / "paired.md").read_text() in PAGE


def test_closed_set_figures():
    for model in MODELS:
        figures = json.loads((ROOT / "results" / "closed_set" / f"{model}.json").read_text())
        assert f"| {figures['model']} | {figures['frames']} | {figures['mIoU']:.2f} | {figures['aAcc']:.2f} |" in PAGE


@pytest.mark.parametrize("head", ["segformer", "deeplabv3plus", "upernet"])
@pytest.mark.parametrize("kind", ["-gmmseg", ""])
def test_three_heads(head, kind):
    validation = read_results(ROOT / "results" / f"{head}{kind}.json").closed_set.miou
    figures = json.loads((ROOT / "results" / "closed_set" / f"{head}{kind}.json").read_text())
    assert f"| {figures['model']} | {100 * validation:.2f} | {figures['mIoU']:.2f} |" in PAGE
    curve = pd.read_csv(ROOT / "results" / "curves" / f"{head}{kind}.csv").mIoU.dropna()
    assert curve.iloc[-1] == pytest.approx(100 * validation, abs=0.02)


def test_larger_backbone():
    names = [f"segformer-gmmseg_lite{size}{kind}" for kind in ("", "_frozen") for size in (0, 2)]
    assert results_markdown([read_results(ROOT / "results" / f"{name}.json") for name in names]) in PAGE
    assert (ROOT / "results" / "paired_lite2.md").read_text() in PAGE
    for size in (0, 2):
        found = json.loads((ROOT / "results" / "closed_set" / f"segformer-gmmseg_lite{size}.json").read_text())
        assert f"| {found['model']} | {found['frames']} | {found['mIoU']:.2f} | {found['aAcc']:.2f} |" in PAGE


def test_network_of_others():
    names = ("espnetv2_cityscapes", "segformer", "segformer-gmmseg")
    results = [read_results(ROOT / "results" / f"{name}.json") for name in names]
    check_comparable(results)  # the same images and labels
    table = PAGE.split("## A network that nobody here wrote")[1].split("\n## ")[0]
    for result in results:
        scores = next(entry.scores for entry in result.datasets if entry.dataset == "road_anomaly")
        best = {max(scores, key=lambda name: scores[name].values[metric]) for metric in ("auroc", "ap")}
        best |= {min(scores, key=lambda name: scores[name].values["fpr95"])}
        for name in scores if result is results[0] else best:
            cells = [result.model["name"], name]
            for metric in ("auroc", "ap", "fpr95"):
                low, high = scores[name].confidence_intervals[metric]
                cells.append(f"{100 * scores[name].values[metric]:.1f} [{100 * low:.1f}-{100 * high:.1f}]")
            assert f"| {' | '.join(cells)} |" in table


def test_fitted_figures():
    scores = read_results(ROOT / "results" / "deeplabv3plus_posthoc-gmm.json").datasets[0].scores
    page = " ".join((ROOT / "docs" / "fitting.md").read_text().split())
    for name in ("gmm_nll", "energy"):
        found = {figure: 100 * value for figure, value in scores[name].values.items()}
        assert "{auroc:.1f} / {ap:.1f} / {fpr95:.1f}".format(**found) in page


def test_train_step_figures():
    figures = json.loads((ROOT / "results" / "benchmark_train_step.json").read_text())
    row = (
        "| {head_s:.1f} | {head_naive_s:.1f} | {head_speedup:.1f} | {classifier_speedup:.1f} | {network_s:.1f} "
        "| {network_twin_s:.1f} | {network_ratio:.2f} |"
    )
    assert row.format(**figures) in PAGE


def test_benchmark_figures():
    figures = json.loads((ROOT / "results" / "benchmark_density.json").read_text())
    row = (
        "| {ours_s:.3f} | {baseline_s:.2f} | {speedup:.0f} | {times_bare_product:.2f} | {peak_mb:.0f} "
        "| {max_abs_error:.1e} |"
    )
    assert row.format(**figures) in PAGE


def test_metric_speed():
    page = " ".join((ROOT / "docs" / "metrics.md").read_text().split())
    pixels, components, draws = (
        json.loads((ROOT / "results" / f"benchmark_{name}.json").read_text())
        for name in ("pixel_metrics", "components", "bootstrap")
    )
    draws["speedup"] = draws["recomputing_every_replicate_s"] / draws["all_s"]
    for figures, sentence in (
        (pixels, "| {scikit_learn_s:.1f} | 1 | {scikit_learn_mb:.0f} |"),
        (pixels, "| {exact_s:.2f} | {exact_speedup:.0f} | {exact_mb:.0f} |"),
        (pixels, "| {binned_s:.2f} | {binned_speedup:.0f} | {binned_mb:.0f} | {binned_ap_interval:.1e} |"),
        (pixels, "{large_set_s:.0f} s and {large_set_peak_mb:.0f} MB"),
        (pixels, "takes {large_set_time_per_pixel_ratio:.1f} times"),
        (components, "{label_components} objects | {ours_s:.4f} | {loop_s:.2f}, one after the other | {speedup:.0f} |"),
        (draws, "| {all_s:.1f} | {recomputing_every_replicate_s:.0f}, from all pixels | {speedup:.0f} |"),
    ):
        assert sentence.format(**figures) in page


def test_checking_speed():
    figures = json.loads((ROOT / "results" / "benchmark_datasets.json").read_text())
    page = " ".join((ROOT / "docs" / "datasets.md").read_text().split())
    sentence = "{frames_per_second:.0f} frames of 2048x1024 a second on two of them, {times_decoding:.2f} times"
    assert sentence.format(**figures) in page
