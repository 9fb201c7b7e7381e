"""Score maps in the layout of SegmentMeIfYouCan's evaluation, with an account of what float16 cost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anomaly.errors import InputError
from anomaly.frames import Label
from anomaly.metrics.pixel import PixelMetrics
from anomaly.results.rank_map import RankMap, Ties
from anomaly.results.score_formats.hdf5 import NAME
from anomaly.results.score_store import StoredScores

FIGURES = ("auroc", "ap", "fpr95")


@dataclass(frozen=True)
class ExportReport:
    """What became of scores that were written as float16.

    Args:
        folder: Where the files are.
        frames: Number of files.
        rescaled: Whether they were given other values, in the same order.
        pixels: Number of pixels.
        tied: Number of pixels that share their value with a pixel of another score.
        before: AUROC, AP and FPR95 of the scores, where labels were given.
        after: The same of what was written.
    """

    folder: Path
    frames: int
    rescaled: bool
    pixels: int
    tied: int
    before: Mapping[str, float]
    after: Mapping[str, float]

    def __str__(self) -> str:
        """What to tell the user."""
        how = "rescaled to [0, 1] by rank" if self.rescaled else "as they are, float16 holds them"
        text = (
            f"{self.frames} maps are in {self.folder} ({how}); {self.tied} of {self.pixels} pixels "
            f"({100 * self.tied / max(1, self.pixels):.4f} %) share their value with a pixel of another score"
        )
        changes = [f"{name} {100 * self.before[name]:.4f} -> {100 * self.after[name]:.4f}" for name in self.before]
        return text + (f"; {', '.join(changes)} (percent)" if changes else "")


def write_smiyc(
    stored: StoredScores,
    score: str,
    root: Path,
    *,
    method: str,
    dataset: str,
    labels: Mapping[str, Label] | None = None,
) -> ExportReport:
    """Write one score's maps as ``ROOT/anomaly_p/METHOD/SET/FRAME.hdf5``, as SegmentMeIfYouCan's code reads them.

    Its files are float16 (gzip, dataset ``value``), which has three digits and ends at 65504: log-likelihoods would tie
    or overflow. So scores that float16 does not hold are first mapped to [0, 1], in their order, the same way for all
    frames (:class:`anomaly.results.rank_map.RankMap`). A file that is there is replaced; each appears whole, or not
    at all.

    Args:
        stored: Where the scores are.
        score: Which of them.
        root: Folder to write to.
        method: Name of the method there.
        dataset: Name of the set there, such as ``AnomalyTrack-validation``.
        labels: Label of each frame, to measure what float16 changes.

    Raises:
        InputError: A name is no plain name, a map is broken, or the disk is full.
    """
    import h5py

    frames = list(stored.files[score])
    for word in (method, dataset, *frames):
        if word in ("", ".", "..") or "/" in word or "\\" in word:
            raise InputError(f"expected plain names of method, dataset and frames, found {word!r}; use another name")
    folder = root / "anomaly_p" / method / dataset
    _make(folder, {f"{frame}.hdf5" for frame in frames})
    rank_map, ties = RankMap.of(stored.read(score, frame) for frame in frames), Ties.empty()
    before, after = PixelMetrics(score), PixelMetrics(score)
    for frame in frames:
        values = stored.read(score, frame)
        mapped = rank_map(values)
        ties.add(rank_map, values)
        if labels is not None:
            before.update(frame, values, labels[frame])
            after.update(frame, mapped, labels[frame])
        path = folder / f"{frame}.hdf5"
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with h5py.File(temporary, "w") as file:
                file.create_dataset(NAME, data=np.ascontiguousarray(mapped), compression=9)
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise InputError(f"{path}: cannot be written ({error}); make room, then run it again") from error
    figures = [{}, {}] if labels is None else [{n: one.compute()[n] for n in FIGURES} for one in (before, after)]
    return ExportReport(folder, len(frames), rank_map.cuts is not None, ties.total, ties.pixels, figures[0], figures[1])


def _make(folder: Path, own: set[str]) -> None:
    """Make the folder; files of another export would be scored together with these."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: expected a place for a folder, found {error.strerror}; name another") from error
    if others := sorted(path.name for path in folder.iterdir() if path.name not in own):
        raise InputError(
            f"{folder}: expected nothing but maps of this set, found {others[0]} ({len(others)} others), which "
            "would be scored together with them; name another method or set, or remove the folder"
        )
