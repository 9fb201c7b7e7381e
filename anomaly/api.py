"""The functions that users import from ``anomaly``: evaluation, scoring, comparison and verification; results."""

from __future__ import annotations

import shutil
import tempfile
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anomaly.datasets.catalog import in_catalogue, load_dataset
from anomaly.datasets.dataset import Dataset
from anomaly.errors import InputError
from anomaly.evaluation.callbacks import Callback, DatasetEnd
from anomaly.evaluation.config import Calibration, MetricConfig, parse_calibration
from anomaly.evaluation.repeat import in_current_names, repeated
from anomaly.evaluation.run import Evaluation, Progress, run
from anomaly.evaluation.score_maps import ScorePipeline, Store, check_scores
from anomaly.frames import Frame, check_score, image_hash
from anomaly.metrics.bootstrap import FrameTable
from anomaly.models.base import Model
from anomaly.models.loading import load_model
from anomaly.models.tiling import Inference
from anomaly.postprocessing.table import Chain, parse_chain
from anomaly.report.html import MEGABYTES, write_page
from anomaly.report.table import results_text
from anomaly.report.views import FRAMES, ViewCallback
from anomaly.results.comparison import check_comparable, measured_remarks
from anomaly.results.frames import paired_frame, results_frame
from anomaly.results.provenance import provenance
from anomaly.results.records import ClosedSet, DatasetResult, EvaluationRecord, read_results, state_files, write_results
from anomaly.results.verification import Agreement, agreements, not_measured
from anomaly.scores.registry import SCORES, Score, check_not_learned, get_scores, given_score, serves
from anomaly.utils.files import staged
from anomaly.utils.given import switch, whole
from anomaly.utils.names import check_distinct
from anomaly.utils.processes import ALONE, Processes
from anomaly.utils.profile import Profile

if TYPE_CHECKING:
    from pandas import DataFrame

    from anomaly.models.feature_density import FeatureDensity
    from anomaly.models.fitted import FittedModel

VIEWS, RECORDS = "report", ("results.csv", "results.json")


def evaluate(
    model: Any,
    data: Dataset | str | Sequence[Dataset | str],
    scores: str | Score | Sequence[str | Score] | None = None,
    *,
    root: str | Path = "data",
    postprocessing: str | Sequence[str] = "none",
    inference: Inference | None = None,
    metrics: MetricConfig | None = None,
    calibrate_on: Dataset | str | None = None,
    calibrate_by: str = "tpr=0.95",
    closed_set: bool | str | Dataset | None = None,
    limit: int | None = None,
    report_images: int = FRAMES,
    callbacks: Sequence[Callback] = (),
    progress: Progress = lambda what, total: lambda: None,
    profile: Profile | None = None,
    distributed: bool = False,
) -> Result:
    """Measure anomaly scores of a model on labelled datasets: AUROC, AP, FPR95 and more, pooled over all pixels.

    Args:
        model: Anything that :func:`anomaly.load_model` accepts: a pair of config and checkpoint, ``"file.py:name"``, an
            ``nn.Module``, a function that returns a score map, or a model object.
        data: One dataset or several, as objects (from :func:`anomaly.load_dataset` or :func:`anomaly.from_folders`) or
            as names of the catalogue.
        scores: One score or several, as names (``"energy"``, ``"energy:temperature=2"``) or as :class:`anomaly.Score`
            objects. ``"all"`` computes every score that the model supports. Default: the model's own score, if it has
            one, and the commonly reported scores that the model supports.
        root: Folder that holds the datasets given by name.
        postprocessing: One chain of steps or several, such as ``"boundary,smooth:sigma=2"``. Each chain is applied to
            every score. ``"none"`` leaves the scores unchanged.
        inference: Sliding windows, test-time augmentation and resolution. Default: the windows of the model's config.
        metrics: Component metrics, confidence intervals, levels and memory limits. Default: pixel metrics only.
        calibrate_on: Dataset on which a threshold is chosen for every score. The threshold is then applied to the other
            datasets.
        calibrate_by: Rule for that threshold: ``"tpr=LEVEL"``, ``"fpr=LEVEL"`` or ``"best_f1"``.
        closed_set: Dataset with class labels on which mIoU is measured, such as ``"cityscapes-val"``; if the model has
            other classes, a warning says so. For an mmsegmentation config: whether to measure mIoU on its validation
            data. Default: measure it there if the data are there, else warn and go on. With True, missing data are an
            error. False measures none.
        limit: Use only the first ``limit`` images of each dataset. Default: all images.
        report_images: Number of images of each dataset, sampled evenly, that :meth:`Result.report` can show. 0 keeps
            none.
        callbacks: Objects that are called for every frame and dataset; see :class:`anomaly.Callback`.
        progress: Called as ``progress(name, total)`` before each part of the work, where ``total`` is its number of
            images. It returns a function without arguments, which is called after each image.
        profile: Receives the seconds spent in each stage.
        distributed: Whether the processes of the default group of ``torch.distributed`` share the images. Each of them
            makes the same call, on its own device, and gets the same result. An error is raised on the process where it
            occurs; end the others, as torchrun does.

    Returns:
        The result. Print it for the table, or use :meth:`Result.to_frame`, :meth:`Result.save` and
        :meth:`Result.report`.

    Raises:
        InputError: A file or package is missing, a name is unknown, an option is invalid, or the input would give a
            wrong number. The message says what to do.
    """
    processes = Processes.of_default_group() if switch("distributed", distributed) else ALONE
    model, profile = load_model(model), profile or Profile()
    datasets = [_dataset(one, root, limit) for one in _several(data)]
    calibration = None
    if calibrate_on is not None:
        calibration = parse_calibration(_dataset(calibrate_on, root, limit), calibrate_by)
    evaluation = configure(
        model,
        scores,
        postprocessing=postprocessing,
        inference=inference,
        metrics=metrics,
        calibration=calibration,
        settings={"limit": limit},
    )
    if closed_set is True and getattr(model, "config", None) is None:
        raise InputError(
            "closed_set=True: expected a config of mmsegmentation, which names validation data, found another model; "
            'name a dataset with class labels, such as closed_set="cityscapes-val"'
        )
    return measure(
        model,
        datasets,
        evaluation,
        closed_set=_dataset(closed_set, root, limit) if isinstance(closed_set, (str, Dataset)) else closed_set,
        limit=limit,
        report_images=report_images,
        callbacks=callbacks,
        progress=progress,
        profile=profile,
        processes=processes,
    )


def score(
    model: Any,
    image: npt.NDArray[np.uint8] | str | Path,
    score: str | Score | None = None,
    *,
    inference: Inference | None = None,
) -> npt.NDArray[np.float32]:
    """Compute one anomaly score map for one image.

    Args:
        model: Anything that :func:`anomaly.load_model` accepts.
        image: RGB image of shape ``(H, W, 3)``, uint8, or the path of an image file.
        score: Name of the score, or a :class:`anomaly.Score` object. Default: the model's own score, or else the first
            commonly reported score that the model supports.
        inference: Sliding windows, test-time augmentation and resolution. Default: the windows of the model's config.

    Returns:
        The score map. Higher = more anomalous. Shape: ``(H, W)``, float32.

    Raises:
        InputError: The image cannot be read, the score is unknown or not supported by the model, the model or the score
            was fitted to this image, or a value of the map is NaN or infinite.
    """
    from anomaly.datasets.images import read_image
    from anomaly.models.views import predict_image

    model = load_model(model)
    evaluation = configure(model, score, inference=inference)
    found = read_image(Path(image)) if isinstance(image, (str, Path)) else np.asarray(image)
    frame = Frame("image", found, np.zeros(found.shape[:2], np.uint8))
    one = evaluation.scores[:1]
    check_scores(one, model)
    evaluation.check("image", image_hash(frame.image))
    check_not_learned(one, "image", image_hash(frame.image))
    prediction = predict_image(model, frame.image, evaluation.inference)
    ((name, score_map),) = ScorePipeline(one).score(prediction, (found.shape[0], found.shape[1])).items()
    check_score("image", name, score_map, score_map.shape)
    return score_map


def compare(*results: Result | str | Path, paired: bool = False) -> DataFrame:
    """Compare results: one table of metrics, or paired differences.

    Args:
        *results: Results of :func:`evaluate`, or paths of ``results.json`` files. If two models have the same name, the
            folder of the file or a number is appended to it.
        paired: Return the difference of each method to the first one on the same frames, with 95 % confidence intervals
            and p-values (paired bootstrap). This needs results of this process that were evaluated with
            ``report_images`` above 0, or files written by ``anomaly evaluate --save-states``.

    Returns:
        Without ``paired``: one row for each model, dataset and score. The columns are ``model``, ``dataset``,
        ``score``, counts of frames and pixels, then the metrics as fractions in 0..1. With ``paired``: one row for each
        dataset, method and metric, with the columns ``dataset``, ``method``, ``minus``, ``metric``, ``difference``,
        ``low``, ``high`` and ``p_value``.

    Raises:
        InputError: No result is given, the results differ in frames, labels or evaluation rules, or they lack the
            per-frame counts that ``paired`` needs.
    """
    if not results:
        raise InputError("expected at least one result to compare, found none; give results or results.json files")
    found = _named([one if isinstance(one, Result) else Result.load(one) for one in results])
    check_comparable([one.record for one in found])
    if not paired:
        return results_frame([one.record for one in found])
    import pandas

    tables: dict[str, dict[str, FrameTable]] = {}
    for one in found:
        for (dataset, name), table in one.tables().items():
            tables.setdefault(dataset, {})[f"{one.record.model['name']} {name}"] = table
    frames = []
    for dataset, methods in tables.items():
        rows = paired_frame(methods)
        rows.insert(0, "dataset", dataset)
        frames.append(rows)
    return pandas.concat(frames, ignore_index=True)


def fit(
    images: str | Path | Sequence[npt.NDArray[np.uint8]] | None = None,
    labels: str | Path | None = None,
    *,
    model: Any = None,
    backbones: str | FeatureDensity | Sequence[str | FeatureDensity] = (),
    own: str | None = None,
    scores: str | Sequence[str] | None = None,
    outliers: Dataset | None = None,
    limit: int = 400,
    pixels: int = 50_000,
    seed: int = 0,
    device: str | None = None,
) -> FittedModel:
    """Fit densities of features, and scores such as ``"knn"``, to ordinary images, in one pass over them.

    Without a model it makes a detector: the density of the features of a frozen, pretrained backbone, which needs no
    labels. With a model, the densities become part of its predictions.

    Args:
        images: Folder of ordinary images, or the images themselves ``(H, W, 3)``, RGB, uint8. Default: the training
            data that the model's config names.
        labels: Folder of PNG label maps of the same names, with class indices, 255 = none. Default: no labels; every
            density is then one of all pixels, and no score is fitted.
        model: Anything that :func:`anomaly.load_model` accepts; None for a detector without a network.
        backbones: Frozen backbones whose features get a density, such as ``"efficientnet-lite0"`` or
            ``"efficientnet-lite0:sizes=540"``, or :class:`anomaly.FeatureDensity` objects; several make an ensemble.
            Default: none with a model, ``"efficientnet-lite0"`` without.
        own: What the model itself adds to the ensemble: ``"likelihood"``, ``"logits"``, ``"features"`` with settings
            such as ``"features:components=3"``, or ``"none"``. Default: its likelihood, if it is generative; else its
            logits beside backbones; without backbones a density of its features.
        scores: Names of the scores to fit. Default: all that the model supports.
        outliers: A dataset with anomalies, such as one of ``anomaly data paste``, to whose anomalous pixels a density
            of outliers is fitted, for the score ``"outlier_ratio"``.
        limit: Largest number of images, drawn at random.
        pixels: Largest number of pixels that scores are fitted to.
        seed: Seed of all random draws.
        device: Device of the backbones without a model, such as ``"cuda:1"``.

    Returns:
        The model with what was fitted. It is a model like any other; ``save`` writes what was fitted to a file.

    Raises:
        InputError: There are no images, or only copies of one; a label is no class; or there is nothing to fit.
    """
    from anomaly.fitting.fit import fit_model
    from anomaly.fitting.images import TrainingImages, folder_of_images, images_of, outliers_of
    from anomaly.models.feature_density import choose_densities

    if labels is not None and not isinstance(images, (str, Path)):
        raise InputError(
            "labels: expected a folder of images too, found none; name the folder of the images of these label maps"
        )
    network = None if model is None else load_model(model, device=device)
    several = list(backbones) if isinstance(backbones, (list, tuple)) else [backbones]
    named = [_as_density(one) for one in several]
    if images is None:
        if getattr(network, "config", None) is None:
            raise InputError(
                "images: expected a folder or images, because only a config of mmsegmentation names its training "
                "data, found none; pass them"
            )
        from anomaly.mmengine.training_images import training_images_of

        source: TrainingImages = training_images_of(network)
    elif isinstance(images, (str, Path)):
        count = len(getattr(network, "classes", ())) or None
        source = folder_of_images(Path(images), None if labels is None else Path(labels), classes=count)
    else:
        source = images_of(images)
    return fit_model(
        network,
        source,
        choose_densities(network, named, own),
        scores=None if scores is None else get_scores(_several(scores)),
        limit=limit,
        pixels=pixels,
        outliers=None if outliers is None else outliers_of(outliers),
        seed=whole("seed", seed),
        device=device,
    )


def _as_density(one: Any) -> FeatureDensity:
    """Settings of a density, given as text, as settings, or by the backbone alone."""
    from anomaly.models.feature_density import FeatureDensity, parse_density

    if isinstance(one, str):
        return parse_density(one)
    return one if isinstance(one, FeatureDensity) else FeatureDensity(backbone=one)


def verify(
    result: Result | str | Path,
    model: Any,
    data: Dataset | str | Sequence[Dataset | str] | None = None,
    *,
    root: str | Path = "data",
    tolerance: float = 1e-6,
) -> Verification:
    """Measure a result again with the settings of its record, and check that the metrics match.

    Args:
        result: A result, or the path of a ``results.json`` file.
        model: Anything that :func:`anomaly.load_model` accepts.
        data: The datasets of the result. Default: the datasets of the catalogue that the record names, below ``root``.
            Required if the result has datasets that are not in the catalogue.
        root: Folder that holds the datasets given by name.
        tolerance: Largest difference of a metric. Metrics are compared as fractions in 0..1; values larger than 1, such
            as thresholds, are compared relative to their size.

    Returns:
        The comparison, item by item. It is true in a condition if everything that was compared agrees.

    Raises:
        InputError: The record does not say how the result was made, or the model or a dataset cannot be loaded.
    """
    record = in_current_names((result if isinstance(result, Result) else Result.load(result)).record)
    again = repeated(record)
    if data is None and again.own:
        raise InputError(
            f"data: expected the datasets {', '.join(again.own)}, which are not in the catalogue, found none; pass all "
            "datasets of the result as data="
        )
    names: Any = again.datasets if data is None else _several(data)
    datasets = [_dataset(one, root, again.limit, as_found=again.as_found) for one in names]
    model = load_model(model)
    calibration = None
    if again.calibrate_on is not None:
        chosen = _dataset(again.calibrate_on, root, again.limit, as_found=again.as_found)
        calibration = parse_calibration(chosen, again.calibrate_by)
    evaluation = configure(
        model,
        again.scores,
        postprocessing=again.postprocessing,
        inference=again.inference,
        metrics=again.metrics,
        calibration=calibration,
        settings={"limit": again.limit},
    )
    found = measure(
        model,
        datasets,
        evaluation,
        closed_set=closed_set_again(record, model, root),
        limit=again.limit,
        report_images=0,
    )
    return Verification(agreements(record, found.record, tolerance), not_measured(record, found.record))


class Verification:
    """The outcome of :func:`anomaly.verify`. It is true in a condition if nothing differs; print it for the details.

    Attributes:
        agreements: One entry for each thing that was compared.
        missing: Names of the parts of the record that were not measured again.
    """

    def __init__(self, agreements: Sequence[Agreement], missing: Sequence[str]) -> None:
        self.agreements, self.missing = list(agreements), list(missing)

    def __bool__(self) -> bool:
        """Return whether nothing differs."""
        return not any(one.faults for one in self.agreements)

    def __str__(self) -> str:
        """One line for each thing compared, then the verdict."""
        lines = [*map(str, self.agreements), *(f"{what}: not measured again" for what in self.missing)]
        rest = f", but for what was not measured again ({', '.join(self.missing)})" if self.missing else ""
        return "\n".join(
            [*lines, f"the result comes out again{rest}" if self else "the result does NOT come out again"]
        )


class Result:
    """The result of an evaluation. Print it for the table of metrics.

    :func:`anomaly.evaluate` and :meth:`Result.load` create results.

    Args:
        record: Everything that ``results.json`` holds.
        views: Folder with the reduced images that the report shows; None if none were kept.
        tables: Counts of each frame, keyed by ``(dataset, score)``, for paired comparisons; empty if none were kept.
        path: The ``results.json`` file that the record was read from; None if it was not read from a file.
    """

    def __init__(
        self,
        record: EvaluationRecord,
        *,
        views: Path | None = None,
        tables: Mapping[tuple[str, str], FrameTable] | None = None,
        path: Path | None = None,
    ) -> None:
        self.record = record
        self._views = views
        self._tables = dict(tables or {})
        self._path = path

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """Read a result from a ``results.json`` file, or from the folder that holds one, with the views beside it.

        Raises:
            InputError: The file is missing, damaged, or of a later format version.
        """
        path = Path(path)
        path = path / "results.json" if path.is_dir() else path
        views = path.parent / VIEWS
        return cls(read_results(path), views=views if views.is_dir() else None, path=path)

    @property
    def datasets(self) -> list[DatasetResult]:
        """One entry for each dataset.

        ``entry.scores["energy"].values["ap"]`` is a metric of one score, as a fraction in 0..1.
        """
        return self.record.datasets

    @property
    def closed_set(self) -> ClosedSet | None:
        """Metrics on the known classes (mIoU and accuracies); None if they were not measured."""
        return self.record.closed_set

    def __str__(self) -> str:
        """The table with metrics in percent, then notes on values that need care."""
        notes = "".join(f"\nnote: {remark}" for remark in measured_remarks(self.record))
        return results_text(self.record).rstrip() + notes

    def __repr__(self) -> str:
        names = ", ".join(entry.dataset for entry in self.datasets)
        return f"<Result of {self.record.model['name']} on {names}>"

    def _repr_html_(self) -> str:
        """The table as HTML, for notebooks."""
        return str(self.to_frame().to_html(index=False))

    def to_frame(self) -> DataFrame:
        """The result as a pandas data frame with one row for each dataset and score.

        Columns are ``model``, ``dataset``, ``score``, counts of frames and pixels, then the metrics as fractions in
        0..1. A metric with a confidence interval is followed by ``NAME_low`` and ``NAME_high``.
        """
        return results_frame([self.record])

    def save(self, folder: str | Path) -> Path:
        """Write ``results.json``, ``results.csv`` and the views for the report into a folder.

        Either all files are written or the folder stays as it was. An earlier result in the folder is replaced.

        Args:
            folder: The folder; created if missing.

        Returns:
            The path of ``results.json``.

        Raises:
            InputError: ``folder`` is a file, or cannot be written to.
        """
        out = Path(folder)
        with staged(out, (VIEWS, *RECORDS)) as stage:
            write_results(self.record, stage)
            if self._views is not None:
                shutil.copytree(self._views, stage / VIEWS)
                (stage / VIEWS).chmod(0o755)  # a temporary folder is its owner's alone
        return out / "results.json"

    def report(self, path: str | Path, *, megabytes: float = MEGABYTES) -> Path:
        """Write an interactive report as one self-contained HTML page.

        Args:
            path: The file, such as ``"out/report.html"``. Its folder is created if missing.
            megabytes: Approximate size limit of the page. If all kept images exceed it, fewer images are shown.

        Returns:
            The path of the page.

        Raises:
            InputError: ``path`` does not end in ``.html``, no images were kept (``report_images=0``), or the page
                cannot be written.
        """
        path = Path(path)
        if path.suffix != ".html" or path.is_dir():
            raise InputError(f"report: expected a file name that ends in .html, found {path}; choose such a name")
        if self._views is None:
            raise InputError("report: expected kept images, found none; evaluate with report_images above 0")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as place:
            record = self._path
            if record is None or self._views != record.parent / VIEWS:
                write_results(self.record, Path(place))
                Path(place, VIEWS).symlink_to(self._views.resolve(), target_is_directory=True)
                record = Path(place, "results.json")
            write_page([record], path, megabytes)
        return path

    def tables(self) -> Mapping[tuple[str, str], FrameTable]:
        """Counts of each frame, keyed by ``(dataset, score)``, as paired comparisons need them.

        Raises:
            InputError: No counts were kept.
        """
        if not self._tables and self._path is not None:
            from anomaly.metrics.pixel import PixelMetrics

            for file in state_files(self._path):
                metrics = PixelMetrics.load(file)
                self._tables[metrics.dataset, metrics.name] = FrameTable.of(metrics)
        if not self._tables:
            raise InputError(
                f"{self.record.model['name']}: expected counts of every frame for a paired comparison, found none; "
                "evaluate with report_images above 0, or with anomaly evaluate --save-states"
            )
        return self._tables


# Shared by the functions of this module and the command line.


class _Tables(Callback):
    """Keeps the counts of each frame for paired comparisons."""

    needs_curves = True

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], FrameTable] = {}

    def on_dataset_end(self, end: DatasetEnd) -> None:
        """Keep the counts of a dataset."""
        self.found.update({(end.result.dataset, name): table for name, table in end.tables.items()})


def configure(
    model: Model | None,
    scores: str | Score | Sequence[str | Score] | None,
    *,
    postprocessing: str | Sequence[str] = "none",
    inference: Inference | None = None,
    metrics: MetricConfig | None = None,
    calibration: Calibration | None = None,
    stores: Mapping[str, Store] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Make the configuration of an evaluation from names and options.

    Args:
        model: The model; None if all scores are stored.
        scores: Scores by name or as objects; None for the usual ones of the model.
        postprocessing: Chains of post-processing steps, each applied to every score.
        inference: Inference settings; by default those of the model's config.
        metrics: Which metrics are computed.
        calibration: Where and how thresholds are chosen; None for no threshold.
        stores: Stored score maps, by dataset name.
        settings: Further settings to record in the result.

    Raises:
        InputError: A name is unknown or given twice, or the statistics belong to another network.
    """
    texts = _several(postprocessing)
    check_distinct(texts, "post-processing chains (--post)", "name each once")
    post: list[Chain] = [parse_chain(text) for text in texts]
    if inference is not None:
        _check_inference(model, inference)
    inference = inference or getattr(model, "inference", None) or Inference()
    found = _with_statistics(model, choose_scores(model, scores), inference)
    return Evaluation(
        scores=found,
        post=post,
        inference=inference,
        metrics=metrics or MetricConfig(),
        calibration=calibration,
        stores=stores or {},
        fitted_images=getattr(model, "fitted_images", frozenset()),
        settings=settings or {},
    )


def _check_inference(model: Model | None, inference: Any) -> None:
    """Refuse settings that a model does not follow, and tell where windows are cut."""
    if not isinstance(inference, Inference):
        raise InputError(
            f"inference: expected an anomaly.Inference, found {type(inference).__name__}; write "
            "anomaly.Inference(flip=True)"
        )
    changed = [name for name in ("precision", "resolution") if getattr(inference, name) != getattr(Inference, name)]
    if changed and model is not None and model.gives == {"score"}:
        raise InputError(
            f"{changed[0]}={getattr(inference, changed[0])!r}: expected the default for a score function, which "
            "computes its map itself, found another value; omit it"
        )
    if inference.window is not None and getattr(model, "resizes", False):
        own = getattr(model, "inference", None)
        if own is None or own.window != inference.window:
            warnings.warn(
                f"windows of {inference.window[0]}x{inference.window[1]} are cut from the image after the model's "
                "preprocessing has resized it; to cut them from the image itself, leave the resizing out (do_resize of "
                "the processor, or size= of TorchModel; a detector needs it)",
                stacklevel=4,
            )


def choose_scores(model: Model | None, scores: str | Score | Sequence[str | Score] | None) -> list[Score]:
    """Look up scores given by name or as objects; without any, return the usual scores of the model.

    Args:
        model: The model; None if all scores are stored.
        scores: Names or objects, one or several; ``"all"`` stands for every score that the model supports, and of
            those that learn from training images for the learned ones.

    Raises:
        InputError: A name is unknown or given twice.
    """
    given = [] if scores is None else _several(scores)
    if scores is not None and not given:
        raise InputError("scores: expected at least one name or Score, found none; leave scores out for the usual ones")
    gives = frozenset() if model is None else model.gives
    own = given_score(str(getattr(model, "name", "score"))) if "score" in gives else None
    texts = [one for one in given if not isinstance(one, Score)]
    check_distinct(map(str, texts), "scores", "name each once")
    by_name = {} if own is None else {own.name: own}
    by_name |= {one.name: one for one in get_scores(t for t in texts if t != "all" and t not in by_name)}
    named = [one if isinstance(one, Score) else by_name[one] for one in given if one != "all"]
    if "all" in texts:
        statistics = getattr(model, "statistics", None)
        learned = [] if statistics is None else statistics[0]["scores"]
        every = [s for s in SCORES.values() if serves(s, gives) and (not s.fitted or s.name in learned)]
        if getattr(model, "num_classes", None) == 1:
            every = [s for s in every if not s.compares]
        return list({one.name: one for one in (*([own] if own else []), *every, *named)}.values())
    usual = [s for s in SCORES.values() if s.usual and serves(s, gives)]
    return named or ([own] if own is not None else []) + usual


def _with_statistics(model: Model | None, scores: Sequence[Score], inference: Inference) -> list[Score]:
    """Attach what scores learned when the model was fitted to training images."""
    state, needed = getattr(model, "statistics", None), bool(getattr(model, "members", ()))
    if state is not None:
        from anomaly.scores.statistics import Statistics

        scores = Statistics.of_state(state, getattr(model, "fitted_images", ())).attach(scores)
        needed = needed or any(score.fitted for score in scores)
    if needed and (differing := inference.differences(getattr(model, "fit_record", {}).get("inference") or {})):
        warnings.warn(f"the scores may be inaccurate, because what they need was fitted with {differing}", stacklevel=4)
    return list(scores)


def measure(
    model: Model | None,
    datasets: Sequence[Dataset],
    evaluation: Evaluation,
    *,
    inputs: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    closed_set: bool | Dataset | None = None,
    limit: int | None = None,
    report_images: int = FRAMES,
    views: Path | None = None,
    callbacks: Sequence[Callback] = (),
    progress: Progress = lambda what, total: lambda: None,
    profile: Profile | None = None,
    on_labels: Callable[..., None] = lambda dataset, counts: None,
    processes: Processes = ALONE,
) -> Result:
    """Run a configured evaluation and return its result.

    Args:
        model: The model; None if all scores are stored.
        datasets: The datasets, already limited.
        evaluation: The configuration, from :func:`configure`.
        inputs: Files that went into the evaluation with their checksums, for the record; by default those of
            the model.
        record: Name and type of the model, for the record; by default what the model says.
        closed_set: Dataset with class labels, already limited, on which mIoU is measured; or whether to measure it on
            the config's validation data: True demands it, None measures it if the data are there.
        limit: Number of closed-set images; None for all.
        report_images: Number of images of each dataset to keep for the report; 0 keeps none.
        views: Folder for these images; by default a temporary folder that lives as long as the result.
        callbacks: Called for every frame and dataset.
        progress: Called with the name and the number of images of each part; returns what is called after each image.
        profile: Receives the seconds spent in each stage.
        on_labels: Called with each dataset and the counts of its labels before the model runs.
        processes: The processes that share the images; each calls this function with the same arguments.

    Raises:
        InputError: Anything that is wrong with the model, the data or the configuration.
    """
    inputs = getattr(model, "inputs", {}) if inputs is None else inputs
    origin = provenance({name: dict(one) for name, one in inputs.items()})
    closed, frames = None, 0
    if isinstance(closed_set, Dataset):
        closed, frames = _named_closed_set(model, closed_set, profile, processes)
    elif closed_set is not False and getattr(model, "config", None) is not None:
        closed, frames = _closed_set(model, limit, demanded=bool(closed_set), profile=profile, processes=processes)
    folder = None
    if report_images and views is None and evaluation.metrics.mode == "exact":
        if processes.rank == 0:
            folder = Path(tempfile.mkdtemp(prefix="anomaly-views-"))
        views = processes.from_first(folder)
    tables = _Tables()
    keeping = [ViewCallback(views, report_images), tables] if report_images and views is not None else []
    if record is None:
        record = getattr(model, "record", None) or {"name": type(model).__name__, "type": type(model).__name__}
    found = run(
        model,
        datasets,
        evaluation,
        record=record,
        provenance=origin,
        closed_set=closed,
        closed_frames=frames,
        callbacks=[*callbacks, *keeping],
        progress=progress,
        profile=profile,
        on_labels=on_labels,
        processes=processes,
    )
    result = Result(found, views=views if keeping else None, tables=tables.found)
    if folder is not None:
        weakref.finalize(result, shutil.rmtree, folder, ignore_errors=True)  # lives as long as the result
    return result


def closed_set_again(record: EvaluationRecord, model: Any, root: str | Path) -> bool | Dataset:
    """The closed set of a record, for :func:`measure`: a dataset of the catalogue, or the config's validation data."""
    if record.closed_set is None:
        return False
    if not in_catalogue(record.closed_set.dataset):
        return getattr(model, "config", None) is not None
    return _dataset(record.closed_set.dataset, root, record.closed_set.frames, as_found=True)


def _named_closed_set(
    model: Any, dataset: Dataset, profile: Profile | None, processes: Processes
) -> tuple[Callable[[Callable[[], None]], ClosedSet] | None, int]:
    """The function that measures a model on a dataset with class labels; None, with a warning, if it does not fit."""
    from anomaly.evaluation.closed_set import check_closed_set, measure_closed_set

    try:
        check_closed_set(model, dataset)
    except InputError as error:
        warnings.warn(f"no closed-set mIoU: {error}", stacklevel=4)
        return None, 0
    whole = partial(measure_closed_set, model, dataset, profile=profile, processes=processes)
    return lambda on_frame: whole(on_frame=on_frame), len(processes.in_turn(dataset.files))


def _closed_set(
    model: Any, limit: int | None, *, demanded: bool, profile: Profile | None, processes: Processes
) -> tuple[Callable[[Callable[[], None]], ClosedSet] | None, int]:
    """The function that measures the closed set of a network, and its number of images; None without data."""
    from anomaly.mmengine.closed_set import NoClosedSet, evaluate_closed_set, open_closed_set

    try:
        data = open_closed_set(model.config)
    except NoClosedSet as error:
        if demanded:
            raise
        warnings.warn(f"no closed-set mIoU: {error}", stacklevel=4)
        return None, 0
    frames = processes.in_turn(range(len(data) if limit is None else min(limit, len(data))))
    whole = partial(
        evaluate_closed_set, model.config, model.network, data, limit=limit, profile=profile, processes=processes
    )
    return lambda on_frame: whole(on_frame=on_frame), len(frames)


def _dataset(one: Any, root: str | Path, limit: int | None, *, as_found: bool = False) -> Dataset:
    """Return a dataset given by name or as an object, with at most ``limit`` frames."""
    if not isinstance(one, (Dataset, str)):
        raise InputError(
            f"data: expected a dataset or its name, found {type(one).__name__}; see anomaly.load_dataset and "
            "anomaly.from_folders"
        )
    dataset = load_dataset(one, root, as_found=as_found) if isinstance(one, str) else one
    return dataset if limit is None else dataset.limit(limit)


def _several(value: Any) -> list[Any]:
    """Return one item or several as a list."""
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def _named(results: Sequence[Result]) -> list[Result]:
    """Give results whose models have the same name different names."""
    names = Counter(one.record.model["name"] for one in results)
    found = []
    for place, one in enumerate(results):
        name = one.record.model["name"]
        if names[name] > 1:
            more = place + 1 if one._path is None else one._path.parent
            record = replace(one.record, model={**one.record.model, "name": f"{name} ({more})"})
            one = Result(record, views=one._views, tables=one._tables, path=one._path)
        found.append(one)
    return found
