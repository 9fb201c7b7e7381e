"""Score maps of images that have no labels, such as those of a hidden test split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from anomaly.datasets.images import read_image
from anomaly.evaluation.score_maps import WHOLE, Method, check_scores, see
from anomaly.frames import image_hash
from anomaly.models.base import Model
from anomaly.models.tiling import Inference
from anomaly.results.score_store import ScoreWriter
from anomaly.scores.table import Score, check_not_learned


def write_scores(
    detector: Model,
    images: Sequence[tuple[str, Path]],
    scores: Sequence[Score],
    writer: ScoreWriter,
    *,
    inference: Inference | None = None,
    check: Callable[[str, str], None] | None = None,
    on_frame: Callable[[], None] | None = None,
) -> int:
    """Show images to a network and write their scores, as large as the image.

    Those that have scores come first, as they tell whether the writer's folder is of these images.

    Args:
        detector: The network.
        images: Name and file of each frame.
        scores: At least one.
        writer: Where to; a frame whose scores are all there, of the same image, is passed over.
        inference: How the network looks at a image; once, and whole, by default.
        check: Called with each frame's name and :func:`anomaly.frames.image_hash`, stored scores or not; raises where
            it must not be scored.
        on_frame: Called after each frame.

    Returns:
        How many frames were shown to the network.

    Raises:
        InputError: A score needs what the detector does not give, a image cannot be read, a score is NaN or
            infinite, or the disk is full.
    """
    check_scores(scores, detector)
    method = Method(scores, inference or WHOLE)
    shown = 0
    for frame, path in sorted(images, key=lambda one: not writer.has(one[0], method.names)):
        image = read_image(path)
        name_of_image = image_hash(image)
        if check is not None:
            check(frame, name_of_image)
        check_not_learned(scores, frame, name_of_image)
        if not writer.has(frame, method.names, name_of_image):
            for name, score in method.score(see(detector, image, method.inference), image.shape[:2]).items():
                writer.write(frame, name, score, name_of_image)
            shown += 1
        if on_frame is not None:
            on_frame()
    return shown
