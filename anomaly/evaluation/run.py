"""One whole run: the numbers of sets, with pictures, in one folder."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.progress import Progress, TaskID

from anomaly.datasets.dataset import Dataset
from anomaly.datasets.fingerprint import check_unseen
from anomaly.datasets.label_counts import LabelCounts, check_both_kinds, count_labels
from anomaly.datasets.overlap import shared_images
from anomaly.errors import InputError
from anomaly.evaluation.evaluator import calibrate, chosen_on_it, evaluate
from anomaly.evaluation.metrics import Calibration, MetricConfig
from anomaly.evaluation.profile import Profile
from anomaly.evaluation.score_maps import NO_POST, WHOLE, Method, Store, check_scores
from anomaly.metrics.calibration import check_pixels
from anomaly.models.base import Model
from anomaly.models.tiling import Inference
from anomaly.postprocessing.table import Chain
from anomaly.report.html import write_page
from anomaly.report.views import ViewWriter
from anomaly.results.records import ClosedSet, EvaluationRecord, write_results
from anomaly.scores.statistics import Statistics
from anomaly.scores.table import Score
from anomaly.utils.files import staged
from anomaly.utils.names import check_distinct
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
        closed_set: MetricConfig the network on known classes.
        inference: How the network looks at a image.
        statistics: What the scores learned; an evaluation by such scores refuses the images that they learned from.
        mixtures: What tells the images that the network's mixtures were fitted on after its training; these are
            refused too.
    """

    model: dict[str, Any]
    detector: Model | None
    stores: Mapping[str, Store] = field(default_factory=dict)
    closed_set: Callable[[Progress, Profile], ClosedSet] | None = None
    inference: Inference = WHOLE
    statistics: Statistics | None = None
    mixtures: frozenset[str] = frozenset()

    def check(self, frame: str, image: str) -> None:
        """Refuse an image that must not be evaluated, by :func:`anomaly.frames.image_hash`.

        Raises:
            InputError: It is one that the network's mixtures were fitted on.
        """
        if self.mixtures:
            check_unseen(frame, image, self.mixtures, "the network's mixtures")


def run(
    subject: Subject,
    splits: Sequence[Dataset],
    scores: Sequence[Score],
    out: Path,
    *,
    post: Sequence[Chain] = NO_POST,
    measures: MetricConfig,
    calibration: Calibration | None,
    save_states: bool,
    heatmaps: Literal["all", "first", "none"],
    report: int = 0,
    settings: Mapping[str, Any],
    progress: Progress,
    profile: Profile,
    provenance: dict[str, Any],
    on_labels: Callable[[Dataset, LabelCounts], None] = lambda split, counts: None,
) -> EvaluationRecord:
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
        on_labels: Called with each set, and what its labels hold, before the network is asked.

    Raises:
        InputError: Whatever :func:`anomaly.evaluation.evaluator.evaluate` finds wrong with the input; or a set shares images with
            the one that the threshold is chosen on.
    """
    check_distinct((split.name for split in splits), "datasets")
    names = Method(scores, post=post).names
    check_scores(scores, subject.detector)
    _check_apart(calibration, splits)
    _read_labels(splits, calibration, progress, on_labels)
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
            stores={split.name: subject.stores[split.name] for split in splits if split.name in subject.stores},
            measures=measures,
            pictures=pictures if drawn else None,
            views=ViewWriter(stage / "report", report) if report else None,
            on_frame=lambda name: _advance(progress, bars[name]),
            profile=profile,
        )
        result = EvaluationRecord(
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
            provenance=provenance | _calibration_images(measures),
            protocol=PROTOCOL,
            timings={name: round(seconds, 3) for name, seconds in profile.seconds().items()},
        )
        write_results(result, stage)
        if report:
            write_page([stage / "results.json"], stage / "report.html")
    return result


def _check_apart(calibration: Calibration | None, splits: Sequence[Dataset]) -> None:
    """Check that no threshold is applied to images that it was chosen on."""
    if calibration is None:
        return
    name, others = calibration.split.name, [split for split in splits if split.name != calibration.split.name]
    if not others:
        raise InputError(
            f"--calibrate-on {name}: expected other --sets too, as no threshold is applied to the set that it was "
            "chosen on; name one"
        )
    for split in others:
        if shared := shared_images(calibration.split, split):
            raise InputError(chosen_on_it(split.name, name, shared))


def _read_labels(
    splits: Sequence[Dataset],
    calibration: Calibration | None,
    progress: Progress,
    on_labels: Callable[[Dataset, LabelCounts], None],
) -> None:
    """Check that every label has a declared value, and that the pixels are there that are to be measured."""
    chosen_on = [] if calibration is None else [calibration.split]
    every = list({split.name: split for split in (*splits, *chosen_on)}.values())
    bar = progress.add_task("labels", total=sum(map(len, every)))
    counts = {}
    for split in every:
        counts[split.name] = count_labels(split, on_frame=lambda: progress.advance(bar))
        on_labels(split, counts[split.name])
    for split in splits:
        check_both_kinds(split, counts[split.name])
    if calibration is not None:
        found = counts[calibration.split.name]
        check_pixels(calibration.rule, found.known, found.anomaly, calibration.split.name)


def _calibration_images(measures: MetricConfig) -> dict[str, Any]:
    """The images that the thresholds were chosen on, for the record."""
    first = next(iter(measures.thresholds.values()), None)
    return {} if first is None else {"calibration": {"set": first.set, "images": sorted(first.images)}}


def _advance(progress: Progress, bar: TaskID) -> None:
    """Count a frame; a bar's time begins with its first, not while sets before it are at work."""
    progress.start_task(bar)
    progress.advance(bar)


def _calibrated(
    measures: MetricConfig,
    calibration: Calibration,
    subject: Subject,
    scores: Sequence[Score],
    post: Sequence[Chain],
    progress: Progress,
    profile: Profile,
) -> MetricConfig:
    """MetricConfig with thresholds, chosen in a pass of their own."""
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


def _settings(measures: MetricConfig, calibration: Calibration | None) -> dict[str, Any]:
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
        "levels": {"tpr": measures.tpr, "fpr": measures.fpr},
        "threshold": chosen,
    }


def _tell_classes(detector: Model | None, splits: Sequence[Dataset]) -> None:
    classes = () if detector is None else detector.classes
    for split in splits if detector is not None else ():
        if split.classes and split.classes != classes:
            warnings.warn(
                f"{split.name}: no open-world IoU, as the network's classes ({', '.join(classes) or 'not named'}) are "
                f"not the set's ({', '.join(split.classes)})",
                stacklevel=3,
            )
