"""From a model's prediction to score maps of the image's size: scores, then post-processing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import Frame, ScoreMap
from anomaly.models.base import Model
from anomaly.postprocessing.table import Chain, Context
from anomaly.results.score_store import ScoreWriter
from anomaly.scores.registry import SCORES, Score, serves
from anomaly.utils.names import check_distinct

if TYPE_CHECKING:
    from torch import Tensor

    from anomaly.models.views import ImagePrediction

NO_POST = (Chain(),)
Size = tuple[int, int]


class Store(Protocol):
    """Where score maps are: :class:`anomaly.results.score_store.StoredScores`, or a writer of them."""

    def has(self, frame_id: str, names: Sequence[str], image: str | None = None) -> bool:
        """Whether these scores of a frame are there, of the image whose hash is ``image``.

        Raises:
            InputError: They are of another image, and nothing computes them again.
        """
        ...

    def read(self, name: str, frame_id: str) -> npt.NDArray[Any]:
        """Read one map. Shape: ``(H, W)``."""
        ...


@dataclass(frozen=True)
class TopClasses:
    """The most likely classes of some pixels.

    Args:
        kind: What the values are: log-likelihoods ``log p(x | c)`` of a generative network, else log-softmax.
        classes: Their numbers, the most likely first.
        values: Their values.

    Shape:
        classes and values ``(K, rows, columns)``, int64 and float32.
    """

    kind: Literal["class_log_likelihood", "log_softmax"]
    classes: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class ScorePipeline:
    """How score maps come about: every score, with every chain of post-processing.

    Args:
        scores: At least one; their names are distinct.
        post: Chains of post-processing, each applied to every score; an empty chain leaves it as it is.
        classes: Names of the network's classes; empty where they are not known.

    Raises:
        InputError: Two maps would have one name.
    """

    scores: Sequence[Score]
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

    def score(self, prediction: ImagePrediction, size: Size) -> dict[str, ScoreMap]:
        """Score a prediction, by name, resized to ``size = (H, W)``; before post-processing."""
        found = prediction.scores(self.scores)
        return {name: resize_score(score[0].float().cpu().numpy(), size) for name, score in found.items()}

    def read(self, frame: Frame, store: Store | None) -> dict[str, ScoreMap]:
        """Read a frame's stored scores, by name; before post-processing.

        Raises:
            InputError: There is no store, or a stored map has another size than the label.
        """
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

    def post_process(
        self, frame: Frame, maps: dict[str, ScoreMap], classes: npt.NDArray[np.integer] | None
    ) -> dict[str, ScoreMap]:
        """Apply every chain to every map.

        Args:
            frame: Their frame.
            maps: Before post-processing, by name.
            classes: The network's class of every pixel, where :attr:`needs_classes`. Shape: ``(H, W)``.

        Raises:
            InputError: A step fails.
        """
        context = Context(frame.id, frame.image, classes, self.classes)
        return {_name(name, chain): chain(score, context) for name, score in maps.items() for chain in self.post}


def predicted_classes(prediction: ImagePrediction, size: Size) -> npt.NDArray[np.int64] | None:
    """Each pixel's class, logits resized bilinearly to ``size = (H, W)``, as mmseg does it; None without logits."""
    if prediction.views[0].prediction.logits is None:
        return None
    found: npt.NDArray[np.int64] = _resized(prediction.class_maps("logits"), size).argmax(0).cpu().numpy()
    return found


def top_classes(
    prediction: ImagePrediction,
    size: Size,
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    most: int = 5,
) -> TopClasses | None:
    """The most likely classes of some pixels, class maps resized bilinearly to ``size``; None without class maps.

    Args:
        prediction: Of one image.
        size: Height and width of the image.
        rows: Of the pixels. Shape: ``(R,)``.
        columns: Of the pixels. Shape: ``(S,)``.
        most: How many classes; fewer where there are fewer.
    """
    import torch

    first = prediction.views[0].prediction
    field: Literal["class_log_likelihood", "logits"] | None = None
    field = "class_log_likelihood" if first.class_log_likelihood is not None else field
    field = "logits" if field is None and first.logits is not None else field
    if field is None:
        return None
    maps = _resized(prediction.class_maps(field), size)
    maps = maps[:, torch.from_numpy(rows)][:, :, torch.from_numpy(columns)].float().cpu()
    generative = field == "class_log_likelihood"
    values, classes = (maps if generative else maps.log_softmax(0)).topk(min(most, len(maps)), dim=0)
    return TopClasses("class_log_likelihood" if generative else "log_softmax", classes.numpy(), values.numpy())


def _resized(maps: Tensor, size: Size) -> Tensor:
    import torch

    with torch.inference_mode():
        return torch.nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)[0]


def _name(score: str, chain: Chain) -> str:
    return f"{score}+{chain.name}" if chain.name else score


def resize_score(score: ScoreMap, size: Size) -> ScoreMap:
    """Resize a ``(h, w)`` map to ``size = (H, W)``: bilinearly, pixel centres at half integers."""
    if score.shape == size:
        return score
    return cv2.resize(score, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def check_scores(scores: Sequence[Score], model: Model | None) -> None:
    """Raise ``InputError``, saying what would work, if a model cannot serve them all, or one was not fitted."""
    if model is None:
        return
    check_served(scores, model)
    for score in scores:
        if score.fitted and not score.statistics:
            raise InputError(
                f"score {score.name!r} needs statistics of training images, found none; fit them with "
                "`anomaly fit-scores`, and name the file with --statistics"
            )


def check_served(scores: Sequence[Score], model: Model) -> None:
    """Raise ``InputError``, saying what would work, if a model cannot serve them all, fitted or not."""
    for score in scores:
        if not serves(score, model.gives):
            missing = next(name for name in score.needs if name not in model.gives)
            own = [str(getattr(model, "name", "score"))] if "score" in model.gives else []
            fit = ", ".join([*own, *(name for name, other in SCORES.items() if serves(other, model.gives))])
            raise InputError(
                f"score {score.name!r} needs the network's {missing}{_way_to(missing, model.gives)}, and this "
                f"network gives only {', '.join(sorted(model.gives))}; the scores that work with it are {fit}"
            )


def _way_to(missing: str, gives: Iterable[str]) -> str:
    """What to do, or why nothing can be done, for a message about a field that a network does not give."""
    if set(gives) == {"score"}:
        return " (a score function gives its own score alone)"
    if missing == "logits":
        return " (of one class they say nothing: its softmax is 1 everywhere)"
    if missing == "component_peak" and "component_log_prob" in gives:
        return " (with a frozen copy of the backbone, a component has no mean to be near to)"
    return "" if missing == "features" else " (`gmmseg fit` fits mixtures to any network that has none)"
