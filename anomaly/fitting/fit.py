"""One pass over ordinary images that fits densities of features and the statistics of scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from anomaly.density.densities import ClassDensities
from anomaly.density.sample import StratifiedSample
from anomaly.errors import InputError
from anomaly.fitting.images import TrainingImages
from anomaly.frames import image_hash
from anomaly.models.backbone import Backbone, load_backbone
from anomaly.models.base import Model, Prediction
from anomaly.models.feature_density import FeatureDensity, check_members, fields_given
from anomaly.models.fitted import FeatureModel, FeaturePrediction, FeatureSource, FittedModel, Member, check_unfitted
from anomaly.models.loop import show
from anomaly.models.tiling import Inference
from anomaly.models.views import ImagePrediction, ViewPrediction, predict_inputs, resize_labels
from anomaly.scores.registry import Score, check_served
from anomaly.scores.sample import PixelSample, draw_pixels, join
from anomaly.scores.statistics import Statistics, fittable
from anomaly.utils.given import whole
from anomaly.utils.processes import ALONE, Processes

MEMORY = 2**29
"""Largest number of values in the sample of a density: 2 GiB."""
SPREAD_PIXELS = 5_000
"""Number of pixels from which the spread of a log-likelihood is taken."""
SCORE_PIXELS = 50_000
"""Default number of pixels that scores are fitted to."""


@dataclass
class _Pixels:
    """What one image gives to the samples, on the process that has it; the others need all but the last two entries."""

    hash: str
    members: list[list[Tensor]]
    """Class of every kept cell, of each view, of each density."""
    dims: list[int]
    """Size of a feature of each density."""
    classes: int
    owned: list[Tensor]
    """Class of every cell of the logits of each view, -1 if another view has it; empty if no score is fitted."""
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
        limit: Largest number of images, and of those with outliers; they are drawn at random.
        pixels: Largest number of pixels that scores are fitted to, split evenly over images and their classes.
        outliers: Images with outliers, to whose labelled pixels a density of outliers is fitted, see
            :func:`anomaly.fitting.images.outliers_of`.
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
            not finite; the network lacks what is needed; or a setting is out of range.
    """
    limit, pixels = (whole(name, value, 1, "1 or more") for name, value in (("limit", limit), ("pixels", pixels)))
    check_unfitted(network)
    if not len(images.items):
        raise InputError("expected images to fit to, found none; give a folder that has some")
    own: frozenset[str] = frozenset() if network is None else network.gives
    check_members(own, densities)  # before backbones are loaded
    gives = fields_given(own, densities, outliers is not None)
    wanted = _scores_to_fit(gives, scores, images.labelled)
    if not densities and not wanted:
        raise InputError(
            "expected densities or scores to fit, found neither, since the network has a likelihood of its own, or "
            "none of the labels or features that are needed; add a backbone (--backbone efficientnet-lite0)"
        )
    if outliers is not None and not any(one.fitted for one in densities):
        raise InputError(
            "outliers: expected a fitted density to go with that of outliers, found none; add a backbone (--backbone "
            "efficientnet-lite0)"
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
    of_scores = _copy(order)
    sources = [
        FeatureSource(one, body) for one, body in zip(densities, _backbones(densities, network, device), strict=True)
    ]
    model = FeatureModel(network, sources)
    fits: list[_Fit] = []
    drawn: list[list[PixelSample]] = []
    hashes: list[str] = []
    shown = _pass(model, images, chosen, looking, bool(wanted), on_frame, processes)
    with closing(shown):
        for short, here in processes.in_order(len(chosen), shown, _Pixels.short):
            if not hashes:
                fits = [
                    _Fit.of(source, dim, short.classes, images.labelled, outliers is not None, order)
                    for source, dim in zip(sources, short.dims, strict=True)
                ]
            hashes.append(short.hash)
            _add([fit.sample for fit in fits], short, here)
            if wanted:
                drawn.append(_draw(short, here, pixels // len(chosen), of_scores))
    _check_copies(hashes)
    beyond, seen = _outlier_features(model, outliers, sources, looking, limit, seed, on_frame, processes)
    members = []
    for number, fit in enumerate(fits):
        fit.sample.gather(processes)
        members.append(fit.member(beyond[number] if beyond else None))
    record: dict[str, Any] = {
        **(origin or {}),
        "images": len(hashes),
        "labels": images.labelled,
        "seed": seed,
        "inference": looking.record(),
        "pixels": fits[0].sample.seen.tolist() if fits else None,
    }
    fitted = FittedModel(
        network,
        _weighted(members, [fit.spread() for fit in fits]),
        fitted_images=seen | images.also_seen | frozenset(hashes),
        classes=images.names,
        record=record,
    )
    if wanted:
        parts = [max(each, key=len) for each in zip(*processes.gather(drawn), strict=True)]  # one process has them
        sample = join(pixels for of_image in parts for pixels in of_image)
        origin = {**record, "pixels": len(sample.labels)}
        sample = _with_densities(fitted, sample)
        found = Statistics.of(sample, wanted, images=hashes, origin=origin, all_of_them=scores is not None)
        fitted.statistics = found.state()
    return fitted


@dataclass(frozen=True)
class _Fit:
    """A density that is being fitted: where its features come from, its shape, its sample and its random numbers."""

    source: FeatureSource
    densities: ClassDensities | None
    sample: StratifiedSample
    draw: torch.Generator

    @classmethod
    def of(
        cls, source: FeatureSource, dim: int, classes: int, labelled: bool, outliers: bool, order: torch.Generator
    ) -> _Fit:
        """Make the density and its empty sample; all of them draw the same random numbers."""
        draw, settings = _copy(order), source.settings
        densities = settings.densities(dim, classes, labelled, outliers) if settings.fitted else None
        return cls(source, densities, StratifiedSample(classes, _most(settings, classes, dim), dim, draw), draw)

    def member(self, outliers: Tensor | None) -> Member:
        """Fit the density to its sample, and to the features of outliers if there are some."""
        settings = self.source.settings
        if self.densities is None:
            return Member(settings, None, None)
        dim = self.densities.dim
        count = sum(len(self.sample.of_class(k)) for k in range(self.densities.num_classes))
        if settings.whiten and 0 < count <= dim:
            warnings.warn(
                f"a density of {dim} dimensions is fitted to {count} pixels, so that shrinkage decides it; give more "
                "images, or larger ones",
                stacklevel=3,
            )
        self.densities.fit(
            self.sample, self.draw, outliers=outliers, shrinkage=settings.shrinkage, whiten=settings.whiten
        )
        return Member(settings, self.source.backbone, self.densities)

    def spread(self) -> float:
        """Standard deviation of log p(x) over the sampled pixels, once the density is fitted."""
        rows = torch.cat([self.sample.of_class(k) for k in range(len(self.sample.seen))])
        rows = rows[:: max(1, len(rows) // SPREAD_PIXELS)]
        classes = rows if self.densities is None else self.densities(rows)
        found = float(classes.double().logsumexp(1).std(correction=0))
        return found if found > 0 else 1.0


def _copy(generator: torch.Generator) -> torch.Generator:
    copy = torch.Generator()
    copy.set_state(generator.get_state())
    return copy


def _backbones(
    densities: Sequence[FeatureDensity], network: Model | None, device: str | None
) -> Iterator[Backbone | None]:
    """The backbone of each density; densities of one backbone share it."""
    where = device if network is None else getattr(network, "device", None)
    loaded: list[tuple[Any, dict[str, Any], Backbone]] = []
    for one in densities:
        if one.backbone is None or isinstance(one.backbone, Backbone):
            yield one.backbone
            continue
        how: dict[str, Any] = {"stages": one.stages or None, "mean": one.mean, "std": one.std}
        body = next((each for spec, same, each in loaded if (spec, same) == (one.backbone, how)), None)
        if body is None:
            body = load_backbone(one.backbone, **how, device=where)
            loaded.append((one.backbone, how, body))
        yield body


def _scores_to_fit(gives: frozenset[str], scores: Sequence[Score] | None, labelled: bool) -> list[Score]:
    """The scores to fit; without names, all that can be fitted, which are none without labels."""
    if not labelled or "logits" not in gives:
        if scores:
            raise InputError(
                "scores: expected labelled images and a network with logits, found none; leave the scores out, or add "
                "them"
            )
        return []
    if scores is None:
        return fittable(gives)
    check_served(scores, gives)
    return list(scores)


def _most(settings: FeatureDensity, classes: int, dim: int) -> int:
    """Largest number of pixels in the sample of a class."""
    return min(settings.pixels, max(1, MEMORY // (classes * dim)))


def _pass(
    model: FeatureModel,
    images: TrainingImages,
    chosen: Sequence[int],
    inference: Inference,
    with_scores: bool,
    on_frame: Callable[[], None],
    processes: Processes,
) -> Generator[_Pixels, None, None]:
    """Show the images of this process to the network and the backbones."""

    def read(index: int) -> tuple[str, Tensor, Tensor]:
        image, labels = images.read(images.items[index])
        return image_hash(image), labels, model.prepare(image)

    def ask(items: Sequence[tuple[str, Tensor, Tensor]]) -> Sequence[ImagePrediction]:
        return [predict_inputs(model, inputs[None], inference) for _, _, inputs in items]

    with closing(show(processes.in_turn(chosen), read, ask)) as shown:
        for (name, labels, _), prediction in shown:
            yield _pixels_of(name, labels, prediction, images, with_scores)
            on_frame()


def _pixels_of(
    name: str, labels: Tensor, prediction: ImagePrediction, images: TrainingImages, with_scores: bool
) -> _Pixels:
    found: list[FeaturePrediction] = [one.prediction for one in prediction.views]  # type: ignore[misc]
    classes = _number_of_classes(images, found[0])
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
            raise InputError(
                "logits: expected finite values, found NaN or infinity; the network's weights are damaged, use others"
            )
        owners = _owners(prediction.views, at_input)
        owned = [one.labels(torch.where(owners == i, at_input, -1), "logits") for i, one in enumerate(prediction.views)]
    dims = [maps.shape[1] for maps in found[0].members]
    return _Pixels(name, kept, dims, classes, owned, features, found if with_scores else [])


def _number_of_classes(images: TrainingImages, prediction: Prediction) -> int:
    """Number of classes of the densities: that of the network if there are labels, else that of the images."""
    if not images.labelled or not prediction.gives_classes:
        return images.classes
    classes = prediction.class_values().shape[1]
    if images.names and len(images.names) != classes:
        raise InputError(
            f"expected training data with the {classes} classes of the network, found {len(images.names)}; use the "
            "config that the network was trained with"
        )
    return classes


def _add(samples: Sequence[StratifiedSample], short: _Pixels, own: _Pixels | None) -> None:
    for number, sample in enumerate(samples):
        views = short.members[number]
        features = [None] * len(views) if own is None else own.features[number]
        for rows, labels in zip(features, views, strict=True):
            sample.add(rows, labels)


def _draw(short: _Pixels, here: _Pixels | None, most: int, generator: torch.Generator) -> list[PixelSample]:
    """Draw pixels of an image for scores: outputs of the network, and beside its features those of the densities."""
    found = [None] * len(short.owned) if here is None else [_at_logits(one) for one in here.predictions]
    return draw_pixels(list(zip(found, short.owned, strict=True)), most, generator)


def _at_logits(prediction: FeaturePrediction) -> Prediction:
    """All maps at the resolution of the logits, with the features of the densities after those of the network."""
    logits, own = prediction.field("logits"), replace(prediction.plain(), covers=None)
    size = (logits.shape[2], logits.shape[3])
    features = [own.resize(maps, size) for maps in (own.features, *prediction.members) if maps is not None]
    return replace(own.resized(size), features=torch.cat(features, 1) if features else None)


def _with_densities(model: FittedModel, sample: PixelSample) -> PixelSample:
    """Split the features of :func:`_at_logits` again, and compute the likelihoods of the densities there."""
    found = sample.prediction
    names = ["logits" if one.settings.of == "logits" else "class_log_likelihood" for one in model.members]
    dims = [
        found.field(name).shape[1] if one.densities is None else one.densities.dim
        for one, name in zip(model.members, names, strict=True)
    ]
    if dims:
        features = found.field("features").to(model.device)
        own, *members = features.split([features.shape[1] - sum(dims), *dims], 1)
        plain = {**vars(found), "features": own if own.shape[1] else None}
        found = model.add_densities(FeaturePrediction(**plain, members=tuple(members)))
    return replace(sample, prediction=found, linear=model.linear)


def _check_copies(hashes: Sequence[str]) -> None:
    if len(hashes) > 1 and len(set(hashes)) == 1:
        raise InputError(f"expected different images, found {len(hashes)} copies of one; give others")
    if copies := len(hashes) - len(set(hashes)):
        warnings.warn(f"{copies} of the {len(hashes)} images are copies of others, and count as often", stacklevel=3)


def _outlier_features(
    model: FeatureModel,
    outliers: TrainingImages | None,
    sources: Sequence[FeatureSource],
    inference: Inference,
    limit: int,
    seed: int,
    on_frame: Callable[[], None],
    processes: Processes,
) -> tuple[list[Tensor], frozenset[str]]:
    """Features of outlier pixels for each density, none without outliers, and hashes of the images that were seen."""
    if outliers is None:
        return [], frozenset()
    order = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(outliers.items), generator=order)[:limit].tolist()
    samples: list[StratifiedSample] = []
    hashes: set[str] = set()
    shown = _pass(model, outliers, chosen, inference, False, on_frame, processes)
    with closing(shown):
        for short, here in processes.in_order(len(chosen), shown, _Pixels.short):
            hashes.add(short.hash)
            samples = samples or [
                StratifiedSample(1, _most(source.settings, 1, dim), dim, _copy(order))
                for source, dim in zip(sources, short.dims, strict=True)
            ]
            _add(samples, short, here)
    for sample in samples:
        sample.gather(processes)
        if not len(sample.of_class(0)):
            raise InputError(
                "outliers: expected anomalous pixels in the images, found none at the resolution of the features; give "
                "others"
            )
    return [sample.of_class(0) for sample in samples], outliers.also_seen | hashes


def _weighted(members: Sequence[Member], spreads: Sequence[float]) -> list[Member]:
    """Scale all terms to the spread of the first, and weigh them.

    Args:
        members: The terms.
        spreads: Standard deviation of the log-likelihood of each over the ordinary pixels.
    """
    scaled = [one.settings.weight / spread for one, spread in zip(members, spreads, strict=True)]
    return [replace(one, weight=each / scaled[0]) for one, each in zip(members, scaled, strict=True)]


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
