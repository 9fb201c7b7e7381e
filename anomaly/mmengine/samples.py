"""What mmseg's data samples hold for anomaly metrics: a frame's name, its label, its scores."""

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
"""Fields of a :class:`~anomaly.models.base.Prediction` that mmseg's samples have, and their names there."""
_UNDEFINED = 2


def frame_id(sample: Sample) -> str:
    """Give the path of the sample's image, which is the same on every process.

    Raises:
        InputError: The sample has none.
    """
    if "img_path" not in sample:
        raise InputError(
            "expected the 'img_path' of each data sample, by which a frame counts once, found one without; keep it in "
            "PackSegInputs(meta_keys=...)"
        )
    return str(sample["img_path"])


class LabelReader:
    """Reads which pixels of a data sample are known, anomalous or ignored.

    Args:
        anomaly_index: Label value, or values, of anomalous pixels.
        ignore_index: Label value, or values, of pixels that are left out.
        known: Label values of known pixels; by default each of the data set's classes that is none of the above.

    All are values behind the pipeline, after ``reduce_zero_label`` and the data set's own label map.

    Raises:
        InputError: A value is not in 0..255, or has two meanings; or there is no anomalous one.
    """

    def __init__(
        self, anomaly_index: int | Sequence[int], ignore_index: int | Sequence[int], known: Sequence[int] | None
    ) -> None:
        self._anomaly, self._ignore = _values("anomaly_index", anomaly_index), _values("ignore_index", ignore_index)
        self._known = None if known is None else _values("known", known)
        if not self._anomaly:
            raise InputError("anomaly_index: expected at least one label value, found none")
        both = (self._anomaly & self._ignore) | ((self._known or set()) & (self._anomaly | self._ignore))
        if both:
            raise InputError(
                f"label values {sorted(both)}: expected one meaning for each, found them in two of anomaly_index, "
                "ignore_index and known"
            )

    def read(self, sample: Sample, classes: Iterable[str] | None) -> Label:
        """Give ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel. Shape: ``(H, W)``, uint8.

        Args:
            sample: Holds ``gt_sem_seg``.
            classes: Names of the data set's classes; ``None`` where it does not say.

        Raises:
            InputError: There is no label, it has a value of no meaning, or nobody says which values are known.
        """
        name = frame_id(sample)
        values = label_values(sample)
        known = self._known
        if known is None:
            if classes is None:
                raise InputError("the data set names no classes (metainfo): give the label values of known pixels")
            known = set(range(len(tuple(classes)))) - self._anomaly - self._ignore
        table = np.full(257, _UNDEFINED, dtype=np.uint8)
        for meaning, meant in ((KNOWN, known), (ANOMALY, self._anomaly), (IGNORE, self._ignore)):
            table[list(meant)] = meaning
        label: Label = table[np.where((values >= 0) & (values < 256), values, 256)]
        undefined = label == _UNDEFINED
        if undefined.any():
            raise InputError(
                f"frame {name!r}: expected the label values {_list(known)} (known), {_list(self._anomaly)} (anomaly) "
                f"or {_list(self._ignore)} (ignored), found also {_list(np.unique(values[undefined]).tolist())}; say "
                "what they mean with anomaly_index, ignore_index or known"
            )
        return label


def label_values(sample: Sample) -> npt.NDArray[np.int64]:
    """Give the sample's label as it comes out of the pipeline. Shape: ``(H, W)``.

    Raises:
        InputError: There is none, or it has values that are no whole numbers.
    """
    if "gt_sem_seg" not in sample:
        raise InputError(
            f"frame {frame_id(sample)!r}: expected a label, found none; put LoadAnnotations into the pipeline"
        )
    values = as_array(frame_id(sample), "label", sample["gt_sem_seg"]["data"][0])
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.round(values))).all():
        raise InputError(
            f"frame {frame_id(sample)!r}: expected label values that are whole numbers, found others; resize labels by "
            "the nearest pixel"
        )
    return values.astype(np.int64)


def check_carried(scores: Iterable[Score]) -> None:
    """Refuse scores that need more than what mmseg's loops hand on.

    Raises:
        InputError: One is fitted to training images, a combination, or of other maps than logits and likelihoods.
    """
    for score in scores:
        if score.fitted:
            raise InputError(
                f"score {score.name!r}: expected one that needs no statistics of training images, which "
                "mmengine's loops have not; measure it by anomaly evaluate --statistics"
            )
        if not serves(score, CARRIED):
            missing = next(name for name in score.needs if name not in CARRIED)
            raise InputError(
                f"score {score.name!r} needs the network's {missing}, which mmengine's loops do not hand on, only "
                f"{' and '.join(CARRIED)}; measure it by anomaly evaluate"
            )


def scores_of(sample: Sample) -> list[Score]:
    """Give the usual scores that the sample's maps allow, in the order of their table."""
    found = [field for field, name in CARRIED.items() if name in sample]
    return [score for score in SCORES.values() if score.usual and serves(score, found)]


@torch.inference_mode()
def score_map(sample: Sample, score: Score) -> ScoreMap:
    """Compute a score from the maps that the network handed on, which mmseg has resized to the image.

    Args:
        sample: As mmseg's segmentors give it.
        score: One that :func:`check_carried` lets pass.

    Shape:
        ``(H, W)``, float32.

    Raises:
        InputError: The sample does not have a map that the score needs, or it has one channel.
    """
    maps = {}
    for field in score.needs:
        name = CARRIED[field]
        if name not in sample:
            fit = ", ".join(other.name for other in scores_of(sample)) or "none"
            way = " (gmmseg fit fits mixtures to any network that has none)" if field != "logits" else ""
            raise InputError(
                f"frame {frame_id(sample)!r}: score {score.name!r} needs the {name} of the network{way}, which it does "
                f"not hand on (nor does mmseg under test-time augmentation); the scores that work are: {fit}"
            )
        maps[field] = sample[name]["data"][None]
        if maps[field].shape[1] < 2:
            raise InputError(
                f"frame {frame_id(sample)!r}: expected {name} of at least two classes, found one channel, which "
                "mmseg turns into a probability; train the network with out_channels=2, or measure a score of "
                "likelihoods by anomaly evaluate"
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
