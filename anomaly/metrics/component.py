"""Component metrics of one score on one set: how many anomalous objects were found, and how well."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import Label, as_array, as_frame_id, as_score
from anomaly.metrics.functional.components import FrameComponents, Track, frame_components
from anomaly.metrics.functional.ranking import UndefinedMetricWarning
from anomaly.metrics.merging import check_same_settings
from anomaly.metrics.pixel import PixelMetrics
from anomaly.metrics.repeats import FrameKey, FrameKeys, count_label
from anomaly.metrics.spill import SpillFile, Stored
from anomaly.utils.given import real, text

LEVELS = np.linspace(0.25, 0.75, 11)
SHOWN = (25, 50, 75)
BEST_F1: Literal["best_f1"] = "best_f1"


@dataclass(frozen=True)
class ComponentResult:
    """Component metrics of one score on one set.

    ``result["f1_mean"]`` is short for ``result.values["f1_mean"]``.

    Args:
        values: By name: ``f1_mean`` (F1*, the mean of F1 over 11 levels of sIoU from 0.25 to 0.75), ``siou`` (mean
            over the components of the label), ``ppv`` (mean over predicted components), ``siou_predicted`` (likewise),
            and ``f1_25``, ``f1_50``, ``f1_75`` with the ``tp_``, ``fn_``, ``fp_`` that make them. Fractions and numbers
            of components; NaN where undefined.
        threshold: Pixels with ``score >= threshold`` were called anomalous.
        threshold_from: ``best_f1`` where the set's own labels chose it, else ``given``.
        track: Which components count.
        frames: Number of distinct frames.
        truth_components: Number of components of the label.
        predicted_components: Number of predicted components.
        per_frame: Components of each frame.
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
        """The figure of that name."""
        return self.values[name]


class ComponentMetrics:
    """F1, sIoU and PPV of anomalous objects by the rules of SegmentMeIfYouCan (Chan et al., 2021).

    F1 at a level t counts as true positive a component of the label with sIoU >= t, as false negative one below it, and
    as false positive a predicted component with PPV < t, over all frames together.

    With a number for a threshold, a fixed one or one carried over from another split, only the components' figures are
    kept. With ``"best_f1"``, SegmentMeIfYouCan's own choice, which knows the set's labels, all score maps go to a
    temporary file until the best is known.

    A pixel is called anomalous when ``score >= threshold``, as everywhere in this package. The published code takes
    ``score > threshold``: give ``numpy.nextafter(threshold, numpy.inf)``, in the scores' type, to do the same. And it
    would drop the background of a frame if that were too small for a component; here it stays.

    ``merge`` is associative and commutative, and a frame counts once however often it is seen; that it is the same one
    is checked as :class:`anomaly.metrics.PixelMetrics` does.

    Args:
        track: Which components count; see :data:`anomaly.metrics.functional.components.TRACKS`.
        threshold: A finite score, of any number type, kept as a Python float of the same value; or ``"best_f1"``.
        name: Name of the score, for error messages; only parts of one name merge.
        dataset: Name of the evaluation set; likewise.
        spill_dir: Folder of the temporary file; the system's by default.

    Raises:
        InputError: The threshold is neither.

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
        self.name = text("name", name)
        self.dataset = text("dataset", dataset)
        self.spill_dir = spill_dir
        self._keys = FrameKeys()
        self._frames: dict[str, FrameComponents] = {}
        self._maps: dict[str, tuple[SpillFile, Stored, Stored]] = {}
        self._file: SpillFile | None = None

    def update(self, frame_id: str, score: npt.NDArray[Any], label: Label) -> None:
        """Add one frame; a frame that was seen before stays as it was.

        Args:
            frame_id: Name of the frame, a str, unique in its set.
            score: Higher = more anomalous, every value finite; as of :meth:`anomaly.metrics.PixelMetrics.update`.
            label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel, as an array of any real type.

        Shape:
            score and label ``(H, W)``; frames may differ in size.

        Raises:
            InputError: As of that, or the arrays are not of two dimensions, or of no pixel.
        """
        frame_id = as_frame_id(frame_id)
        label = as_array(frame_id, "label", label)
        score = as_score(frame_id, self.name, score, label.shape)
        if label.ndim != 2 or not label.size:
            raise InputError(
                f"frame {frame_id!r}: expected a label of height and width, as components are of neighbours, found the "
                f"shape {label.shape}; give the maps as (H, W)"
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
        """Take over the frames of ``other``, which stays as it is.

        Raises:
            InputError: ``other`` measures another score, set or track, or at another threshold; or a frame of both is
                another one there.
        """
        settings = ("name", "dataset", "track", "threshold")
        mine, theirs = ({name: getattr(one, name) for name in settings} for one in (self, other))
        check_same_settings("component metrics", mine, theirs)
        self._keys.check(other._keys)
        self._frames = {**other._frames, **self._frames}
        self._maps = {**other._maps, **self._maps}
        self._keys.take(other._keys)

    def compute(self, best_f1_threshold: float | None = None) -> ComponentResult:
        """Measure all frames; ``update`` and ``merge`` may go on afterwards.

        Args:
            best_f1_threshold: With ``threshold="best_f1"``, the set's ``best_f1_threshold`` where it is known already,
                which saves its search; NaN where there is none.

        Raises:
            InputError: It is no number, or not finite although there are known and anomaly pixels.

        Warns:
            UndefinedMetricWarning: There is no component in the labels, and F1 and sIoU are NaN.
        """
        threshold, frames = self.threshold, self._frames
        if threshold == BEST_F1:
            given = None if best_f1_threshold is None else self._given(best_f1_threshold)
            threshold = self._best_f1_threshold() if given is None else given
            frames = {name: self._match(*self._read(name), threshold) for name in self._maps}
        frames = {name: frames[name] for name in sorted(frames)}
        siou, ppv, mirrored = (
            np.concatenate([getattr(frame, part) for frame in frames.values()] or [np.empty(0)])
            for part in ("siou", "ppv", "siou_predicted")
        )
        if not siou.size:
            message = f"score {self.name!r}: component F1 and sIoU are NaN: no label has a component that counts"
            warnings.warn(message, UndefinedMetricWarning, stacklevel=2)
        figures = {"f1_mean": float(np.mean([_f1(siou, ppv, level)[0] for level in LEVELS]))}
        figures |= {"siou": _mean(siou), "ppv": _mean(ppv), "siou_predicted": _mean(mirrored)}
        for level in SHOWN:
            values = _f1(siou, ppv, level / 100)
            figures |= {f"{part}_{level}": value for part, value in zip(("f1", "tp", "fn", "fp"), values, strict=True)}
        return ComponentResult(
            values=figures,
            threshold=float(threshold),
            threshold_from=BEST_F1 if self.threshold == BEST_F1 else "given",
            track=self.track,
            frames=len(frames),
            truth_components=siou.size,
            predicted_components=ppv.size,
            per_frame=frames,
        )

    def reset(self) -> None:
        """Forget all frames."""
        self._frames, self._maps, self._file, self._keys = {}, {}, None, FrameKeys()

    def _given(self, threshold: float) -> float:
        """Check a threshold that is said to be the best one."""
        both = all(any(key.counts[i] for key in self._keys) for i in (0, 1))
        return real("best_f1_threshold", threshold, "the set's best_f1_threshold, a score", finite=both)

    def _best_f1_threshold(self) -> float:
        pixels = PixelMetrics(self.name, spill_dir=self.spill_dir)
        for name in self._maps:
            pixels.update(name, *self._read(name))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)  # said of the components in a moment
            return pixels.compute()["best_f1_threshold"]

    def _read(self, name: str) -> tuple[npt.NDArray[Any], Label]:
        file, score, label = self._maps[name]
        return file.read(score).reshape(score.shape), file.read(label).reshape(label.shape)

    def _match(self, score: npt.NDArray[Any], label: Label, threshold: float) -> FrameComponents:
        return frame_components(score >= np.float64(threshold), label, self.track)


def component_threshold(threshold: Any) -> float | Literal["best_f1"]:
    """Give a threshold as a Python float of the same value, or ``"best_f1"``. Raises ``InputError`` for another."""
    if isinstance(threshold, str) and threshold == BEST_F1:
        return BEST_F1
    return real("threshold", threshold, f"a finite score or {BEST_F1!r}", finite=True)


def _f1(siou: npt.NDArray[np.float64], ppv: npt.NDArray[np.float64], level: float) -> tuple[float, float, float, float]:
    """F1 at a level of sIoU, and the true positives, false negatives and false positives that make it."""
    tp, fn, fp = int((siou >= level).sum()), int((siou < level).sum()), int((ppv < level).sum())
    return (2 * tp / (2 * tp + fn + fp) if siou.size else math.nan), tp, fn, fp


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else math.nan
