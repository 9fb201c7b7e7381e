"""Gather and write up the study of docs/study.md, which says how its runs are made.

``collect`` gathers the results of the runs in ``results/study.json``, ``write`` puts tables and plot of that into
``docs/study.md``.

Examples:
    python tools/study.py collect study
    python tools/study.py write
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import matplotlib

from _parser import tool_parser

matplotlib.use("Agg")

from _run import run
from anomaly.report import study as tables
from anomaly.report.study_plots import figures_plot, likelihoods_plot
from anomaly.report.study_record import gather

ROOT = Path(__file__).resolve().parents[1]
RECORD, PAGE, PLOT = ROOT / "results/study.json", ROOT / "docs/study.md", ROOT / "docs/images/study.png"
SPREAD = PLOT.with_name("study_likelihoods.png")
CHAIN = "guided:radius=8:eps=0.01"
MARK = re.compile(r"(<!-- (\w+)(?: ([\w-]+))? -->\n).*?(<!-- end -->)", re.S)
ROWS = (
    *(("softmax", score) for score in ("msp", "entropy", "energy", "best")),
    *(("softmax-posthoc", "gmm_nll"), ("gmmseg", "energy"), ("gmmseg", "gmm_nll"), ("gmmseg", "best")),
    *(("softmax-frozen", "gmm_nll"), ("gmmseg-frozen", "gmm_nll")),
)
DRAWN = tuple(row for row in ROWS if row[1] != "best")


def page(text: str, study: dict[str, Any]) -> str:
    """The page with its tables written anew."""
    made = {
        "headline": lambda _: tables.headline(study, ROWS),
        "scores": lambda network: tables.all_scores(study, network, CHAIN),
        "paired": lambda _: tables.paired(study),
        "ablation": lambda _: tables.ablation(study),
    }
    return MARK.sub(lambda found: f"{found[1]}\n{made[found[2]](found[3])}\n{found[4]}", text)


def main() -> None:
    """Gather, or write."""
    parser = tool_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("collect").add_argument("work", type=Path, metavar="WORK_DIR", help="folder of the runs")
    commands.add_parser("write")
    args = parser.parse_args()
    if args.command == "collect":
        temporary = RECORD.with_suffix(".part")
        temporary.write_text(json.dumps(gather(args.work), indent=1) + "\n")
        os.replace(temporary, RECORD)
        return
    study = json.loads(RECORD.read_text())
    PAGE.write_text(page(PAGE.read_text(), study))
    figures_plot(study, DRAWN).savefig(PLOT, dpi=110)
    likelihoods_plot(study).savefig(SPREAD, dpi=80)


if __name__ == "__main__":
    run(main)
