"""Write docs/api.md, the reference of the Python API, from the docstrings of the public names of anomaly."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anomaly
from anomaly.cli.parser import command_parser
from anomaly.cli.process import run

PAGE = Path(__file__).resolve().parents[2] / "docs/api.md"
HEAD = """# Python API

These are the names that `import anomaly` gives you. Each is imported when it is first used, so the import itself is
fast and needs neither torch nor OpenCV. [Any model in 15 lines](any_model.md) shows how they work together.

| name | purpose |
| --- | --- |
{table}

This page is written by `python tools/dev/api_page.py` from the docstrings.
"""
TITLES = {"Args": "Arguments"}
LISTS = ("Args", "Attributes", "Raises")
SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises|Examples):")
WIDTH = 100  # columns of a signature
CALL = "__call__"


def page() -> str:
    """The whole page."""
    found = {name: getattr(anomaly, name) for name in anomaly.__all__}
    anchors = _anchors(found)
    table = [f"| [`{name}`](#{anchors[name]}) | {_inline(_summary(one), anchors)} |" for name, one in found.items()]
    parts = [HEAD.format(table="\n".join(table)), *(_entry(name, one, anchors) for name, one in found.items())]
    return "\n".join(parts)


def _headings(found: dict[str, Any]) -> Iterator[str]:
    for name, one in found.items():
        yield name
        if inspect.isclass(one):
            yield from (f"{name}.{method}" for method, _ in _members(one))


def _anchors(found: dict[str, Any]) -> dict[str, str]:
    """The anchor that GitHub gives each heading: letters in lower case, a number behind one that is there already."""
    anchors: dict[str, str] = {}
    for heading in _headings(found):
        plain = re.sub(r"[^\w-]", "", heading.lower())
        taken = sum(re.sub(r"-\d+$", "", other) == plain for other in anchors.values())
        anchors[heading] = f"{plain}-{taken}" if taken else plain
    return anchors


def _members(one: type) -> list[tuple[str, Any]]:
    """Methods and properties that a class defines and documents, in their order."""
    kinds = (classmethod, staticmethod, property)
    return [
        (name, value)
        for name, value in vars(one).items()
        if (name == CALL or not name.startswith("_"))
        and (inspect.isfunction(value) or isinstance(value, kinds))
        and inspect.getdoc(value)
    ]


def _summary(one: Any) -> str:
    return (inspect.getdoc(one) or "").partition("\n")[0]


def _entry(name: str, one: Any, anchors: dict[str, str]) -> str:
    """A function, or a class with its methods."""
    lines = [f"## {name}\n"]
    if not inspect.isclass(one):
        lines.append(_signature(f"anomaly.{name}", inspect.signature(one)))
    elif dataclasses.is_dataclass(one) or ("__init__" in vars(one) and not getattr(one, "_is_protocol", False)):
        lines.append(_signature(f"anomaly.{name}", inspect.signature(one), returns=False))
    lines.append(markdown(inspect.getdoc(one) or "", anchors))
    for member, value in _members(one) if inspect.isclass(one) else ():
        lines += [f"### {name}.{member}\n", _member_signature(name, member, value)]
        lines.append(markdown(inspect.getdoc(value) or "", anchors))
    return "\n".join(lines)


def _member_signature(name: str, member: str, value: Any) -> str:
    place = f"{name}.{member}"
    if isinstance(value, property):
        return f"```py\n{place}: {inspect.signature(value.fget).return_annotation}\n```\n"  # type: ignore[arg-type]
    function = getattr(value, "__func__", value)
    signature = inspect.signature(function)
    if not isinstance(value, staticmethod):
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])  # without self or cls
    return _signature("model" if member == CALL else place, signature)


def _signature(name: str, signature: inspect.Signature, *, returns: bool = True) -> str:
    """A signature as code, on one line or with a line for each parameter."""
    words, keyword_only = [], False
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not keyword_only:
            words.append("*")
        keyword_only = keyword_only or one.kind in (one.KEYWORD_ONLY, one.VAR_POSITIONAL)
        words.append(_parameter(one))
    gives = signature.return_annotation
    end = ")" if not returns or gives is signature.empty else f") -> {gives}"
    line = f"{name}({', '.join(words)}{end}"
    if len(line) > WIDTH:
        line = "\n".join([f"{name}(", *(f"    {word}," for word in words), end])
    return f"```py\n{line}\n```\n"


def _parameter(one: inspect.Parameter) -> str:
    stars = "*" if one.kind is one.VAR_POSITIONAL else "**" if one.kind is one.VAR_KEYWORD else ""
    text = f"{stars}{one.name}" + ("" if one.annotation is one.empty else f": {one.annotation}")
    if one.default is one.empty:
        return text
    default = f'"{one.default}"' if isinstance(one.default, str) else repr(one.default)
    return f"{text} = {'...' if default.startswith('<') else default}"  # a function or a factory has no short form


def markdown(text: str, anchors: dict[str, str]) -> str:
    """A docstring in Google style as Markdown: sections with titles, arguments and errors as lists."""
    parts: list[tuple[str, list[str]]] = [("", [])]
    for line in text.splitlines():
        match = SECTION.fullmatch(line)
        if match:
            parts.append((match[1], []))
        else:
            parts[-1][1].append(line)
    found = []
    for title, lines in parts:
        body = textwrap.dedent("\n".join(lines)).strip("\n")
        if title == "Examples":
            found.append(f"**Examples**\n\n```pycon\n{body}\n```\n")
            continue
        body = _inline(_items(body) if title in LISTS else body, anchors)
        heading = f"**{TITLES.get(title, title)}**\n\n" if title else ""
        found.append(f"{heading}{body}\n")
    return "\n".join(found)


def _items(body: str) -> str:
    """Entries ``name: text``, whose further lines are indented, as a Markdown list."""
    lines = []
    for line in body.splitlines():
        match = re.match(r"([*\w]+): ", line)
        if match:
            lines.append(f"- `{match[1]}`: {line[match.end() :]}")
        else:
            lines.append(line[2:] if line.startswith("    ") else line)  # from four columns to those of the list
    return "\n".join(lines)


def _inline(text: str, anchors: dict[str, str]) -> str:
    """Roles and double backquotes of reStructuredText as Markdown; names on the page become links."""

    def reference(match: re.Match[str]) -> str:
        short = match[1].startswith("~")
        path = match[1].lstrip("~")
        name = path.removeprefix("anomaly.")
        last = path.rpartition(".")[2]
        shown = last if short else path
        place = next((one for one in (name, last if last in anomaly.__all__ else name) if one in anchors), None)
        return f"`{shown}`" if place is None else f"[`{shown}`](#{anchors[place]})"

    text = re.sub(r":\w+:`([^`]+)`", reference, text)
    return text.replace("``", "`")


def main() -> None:
    """Write the page."""
    command_parser(__doc__).parse_args()
    PAGE.write_text(page())


if __name__ == "__main__":
    run(main)
