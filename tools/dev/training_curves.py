"""Convert the logs of trainings to CSV files, and plot them.

The log of each work dir becomes a CSV file with a row for each logged step; --plot draws all files of the folder.

Example:
    python tools/dev/training_curves.py work_dirs/first --out results/curves --plot curves.png
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

from anomaly.cli.parser import command_parser

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

from anomaly.cli.process import run
from anomaly.errors import InputError
from anomaly.utils.files import write_whole

PANELS = {
    "mIoU": "validation mIoU, %",
    "decode.loss_ce": "cross-entropy",
    "mixture/log_likelihood": "log-likelihood of the batch, nats",
    "mixture/share_min": "smallest share of a component",
}


def read_log(work_dir: Path) -> pd.DataFrame:
    """Losses, validation metrics and mixture statistics, one row per step; the last run of a step counts."""
    files = sorted(work_dir.glob("*/vis_data/scalars.json"))
    if not files:
        raise InputError(
            f"{work_dir}: expected a log (TIMESTAMP/vis_data/scalars.json), found none; name a --work-dir of gmmseg "
            "train"
        )
    try:
        log = pd.concat([pd.read_json(file, lines=True) for file in files])
    except ValueError as error:
        raise InputError(f"{work_dir}: expected a readable log, found: {error}; train again") from error
    kept = [name for name in log if "loss" in name or name.startswith("mixture/") or name in ("mIoU", "mAcc", "aAcc")]
    return log.groupby("step")[kept].last().round(5)


def draw(curves: dict[str, pd.DataFrame], file: Path) -> None:
    """One panel for each quantity, one colour for each network; GMMSeg is solid, softmax dashed."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(4.2 * len(PANELS), 3.6), layout="constrained")
    families = sorted({name.replace("-gmmseg", "") for name in curves})
    for axis, (key, title) in zip(axes, PANELS.items(), strict=True):
        for name, curve in sorted(curves.items()):
            if key in curve and curve[key].notna().any():
                values = curve[key].dropna()
                if key == "decode.loss_ce":
                    values = values.rolling(5, min_periods=1).mean()  # smooths the logged means of 20 steps
                style = "-" if "-gmmseg" in name else "--"
                colour = f"C{families.index(name.replace('-gmmseg', ''))}"
                axis.plot(values.index, values, style, color=colour, label=name)
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize="small")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def main() -> None:
    """Read logs, write CSV files, and draw."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "work_dirs",
        nargs="*",
        type=Path,
        metavar="WORK_DIR",
        help="folder of a training; its name becomes the name of the file",
    )
    parser.add_argument("--out", type=Path, default=Path("results/curves"), help="folder of the CSV files")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw all files in --out")
    args = parser.parse_args()
    if not (args.work_dirs or args.plot):
        raise InputError("expected WORK_DIR, or --plot to draw the files in --out, found neither; name one")
    logs = {folder.name: read_log(folder) for folder in args.work_dirs}
    args.out.mkdir(parents=True, exist_ok=True)
    for name, log in logs.items():
        write_whole(args.out / f"{name}.csv", log.to_csv)
    if args.plot:
        draw({file.stem: pd.read_csv(file, index_col="step") for file in sorted(args.out.glob("*.csv"))}, args.plot)


if __name__ == "__main__":
    run(main)
