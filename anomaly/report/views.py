"""Reduced views of frames for the report, in one small file each, and the data of their dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.datasets.dataset import Dataset
from anomaly.errors import InputError
from anomaly.evaluation.callbacks import Callback, DatasetEnd, FrameResult
from anomaly.evaluation.score_maps import TopClasses
from anomaly.frames import ANOMALY, IGNORE, KNOWN, Frame, Label, ScoreMap
from anomaly.metrics.score_curves import ScoreCurves
from anomaly.utils.given import whole
from anomaly.utils.state_file import read_state, write_state

WIDTH, HEIGHT = 640, 360  # largest size of a view
GRID = 80  # number of grid points on the long side
FRAMES = 60
QUALITY = 85  # JPEG quality
SET = "set.npz"
_VIEW, _SET = "a frame for the report", "a set for the report"

Indices = npt.NDArray[np.intp]
Asked = Callable[[Indices, Indices], "TopClasses | None"]


@dataclass(frozen=True)
class View:
    """A reduced frame. Except for the image, every pixel is a pixel of the frame, the one at the centre of its cell.

    The grid is a coarser selection of pixels of the view. The file of a view is named by its number.

    Args:
        frame: Id of the frame.
        size: Height and width of the frame.
        kind: Kind of ``values`` (:class:`anomaly.evaluation.score_maps.TopClasses`); empty if the model has no classes.
        image: JPEG file of the image, reduced by area averages. Shape: ``(bytes,)``, uint8.
        label: ``KNOWN``, ``ANOMALY`` and ``IGNORE``. Shape: ``(h, w)``, uint8.
        predicted: Predicted classes; no rows if the model has none. Shape: ``(h, w)``, uint16.
        maps: Codes of each score: the number of levels that are at most the score. A pixel is at or above level i (from
            0) if its code is larger than i. During a run, the scores themselves. Shape: ``(S, h, w)``, uint8.
        points: Scores on the grid. Shape: ``(S, rows, columns)``, float32.
        classes: Most likely classes on the grid. Shape: ``(K, rows, columns)``, uint16.
        values: Their values. Shape: ``(K, rows, columns)``, float32.
    """

    frame: str
    size: tuple[int, int]
    kind: str
    image: npt.NDArray[np.uint8]
    label: Label
    predicted: npt.NDArray[np.uint16]
    maps: npt.NDArray[Any]
    points: npt.NDArray[np.float32]
    classes: npt.NDArray[np.uint16]
    values: npt.NDArray[np.float32]

    @classmethod
    def of(
        cls,
        frame: Frame,
        maps: Sequence[ScoreMap],
        predicted: npt.NDArray[np.integer] | None,
        top_classes: Asked | None,
    ) -> View:
        """Reduce a frame.

        Args:
            frame: The frame.
            maps: Score maps of its size.
            predicted: Predicted class of each pixel; None without a network.
            top_classes: Function that returns the most likely classes at rows and columns; None without a network.
        """
        size = (frame.label.shape[0], frame.label.shape[1])
        height, width = view_size(*size)
        rows, columns = picks(size[0], height), picks(size[1], width)
        at, small = np.ix_(rows, columns), np.ix_(*grid(height, width))
        scores = np.stack([score[at] for score in maps])
        found = None if top_classes is None else top_classes(rows[small[0].ravel()], columns[small[1].ravel()])
        image = cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA)
        options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        nothing = np.empty((0, small[0].size, small[1].size))
        return cls(
            frame=frame.id,
            size=size,
            kind="" if found is None else found.kind,
            image=cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].ravel(),
            label=frame.label[at],
            predicted=(np.empty((0, width)) if predicted is None else predicted[at]).astype(np.uint16),
            maps=scores if scores.dtype == np.float32 else scores.astype(np.float64),
            points=scores[:, small[0], small[1]].astype(np.float32),
            classes=(nothing if found is None else found.classes).astype(np.uint16),
            values=(nothing if found is None else found.values).astype(np.float32),
        )

    def coded(self, levels: Sequence[npt.NDArray[np.float64]]) -> View:
        """Replace the scores by codes, using the ascending levels of each score, at most 255."""
        codes = [np.searchsorted(one, score, side="right") for one, score in zip(levels, self.maps, strict=True)]
        return replace(self, maps=np.stack(codes).astype(np.uint8))

    def write(self, path: Path) -> None:
        """Write to a ``.npz`` file that numpy can open. Raises ``InputError`` if that fails."""
        header = {"frame": self.frame, "size": list(self.size), "kind": self.kind}
        write_state(path, header, (getattr(self, name) for name in _ARRAYS), _VIEW)

    @classmethod
    def read(cls, path: Path) -> View:
        """Read a file of :meth:`write`. Its contents are checked.

        Raises:
            InputError: The file is missing, damaged or something else.
        """
        with read_state(path, _VIEW) as (header, arrays):
            found = dict(zip(_ARRAYS, arrays, strict=False))
            height, width = header["size"]
            view = cls(str(header["frame"]), (int(height), int(width)), str(header["kind"]), **found)
            view._check()
        return view

    def _check(self) -> None:
        """Raise ``ValueError`` unless the arrays have the shapes and types of the class's documentation."""
        height, width = view_size(*self.size)
        rows, columns = (len(each) for each in grid(height, width))
        for name, kinds, shape in (
            ("image", "u1", (None,)),
            ("label", "u1", (height, width)),
            ("predicted", "u2", (len(self.predicted) and height, width)),
            ("maps", ("u1", "f4", "f8"), (None, height, width)),
            ("points", "f4", (len(self.maps), rows, columns)),
            ("classes", "u2", (None, rows, columns)),
            ("values", "f4", self.classes.shape),
        ):
            array = getattr(self, name)
            fits = array.ndim == len(shape) and all(b in (None, a) for a, b in zip(array.shape, shape, strict=True))
            if not fits or array.dtype.str[1:] not in kinds:
                raise ValueError(f"{name} of type {array.dtype} and shape {array.shape}")
        if not np.isin(self.label, (KNOWN, ANOMALY, IGNORE)).all() or not np.isfinite(self.values).all():
            raise ValueError("invalid label values or class values")


_ARRAYS = ("image", "label", "predicted", "maps", "points", "classes", "values")


@dataclass(frozen=True)
class DatasetViews:
    """The data of a dataset for the report.

    Args:
        dataset: Name of the dataset.
        fingerprint: Fingerprint of its frames and labels.
        frames: Ids of the frames with views, in the dataset's order; view ``i`` is in ``NNNN.npz`` with that number.
        classes: Names of the network's classes; empty if they are not known.
        curves: Curves by score.
    """

    dataset: str
    fingerprint: str
    frames: tuple[str, ...]
    classes: tuple[str, ...]
    curves: dict[str, ScoreCurves]

    def write(self, folder: Path) -> None:
        """Write to ``folder``. Raises ``InputError`` if that fails."""
        curves = [[name, one.record()] for name, one in self.curves.items()]
        write_state(folder / SET, {**vars(self), "curves": curves}, (), _SET)

    @classmethod
    def read(cls, folder: Path) -> DatasetViews:
        """Read the data that :meth:`write` wrote. Raises ``InputError`` if it is something else."""
        with read_state(folder / SET, _SET) as (header, _):
            texts = {name: tuple(map(str, header[name])) for name in ("frames", "classes")}
            curves = {str(name): ScoreCurves.from_record(one) for name, one in header["curves"]}
            return cls(
                str(header["dataset"] if "dataset" in header else header["set"]),
                str(header["fingerprint"]),
                **texts,
                curves=curves,
            )

    def view(self, folder: Path, index: int) -> View:
        """Read a view. Raises ``InputError`` if it does not belong to this dataset."""
        path = view_path(folder, index)
        view = View.read(path)
        if view.frame != self.frames[index] or view.maps.dtype != np.uint8 or len(view.maps) != len(self.curves):
            raise InputError(f"{path}: expected the frame {self.frames[index]!r}, found {view.frame!r}; evaluate again")
        return view


class ViewCallback(Callback):
    """Keeps reduced views of frames during an evaluation: ``FOLDER/DATASET/NNNN.npz``, and ``set.npz`` beside them.

    Args:
        folder: Folder to write to; created when needed.
        frames: Largest number of frames of each dataset to keep, sampled evenly.
    """

    needs_curves = True

    def __init__(self, folder: Path, frames: int = FRAMES) -> None:
        self._folder = folder
        self._most = whole("frames of the report", frames, 1, "1 or more")
        self._places: dict[str, dict[str, int]] = {}

    def on_start(self, datasets: Sequence[Dataset], scores: Sequence[str]) -> None:
        """Choose the frames."""
        for dataset in datasets:
            ids = [dataset.files[i].id for i in sample(len(dataset), self._most)]
            self._places[dataset.name] = {frame: place for place, frame in enumerate(ids)}

    def wants_classes(self, dataset: str, frame_id: str) -> bool:
        """Return whether the frame is kept."""
        return frame_id in self._places.get(dataset, ())

    def on_frame(self, result: FrameResult) -> None:
        """Keep the frame, if it was chosen."""
        place = self._places[result.dataset].get(result.frame.id)
        if place is not None:
            folder = self._folder / result.dataset
            folder.mkdir(parents=True, exist_ok=True)
            view = View.of(result.frame, list(result.scores.values()), result.classes, result.top_classes)
            view.write(view_path(folder, place))

    def on_dataset_end(self, end: DatasetEnd) -> None:
        """Replace scores by codes, and write the data of the dataset."""
        folder, frames = self._folder / end.result.dataset, self._places[end.result.dataset]
        levels = [np.array(one.levels) for one in end.curves.values()]
        for place in frames.values():
            path = view_path(folder, place)
            View.read(path).coded(levels).write(path)
        views = DatasetViews(end.result.dataset, end.result.fingerprint, tuple(frames), end.classes, dict(end.curves))
        views.write(folder)


def sample(frames: int, most: int) -> Iterator[int]:
    """Indices of at most ``most`` frames, sampled evenly; the first and the last are included if there are several."""
    if most == 1:
        return iter([frames // 2])
    return iter(sorted({round(i) for i in np.linspace(0, frames - 1, min(frames, most)).tolist()}))


def view_size(height: int, width: int) -> tuple[int, int]:
    """``(height, width)`` of the view of a frame: at most 360 x 640, never enlarged, with the same aspect."""
    scale = min(HEIGHT / height, WIDTH / width, 1.0)
    return max(1, round(height * scale)), max(1, round(width * scale))


def grid(height: int, width: int) -> tuple[Indices, Indices]:
    """Rows and columns of the grid points of a view: at most 80 on the long side."""
    scale = min(1.0, GRID / max(height, width))
    return picks(height, max(1, round(height * scale))), picks(width, max(1, round(width * scale)))


def picks(length: int, count: int) -> Indices:
    """Indices of the pixels at the centres of ``count`` cells along a side. Shape: ``(count,)``."""
    return ((np.arange(count) + 0.5) * length / count).astype(np.intp)


def view_path(folder: Path, index: int) -> Path:
    """The file of a view."""
    return folder / f"{index:04d}.npz"
