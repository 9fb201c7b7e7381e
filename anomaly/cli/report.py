"""Write the HTML report of one result of anomaly evaluate --report, or of several side by side.

Examples:
    anomaly report work_dirs/run/results.json
    anomaly report a/results.json b/results.json --out both.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anomaly.cli.options import result_path
from anomaly.cli.parser import command_parser
from anomaly.errors import InputError


def main(words: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = command_parser(__doc__, "anomaly report")
    add = parser.add_argument
    add("results", nargs="+", type=result_path, metavar="RESULTS", help="results.json of anomaly evaluate --report")
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help="the page to write (default: report.html beside the first results.json)",
    )
    add(
        "--megabytes",
        type=float,
        metavar="MB",
        help="size limit of the page; beyond it, fewer images are shown (default: 40)",
    )
    args = parser.parse_args(words)
    for path in args.results:
        if not path.is_file():
            raise InputError(
                f"{path}: expected results.json of anomaly evaluate --report, found no such file; check the path"
            )
    out = args.out or args.results[0].parent / "report.html"
    if out.suffix != ".html" or not out.absolute().parent.is_dir():
        raise InputError(
            f"--out: expected a file name that ends in .html, in an existing folder, found {out}; choose such a name"
        )

    from anomaly.report.html import MEGABYTES, write_page

    write_page(args.results, out, MEGABYTES if args.megabytes is None else args.megabytes)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
