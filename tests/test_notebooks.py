"""Every notebook runs from start to end, and shows the figures that are stored in it."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
MAX_BYTES = 1_000_000
PRIVATE = ("/home/", "/root/", "/tmp/", "/Users/", "site-packages", str(ROOT), str(Path.home()) + "/")
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return json.loads(path.read_text())


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def output_text(cell):
    """All text that a cell shows, joined."""
    found = []
    for output in cell["outputs"]:
        shown = [
            output.get("text", ""),
            *(output.get("data", {}).get(kind, "") for kind in ("text/plain", "text/html")),
        ]
        found += ["".join(part) for part in shown]
    return "\n".join(found)


def figures(notebook):
    """The plain text of the cells that are tagged with ``figures``, with their tolerance."""
    tagged = [cell for cell in code_cells(notebook) if "figures" in cell["metadata"].get("tags", ())]
    return [
        ("".join(cell["outputs"][-1]["data"]["text/plain"]), float(cell["metadata"]["tolerance"])) for cell in tagged
    ]


def assert_same_figures(stored, found, tolerance):
    """Texts are equal but for numbers, and these differ by ``tolerance`` at most; columns may be spaced otherwise."""
    stored_words, found_words = (re.sub(r"[\s…]+", " ", re.sub(NUMBER, "#", text)) for text in (stored, found))
    assert stored_words == found_words
    for expected, number in zip(re.findall(NUMBER, stored), re.findall(NUMBER, found), strict=True):
        assert float(number) == pytest.approx(float(expected), abs=tolerance), f"stored:\n{stored}\nfound:\n{found}"


def test_the_five_notebooks_are_there():
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


@by_name
def test_stored_outputs_read_well(path):
    notebook, cells = read(path), code_cells(read(path))
    assert path.stat().st_size < MAX_BYTES
    assert notebook["metadata"]["kernelspec"] == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), (
        "run tools/dev/run_notebooks.py"
    )
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] in ("stream", "error")], "warnings or bars"
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    assert figures(notebook), "no cell is tagged with figures"
    text = "\n".join(output_text(cell) for cell in cells)
    assert not [word for word in PRIVATE if word in text]
    assert not re.search(r"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d| at 0x[0-9a-f]+", text), "a date or an address"
    first = "".join(notebook["cells"][0]["source"])
    assert notebook["cells"][0]["cell_type"] == "markdown"
    assert first.startswith("# ")


@by_name
def test_sources_write_to_temporary_folders_alone(path):
    source = "\n".join("".join(cell["source"]) for cell in code_cells(read(path)))
    assert not [word for word in ("/home", '"data"', "savefig") if word in source]
    assert ("mkdtemp" in source) == ("write_street_scenes(" in source) == ("rmtree" in source)


@pytest.mark.slow
@by_name
def test_notebook_shows_the_stored_figures(path, monkeypatch, tmp_path):
    if "import transformers" in path.read_text():
        pytest.importorskip("transformers", reason="the extra transformers needs Python 3.11 or newer")
    monkeypatch.syspath_prepend(str(ROOT / "tools/dev"))
    monkeypatch.delitem(sys.modules, "run_notebooks", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    import run_notebooks

    before = read(path)
    executed = run_notebooks.execute(path, ROOT)  # the tool runs them in notebooks/
    for (stored, tolerance), (found, _) in zip(figures(before), figures(executed), strict=True):
        assert_same_figures(stored, found, tolerance)
    assert read(path) == before
    assert not list(tmp_path.iterdir()), "temporary files are left"


def test_comparison_of_figures_sees_what_differs():
    table = "     AUROC    AP\nmsp   92.5  36.1"
    assert_same_figures(table, "      AUROC    AP\nmsp   92.7  36.1", 0.3)
    for other in (table.replace("92.5", "93.5"), table.replace("msp", "energy"), table.replace("36.1", "NaN")):
        with pytest.raises(AssertionError):
            assert_same_figures(table, other, 0.3)


@pytest.mark.slow
def test_failing_cell_is_told(tmp_path, monkeypatch):
    import nbformat

    from anomaly.errors import InputError

    monkeypatch.syspath_prepend(str(ROOT / "tools/dev"))
    import run_notebooks

    cells = [nbformat.v4.new_code_cell("value = 1"), nbformat.v4.new_code_cell("value / 0")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "broken.ipynb")
    before = (tmp_path / "broken.ipynb").read_bytes()
    with pytest.raises(InputError, match=r"expected a notebook, found no such file"):
        run_notebooks.execute(tmp_path / "none.ipynb", tmp_path)
    with pytest.raises(InputError, match=r"broken.ipynb: a cell fails, correct it: ZeroDivisionError"):
        run_notebooks.execute(tmp_path / "broken.ipynb", tmp_path)
    assert (tmp_path / "broken.ipynb").read_bytes() == before
