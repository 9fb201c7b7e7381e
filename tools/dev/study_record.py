"""The record of a study, collected from the results of its runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.errors import InputError
from anomaly.metrics.bootstrap import FrameTable, bootstrap, paired_bootstrap
from anomaly.metrics.pixel import PixelMetrics
from anomaly.results.records import DatasetResult, read_results, state_name
from anomaly.scores.registry import current_name
from study_tables import METRICS

NETWORKS = ("softmax", "softmax-posthoc", "softmax-frozen", "gmmseg", "gmmseg-frozen")
STATES = "-states"
LIKELIHOODS = (f"gmmseg{STATES}", "gmmseg-frozen")
BINS = 60


def gather(work: Path) -> dict[str, Any]:
    """Collect the results below a folder.

    ``seedK/NETWORK/results.json`` are evaluations of ``NETWORKS``. ``seedK/softmax-states``, ``seedK/gmmseg-states``
    and ``seedK/gmmseg-frozen`` (optionally ``seedK/softmax-frozen``) hold results with all scores, for confidence
    intervals and paired tests. ``seedK/NETWORK-test.json`` has mIoU on the test images. ``ablation/NAME/results.json``
    is the result of one change, which ``change.txt`` beside it describes.

    Raises:
        InputError: There is no seed, or a file is missing or damaged.
    """
    seeds = sorted(work.glob("seed*"))
    if not seeds:
        raise InputError(f"{work}: expected folders seed0, seed1 and so on, found none; name the folder of the study")
    networks = {name: [_seed(folder, name) for folder in seeds] for name in NETWORKS}
    sets = list(networks["softmax"][0]["sets"])
    return {
        "sets": sets,
        "networks": networks,
        "paired": [one for name in sets for folder in seeds for one in _paired(folder, name)],
        "histograms": [_histogram(seeds[0], name, network) for name in sets for network in LIKELIHOODS],
        "ablation": [_ablation(path.parent) for path in sorted(work.glob("ablation/*/results.json"))],
        "provenance": without_folders(read_results(seeds[0] / "gmmseg/results.json").provenance),
    }


def in_current_names(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the current names of the scores."""

    def renamed(scores: dict[str, Any]) -> dict[str, Any]:
        return {current_name(score): values for score, values in scores.items()}

    networks = {
        network: [{**seed, "sets": {name: renamed(scores) for name, scores in seed["sets"].items()}} for seed in seeds]
        for network, seeds in record["networks"].items()
    }
    return {**record, "networks": networks}


def without_folders(record: Any) -> Any:
    """The record with only the last part of every absolute path: the rest depends on the machine."""
    if isinstance(record, dict):
        return {name: without_folders(value) for name, value in record.items()}
    return re.sub(r"(?<!\S)/\S*/(?=\S)", "", record) if isinstance(record, str) else record


def _values(entry: DatasetResult) -> dict[str, Any]:
    for name, score in entry.scores.items():
        if missing := [metric for metric in METRICS if metric not in score.values]:
            raise InputError(
                f"{entry.dataset}, {name}: expected {', '.join(METRICS)}, found no {missing[0]}; use the usual levels"
            )
    return {name: {metric: score.values[metric] for metric in METRICS} for name, score in entry.scores.items()}


def _seed(folder: Path, network: str) -> dict[str, Any]:
    base = network.partition("-")[0]
    closed = read_results(folder / base / "results.json").closed_set
    miou = {} if closed is None else {"val": closed.miou}
    if (test := folder / f"{base}-test.json").is_file():
        miou["test"] = json.loads(test.read_text())["mIoU"] / 100
    sets = {entry.dataset: _values(entry) for entry in read_results(folder / network / "results.json").datasets}
    for name, scores in sets.items():
        for score, values in scores.items():
            kept = [folder / f"{network}{end}/states" / state_name(name, score) for end in ("", STATES)]
            if path := next((path for path in kept if path.is_file()), None):
                found = bootstrap(FrameTable.of(PixelMetrics.load(path)))
                values["intervals"] = {metric: [found[metric].low, found[metric].high] for metric in METRICS}
    return {"seed": int(folder.name.removeprefix("seed")), "miou": miou, "sets": sets}


def _histogram(folder: Path, name: str, network: str) -> dict[str, Any]:
    """Distribution of ``gmm_nll`` for known and anomalous pixels, from the 0.1st to the 99.9th percentile of both."""
    metrics = PixelMetrics.load(folder / network / "states" / state_name(name, "gmm_nll"))
    thinned = np.concatenate([part[::50] for _, frame in metrics.frames() for part in (frame.known, frame.anomaly)])
    low, high = np.percentile(thinned, (0.1, 99.9)).tolist()
    edges = np.linspace(low, high, BINS + 1)
    shares = {}
    for kind, above in zip(("anomalous", "known"), metrics.counts_at(edges.astype(np.float32)), strict=True):
        shares[kind] = [round(share, 6) for share in (-np.diff(above) / max(1, above[0] - above[-1])).tolist()]
    rounded = [round(edge, 3) for edge in edges.tolist()]
    return {"set": name, "network": network.removesuffix(STATES), "edges": rounded, **shares}


def _ablation(folder: Path) -> dict[str, Any]:
    result = read_results(folder / "results.json")
    miou = float("nan") if result.closed_set is None else result.closed_set.miou
    sets = {entry.dataset: _values(entry)["gmm_nll"] for entry in result.datasets}
    return {"name": folder.name, "change": (folder / "change.txt").read_text().strip(), "miou": miou, "sets": sets}


def _paired(folder: Path, name: str) -> list[dict[str, Any]]:
    """Paired differences of the likelihood to the softmax baseline's scores with the best AP and FPR95.

    The likelihood is taken with and without the frozen backbone. If ``softmax-frozen`` has all its scores,
    ``gmmseg-frozen`` is compared with ``softmax-frozen`` too.
    """
    entries = {entry.dataset: entry for entry in read_results(folder / f"softmax{STATES}/results.json").datasets}
    baseline = {score: found.values for score, found in entries[name].scores.items()}
    best = []
    for some in ([s for s in baseline if "+" not in s], list(baseline)):  # without and with post-processing
        best += [
            max(some, key=lambda score: baseline[score]["ap"]),
            min(some, key=lambda score: baseline[score]["fpr95"]),
        ]
    pairs = [(own, f"softmax{STATES}", score) for own in reversed(LIKELIHOODS) for score in dict.fromkeys(best)]
    if (folder / "softmax-frozen/states").is_dir():
        pairs.insert(0, ("gmmseg-frozen", "softmax-frozen", "gmm_nll"))
    found = []
    for own, other, score in pairs:
        first, second = (
            FrameTable.of(PixelMetrics.load(folder / network / "states" / state_name(name, kept)))
            for network, kept in ((own, "gmm_nll"), (other, score))
        )
        tests = paired_bootstrap(first, second)
        one: dict[str, Any] = {"set": name, "seed": int(folder.name.removeprefix("seed"))}
        one |= {"method": f"{own.removesuffix(STATES)} gmm_nll", "minus": f"{other.removesuffix(STATES)} {score}"}
        for metric in ("ap", "fpr95"):
            test = tests[metric]
            ends = {"low": test.interval.low, "high": test.interval.high}
            one[metric] = {"difference": test.difference, **ends, "p": test.p_value}
        found.append(one)
    return found
