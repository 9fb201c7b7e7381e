"""One page of one run, or of several side by side: ``python tools/report.py RESULTS... --out FILE.html``."""

from __future__ import annotations

import argparse
from pathlib import Path

from _run import run
from anomaly.errors import InputError
from anomaly.report.html import write_page


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("results", nargs="+", type=Path, metavar="RESULTS", help="results.json of tools/ood_eval.py --report")
    add("--out", type=Path, metavar="FILE", help="the page (default: report.html beside the first results.json)")
    args = parser.parse_args()
    out = args.out or args.results[0].parent / "report.html"
    if out.suffix != ".html" or not out.absolute().parent.is_dir():
        raise InputError(f"--out: expected a file that ends in .html, in a folder that is there; found {out}")
    write_page(args.results, out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run(main)
