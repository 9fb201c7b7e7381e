"""Measure anomaly scores on labelled datasets: AUROC, AP and FPR95, alongside closed-set mIoU, with heatmaps.

The scores come from a network, a score function, or score maps on disk (--predictions).

Examples:
    anomaly evaluate --model CONFIG CHECKPOINT --data road_anomaly --report
    anomaly evaluate CONFIG CHECKPOINT --sets fishyscapes_lost_and_found --scores gmm_nll energy --bootstrap
    anomaly evaluate --model HUGGING_FACE_FOLDER --data road_anomaly --report
    anomaly evaluate --model file.py:name --folder images labels --label-values 0=known 1=anomaly 255=ignore
    anomaly evaluate CONFIG CHECKPOINT --data road_anomaly --post none boundary,smooth:sigma=2
    anomaly evaluate --predictions maps --data road_anomaly
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly.cli.launch import add_launcher, launched
from anomaly.cli.options import (
    SCORE_NAMES,
    add_datasets,
    add_inference,
    add_model,
    add_score_scale,
    by_windows,
    data_root,
    model_words,
    open_maps,
    read_datasets,
    read_inference,
    read_model,
)
from anomaly.cli.parser import command_parser, option_of
from anomaly.errors import InputError
from anomaly.utils.processes import ALONE, Processes

if TYPE_CHECKING:
    from anomaly.api import Result
    from anomaly.datasets.dataset import Dataset
    from anomaly.evaluation.config import Calibration, MetricConfig
    from anomaly.evaluation.run import Evaluation
    from anomaly.models.base import Model
    from anomaly.scores.registry import Score

FRAMES = 60
OUTPUTS = ("heatmaps", "states", "report", "report.html", "results.csv", "results.json")

# Options that have no effect without another, or together with another, are refused.
BELONGS = (
    ("components_at", "components"),
    ("calibrate_by", "calibrate_on"),
    ("score_scale", "predictions"),
    ("report_frames", "report"),
    ("label_values", "folder"),
    ("folder_name", "folder"),
)
OF_A_MODEL = (
    *("config", "checkpoint", "model", "allow_pickle", "cfg_options", "device", "threads"),
    *("precision", "batch", "window", "stride"),
    *("flip", "scales", "score_at", "fitted", "save_scores", "closed_set", "no_closed_set"),
)
BINNED = ("bootstrap", "calibrate_on", "report", "save_states")


@dataclass(frozen=True)
class Source:
    """What is evaluated: a model, or score maps on disk.

    Args:
        model: The model; None if all scores are stored.
        evaluation: The configuration.
        record: Name and type, for tables and the record.
        inputs: Files that went in, with checksums.
        out: Default folder of the results.
    """

    model: Model | None
    evaluation: Evaluation
    record: dict[str, Any]
    inputs: dict[str, Any]
    out: Path


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    from anomaly.metrics.functional.components import TRACKS
    from anomaly.postprocessing.table import STEPS

    parser = command_parser(__doc__, "anomaly evaluate")
    add_model(parser)
    add = parser.add_argument_group("scores").add_argument
    add("--scores", nargs="+", default=[], metavar="NAME", help=f"{SCORE_NAMES}, or all (default: the usual ones)")
    chains = f"chains of {', '.join(STEPS)}, such as boundary,smooth:sigma=2; each is applied to every score; none "
    chains += "leaves scores unchanged (docs/postprocessing.md)"
    add("--post", nargs="+", default=["none"], metavar="STEP,STEP", help=chains)
    add("--predictions", type=Path, metavar="DIR", help="score maps on disk instead of a model")
    add_score_scale(add)
    add(
        "--save-scores",
        type=Path,
        metavar="DIR",
        help="write score maps to this folder; a stopped run resumes from them",
    )
    add_datasets(parser)
    add_inference(parser)
    add = parser.add_argument_group("metrics").add_argument
    add(
        "--bootstrap",
        nargs="?",
        type=int,
        const=2000,
        default=0,
        metavar="N",
        help="95 %% confidence intervals from N bootstrap replicates (2000)",
    )
    add("--tpr", type=float, default=0.95, metavar="LEVEL", help="report the FPR at this TPR (default: 0.95, FPR95)")
    add("--fpr", type=float, default=0.05, metavar="LEVEL", help="report the recall at this FPR (default: 0.05)")
    add("--components", choices=TRACKS, help="component F1, sIoU and PPV by the rules of this track")
    add("--components-at", metavar="T", help="threshold of the components: best_f1 (default), calibrated, or a score")
    add(
        "--calibrate-on",
        metavar="NAME",
        help="dataset on which a threshold is chosen for every score; it is applied to the others",
    )
    add(
        "--calibrate-by",
        metavar="RULE",
        help="rule of the threshold: tpr=LEVEL, fpr=LEVEL or best_f1 (default: tpr=0.95)",
    )
    named = "dataset with class labels for closed-set mIoU, such as cityscapes-val (default: the config's own)"
    add("--closed-set", metavar="NAME", help=named)
    add("--no-closed-set", action="store_true", help="do not measure closed-set mIoU")
    add(
        "--save-states",
        action="store_true",
        help="keep every pixel's scores in OUT/states/, for `anomaly compare --paired`",
    )
    add(
        "--binned",
        action="store_true",
        help="compute bounds of the pixel metrics in constant memory, instead of exact values",
    )
    add(
        "--memory",
        type=float,
        default=2.0,
        metavar="GIB",
        help="memory for all scores before they go to disk (default: 2)",
    )
    add("--temporary", type=Path, metavar="DIR", help="folder of temporary files (default: the system's)")
    add = parser.add_argument_group("output").add_argument
    add("--out", type=Path, metavar="DIR", help="folder of the results (default: work_dirs/MODEL/ood_eval)")
    add("--heatmaps", choices=("all", "first", "none"), default="all", help="scores to draw as heatmaps (default: all)")
    page = "write OUT/report.html with metrics, curves and images (docs/report.md)"
    add("--report", action="store_const", const=True, help=page)
    add(
        "--report-frames",
        type=int,
        metavar="N",
        help=f"largest number of images of each dataset in the report, sampled evenly ({FRAMES})",
    )
    add("--profile", action="store_true", help="print the time spent in each stage")
    add_launcher(parser)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Check names and files, load the model, measure, and print the table."""
    args = parse(words)
    with launched(args) as processes:
        _evaluate(args, processes)


def _evaluate(args: argparse.Namespace, processes: Processes) -> None:
    _check_together(args)
    check_source(args)
    datasets, closed_set = read_datasets(args), _closed_set(args)
    metrics, calibration = _metrics(args), _calibration(args)
    frames = FRAMES if args.report_frames is None else args.report_frames
    if frames < 1:
        raise InputError(f"--report-frames: expected 1 or more, found {frames}; give a larger number")
    source = choose_source(args, datasets, metrics, calibration, processes)
    from rich.console import Console

    from anomaly.results.comparison import measured_remarks
    from anomaly.utils.profile import Profile

    out, profile = args.out or source.out, Profile()
    result = _run(args, source, datasets, closed_set, out, frames if args.report else 0, profile, processes)
    profile.stop()
    from anomaly.report.table import results_table

    Console().print(results_table(result.record), *([str(profile)] if args.profile else []))
    for remark in measured_remarks(result.record):
        print(f"note: {remark}")
    print(f"results are in {out}" + (f"; open {out / 'report.html'} in a browser" if args.report else ""))


def _run(
    args: argparse.Namespace,
    source: Source,
    datasets: Sequence[Dataset],
    closed_set: Dataset | None,
    out: Path,
    report: int,
    profile: Any,
    processes: Processes,
) -> Result:
    """Measure, and write results, report, heatmaps and states into ``out``, or nothing on failure."""
    from anomaly.api import measure
    from anomaly.cli.progress import frame_progress, progress_of
    from anomaly.evaluation.score_maps import ScorePipeline
    from anomaly.report.html import write_page
    from anomaly.results.records import write_results
    from anomaly.visualize.heatmaps import HeatmapCallback

    evaluation = source.evaluation
    names = ScorePipeline(evaluation.scores, evaluation.post).names
    drawn = {"all": names, "first": names[:1], "none": []}[args.heatmaps]
    closed: bool | Dataset | None = closed_set
    if closed_set is None:  # for the user's own images the closed set is optional
        closed = False if args.no_closed_set else None if args.folder is not None and not args.sets else True
    with ExitStack() as stack:
        stage = stack.enter_context(processes.staged(out, OUTPUTS))
        callbacks = []
        if drawn:
            callbacks.append(stack.enter_context(HeatmapCallback(stage / "heatmaps", drawn, profile, processes)))
        if args.save_states:
            evaluation = replace(evaluation, metrics=replace(evaluation.metrics, states=stage / "states"))
        progress = stack.enter_context(frame_progress())
        result = measure(
            source.model,
            datasets,
            evaluation,
            inputs=source.inputs,
            record=source.record,
            closed_set=closed,
            limit=args.limit,
            report_images=report,
            views=stage / "report" if report else None,
            callbacks=callbacks,
            progress=progress_of(progress),
            profile=profile,
            on_labels=lambda dataset, counts: print(f"{dataset.name}: {counts}", file=sys.stderr),
            processes=processes,
        )
        if processes.rank == 0:
            write_results(result.record, stage)
            if report:
                write_page([stage / "results.json"], stage / "report.html")
    return result


def check_source(args: argparse.Namespace) -> None:
    """Raise ``InputError`` unless exactly one of a model and score maps is named."""
    words = model_words(args)
    if bool(words) == (args.predictions is not None):
        found = "both" if words else "neither"
        raise InputError(
            "expected a model (CONFIG and CHECKPOINT, or --model) or --predictions DIR, found "
            f"{found}; name one of them"
        )


def choose_source(
    args: argparse.Namespace,
    datasets: Sequence[Dataset],
    metrics: MetricConfig,
    calibration: Calibration | None,
    processes: Processes = ALONE,
) -> Source:
    """Load the model, or open the score maps of all datasets.

    Raises:
        InputError: Neither a model nor score maps are named, or both, or they cannot be read.
    """
    check_source(args)
    every = [*datasets, *([] if calibration is None else [calibration.dataset])]
    if args.predictions is not None:
        return _stored(args, every, metrics, calibration)
    return network_source(args, every, metrics, calibration, processes)


def network_source(
    args: argparse.Namespace,
    datasets: Sequence[Dataset] = (),
    metrics: MetricConfig | None = None,
    calibration: Calibration | None = None,
    processes: Processes = ALONE,
    model: Model | None = None,
) -> Source:
    """Load the model that the arguments name unless it is given, and configure its evaluation.

    Raises:
        InputError: The model, the scores, the statistics or the data are invalid.
    """
    from anomaly.api import configure
    from anomaly.cli.config_options import CHECKPOINT_FOLLOWS, CLOSED_SET, LOOKING, Reads
    from anomaly.models.tiling import Inference
    from anomaly.results.score_store import ScoreWriter

    if args.no_closed_set or getattr(args, "closed_set", None) is not None:
        reads = Reads(LOOKING, {**CHECKPOINT_FOLLOWS, **by_windows(args)})
    else:  # the closed set is predicted as test_cfg says, whatever --window is
        reads = Reads((*LOOKING, *CLOSED_SET), CHECKPOINT_FOLLOWS)
    model = model or read_model(args, reads)
    inference = read_inference(args, getattr(model, "inference", None) or Inference())
    inputs = dict(getattr(model, "inputs", {}))
    stores = {}
    evaluation = configure(
        model,
        args.scores or None,
        postprocessing=getattr(args, "post", ["none"]),
        inference=inference,
        metrics=metrics,
        calibration=calibration,
    )
    _check_fitted_used(args, model, evaluation.scores)
    words = model_words(args)
    name = Path(words[0]).stem if len(words) == 2 else str(getattr(model, "record", {}).get("name", "model"))
    if getattr(args, "save_scores", None) is not None:
        made_by: dict[str, Any] = {"method": name, "settings": depends_on(inputs, inference)}

        def writers() -> dict[str, ScoreWriter]:
            return {one.name: ScoreWriter(args.save_scores / one.name, dataset=one.name, **made_by) for one in datasets}

        stores = processes.first_then_others(writers)
    settings = {**recorded(args), "device": str(getattr(model, "device", None) or "cpu")}
    record = getattr(model, "record", None) or {"name": name, "type": type(model).__name__}
    evaluation = replace(evaluation, stores=stores, settings=settings)
    return Source(model, evaluation, record, inputs, Path("work_dirs", name, "ood_eval"))


def _check_fitted_used(args: argparse.Namespace, model: Model, scores: Sequence[Score]) -> None:
    """Refuse a file of ``anomaly fit`` that holds only what scores learned, if no score needs it."""
    if args.fitted is None or bool(getattr(model, "members", ())) or any(score.fitted for score in scores):
        return
    from anomaly.scores.registry import SCORES, serves

    fitted = ", ".join(score.name for score in SCORES.values() if score.fitted and serves(score, model.gives))
    raise InputError(
        f"--fitted has no effect on {', '.join(score.name for score in scores)}, which need no fitting; name --scores "
        f"that need it ({fitted}, or all), or omit --fitted"
    )


def _stored(
    args: argparse.Namespace, datasets: Sequence[Dataset], metrics: MetricConfig, calibration: Calibration | None
) -> Source:
    from anomaly.api import configure
    from anomaly.results.score_formats.base import check_scale
    from anomaly.scores.registry import current_name, stored_scores

    scale = check_scale(args.score_scale)
    stores = {one.name: open_maps(args.predictions, one, scale) for one in datasets}
    found = set.intersection(*(set(store.scores) for store in stores.values()))
    by_current = {current_name(name): name for name in found}  # maps may be stored under a former name
    names = [name if name in found else by_current.get(current_name(name), name) for name in args.scores]
    names = names or [name for name in next(iter(stores.values())).scores if name in found]
    if missing := [name for name in names if name not in found] or ([] if names else ["any common to all datasets"]):
        raise InputError(
            f"{args.predictions}: expected score {missing[0]!r}, found {', '.join(sorted(found)) or 'none'}; name one "
            "that is there"
        )
    first = next(iter(stores.values()))
    record = {"name": first.method or args.predictions.name, "type": "stored scores"}
    inputs = {"path": str(args.predictions), "format": first.format, "settings": dict(first.settings)}
    evaluation = configure(
        None,
        stored_scores(names),
        postprocessing=args.post,
        metrics=metrics,
        calibration=calibration,
        stores=stores,
        settings=recorded(args),
    )
    out = Path("work_dirs", *args.predictions.resolve().parts[-2:], "ood_eval")
    return Source(None, evaluation, record, {"predictions": inputs}, out)


def recorded(args: argparse.Namespace) -> dict[str, Any]:
    """Settings that metrics depend on besides the model and its inference, for the record."""
    values = getattr(args, "label_values", None)
    limit = getattr(args, "limit", None)
    return {"limit": limit, **({} if values is None else {"label_values": list(values)})}


def depends_on(inputs: dict[str, Any], inference: Any) -> dict[str, Any]:
    """What stored score maps depend on: checksums of the inputs, and the inference settings."""
    return {name: record["sha256"] for name, record in inputs.items()} | {"inference": inference.record()}


def _metrics(args: argparse.Namespace) -> MetricConfig:
    from anomaly.evaluation.config import MetricConfig
    from anomaly.metrics.definitions import Levels
    from anomaly.metrics.functional.components import TRACKS

    if args.bootstrap < 0 or not 0 < args.memory < 2**30:
        wrong = f"--bootstrap {args.bootstrap}" if args.bootstrap < 0 else f"--memory {args.memory:g}"
        raise InputError(f"{wrong}: expected at least 0 replicates, and a finite number of GiB above 0; correct it")
    if args.temporary is not None and not args.temporary.is_dir():
        raise InputError(f"--temporary {args.temporary}: expected a folder, found none; name an existing one")
    Levels(args.tpr, args.fpr)  # raises an error if one is out of range
    return MetricConfig(
        mode="binned" if args.binned else "exact",
        memory_budget=int(args.memory * 2**30),
        spill_dir=args.temporary,
        track=None if args.components is None else TRACKS[args.components],
        components_at=_components_at(args),
        replicates=args.bootstrap,
        tpr=args.tpr,
        fpr=args.fpr,
    )


def _closed_set(args: argparse.Namespace) -> Dataset | None:
    if args.closed_set is None:
        return None
    if args.no_closed_set:
        raise InputError("expected --closed-set NAME or --no-closed-set, found both; omit one of them")
    from anomaly.datasets.catalog import load_dataset

    dataset = load_dataset(args.closed_set, data_root(args), as_found=args.as_found)
    return dataset.limit(args.limit or sys.maxsize)


def _components_at(args: argparse.Namespace) -> Any:
    if args.components_at == "calibrated" and args.calibrate_on is None:
        raise InputError("--components-at calibrated: expected --calibrate-on too, found none; add it")
    if args.components_at in (None, "best_f1", "calibrated"):
        return args.components_at or "best_f1"
    try:
        threshold = float(args.components_at)
    except ValueError as error:
        raise InputError(
            f"--components-at: expected best_f1, calibrated or a number, found {args.components_at!r}; use one of them"
        ) from error
    if len(args.scores) != 1 or "all" in args.scores or len(args.post) != 1:
        found = f"--scores {' '.join(args.scores)} --post {' '.join(args.post)}"
        raise InputError(
            f"--components-at {threshold}: expected one --scores and one --post, found {found}; name one of each"
        )
    return threshold


def _calibration(args: argparse.Namespace) -> Calibration | None:
    if args.calibrate_on is None:
        return None
    from anomaly.datasets.catalog import load_dataset
    from anomaly.evaluation.config import parse_calibration

    dataset = load_dataset(args.calibrate_on, data_root(args), as_found=args.as_found)
    return parse_calibration(dataset.limit(args.limit or sys.maxsize), args.calibrate_by or "tpr=0.95")


def _check_together(args: argparse.Namespace) -> None:
    """Refuse options that would have no effect.

    Raises:
        InputError: There is such an option.
    """
    for one, other in BELONGS:
        if one in args.given and other not in args.given:
            raise InputError(f"{option_of(one)}: expected {option_of(other)} too, found none; give both or neither")
    if args.predictions is not None and (given := [name for name in OF_A_MODEL if name in args.given]):
        options = ", ".join(map(option_of, given))
        raise InputError(
            f"{options}: expected no options of a model together with --predictions; omit them, or omit --predictions "
            "and name CONFIG and CHECKPOINT"
        )
    if args.binned and (asked := [name for name in BINNED if name in args.given]):
        raise InputError(
            f"{option_of(asked[0])} needs every pixel's score, which --binned does not keep; omit one of them"
        )
    if args.binned and "memory" in args.given:
        raise InputError("--memory has no effect with --binned, whose memory is constant; omit one of them")
    if "temporary" in args.given and args.binned and args.components is None:
        raise InputError("--temporary has no effect with --binned, which writes no temporary file; omit it")
    if "data_root" in args.given and args.predictions is not None and not (args.sets or args.calibrate_on):
        raise InputError("--data-root has no effect without --data or --calibrate-on; omit it")
