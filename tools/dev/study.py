"""Collect the results of the study in docs/study.md, which describes its runs, and write its tables and plots.

``collect`` stores the results of the runs in ``results/study.json``, or those of another schedule in a separate record.
``write`` inserts tables and plots of all records into ``docs/study.md``.

Examples:
    python tools/dev/study.py collect study
    python tools/dev/study.py collect study_longer --name longer
    python tools/dev/study.py write
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib

from anomaly.cli.parser import command_parser

matplotlib.use("Agg")

import study_tables as tables
from anomaly.cli.process import run
from anomaly.utils.files import write_whole
from study_plots import likelihoods_plot, metrics_plot
from study_record import gather, in_current_names

ROOT = Path(__file__).resolve().parents[2]
PAGE, PLOT = ROOT / "docs/study.md", ROOT / "docs/images/study.png"
RECORDS = {"": ROOT / "results/study.json", "longer": ROOT / "results/study_longer.json"}
SPREAD = PLOT.with_name("study_likelihoods.png")
CHAIN = "guided:radius=8:eps=0.01"
MARK = re.compile(
    r"(<!-- (?P<what>\w+)(?: of (?P<network>[\w-]+))?(?: in (?P<record>\w+))? -->\n).*?(<!-- end -->)", re.S
)
ROWS = (
    *(("softmax", score) for score in ("msp", "entropy", "energy", "best")),
    *(("softmax-posthoc", "gmm_nll"), ("gmmseg", "energy"), ("gmmseg", "gmm_nll"), ("gmmseg", "best")),
    *(("softmax-frozen", "gmm_nll"), ("gmmseg-frozen", "gmm_nll")),
)
DRAWN = tuple(row for row in ROWS if row[1] != "best")


def page(text: str, studies: dict[str, dict[str, Any]]) -> str:
    """The page with new tables, made from the records by name."""

    def made(found: re.Match[str]) -> str:
        study = in_current_names(studies[found["record"] or ""])
        table = {
            "headline": lambda: tables.headline(study, ROWS),
            "scores": lambda: tables.all_scores(study, found["network"], CHAIN),
            "paired": lambda: tables.paired(study),
            "ablation": lambda: tables.ablation(study),
        }[found["what"]]()
        return f"{found[1]}\n{table}\n{found[5]}"

    return MARK.sub(made, text)


def main() -> None:
    """Collect, or write."""
    parser = command_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    collect = commands.add_parser("collect")
    collect.add_argument("work", type=Path, metavar="WORK_DIR", help="folder of the runs")
    collect.add_argument("--name", choices=RECORDS, default="", help="name of the record (default: the study itself)")
    commands.add_parser("write")
    args = parser.parse_args()
    if args.command == "collect":
        record = RECORDS[args.name]
        write_whole(record, json.dumps(gather(args.work), indent=1) + "\n")
        return
    studies = {name: json.loads(record.read_text()) for name, record in RECORDS.items()}
    PAGE.write_text(page(PAGE.read_text(), studies))
    metrics_plot(studies[""], DRAWN).savefig(PLOT, dpi=110)
    likelihoods_plot(studies[""]).savefig(SPREAD, dpi=80)


if __name__ == "__main__":
    run(main)
