"""Show what a network predicts for your images, in one HTML page. It needs no labels and gives no metrics.

The page shows heatmaps, predicted classes, and the pixels flagged at a threshold you choose. Without --model it uses
the shipped network as an example: a small one, trained only on synthetic street scenes.

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
    "This page shows the small shipped network. It was trained only on synthetic street scenes, so real images are "
    "anomalous to it everywhere. Use another network with `anomaly look --model CONFIG CHECKPOINT`."
)


def main(words: Sequence[str] | None = None) -> None:
    """Find the images, run the model on them, and write the page."""
    parser = command_parser(__doc__, "anomaly look", renamed={"--network": "--model"})
    add = parser.add_argument
    add("images", type=Path, metavar="DIR", help="a folder of images, at any depth")
    add("--out", type=Path, required=True, metavar="FILE", help="the page to write, such as look.html")
    default = "(default: the first two usual ones, such as gmm_nll and msp, or rba and eam of a mask classifier)"
    add("--scores", nargs="+", default=[], metavar="NAME", help=f"{SCORE_NAMES} {default}")
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
    if shipped := args.model is None:
        args.model = [str(path) for path in DEMO]
    source = network_source(args)

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
            notes=[EXAMPLE] if shipped else [],
            record=source.record,
            provenance=provenance(source.inputs),
            inference=source.evaluation.inference,
            on_frame=lambda: progress.advance(bar),
        )
    print(f"{args.out} shows {len(images)} images; open it in a browser")
