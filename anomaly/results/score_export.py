"""Export score maps in the layout of SegmentMeIfYouCan's evaluation, with a report on the precision of float16."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import Label
from anomaly.metrics.pixel import PixelMetrics
from anomaly.results.rank_map import RankMap, Ties
from anomaly.results.score_formats.hdf5 import NAME
from anomaly.results.score_store import StoredScores
from anomaly.utils.files import write_whole

METRICS = ("auroc", "ap", "fpr95")


@dataclass(frozen=True)
class ExportReport:
    """What writing scores as float16 changed.

    Args:
        folder: Folder of the files.
        frames: Number of files.
        rescaled: Whether the scores were mapped to other values in the same order.
        pixels: Number of pixels.
        tied: Number of pixels that share their value with a pixel of a different score.
        before: AUROC, AP and FPR95 of the scores, as fractions; empty without labels.
        after: AUROC, AP and FPR95 of the written values, as fractions; empty without labels.
    """

    folder: Path
    frames: int
    rescaled: bool
    pixels: int
    tied: int
    before: Mapping[str, float]
    after: Mapping[str, float]

    def __str__(self) -> str:
        """A summary for the user."""
        how = "rescaled to [0, 1] by rank" if self.rescaled else "unchanged: float16 represents them exactly"
        text = (
            f"{self.frames} maps are in {self.folder} ({how}); {self.tied} of {self.pixels} pixels "
            f"({100 * self.tied / max(1, self.pixels):.4f} %) share their value with a pixel of a different score"
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
    """Write the maps of one score in the layout that SegmentMeIfYouCan's code reads.

    The files ``ROOT/anomaly_p/METHOD/DATASET/FRAME.hdf5`` hold float16 (gzip, dataset ``value``), with three digits and
    a maximum of 65504, in which log-likelihoods would tie or overflow. Scores that float16 cannot represent are
    therefore mapped to [0, 1] in the same order, in the same way for all frames
    (:class:`anomaly.results.rank_map.RankMap`). Existing files are replaced; each file appears whole or not at all.

    Args:
        stored: The stored scores.
        score: Name of the score.
        root: Folder to write to.
        method: Name of the method in SegmentMeIfYouCan.
        dataset: Name of the dataset in SegmentMeIfYouCan, such as ``AnomalyTrack-validation``.
        labels: Label map of each frame, to measure what float16 changes. Shape: ``(H, W)``.

    Raises:
        InputError: A name contains a slash, a map is damaged, or the disk is full.
    """
    frames = list(stored.files[score])
    for word in (method, dataset, *frames):
        if word in ("", ".", "..") or "/" in word or "\\" in word:
            raise InputError(f"expected plain names of method, dataset and frames, found {word!r}; choose another name")
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
        try:
            write_whole(path, partial(_write_map, np.ascontiguousarray(mapped)))
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error}); free some space, then run the command again"
            ) from error
    compared = [{}, {}] if labels is None else [{n: one.compute()[n] for n in METRICS} for one in (before, after)]
    return ExportReport(
        folder, len(frames), rank_map.cuts is not None, ties.total, ties.pixels, compared[0], compared[1]
    )


def _write_map(values: npt.NDArray[np.float16], path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset(NAME, data=values, compression=9)


def _make(folder: Path, own: set[str]) -> None:
    """Create the folder. Files of another export are refused: they would be evaluated together with these."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: expected a place for a folder, found {error.strerror}; name another") from error
    if others := sorted(path.name for path in folder.iterdir() if path.name not in own):
        raise InputError(
            f"{folder}: expected only maps of this dataset, found {others[0]} ({len(others)} others), which would be "
            "evaluated together with them; name another method or dataset, or remove the folder"
        )
