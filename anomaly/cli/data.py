"""List, check or download datasets, generate street scenes, or paste synthetic anomalies.

Examples:
    anomaly data list
    anomaly data check road_anomaly data
    anomaly data download anomaly_track-val
    anomaly data street_scenes --train 100
    anomaly data paste images labels --cutouts cutouts --out pasted --ground 0 1 --known-classes 11 13
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly.cli.parser import command_parser
from anomaly.errors import InputError

if TYPE_CHECKING:
    from anomaly.datasets.check import SetReport
    from anomaly.datasets.dataset import Dataset
    from anomaly.datasets.download import Download

Commands = Any  # argparse's own type of subcommands is private


def main(words: Sequence[str] | None = None) -> None:
    """Parse the command line and run the subcommand."""
    parser = command_parser(__doc__, "anomaly data")
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (add_list, add_check, add_download, add_street_scenes, add_paste):
        add(commands)
    args = parser.parse_args(words)
    args.act(args)


def add_list(commands: Commands) -> None:
    """Add the subcommand ``list``."""
    parser = commands.add_parser("list", help="print the catalogue")
    parser.set_defaults(act=lambda arguments: print(catalogue_text()))


def add_check(commands: Commands) -> None:
    """Add the subcommand ``check``."""
    parser = commands.add_parser("check", help="read every file of a dataset; exits with status 1 if anything is wrong")
    parser.add_argument("name", help="name in the catalogue (`anomaly data list`)")
    parser.add_argument(
        "root",
        type=Path,
        nargs="?",
        default=Path("data"),
        help="folder of the dataset, or of all datasets (default: data)",
    )
    parser.set_defaults(act=_check)


def _check(arguments: argparse.Namespace) -> None:
    from anomaly.cli.progress import frame_progress
    from anomaly.datasets.catalog import find_entry, open_anyhow
    from anomaly.datasets.check import check_dataset

    entry = find_entry(arguments.name)
    dataset, refused = open_anyhow(arguments.name, arguments.root)
    with frame_progress() as progress:
        bar = progress.add_task(dataset.name, total=len(dataset))
        report = check_dataset(dataset, refused, anomalies=entry.anomalies, on_frame=lambda: progress.advance(bar))
    print(report_text(dataset, report, entry.title))
    if report.faults:
        sys.exit(1)


def add_download(commands: Commands) -> None:
    """Add the subcommand ``download``."""
    parser = commands.add_parser("download", help="download a dataset, resume a stopped download, verify and unpack it")
    parser.add_argument("name", help="name in the catalogue (`anomaly data list`)")
    parser.add_argument(
        "--data-root",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="folder that holds the datasets (default: data)",
    )
    parser.add_argument(
        "--accept-licence", action="store_true", help="accept the terms of the dataset without being asked"
    )
    parser.set_defaults(act=_download)


def _download(arguments: argparse.Namespace) -> None:
    from anomaly.cli.progress import download_progress
    from anomaly.datasets.catalog import find_entry
    from anomaly.datasets.download import sha256_of
    from anomaly.datasets.obtain import obtain

    entry = find_entry(arguments.name)
    print(f"{entry.title}\nhome     {entry.home}\ncite     {entry.citation}\nlicence  {entry.licence}")
    if entry.downloads and not arguments.accept_licence:
        answer = input("Do you accept these terms? yes or no: ") if sys.stdin.isatty() else ""
        if answer.strip().lower() != "yes":
            raise InputError(
                f"{entry.name}: expected that you accept the terms, found no yes; accept them with --accept-licence"
            )
    with download_progress() as progress:

        def on_file(download: Download) -> Any:
            bar = progress.add_task(download.file, total=download.size)
            return lambda done, total: progress.update(bar, completed=done, total=total)

        folder = obtain(entry, arguments.data_root, on_file=on_file)
    for download in entry.downloads:
        checked = "as published" if download.sha256 or download.md5 else "no checksum is published"
        print(f"{download.file}: SHA-256 {sha256_of(arguments.data_root / 'downloads' / download.file)} ({checked})")
    print(f"{entry.name} is in {folder}; check it with: anomaly data check {entry.name} {folder}")


def add_street_scenes(commands: Any) -> None:
    """Add the subcommand ``street_scenes``."""
    parser = commands.add_parser(
        "street_scenes",
        help="write the generated street scenes",
        description="write the generated street scenes",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--root", type=Path, default=Path("data/street_scenes"), help="folder to write to")
    parser.add_argument("--train", type=int, default=240, metavar="N", help="training frames")
    parser.add_argument("--val", type=int, default=40, metavar="N", help="validation frames")
    parser.add_argument("--open-world", type=int, default=40, metavar="N", help="open-world frames")
    parser.add_argument("--size", default="360x480", metavar="HxW", help="height and width in pixels")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the scenes")
    parser.set_defaults(act=_write_street_scenes)


def _write_street_scenes(arguments: argparse.Namespace) -> None:
    from anomaly.cli.progress import frame_progress
    from anomaly.datasets.street_scenes import write_street_scenes

    size = _parse_size(arguments.size)
    with frame_progress() as bar:
        task = bar.add_task("street scenes", total=None)
        write_street_scenes(
            arguments.root,
            train=arguments.train,
            val=arguments.val,
            open_world=arguments.open_world,
            size=size,
            seed=arguments.seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    print(f"street scenes are in {arguments.root}")


def _parse_size(text: str) -> tuple[int, int]:
    height, by, width = text.lower().partition("x")
    if not (by and height.isdecimal() and width.isdecimal()):
        raise InputError(f"--size: expected HEIGHTxWIDTH such as 360x480, found {text!r}; write it so")
    return int(height), int(width)


def add_paste(commands: Any) -> None:
    """Add the subcommand ``paste``."""
    from anomaly.datasets.pasting.settings import PasteSettings

    usual = PasteSettings()
    parser = commands.add_parser(
        "paste",
        help="make synthetic anomalies: paste cut-outs into ordinary labelled images",
        description="Paste cut-outs into ordinary labelled images as synthetic anomalies, for calibrating. Never "
        "report metrics on them as those of a benchmark.",
    )
    add = parser.add_argument
    add("images", type=Path, metavar="IMAGES", help="folder of ordinary images")
    add("labels", type=Path, metavar="LABELS", help="folder of their label maps: PNG files of class indices")
    add("--cutouts", type=Path, required=True, metavar="DIR", help="objects to paste: images with an alpha channel")
    add("--cutout-masks", type=Path, metavar="DIR", help="masks of cut-outs without alpha: not 0 at the object")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to make; it must not exist, or be empty")
    add(
        "--ground",
        type=int,
        nargs="+",
        default=[],
        metavar="CLASS",
        help="classes that objects stand on, such as road and pavement (default: anywhere in the lower half)",
    )
    add(
        "--known-classes",
        type=int,
        nargs="+",
        default=[],
        metavar="CLASS",
        help="classes, such as car and person, whose regions are cut out and pasted as known objects (default: none)",
    )
    count = usual.objects_per_image
    add("--objects-per-image", type=int, default=count, metavar="N", help=f"cut-outs in an image (default: {count})")
    add("--known-per-image", type=int, metavar="N", help="known objects in an image (default: as many as cut-outs)")
    add(
        "--height",
        type=float,
        nargs=2,
        default=usual.height,
        metavar=("A", "B"),
        help="smallest and largest height of an object on the lowest row, as a share of the height of the image; it "
        "falls to 0 at the horizon (default: {:g} {:g})".format(*usual.height),
    )
    add(
        "--horizon",
        type=float,
        default=usual.horizon,
        metavar="SHARE",
        help=f"row of the horizon, as a share of the height of the image from its top (default: {usual.horizon:g})",
    )
    add(
        "--matching",
        type=float,
        default=usual.matching,
        metavar="S",
        help="how far brightness and colours are matched to the surroundings, 0 (not at all) to 1 (default: "
        f"{usual.matching:g})",
    )
    add("--limit", type=int, metavar="N", help="number of images to make (default: all)")
    add("--seed", type=int, default=usual.seed, metavar="K", help=f"seed of all draws (default: {usual.seed})")
    parser.set_defaults(act=_paste)


def _paste(arguments: argparse.Namespace) -> None:
    from anomaly.cli.progress import frame_progress
    from anomaly.datasets.paste import PURPOSE, PasteSettings, paste_objects

    settings = PasteSettings(
        ground=tuple(arguments.ground),
        known_classes=tuple(arguments.known_classes),
        objects_per_image=arguments.objects_per_image,
        known_per_image=arguments.known_per_image,
        height=tuple(arguments.height),
        horizon=arguments.horizon,
        matching=arguments.matching,
        seed=arguments.seed,
    )
    with frame_progress() as bar:
        task = bar.add_task("pasting", total=None)
        record = paste_objects(
            arguments.images,
            arguments.labels,
            arguments.cutouts,
            arguments.out,
            settings,
            cutout_masks=arguments.cutout_masks,
            limit=arguments.limit,
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    print(f"{len(record['images'])} synthetic images are in {arguments.out}: {PURPOSE}")
    print(f"read them with: --data pasted_objects --data-root {shlex.quote(str(arguments.out))}")


# What is printed.

_MEANING = {0: "known", 1: "anomaly", 255: "ignored"}


def catalogue_text() -> str:
    """A line for each dataset: name, number of frames (``?`` if not confirmed), labels, how to get it, title."""
    from anomaly.datasets.catalog import SETS

    lines = [f"{'name':<34}{'frames':>6}  {'labels':<10}{'get it':<9} dataset"]
    for one in SETS.values():
        labels = "hidden" if one.hidden else "anomalies" if one.anomalies else "classes"
        how = "download" if one.downloads else "generate" if one.obtain else "by hand"
        lines.append(f"{one.name:<34}{one.frames or '?':>6}  {labels:<10}{how:<9} {one.title}")
    return "\n".join(lines)


def report_text(dataset: Dataset, report: SetReport, title: str) -> str:
    """The report of :func:`anomaly.datasets.check.check_dataset` as text; faults come last.

    Args:
        dataset: The dataset.
        report: The report.
        title: Title of the dataset in the catalogue.
    """
    frames = f"{report.frames}" + ("" if dataset.published is None else f" ({dataset.published} published)")
    sizes = ", ".join(f"{width}x{height} ({count})" for (width, height), count in sorted(report.sizes.items()))
    total = max(1, sum(report.values.values()))
    values = [
        f"  {value:>3} {_MEANING[dataset.encoding[value]]:<8} {count:>14,} {100 * count / total:7.3f} %"
        for value, count in report.values.items()
    ]
    lines = [f"{dataset.name}: {title}", f"folder       {dataset.root}", f"layout       {dataset.layout}"]
    lines += [f"frames       {frames}", f"sizes        {sizes or '-'}", "label values, their meaning, pixels", *values]
    if report.anomaly:
        lines.append(
            f"anomaly      {100 * report.share:.2f} % of all pixels, "
            f"{100 * report.smallest_share:.2f} % to {100 * report.largest_share:.2f} % of a frame's"
        )
    if report.without_anomaly:
        names = ", ".join(report.without_anomaly[:3]) + (", ..." if len(report.without_anomaly) > 3 else "")
        lines.append(f"             {len(report.without_anomaly)} frames have none: {names}")
    lines.append(f"fingerprint  {report.fingerprint}")
    lines += [f"note         {note}: read as it is, and noted in every result" for note in report.notes]
    lines.append(f"faults       {len(report.faults) or 'none'}")
    return "\n".join([*lines, *(f"  - {fault}" for fault in report.faults)])
