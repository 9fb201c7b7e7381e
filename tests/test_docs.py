"""The documents tell the truth: links lead somewhere, commands exist with the options shown, examples run.

A code block opened by ```python run is executed in a folder that holds what a user of the README has: images, label
maps and a module. Any other ```python block has to compile and its imports have to succeed.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "checkpoints" / "README.md"]
MAKEFILE = ROOT / "Makefile"
by_name = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


def blocks(document: Path) -> list[tuple[str, int, str]]:
    """Give the info string, the line number and the source of every ```python block."""
    text = document.read_text()
    found = re.finditer(r"^```(python[^\n]*)\n(.*?)^```", text, flags=re.M | re.S)
    return [(match[1].strip(), text[: match.start()].count("\n") + 2, match[2]) for match in found]


def commands(document: Path) -> list[list[str]]:
    """Give every call of a command, or of a file in tools/, as its words; continued lines are joined."""
    text = document.read_text().replace("\\\n", " ")
    code = text if document == MAKEFILE else "\n".join(re.findall(r"^```(?:shell|bash)\n(.*?)^```", text, re.M | re.S))
    calls = re.findall(r"(?m)^[ \t]*(?:@?\$\(BIN\)/)?((?:anomaly|gmmseg) [a-z-]+\b[^\n`#|;]*)", code)
    calls += re.findall(r"(?<!`)`((?:anomaly|gmmseg) [a-z-]+ [^`\n]*--[^`\n]*)`", text)
    calls += re.findall(r"(?:python3?|\$\(PY\)) (tools/\S+\.py\b[^\n`#|]*)", text)
    return [call.split() for call in calls]


def help_of(words: list[str]) -> str:
    """The help of a command, or of a file in tools/."""
    import command_line_page

    tool, *more = words
    subcommand = [word for word in more[:1] if re.fullmatch(r"[a-z_]+", word)]
    if tool.startswith("tools/dev/"):
        return command_line_page.help_of_development(" ".join([Path(tool).stem, *subcommand]))
    command = command_line_page.TOOLS[Path(tool).stem] if tool.startswith("tools/") else tool
    if tool in ("anomaly", "gmmseg"):
        known = importlib.import_module(f"{tool}.cli.main").COMMANDS
        assert more[0] in known, f"{tool} has no command {more[0]!r}"
        command = " ".join([tool, more[0], *(more[1:2] if more[0] == "data" else [])])
    return command_line_page.help_of(command)


def test_the_documents_are_there():
    names = {path.relative_to(ROOT).as_posix() for path in DOCUMENTS}
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/design.md"} <= names
    assert commands(ROOT / "README.md")
    assert commands(MAKEFILE)


def write_what_a_user_has(folder: Path) -> None:
    """Two images with an anomaly each, their label maps, and ``my_project.net``, which gives ``{"out": logits}``."""
    random = np.random.default_rng(0)
    for name in ("first", "second"):
        label = np.zeros((24, 32), np.uint8)
        label[6:14, 8:20], label[:2] = 1, 255
        image = random.integers(0, 255, (*label.shape, 3), dtype=np.uint8)
        for kind, pixels in (("images", image), ("labels", label)):
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{name}.png")
    (folder / "my_project.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.last = nn.Conv2d(3, 19, 3, stride=4, padding=1)\n"
        "    def forward(self, images):\n"
        "        return {'out': self.last(images)}\n"
        "net = Net()\n"
    )


@pytest.mark.slow
@by_name
def test_python_blocks(document, tmp_path, monkeypatch):
    write_what_a_user_has(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_project", raising=False)
    for info, line, source in blocks(document):
        assert info in {"python", "python run"}, f"{document.name}:{line} opens with {info!r}"
        tree = ast.parse("\n" * (line - 1) + source, str(document))
        if "transformers" in source and find_spec("transformers") is None:
            continue  # it needs Python 3.11
        if info == "python":
            tree.body = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        exec(compile(tree, str(document), "exec"), {"__name__": "__main__"})


@by_name
def test_links_lead_to_files(document):
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.M | re.S)
    targets = re.findall(r"\]\(<?([^)\s>]+)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    local = [target.split("#")[0] for target in targets if not re.match(r"[a-z]+:", target)]
    missing = [target for target in local if target and not (document.parent / target).exists()]
    assert not missing, f"{document.name} links to what is not there: {missing}"


@pytest.mark.parametrize("document", [*DOCUMENTS, MAKEFILE], ids=lambda path: path.name)
def test_commands_exist_with_the_options_shown(document, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools/dev"))
    for words in commands(document):
        if words[0].startswith("tools/"):
            assert (ROOT / words[0]).is_file(), f"{document.name} calls {words[0]}, which is not there"
        shown = help_of(words)
        options = {word.split("=")[0].rstrip(".,)") for word in words[1:] if re.match(r"--[a-z]", word)} - {"--help"}
        unknown = {option for option in options if not re.search(rf"{option}(?![\w-])", shown)}
        assert not unknown, f"{document.name}: {' '.join(words[:2])} does not know {unknown}"


@pytest.mark.parametrize("document", [*DOCUMENTS, MAKEFILE], ids=lambda path: path.name)
def test_configs_and_make_targets_named_exist(document):
    text = document.read_text()
    folders = "gmmseg|anomaly|configs|tools|tests|docs|results|requirements|notebooks|checkpoints"
    named = {name.rstrip(".") for name in re.findall(rf"(?<![\w/.-])(?:{folders})/[\w./-]*", text)}
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert not missing, f"{document.name} names files that are not there: {missing}"
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE.read_text(), flags=re.M))
    asked = set(re.findall(r"(?:`|^)make ([a-z]+)", text, flags=re.M))
    assert asked <= targets, f"{document.name} names make targets that do not exist: {asked - targets}"
