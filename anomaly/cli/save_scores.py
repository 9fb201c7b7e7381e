"""Score maps of images without labels.

For test splits whose labels are hidden, and for any folder of images. Those of sets with labels are written by
``ood_eval.py --save-scores``.

Example:
    python tools/save_scores.py CONFIG CHECKPOINT --set anomaly_track-test --out maps
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from anomaly.cli.inference import add_inference
from anomaly.cli.network import choose_network, depends_on
from anomaly.cli.parser import command_parser
from anomaly.cli.progress import frame_progress
from anomaly.cli.datasets import data_root
from anomaly.datasets.catalog import find_entry
from anomaly.datasets.folder import find_images
from anomaly.errors import InputError
from anomaly.results.score_store import ScoreWriter, open_scores
from anomaly.scores.registry import SCORES


def main(words: Sequence[str] | None = None) -> None:
    """Find the images, show them to the network, write; a stopped run goes on where it stopped."""
    parser = command_parser(__doc__, "anomaly save-scores")
    add = parser.add_argument
    add("config", type=Path, help="a config file, such as those in configs/")
    add("checkpoint", type=Path, help="a checkpoint of that network")
    add("--set", metavar="NAME", help="a set of the catalogue, such as anomaly_track-test")
    add("--images", type=Path, metavar="DIR", help="a folder of images instead")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the maps (docs/scores.md)")
    add("--scores", nargs="+", default=[], metavar="NAME", help=f"of {', '.join(SCORES)} (default: the usual ones)")
    add("--data-root", type=Path, metavar="DIR", help="folder that holds the data sets (default: data)")
    add("--device", help="such as cpu or cuda:0 (default: cuda where there is one)")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings to override")
    add_inference(parser)
    parser.set_defaults(no_closed_set=True, save_scores=None, limit=None)
    args = parser.parse_args(words)
    if (args.dataset is None) == (args.images is None):
        raise InputError("expected --set NAME or --images DIR, found both or neither; name one of them")
    if args.dataset is None and args.data_root is not None:
        raise InputError("--data-root: expected --set too, which is looked for there, found --images; leave one out")
    if args.dataset is None:
        name, images = args.images.name or args.images.resolve().name, find_images(args.images)
    else:
        name, images = args.dataset, find_entry(args.dataset).find_images(data_root(args))
    chosen = choose_network(args, [])

    from anomaly.evaluation.writing import write_scores

    inference = chosen.subject.inference
    made_by = depends_on(chosen.inputs, inference)
    writer = ScoreWriter(args.out, dataset=name, method=args.config.stem, settings=made_by)
    if chosen.subject.detector is None:
        raise InputError("expected a network, found none")
    with frame_progress() as progress:
        bar = progress.add_task(name, total=len(images))
        on_frame = lambda: progress.advance(bar)  # noqa: E731
        shown = write_scores(
            *(chosen.subject.detector, images, chosen.scores, writer),
            inference=inference,
            check=chosen.subject.check,
            on_frame=on_frame,
        )
    if others := sorted({frame for _, frame in open_scores(args.out)} - {frame for frame, _ in images}):
        print(
            f"note: {args.out} has score maps of {len(others)} other frames too, such as {others[0]}; remove them if "
            "they are not to be exported",
            file=sys.stderr,
        )
    print(f"{len(images)} frames are in {args.out}, {shown} of them new (docs/scores.md)")
