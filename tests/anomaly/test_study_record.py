"""The record of a study holds what its runs hold, and differences and histograms are those of their pixels."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

import study_record
from anomaly.errors import InputError
from anomaly.metrics.pixel import PixelMetrics
from anomaly.results.records import read_results, state_name
from study_record import NETWORKS, gather
from tests.report_runs import SET, write_run, write_split

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A study of two seeds, and one change."""
    folder = tmp_path_factory.mktemp("study")
    dataset = write_split(folder / "data")
    for seed in SEEDS:
        for place, name in enumerate([*NETWORKS, "softmax-states", "gmmseg-states"]):
            generative = name not in ("softmax", "softmax-states")
            write_run(
                folder / f"study/seed{seed}" / name,
                dataset,
                seed=100 * seed + (place if generative else 50),
                generative=generative,
                name=name,
                frames=0,
                scores=("gmm_nll",) if generative else ("msp", "energy"),
                save_states=name.endswith(("-states", "-frozen")),
            )
        (folder / f"study/seed{seed}/softmax-test.json").write_text(json.dumps({"mIoU": 40 + seed}))
    shutil.copytree(folder / "study/seed0/gmmseg", folder / "study/ablation/00_none")
    (folder / "study/ablation/00_none/change.txt").write_text("none\n")
    return folder / "study"


@pytest.fixture(scope="module")
def record(work):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("bootstrap", "paired_bootstrap"):  # fewer draws: what is kept of them is tested here
            patch.setattr(study_record, name, partial(getattr(study_record, name), replicates=100))
        return gather(work)


def pixels(work, seed, network, score):
    """All scores and labels of a run, in no order."""
    frames = [
        frame for _, frame in PixelMetrics.load(work / f"seed{seed}/{network}/states" / state_name(SET, score)).frames()
    ]
    known, anomaly = (np.concatenate([getattr(frame, kind) for frame in frames]) for kind in ("known", "anomaly"))
    return np.concatenate([known, anomaly]), np.repeat([0, 1], [len(known), len(anomaly)])


def ap(work, seed, network, score):
    scores, labels = pixels(work, seed, network, score)
    return average_precision_score(labels, scores)


@pytest.mark.slow
def test_values_are_those_of_the_runs(work, record):
    assert record["sets"] == [SET]
    for name in NETWORKS:
        for seed, found in zip(SEEDS, record["networks"][name], strict=True):
            stored = read_results(work / f"seed{seed}/{name}/results.json").datasets[0].scores
            assert found["seed"] == seed
            kept = [s for s, f in found["sets"][SET].items() if "intervals" in f]
            assert kept == (list(stored) if name != "softmax-posthoc" else [])
            for score in kept:
                low, high = found["sets"][SET][score]["intervals"]["ap"]
                assert low < found["sets"][SET][score]["ap"] < high
            assert {s: f["ap"] for s, f in found["sets"][SET].items()} == {s: f.values["ap"] for s, f in stored.items()}
            assert found["miou"]["val"] == 0.5
            assert found["miou"].get("test") == ((40 + seed) / 100 if name.startswith("softmax") else None)
    assert record["ablation"][0]["change"] == "none"
    own = record["networks"]["gmmseg"][0]["sets"][SET]["gmm_nll"]
    assert record["ablation"][0]["sets"][SET] == {figure: own[figure] for figure in ("auroc", "ap", "fpr95")}


@pytest.mark.slow
def test_differences_are_against_the_best_of_the_twin(work, record):
    assert len(record["paired"]) >= 3 * len(SEEDS)
    for one in record["paired"]:
        method, minus = one["method"].split()[0], one["minus"].split()
        states = {"gmmseg": "gmmseg-states", "softmax": "softmax-states"}
        first = ap(work, one["seed"], states.get(method, method), "gmm_nll")
        second = ap(work, one["seed"], states.get(minus[0], minus[0]), minus[1])
        assert one["ap"]["difference"] == pytest.approx(first - second, abs=1e-4)
        assert one["ap"]["low"] <= one["ap"]["difference"] <= one["ap"]["high"]
    for seed in SEEDS:
        best = max(("msp", "energy"), key=lambda score: ap(work, seed, "softmax-states", score))
        told = {one["minus"] for one in record["paired"] if one["seed"] == seed}
        assert {f"softmax {best}", "softmax-frozen gmm_nll"} <= told


def test_histograms_are_numpys(work, record):
    for one in record["histograms"]:
        network = {"gmmseg": "gmmseg-states"}.get(one["network"], one["network"])
        scores, labels = pixels(work, 0, network, "gmm_nll")
        for kind, label in (("known", 0), ("anomalous", 1)):
            counts, _ = np.histogram(scores[labels == label], one["edges"])
            # edges are stored with three decimals
            assert one[kind] == pytest.approx(counts / counts.sum(), abs=2e-3)
            assert sum(one[kind]) == pytest.approx(1, abs=1e-3)


def test_a_folder_without_seeds_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected folders seed0, seed1"):
        gather(tmp_path)
