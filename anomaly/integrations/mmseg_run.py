"""One whole run: a segmentor's closed-set and open-world numbers, with pictures, in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.config import Config
from mmseg.datasets import BaseSegDataset
from mmseg.models import BaseSegmentor
from rich.progress import Progress

from anomaly.datasets.split import Split
from anomaly.evaluator import check_scores, evaluate
from anomaly.integrations.mmseg_closed_set import evaluate_closed_set
from anomaly.integrations.mmseg_detector import MMSegDetector
from anomaly.profile import Profile
from anomaly.result import RunResult, write_results
from anomaly.scores.table import SCORES, Score
from anomaly.staging import staged
from anomaly.visualize.writer import PanelWriter

OUTPUTS = ("heatmaps", "results.csv", "results.json")


def run(
    config: Config,
    model: BaseSegmentor,
    device: torch.device,
    splits: Sequence[Split],
    scores: Sequence[Score],
    out: Path,
    *,
    closed_set: BaseSegDataset | None,
    heatmaps: Literal["all", "first", "none"],
    limit: int | None,
    progress: Progress,
    profile: Profile,
    provenance: dict[str, Any],
) -> RunResult:
    """Evaluate a segmentor; leave ``results.json``, ``results.csv`` and ``heatmaps/`` in ``out``, or nothing.

    Args:
        config: The network's config.
        model: The network with its weights.
        device: Where it runs.
        splits: Anomaly sets, already limited.
        scores: Scores to compute; none given means all that the network's output allows.
        out: Folder for the results. A failed run leaves it as it was; a new result replaces an old one.
        closed_set: The config's validation data, to measure mIoU on.
        heatmaps: Scores to draw: all, the first, or none.
        limit: First frames of the closed set to take; ``None`` takes all. Recorded in the result's settings.
        progress: Gets one bar for the closed set and one for each set.
        profile: Gets the seconds spent in each stage.
        provenance: Recorded in the result.

    Raises:
        InputError: Whatever :func:`evaluate` and :func:`evaluate_closed_set` find wrong with the input.
    """
    detector = MMSegDetector(config, model, device)
    scores = scores or [score for score in SCORES.values() if score.needs in detector.gives]
    check_scores(scores, detector)
    names = [score.name for score in scores]
    drawn = {"all": names, "first": names[:1], "none": []}[heatmaps]
    with staged(out, OUTPUTS) as stage, PanelWriter(stage / "heatmaps", drawn, profile) as pictures:
        closed = None
        if closed_set is not None:
            bar = progress.add_task("closed set", total=min(len(closed_set), limit or len(closed_set)))
            closed = evaluate_closed_set(
                config, model, closed_set, limit=limit, on_frame=lambda: progress.advance(bar), profile=profile
            )
        bars = {split.name: progress.add_task(split.name, total=len(split)) for split in splits}
        sets = evaluate(
            detector,
            splits,
            scores,
            pictures=pictures if drawn else None,
            on_frame=lambda name: progress.advance(bars[name]),
            profile=profile,
        )
        result = RunResult(
            model={"name": Path(config.filename).stem, "type": config.model.type},
            closed_set=closed,
            sets=sets,
            settings={
                "scores": names,
                "limit": limit,
                "device": str(device),
                "heatmaps": heatmaps,
                "colour_scales": {name: list(limits) for name, limits in pictures.scales.items()},
            },
            provenance=provenance,
        )
        write_results(result, stage)
    return result
