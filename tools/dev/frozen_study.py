"""Measure detectors of frozen features and their ensembles on real images, and write the tables of docs/study.md.

``measure`` fits and evaluates the rows below one after the other, and adds each to ``results/frozen.json``; rows that
are there already are left out. ``write`` inserts the tables into the pages. ``cost`` measures the seconds of a forward
pass, of the whole model, on one thread.

Examples:
    python tools/dev/frozen_study.py measure --gmmseg CONFIG CHECKPOINT --twin CONFIG CHECKPOINT --data-root data
    python tools/dev/frozen_study.py cost --gmmseg CONFIG CHECKPOINT --twin CONFIG CHECKPOINT --data-root data
    python tools/dev/frozen_study.py write
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import anomaly
from anomaly.cli.parser import command_parser
from anomaly.cli.process import run
from anomaly.datasets.images import read_image
from anomaly.results.provenance import provenance
from anomaly.utils.files import write_whole

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "results/frozen.json"
PAGES = (ROOT / "docs/study.md", ROOT / "docs/fitting.md", ROOT / "README.md")
SETS, METRICS = ("camvid_ood", "road_anomaly"), ("auroc", "ap", "fpr95")
MARK = re.compile(r"(<!-- frozen (?P<what>\w+) -->\n).*?(<!-- frozen end -->)", re.S)
LITE0 = "efficientnet-lite0"


@dataclass(frozen=True)
class Row:
    """One configuration.

    Args:
        what: What it is, for the table.
        network: ``"gmmseg"``, ``"twin"`` or none.
        densities: Densities that are fitted; none for the network as it is.
        own: What the network adds; empty for the usual term.
        score: The score that is measured.
        labels: Whether the densities have one mixture for each class.
        outliers: Whether a density of pasted drawings is fitted too.
        limit: Largest number of images.
    """

    what: str
    network: str = ""
    densities: tuple[str, ...] = ()
    own: str = ""
    score: str = "gmm_nll"
    labels: bool = False
    outliers: bool = False
    limit: int = 400


ROWS = {
    "twin": Row("softmax network, `energy`", "twin", score="energy"),
    "gmmseg": Row("GMMSeg, `gmm_nll`", "gmmseg"),
    "540": Row("540 pixels, no network, no labels", densities=(f"{LITE0}:sizes=540",)),
    "twin+540": Row("softmax network + 540 pixels", "twin", (f"{LITE0}:sizes=540",), score="marginal_nll"),
    "twin192+480": Row(
        "softmax network at 192 pixels + 480 pixels", "twin", (f"{LITE0}:sizes=480",), "logits:sizes=192",
        score="marginal_nll",
    ),
    "twin192+480, weight 1.5": Row(
        "softmax network at 192 pixels (weight 1.5) + 480 pixels", "twin", (f"{LITE0}:sizes=480",),
        "logits:sizes=192:weight=1.5", score="marginal_nll",
    ),
    "gmmseg+540": Row("GMMSeg + 540 pixels", "gmmseg", (f"{LITE0}:sizes=540",)),
    "twin+540+720": Row(
        "softmax network + 540 + 720 pixels", "twin", (f"{LITE0}:sizes=540", f"{LITE0}:sizes=720"),
        score="marginal_nll",
    ),
    "twin+540, gmm_nll": Row("softmax network + 540 pixels, `gmm_nll`", "twin", (f"{LITE0}:sizes=540",)),
    "twin+540, weight 2": Row(
        "softmax network (weight 2) + 540 pixels", "twin", (f"{LITE0}:sizes=540",), "logits:weight=2",
        score="marginal_nll",
    ),
    "360": Row("360 pixels", densities=(f"{LITE0}:sizes=360",)),
    "480": Row("480 pixels", densities=(f"{LITE0}:sizes=480",)),
    "720": Row("720 pixels", densities=(f"{LITE0}:sizes=720",)),
    "360+540+720": Row(
        "360, 540 and 720 pixels, three densities", densities=tuple(f"{LITE0}:sizes={size}" for size in (360, 540, 720))
    ),
    "540-labels": Row("540 pixels, 11 classes of 5 Gaussians", densities=(f"{LITE0}:sizes=540",), labels=True),
    "540-bank": Row("540 pixels, bank of 5,000 features", densities=(f"{LITE0}:sizes=540:bank=5000",)),
    "540-40": Row("540 pixels, fitted to 40 images", densities=(f"{LITE0}:sizes=540",), limit=40),
    "lite2": Row("EfficientNet-Lite2, 540 pixels", densities=("efficientnet-lite2:sizes=540",)),
    "540-outliers": Row(
        "540 pixels, `outlier_ratio` to pasted drawings", densities=(f"{LITE0}:sizes=540",), score="outlier_ratio",
        outliers=True,
    ),
}  # fmt: skip
BEST = ("twin", "gmmseg", "540", "twin192+480, weight 1.5", "twin+540")
"""Rows of the short table."""
REFERENCES = ("twin", "540")
"""Rows from which the paired differences of the others are taken."""


def main(words: list[str] | None = None) -> None:
    """Measure, or write the tables."""
    parser = command_parser(__doc__, "frozen_study.py")
    parser.add_argument("action", choices=("measure", "cost", "write"), help="what to do")
    for name in ("gmmseg", "twin"):
        parser.add_argument(f"--{name}", nargs=2, metavar=("CONFIG", "CHECKPOINT"), help=f"the {name} network")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="folder of the datasets (default: data)")
    parser.add_argument("--pasted", type=Path, help="output of `anomaly data paste` on the training images")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="NAME", help="rows to measure (default: all)")
    args = parser.parse_args(words)
    if args.action == "write":
        write(json.loads(RECORD.read_text()))
    elif args.action == "cost":
        cost(args)
    else:
        measure(args)


def build(args: argparse.Namespace, row: Row) -> Any:
    """The model of a row, fitted to CamVid's training images."""
    network = anomaly.load_model(*getattr(args, row.network)) if row.network else None
    if not row.densities:
        return network
    train = args.data_root / "camvid/images/train"
    labels = args.data_root / "camvid/annotations/train" if row.labels else None
    outliers = anomaly.load_dataset("pasted_objects", args.pasted) if row.outliers else None
    return anomaly.fit(
        train,
        labels,
        model=network,
        backbones=row.densities,
        own=row.own or None,
        scores=(),
        outliers=outliers,
        limit=row.limit,
    )


def measure(args: argparse.Namespace) -> None:
    """Fit and evaluate the rows."""
    record: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.is_file() else {"rows": {}}
    kept: dict[str, anomaly.Result] = {}
    for name in args.rows:
        row = ROWS[name]
        if (name in record["rows"] and name not in REFERENCES) or (row.outliers and args.pasted is None):
            continue
        start = time.monotonic()
        model = build(args, row)
        fitted = time.monotonic()
        how = anomaly.MetricConfig(replicates=2000)
        data = list(SETS)
        result = anomaly.evaluate(model, data, row.score, root=args.data_root, closed_set=False, metrics=how)
        entry: dict[str, Any] = {
            "what": row.what, "network": row.network, "densities": row.densities, "own": row.own, "score": row.score,
            "labels": row.labels, "limit": row.limit, "fit_seconds": round(fitted - start, 1),
            "evaluation_seconds": round(time.monotonic() - fitted, 1),
        }  # fmt: skip
        frame = result.to_frame()
        for dataset in SETS:
            found = frame[frame["dataset"] == dataset].iloc[0]
            entry[dataset] = {
                metric: [float(found[key]) for key in (metric, f"{metric}_low", f"{metric}_high") if key in found]
                for metric in METRICS
            }
        entry["minus"] = {reference: _paired(result, other) for reference, other in kept.items()}
        if name in REFERENCES:
            kept[name] = result
        record["rows"][name] = entry
        record["provenance"] = {**provenance({}), "command": "tools/dev/frozen_study.py measure"}
        _keep(record)
        print(name, {key: [round(100 * v[0], 1) for v in entry[key].values()] for key in SETS}, file=sys.stderr)


def _keep(record: dict[str, Any]) -> None:
    record["rows"] = {name: record["rows"][name] for name in ROWS if name in record["rows"]}
    text = json.dumps(record, indent=1) + "\n"
    write_whole(RECORD, lambda path: path.write_text(text))


def _paired(result: anomaly.Result, other: anomaly.Result) -> dict[str, Any]:
    """Differences of a result to another on the same frames, with confidence intervals."""
    rows = anomaly.compare(other, result, paired=True)
    return {
        f"{one.dataset} {one.metric}": [one.difference, one.low, one.high, one.p_value]
        for one in rows.itertuples()
        if one.metric in METRICS and one.difference == one.difference
    }


def cost(args: argparse.Namespace) -> None:
    """Measure the seconds of a forward pass of each row's model, in turn with the plain network, on one thread."""
    torch.set_num_threads(1)
    record = json.loads(RECORD.read_text())
    image = read_image(sorted((args.data_root / "camvid/images/val").glob("*.jpg"))[0])
    plain = anomaly.load_model(*args.twin)

    def seconds(model: Any) -> float:
        inputs = model.prepare(image)[None]
        start = time.process_time()
        model(inputs)
        return time.process_time() - start

    for name in record["rows"]:
        model = build(args, _small(ROWS[name]))
        pairs = [(seconds(model), seconds(plain)) for _ in range(9)][2:]
        record["rows"][name]["forward_seconds"] = statistics.median(mine for mine, _ in pairs)
        record["rows"][name]["forward_ratio"] = statistics.median(mine / theirs for mine, theirs in pairs)
    _keep(record)


def _small(row: Row) -> Row:
    """The same row, fitted to a few pixels: the cost of a forward pass is that of the full fit."""
    densities = tuple(f"{text}:pixels=5000" for text in row.densities)
    return replace(row, limit=4, densities=densities, outliers=False)


def write(record: dict[str, Any]) -> None:
    """Insert the tables into the pages."""
    for page in PAGES:
        page.write_text(inserted(page.read_text(), record))


def inserted(text: str, record: dict[str, Any]) -> str:
    """A page with new tables."""

    def made(found: re.Match[str]) -> str:
        table = {"rows": _rows, "paired": _differences, "best": _best}[found["what"]](record["rows"])
        return f"{found[1]}{table}\n{found[3]}"

    return MARK.sub(made, text)


def _rows(rows: dict[str, Any]) -> str:
    head = [f"{dataset}, {metric}" for dataset in SETS for metric in ("AUROC", "AP", "FPR95")]
    lines = [f"| what | {' | '.join(head)} | cost | fit, s |", "| --- |" + " ---: |" * (len(head) + 2)]
    for row in rows.values():
        values = [_value(row[dataset][metric]) for dataset in SETS for metric in METRICS]
        fit = f"{row['fit_seconds']:.0f}" if row["densities"] else ""
        lines.append(f"| {row['what']} | {' | '.join(values)} | {_ratio(row)} | {fit} |")
    return "\n".join(["", *lines, ""])


def _best(rows: dict[str, Any]) -> str:
    """The rows to know: AP, with FPR95 in brackets, and the cost."""
    lines = ["| what | `camvid_ood` | `road_anomaly` | cost |", "| --- | ---: | ---: | ---: |"]
    for name in BEST:
        row = rows[name]
        cells = [f"{100 * row[dataset]['ap'][0]:.0f} ({100 * row[dataset]['fpr95'][0]:.0f})" for dataset in SETS]
        lines.append(f"| {row['what']} | {' | '.join(cells)} | {_ratio(row)} |")
    return "\n".join(["", *lines, ""])


def _ratio(row: dict[str, Any]) -> str:
    return f"{row['forward_ratio']:.2f}" if "forward_ratio" in row else ""


def _differences(rows: dict[str, Any]) -> str:
    lines = ["| what | minus | camvid_ood, AP | FPR95 | road_anomaly, AP | FPR95 |", "| --- | --- |" + " ---: |" * 4]
    for row in rows.values():
        for reference, found in row["minus"].items():
            cells = [
                "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * v for v in found[f"{dataset} {metric}"][:3]))
                for dataset in SETS
                for metric in ("ap", "fpr95")
            ]
            lines.append(f"| {row['what']} | {rows[reference]['what']} | {' | '.join(cells)} |")
    return "\n".join(["", *lines, ""])


def _value(found: list[float]) -> str:
    value, *interval = (100 * each for each in found)
    return f"{value:.1f} [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else f"{value:.1f}"


if __name__ == "__main__":
    run(main)
