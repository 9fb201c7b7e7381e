"""One limit of memory for all exact scores of a run: what is held, what goes to disk, the same values either way."""

import copy
import gc
import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest

from anomaly.datasets.catalog import load_dataset
from anomaly.errors import InputError
from anomaly.evaluation.config import Calibration, MetricConfig
from anomaly.evaluation.evaluator import calibrate, evaluate
from anomaly.metrics import PixelMetrics, exact, spill
from anomaly.metrics.ledger import Ledger
from anomaly.metrics.runs import MemoryRun
from anomaly.scores.registry import get_scores
from tests.anomaly import set_trees
from tests.anomaly.test_metric_config import ElevenClasses

SIZE, FRAMES, SETS = (24, 32), 5, 6
SCORES = get_scores(["msp", "max_logit", "entropy", "energy"])


class Watched(Ledger):
    """Remembers the most that was held."""

    most = 0

    def hold(self, *runs):
        held = super().hold(*runs)
        self.most = max(self.most, self.held)
        return held


@pytest.fixture
def files(monkeypatch):
    """Every temporary file that is made."""
    made = []

    class Counted(spill.SpillFile):
        def __init__(self, folder=None):
            super().__init__(folder)
            made.append(self)

    monkeypatch.setattr(exact, "SpillFile", Counted)
    return made


@pytest.fixture
def datasets(tmp_path):
    found = []
    for index in range(SETS):
        for seed in range(FRAMES):
            random, folder = np.random.default_rng([index, seed]), tmp_path / str(index) / "camvid_ood"
            label = np.kron(random.integers(0, 13, (4, 4)), np.ones((6, 8))).astype(np.uint8)
            label[:6, :8], label[6:12, :8] = 12, 0
            set_trees.write(folder / "images" / f"f{seed}.png", set_trees.photo(10 * index + seed, *SIZE))
            set_trees.write(folder / "labels" / f"f{seed}.png", label)
        found.append(replace(load_dataset("camvid_ood", tmp_path / str(index)), name=f"set{index}"))
    return found


def results(datasets, budget, **changes):
    return evaluate(
        ElevenClasses(datasets[0].classes), datasets, SCORES, config=MetricConfig(memory_budget=budget, **changes)
    )


def bytes_of(datasets):
    """Of the float32 scores of one set under all scores, the largest set's."""
    return max(sum(4 * int((frame.label != 255).sum()) for frame in dataset) for dataset in datasets) * len(SCORES)


def test_six_sets_and_four_scores_within_the_budget_stay_in_memory(datasets, files):
    """The sets come one after another, each after four frames of all: equal parts of the budget sent all to disk."""
    least = 2 * (bytes_of(datasets) + (SETS - 1) * 4 * bytes_of(datasets) // FRAMES)
    ledger = Watched(least)
    whole = results(datasets, ledger)
    assert not files
    assert 0 < ledger.most <= least / 2
    assert ledger.held == 0  # all metrics are gone
    divided = least // (SETS * len(SCORES))
    assert divided / 2 < bytes_of(datasets) / len(SCORES)  # so that every metric would have been too large for its part
    tight = Watched(8 * 4 * SIZE[0] * SIZE[1])
    spilled = results(datasets, tight)
    assert len(files) > SETS
    assert 0 < tight.most <= tight.limit / 2
    nothing = results(datasets, 1)
    assert spilled == whole == nothing


def test_a_budget_is_shared_whether_it_is_a_number_or_a_ledger(datasets, files):
    """Six datasets, of which one alone fits half the budget: all metrics of one configuration share it."""
    results(datasets[:1], 2 * bytes_of(datasets))
    assert not files
    results(datasets, 2 * bytes_of(datasets) // 2)
    assert files


def test_thresholds_share_it_too_and_give_it_back(datasets, files):
    model = ElevenClasses(datasets[0].classes)
    ledger = Watched(2 * bytes_of(datasets))
    config = MetricConfig(memory_budget=ledger)
    found = calibrate(model, Calibration(datasets[0]), SCORES, config=config)
    assert not files
    assert 0 < ledger.most <= ledger.limit / 2
    assert ledger.held == 0
    assert calibrate(model, Calibration(datasets[0]), SCORES, config=replace(config, memory_budget=1)) == found
    assert len(files) == len(SCORES)


def frame(seed, size=(40, 50)):
    random = np.random.default_rng(seed)
    label = random.choice([0, 1], size).astype(np.uint8)
    return random.normal(label, 1).astype(np.float32), label


def filled(ledger, seeds, name="score"):
    metrics = PixelMetrics(name, memory_budget=ledger)
    for seed in seeds:
        metrics.update(str(seed), *frame(seed))
    return metrics


BYTES = 4 * 40 * 50


class TestHeld:
    def test_every_frame_counts_once_and_is_given_back(self):
        ledger = Ledger(100 * BYTES)
        one, other = filled(ledger, range(3)), filled(ledger, range(4))
        assert ledger.held == 7 * BYTES
        one.update("1", *frame(1))  # again
        assert ledger.held == 7 * BYTES
        one.compute()
        one.reset()
        assert ledger.held == 4 * BYTES
        del other
        assert ledger.held == 0

    def test_merged_frames_are_held_together(self):
        ledger = Ledger(100 * BYTES)
        one, other = filled(ledger, range(3)), filled(ledger, range(2, 5))
        one.merge(other)
        assert ledger.held == 6 * BYTES  # frame 2 of both
        del other
        assert ledger.held == 5 * BYTES
        expected = filled(10**9, range(5)).compute()
        assert one.compute() == expected

    def test_frames_of_another_ledger_are_taken_into_account(self, files):
        mine, theirs = Ledger(8 * BYTES), Ledger(100 * BYTES)
        one, other = filled(mine, range(3)), filled(theirs, range(2, 4))
        one.merge(other)
        assert (mine.held, theirs.held) == (4 * BYTES, 2 * BYTES)
        assert not files
        one.merge(filled(theirs, [9]))
        assert len(files) == 1
        assert (mine.held, theirs.held) == (BYTES, 2 * BYTES)  # frame 3 stays in memory, for the other
        assert other.compute() == filled(10**9, range(2, 4)).compute()
        assert one.compute() == filled(10**9, [0, 1, 2, 3, 9]).compute()

    def test_who_has_no_room_goes_to_disk_and_leaves_the_others_alone(self, files):
        ledger = Watched(2 * 5 * BYTES)
        first, second = filled(ledger, range(4)), filled(ledger, range(3))
        assert len(files) == 1
        assert (ledger.held, ledger.most) == (
            5 * BYTES,
            5 * BYTES,
        )  # the second's third frame came after it had spilled
        assert first.compute() == filled(10**9, range(4)).compute()
        assert second.compute() == filled(10**9, range(3)).compute()

    def test_a_full_disk_holds_nothing_of_the_frame(self, monkeypatch):
        ledger = Ledger(2 * 2 * BYTES)
        metrics = filled(ledger, range(2))

        def fail(self, data):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(spill.SpillFile, "_write", fail)
            with pytest.raises(InputError, match="raise the memory budget"):
                metrics.update("2", *frame(2))
        assert ledger.held == 2 * BYTES
        metrics.update("2", *frame(2))
        assert ledger.held == 0
        assert metrics.compute() == filled(10**9, range(3)).compute()

    def test_bins_hold_none_of_it(self):
        ledger = Ledger(1)
        metrics = PixelMetrics(mode="binned", memory_budget=ledger)
        metrics.update("a", *frame(0))
        assert ledger.held == 0

    def test_states_are_read_into_it(self, tmp_path):
        ledger = Ledger(100 * BYTES)
        filled(10**9, range(3)).save(tmp_path / "state.npz")
        metrics = PixelMetrics.load(tmp_path / "state.npz", memory_budget=ledger)
        assert ledger.held == 3 * BYTES
        assert metrics.compute() == filled(10**9, range(3)).compute()

    @pytest.mark.parametrize("clone", [copy.deepcopy, lambda metrics: pickle.loads(pickle.dumps(metrics))])
    def test_copies_have_a_ledger_of_their_own(self, clone):
        ledger = Ledger(8 * BYTES)
        metrics = filled(ledger, range(3))
        again = clone(metrics)
        assert ledger.held == 3 * BYTES
        theirs = again.memory["memory_budget"]
        assert (theirs.held, theirs.limit) == (3 * BYTES, 8 * BYTES)
        assert theirs is not ledger
        again.update("7", *frame(7))
        assert theirs.held == 4 * BYTES
        assert again.compute() == filled(10**9, [0, 1, 2, 7]).compute()
        del metrics
        assert ledger.held == 0

    def test_what_only_the_collector_finds_is_given_back(self):
        ledger = Ledger(10**6)
        run = MemoryRun(np.zeros(10, np.float32))
        run.itself = run
        assert ledger.hold(run)
        del run
        gc.collect()
        assert ledger.held == 0

    def test_all_or_none_and_nothing_twice(self):
        ledger = Ledger(100)
        one, other, large = (MemoryRun(np.zeros(size, np.float32)) for size in (5, 6, 20))
        assert ledger.hold(one)
        assert ledger.hold(one, other)
        assert ledger.held == 44
        assert not ledger.hold(other, large)
        assert ledger.held == 44
        assert ledger.hold()

    def test_threads_lose_no_byte(self):
        ledger = Ledger(10**9)

        def work():
            for _ in range(2000):
                run = MemoryRun(np.zeros(3, np.float32))
                ledger.hold(run)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert ledger.held == 0


@pytest.mark.parametrize("limit", [0, -1, 0.5, None, "2e9", True, float("inf")])
def test_a_limit_is_a_number_of_bytes(limit):
    for make in (
        Ledger,
        lambda limit: PixelMetrics(memory_budget=limit),
        lambda limit: MetricConfig(memory_budget=limit),
    ):
        with pytest.raises(InputError, match="memory_budget: expected a number of bytes above 0"):
            make(limit)
