"""One whole run: a segmentor's closed-set and open-world numbers, with pictures, in one folder."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.config import Config
from mmseg.datasets import BaseSegDataset
from mmseg.models import BaseSegmentor
from rich.progress import Progress

from anomaly.datasets.split import Split
from anomaly.evaluator import calibrate, check_scores, evaluate
from anomaly.integrations.mmseg_closed_set import evaluate_closed_set
from anomaly.integrations.mmseg_detector import MMSegDetector
from anomaly.measures import Calibration, Measures
from anomaly.profile import Profile
from anomaly.result import RunResult, write_results
from anomaly.scores.table import SCORES, Score
from anomaly.staging import staged
from anomaly.visualize.writer import PanelWriter

OUTPUTS = ("heatmaps", "states", "results.csv", "results.json")


def run(
    config: Config,
    model: BaseSegmentor,
    device: torch.device,
    splits: Sequence[Split],
    scores: Sequence[Score],
    out: Path,
    *,
    measures: Measures,
    calibration: Calibration | None,
    save_states: bool,
    closed_set: BaseSegDataset | None,
    heatmaps: Literal["all", "first", "none"],
    limit: int | None,
    progress: Progress,
    profile: Profile,
    provenance: dict[str, Any],
) -> RunResult:
    """Evaluate a segmentor; leave ``results.json``, ``results.csv`` and what else is asked for in ``out``, or nothing.

    Args:
        config: The network's config.
        model: The network with its weights.
        device: Where it runs.
        splits: Anomaly sets, already limited.
        scores: Scores to compute; none given means all that the network's output allows.
        out: Folder for the results. A failed run leaves it as it was; a new result replaces an old one.
        measures: What to measure beside the pixel metrics.
        calibration: Where to choose a threshold for every score first, to be applied to the other sets.
        save_states: Keep the scores of every set as ``states/SET.SCORE.npz``.
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
        if calibration is not None:
            measures = _calibrated(measures, calibration, detector, scores, progress, profile)
            _tell_classes(detector.classes, splits)
        measures = replace(measures, states=stage / "states" if save_states else None)
        bars = {split.name: progress.add_task(split.name, total=len(split)) for split in splits}
        sets = evaluate(
            detector,
            splits,
            scores,
            measures=measures,
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
                **_settings(measures, calibration),
                "colour_scales": {name: list(limits) for name, limits in pictures.scales.items()},
            },
            provenance=provenance,
        )
        write_results(result, stage)
    return result


def _calibrated(
    measures: Measures,
    calibration: Calibration,
    detector: MMSegDetector,
    scores: Sequence[Score],
    progress: Progress,
    profile: Profile,
) -> Measures:
    """Measures with thresholds, chosen in a pass of their own."""
    bar = progress.add_task(f"threshold on {calibration.split.name}", total=len(calibration.split))
    thresholds = calibrate(
        *(detector, calibration, scores),
        measures=measures,
        on_frame=lambda name: progress.advance(bar),
        profile=profile,
    )
    return replace(measures, thresholds=thresholds)


def _settings(measures: Measures, calibration: Calibration | None) -> dict[str, Any]:
    """What was measured, for the record."""
    chosen = None
    if calibration is not None:
        first = next(iter(measures.thresholds.values()))
        level = None if math.isnan(first.level) else first.level
        chosen = {"set": first.set, "frames": len(calibration.split), "rule": first.rule, "level": level}
    track = None if measures.track is None else {**asdict(measures.track), "at": measures.components_at}
    return {"mode": measures.mode, "components": track, "bootstrap": measures.replicates, "threshold": chosen}


def _tell_classes(classes: tuple[str, ...], splits: Sequence[Split]) -> None:
    for split in splits:
        if split.classes and split.classes != classes:
            warnings.warn(
                f"{split.name}: no open-world IoU, as the network's classes ({', '.join(classes) or 'not named'}) are "
                f"not the set's ({', '.join(split.classes)})",
                stacklevel=3,
            )
