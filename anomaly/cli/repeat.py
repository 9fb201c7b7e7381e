"""A result's settings as arguments of ``ood_eval.py``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from anomaly.datasets.catalog import in_catalogue
from anomaly.errors import InputError
from anomaly.metrics.functional.components import TRACKS
from anomaly.results.records import EvaluationRecord


def settings_of(record: EvaluationRecord, *, folder: bool, label_values: bool, network: bool) -> list[str]:
    """The record's settings as arguments; nothing else of the record, which may be anybody's, is acted on."""
    settings: dict[str, Any] = record.settings
    if not isinstance(settings.get("scores"), list) or not record.datasets:
        raise InputError("expected a result that tells its scores and has sets, found none; evaluate again")
    names = [entry.dataset for entry in record.datasets]
    own = [name for name in names if not in_catalogue(name)]
    if len(own) != int(folder):
        found = f"{' and '.join(own)}, which are of no catalogue" if own else "only sets of the catalogue"
        raise InputError(
            f"expected a result with {'one set' if folder else 'no set'} of two folders (--folder IMAGES LABELS), "
            f"found {found}; {'leave --folder out' if folder and not own else 'name its folders'}"
        )
    names = [name for name in names if name not in own]
    words = ["--sets", *names] if names else []
    words += ["--scores", *settings["scores"]]
    if network and record.provenance.get("predictions") is None:
        words += _looking(settings)
    words += ["--post", *settings["post"]] if settings.get("post") else []
    words += ["--as-found"] if any(entry.notes or not entry.fingerprint for entry in record.datasets) else []
    words += ["--no-closed-set"] if network and record.closed_set is None else []
    words += ["--binned"] if settings.get("mode") == "binned" else []
    for name, level in (settings.get("levels") or {}).items():
        words += [f"--{name}", str(level)]
    if folder:
        words += ["--folder-name", *own]
        if not label_values and settings.get("label_values"):
            words += ["--label-values", *settings["label_values"]]
    if settings.get("limit"):
        words += ["--limit", str(settings["limit"])]
    draws = settings.get("bootstrap") or 0
    if replicates := draws["replicates"] if isinstance(draws, dict) else draws:
        words += ["--bootstrap", str(replicates)]
    if track := settings.get("components"):
        rules = {key: value for key, value in track.items() if key != "at"}
        if (name := next((name for name, one in TRACKS.items() if asdict(one) == rules), None)) is None:
            raise InputError(
                f"settings: expected component rules of {', '.join(TRACKS)}, found {rules}; repeat it by hand"
            )
        words += ["--components", name]
        words += ["--components-at", str(track["at"])]
    if chosen := settings.get("threshold"):
        level = "" if chosen["level"] is None else f"={chosen['level']}"
        words += ["--calibrate-on", chosen["set"], "--calibrate-by", chosen["rule"] + level]
    return words


def _looking(settings: dict[str, Any]) -> list[str]:
    """How the network looked; records that do not tell are of when maps were resized to the input, then scored."""
    if (how := settings.get("inference")) is None:
        return ["--score-at", "input"]
    words = ["--score-at", how["resolution"], "--precision", how["precision"], "--scales", *map(str, how["scales"])]
    words += ["--flip"] if how["flip"] else []
    for side in ("window", "stride"):
        words += [f"--{side}", "x".join(map(str, how[side]))] if how[side] else []
    return words
