"""Measure a result again, from its model or from score maps, and check that it matches.

Examples:
    anomaly verify RESULTS.json CONFIG CHECKPOINT
    anomaly verify RESULTS.json --predictions maps
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from anomaly.cli.evaluate import choose_source
from anomaly.cli.options import add_model, add_score_scale, data_root, read_datasets, result_path
from anomaly.cli.parser import command_parser
from anomaly.errors import InputError


def main(words: Sequence[str] | None = None) -> None:
    """Repeat the measurement with the record's settings; exit with status 1 if the result does not match."""
    parser = command_parser(__doc__, "anomaly verify")
    add = parser.add_argument
    add("results", type=result_path, metavar="RESULTS", help="results.json of `anomaly evaluate`")
    add_model(parser)
    add("--predictions", type=Path, metavar="DIR", help="score maps of the result, instead of a model")
    add_score_scale(add)
    add("--data-root", type=Path, metavar="DIR", help="folder that holds the datasets (default: data)")
    add(
        "--folder",
        nargs=2,
        type=Path,
        metavar=("IMAGES", "LABELS"),
        help="folders of the dataset, if it is not in the catalogue",
    )
    add("--label-values", nargs="+", metavar="V=MEANING", help="meaning of the values in LABELS")
    add("--tolerance", type=float, default=1e-6, help="largest difference of a metric (default: 1e-6)")
    args = parser.parse_args(words)
    if not 0 <= args.tolerance <= 0.01:
        raise InputError(f"--tolerance: expected a number from 0 to 0.01, found {args.tolerance}; correct it")

    from anomaly.api import Verification, closed_set_again, measure
    from anomaly.cli.progress import frame_progress, progress_of
    from anomaly.datasets.catalog import load_dataset
    from anomaly.evaluation.config import parse_calibration
    from anomaly.evaluation.repeat import in_current_names, repeated
    from anomaly.results.records import read_results
    from anomaly.results.verification import agreements, not_measured

    record = in_current_names(read_results(args.results))
    again = repeated(record)
    if len(again.own) > int(args.folder is not None):
        raise InputError(
            f"{args.results}: expected --folder IMAGES LABELS for {' and '.join(again.own)}, which is not in the "
            "catalogue, found none; give the folders"
        )
    if args.folder is not None and not again.own:
        raise InputError(f"--folder: {args.results} has only datasets of the catalogue; omit --folder")
    inference = again.inference
    args.sets, args.scores, args.post = again.datasets, again.scores, again.postprocessing
    args.limit, args.as_found = again.limit, again.as_found
    args.calibrate_on = again.calibrate_on
    args.folder_name = again.own[0] if again.own else None
    args.label_values = args.label_values or (again.label_values if again.own else None)
    for name, value in (("flip", inference.flip), ("scales", inference.scales), ("score_at", inference.resolution)):
        setattr(args, name, value)
    args.window, args.stride = (side and "x".join(map(str, side)) for side in (inference.window, inference.stride))
    args.batch, args.precision, args.threads = inference.batch, inference.precision, None
    args.no_closed_set = record.closed_set is None
    args.save_scores = None
    datasets = read_datasets(args)
    calibration = None
    if again.calibrate_on is not None:
        chosen = load_dataset(again.calibrate_on, data_root(args), as_found=args.as_found)
        calibration = parse_calibration(chosen.limit(args.limit or sys.maxsize), again.calibrate_by)
    source = choose_source(args, datasets, again.metrics, calibration)
    with frame_progress() as progress:
        result = measure(
            source.model,
            datasets,
            replace(source.evaluation, inference=inference) if source.model is not None else source.evaluation,
            inputs=source.inputs,
            record=source.record,
            closed_set=source.model is not None and closed_set_again(record, source.model, data_root(args)),
            limit=args.limit,
            report_images=0,
            progress=progress_of(progress),
        )
    found_again = in_current_names(result.record)
    verification = Verification(agreements(record, found_again, args.tolerance), not_measured(record, found_again))
    print(verification)
    sys.exit(int(not verification))
