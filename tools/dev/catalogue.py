"""The catalogue of datasets as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from anomaly.datasets.catalog import SETS
from anomaly.datasets.dataset import describe
from anomaly.datasets.entry import CatalogEntry
from anomaly.datasets.layout import Layout


def sets_markdown() -> str:
    """A table of all datasets, then a section for each family of datasets with the same citation."""
    rows = ["| name | images | size | labels | dataset |", "| --- | ---: | --- | --- | --- |"]
    for one in SETS.values():
        labels = "hidden" if one.hidden else "anomalies" if one.anomalies else "classes"
        sizes = ", ".join(f"{width}x{height}" for width, height in one.sizes) or "-"
        rows.append(f"| `{one.name}` | {one.frames or '?'} | {sizes} | {labels} | {one.title} |")
    families: dict[tuple[str, str], list[CatalogEntry]] = {}
    for one in SETS.values():
        families.setdefault((one.citation, one.name.partition("-")[0]), []).append(one)
    return "\n".join([*rows, "", *(_family(members) for members in families.values())])


def _family(members: list[CatalogEntry]) -> str:
    first = members[0]
    lines = [f"## {_common([one.title for one in members])}", "", ", ".join(f"`{one.name}`" for one in members), ""]
    where = first.obtain or f"<{first.home}>" if " " not in first.home else first.home
    lines += [f"- {first.citation}.", f"- Source: {where}.", f"- Licence: {first.licence}."]
    lines += [f"- Folders searched: `{'`, `'.join(folder for folder in first.folders if folder != '.')}`."]
    lines += [f"- {text}" for text in first.pitfalls]
    excluded = {reason: names for one in members for reason, names in _excluded(one).items()}
    lines += [f"- Excluded ({names}): {reason}." for reason, names in excluded.items()]
    for one in members:
        for file in one.downloads:
            sums = [f"{kind} `{value}`" for kind, value in (("SHA-256", file.sha256), ("MD5", file.md5)) if value]
            entry = f"- `{file.file}`: <{file.url}>, {', '.join(sums) or 'no checksum published'}."
            lines += [] if entry in lines else [entry]
    lines += ["", "| layout | images | label maps | values |", "| --- | --- | --- | --- |"]
    for row in dict.fromkeys(_layout(layout, one.encoding) for one in members for layout in one.layouts):
        lines.append(row)
    return "\n".join([*lines, ""])


def _layout(layout: Layout, encoding: Mapping[int, int]) -> str:
    images = layout.images[0] + (f" + {layout.overlays}" if layout.overlays else "")
    values = "; ".join(
        (f"{name}: " if len(layout.encodings or ()) > 1 else "") + describe(one)
        for name, one in (layout.encodings or {"": encoding}).items()
    )
    return f"| {layout.name} | `{images}` | `{layout.labels}` | {values} |"


def _excluded(one: CatalogEntry) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, reason in one.excluded.items():
        found[reason] = f"{found[reason]}, `{name}`" if reason in found else f"`{one.name}`: `{name}`"
    for reason, places in one.excluded_places.items():
        found[f"{reason}, {one.name.partition('_')[0]}"] = f"{len(places)} frames of `{one.name}`"
    return found


def _common(titles: list[str]) -> str:
    """The part that titles share, up to a comma."""
    heads = {title.partition(",")[0].partition(" (")[0] for title in titles}
    return min(heads, key=len)
