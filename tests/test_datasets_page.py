"""docs/datasets.md is the catalogue."""

import re
from pathlib import Path

import pytest

from anomaly.datasets.catalog import SETS
from tests.commands import page_tool_status

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "datasets.md").read_text()


@pytest.fixture
def tool(monkeypatch):
    return lambda path: page_tool_status(monkeypatch, "datasets_page.py", "--file", path)


def test_page_is_up_to_date(tool, tmp_path):
    (tmp_path / "page.md").write_text(re.sub(r"(datasets_page.py -->\n).*?(<!-- end)", r"\1\2", PAGE, flags=re.S))
    assert tool(tmp_path / "page.md") == 0
    assert (tmp_path / "page.md").read_text() == PAGE


def test_page_without_marks_is_refused(tool, tmp_path):
    (tmp_path / "page.md").write_text("# Sets\n")
    assert tool(tmp_path / "page.md") == 2


@pytest.mark.parametrize("name", SETS)
def test_page_has_every_set_with_its_layouts_and_checksums(name):
    one = SETS[name]
    assert f"| `{name}` | {one.frames or '?'} |" in PAGE
    assert one.citation in PAGE
    assert one.licence in PAGE
    assert all(f"`{layout.labels}`" in PAGE for layout in one.layouts)
    assert all(f"`{download.sha256}`" in PAGE for download in one.downloads if download.sha256)
    assert all(reason in PAGE for reason in one.excluded.values())
