"""Tables of a study of several networks, seeds and scores, from the record that ``tools/dev/study.py`` writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

METRICS = {"auroc": "AUROC", "ap": "AP", "fpr95": "FPR95"}
Record = Mapping[str, Any]


def headline(study: Record, rows: Sequence[tuple[str, str]]) -> str:
    """AUROC, AP and FPR95 of each network and score on every dataset, and mIoU; mean and standard deviation over seeds.

    With a single seed, the confidence interval over images is shown if the record has one.

    Args:
        study: The record.
        rows: Network and score; ``best`` stands for the best of all scores without post-processing, for each metric.
    """
    sets = study["sets"]
    header = ["network", "score", *(f"{name}, {title}" for name in sets for title in METRICS.values())]
    lines = [[*header, "mIoU val", "mIoU test"], ["---"] * 2 + ["---:"] * (len(header) - 2 + 2)]
    for network, score in rows:
        seeds = study["networks"][network]
        cells = []
        for name in sets:
            found = [[_value(seed["sets"][name], score, metric) for seed in seeds] for metric in METRICS]
            intervals = seeds[0]["sets"][name].get(score, {}).get("intervals", {}) if len(seeds) == 1 else {}
            cells += [_spread(one) + _ends(intervals.get(metric)) for one, metric in zip(found, METRICS, strict=True)]
        mious = [_spread(seed["miou"].get(part) for seed in seeds) for part in ("val", "test")]
        lines.append([network, f"`{score}`" if score != "best" else "best of each metric", *cells, *mious])
    return _markdown(lines)


def all_scores(study: Record, network: str, chain: str) -> str:
    """Every score of a network on every dataset, mean over seeds, without and with a post-processing chain."""
    seeds, sets = study["networks"][network], study["sets"]
    header = ["score", *(f"{name}, {title}" for name in sets for title in METRICS.values())]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for score in seeds[0]["sets"][sets[0]]:
        if score.endswith(f"+{chain}"):
            continue
        cells = []
        for name in sets:
            for metric in METRICS:
                plain, after = (
                    mean(seed["sets"][name][each][metric] for seed in seeds) for each in (score, f"{score}+{chain}")
                )
                cells.append(f"{100 * plain:.1f} ({100 * after:.1f})")
        lines.append([f"`{score}`", *cells])
    return _markdown(lines)


def paired(study: Record) -> str:
    """Paired differences of two methods, per seed: percentage points, 95 % confidence interval, p-value."""
    header = ["dataset", "seed", "method", "minus", "AP", "p", "FPR95", "p"]
    lines = [header, ["---"] * 4 + ["---:"] * 4]
    for one in study["paired"]:
        cells = [text for metric in ("ap", "fpr95") for text in _difference(one[metric])]
        lines.append([one["set"], str(one["seed"]), one["method"], one["minus"], *cells])
    return _markdown(lines)


def ablation(study: Record) -> str:
    """One change at a time: validation mIoU, and AUROC, AP and FPR95 of ``gmm_nll`` on every dataset."""
    sets = study["sets"]
    header = ["change", "mIoU val", *(f"{name}, {title}" for name in sets for title in METRICS.values())]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for one in study["ablation"]:
        cells = [f"{100 * one['sets'][name][metric]:.1f}" for name in sets for metric in METRICS]
        lines.append([one["change"], f"{100 * one['miou']:.1f}", *cells])
    return _markdown(lines)


def _value(scores: Mapping[str, Mapping[str, float]], score: str, metric: str) -> float:
    if score != "best":
        return scores[score][metric]
    choose: Callable[[Iterable[float]], float] = min if metric.startswith("fpr") else max
    return choose(found[metric] for name, found in scores.items() if "+" not in name.partition(":")[0])


def _spread(values: Iterable[float | None]) -> str:
    found = [100 * value for value in values if value is not None]
    if not found:
        return "-"
    return f"{mean(found):.1f}" + (f" ± {stdev(found):.1f}" if len(found) > 1 else "")


def _ends(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _difference(found: Mapping[str, float]) -> tuple[str, str]:
    low, high = 100 * found["low"], 100 * found["high"]
    return f"{100 * found['difference']:+.1f} [{low:+.1f}, {high:+.1f}]", f"{found['p']:.2g}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
