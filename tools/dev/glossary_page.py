"""Write scores and table columns into docs/glossary.md."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable
from pathlib import Path

from anomaly.cli.parser import command_parser
from anomaly.cli.process import run
from anomaly.errors import InputError
from anomaly.report.glossary import BRIGHT, TERMS
from anomaly.scores.registry import COMBINATIONS, SCORES, SYMBOLS, Score

ROOT = Path(__file__).resolve().parents[2]
START, END = "<!-- written by tools/dev/glossary_page.py -->\n", "<!-- end -->"


def main() -> None:
    """Insert the glossary between the marks."""
    parser = command_parser(__doc__)
    parser.add_argument("--file", type=Path, default=ROOT / "docs/glossary.md", help="document that holds the glossary")
    path = parser.parse_args().file
    before, start, rest = path.read_text().partition(START) if path.is_file() else ("", "", "")
    _, end, after = rest.partition(END)
    if not end:
        raise InputError(f"{path} has no lines {START.strip()!r} and {END!r} to put the glossary between")
    path.write_text(f"{before}{start}\n{glossary_markdown()}\n{end}{after}")


def glossary_markdown() -> str:
    """Scores grouped by their inputs, then the columns of tables."""
    groups: dict[str, list[Score]] = {
        "Scores of logits": [],
        "Scores of likelihoods": [],
        "Scores of features": [],
        "Combinations of scores": list(COMBINATIONS.values()),
    }
    for score in SCORES.values():
        kind = "features" if "features" in score.needs else "logits" if score.needs == ("logits",) else "likelihoods"
        groups[f"Scores of {kind}"].append(score)
    parts = ["\n\n".join(textwrap.fill(text, 120, break_on_hyphens=False) for text in (BRIGHT, SYMBOLS)) + "\n"]
    for title, scores in groups.items():
        parts += [f"## {title}\n", *map(_score, scores)]
    parts += [
        "## Columns of tables\n",
        _table((title.format("95"), text.format("95")) for title, text in TERMS.items()),
    ]
    return "\n".join(parts)


def _score(score: Score) -> str:
    needs = ", ".join(f"`{name}`" for name in score.needs) or "what its parts need"
    lines = [f"### {score.name}\n", f"{score.description}{' Computed by default.' if score.usual else ''}\n"]
    lines += [f"- Formula: `{score.formula}`", f"- The model gives: {needs}"]
    lines.append(f"- Learns from training images: {'yes' if score.fitted or not score.needs else 'no'}")
    if parameters := _parameters(score):
        lines.append(f"- Parameters: {', '.join(f'`{score.name}:{one}`' for one in parameters)}")
    return "\n".join([*lines, f"- Source: {score.source}", ""])


def _parameters(score: Score) -> list[str]:
    """Parameters of a score, with their default values."""
    every = inspect.signature(score.function).parameters.values()
    found = [f"{one.name}={one.default:g}" for one in every if one.default is not one.empty]
    return found if score.needs else ["of=gmm_nll+energy"]


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(["| column | meaning |", "| --- | --- |", *(f"| {title} | {text} |" for title, text in rows), ""])


if __name__ == "__main__":
    run(main)
