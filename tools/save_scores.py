"""Score maps of photographs without labels.

For test splits whose labels are hidden, and for any folder of photographs. Those of sets with labels are written by
``ood_eval.py --save-scores``.

Example:
    python tools/save_scores.py CONFIG CHECKPOINT --set anomaly_track-test --out maps
"""

from __future__ import annotations

import sys
from pathlib import Path

import _environment  # noqa: F401
from _inference import add_inference
from _network import choose_network, depends_on
from _parser import tool_parser
from _progress import frame_progress
from _run import run
from _sets import data_root
from anomaly.datasets.catalog import find_set
from anomaly.datasets.folder import find_photographs
from anomaly.errors import InputError
from anomaly.score_store import ScoreWriter, open_scores
from anomaly.scores.table import SCORES


def main() -> None:
    """Find the photographs, show them to the network, write; a stopped run goes on where it stopped."""
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add("config", type=Path, help="a config file, such as those in configs/")
    add("checkpoint", type=Path, help="a checkpoint of that network")
    add("--set", metavar="NAME", help="a set of the catalogue, such as anomaly_track-test")
    add("--images", type=Path, metavar="DIR", help="a folder of photographs instead")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the maps (docs/scores.md)")
    add("--scores", nargs="+", default=[], metavar="NAME", help=f"of {', '.join(SCORES)} (default: the usual ones)")
    add("--data-root", type=Path, metavar="DIR", help="folder that holds the data sets (default: data)")
    add("--device", help="such as cpu or cuda:0 (default: cuda where there is one)")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings to override")
    add_inference(parser)
    parser.set_defaults(no_closed_set=True, save_scores=None, limit=None)
    args = parser.parse_args()
    if (args.set is None) == (args.images is None):
        raise InputError("expected --set NAME or --images DIR, found both or neither; name one of them")
    if args.set is None and args.data_root is not None:
        raise InputError("--data-root: expected --set too, which is looked for there, found --images; leave one out")
    if args.set is None:
        name, photographs = args.images.name or args.images.resolve().name, find_photographs(args.images)
    else:
        name, photographs = args.set, find_set(args.set).photographs(data_root(args))
    chosen = choose_network(args, [])

    from anomaly.writing import write_scores

    inference = chosen.subject.inference
    made_by = depends_on(chosen.inputs, inference)
    writer = ScoreWriter(args.out, set=name, method=args.config.stem, settings=made_by)
    if chosen.subject.detector is None:
        raise InputError("expected a network, found none")
    with frame_progress() as progress:
        bar = progress.add_task(name, total=len(photographs))
        on_frame = lambda: progress.advance(bar)  # noqa: E731
        shown = write_scores(
            *(chosen.subject.detector, photographs, chosen.scores, writer),
            inference=inference,
            check=chosen.subject.check,
            on_frame=on_frame,
        )
    if others := sorted({frame for _, frame in open_scores(args.out)} - {frame for frame, _ in photographs}):
        print(
            f"note: {args.out} has score maps of {len(others)} other frames too, such as {others[0]}; remove them if "
            "they are not to be exported",
            file=sys.stderr,
        )
    print(f"{len(photographs)} frames are in {args.out}, {shown} of them new (docs/scores.md)")


if __name__ == "__main__":
    run(main)
