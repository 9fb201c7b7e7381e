"""One whole run: the numbers of sets, with pictures, in one folder."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.progress import Progress, TaskID

from anomaly.datasets.split import Split
from anomaly.detectors import Detector
from anomaly.evaluator import calibrate, evaluate
from anomaly.inference import Inference
from anomaly.labels import Image
from anomaly.measures import Calibration, Measures
from anomaly.method import NO_POST, WHOLE, Method, Store, check_scores
from anomaly.postprocess.table import Chain
from anomaly.profile import Profile
from anomaly.report.html import write_page
from anomaly.report.views import ViewWriter
from anomaly.result import ClosedSet, RunResult, write_results
from anomaly.scores.statistics import Statistics
from anomaly.scores.table import Score
from anomaly.staging import staged
from anomaly.visualize.writer import PanelWriter

PROTOCOL = {
    "pooling": "all pixels of a set count together",
    "auroc": "ties count half",
    "ap": "sum over thresholds of recall gained times precision",
    "fpr": "at the first threshold, from the highest down, whose TPR is at least the level",
    "ignored": "pixels labelled 255 count nowhere",
    "labels": "at their own size; scores are resized to them, bilinearly, where they come smaller",
}
OUTPUTS = ("heatmaps", "states", "report", "report.html", "results.csv", "results.json")


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Args:
        model: Its record; ``name`` is what tables call it.
        detector: The network; None where all scores are stored.
        stores: By set, where score maps are, or are to be written.
        closed_set: Measures the network on known classes.
        inference: How the network looks at a photograph.
        statistics: What the scores learned; the photographs they learned it from are refused.
    """

    model: dict[str, Any]
    detector: Detector | None
    stores: Mapping[str, Store] = field(default_factory=dict)
    closed_set: Callable[[Progress, Profile], ClosedSet] | None = None
    inference: Inference = WHOLE
    statistics: Statistics | None = None

    @property
    def check(self) -> Callable[[str, Image], None] | None:
        """Refuses photographs that must not be evaluated."""
        return None if self.statistics is None else self.statistics.check_unseen


def run(
    subject: Subject,
    splits: Sequence[Split],
    scores: Sequence[Score],
    out: Path,
    *,
    post: Sequence[Chain] = NO_POST,
    measures: Measures,
    calibration: Calibration | None,
    save_states: bool,
    heatmaps: Literal["all", "first", "none"],
    report: int = 0,
    settings: Mapping[str, Any],
    progress: Progress,
    profile: Profile,
    provenance: dict[str, Any],
) -> RunResult:
    """Evaluate; leave ``results.json``, ``results.csv`` and what else is asked for in ``out``, or nothing.

    Args:
        subject: What to evaluate.
        splits: Anomaly sets, already limited.
        scores: Scores to compute or to read.
        out: Folder for the results. A failed run leaves it as it was; a new result replaces an old one.
        post: Chains of post-processing, each applied to every score.
        measures: What to measure beside the pixel metrics.
        calibration: Where to choose a threshold for every score first, to be applied to the other sets.
        save_states: Keep the scores of every set as ``states/SET.SCORE.npz``.
        heatmaps: Scores to draw: all, the first, or none.
        report: Frames of each set that ``report.html`` shows at most; 0 writes no report.
        settings: What else the numbers depend on, recorded in the result.
        progress: Gets one bar for the closed set and one for each set.
        profile: Gets the seconds spent in each stage.
        provenance: Recorded in the result.

    Raises:
        InputError: Whatever :func:`anomaly.evaluator.evaluate` finds wrong with the input.
    """
    _check(scores, subject.detector, splits)
    names = Method(scores, post=post).names
    drawn = {"all": names, "first": names[:1], "none": []}[heatmaps]
    with staged(out, OUTPUTS) as stage, PanelWriter(stage / "heatmaps", drawn, profile) as pictures:
        closed = None if subject.closed_set is None else subject.closed_set(progress, profile)
        if calibration is not None:
            measures = _calibrated(measures, calibration, subject, scores, post, progress, profile)
            _tell_classes(subject.detector, splits)
        measures = replace(measures, states=stage / "states" if save_states else None)
        bars = {split.name: progress.add_task(split.name, total=len(split), start=False) for split in splits}
        sets = evaluate(
            *(subject.detector, splits, scores),
            inference=subject.inference,
            post=post,
            check=subject.check,
            stores=subject.stores,
            measures=measures,
            pictures=pictures if drawn else None,
            views=ViewWriter(stage / "report", report) if report else None,
            on_frame=lambda name: _advance(progress, bars[name]),
            profile=profile,
        )
        result = RunResult(
            model=subject.model,
            closed_set=closed,
            sets=sets,
            settings={
                "scores": [score.name for score in scores],
                "post": [chain.name or "none" for chain in post],
                "inference": None if subject.detector is None else subject.inference.record(),
                **settings,
                "heatmaps": heatmaps,
                **_settings(measures, calibration),
                "colour_scales": {name: [scale.low, scale.high] for name, scale in pictures.scales.items()},
            },
            provenance=provenance,
            protocol=PROTOCOL,
            timings={name: round(seconds, 3) for name, seconds in profile.seconds().items()},
        )
        write_results(result, stage)
        if report:
            write_page([stage / "results.json"], stage / "report.html")
    return result


def _check(scores: Sequence[Score], detector: Detector | None, splits: Sequence[Split]) -> None:
    """Tell of scores that cannot be had, and of labels that mean another thing, before the closed set is visited."""
    check_scores(scores, detector)
    for split in splits:
        split.frame(0)


def _advance(progress: Progress, bar: TaskID) -> None:
    """Count a frame; a bar's time begins with its first, not while sets before it are at work."""
    progress.start_task(bar)
    progress.advance(bar)


def _calibrated(
    measures: Measures,
    calibration: Calibration,
    subject: Subject,
    scores: Sequence[Score],
    post: Sequence[Chain],
    progress: Progress,
    profile: Profile,
) -> Measures:
    """Measures with thresholds, chosen in a pass of their own."""
    bar = progress.add_task(f"threshold on {calibration.split.name}", total=len(calibration.split))
    thresholds = calibrate(
        *(subject.detector, calibration, scores),
        inference=subject.inference,
        post=post,
        check=subject.check,
        store=subject.stores.get(calibration.split.name),
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
    return {
        "mode": measures.mode,
        "components": track,
        "bootstrap": {"replicates": measures.replicates, "seed": 0},
        "threshold": chosen,
    }


def _tell_classes(detector: Detector | None, splits: Sequence[Split]) -> None:
    classes = () if detector is None else detector.classes
    for split in splits if detector is not None else ():
        if split.classes and split.classes != classes:
            warnings.warn(
                f"{split.name}: no open-world IoU, as the network's classes ({', '.join(classes) or 'not named'}) are "
                f"not the set's ({', '.join(split.classes)})",
                stacklevel=3,
            )
