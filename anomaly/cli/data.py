"""List, check or download datasets, or generate street scenes.

Examples:
    anomaly data list
    anomaly data check road_anomaly data
    anomaly data download anomaly_track-val
    anomaly data street_scenes --train 100
"""

from __future__ import annotations

import argparse
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
    for add in (add_list, add_check, add_download, add_street_scenes):
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
