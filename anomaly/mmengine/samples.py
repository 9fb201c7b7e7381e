"""Data of mmseg's samples for anomaly metrics: name of the frame, label, and scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN, Label, ScoreMap, as_array
from anomaly.models.base import Prediction
from anomaly.scores.registry import SCORES, Score, serves
from anomaly.utils.given import whole

Sample = Mapping[str, Any]
CARRIED = {"logits": "seg_logits", "class_log_likelihood": "class_log_likelihood"}
"""Fields of a :class:`~anomaly.models.base.Prediction` that mmseg's samples contain, and their names in a sample."""
_UNDEFINED = 2


def frame_id(sample: Sample) -> str:
    """Return the path of the sample's image, which is the same on every process.

    Raises:
        InputError: The sample has no path.
    """
    if "img_path" not in sample:
        raise InputError(
            "expected an 'img_path' in each data sample, which identifies the frame, found a sample without; add it to "
            "PackSegInputs(meta_keys=...)"
        )
    return str(sample["img_path"])


class LabelReader:
    """Determines which pixels of a sample are known, anomalous or ignored.

    All label values refer to labels as they leave the pipeline, after ``reduce_zero_label`` and the dataset's own label
    map.

    Args:
        anomaly_index: Label value, or values, of anomalous pixels.
        ignore_index: Label value, or values, of ignored pixels.
        known: Label values of known pixels. Default: the ids of the dataset's classes, without the two other kinds.

    Raises:
        InputError: A value is not in 0..255, or has two meanings; or there is no anomalous value.
    """

    def __init__(
        self, anomaly_index: int | Sequence[int], ignore_index: int | Sequence[int], known: Sequence[int] | None
    ) -> None:
        self._anomaly, self._ignore = _values("anomaly_index", anomaly_index), _values("ignore_index", ignore_index)
        self._known = None if known is None else _values("known", known)
        if not self._anomaly:
            raise InputError("anomaly_index: expected at least one label value, found none; name one")
        both = (self._anomaly & self._ignore) | ((self._known or set()) & (self._anomaly | self._ignore))
        if both:
            raise InputError(
                f"label values {sorted(both)}: expected one meaning for each, found them in two of anomaly_index, "
                "ignore_index and known; name each once"
            )

    def read(self, sample: Sample, classes: Iterable[str] | None) -> Label:
        """Return ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel. Shape: ``(H, W)``, uint8.

        Args:
            sample: A sample with ``gt_sem_seg``.
            classes: Names of the dataset's classes; None if it has no names.

        Raises:
            InputError: There is no label, a label value has no meaning, or the known values are not defined.
        """
        name = frame_id(sample)
        values = label_values(sample)
        known = self._known
        if known is None:
            if classes is None:
                raise InputError(
                    "known: expected the label values of known pixels, because the dataset names no classes "
                    "(metainfo), found "
                    "none; set known=[...]"
                )
            known = set(range(len(tuple(classes)))) - self._anomaly - self._ignore
        table = np.full(257, _UNDEFINED, dtype=np.uint8)
        for meaning, meant in ((KNOWN, known), (ANOMALY, self._anomaly), (IGNORE, self._ignore)):
            table[list(meant)] = meaning
        label: Label = table[np.where((values >= 0) & (values < 256), values, 256)]
        undefined = label == _UNDEFINED
        if undefined.any():
            raise InputError(
                f"frame {name!r}: expected the label values {_list(known)} (known), {_list(self._anomaly)} (anomaly) "
                f"or {_list(self._ignore)} (ignored), found also {_list(np.unique(values[undefined]).tolist())}; "
                "define "
                "their meaning with anomaly_index, ignore_index or known"
            )
        return label


def label_values(sample: Sample) -> npt.NDArray[np.int64]:
    """Return the sample's label as it leaves the pipeline. Shape: ``(H, W)``, int64.

    Raises:
        InputError: There is no label, or its values are not integers.
    """
    if "gt_sem_seg" not in sample:
        raise InputError(
            f"frame {frame_id(sample)!r}: expected a label, found none; add LoadAnnotations to the pipeline"
        )
    values = as_array(frame_id(sample), "label", sample["gt_sem_seg"]["data"][0])
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.round(values))).all():
        raise InputError(
            f"frame {frame_id(sample)!r}: expected label values that are integers, found others; resize labels with "
            "nearest-neighbour interpolation"
        )
    return values.astype(np.int64)


def check_carried(scores: Iterable[Score]) -> None:
    """Refuse scores that need more than mmseg's loops pass on.

    Raises:
        InputError: A score is fitted to training images, is a combination, or needs more than logits and likelihoods.
    """
    for score in scores:
        if score.fitted:
            raise InputError(
                f"score {score.name!r}: expected a score without statistics of training images, which "
                "mmengine's loops do not have; use anomaly evaluate --fitted"
            )
        if not serves(score, CARRIED):
            missing = next(name for name in score.needs if name not in CARRIED)
            raise InputError(
                f"score {score.name!r} needs the network's {missing}, which mmengine's loops do not pass on (only "
                f"{' and '.join(CARRIED)}); use anomaly evaluate"
            )


def scores_of(sample: Sample) -> list[Score]:
    """Return the commonly reported scores that the sample's maps support, in the order of the registry."""
    found = [field for field, name in CARRIED.items() if name in sample]
    return [score for score in SCORES.values() if score.usual and serves(score, found)]


@torch.inference_mode()
def score_map(sample: Sample, score: Score) -> ScoreMap:
    """Compute a score from the maps that the network passed on, which mmseg has resized to the image.

    Args:
        sample: A sample of an mmseg segmentor.
        score: A score that :func:`check_carried` accepts.

    Returns:
        The score map. Shape: ``(H, W)``, float32.

    Raises:
        InputError: The sample lacks a map that the score needs, or the map has one channel.
    """
    maps = {}
    for field in score.needs:
        name = CARRIED[field]
        if name not in sample:
            fit = ", ".join(other.name for other in scores_of(sample)) or "none"
            way = " (`anomaly fit` fits densities to any network that has none)" if field != "logits" else ""
            raise InputError(
                f"frame {frame_id(sample)!r}: score {score.name!r} needs the {name} of the network{way}, which it does "
                f"not pass on (mmseg does not under test-time augmentation); the scores that work are: {fit}"
            )
        maps[field] = sample[name]["data"][None]
        if maps[field].shape[1] < 2:
            raise InputError(
                f"frame {frame_id(sample)!r}: expected {name} of at least two classes, found one channel, which "
                "mmseg turns into a probability; train the network with out_channels=2, or measure a score of "
                "likelihoods with anomaly evaluate"
            )
    return as_array(frame_id(sample), score.name, score(Prediction(**{"logits": torch.empty(0), **maps}))[0])


def _values(argument: str, values: int | Sequence[int]) -> set[int]:
    given: Any = values
    try:
        given = list(given)
    except TypeError:
        given = [given]
    try:
        found = {whole(argument, value, 0) for value in given}
    except InputError as error:
        raise InputError(f"{argument}: expected label values from 0 to 255, found {values!r}") from error
    if max(found, default=0) > 255:
        raise InputError(f"{argument}: expected label values from 0 to 255, found {values!r}")
    return found


def _list(values: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(values))) or "none"
