"""The report of images without labels: predicted classes, likelihoods and heatmaps, without metrics."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.datasets.images import check_image, read_image
from anomaly.errors import InputError
from anomaly.evaluation.score_maps import ScorePipeline, check_scores, predicted_classes, top_classes
from anomaly.frames import KNOWN, Frame, Image, check_score
from anomaly.metrics.score_curves import BINS, ScoreCurves
from anomaly.models.base import Model
from anomaly.models.loop import show
from anomaly.models.tiling import Inference
from anomaly.report.html import MEGABYTES, write_joined
from anomaly.report.joined import JoinedDataset, JoinedScore, Run
from anomaly.report.views import DatasetViews, View, view_path
from anomaly.results.records import DatasetResult, EvaluationRecord, ScoreResult
from anomaly.scores.registry import Score

SHARES = np.append(
    np.geomspace(1e-4, 0.5, 160), np.linspace(0.51, 1, 80)
)  # shares of all pixels that are at or above a level


def write_look(
    model: Model,
    images: Sequence[tuple[str, Path]],
    scores: Sequence[Score],
    out: Path,
    *,
    name: str,
    record: Mapping[str, Any],
    provenance: Mapping[str, Any],
    notes: Sequence[str] = (),
    inference: Inference | None = None,
    megabytes: float = MEGABYTES,
    on_frame: Callable[[], None] | None = None,
) -> None:
    """Run a model on images and write the page. The file appears whole or not at all.

    Args:
        model: The model.
        images: Name and file of each frame, at least one. Images are rotated according to their EXIF orientation.
        scores: At least one.
        out: The file to write.
        name: Name of the images on the page.
        record: Description of the model; the page shows its ``name``.
        provenance: Origin of the result, for the page.
        notes: What a reader must know about the model.
        inference: How the model is applied to an image; by default to the whole image once.
        megabytes: Approximate size limit; beyond it an even sample of the images is shown.
        on_frame: Called after each image.

    Raises:
        InputError: A score needs a field that the model does not provide, an image cannot be read, or the page cannot
            be written.
    """
    from anomaly.models.views import predict_batch

    check_scores(scores, model)
    _check([path for _, path in images])
    pipeline, ids = ScorePipeline(scores, classes=model.classes), tuple(frame for frame, _ in images)
    inference = inference or Inference()

    def read(path: Path) -> tuple[Image, Any]:
        image = read_image(path, upright=True)
        return image, model.prepare(image)

    def ask(group: Sequence[tuple[Image, Any]]) -> Sequence[Any]:
        return predict_batch(model, inference, [inputs for _, inputs in group])

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, name)
        folder.mkdir()
        values = []
        jobs = [path for _, path in images]
        shown = show(jobs, read, ask, shape=lambda one: one[1].shape, batch=inference.batch)
        with closing(shown) as answers:
            for index, ((image, _), prediction) in enumerate(answers):
                size = (image.shape[0], image.shape[1])
                frame = Frame(ids[index], image, np.full(size, KNOWN, np.uint8))
                found = pipeline.score(prediction, size)
                for score, values_of_score in found.items():
                    check_score(frame.id, score, values_of_score, size)
                maps = list(found.values())
                top = partial(top_classes, prediction, size)
                view = View.of(frame, maps, predicted_classes(prediction, size), top)
                values.append(view.maps.reshape(len(scores), -1).astype(np.float64))
                view.write(view_path(folder, index))
                if on_frame is not None:
                    on_frame()
        curves = {n: _levels(np.sort(v)) for n, v in zip(pipeline.names, np.concatenate(values, axis=1), strict=True)}
        for index in range(len(ids)):
            path = view_path(folder, index)
            View.read(path).coded([np.array(one.levels) for one in curves.values()]).write(path)
        views = DatasetViews(name, "", ids, model.classes, curves)
        results = {n: ScoreResult({}, {}, {}, len(ids), 0, 0, 0, []) for n in curves}
        entry = DatasetResult(name, len(ids), "images without labels", results)
        result = EvaluationRecord(dict(record), None, [entry], {"scores": list(curves)}, dict(provenance))
        run = Run("", result, Path(place))
        drawn = [JoinedScore(n, n, 0, i, results[n], one) for i, (n, one) in enumerate(curves.items())]
        joined = JoinedDataset(name, entry, [run], [views], drawn, [(frame, [i]) for i, frame in enumerate(ids)])
        write_joined([run], [joined], out, megabytes, labelled=False, notes=notes)


def _check(paths: Sequence[Path]) -> None:
    """Read the header of every image, and report all that cannot be read at once."""
    faults = []
    for path in paths:
        try:
            check_image(path)
        except InputError as error:
            faults.append(str(error))
    if faults:
        more = f" ({len(faults) - 3} more cannot be read)" if len(faults) > 3 else ""
        raise InputError("; ".join(faults[:3]) + more)


def _levels(values: np.ndarray) -> ScoreCurves:
    """Levels that flag given shares of all pixels, from ascending scores; there are no other curves."""
    at = np.clip(np.round(len(values) * (1 - SHARES)), 0, len(values) - 1).astype(int)
    levels = np.unique(values[at])
    share = 1 - np.searchsorted(values, levels, side="left") / len(values)
    low, high = np.percentile(values, (0.5, 99.5)).tolist()
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    none: tuple[float, ...] = ()
    return ScoreCurves(
        thresholds=none,
        tpr=none,
        fpr=none,
        precision=none,
        bands={},
        edges=tuple(edges.tolist()),
        known=none,
        anomaly=none,
        levels=tuple(levels.tolist()),
        level_tpr=(0.0,) * len(levels),
        level_fpr=tuple(share.tolist()),
    )
