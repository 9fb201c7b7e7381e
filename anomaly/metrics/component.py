"""Component metrics of a score on a dataset: how many anomalous objects were found, and how well."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import Label, as_array, as_frame_id, as_score
from anomaly.metrics.distributed import State, gather
from anomaly.metrics.functional.components import FrameComponents, Track, frame_components
from anomaly.metrics.functional.ranking import UndefinedMetricWarning
from anomaly.metrics.merging import check_same_settings
from anomaly.metrics.pixel import PixelMetrics
from anomaly.metrics.repeats import FrameKey, FrameKeys, count_label
from anomaly.metrics.spill import SpillFile, Stored
from anomaly.utils.given import choice, real, text

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

LEVELS = np.linspace(0.25, 0.75, 11)
SHOWN = (25, 50, 75)
BEST_F1: Literal["best_f1"] = "best_f1"


@dataclass(frozen=True)
class ComponentResult:
    """Component metrics of a score on a dataset.

    ``result["f1_mean"]`` is short for ``result.values["f1_mean"]``.

    Args:
        values: Values by name; fractions and numbers of components, NaN where undefined. ``f1_mean`` is F1*, the mean
            of F1 over 11 sIoU levels from 0.25 to 0.75. ``siou`` is the mean over label components, ``ppv`` and
            ``siou_predicted`` are means over predicted components. ``f1_25``, ``f1_50`` and ``f1_75`` are F1 at one
            level, and ``tp_25``, ``fn_25``, ``fp_25`` and so on their counts.
        threshold: Pixels with ``score >= threshold`` were flagged as anomalous.
        threshold_from: ``best_f1`` if the threshold was chosen with the labels of this dataset, else ``given``.
        track: Sizes below which components do not count.
        frames: Number of distinct frames.
        truth_components: Number of label components.
        predicted_components: Number of predicted components.
        per_frame: Components of each frame, by its id.
    """

    values: dict[str, float]
    threshold: float
    threshold_from: str
    track: Track
    frames: int
    truth_components: int
    predicted_components: int
    per_frame: dict[str, FrameComponents]

    def __getitem__(self, name: str) -> float:
        """The value of that name."""
        return self.values[name]


class ComponentMetrics:
    """F1, sIoU and PPV of anomalous objects, by the rules of SegmentMeIfYouCan (Chan et al., 2021).

    F1 at a level t counts over all frames together. A label component with sIoU >= t is a true positive, one below t
    a false negative. A predicted component with PPV < t is a false positive.

    With a number as threshold, only the values of components are stored. With ``"best_f1"``, the choice of
    SegmentMeIfYouCan, the threshold maximises the pixel F1 on the labels of this dataset; all score maps are kept in a
    temporary file until it is known.

    A pixel is flagged as anomalous when ``score >= threshold``, as everywhere in this package. The published code uses
    ``score > threshold``; pass ``numpy.nextafter(threshold, numpy.inf)``, in the scores' type, to do the same. The
    published code would also drop the background of a frame if it were too small for a component; it is kept here.

    ``merge`` is associative and commutative. A frame counts once, however often it is added; as in
    :class:`anomaly.metrics.PixelMetrics`, a different frame of the same name is an error.

    Args:
        track: Sizes below which components do not count; see
            :data:`anomaly.metrics.functional.components.TRACKS`.
        threshold: A finite score of any number type, kept as a Python float of the same value; or ``"best_f1"``.
        name: Name of the score, for error messages. Only metrics of the same name can be merged.
        dataset: Name of the dataset, for error messages. Only metrics of the same dataset can be merged.
        spill_dir: Folder of the temporary file; by default that of the system.

    Raises:
        InputError: ``threshold`` is neither a finite score nor ``"best_f1"``.

    Examples:
        >>> metrics = ComponentMetrics(Track("tiny", 1, 1), threshold=0.5)
        >>> metrics.update("a", np.float32([[0.9, 0.1, 0.1], [0.9, 0.1, 0.8]]), np.uint8([[1, 0, 0], [1, 0, 0]]))
        >>> result = metrics.compute()
        >>> result["siou"], result["ppv"], round(result["f1_50"], 4)
        (1.0, 0.5, 0.6667)
    """

    def __init__(
        self,
        track: Track,
        threshold: float | Literal["best_f1"] = BEST_F1,
        *,
        name: str = "score",
        dataset: str = "",
        spill_dir: Path | None = None,
    ) -> None:
        self.track = track
        self.threshold = component_threshold(threshold)
        self.threshold_from = BEST_F1 if self.threshold == BEST_F1 else "given"
        self.name = text("name", name)
        self.dataset = text("dataset", dataset)
        self.spill_dir = spill_dir
        self._keys = FrameKeys()
        self._frames: dict[str, FrameComponents] = {}
        self._maps: dict[str, tuple[SpillFile, Stored, Stored]] = {}
        self._file: SpillFile | None = None

    def update(self, frame_id: str, score: npt.NDArray[Any], label: Label) -> None:
        """Add a frame; one that was added before is not changed.

        Args:
            frame_id: Name of the frame, a str, unique in its dataset.
            score: Score of each pixel, finite, higher = more anomalous; an array or torch tensor of any real type.
            label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel, an array of any real type.

        Shape:
            score and label ``(H, W)``; frames may differ in size.

        Raises:
            InputError: ``frame_id`` is not a str; the shapes differ, have not two dimensions or no pixel; a score is
                not finite or not real; a label has another value; an array is masked; or another frame of this id was
                added. The frame is not added then.
        """
        frame_id = as_frame_id(frame_id)
        label = as_array(frame_id, "label", label)
        score = as_score(frame_id, self.name, score, label.shape)
        if label.ndim != 2 or not label.size:
            raise InputError(
                f"frame {frame_id!r}: expected a label of shape (H, W) with at least one pixel, found the shape "
                f"{label.shape}; give label and score as maps"
            )
        key = FrameKey.of(count_label(frame_id, label), score, label)
        if self._keys.repeats(frame_id, key):
            return
        if self.threshold != BEST_F1:
            self._frames[frame_id] = self._match(score, label, self.threshold)
        else:
            self._file = self._file or SpillFile(self.spill_dir)
            self._maps[frame_id] = (self._file, self._file.write(score), self._file.write(label.astype(np.uint8)))
        self._keys.add(frame_id, key)

    def merge(self, other: ComponentMetrics) -> None:
        """Add the frames of ``other``, which does not change.

        Raises:
            InputError: ``other`` has another score, dataset, track, threshold or origin of the threshold, or a
                different frame of the same id.
        """
        settings = ("name", "dataset", "track", "threshold", "threshold_from")
        mine, theirs = ({name: getattr(one, name) for name in settings} for one in (self, other))
        check_same_settings("component metrics", mine, theirs)
        self._keys.check(other._keys)
        self._frames = {**other._frames, **self._frames}
        self._maps = {**other._maps, **self._maps}
        self._keys.take(other._keys)

    def gather(self, group: ProcessGroup | None = None) -> None:
        """Add the frames of all ``torch.distributed`` processes to the metrics of process 0.

        Call it on every process. It does nothing without a process group. Only the metrics of process 0 change. With
        ``"best_f1"`` score maps and labels travel, to a temporary file of process 0; :meth:`matched` avoids that.

        Args:
            group: A gloo group to use; by default all processes, in a group that is made for this call.

        Raises:
            InputError: A part cannot be merged; raised on every process.
        """
        gather(self, partial(self.from_state, spill_dir=self.spill_dir), group)

    def matched(self, threshold: float) -> ComponentMetrics:
        """Match the frames at the best-F1 threshold, so that only the values of components are left.

        When several processes have a part of the frames each, every process can match its own score maps once the
        threshold is known. The values of the merged metrics are those of one process with ``"best_f1"``.

        Args:
            threshold: The threshold that maximises the pixel F1 of the whole dataset; NaN if it is undefined, which
                flags no pixel.

        Returns:
            Metrics of the same frames with that number as threshold. This object does not change.

        Raises:
            InputError: The threshold of this object is a number, so that it has no score maps; or ``threshold`` is not
                a number, or not finite although there are known and anomaly pixels.
        """
        if self.threshold != BEST_F1:
            raise InputError(
                f"matched: expected component metrics with the threshold {BEST_F1!r}, which keep their score maps, "
                f"found the threshold {self.threshold!r}; make them with threshold={BEST_F1!r}"
            )
        metrics = ComponentMetrics(self.track, name=self.name, dataset=self.dataset, spill_dir=self.spill_dir)
        metrics.threshold = value = self._given(threshold)
        metrics._frames = {name: self._match(*self._read(name), value) for name in self._maps}
        metrics._keys.take(self._keys)
        return metrics

    def compute(self, best_f1_threshold: float | None = None) -> ComponentResult:
        """Compute the metrics of all frames. You can call ``update`` and ``merge`` again afterwards.

        Args:
            best_f1_threshold: With ``threshold="best_f1"``, the threshold if it is known already, which saves the
                search for it; NaN if it is undefined.

        Raises:
            InputError: ``best_f1_threshold`` is not a number, or not finite although there are known and anomaly
                pixels.

        Warns:
            UndefinedMetricWarning: The labels have no component; F1 and sIoU are NaN.
        """
        threshold, frames = self.threshold, self._frames
        if threshold == BEST_F1:
            matched = self.matched(self._best_f1_threshold() if best_f1_threshold is None else best_f1_threshold)
            threshold, frames = matched.threshold, matched._frames
        frames = {name: frames[name] for name in sorted(frames)}
        siou, ppv, mirrored = (
            np.concatenate([getattr(frame, part) for frame in frames.values()] or [np.empty(0)])
            for part in ("siou", "ppv", "siou_predicted")
        )
        if not siou.size:
            message = f"score {self.name!r}: component F1 and sIoU are NaN: no label has a component that counts"
            warnings.warn(message, UndefinedMetricWarning, stacklevel=2)
        values = {"f1_mean": float(np.mean([_f1(siou, ppv, level)[0] for level in LEVELS]))}
        values |= {"siou": _mean(siou), "ppv": _mean(ppv), "siou_predicted": _mean(mirrored)}
        for level in SHOWN:
            parts = _f1(siou, ppv, level / 100)
            values |= {f"{part}_{level}": value for part, value in zip(("f1", "tp", "fn", "fp"), parts, strict=True)}
        return ComponentResult(
            values=values,
            threshold=float(threshold),
            threshold_from=self.threshold_from,
            track=self.track,
            frames=len(frames),
            truth_components=siou.size,
            predicted_components=ppv.size,
            per_frame=frames,
        )

    def reset(self) -> None:
        """Remove all frames."""
        self._frames, self._maps, self._file, self._keys = {}, {}, None, FrameKeys()

    def state(self) -> State:
        """Return the state as values that JSON can hold, and as arrays that are made one at a time.

        The arrays of a frame are its score map and its label with ``"best_f1"``, else the values of its components.
        """
        settings = {name: getattr(self, name) for name in ("threshold", "threshold_from", "name", "dataset")}
        header = {"settings": {**settings, "track": asdict(self.track)}, **self._keys.state()}
        return header, (array for frame_id in self._keys.counts for array in self._arrays(frame_id))

    @classmethod
    def from_state(
        cls, header: dict[str, Any], arrays: Iterator[npt.NDArray[Any]], *, spill_dir: Path | None = None
    ) -> ComponentMetrics:
        """Make metrics from a state of :meth:`state`.

        Args:
            header: Values of the state.
            arrays: Arrays of the state; score maps go to a temporary file one at a time.
            spill_dir: Folder of the temporary file; by default that of the system.

        Raises:
            InputError: A setting, a score map or a label of the state is not valid, or there is no room for them.
            ValueError: A frame is not valid otherwise.
        """
        settings = dict(header["settings"])
        track, threshold = Track(**settings.pop("track")), settings.pop("threshold")
        origin = choice("threshold_from", settings.pop("threshold_from"), (BEST_F1, "given"))
        metrics = cls(track, BEST_F1 if origin == BEST_F1 else threshold, **settings, spill_dir=spill_dir)
        keys = FrameKeys.from_state(header)
        if threshold == BEST_F1:
            for frame_id in keys.counts:
                metrics.update(frame_id, next(arrays), next(arrays))
            if metrics._keys.counts != keys.counts:
                raise ValueError("the pixel counts of a frame are not those of its label")
            return metrics
        metrics._keys = keys
        if origin == BEST_F1:
            metrics.threshold = metrics._given(threshold)
        for frame_id in keys.counts:
            metrics._frames[frame_id] = _stored(frame_id, next(arrays), next(arrays), next(arrays))
        return metrics

    def _arrays(self, name: str) -> Iterator[npt.NDArray[Any]]:
        if self.threshold == BEST_F1:
            yield from self._read(name)
        else:
            yield from vars(self._frames[name]).values()

    def _given(self, threshold: float) -> float:
        """Check a given best-F1 threshold."""
        both = all(any(key.counts[i] for key in self._keys) for i in (0, 1))
        return real("best_f1_threshold", threshold, "a score", finite=both)

    def _best_f1_threshold(self) -> float:
        pixels = PixelMetrics(self.name, spill_dir=self.spill_dir)
        for name in self._maps:
            pixels.update(name, *self._read(name))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)  # compute() warns about the components
            return pixels.compute()["best_f1_threshold"]

    def _read(self, name: str) -> tuple[npt.NDArray[Any], Label]:
        file, score, label = self._maps[name]
        return file.read(score).reshape(score.shape), file.read(label).reshape(label.shape)

    def _match(self, score: npt.NDArray[Any], label: Label, threshold: float) -> FrameComponents:
        return frame_components(score >= np.float64(threshold), label, self.track)


def component_threshold(threshold: Any) -> float | Literal["best_f1"]:
    """Check a threshold of component metrics.

    Returns:
        ``"best_f1"``, or a finite threshold as a Python float of the same value.

    Raises:
        InputError: ``threshold`` is neither a finite score nor ``"best_f1"``.
    """
    if isinstance(threshold, str) and threshold == BEST_F1:
        return BEST_F1
    return real("threshold", threshold, f"a finite score or {BEST_F1!r}", finite=True)


def _f1(siou: npt.NDArray[np.float64], ppv: npt.NDArray[np.float64], level: float) -> tuple[float, float, float, float]:
    """Compute F1 at a level, and its true positives, false negatives and false positives."""
    tp, fn, fp = int((siou >= level).sum()), int((siou < level).sum()), int((ppv < level).sum())
    return (2 * tp / (2 * tp + fn + fp) if siou.size else math.nan), tp, fn, fp


def _stored(
    frame_id: str, siou: npt.NDArray[Any], ppv: npt.NDArray[Any], siou_predicted: npt.NDArray[Any]
) -> FrameComponents:
    """Check the values of a frame's components from a state; raise ``ValueError`` unless they are fractions."""
    for values in (siou, ppv, siou_predicted):
        if values.dtype != np.float64 or values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                f"frame {frame_id!r}: expected a list of fractions of float64, found {values.dtype} of shape "
                f"{values.shape}"
            )
    if ppv.shape != siou_predicted.shape:
        raise ValueError(f"frame {frame_id!r}: expected as many PPV as sIoU of predicted components")
    return FrameComponents(siou, ppv, siou_predicted)


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else math.nan
