"""What people import from ``anomaly``: evaluation, comparison and verification in a call each, and results."""

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
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from anomaly.datasets.catalog import load_dataset
from anomaly.datasets.dataset import Dataset
from anomaly.errors import InputError
from anomaly.evaluation.callbacks import Callback, DatasetEnd
from anomaly.evaluation.config import Calibration, MetricConfig, parse_calibration
from anomaly.evaluation.repeat import repeated
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
from anomaly.utils.names import check_distinct
from anomaly.utils.profile import Profile

if TYPE_CHECKING:
    from pandas import DataFrame

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
    statistics: str | Path | None = None,
    closed_set: bool | None = None,
    limit: int | None = None,
    report_images: int = FRAMES,
    callbacks: Sequence[Callback] = (),
    progress: Progress = lambda what, total: lambda: None,
    profile: Profile | None = None,
) -> Result:
    """Measure anomaly scores of a model on labelled datasets: AUROC, AP, FPR95 and more, over all pixels.

    Args:
        model: Whatever :func:`anomaly.load_model` takes: a config with its checkpoint as a pair, ``"file.py:name"``, an
            ``nn.Module``, a function that gives a score map, or a model.
        data: One dataset or several: from :func:`anomaly.load_dataset` or :func:`anomaly.from_folders`, or names of the
            catalogue.
        scores: One score or several, by name (``"energy"``, ``"energy:temperature=2"``) or as objects; those that the
            model allows and most people report by default; ``"all"`` for all that it allows.
        root: Folder that holds the datasets that are named.
        postprocessing: One chain of steps or several, such as ``"boundary,smooth:sigma=2"``; each is applied to every
            score. ``"none"`` leaves scores as they are.
        inference: Sliding windows, test-time augmentation, resolution; as the model was trained by default.
        metrics: Components, confidence intervals, levels and memory.
        calibrate_on: Dataset on which a threshold is chosen for every score, to be applied to the others.
        calibrate_by: How: ``tpr=LEVEL``, ``fpr=LEVEL`` or ``best_f1``.
        statistics: File of what scores learned from training images (``anomaly fit-scores``).
        closed_set: Whether to measure mIoU on the closed set of a network of mmsegmentation; by default if it is there.
        limit: First images of each dataset to take; all by default.
        report_images: Images of each dataset that :meth:`Result.report` can show, taken evenly; 0 keeps none.
        callbacks: Told of every frame and dataset; see :class:`anomaly.evaluation.callbacks.Callback`.
        progress: Called with what is about to be done and its number of images; gives what is called after each.
        profile: Gets the seconds spent in each stage.

    Returns:
        The result: print it, or take its table, its file, its report.

    Raises:
        InputError: Something is missing, unknown, or would give a wrong number; the message says what to do.
    """
    model, profile = load_model(model), profile or Profile()
    datasets = [_dataset(one, root) for one in _several(data)]
    datasets = datasets if limit is None else [one.limit(limit) for one in datasets]
    calibration = None
    if calibrate_on is not None:
        chosen = _dataset(calibrate_on, root)
        calibration = parse_calibration(chosen if limit is None else chosen.limit(limit), calibrate_by)
    evaluation = configure(
        model,
        scores,
        postprocessing=postprocessing,
        inference=inference,
        metrics=metrics,
        calibration=calibration,
        statistics=statistics,
        settings={"limit": limit},
    )
    return measure(
        model,
        datasets,
        evaluation,
        inputs=getattr(model, "inputs", {}),
        closed_set=closed_set,
        limit=limit,
        report_images=report_images,
        callbacks=callbacks,
        progress=progress,
        profile=profile,
    )


def score(
    model: Any,
    image: npt.NDArray[np.uint8] | str | Path,
    score: str | Score | None = None,
    *,
    inference: Inference | None = None,
    statistics: str | Path | None = None,
) -> npt.NDArray[np.float32]:
    """Give one score map of one image.

    Args:
        model: Whatever :func:`anomaly.load_model` takes.
        image: RGB, ``(H, W, 3)``, uint8; or its file.
        score: Name of the score, or a score; the model's own, or the first that it allows, by default.
        inference: Sliding windows, test-time augmentation, resolution; as the model was trained by default.
        statistics: File of what the score learned from training images.

    Returns:
        The map, higher = more anomalous. Shape: ``(H, W)``, float32.

    Raises:
        InputError: There is no such image or score, the model cannot be scored so, or a score is NaN or infinite.
    """
    from anomaly.datasets.images import read_image
    from anomaly.models.views import predict_image

    model = load_model(model)
    evaluation = configure(model, score, inference=inference, statistics=statistics)
    found = read_image(Path(image)) if isinstance(image, (str, Path)) else np.asarray(image)
    frame = Frame("image", found, np.zeros(found.shape[:2], np.uint8))
    one = evaluation.scores[:1]
    check_scores(one, model)
    check_not_learned(one, "image", image_hash(frame.image))
    prediction = predict_image(model, frame.image, evaluation.inference)
    ((name, score_map),) = ScorePipeline(one).score(prediction, (found.shape[0], found.shape[1])).items()
    check_score("image", name, score_map, score_map.shape)
    return score_map


def compare(*results: Result | str | Path, paired: bool = False) -> DataFrame:
    """Put results side by side, or give what differs between them.

    Args:
        results: Of :func:`evaluate`, or files ``results.json``. Each needs a name of its own; where two have one, the
            file's folder, or a number, is added.
        paired: Whether to give each method minus the first on the same frames, with confidence intervals and p-values
            by the paired bootstrap. That needs results of this process that keep views, or files whose scores were
            kept (``anomaly evaluate --save-states``).

    Returns:
        One row for each model, dataset and score (:func:`anomaly.results.frames.results_frame`); or for each dataset,
        method and metric (:func:`anomaly.results.frames.paired_frame`).

    Raises:
        InputError: The results are of other frames, labels or rules; or do not have what ``paired`` needs.
    """
    if not results:
        raise InputError("expected results to compare, found none; give at least one")
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


def verify(
    result: Result | str | Path,
    model: Any,
    data: Dataset | str | Sequence[Dataset | str] | None = None,
    *,
    root: str | Path = "data",
    statistics: str | Path | None = None,
    tolerance: float = 1e-6,
) -> Verification:
    """Measure a result again with the settings that its record has, and say whether it matches.

    Args:
        result: A result, or its ``results.json``.
        model: Whatever :func:`anomaly.load_model` takes.
        data: The datasets, where they are not those of the catalogue below ``root``.
        root: Folder that holds the datasets.
        statistics: File of what its scores learned from training images.
        tolerance: Largest absolute difference of a metric (fractions; thresholds relative to their size).

    Returns:
        What agrees and what does not; true in a condition if the result comes out again.

    Raises:
        InputError: The record does not tell how it was made, or something is missing.
    """
    record = (result if isinstance(result, Result) else Result.load(result)).record
    again = repeated(record)
    if data is None and again.own:
        raise InputError(
            f"data: expected the datasets {', '.join(again.own)}, which are not of the catalogue, found none; give all "
            "datasets of the result"
        )
    names: Any = again.datasets if data is None else _several(data)
    datasets = [_dataset(one, root, as_found=again.as_found) for one in names]
    model = load_model(model)
    chosen = None
    if again.calibrate_on is not None:
        chosen = _dataset(again.calibrate_on, root, as_found=again.as_found)
        chosen = chosen if again.limit is None else chosen.limit(again.limit)
    evaluation = configure(
        model,
        again.scores,
        postprocessing=again.postprocessing,
        inference=again.inference,
        metrics=again.metrics,
        calibration=None if chosen is None else parse_calibration(chosen, again.calibrate_by),
        statistics=statistics,
        settings={"limit": again.limit},
    )
    datasets = datasets if again.limit is None else [one.limit(again.limit) for one in datasets]
    found = measure(
        model,
        datasets,
        evaluation,
        inputs=getattr(model, "inputs", {}),
        closed_set=record.closed_set is not None,
        limit=again.limit,
        report_images=0,
    )
    return Verification(agreements(record, found.record, tolerance), not_measured(record, found.record))


class Verification:
    """Whether a result comes out again.

    Attributes:
        agreements: One for each thing compared.
        missing: What was not measured again.
    """

    def __init__(self, agreements: Sequence[Agreement], missing: Sequence[str]) -> None:
        self.agreements, self.missing = list(agreements), list(missing)

    def __bool__(self) -> bool:
        """Whether nothing differs."""
        return not any(one.faults for one in self.agreements)

    def __str__(self) -> str:
        """What was compared, line by line, and the verdict."""
        lines = [*map(str, self.agreements), *(f"{what}: not measured again" for what in self.missing)]
        rest = f", but for what was not measured again ({', '.join(self.missing)})" if self.missing else ""
        return "\n".join(
            [*lines, f"the result comes out again{rest}" if self else "the result does NOT come out again"]
        )


class Result:
    """What an evaluation found.

    Args:
        record: All that is written to ``results.json``.
        views: Folder with the reduced images that a report shows, if they were kept.
        tables: Counts of each frame by dataset and score, for paired comparisons, if they were kept.
        path: The ``results.json`` it was read from.
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
        """Read a ``results.json``, or that of a folder, with the views beside it.

        Raises:
            InputError: There is none, or it is damaged, or of a later format.
        """
        path = Path(path)
        path = path / "results.json" if path.is_dir() else path
        views = path.parent / VIEWS
        return cls(read_results(path), views=views if views.is_dir() else None, path=path)

    @property
    def datasets(self) -> list[DatasetResult]:
        """One entry for each dataset; ``entry.scores["energy"].values["ap"]`` is a metric, as a fraction."""
        return self.record.datasets

    @property
    def closed_set(self) -> ClosedSet | None:
        """Metrics on the known classes, if they were measured."""
        return self.record.closed_set

    def __str__(self) -> str:
        """The table, metrics in percent, and what has to be known before they are believed."""
        notes = "".join(f"\nnote: {remark}" for remark in measured_remarks(self.record))
        return results_text(self.record).rstrip() + notes

    def __repr__(self) -> str:
        names = ", ".join(entry.dataset for entry in self.datasets)
        return f"<Result of {self.record.model['name']} on {names}>"

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        return str(self.to_frame().to_html(index=False))

    def to_frame(self) -> DataFrame:
        """One row for each dataset and score; see :func:`anomaly.results.frames.results_frame`."""
        return results_frame([self.record])

    def save(self, folder: str | Path) -> Path:
        """Write ``results.json``, ``results.csv`` and the views of the report into a folder; all or nothing.

        Returns:
            The ``results.json``.

        Raises:
            InputError: It is no folder, or cannot be written to.
        """
        out = Path(folder)
        with staged(out, (VIEWS, *RECORDS)) as stage:
            write_results(self.record, stage)
            if self._views is not None:
                shutil.copytree(self._views, stage / VIEWS)
        return out / "results.json"

    def report(self, path: str | Path, *, megabytes: float = MEGABYTES) -> Path:
        """Write the report as one HTML page.

        Args:
            path: The file, such as ``"out/report.html"``; its folder is made.
            megabytes: About how large it may be; of a larger one fewer images are shown.

        Raises:
            InputError: No views were kept, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix != ".html" or path.is_dir():
            raise InputError(f"report: expected a file that ends in .html, found {path}; name one")
        if self._views is None:
            raise InputError("report: expected views of images, found none; evaluate with report_images above 0")
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
        """Counts of each frame by dataset and score.

        Raises:
            InputError: They were not kept.
        """
        if not self._tables and self._path is not None:
            from anomaly.metrics.pixel import PixelMetrics

            for file in state_files(self._path):
                metrics = PixelMetrics.load(file)
                self._tables[metrics.dataset, metrics.name] = FrameTable.of(metrics)
        if not self._tables:
            raise InputError(
                f"{self.record.model['name']}: expected every frame's counts for a paired comparison, found none; "
                "evaluate with report_images above 0"
            )
        return self._tables


# What the functions above and the command share.


class HasFitted(Protocol):
    """A model that knows which images its mixtures were fitted to."""

    fitted_images: frozenset[str]


class _Tables(Callback):
    """Keeps counts for paired comparisons."""

    needs_curves = True

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], FrameTable] = {}

    def on_dataset_end(self, end: DatasetEnd) -> None:
        """Keep those of a dataset."""
        self.found.update({(end.result.dataset, name): table for name, table in end.tables.items()})


def configure(
    model: Model | None,
    scores: str | Score | Sequence[str | Score] | None,
    *,
    postprocessing: str | Sequence[str] = "none",
    inference: Inference | None = None,
    metrics: MetricConfig | None = None,
    calibration: Calibration | None = None,
    statistics: str | Path | None = None,
    stores: Mapping[str, Store] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Make the configuration of an evaluation from what people type.

    Raises:
        InputError: A name is unknown, or there twice; or statistics are of another network.
    """
    texts = _several(postprocessing)
    check_distinct(texts, "--post chains", "name each once")
    post: list[Chain] = [parse_chain(text) for text in texts]
    inference = inference or getattr(model, "inference", None) or Inference()
    found = choose_scores(model, scores, statistics)
    if statistics is not None:
        found = _with_statistics(model, found, Path(statistics), inference)
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


def choose_scores(
    model: Model | None, scores: str | Score | Sequence[str | Score] | None, statistics: object = None
) -> list[Score]:
    """Scores by name or as objects; the usual ones of the model by default.

    Raises:
        InputError: A name is unknown or there twice.
    """
    given = [] if scores is None else _several(scores)
    gives = frozenset() if model is None else model.gives
    own = given_score(str(getattr(model, "name", "score"))) if "score" in gives else None
    texts = [one for one in given if not isinstance(one, Score)]
    check_distinct(map(str, texts), "scores", "name each once")
    by_name = {} if own is None else {own.name: own}
    by_name |= {one.name: one for one in get_scores(t for t in texts if t != "all" and t not in by_name)}
    named = [one if isinstance(one, Score) else by_name[one] for one in given if one != "all"]
    if "all" in texts:
        every = [s for s in SCORES.values() if serves(s, gives) and (not s.fitted or statistics is not None)]
        return list({one.name: one for one in (*([own] if own else []), *every, *named)}.values())
    usual = [s for s in SCORES.values() if s.usual and serves(s, gives)]
    return named or ([own] if own is not None else []) + usual


def _with_statistics(model: Model | None, scores: Sequence[Score], path: Path, inference: Inference) -> list[Score]:
    from anomaly.scores.statistics import Statistics, weights_hash

    learned, network = Statistics.load(path), getattr(model, "network", None)
    if network is None or model is None:
        raise InputError(f"--statistics {path}: expected a network of mmsegmentation, which they are of, found none")
    learned.check(weights_hash(network.state_dict()), model.classes, path)
    if not any(score.fitted for score in scores):
        fitted = ", ".join(score.name for score in SCORES.values() if score.fitted and serves(score, model.gives))
        raise InputError(
            f"--statistics does nothing for {', '.join(score.name for score in scores)}, which learn nothing; name "
            f"--scores that do ({fitted}, or all), or leave it out"
        )
    if differing := learned.differences(inference):
        warnings.warn(f"{path}: scores may be off, for their statistics are of {differing}", stacklevel=4)
    return learned.attach(scores)


def measure(
    model: Model | None,
    datasets: Sequence[Dataset],
    evaluation: Evaluation,
    *,
    inputs: Mapping[str, Any],
    record: Mapping[str, Any] | None = None,
    closed_set: bool | None = None,
    limit: int | None = None,
    report_images: int = FRAMES,
    views: Path | None = None,
    callbacks: Sequence[Callback] = (),
    progress: Progress = lambda what, total: lambda: None,
    profile: Profile | None = None,
    on_labels: Callable[..., None] = lambda dataset, counts: None,
) -> Result:
    """Evaluate, and keep what a report shows, in ``views`` or in a folder that goes with the result."""
    origin = provenance({name: dict(one) for name, one in inputs.items()})
    closed, frames = None, 0
    if closed_set is not False and getattr(model, "config", None) is not None:
        closed, frames = _closed_set(model, limit, demanded=bool(closed_set), profile=profile)
    folder = None
    if report_images and views is None and evaluation.metrics.mode == "exact":
        folder = Path(tempfile.mkdtemp(prefix="anomaly-views-"))
        views = folder
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
    )
    result = Result(found, views=views if keeping else None, tables=tables.found)
    if folder is not None:
        weakref.finalize(result, shutil.rmtree, folder, ignore_errors=True)  # lives as long as the result
    return result


def _closed_set(
    model: Any, limit: int | None, *, demanded: bool, profile: Profile | None
) -> tuple[Callable[[Callable[[], None]], ClosedSet] | None, int]:
    """What measures a network of mmsegmentation on its closed set, and its number of images; None without data."""
    from anomaly.mmengine.closed_set import NoClosedSet, evaluate_closed_set, open_closed_set

    try:
        data = open_closed_set(model.config)
    except NoClosedSet as error:
        if demanded:
            raise
        warnings.warn(f"no closed-set mIoU: {error}", stacklevel=4)
        return None, 0
    frames = len(data) if limit is None else min(limit, len(data))
    whole = partial(evaluate_closed_set, model.config, model.network, data, limit=limit, profile=profile)
    return lambda on_frame: whole(on_frame=on_frame), frames


def _dataset(one: Any, root: str | Path, *, as_found: bool = False) -> Dataset:
    if isinstance(one, Dataset):
        return one
    if isinstance(one, str):
        return load_dataset(one, root, as_found=as_found)
    raise InputError(
        f"data: expected a dataset or its name, found {type(one).__name__}; see anomaly.load_dataset and "
        "anomaly.from_folders"
    )


def _several(value: Any) -> list[Any]:
    """One item or several, as a list."""
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def _named(results: Sequence[Result]) -> list[Result]:
    """Results whose models have different names."""
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
