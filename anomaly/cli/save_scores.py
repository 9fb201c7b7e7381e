"""Write score maps of images without labels.

Use it for test datasets whose labels are hidden, and for any folder of images. For datasets with labels, use
``anomaly evaluate --save-scores``.

Example:
    anomaly save-scores CONFIG CHECKPOINT --data anomaly_track-test --out maps
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anomaly.cli.evaluate import depends_on, network_source
from anomaly.cli.launch import add_launcher, launched
from anomaly.cli.options import SCORE_NAMES, add_inference, add_model, data_root
from anomaly.cli.parser import command_parser
from anomaly.errors import InputError
from anomaly.utils.processes import Processes


def main(words: Sequence[str] | None = None) -> None:
    """Find the images, run the model on them, and write score maps; a stopped run resumes."""
    parser = command_parser(__doc__, "anomaly save-scores", renamed={"--set": "--data"})
    add_model(parser)
    add = parser.add_argument
    add("--data", metavar="NAME", help="a dataset of the catalogue, such as anomaly_track-test")
    add("--images", type=Path, metavar="DIR", help="a folder of images instead")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write the maps to (docs/scores.md)")
    add("--scores", nargs="+", default=[], metavar="NAME", help=f"{SCORE_NAMES} (default: the usual ones)")
    add("--data-root", type=Path, metavar="DIR", help="folder that holds the datasets (default: data)")
    add_inference(parser)
    add_launcher(parser)
    parser.set_defaults(no_closed_set=True)
    args = parser.parse_args(words)
    with launched(args) as processes:
        _save(args, processes)


def _save(args: argparse.Namespace, processes: Processes) -> None:
    if (args.data is None) == (args.images is None):
        raise InputError("expected --data NAME or --images DIR, found both or neither; name one of them")
    if args.data is None and args.data_root is not None:
        raise InputError("--data-root: expected --data too, found --images; omit one of them")

    from anomaly.datasets.catalog import find_entry
    from anomaly.datasets.folder import find_images

    if args.data is None:
        name, images = args.images.name or args.images.resolve().name, find_images(args.images)
    else:
        name, images = args.data, find_entry(args.data).find_images(data_root(args))
    source = network_source(args)

    from anomaly.cli.progress import frame_progress
    from anomaly.evaluation.shares import image_share
    from anomaly.evaluation.write_scores import write_scores
    from anomaly.results.score_store import ScoreWriter, open_scores

    evaluation = source.evaluation
    made_by = {"method": source.record["name"], "settings": depends_on(source.inputs, evaluation.inference)}
    writer = processes.first_then_others(lambda: ScoreWriter(args.out, dataset=name, **made_by))
    if source.model is None:
        raise InputError("expected a model, found none; name CONFIG and CHECKPOINT")
    with frame_progress() as progress:
        bar = progress.add_task(name, total=len(image_share(images, evaluation.scores, writer, processes)))
        shown = write_scores(
            source.model,
            images,
            evaluation.scores,
            writer,
            inference=evaluation.inference,
            check=evaluation.check,
            on_frame=lambda: progress.advance(bar),
            processes=processes,
        )
    if others := sorted({frame for _, frame in open_scores(args.out)} - {frame for frame, _ in images}):
        print(
            f"note: {args.out} has score maps of {len(others)} other frames too, such as {others[0]}; remove them "
            "before you export the maps, unless you want them",
            file=sys.stderr,
        )
    print(f"{len(images)} frames are in {args.out}, {shown} of them new; docs/scores.md describes the files")
