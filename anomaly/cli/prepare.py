"""The subcommands of ``prepare_data.py``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from anomaly.cli.catalogue_text import catalogue_text, report_text
from anomaly.cli.progress import download_progress, frame_progress
from anomaly.datasets.catalog import find_entry, open_anyhow
from anomaly.datasets.check import check_dataset
from anomaly.datasets.download import Download, sha256_of
from anomaly.datasets.obtain import obtain
from anomaly.errors import InputError

Commands = Any  # argparse's own type for them is private


def add_list(commands: Commands) -> None:
    """Add ``list``."""
    parser = commands.add_parser("list", help="print the catalogue")
    parser.set_defaults(prepare=lambda arguments: print(catalogue_text()))


def add_check(commands: Commands) -> None:
    """Add ``check``."""
    parser = commands.add_parser("check", help="read every file of a set; status 1 if anything is wrong")
    parser.add_argument("name", help="of the catalogue (prepare_data.py list)")
    parser.add_argument("root", type=Path, nargs="?", default=Path("data"), help="its folder, or that of sets (data)")
    parser.set_defaults(prepare=_check)


def _check(arguments: argparse.Namespace) -> None:
    entry = find_entry(arguments.name)
    split, refused = open_anyhow(arguments.name, arguments.root)
    with frame_progress() as progress:
        bar = progress.add_task(split.name, total=len(split))
        report = check_dataset(split, refused, anomalies=entry.anomalies, on_frame=lambda: progress.advance(bar))
    print(report_text(split, report, entry.title))
    if report.faults:
        sys.exit(1)


def add_download(commands: Commands) -> None:
    """Add ``download``."""
    parser = commands.add_parser("download", help="fetch a set, go on where it stopped, verify and unpack it")
    parser.add_argument("name", help="of the catalogue (prepare_data.py list)")
    parser.add_argument("--data-root", type=Path, default=Path("data"), metavar="DIR", help="(default: data)")
    parser.add_argument("--accept-licence", action="store_true", help="say yes to the set's terms beforehand")
    parser.set_defaults(prepare=_download)


def _download(arguments: argparse.Namespace) -> None:
    entry = find_entry(arguments.name)
    print(f"{entry.title}\nhome     {entry.home}\ncite     {entry.citation}\nlicence  {entry.licence}")
    if entry.downloads and not arguments.accept_licence:
        answer = input("Do you accept these terms? yes or no: ") if sys.stdin.isatty() else ""
        if answer.strip().lower() != "yes":
            raise InputError(
                f"{entry.name}: expected a yes to its terms, found none; accept them with --accept-licence"
            )
    with download_progress() as progress:

        def on_file(download: Download) -> Any:
            bar = progress.add_task(download.file, total=download.size)
            return lambda done, total: progress.update(bar, completed=done, total=total)

        folder = obtain(entry, arguments.data_root, on_file=on_file)
    for download in entry.downloads:
        checked = "as published" if download.sha256 or download.md5 else "none is published to compare it with"
        print(f"{download.file}: SHA-256 {sha256_of(arguments.data_root / 'downloads' / download.file)} ({checked})")
    print(f"{entry.name} is in {folder}; check it with: python tools/prepare_data.py check {entry.name} {folder}")
