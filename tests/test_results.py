"""The figures of docs/results.md are those of the committed results."""

import json
from pathlib import Path

from anomaly.report.table import results_markdown
from anomaly.result import read_results

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "results.md").read_text()
MODELS = ("segformer-gmmseg", "segformer")


def test_open_world_table():
    table = results_markdown([read_results(ROOT / "results" / f"{model}.json") for model in MODELS])
    assert table in PAGE


def test_closed_set_figures():
    for model in MODELS:
        figures = json.loads((ROOT / "results" / "closed_set" / f"{model}.json").read_text())
        assert f"| {figures['model']} | {figures['frames']} | {figures['mIoU']:.2f} | {figures['aAcc']:.2f} |" in PAGE


def test_benchmark_figures():
    figures = json.loads((ROOT / "results" / "benchmark_density.json").read_text())
    row = (
        "| {ours_s:.3f} | {baseline_s:.2f} | {speedup:.0f} | {times_bare_product:.2f} | {peak_mb:.0f} "
        "| {max_abs_error:.1e} |"
    )
    assert row.format(**figures) in PAGE
