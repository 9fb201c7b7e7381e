"""Show what a network makes of your images, in one HTML page: no labels needed, no metrics given.

Heatmaps, predicted classes, and the pixels flagged at a threshold you choose. Without --model it is the small network
that is shipped, trained on synthetic street scenes alone: an example.

Examples:
    anomaly look images --out look.html
    anomaly look images --model CONFIG CHECKPOINT --scores gmm_nll energy --out look.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anomaly.cli.evaluate import network_source
from anomaly.cli.options import SCORE_NAMES, add_inference, add_model
from anomaly.cli.parser import command_parser
from anomaly.errors import InputError
from anomaly.utils.shipped import DEMO

EXAMPLE = (
    "This page shows the small network that is shipped. It was trained on synthetic street scenes alone, so real "
    "images are anomalous to it all over. `anomaly look --model CONFIG CHECKPOINT` takes another network."
)


def main(words: Sequence[str] | None = None) -> None:
    """Find the images, show them to the model, write the page."""
    parser = command_parser(__doc__, "anomaly look", renamed={"--network": "--model"})
    add = parser.add_argument
    add("images", type=Path, metavar="DIR", help="a folder of images, at any depth")
    add("--out", type=Path, required=True, metavar="FILE", help="the page, such as look.html")
    default = "(default: gmm_nll and msp; without mixtures msp and max_logit)"
    add("--scores", nargs="+", default=[], metavar="NAME", help=f"{SCORE_NAMES} {default}")
    add_model(parser, required=False, positional=False)
    add_inference(parser)
    parser.set_defaults(no_closed_set=True)
    args = parser.parse_args(words)
    if args.out.suffix != ".html" or not args.out.absolute().parent.is_dir() or args.out.is_dir():
        raise InputError(f"--out: expected a file that ends in .html, in a folder that is there, found {args.out}")

    from anomaly.datasets.folder import find_images

    images = find_images(args.images)
    if shipped := args.model is None:
        args.model = [str(path) for path in DEMO]
    source = network_source(args)

    from anomaly.cli.progress import frame_progress
    from anomaly.report.look import write_look
    from anomaly.results.provenance import provenance

    if source.model is None:
        raise InputError("expected a model, found none")
    name, scores = args.images.resolve().name, source.evaluation.scores
    with frame_progress() as progress:
        bar = progress.add_task(name, total=len(images))
        write_look(
            source.model,
            images,
            scores if args.scores else scores[:2],
            args.out,
            name=name,
            notes=[EXAMPLE] if shipped else [],
            record=source.record,
            provenance=provenance(source.inputs),
            inference=source.evaluation.inference,
            on_frame=lambda: progress.advance(bar),
        )
    print(f"{args.out} shows {len(images)} images; open it in a browser")
