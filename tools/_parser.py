"""Command lines whose help reads like documentation."""

from __future__ import annotations

import argparse


def tool_parser(doc: str | None) -> argparse.ArgumentParser:
    """Make a parser whose help opens with the tool's docstring, examples included, lines kept."""
    return argparse.ArgumentParser(
        description=(doc or "").strip().replace("``", ""), formatter_class=argparse.RawDescriptionHelpFormatter
    )
