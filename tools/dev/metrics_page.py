"""Write the tables of conventions into docs/metrics.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from anomaly.cli.parser import command_parser
from anomaly.cli.process import run
from anomaly.errors import InputError
from anomaly.metrics.convention_rules import ConventionValues
from anomaly.metrics.pixel import PixelMetrics
from anomaly.report.conventions import MeasuredDataset, conventions_markdown, differences_markdown, read_conventions

ROOT = Path(__file__).resolve().parents[2]
START, END = "<!-- written by tools/dev/metrics_page.py -->\n", "<!-- end -->"
FRAMES, SHAPE = 12, (120, 160)
TITLES = ("The synthetic maps, scores in steps of 1/16:\n", "The same maps, stored as images with 256 grey values:\n")
Maps = dict[str, tuple[np.ndarray, np.ndarray]]


def made_frame(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A synthetic score map like a negative log-likelihood, in steps of 1/16, and its label map with ignored borders.

    Frames differ in the share of anomalies, level and difficulty. The sixth has no anomaly, and high scores.
    """
    random = np.random.default_rng(index)
    blobs, ground = (gaussian_filter(random.standard_normal(SHAPE), sigma) for sigma in (9, 12))
    share = 0.0 if index == 5 else 0.003 * 1.55**index
    label = (blobs > np.quantile(blobs, 1 - share)).astype(np.uint8)
    level = 400 + 40 * random.standard_normal() + (80 if index == 5 else 0)
    lift = (380 - 18 * index) * random.uniform(0.6, 1.2)
    score = level + 90 * ground / ground.std() + lift * label + 30 * random.standard_t(2.5, SHAPE)
    label[np.hypot(*np.gradient(label.astype(float))) > 0] = 255
    return (np.round(16 * np.clip(score, 1, 3000)) / 16).astype(np.float32), label


def main() -> None:
    """Measure the synthetic maps and the results in results/, and insert the tables between the marks."""
    parser = command_parser(__doc__)
    parser.add_argument("--file", type=Path, default=ROOT / "docs/metrics.md", help="document that holds the tables")
    path = parser.parse_args().file
    before, start, rest = path.read_text().partition(START) if path.is_file() else ("", "", "")
    _, end, after = rest.partition(END)
    if not end:
        raise InputError(f"{path} has no lines {START.strip()!r} and {END!r} to put the tables between")
    maps = {f"made_{index:02d}": made_frame(index) for index in range(FRAMES)}
    top = max(score.max() for score, _ in maps.values())
    coarse = {name: (np.round(255 * score / top), label) for name, (score, label) in maps.items()}
    parts = [TITLES[0], made_table(maps), TITLES[1], made_table(coarse)]
    for file in sorted((ROOT / "results").glob("conventions_*.json")):
        parts += [f"`{one.score}` on `{one.dataset}`:\n\n{conventions_markdown(one)}" for one in read_conventions(file)]
    tables = "\n".join([*parts, differences_markdown()])
    path.write_text(f"{before}{start}\n{tables}\n{end}{after}")


def made_table(maps: Maps) -> str:
    """Every convention and scikit-learn on the same maps."""
    metrics = PixelMetrics()
    for name, (score, label) in maps.items():
        metrics.update(name, score, label)
    made = MeasuredDataset.of("made", "made", metrics.frames())
    return conventions_markdown(made, [("scikit-learn", "on all pixels in one list", by_sklearn(maps))])


def by_sklearn(maps: Maps) -> ConventionValues:
    """Values of scikit-learn for all pixels together."""
    score, label = (np.concatenate([one[part][one[1] < 255] for one in maps.values()]) for part in (0, 1))
    fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)
    fpr95 = float(fpr[np.argmax(tpr >= 0.95)])
    return ConventionValues(roc_auc_score(label, score), average_precision_score(label, score), fpr95, len(maps))


if __name__ == "__main__":
    run(main)
