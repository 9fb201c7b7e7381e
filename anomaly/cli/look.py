"""Show what a network predicts for your images, in one HTML page. It needs no labels and gives no metrics.

The page shows heatmaps, predicted classes, and the pixels flagged at a threshold you choose. With --ordinary it first
fits a detector to a folder of ordinary images, and shows what is unlike them. With neither --ordinary nor --model it
uses the shipped network as an example: a small one, trained only on synthetic street scenes.

Examples:
    anomaly look new_images --ordinary usual_images --out look.html
    anomaly look images --model CONFIG CHECKPOINT --scores gmm_nll energy --out look.html
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly.cli.evaluate import network_source
from anomaly.cli.fit import add_densities, fit_densities
from anomaly.cli.options import (
    SCORE_NAMES,
    add_inference,
    add_model,
    by_windows,
    check_score_names,
    model_words,
    read_model,
)
from anomaly.cli.parser import check_seed, command_parser
from anomaly.errors import InputError
from anomaly.utils.processes import ALONE
from anomaly.utils.shipped import DEMO

if TYPE_CHECKING:
    from anomaly.models.fitted import FittedModel

EXAMPLE = (
    "This page shows the small shipped network. It was trained only on synthetic street scenes, so real images are "
    "anomalous to it everywhere. Use another network with `anomaly look --model CONFIG CHECKPOINT`."
)


FITTED = (
    "The detector was fitted to {} ordinary images of {}. High scores are places that are unlike them; they "
    "need not be dangerous, and what looks ordinary need not be safe."
)


def main(words: Sequence[str] | None = None) -> None:
    """Find the images, run the model on them, and write the page."""
    parser = command_parser(__doc__, "anomaly look", renamed={"--network": "--model"})
    add = parser.add_argument
    add("images", type=Path, metavar="DIR", help="a folder of images, at any depth")
    add("--out", type=Path, required=True, metavar="FILE", help="the page to write, such as look.html")
    default = "(default: the first two usual ones, such as gmm_nll and msp, or rba and eam of a mask classifier)"
    add("--scores", nargs="+", default=[], metavar="NAME", help=f"{SCORE_NAMES} {default}")
    ordinary = "fit a detector to these ordinary images first; they need no labels"
    add("--ordinary", type=Path, metavar="DIR", help=ordinary)
    add_densities(parser)
    add_model(parser, required=False, positional=False)
    add_inference(parser)
    parser.set_defaults(no_closed_set=True)
    args = parser.parse_args(words)
    if args.out.suffix != ".html" or not args.out.absolute().parent.is_dir() or args.out.is_dir():
        raise InputError(
            f"--out: expected a file name that ends in .html, in an existing folder, found {args.out}; choose such a "
            "name"
        )

    from anomaly.datasets.folder import find_images

    images = find_images(args.images)
    shipped = args.model is None and args.fitted is None and args.ordinary is None
    if shipped:
        args.model = [str(path) for path in DEMO]
    model, seen = None, 0
    if args.ordinary is not None:
        model = _fitted(args)
        seen = model.fit_record["images"]
    elif lost := [name for name in ("backbone", "own", "outliers", "limit", "seed") if name in args.given]:
        raise InputError(f"--{lost[0]}: expected --ordinary FOLDER, which it is for, found none; add it, or omit it")
    source = network_source(args, model=model)

    from anomaly.cli.progress import frame_progress
    from anomaly.report.look import write_look
    from anomaly.results.provenance import provenance

    if source.model is None:
        raise InputError("expected a model, found none; name CONFIG and CHECKPOINT")
    name, scores = args.images.resolve().name, source.evaluation.scores
    with frame_progress() as progress:
        bar = progress.add_task(name, total=len(images))
        write_look(
            source.model,
            images,
            scores if args.scores else scores[:2],
            args.out,
            name=name,
            notes=[EXAMPLE] if shipped else [FITTED.format(seen, args.ordinary)] if seen else [],
            record=source.record,
            provenance=provenance(source.inputs),
            inference=source.evaluation.inference,
            on_frame=lambda: progress.advance(bar),
        )
    print(f"{args.out} shows {len(images)} images; open it in a browser")


def _fitted(args: argparse.Namespace) -> FittedModel:
    """Fit the detector, or the densities of the model, to the ordinary images."""
    from anomaly.cli.config_options import CHECKPOINT_FOLLOWS, LOOKING, Reads
    from anomaly.fitting.images import folder_of_images

    if args.fitted is not None:
        raise InputError("--fitted: expected it without --ordinary, which fits anew, found both; omit one")
    if min(args.limit, 1) < 1:
        raise InputError(f"--limit: expected 1 or more, found {args.limit}; correct it")
    check_seed(args.seed)
    check_score_names(args.scores)
    images = folder_of_images(args.ordinary)
    named = bool(model_words(args))
    model = read_model(args, Reads(LOOKING, {**CHECKPOINT_FOLLOWS, **by_windows(args)})) if named else None
    fitted, seconds = fit_densities(args, model, images, ALONE)
    print(f"fitted to {fitted.fit_record['images']} images of {args.ordinary} in {seconds:.0f} s")
    return fitted
