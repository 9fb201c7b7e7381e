"""The report as one HTML file that needs no network, server or other file."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from anomaly.errors import InputError
from anomaly.report import sections
from anomaly.report.glossary import BRIGHT, explain_columns, explain_scores
from anomaly.report.joined import JoinedDataset, Run, join
from anomaly.report.pack import pack_bytes, pack_numbers, pack_picture
from anomaly.report.views import View, sample
from anomaly.results.comparison import remarks
from anomaly.scores.registry import SYMBOLS, Score
from anomaly.utils.files import write_whole
from anomaly.visualize.heatmap import INFERNO
from anomaly.visualize.palette import CLASSES
from anomaly.visualize.prediction import class_palette

TEMPLATE, STYLE, SCRIPTS = "report.html.j2", "report.css", ("stored.js", "report.js")
MEGABYTES = 40.0
OTHERS = 3  # number of datasets whose thresholds the charts transfer
_LOOK = 4  # number of frames of each dataset from which the size is estimated
_ROOM = 0.92  # share of the size for frames; the rest is for curves, and a margin for larger frames
_ESCAPED = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def write_page(paths: Sequence[Path], out: Path, megabytes: float = MEGABYTES) -> None:
    """Write the report of one run, or of several side by side. The file appears whole or not at all.

    Args:
        paths: ``results.json`` files of the runs, each with the folder ``report`` beside it.
        out: The file to write.
        megabytes: Approximate size limit. If all images exceed it, an even sample of them is shown.

    Raises:
        InputError: A result or its views are missing, damaged, from another run, or not comparable; or the file cannot
            be written.
    """
    if not megabytes > 0:
        raise InputError(f"megabytes: expected a size above 0, found {megabytes}; correct it (default: 40)")
    write_joined(*join(paths), out, megabytes)


def write_joined(
    runs: list[Run],
    datasets: list[JoinedDataset],
    out: Path,
    megabytes: float = MEGABYTES,
    *,
    labelled: bool = True,
    notes: Sequence[str] = (),
) -> None:
    """Write the report of runs that :func:`anomaly.report.joined.join` brought together.

    Args:
        runs: The runs.
        datasets: Their datasets.
        out: The file to write.
        megabytes: Approximate size limit.
        labelled: Whether there are labels; without labels the page has no metrics.
        notes: Texts above the images of a page without labels.

    Raises:
        InputError: A view is missing or damaged, or the file cannot be written.
    """
    datasets = _within(datasets, megabytes * 1e6)

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(_Page(runs, datasets, labelled, notes).parts())

    try:
        write_whole(out, write)
    except OSError as error:
        raise InputError(
            f"{out}: expected a file that can be written, found: {error.strerror}; choose another place"
        ) from error


def safe_json(value: Any) -> Markup:
    """Convert to JSON that is safe inside any HTML element: nothing in it can end a script. NaN becomes null."""
    text = json.dumps(_without_nan(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_ESCAPED))


def _within(datasets: list[JoinedDataset], most: float) -> list[JoinedDataset]:
    """Sample frames evenly from each dataset if all of them together would take more bytes than ``most``."""
    needed = 0.0
    for one in datasets:
        looked = [len("".join(_frame(one, i, one.read(i), 0)[1])) for i in sample(len(one.frames), _LOOK)]
        needed += len(one.frames) * sum(looked) / len(looked)
    share = _ROOM * most / needed
    if share >= 1:
        return datasets
    kept = [sample(len(one.frames), max(1, int(share * len(one.frames)))) for one in datasets]
    return [replace(one, frames=[one.frames[i] for i in places]) for one, places in zip(datasets, kept, strict=True)]


class _Page:
    """A page while it is written: frames are read one by one, and listed for the script at the end."""

    def __init__(self, runs: list[Run], datasets: list[JoinedDataset], labelled: bool, notes: Sequence[str]) -> None:
        self._labelled = labelled
        self._notes = notes
        self._runs = runs
        self._datasets = datasets
        self._blobs = 0
        self._list: list[dict[str, Any]] = []

    def parts(self) -> Iterator[str]:
        """The page, part by part."""
        folder = files("anomaly.report") / "page"
        texts = {name: (folder / name).read_text(encoding="utf-8") for name in (TEMPLATE, STYLE, *SCRIPTS)}
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(texts[TEMPLATE])
        runs, datasets = self._runs, self._datasets
        names = list(dict.fromkeys(str(run.result.model["name"]) for run in runs))
        summary = sections.summary(datasets) if self._labelled else None
        return template.generate(
            title=f"{', '.join(names)} on {', '.join(one.name for one in datasets)}",
            labelled=self._labelled,
            notes=self._notes,
            runs=[_run(run) for run in runs],
            differences=_differences(runs),
            protocol=runs[0].result.protocol,
            remarks=remarks([run.result for run in runs]),
            summary=summary,
            by_class=sections.by_class(runs, datasets),
            datasets=[self._dataset(number, one) for number, one in enumerate(datasets)],
            bright=BRIGHT,
            symbols=SYMBOLS,
            explained=_explained(runs),
            columns=explain_columns(summary.titles) if summary else {},
            blobs=self._pack,
            manifest=lambda: safe_json(
                {"datasets": self._list, "labelled": self._labelled, "inferno": pack_bytes(INFERNO.tobytes())}
            ),
            style=Markup(texts[STYLE]),
            scripts=[Markup(texts[name]) for name in SCRIPTS],
            hashes={"style": _hash(texts[STYLE]), "scripts": [_hash(texts[name]) for name in SCRIPTS]},
        )

    def _dataset(self, number: int, one: JoinedDataset) -> dict[str, Any]:
        others = [other for other in self._datasets if other is not one and not sections.share_images(one, other)][
            :OTHERS
        ]
        return {
            "number": number,
            "name": one.name,
            "entry": one.entry,
            "methods": [method.label for method in one.methods],
            "charts": list(sections.charts(one, number, others)) if self._labelled else [],
            "carried": sections.carried(one) if self._labelled else None,
            "shown": len(one.frames),
        }

    def _pack(self) -> Iterator[tuple[int, Markup]]:
        """The data of all frames, with consecutive numbers."""
        for one in self._datasets:
            self._list.append(_listed(one))
            for i in range(len(one.frames)):
                views = one.read(i)
                entry, texts = _frame(one, i, views, self._blobs)
                self._list[-1]["frames"].append(entry)
                for text in texts:
                    yield self._blobs, Markup(text)
                    self._blobs += 1


def _listed(one: JoinedDataset) -> dict[str, Any]:
    """A dataset for the script. A score of several runs has one colour scale: equal colours mean equal scores."""
    ends: dict[str, list[float]] = {}
    for method in one.methods:
        ends.setdefault(method.score, []).extend(sections.limits(method.curves))
    return {
        "name": one.name,
        "methods": [
            {
                "label": method.label,
                "run": method.run,
                "levels": method.curves.levels,
                "fpr": method.curves.level_fpr,
                "tpr": method.curves.level_tpr,
                "limits": (min(ends[method.score]), max(ends[method.score])),
            }
            for method in one.methods
        ],
        "runs": [
            {
                "letter": run.letter,
                "name": str(run.result.model["name"]),
                "classes": views.classes,
                "palette": class_palette(max(len(views.classes), len(CLASSES))),
            }
            for run, views in zip(one.runs, one.views, strict=True)
        ],
        "frames": [],
    }


def _frame(one: JoinedDataset, i: int, views: list[View], blob: int) -> tuple[dict[str, Any], list[str]]:
    """A frame for the script, and its data, numbered from ``blob`` on."""
    texts: list[str] = []

    def number(text: str) -> int:
        texts.append(text)
        return blob + len(texts) - 1

    name, first = one.frames[i][0], views[0]
    entry: dict[str, Any] = {
        "name": name,
        "size": first.size,
        "view": first.label.shape,
        "grid": first.points.shape[1:],
        "photo": number(pack_bytes(first.image.tobytes())),
        "label": number(pack_picture(first.label)),
        "runs": [],
        "methods": [],
    }
    for view in views:
        narrow = np.uint8 if max(view.predicted.max(initial=0), view.classes.max(initial=0)) < 256 else np.uint16
        entry["runs"].append(
            {
                "kind": view.kind,
                "bytes": np.dtype(narrow).itemsize,
                "most": len(view.classes),
                "predicted": number(pack_numbers(view.predicted.astype(narrow))) if view.predicted.size else None,
                "classes": number(pack_numbers(view.classes.astype(narrow))),
                "values": number(pack_numbers(view.values)),
            }
        )
    for method in one.methods:
        view = views[method.run]
        entry["methods"].append(
            {
                "rank": method.result.per_frame.get(name, {}).get(sections.RANK, math.nan),
                "codes": number(pack_picture(view.maps[method.place])),
                "points": number(pack_numbers(view.points[method.place])),
            }
        )
    return entry, texts


def _run(run: Run) -> dict[str, Any]:
    """Details of a run, as names and texts."""
    result = run.result
    came = result.provenance
    inputs = {name: one for name, one in came.items() if isinstance(one, dict) and "path" in one}
    told = [f"{name} {one['path']} (SHA-256 {str(one.get('sha256', '?'))[:12]}…)" for name, one in inputs.items()]
    facts = {
        "model": f"{result.model['name']} ({result.model.get('type', 'unknown type')})",
        "inputs": ", ".join(told),
        "command": came.get("command"),
        "date": came.get("date"),
        "code": came.get("git_commit"),
        "software": _words(came.get("versions")),
        "machine": _words(came.get("machine")),
        "settings": _words(result.settings),
        "time in seconds": _words(result.timings),
    }
    return {"letter": run.letter, "facts": {name: str(text) for name, text in facts.items() if text}}


def _explained(runs: Sequence[Run]) -> list[Score]:
    """The scores of all runs, once each."""
    found: dict[str, Score] = {}
    for run in runs:
        names = [name for entry in run.result.datasets for name in entry.scores]
        for score in explain_scores(names, given=run.result.model.get("type") == "score function"):
            found.setdefault(score.name, score)
    return list(found.values())


def _differences(runs: Sequence[Run]) -> list[str]:
    """How each of several runs differs from the others: its model, and different inputs and settings."""
    records = [
        {**run.result.settings, **{k: v.get("path") for k, v in run.result.provenance.items() if isinstance(v, dict)}}
        for run in runs
    ]
    left_out = ("heatmaps", "colour_scales", "scores")
    told = []
    for run, record in zip(runs, records, strict=True):
        words = [str(run.result.model["name"])]
        for name in dict.fromkeys(key for one in records for key in one):
            if name not in left_out and any(one.get(name) != record.get(name) for one in records):
                words.append(f"{name} {json.dumps(record.get(name), ensure_ascii=False)}")
        told.append("; ".join(words))
    return told


def _words(found: Any) -> str:
    """A dict in one line."""
    if not isinstance(found, dict):
        return ""
    return "; ".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in found.items())


def _hash(text: str) -> str:
    """Hash of a text in the notation of a Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
