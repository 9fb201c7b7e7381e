"""One pass over ordinary images that fits densities of features and the statistics of scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly.density.sample import StratifiedSample
from anomaly.errors import InputError
from anomaly.fitting.images import TrainingImages
from anomaly.frames import image_hash
from anomaly.models.backbone import Backbone, load_backbone
from anomaly.models.base import Model, Prediction
from anomaly.models.fitted import FeatureDensity, FeaturePrediction, FittedModel, Member, check_members
from anomaly.models.loop import show
from anomaly.models.tiling import Inference
from anomaly.models.views import ImagePrediction, ViewPrediction, predict_inputs, resize_labels
from anomaly.scores.registry import Score
from anomaly.scores.sample import PixelSample, draw_pixels, join
from anomaly.scores.statistics import Statistics, fittable
from anomaly.utils.processes import ALONE, Processes

MEMORY = 2**29
"""Largest number of values in the sample of a density: 2 GiB."""
SCORE_PIXELS = 50_000
"""Default number of pixels that scores are fitted to."""


@dataclass
class _Pixels:
    """What one image gives to the samples, on the process that has it; other processes need ``labels`` alone."""

    hash: str
    members: list[list[Tensor]]
    """Class of every kept cell, of each view, of each member."""
    dims: list[int]
    classes: int
    owned: list[Tensor]
    """Class of every cell of the logits, -1 if another view has it; empty if no score is fitted."""
    features: list[list[Tensor]] = field(default_factory=list)
    predictions: list[FeaturePrediction] = field(default_factory=list)

    def short(self) -> _Pixels:
        """The part that every process needs."""
        return replace(self, features=[], predictions=[])


def fit_model(
    network: Model | None,
    images: TrainingImages,
    densities: Sequence[FeatureDensity],
    *,
    scores: Sequence[Score] | None = (),
    limit: int = 400,
    pixels: int = SCORE_PIXELS,
    outliers: TrainingImages | None = None,
    seed: int = 0,
    device: str | None = None,
    inference: Inference | None = None,
    origin: dict[str, Any] | None = None,
    on_frame: Callable[[], None] = lambda: None,
    processes: Processes = ALONE,
) -> FittedModel:
    """Fit densities and scores to images, in one pass over them.

    Args:
        network: The network; None for a detector of frozen features alone.
        images: The images.
        densities: The densities to fit, in the order of the ensemble.
        scores: Scores whose statistics are fitted: None for all that the network supports, which leaves out those that
            cannot be fitted. They need labels.
        limit: Largest number of images; they are drawn at random.
        pixels: Largest number of pixels that scores are fitted to, split evenly over images and their classes.
        outliers: Images with anomalies, to whose pixels (class 1) a density of outliers is fitted.
        seed: Seed of all random draws.
        device: Device of the backbones without a network.
        inference: How images are shown to the network; mirroring and other scales are left out.
        origin: Where all this comes from, such as the command, for the record.
        on_frame: Called after each image of this process.
        processes: The processes that share the images.

    Returns:
        The network with what was fitted, the same on every process.

    Raises:
        InputError: There is nothing to fit, there is no image, or only copies of one; a label is no class; a feature is
            not finite; or the network lacks what is needed.
    """
    check_members(frozenset() if network is None else network.gives, densities)
    if not len(images.items):
        raise InputError("expected images to fit to, found none; give a folder that has some")
    members = [
        Member(one, None, body) for one, body in zip(densities, _backbones(densities, network, device), strict=True)
    ]
    wanted = _statistics_of(network, scores, images.labelled)
    if not members and not wanted:
        raise InputError(
            "expected densities or scores to fit, found neither, since the network has a likelihood of its own or no "
            "labels are given; add a backbone (--backbone efficientnet-lite0)"
        )
    looking = inference or getattr(network, "inference", None) or Inference()
    looking = replace(looking, flip=False, scales=(1.0,))
    order = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images.items), generator=order)[:limit].tolist()
    if wanted and pixels < len(chosen):
        raise InputError(
            f"expected at least one pixel for each of the {len(chosen)} images, found {pixels}; increase the number of "
            "pixels (--pixels), or decrease that of images (--limit)"
        )
    draws = [torch.Generator() for _ in members]
    for draw in draws:
        draw.set_state(order.get_state())
    of_scores = torch.Generator()
    of_scores.set_state(order.get_state())
    looker = FittedModel(network, members) if network is not None or members else None
    assert looker is not None
    samples: list[StratifiedSample] = []
    drawn: list[list[tuple[PixelSample, PixelSample]]] = []
    hashes: list[str] = []
    shown = _pass(looker, images, chosen, looking, bool(wanted), on_frame, processes)
    with closing(shown):
        for short, own in processes.in_order(len(chosen), shown, _Pixels.short):
            hashes.append(short.hash)
            if not samples:
                samples = [
                    StratifiedSample(short.classes, _most(one, short.classes, dim), dim, draw)
                    for one, dim, draw in zip(densities, short.dims, draws, strict=True)
                ]
            _add(samples, short, own)
            if wanted:
                drawn.append(_draw(short, own, pixels // len(chosen), of_scores))
    _check_copies(hashes)
    beyond, seen = _outlier_features(looker, outliers, densities, looking, limit, seed, on_frame, processes)
    fitted = []
    for number, (member, sample, draw) in enumerate(zip(members, samples, draws, strict=True)):
        sample.gather(processes)
        fitted.append(_fit(member, sample, draw, images.labelled, beyond[number] if beyond else None))
    record: dict[str, Any] = {
        **(origin or {}),
        "images": len(hashes),
        "labels": images.labelled,
        "seed": seed,
        "inference": looking.record(),
        "pixels": samples[0].seen.tolist() if samples else None,
    }
    model = FittedModel(
        network,
        _weighted(network, fitted),
        fitted_images=seen | images.also_seen | frozenset(hashes),
        classes=images.names,
        record=record,
    )
    if wanted:
        parts = [max(each, key=len) for each in zip(*processes.gather(drawn), strict=True)]  # one process has them
        pairs = [pair for of_image in parts for pair in of_image]
        model.statistics = _statistics(model, pairs, wanted, scores is not None, hashes, record)
    return model


def _backbones(
    densities: Sequence[FeatureDensity], network: Model | None, device: str | None
) -> Iterator[Backbone | None]:
    """The backbone of each density; densities of one backbone share it."""
    where = device if network is None else getattr(network, "device", None)
    loaded: list[tuple[Any, tuple[int, ...], Backbone]] = []
    for one in densities:
        if one.backbone is None:
            yield None
            continue
        found = next((body for spec, stages, body in loaded if spec == one.backbone and stages == one.stages), None)
        if found is None:
            found = one.backbone
            if not isinstance(found, Backbone):
                found = load_backbone(one.backbone, stages=one.stages or None, mean=one.mean, std=one.std, device=where)
            loaded.append((one.backbone, one.stages, found))
        yield found


def _statistics_of(network: Model | None, scores: Sequence[Score] | None, labelled: bool) -> list[Score]:
    """The scores to fit; without names, all that can be fitted, which are none without labels."""
    if network is None or not labelled or "logits" not in network.gives:
        if scores:
            raise InputError(
                "scores: expected labelled images and a network with logits, found none; leave the scores out, or add "
                "them"
            )
        return []
    return fittable(network.gives) if scores is None else list(scores)


def _most(settings: FeatureDensity, classes: int, dim: int) -> int:
    return min(settings.pixels, max(1, MEMORY // (classes * dim)))


class _Looker:
    """A model whose predictions hold the features of every member."""

    def __init__(self, model: FittedModel) -> None:
        self._model, self.device = model, model.device
        self.gives, self.classes = model.gives, model.classes

    def prepare(self, image: Any) -> Tensor:
        return self._model.prepare(image)

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Prediction:
        return self._model.look(inputs)


def _pass(
    model: FittedModel,
    images: TrainingImages,
    chosen: Sequence[int],
    inference: Inference,
    with_scores: bool,
    on_frame: Callable[[], None],
    processes: Processes,
) -> Generator[_Pixels, None, None]:
    """Show the images of this process to the network and the backbones."""
    looker = _Looker(model)

    def read(index: int) -> tuple[str, Tensor, Tensor]:
        image, labels = images.read(images.items[index])
        return image_hash(image), labels, model.prepare(image)

    def ask(items: Sequence[tuple[str, Tensor, Tensor]]) -> Sequence[ImagePrediction]:
        return [predict_inputs(looker, inputs[None], inference) for _, _, inputs in items]

    with closing(show(processes.in_turn(chosen), read, ask)) as shown:
        for (name, labels, _), prediction in shown:
            yield _pixels_of(name, labels, prediction, images, with_scores)
            on_frame()


def _pixels_of(
    name: str, labels: Tensor, prediction: ImagePrediction, images: TrainingImages, with_scores: bool
) -> _Pixels:
    found: list[FeaturePrediction] = [one.prediction for one in prediction.views]  # type: ignore[misc]
    classes = images.classes
    if images.labelled and found[0].gives_classes:
        classes = found[0].class_values().shape[1]
    if classes is None:
        raise InputError("expected a network that gives classes, found one that gives none; use it without labels")
    if (largest := int(labels.max())) >= classes:
        raise InputError(
            f"labels: expected the classes 0 to {classes - 1} of the network, found {largest}; use labels with its "
            "class ids"
        )
    at_input = resize_labels(labels, prediction.size)
    kept: list[list[Tensor]] = [[] for _ in found[0].members]
    features: list[list[Tensor]] = [[] for _ in found[0].members]
    for one, view in zip(found, prediction.views, strict=True):
        for number, maps in enumerate(one.members):
            cells = ViewPrediction(view.view, Prediction(features=maps, covers=one.covers)).labels(at_input, "features")
            there = (cells >= 0).flatten()
            rows = maps.permute(0, 2, 3, 1).flatten(0, 2)[there.to(maps.device)]
            if not rows.isfinite().all():
                raise InputError("expected finite features, found NaN or infinity; the weights are damaged, use others")
            kept[number].append(cells.flatten()[there])
            features[number].append(rows)
    owned: list[Tensor] = []
    if with_scores:
        if not all(one.field("logits").isfinite().all() for one in found):
            raise InputError("the network's logits are not finite; its checkpoint is damaged, use another")
        owners = _owners(prediction.views, at_input)
        owned = [one.labels(torch.where(owners == i, at_input, -1), "logits") for i, one in enumerate(prediction.views)]
    dims = [maps.shape[1] for maps in found[0].members]
    return _Pixels(name, kept, dims, classes, owned, features, found if with_scores else [])


def _add(samples: Sequence[StratifiedSample], short: _Pixels, own: _Pixels | None) -> None:
    for number, sample in enumerate(samples):
        views = short.members[number]
        features = [None] * len(views) if own is None else own.features[number]
        for rows, labels in zip(features, views, strict=True):
            sample.add(rows, labels)


def _draw(
    short: _Pixels, own: _Pixels | None, most: int, generator: torch.Generator
) -> list[tuple[PixelSample, PixelSample]]:
    """Draw pixels of an image for scores: outputs of the network, and features of the members at these places."""
    state = generator.get_state()
    found = [None] * len(short.owned) if own is None else [one.plain() for one in own.predictions]
    drawn = draw_pixels(list(zip(found, short.owned, strict=True)), most, generator)
    if own is None or not own.predictions[0].members:
        return [(one, one) for one in drawn]
    again = torch.Generator()
    again.set_state(state)
    beside = [_beside(one) for one in own.predictions]
    return list(zip(drawn, draw_pixels(list(zip(beside, short.owned, strict=True)), most, again), strict=True))


def _beside(prediction: FeaturePrediction) -> Prediction:
    """The features of all members at the resolution of the logits, concatenated."""
    logits = prediction.field("logits")
    size = (logits.shape[2], logits.shape[3])
    maps = [
        F.interpolate(each, size, mode="bilinear") if each.shape[2:] != size else each for each in prediction.members
    ]
    return Prediction(logits=logits, features=torch.cat(maps, 1))


def _check_copies(hashes: Sequence[str]) -> None:
    if len(hashes) > 1 and len(set(hashes)) == 1:
        raise InputError(f"expected different images, found {len(hashes)} copies of one; give others")
    if copies := len(hashes) - len(set(hashes)):
        warnings.warn(f"{copies} of the {len(hashes)} images are copies of others, and count as often", stacklevel=3)


def _outlier_features(
    model: FittedModel,
    outliers: TrainingImages | None,
    densities: Sequence[FeatureDensity],
    inference: Inference,
    limit: int,
    seed: int,
    on_frame: Callable[[], None],
    processes: Processes,
) -> tuple[list[Tensor], frozenset[str]]:
    """Features of outlier pixels for each member, none without outliers, and hashes of the images that were seen."""
    if outliers is None:
        return [], frozenset()
    order = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(outliers.items), generator=order)[:limit].tolist()
    samples: list[StratifiedSample] = []
    hashes: set[str] = set()
    shown = _pass(model, replace(outliers, classes=2), chosen, inference, False, on_frame, processes)
    with closing(shown):
        for short, own in processes.in_order(len(chosen), shown, _Pixels.short):
            hashes.add(short.hash)
            if not samples:
                draws = [torch.Generator() for _ in densities]
                for draw in draws:
                    draw.set_state(order.get_state())
                samples = [
                    StratifiedSample(2, _most(one, 2, dim), dim, draw)
                    for one, dim, draw in zip(densities, short.dims, draws, strict=True)
                ]
            _add(samples, short, own)
    for sample in samples:
        sample.gather(processes)
        if not len(sample.of_class(1)):
            raise InputError("outliers: expected anomalous pixels in the images, found none; give others")
    return [sample.of_class(1) for sample in samples], outliers.also_seen | hashes


def _fit(
    member: Member, sample: StratifiedSample, generator: torch.Generator, labelled: bool, outliers: Tensor | None
) -> Member:
    settings = member.settings
    dim = sample.of_class(int(sample.seen.argmax())).shape[1]
    densities = settings.densities(dim, len(sample.seen), labelled, outliers is not None)
    densities.fit(sample, generator, outliers=outliers, shrinkage=settings.shrinkage, whiten=settings.whiten)
    return replace(member, densities=densities)


def _weighted(network: Model | None, members: Sequence[Member]) -> list[Member]:
    """Give every density its weight, relative to the first: of equal weight is one dimension."""
    if not members:
        return []
    dims = [member.densities.dim for member in members if member.densities is not None]
    first = dims[0]
    if network is not None and "class_log_likelihood" in network.gives:
        first = _dimensions(network)
        return [replace(one, weight=one.settings.weight or first / dim) for one, dim in zip(members, dims, strict=True)]
    unit = members[0].settings.weight or 1.0
    return [
        replace(one, weight=one.settings.weight / unit if one.settings.weight else first / dim)
        for one, dim in zip(members, dims, strict=True)
    ]


def _dimensions(network: Model) -> int:
    """Dimensions of the embedding of a generative network."""
    probe = network(network.prepare(np.zeros((64, 64, 3), np.uint8))[None])
    return probe.field("features").shape[1] if probe.features is not None else 1


def _statistics(
    model: FittedModel,
    pairs: Sequence[tuple[PixelSample, PixelSample]],
    scores: Sequence[Score],
    all_of_them: bool,
    hashes: Sequence[str],
    record: dict[str, Any],
) -> tuple[dict[str, Any], Sequence[Tensor]]:
    """Fit the scores to drawn pixels, with the likelihoods of the fitted densities there."""
    sample = join(pixels for pixels, _ in pairs)
    sample = replace(sample, linear=model.linear)
    if model.members:
        beside = join(pixels for _, pixels in pairs).prediction.field("features").to(model.device)
        dims = [member.densities.dim for member in model.members if member.densities is not None]
        members = tuple(beside.split(dims, 1))
        found = model.add_densities(FeaturePrediction(**vars(sample.prediction), members=members))
        sample = replace(sample, prediction=found)
    origin = {**record, "pixels": len(sample.labels)}
    return Statistics.of(sample, scores, images=hashes, origin=origin, all_of_them=all_of_them).state()


def _owners(views: Sequence[ViewPrediction], labels: Tensor) -> Tensor:
    """The view from which each pixel is taken: the one whose border is farthest from it. Shape: ``(H, W)``."""
    farthest, owners = torch.zeros(labels.shape), torch.zeros_like(labels)
    for i, one in enumerate(views):
        down, across = (_depth(length) for length in one.view.part)
        depth = torch.minimum(down[:, None], across)
        window = (one.view.rows, one.view.columns)
        owners[window] = torch.where(depth > farthest[window], i, owners[window])
        farthest[window] = torch.maximum(depth, farthest[window])
    return owners


def _depth(length: int) -> Tensor:
    """Distance of each pixel's centre to the nearer end. Shape: ``(length,)``."""
    place = torch.arange(length) + 0.5
    return torch.minimum(place, length - place)
