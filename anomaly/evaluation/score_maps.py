"""From what a network says of a image to score maps of the image's size: scores, then post-processing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from anomaly.errors import InputError
from anomaly.frames import Frame, Image, ScoreMap
from anomaly.models.base import Model
from anomaly.models.tiling import Inference, ViewPrediction
from anomaly.postprocessing.table import Chain, Context
from anomaly.results.score_store import ScoreWriter
from anomaly.scores.table import SCORES, Score, serves
from anomaly.utils.names import check_distinct

NO_POST = (Chain(),)
WHOLE = Inference()


class Store(Protocol):
    """Where score maps are: :class:`anomaly.results.score_store.StoredScores`, or a writer of them."""

    def has(self, frame_id: str, names: Sequence[str], image: str | None = None) -> bool:
        """Whether these scores of a frame are there, of the image that :func:`image_hash` calls ``image``.

        Raises:
            InputError: They are of another image, and nothing computes them again.
        """
        ...

    def read(self, name: str, frame_id: str) -> npt.NDArray[Any]:
        """Read one map. Shape: ``(H, W)``."""
        ...


@dataclass(frozen=True)
class ImagePrediction:
    """What a network says of one frame: all views of its input of height and width ``size``."""

    looks: Sequence[ViewPrediction]
    size: tuple[int, int]


@dataclass(frozen=True)
class TopClasses:
    """The most likely classes of some pixels.

    Args:
        kind: What the values are: log-likelihoods ``log p(x | c)`` of a generative network, else log-softmax.
        classes: Their numbers, the top_classes first.
        values: Their values.

    Shape:
        classes and values ``(K, rows, columns)``, int64 and float32.
    """

    kind: Literal["class_log_likelihood", "log_softmax"]
    classes: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


def see(detector: Model, image: Image, inference: Inference = WHOLE) -> ImagePrediction:
    """Show one image to a network. Shape: ``(H, W, 3)``, uint8."""
    inputs = detector.prepare(image)[None]
    return ImagePrediction(inference.look(detector, inputs), (inputs.shape[2], inputs.shape[3]))


@dataclass(frozen=True)
class Method:
    """How score maps come about: every score, with every chain of post-processing.

    Args:
        scores: At least one; their names are distinct.
        inference: How the network looks at a image.
        post: Chains of post-processing, each applied to every score; an empty chain leaves it as it is.
        classes: Names of the network's classes; empty where they are not known.

    Raises:
        InputError: Two maps would have one name.
    """

    scores: Sequence[Score]
    inference: Inference = WHOLE
    post: Sequence[Chain] = NO_POST
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_distinct(self.names, "scores with their post-processing")

    @property
    def names(self) -> list[str]:
        """Of the maps: ``SCORE``, or ``SCORE+CHAIN``."""
        return [_name(score.name, chain) for score in self.scores for chain in self.post]

    @property
    def needs_classes(self) -> bool:
        """Whether post-processing wants the network's class of every pixel."""
        return any("classes" in chain.needs for chain in self.post)

    def classify(self, seen: ImagePrediction, size: tuple[int, int]) -> npt.NDArray[np.int64]:
        """Give each pixel's class, logits resized bilinearly to ``size = (H, W)``, as mmseg does it. ``(H, W)``."""
        with torch.inference_mode():
            logits = self.inference.logits(seen.looks, seen.size)
            logits = functional.interpolate(logits, size, mode="bilinear", align_corners=False)
            return logits[0].argmax(0).cpu().numpy()

    def top_classes(
        self,
        seen: ImagePrediction,
        size: tuple[int, int],
        rows: npt.NDArray[np.intp],
        columns: npt.NDArray[np.intp],
        most: int = 5,
    ) -> TopClasses:
        """Give the top_classes classes of some pixels, class maps resized bilinearly to ``size = (H, W)``.

        Args:
            seen: What the network says of a frame.
            size: Of the frame.
            rows: Of the pixels. Shape: ``(R,)``.
            columns: Of the pixels. Shape: ``(S,)``.
            most: How many classes, fewer where there are fewer.
        """
        generative = seen.looks[0].prediction.class_log_likelihood is not None
        with torch.inference_mode():
            maps = self.inference.class_maps(seen.looks, seen.size, "class_log_likelihood" if generative else "logits")
            maps = functional.interpolate(maps, size, mode="bilinear", align_corners=False)[0]
            maps = maps[:, torch.from_numpy(rows)][:, :, torch.from_numpy(columns)].float().cpu()
            values, classes = (maps if generative else maps.log_softmax(0)).topk(min(most, len(maps)), dim=0)
        kind: Literal["class_log_likelihood", "log_softmax"] = "class_log_likelihood" if generative else "log_softmax"
        return TopClasses(kind, classes.numpy(), values.numpy())

    def maps(
        self, frame: Frame, seen: ImagePrediction | None, store: Store | None, classes: npt.NDArray[np.integer] | None
    ) -> dict[str, ScoreMap]:
        """All maps of a frame at its label's size, by name.

        Args:
            frame: The frame.
            seen: What the network says of it; None where its scores are stored.
            store: Where scores are read from then, and written to otherwise if it is a writer; before post-processing.
            classes: The network's class of every pixel, where :attr:`needs_classes`. Shape: ``(H, W)``.

        Raises:
            InputError: There is neither network nor store, a stored map has another size, or post-processing fails.
        """
        found = self.score(seen, frame.label.shape) if seen is not None else self._stored(frame, store)
        if seen is not None and isinstance(store, ScoreWriter):
            for name, score in found.items():
                store.write(frame.id, name, score, frame.image_hash)
        context = Context(frame.id, frame.image, classes, self.classes)
        return {_name(name, chain): chain(score, context) for name, score in found.items() for chain in self.post}

    def score(self, seen: ImagePrediction, size: tuple[int, int]) -> dict[str, ScoreMap]:
        """Score what the network saw, by name, resized to ``size = (H, W)``; before post-processing."""
        found = self.inference.score(seen.looks, seen.size, self.scores)
        return {name: resize_score(score[0].cpu().numpy(), size) for name, score in found.items()}

    def _stored(self, frame: Frame, store: Store | None) -> dict[str, ScoreMap]:
        if store is None:
            raise InputError(
                f"frame {frame.id!r}: expected a network or stored scores, found neither; give one of them"
            )
        names = [score.name for score in self.scores]
        if isinstance(store, ScoreWriter):  # which says that it has them not, while others raise
            store.check(frame.id, names, frame.image_hash)
        maps = {name: store.read(name, frame.id) for name in names}
        for name, stored in maps.items():
            if stored.shape != frame.label.shape:
                (h, w), (height, width) = stored.shape, frame.label.shape
                raise InputError(
                    f"frame {frame.id!r}: expected a {name} map of the label's size, {width}x{height}, found {w}x{h} "
                    "(width x height); resize the scores (never the labels) before, and say in their settings how"
                )
        return maps


def _name(score: str, chain: Chain) -> str:
    return f"{score}+{chain.name}" if chain.name else score


def resize_score(score: ScoreMap, size: tuple[int, int]) -> ScoreMap:
    """Resize a ``(h, w)`` map to ``size = (H, W)``: bilinearly, pixel centres at half integers."""
    if score.shape == size:
        return score
    return cv2.resize(score, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def check_scores(scores: Sequence[Score], detector: Model | None) -> None:
    """Raise ``InputError``, saying what would work, if ``detector`` cannot serve them all, or one was not fitted."""
    if detector is None:
        return
    check_served(scores, detector)
    for score in scores:
        if score.fitted and not score.statistics:
            raise InputError(
                f"score {score.name!r} needs statistics of training images, found none; fit them by "
                "tools/fit_scores.py, and name the file with --statistics"
            )


def check_served(scores: Sequence[Score], detector: Model) -> None:
    """Raise ``InputError``, saying what would work, if ``detector`` cannot serve them all, fitted or not."""
    for score in scores:
        if not serves(score, detector.gives):
            missing = next(name for name in score.needs if name not in detector.gives)
            fit = ", ".join(name for name, other in SCORES.items() if serves(other, detector.gives))
            raise InputError(
                f"score {score.name!r} needs the network's {missing}{_way_to(missing, detector.gives)}, and this "
                f"network gives only {', '.join(sorted(detector.gives))}; the scores that work with it are {fit}"
            )


def _way_to(missing: str, gives: Iterable[str]) -> str:
    """What to do, or why nothing can be done, for a message about a field that a network does not give."""
    if missing == "logits":
        return " (of one class they say nothing: its softmax is 1 everywhere)"
    if missing == "component_peak" and "component_log_prob" in gives:
        return " (with a frozen copy of the backbone, a component has no mean to be near to)"
    return "" if missing == "features" else " (tools/fit_gmm.py fits mixtures to any network that has none)"
