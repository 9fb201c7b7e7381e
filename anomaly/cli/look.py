"""Show what a network makes of your images, in one HTML page: no labels needed, no figures given.

Heatmaps, predicted classes, and what a threshold would call anomalous. Without --network it is the small one that is
shipped, trained on generated street scenes alone: an example.

Examples:
    python tools/look.py images --out look.html
    python tools/look.py images --network CONFIG CHECKPOINT --scores gmm_nll energy --out look.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anomaly.cli.inference import add_inference
from anomaly.cli.network import choose_network
from anomaly.cli.parser import command_parser
from anomaly.cli.progress import frame_progress
from anomaly.datasets.folder import find_images
from anomaly.errors import InputError
from anomaly.scores.registry import SCORES

EXAMPLE = (
    "The network of this page is the small one that is shipped. It was trained on generated street scenes alone, so a "
    "real image is strange to it all over. tools/look.py --network CONFIG CHECKPOINT takes another."
)
ROOT = Path(__file__).resolve().parents[1]
SHIPPED = (ROOT / "configs/demo/segformer-gmmseg_street_scenes.py", ROOT / "checkpoints/street_scenes.pth")


def main(words: Sequence[str] | None = None) -> None:
    """Find the images, show them to the network, write the page."""
    parser = command_parser(__doc__, "anomaly look")
    add = parser.add_argument
    add("images", type=Path, metavar="DIR", help="a folder of images, at any depth")
    add("--network", nargs=2, type=Path, default=SHIPPED, metavar=("CONFIG", "CHECKPOINT"), help="(default: shipped)")
    add("--out", type=Path, required=True, metavar="FILE", help="the page, such as look.html")
    default = "(default: gmm_nll and msp; without mixtures msp and max_logit)"
    add("--scores", nargs="+", default=[], metavar="NAME", help=f"of {', '.join(SCORES)} {default}")
    add("--device", help="such as cpu or cuda:0 (default: cuda where there is one)")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings to override")
    add_inference(parser)
    parser.set_defaults(no_closed_set=True, save_scores=None, limit=None, data_root=None)
    args = parser.parse_args(words)
    args.config, args.checkpoint = args.network
    if args.out.suffix != ".html" or not args.out.absolute().parent.is_dir() or args.out.is_dir():
        raise InputError(f"--out: expected a file that ends in .html, in a folder that is there, found {args.out}")
    images = find_images(args.images)
    chosen = choose_network(args, [])

    from anomaly.report.look import write_look
    from anomaly.results.provenance import provenance

    if chosen.subject.detector is None:
        raise InputError("expected a network, found none")
    name = args.images.resolve().name
    with frame_progress() as progress:
        bar = progress.add_task(name, total=len(images))
        write_look(
            *(chosen.subject.detector, images, chosen.scores if args.scores else chosen.scores[:2], args.out),
            name=name,
            notes=[EXAMPLE] if tuple(args.network) == SHIPPED else [],
            model=chosen.subject.model,
            provenance=provenance(chosen.inputs),
            inference=chosen.subject.inference,
            on_frame=lambda: progress.advance(bar),
        )
    print(f"{args.out} shows {len(images)} images; open it in a browser")
