"""From a model's prediction to score maps of the image's size: compute scores, then post-process them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import Frame, Label, ScoreMap
from anomaly.metrics import on_device
from anomaly.models.base import Model, Prediction
from anomaly.postprocessing.table import Chain, Context
from anomaly.results.score_store import ScoreWriter
from anomaly.scores.registry import SCORES, Score, serves
from anomaly.utils import devices
from anomaly.utils.names import check_distinct

if TYPE_CHECKING:
    from torch import Tensor

    from anomaly.models.views import ImagePrediction

NO_POST = (Chain(),)
Size = tuple[int, int]
Kind = Literal["class_log_likelihood", "mask_sum", "log_softmax"]


class Store(Protocol):
    """Protocol of stored score maps: :class:`anomaly.results.score_store.StoredScores`, or a writer of them."""

    def has(self, frame_id: str, names: Sequence[str], image: str | None = None) -> bool:
        """Whether scores of a frame are stored.

        Args:
            frame_id: Name of the frame.
            names: Names of the scores.
            image: Hash of the frame's image; None does not check it.

        Raises:
            InputError: The stored scores belong to another image, and cannot be computed again.
        """
        ...

    def read(self, name: str, frame_id: str) -> npt.NDArray[Any]:
        """Read a score map. Shape: ``(H, W)``.

        Args:
            name: Name of the score.
            frame_id: Name of the frame.
        """
        ...


@dataclass(frozen=True)
class TopClasses:
    """The most likely classes of some pixels.

    Args:
        kind: Kind of the values: log-likelihoods ``log p(x | c)`` of a generative network, the sums over masks of a
            mask classifier, else log-softmax.
        classes: Class indices, the most likely first. Shape: ``(K, rows, columns)``, int64.
        values: Their values. Shape: ``(K, rows, columns)``, float32.
    """

    kind: Kind
    classes: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


class ScoreMaps(Mapping[str, ScoreMap]):
    """Score maps of a frame by name, as arrays ``(H, W)`` of float32.

    Maps on a GPU stay there. A map is copied from it when it is first read, and the copy is kept.

    Args:
        found: The maps, arrays or tensors, by name.
    """

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._found = found.kept if isinstance(found, ScoreMaps) else found
        self._read: dict[str, ScoreMap] = {}

    @property
    def kept(self) -> Mapping[str, Any]:
        """The maps where they are: tensors on the GPU, or arrays."""
        return self._found

    def beside(self, label: Label) -> Any:
        """Bring the label of the frame to the maps, once for all of them; it stays an array if they are arrays.

        Args:
            label: The label. Shape: ``(H, W)``, uint8.
        """
        first = next(iter(self._found.values()))
        return on_device.beside(label, first) if devices.on_device(first) else label

    def __getitem__(self, name: str) -> ScoreMap:
        """The map of that name as an array."""
        if name not in self._read:
            self._read[name] = devices.to_numpy(self._found[name])
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._found  # without a copy

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


@dataclass(frozen=True)
class ScorePipeline:
    """Computes score maps: every score, with every chain of post-processing.

    Args:
        scores: At least one, with distinct names.
        post: Chains of post-processing steps, each applied to every score; an empty chain changes nothing.
        classes: Names of the network's classes; empty if they are not known.

    Raises:
        InputError: Two maps would have the same name.
    """

    scores: Sequence[Score]
    post: Sequence[Chain] = NO_POST
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_distinct(self.names, "scores with their post-processing")

    @property
    def names(self) -> list[str]:
        """Names of the maps: ``SCORE``, or ``SCORE+CHAIN``."""
        return [_name(score.name, chain) for score in self.scores for chain in self.post]

    @property
    def needs_classes(self) -> bool:
        """Whether post-processing needs the predicted class of every pixel."""
        return any("classes" in chain.needs for chain in self.post)

    def score(self, prediction: ImagePrediction, size: Size) -> ScoreMaps:
        """Compute all scores of a prediction, by name, resized to ``size = (H, W)``, before post-processing.

        On a GPU they stay there.
        """
        found = prediction.scores(self.scores)
        return ScoreMaps({name: _score_of_size(score[0].float(), size) for name, score in found.items()})

    def read(self, frame: Frame, store: Store | None) -> Mapping[str, ScoreMap]:
        """Read the stored scores of a frame, by name, before post-processing.

        Raises:
            InputError: There is no store, or a stored map and the label differ in size.
        """
        if store is None:
            raise InputError(
                f"frame {frame.id!r}: expected a network or stored scores, found neither; give one of them"
            )
        names = [score.name for score in self.scores]
        if isinstance(store, ScoreWriter):  # a writer only says that they are not there; other stores raise
            store.check(frame.id, names, frame.image_hash)
        maps = {name: store.read(name, frame.id) for name in names}
        for name, stored in maps.items():
            if stored.shape != frame.label.shape:
                (h, w), (height, width) = stored.shape, frame.label.shape
                raise InputError(
                    f"frame {frame.id!r}: expected a {name} map of the label's size, {width}x{height}, found {w}x{h} "
                    "(width x height); resize the scores, not the labels, and record how in their settings"
                )
        return maps

    def post_process(
        self, frame: Frame, maps: Mapping[str, ScoreMap], classes: npt.NDArray[np.integer] | Tensor | None
    ) -> ScoreMaps:
        """Apply every chain to every map, on the GPU where a map is on one.

        Args:
            frame: The frame.
            maps: Score maps before post-processing, by name.
            classes: Predicted class of every pixel from :func:`class_map`, if :attr:`needs_classes`. Shape ``(H, W)``.

        Raises:
            InputError: A step fails.
        """
        context = Context(frame.id, frame.image, classes, self.classes)
        kept = ScoreMaps(maps).kept
        return ScoreMaps({_name(name, one): one(score, context) for name, score in kept.items() for one in self.post})


def class_map(prediction: ImagePrediction, size: Size) -> npt.NDArray[np.int64] | Tensor | None:
    """Predicted class of each pixel, an array, or a tensor of a GPU that stays there; None without classes.

    It is the largest of the class maps, resized to ``size``.

    Args:
        prediction: Prediction for one image.
        size: Height and width ``(H, W)`` of the map.
    """
    if not prediction.views[0].prediction.gives_classes:
        return None
    found = _resized(prediction.class_maps(Prediction.class_values), size).argmax(0)
    return found if devices.on_device(found) else devices.to_numpy(found)


def predicted_classes(prediction: ImagePrediction, size: Size) -> npt.NDArray[np.int64] | None:
    """Predicted class of each pixel as an array, from class maps resized to ``size = (H, W)``; None without classes."""
    found = class_map(prediction, size)
    return None if found is None else devices.to_numpy(found)


def top_classes(
    prediction: ImagePrediction,
    size: Size,
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    most: int = 5,
) -> TopClasses | None:
    """The most likely classes of some pixels, from class maps resized bilinearly to ``size``; None without class maps.

    Args:
        prediction: Prediction for one image.
        size: Height and width of the image.
        rows: Rows of the pixels. Shape: ``(R,)``.
        columns: Columns of the pixels. Shape: ``(S,)``.
        most: Largest number of classes.
    """
    import torch

    first = prediction.views[0].prediction
    if first.class_log_likelihood is not None:
        kind: Kind = "class_log_likelihood"
        maps = prediction.class_maps(lambda one: one.field("class_log_likelihood"))
    elif first.gives_classes:
        kind = "mask_sum" if first.logits is None else "log_softmax"
        maps = prediction.class_maps(Prediction.class_values)
    else:
        return None
    maps = _resized(maps, size)
    maps = maps[:, torch.from_numpy(rows)][:, :, torch.from_numpy(columns)].float().cpu()
    maps = maps.log_softmax(0) if kind == "log_softmax" else maps
    values, classes = maps.topk(min(most, len(maps)), dim=0)
    return TopClasses(kind, classes.numpy(), values.numpy())


def _resized(maps: Tensor, size: Size) -> Tensor:
    import torch

    with torch.inference_mode():
        return torch.nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)[0]


def _name(score: str, chain: Chain) -> str:
    return f"{score}+{chain.name}" if chain.name else score


def _score_of_size(score: Tensor, size: Size) -> ScoreMap | Tensor:
    return resize_tensor(score, size) if devices.on_device(score) else resize_score(devices.to_numpy(score), size)


def resize_score(score: ScoreMap, size: Size) -> ScoreMap:
    """Resize a map ``(h, w)`` bilinearly to ``size = (H, W)``, with pixel centres at half integers."""
    if score.shape == size:
        return score
    return cv2.resize(score, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def resize_tensor(score: Tensor, size: Size) -> Tensor:
    """Resize a map as :func:`resize_score` does, with torch, on the map's device.

    The two differ by rounding in float32: by less than 1e-6 of the largest absolute value, or less than 1e-4 where the
    map has a single row or column. (torch's own ``interpolate`` computes the places of the pixels in float32 too, and
    differs by up to 1e-4 everywhere.)

    Args:
        score: The map. Shape: ``(h, w)``, float32.
        size: Height and width of the result.

    Returns:
        The resized map. Shape: ``size``, float32.
    """
    import torch

    if tuple(score.shape) == tuple(size):
        return score
    with torch.inference_mode():
        for dim in (1, 0):
            given, wanted = score.shape[dim], size[dim]
            place = (torch.arange(wanted, device=score.device, dtype=torch.float64) + 0.5) * (given / wanted) - 0.5
            place = place.clamp(0, given - 1)
            low = place.long()
            weight = (place - low).to(score.dtype).unsqueeze(1 - dim)
            high = (low + 1).clamp_max(given - 1)
            score = score.index_select(dim, low) * (1 - weight) + score.index_select(dim, high) * weight
        return score


def check_scores(scores: Sequence[Score], model: Model | None) -> None:
    """Check that a model supports all scores, and that fitted scores have statistics.

    Raises:
        InputError: It does not, or they have none; the message says which scores would work.
    """
    if model is None:
        return
    check_served(scores, model)
    for score in scores:
        if score.fitted and not score.statistics:
            raise InputError(
                f"score {score.name!r} needs statistics of training images, found none; fit them with "
                "`anomaly fit`, and pass the file with --fitted"
            )


def check_served(scores: Sequence[Score], model: Model) -> None:
    """Check that a model supports all scores, fitted or not.

    Raises:
        InputError: It does not; the message says which scores would work.
    """
    for score in scores:
        if not serves(score, model.gives):
            missing = next(name for name in score.needs if name not in model.gives)
            own = [str(getattr(model, "name", "score"))] if "score" in model.gives else []
            fit = ", ".join([*own, *(name for name, other in SCORES.items() if serves(other, model.gives))])
            raise InputError(
                f"score {score.name!r} needs the network's {missing}{_way_to(missing, model.gives)}, but this network "
                "gives "
                f"only {', '.join(sorted(model.gives))}; the scores that work with it are {fit}"
            )


def _way_to(missing: str, gives: Iterable[str]) -> str:
    """What the user can do about a missing field, or why nothing can be done, for a message."""
    if set(gives) == {"score"}:
        return " (a score function gives only its own score)"
    if "mask_logits" in gives and missing in ("logits", "class_log_likelihood"):
        if missing == "class_log_likelihood":
            return " (`gmmseg fit --model` fits mixtures to a mask classifier)"
        return " (a mask classifier has class probabilities of masks, not of pixels)"
    if missing == "logits":
        return " (with one class they are not informative: the softmax is 1 everywhere)"
    if missing in ("mask_logits", "query_class_prob"):
        return " (only mask classifiers, such as Mask2Former, give them)"
    if missing == "outlier_log_likelihood":
        return " (only densities that were fitted to outliers too give it)"
    if missing == "component_peak" and "component_log_prob" in gives:
        return " (with a frozen copy of the backbone, components have no mean)"
    return "" if missing == "features" else " (`gmmseg fit` fits mixtures to any network that has none)"
