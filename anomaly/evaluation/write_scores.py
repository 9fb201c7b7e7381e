"""Compute and store score maps of images without labels, such as those of a hidden test dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly.datasets.images import read_image
from anomaly.evaluation.score_maps import ScorePipeline, check_scores
from anomaly.evaluation.shares import image_share
from anomaly.frames import Image, image_hash
from anomaly.models.base import Model
from anomaly.models.loop import decoding_threads, show
from anomaly.models.tiling import Inference
from anomaly.results.score_store import ScoreWriter
from anomaly.scores.registry import Score, check_not_learned
from anomaly.utils.processes import ALONE, Processes

if TYPE_CHECKING:
    from torch import Tensor

    from anomaly.models.views import ImagePrediction

_Decoded = tuple[str, "Image", str]
_Read = tuple[str, "Image", str, "Tensor | None"]


def write_scores(
    model: Model,
    images: Sequence[tuple[str, Path]],
    scores: Sequence[Score],
    writer: ScoreWriter,
    *,
    inference: Inference | None = None,
    check: Callable[[str, str], None] | None = None,
    on_frame: Callable[[], None] | None = None,
    processes: Processes = ALONE,
) -> int:
    """Run a model on images and write their score maps, at the size of the image.

    Images whose scores are stored come first, to check early that the writer's folder belongs to these images.

    Args:
        model: The model.
        images: Name and file of each frame.
        scores: At least one.
        writer: Where to write. A frame whose scores of the same image are all stored is not computed again.
        inference: How the model is applied to an image; by default to the whole image once.
        check: Called with the name and the :func:`anomaly.frames.image_hash` of each frame, stored or not. It raises an
            error for a frame that must not be scored.
        on_frame: Called after each frame of this process.
        processes: The processes that share the images; each has a writer of its own to the same folder.

    Returns:
        Number of frames on which the model ran, on all processes together.

    Raises:
        InputError: A score needs a field that the model does not provide, an image cannot be read, a score is NaN or
            infinite, or the disk is full.
    """
    from anomaly.models.views import predict_batch

    check_scores(scores, model)
    pipeline, inference = ScorePipeline(scores), inference or Inference()

    def decode(one: tuple[str, Path]) -> _Decoded:
        frame, path = one
        image = read_image(path)
        return frame, image, image_hash(image)

    def read(decoded: _Decoded) -> _Read:
        frame, image, name_of_image = decoded
        if check is not None:
            check(frame, name_of_image)
        check_not_learned(scores, frame, name_of_image)
        stored = writer.has(frame, pipeline.names, name_of_image)
        return frame, image, name_of_image, None if stored else model.prepare(image)

    def ask(group: Sequence[_Read]) -> Sequence[ImagePrediction | None]:
        return predict_batch(model, inference, [inputs for *_, inputs in group])

    def shape(one: _Read) -> object:
        return None if one[3] is None else one[3].shape

    shown = 0
    mine = [images[i] for i in image_share(images, scores, writer, processes)]
    jobs = sorted(mine, key=lambda one: not writer.has(one[0], pipeline.names))
    reading: dict[str, Any] = {"decode": decode, "threads": decoding_threads(model)}
    with closing(show(jobs, read, ask, **reading, shape=shape, batch=inference.batch)) as frames:
        for (frame, image, name_of_image, _), prediction in frames:
            if prediction is not None:
                for name, score in pipeline.score(prediction, (image.shape[0], image.shape[1])).items():
                    writer.write(frame, name, score, name_of_image)
                shown += 1
            if on_frame is not None:
                on_frame()
    return sum(processes.gather(shown))
