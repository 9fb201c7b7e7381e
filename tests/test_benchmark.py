"""What the benchmarks count is what is there; docs/scaling.md and docs/speed.md show the committed values."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _tools(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools/dev"))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        del sys.modules[name]  # another folder may hold modules of this name


def _counter(**limits):
    from benchmarks._counting import OperationCounter

    return OperationCounter(**{"flops": 1e30, "bandwidth": 1e30, "launch": 0.0, **limits})


def test_arithmetic_and_bytes_of_a_product_and_its_gradient():
    a, b = torch.randn(3, 4, requires_grad=True), torch.randn(4, 5)
    with _counter() as counter:
        a.mm(b)
    assert counter.flops == 2 * 3 * 4 * 5
    assert counter.bytes == 4 * (3 * 4 + 4 * 5 + 3 * 5)
    assert counter.operations == 1
    with _counter(flops=10.0) as counter:
        a.mm(b).backward(torch.ones(3, 5))
    assert counter.flops == 2 * (2 * 3 * 4 * 5)  # forward, and the gradient of one factor
    assert counter.seconds == pytest.approx(counter.flops / 10, rel=1e-6)
    with _counter(launch=2.0) as counter:
        torch.zeros(3, device="meta").view(1, 3).add_(1)  # the view is no operation
    assert counter.seconds == 2 * counter.operations == 4


def test_arithmetic_of_products_in_place_and_of_grouped_convolutions():
    with _counter() as counter:
        torch.zeros(3, 5).addmm_(torch.ones(3, 4), torch.ones(4, 5))
    assert counter.flops == 2 * 3 * 4 * 5
    images = torch.randn(2, 6, 8, 8, requires_grad=True)
    depthwise = torch.nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
    with _counter() as counter:
        depthwise(images).sum().backward()
    once = 2 * (2 * 6 * 8 * 8) * 9
    assert counter.flops == 3 * once  # forward, gradient of the images, gradient of the weights


def _exchange(rank):
    dist.all_reduce(torch.ones(10))
    dist.all_gather([torch.zeros(3) for _ in range(2)], torch.ones(3))


@pytest.mark.slow
def test_messages_of_two_processes(tmp_path):
    from benchmarks._messages import count_messages

    counts = count_messages(2, tmp_path, _exchange)
    assert counts == {"processes": 2, "allreduce_calls": 1, "allgather_calls": 1, "received_bytes": 40 + 12}


def test_seconds_by_function_finds_where_time_goes(tmp_path):
    from benchmarks._measure import seconds_by_function

    found = seconds_by_function(partial(_sleep, 0.05), "test_benchmark")
    assert list(found) == ["test_benchmark._sleep"]
    assert found["test_benchmark._sleep"] >= 0.05


def _sleep(seconds):
    import time

    time.sleep(seconds)


def test_published_classifier_keeps_every_difference():
    from tests.oracles import PublishedClassifier

    figures = json.loads((ROOT / "results" / "benchmark_scaling.json").read_text())
    classes, components, dim, side = 3, 4, 64, 10
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        PublishedClassifier(classes, components, dim, 8)(torch.randn(1, dim, side, side, requires_grad=True))
    largest = max(tensor.nbytes for tensor in kept)
    scale = (
        figures["classifier"]["pixels"] / side**2 * figures["state"]["ADE20K"]["components"] / (classes * components)
    )
    assert figures["published"]["kept_bytes"] == largest * scale


def test_scaling_page_shows_the_committed_figures():
    from scaling_page import PAGE, TABLES, VALUES, render

    page, figures = PAGE.read_text(), json.loads(VALUES.read_text())
    assert all(f"<!-- {name} -->" in page for name in TABLES)
    assert page == render(page, figures), "run tools/dev/scaling_page.py"
    assert f"| {figures['estimated_ratio']:.2f} |" in page


def test_speed_page_shows_the_committed_values():
    from scaling_page import render
    from speed_page import PAGE, TABLES, read

    page, values = PAGE.read_text(), read()
    assert all(f"<!-- {name} -->" in page for name in TABLES)
    assert page == render(page, values, TABLES), "run tools/dev/speed_page.py"
    assert f"{values['benchmark_evaluate']['ratio']:.3f}" in page
    assert values["gpu_check"]["machine"]["gpu"] in page


def test_committed_scaling_figures_are_those_of_the_code():
    from gmmseg.classifier import GMMClassifier
    from gmmseg.settings import MixtureSettings

    figures = json.loads((ROOT / "results" / "benchmark_scaling.json").read_text())
    shapes = {"Cityscapes": (19, 5), "ADE20K": (150, 8), "COCO-Stuff10k": (171, 5)}
    assert set(figures["state"]) == set(shapes)
    for name, (classes, components) in shapes.items():
        state = figures["state"][name]
        with torch.device("meta"):
            memory = GMMClassifier(classes, MixtureSettings(num_components=components)).em.memory
        assert state["memory_bytes"] == sum(buffer.nbytes for buffer in memory.buffers())
        assert state["published_queue_bytes"] == classes * components * 64 * 32_000 * 4
    assert figures["state"]["COCO-Stuff10k"]["file_bytes"] < 1e9
