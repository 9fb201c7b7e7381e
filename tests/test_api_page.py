"""docs/api.md is what its tool writes: every public name with its signature, arguments and errors."""

import re
from pathlib import Path

import pytest

import anomaly

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def api_page(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools/dev"))
    import api_page

    return api_page


def test_the_page_is_up_to_date(api_page):
    assert api_page.page() == api_page.PAGE.read_text(), "run python tools/dev/api_page.py"


def test_every_public_name_is_on_the_page_in_its_order(api_page):
    headings = re.findall(r"^## (\w+)$", api_page.PAGE.read_text(), flags=re.M)
    assert headings == anomaly.__all__


def test_links_lead_to_headings_of_the_page(api_page):
    text = api_page.PAGE.read_text()
    seen, anchors = [], set()
    for heading in re.findall(r"^##+ (.+)$", text, flags=re.M):
        plain = heading.lower().replace(".", "")
        anchors.add(f"{plain}-{seen.count(plain)}" if plain in seen else plain)
        seen.append(plain)
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert links
    assert links <= anchors


def test_a_docstring_becomes_markdown(api_page):
    text = """Add ``a``; see :func:`anomaly.score` and :class:`~anomaly.models.base.Prediction`.

Args:
    a: A number,
        on two lines.
    *more: One of

        - ``1``: one;
        - two.

Returns:
    The sum.

Examples:
    >>> 1 + 1
    2
"""
    expected = """Add `a`; see [`anomaly.score`](#score) and [`Prediction`](#prediction).

**Arguments**

- `a`: A number,
  on two lines.
- `*more`: One of

  - `1`: one;
  - two.

**Returns**

The sum.

**Examples**

```pycon
>>> 1 + 1
2
```
"""
    assert api_page.markdown(text, {"score": "score", "Prediction": "prediction"}).rstrip("\n") == expected.rstrip("\n")
