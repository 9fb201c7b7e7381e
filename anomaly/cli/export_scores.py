"""Write score maps in the layout that SegmentMeIfYouCan's evaluation reads.

Example:
    anomaly export-scores maps --method gmmseg --set anomaly_track-test --out submission
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anomaly.cli.options import add_datasets, add_score_scale, open_maps, read_datasets
from anomaly.cli.parser import command_parser
from anomaly.errors import InputError


def main(words: Sequence[str] | None = None) -> None:
    """Read the maps of one dataset, write them in float16, and report what that changed."""
    parser = command_parser(__doc__, "anomaly export-scores")
    add = parser.add_argument
    add("maps", type=Path, help="score maps of one dataset, in any format of docs/scores.md")
    add("--score", metavar="NAME", help="name of the score (required if there are several)")
    add("--method", required=True, metavar="NAME", help="name of the method in SegmentMeIfYouCan")
    add(
        "--set",
        dest="dataset",
        required=True,
        metavar="NAME",
        help="name of the dataset in SegmentMeIfYouCan, such as AnomalyTrack-validation",
    )
    add(
        "--out",
        required=True,
        type=Path,
        metavar="DIR",
        help="its DIR_OUTPUTS; files are written to DIR/anomaly_p/METHOD/SET",
    )
    add_score_scale(add)
    add_datasets(parser)
    args = parser.parse_args(words)

    from anomaly.results.score_export import write_smiyc
    from anomaly.results.score_formats.base import check_scale
    from anomaly.results.score_store import open_scores

    scale = check_scale(args.score_scale)
    if not (args.sets or args.folder) and (extra := args.given & {"data_root", "limit", "as_found", "label_values"}):
        options = ", ".join(sorted("--" + name.replace("_", "-") for name in extra))
        raise InputError(f"{options}: expected --data or --folder too, which they belong to, found neither; name one")
    datasets = read_datasets(args) if args.sets or args.folder else []
    if len(datasets) > 1:
        raise InputError(f"expected one dataset, the one of the maps, found {len(datasets)}; name one")
    stored = open_maps(args.maps, datasets[0], scale) if datasets else open_scores(args.maps, scale=scale)
    score = stored.scores[0] if args.score is None and len(stored.scores) == 1 else args.score
    if score not in stored.scores:
        raise InputError(
            f"--score: expected one of {', '.join(stored.scores)}, found {score or 'none'}; name one of them"
        )
    labels = {}
    for frame in datasets[0] if datasets else ():
        stored.check(frame.id, [score], frame.image_hash)
        labels[frame.id] = frame.label
    print(write_smiyc(stored, score, args.out, method=args.method, dataset=args.dataset, labels=labels or None))
