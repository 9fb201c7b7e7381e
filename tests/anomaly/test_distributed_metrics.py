"""Metrics brought together from several processes are those of one process, and no process waits for one at fault."""

import math
import pickle
import tracemalloc
import warnings
from dataclasses import asdict

import numpy as np
import pytest
import torch.distributed as dist

from anomaly.errors import InputError
from anomaly.metrics import ComponentMetrics, OpenIoUMetrics, PixelMetrics
from anomaly.metrics.calibration import Threshold
from anomaly.metrics.functional.components import Track
from anomaly.metrics.ledger import Ledger
from tests.processes import leave, start

FRAMES, CLASSES = 7, 3
SMALL = Track("small", 5, 3)
CHOSEN = Threshold(0.5, "best_f1", float("nan"), "msp", "validation", frozenset({"one", "two"}))
LARGE, LARGE_FRAMES = (200, 300), 12
BUDGET = 2 * 4 * math.prod(LARGE)  # half of it holds a frame


def frame(index, size=None, anomalies=True):
    """A frame in blocks of four pixels, of a size of its own unless one is given, with the maps of a network."""
    random = np.random.default_rng(index)
    size = size or (20 + 4 * index, 32 - 4 * (index % 3))
    label = np.kron(random.choice([0, 0, 0, 1 if anomalies else 0, 255], [n // 4 for n in size]), np.ones((4, 4)))
    score = random.normal(0.5 * label * (label == 1), 0.3).astype(np.float64 if index == 2 else np.float32)
    predicted, truth = random.integers(0, CLASSES, (2, *size))
    return (
        f"frame{index}",
        score,
        label.astype(np.uint8),
        predicted,
        np.where(random.random(size) < 0.6, predicted, truth),
    )


def add(metrics, frames):
    for frame_id, score, label, predicted, classes in frames:
        if isinstance(metrics, OpenIoUMetrics):
            metrics.update(frame_id, predicted, score, label, classes)
        else:
            metrics.update(frame_id, score, label)
    return metrics


MAKERS = {
    "exact": lambda **changes: PixelMetrics("msp", **{"dataset": "road", "threshold": 0.5, **changes}),
    "on disk": lambda: MAKERS["exact"](memory_budget=1),
    "binned": lambda: MAKERS["exact"](mode="binned"),
    "components": lambda track=SMALL, at=0.5: ComponentMetrics(track, at, name="msp", dataset="road"),
    "components at best F1": lambda track=SMALL: ComponentMetrics(track, name="msp", dataset="road"),
    "open-world IoU": lambda at=0.5: OpenIoUMetrics(("a", "b", "c"), at, name="msp", dataset="road"),
    "open-world IoU at a chosen threshold": lambda: MAKERS["open-world IoU"](CHOSEN),
}


def filled(kind, indices, **changes):
    return add(MAKERS[kind](**changes), map(frame, indices))


def computed(metrics):
    """Everything that metrics give, as dicts of plain values and arrays."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of frames without a pixel of a kind, and of no frames
        return asdict(metrics.compute())


def parts(rank, world):
    """The frames of a process: as mmengine's sampler pads them, fewer than processes, and all on the first one."""
    return {
        "padded": [index % FRAMES for index in range(rank, world * -(-FRAMES // world), world)],
        "none on the first": [rank - 1] if rank else [],
        "none on the others": [] if rank else list(range(FRAMES)),
    }


def matched_apart(frames):
    """Component metrics of which each process matches its own maps, at the threshold for the pixels of all."""
    components, pixels = add(MAKERS["components at best F1"](), frames), add(MAKERS["exact"](), frames)
    pixels.gather()
    threshold = [computed(pixels)["values"]["best_f1_threshold"]]
    dist.broadcast_object_list(threshold)
    components = components.matched(threshold[0])
    components.gather()
    return computed(components)


REFUSED = {
    "another level": (lambda: filled("exact", [0]), lambda: filled("exact", [1], tpr=0.5)),
    "another frame": (lambda: filled("exact", [0]), lambda: add(MAKERS["exact"](), [("frame0", *frame(1)[1:])])),
    "another threshold": (lambda: filled("components", [0]), lambda: filled("components", [1], at=0.25)),
    "maps": (lambda: filled("components", [0]), lambda: filled("components at best F1", [1])),
    "another track": (
        lambda: filled("components at best F1", [0]),
        lambda: filled("components at best F1", [1], track=Track("small", 5, 4)),
    ),
    "a number": (lambda: filled("open-world IoU", [0], at=CHOSEN), lambda: filled("open-world IoU", [1])),
}


def refused(case, rank, world, faulty):
    """What a process says, of which one has other metrics than the rest."""
    metrics = REFUSED[case][rank == faulty]()
    try:
        metrics.gather()
    except InputError as error:
        return str(error)
    return "nothing"


def measured(metrics):
    """Gather metrics, and measure the most bytes that this took on the way."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    metrics.gather()
    return tracemalloc.get_traced_memory()[1] - before


def large(metrics, indices):
    """Add large frames of float32."""
    return add(metrics, (frame(FRAMES + index, LARGE) for index in indices))


def _process(rank, world, folder):
    """Gather metrics of every kind, and at last such as cannot be merged; write what each gave, or the refusal."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    found = {}
    own = dist.new_group(backend="gloo")
    for part, indices in parts(rank, world).items():
        for kind in MAKERS:
            metrics = filled(kind, indices)
            alone = computed(metrics)
            metrics.gather(own if part == "padded" else None)
            found[part, kind] = computed(metrics)
            if rank:
                np.testing.assert_equal(found[part, kind], alone)  # the others keep theirs
        found[part, "matched"] = matched_apart([frame(index) for index in indices])
    found["undefined"] = matched_apart([frame(index, anomalies=False) for index in parts(rank, world)["padded"]])
    later = dist.new_group(list(range(1, world)), backend="gloo")
    metrics = filled("exact", [rank])
    metrics.gather(later)
    found["later"] = computed(metrics)
    for case in REFUSED:
        for faulty in range(1, world):
            found["refused", case, faulty] = refused(case, rank, world, faulty)

    own_large = range(rank, LARGE_FRAMES, world)
    tracemalloc.start()
    ledger = Ledger(BUDGET)
    metrics = large(PixelMetrics(memory_budget=ledger), own_large)
    found["bytes of scores"] = measured(metrics)
    found["ledger"] = (ledger.held, ledger.limit)
    found["large"] = computed(metrics)
    maps = large(ComponentMetrics(SMALL), own_large)
    found["bytes of maps"] = measured(maps)
    tracemalloc.stop()
    dist.barrier()
    with open(f"{folder}/{rank}.pkl", "wb") as file:
        pickle.dump(found, file)
    leave()


@pytest.mark.parametrize("kind", MAKERS)
def test_one_process_is_left_alone(kind):
    metrics = filled(kind, range(FRAMES))
    expected = computed(metrics)
    metrics.gather()
    np.testing.assert_equal(computed(metrics), expected)


@pytest.fixture(scope="module", params=[2, 3])
def processes(request, tmp_path_factory):
    """What each of two or three processes found."""
    folder = tmp_path_factory.mktemp("processes")
    start(_process, request.param, folder, count=request.param)
    return [pickle.loads((folder / f"{rank}.pkl").read_bytes()) for rank in range(request.param)]


@pytest.mark.slow
@pytest.mark.parametrize("part", parts(0, 2))
@pytest.mark.parametrize("kind", [*MAKERS, "matched"])
def test_many_processes_equal_one(processes, part, kind):
    world = len(processes)
    everything = [index for rank in range(world) for index in parts(rank, world)[part]]
    expected = computed(filled("components at best F1" if kind == "matched" else kind, sorted({*everything})))
    assert expected["frames"] == (world - 1 if part == "none on the first" else FRAMES)
    np.testing.assert_equal(processes[0][part, kind], expected)


@pytest.mark.slow
def test_an_undefined_threshold_is_that_of_one_process(processes):
    frames = [frame(index, anomalies=False) for index in range(FRAMES)]
    expected = computed(add(MAKERS["components at best F1"](), frames))
    assert math.isnan(expected["threshold"])
    np.testing.assert_equal(processes[0]["undefined"], expected)


@pytest.mark.slow
def test_a_group_of_some_processes_leaves_out_the_others(processes):
    world = len(processes)
    for rank, indices in enumerate([[0], [*range(1, world)], [2]][:world]):
        np.testing.assert_equal(processes[rank]["later"], computed(filled("exact", indices)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("another level", "cannot merge pixel metrics with tpr 0.5"),
        ("another frame", "cannot merge: frame 'frame0' is in both parts, with another label"),
        ("another threshold", "cannot merge component metrics with threshold 0.25"),
        ("maps", "cannot merge component metrics with threshold 'best_f1'"),
        (
            "another track",
            "cannot merge component metrics with track Track(name='small', min_predicted=5, min_truth=4)",
        ),
        ("a number", "cannot merge open-world IoU with threshold 0.5 into"),
    ],
)
def test_what_cannot_be_merged_is_refused_on_every_process(processes, case, message):
    for faulty in range(1, len(processes)):
        for found in processes:
            assert message in found["refused", case, faulty]


@pytest.mark.slow
def test_gathering_keeps_within_the_memory_budget(processes):
    first = processes[0]
    held, limit = first["ledger"]
    assert held <= limit / 2
    whole = large(PixelMetrics(), range(LARGE_FRAMES))
    np.testing.assert_equal(first["large"], computed(whole))
    one = 4 * math.prod(LARGE)
    arriving = one * LARGE_FRAMES * (1 - 1 / len(processes))
    for most in (first["bytes of scores"], first["bytes of maps"]):
        assert most < 3 * one < arriving
