"""Write the tables of docs/speed.md from results/gpu_check.json and two benchmarks; the text around them stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anomaly.cli.parser import command_parser
from anomaly.cli.process import run
from scaling_page import render

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/speed.md"
VALUES = {name: ROOT / f"results/{name}.json" for name in ("gpu_check", "benchmark_evaluate", "benchmark_distributed")}
Rows = Iterator[tuple[str, ...]]


def read() -> dict[str, Any]:
    """The committed results, by name."""
    return {name: json.loads(path.read_text()) for name, path in VALUES.items()}


def _part(f: dict[str, Any], name: str) -> dict[str, Any]:
    values: dict[str, Any] = f["gpu_check"]["parts"][name]["values"]
    return values


def _cpu(f: dict[str, Any]) -> Rows:
    one, many = f["benchmark_evaluate"], f["benchmark_distributed"]
    yield f"{one['processor']}, {one['cores']} cores", "seconds", "frames a second"
    frames = one["frames"]
    for key, what in (
        ("forward", "forward passes alone"),
        ("evaluate", f"everything: {one['ratio']:.3f} times as long"),
    ):
        yield what, f"{one[f'{key}_s']:.1f}", f"{frames / one[f'{key}_s']:.3f}"
    yield "evaluation of stored score maps", f"{one['stored_s']:.1f}", f"{one['stored_frames_per_s']:.2f}"
    for key, what in (("one_process", "one process"), ("two_processes", "two processes")):
        yield f"{what}, 1024 x 512", f"{many[f'{key}_s']:.1f}", f"{many[f'{key}_frames_per_s']:.2f}"


def _same(f: dict[str, Any]) -> Rows:
    yield f["gpu_check"]["machine"]["gpu"], "largest difference of a metric", "mean difference of a map"
    scenes, low = _part(f, "scenes"), _part(f, "bfloat16")
    for what, values, title in (
        ("without TF32", scenes, "float32, without TF32"),
        ("resized inputs", scenes, "the same, images resized for the network and maps back"),
        ("TF32 as torch sets it", scenes, "float32, convolutions in TF32 (torch's default)"),
        ("bfloat16", low, "bfloat16, beside float32 on the GPU"),
    ):
        metric, mean = (
            max(values[f"{what}: {of}"].values())
            for of in ("largest difference of a metric", "mean difference of a map over its standard deviation")
        )
        yield title, f"{metric:.1e}", f"{mean:.1e}"


def _resume(f: dict[str, Any]) -> Rows:
    yield "200 steps", "tensors that differ", "largest difference of a loss"
    values = _part(f, "resume")
    for what, title in (
        ("deterministic: resumed and whole", "deterministic: resumed and uninterrupted"),
        ("configured: resumed and whole", "default: resumed and uninterrupted"),
        ("configured: twice without a stop", "default: uninterrupted, twice"),
    ):
        differing = values[what]["tensors that differ"]
        yield title, str(differing), f"{values[f'{what}, largest difference of a loss']:.1g}"


def _steps(f: dict[str, Any]) -> Rows:
    yield "", "GMMSeg, ms", "other, ms", "time", "GMMSeg, MB", "other, MB", "memory"
    values = _part(f, "steps")
    for key, other, title in (
        ("network", "twin", "network, and softmax"),
        ("network_amp", "twin", "the same, mixed precision"),
        ("head", "published", "head, and published"),
        ("head_amp", "published", "the same, mixed precision"),
    ):
        seconds = [values[f"{key}_s"], values[f"{key}_{other}_s"]]
        peaks = [values[f"{key}_peak_mb"], values[f"{key}_{other}_peak_mb"]]
        ratio = values.get(f"{key}_over_{other}", seconds[0] / seconds[1])
        times = (f"{1e3 * each:.0f}" for each in seconds)
        memory = (f"{each:,.0f}" for each in peaks)
        yield title, *times, f"{ratio:.2f}", *memory, f"{peaks[0] / peaks[1]:.2f}"


def _evaluation(f: dict[str, Any]) -> Rows:
    yield "", "frames a second", "forward, ms", "waiting for scores, ms", "metrics after the last, ms", "reading, ms"
    values = _part(f, "throughput")
    for batch in (1, 4):
        alone = values[f"forward of inputs on cuda, float32, batch {batch}: frames/s"]
        yield f"network alone, batch {batch}", f"{alone:.1f}", f"{1e3 / alone:.0f}", "", "", ""
        for source, title in (("memory", "images in memory"), ("png", "PNG files")):
            name = f"evaluation from {source}, float32, batch {batch}"
            stages = values[f"{name}: seconds per frame"]["main"]
            each = (f"{1e3 * stages[stage]:.0f}" for stage in ("forward", "scores", "metrics", "reading"))
            yield f"evaluation, {title}, batch {batch}", f"{values[f'{name}: frames/s']:.1f}", *each


TABLES = {table.__name__[1:]: table for table in (_cpu, _same, _resume, _steps, _evaluation)}


def main() -> None:
    """Write the page."""
    command_parser(__doc__).parse_args()
    PAGE.write_text(render(PAGE.read_text(), read(), TABLES))


if __name__ == "__main__":
    run(main)
