"""Write the tables of docs/scaling.md from results/benchmark_scaling.json; the text around them stays."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from anomaly.cli.parser import command_parser
from anomaly.cli.process import run

PAGE, VALUES = (Path(__file__).parents[2] / name for name in ("docs/scaling.md", "results/benchmark_scaling.json"))
Rows = Iterator[tuple[str, ...]]


def _assumed(f: dict[str, Any]) -> Rows:
    (flops, bandwidth, launch), (link, latency) = f["assumed_gpu"].values(), f["assumed_link"].values()
    yield "assumption", "arithmetic", "memory bandwidth", "kernel launch", "interconnect", "collective latency"
    speeds = f"{flops / 1e12:g} TFLOP/s", f"{bandwidth / 1e9:g} GB/s", f"{launch * 1e6:g} µs"
    yield "per GPU", *speeds, f"{link / 1e9:g} GB/s", f"{latency * 1e6:g} µs"


def _state(f: dict[str, Any]) -> Rows:
    yield "dataset", "components", "mixture, MB", "memory, MB", "checkpoint with both, MB", "published queue, MB"
    for name, s in f["state"].items():
        sizes = (s[key] / 1e6 for key in ("memory_bytes", "file_bytes", "published_queue_bytes"))
        yield name, f"{s['components']:,}", f"{s['mixture_bytes'] / 1e6:.2f}", *(f"{size:,.0f}" for size in sizes)


def _memory(f: dict[str, Any]) -> Rows:
    state, kept = f["state"]["ADE20K"], (f["classifier"]["kept_bytes"], f["published"]["kept_bytes"])
    yield "memory per GPU for the mixture", "ours, MB", "published, MB"
    yield "feature memory", f"{state['memory_bytes'] / 1e6:.0f}", f"{state['published_queue_bytes'] / 1e6:,.0f}"
    yield "activations kept for the backward pass", *(f"{size / 1e6:,.0f}" for size in kept)


def _messages(f: dict[str, Any]) -> Rows:
    yield "exchanged data", "collectives", "received per process, MB", "estimated, ms"
    for title, key in (("mixture, ours", "messages"), ("mixture, published", "published"), ("gradients", "gradients")):
        sizes = f"{f[key]['received_bytes'] / 1e6:.1f}", f"{f[key]['message_seconds'] * 1e3:.1f}"
        yield title, str(f[key]["calls"]), *sizes


def _step(f: dict[str, Any]) -> Rows:
    yield "part of a step, one GPU", "operations", "GFLOP", "memory traffic, GB", "estimated, ms"
    for title, c in (("network, forward and backward", f["network"]), ("mixture classifier", f["classifier"])):
        gflop, gb, ms = c["flops"] / 1e9, c["bytes"] / 1e9, c["seconds"] * 1e3
        yield title, f"{c['operations']:,}", f"{gflop:,.0f}", f"{gb:.1f}", f"{ms:.1f}"
    yield "whole step with communication, softmax", "", "", "", f"{f['estimated_twin_seconds'] * 1e3:.0f}"
    yield "whole step with communication, GMMSeg", "", "", "", f"{f['estimated_seconds'] * 1e3:.0f}"
    yield "ratio to softmax", "", "", "", f"{f['estimated_ratio']:.2f}"


def _measured(f: dict[str, Any]) -> Rows:
    yield "classifier on this CPU", *(parts := f["classifier"]["cpu_seconds"])
    yield "ns per pixel", *(f"{s / f['classifier']['pixels'] * 1e9:,.0f}" for s in parts.values())


TABLES = {table.__name__[1:]: table for table in (_assumed, _state, _memory, _messages, _step, _measured)}


def render(page: str, values: dict[str, Any], tables: Mapping[str, Callable[[dict[str, Any]], Rows]] = TABLES) -> str:
    """Insert tables between the page's marks, ``<!-- NAME -->`` and ``<!-- end -->``."""
    for name, table in tables.items():
        head, *rows = ("| " + " | ".join(cells) + " |" for cells in table(values))
        text = "\n".join((f"<!-- {name} -->", head, "| --- |" + " ---: |" * (head.count("|") - 2), *rows))
        page = re.sub(rf"<!-- {name} -->.*?(?=\n<!-- end)", text, page, flags=re.S)
    return page


def main() -> None:
    """Write the page."""
    command_parser(__doc__).parse_args()
    PAGE.write_text(render(PAGE.read_text(), json.loads(VALUES.read_text())))


if __name__ == "__main__":
    run(main)
