"""An mmseg network as the subject of a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmseg.datasets import BaseSegDataset
from mmseg.models import BaseSegmentor
from rich.progress import Progress

from anomaly.utils.profile import Profile
from anomaly.evaluation.run import Subject
from anomaly.evaluation.score_maps import WHOLE
from anomaly.mmengine.closed_set import evaluate_closed_set
from anomaly.models.mmseg import MMSegModel
from anomaly.models.tiling import Inference
from anomaly.results.records import ClosedSet
from anomaly.scores.statistics import Statistics, weights_hash


def mmseg_subject(
    config: Config,
    model: BaseSegmentor,
    device: torch.device,
    inference: Inference = WHOLE,
    *,
    closed_set: BaseSegDataset | None,
    limit: int | None,
    statistics: Path | None = None,
) -> Subject:
    """Describe a segmentor to :func:`anomaly.evaluation.run.run`.

    Args:
        config: The network's config.
        model: The network with its weights.
        device: Where it runs.
        inference: How it looks at an image.
        closed_set: The config's validation data, to measure mIoU on.
        limit: First frames of the closed set to take; ``None`` takes all.
        statistics: What scores learned of training images.

    Raises:
        InputError: The statistics are of another network, or cannot be read.
    """
    detector = MMSegModel(config, model, device)
    learned = None if statistics is None else Statistics.load(statistics)
    if learned is not None and statistics is not None:
        learned.check(weights_hash(model.state_dict()), detector.classes, statistics)

    def closed(data: BaseSegDataset, progress: Progress, profile: Profile) -> ClosedSet:
        bar = progress.add_task("closed set", total=min(len(data), limit or len(data)))
        return evaluate_closed_set(
            config, model, data, limit=limit, on_frame=lambda: progress.advance(bar), profile=profile
        )

    return Subject(
        model={"name": Path(config.filename).stem, "type": config.model.type},
        detector=detector,
        inference=inference,
        statistics=learned,
        closed_set=None if closed_set is None else partial(closed, closed_set),
    )
