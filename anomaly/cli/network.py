"""A network as what ``ood_eval.py`` evaluates."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anomaly.cli.inference import read_inference
from anomaly.cli.weights import load_network
from anomaly.datasets.dataset import Dataset
from anomaly.errors import InputError
from anomaly.evaluation.run import Subject
from anomaly.models.tiling import Inference
from anomaly.results.provenance import file_record
from anomaly.results.score_store import ScoreWriter
from anomaly.scores.registry import SCORES, Score, get_scores, serves


@dataclass(frozen=True)
class Chosen:
    """What is evaluated, by which scores, what it depends on, and where its results go by default."""

    subject: Subject
    scores: list[Score]
    settings: dict[str, Any]
    inputs: dict[str, dict[str, Any]]
    out: Path


def choose_network(args: argparse.Namespace, splits: Sequence[Dataset]) -> Chosen:
    """Build the network, and say how it is evaluated.

    Raises:
        InputError: Whatever is wrong with config, checkpoint, scores, statistics or data.
    """
    named = get_scores(name for name in args.scores if name != "all")
    network = load_network(args)
    config, inputs = network.config, network.inputs

    from anomaly.mmengine.closed_set import open_closed_set
    from anomaly.mmengine.run import mmseg_subject
    from anomaly.models.mmseg import config_inference
    from anomaly.models.checkpoints import check_classes

    closed_set = None if args.no_closed_set else open_closed_set(config)
    inference = read_inference(args, config_inference(config))
    subject = mmseg_subject(
        *(config, network.model, network.device, inference),
        closed_set=closed_set,
        limit=args.limit,
        statistics=args.statistics,
    )
    if mixtures := _fitted_images(network.checkpoint):
        subject = replace(subject, mixtures=mixtures)
        inputs["checkpoint"]["images"] = sorted(mixtures)
    if args.statistics is not None:
        images = sorted(subject.statistics.images) if subject.statistics is not None else []
        inputs["statistics"] = {**file_record(args.statistics), "images": images}
    gives, known = (subject.detector.gives, subject.detector.classes) if subject.detector else ((), ())
    if classes := known if closed_set is None else closed_set.metainfo["classes"]:
        check_classes(network.checkpoint, classes, args.checkpoint)
    scores = named or [score for score in SCORES.values() if score.usual and serves(score, gives)]
    if "all" in args.scores:
        every = [s for s in SCORES.values() if serves(s, gives) and (not s.fitted or args.statistics is not None)]
        scores = list({score.name: score for score in (*every, *named)}.values())
    if subject.statistics is not None:
        if not any(score.fitted for score in scores):
            fitted = ", ".join(score.name for score in SCORES.values() if score.fitted and serves(score, gives))
            raise InputError(
                f"--statistics does nothing for {', '.join(score.name for score in scores)}, which learn nothing; name "
                f"--scores that do ({fitted}, or all), or leave it out"
            )
        if differing := subject.statistics.differences(inference):
            warnings.warn(
                f"{args.statistics}: scores may be off, for their statistics are of {differing}", stacklevel=2
            )
        scores = subject.statistics.attach(scores)
    if args.save_scores is not None:
        made_by = {"method": args.config.stem, "settings": depends_on(inputs, inference)}
        stores = {s.name: ScoreWriter(args.save_scores / s.name, dataset=s.name, **made_by) for s in splits}
        subject = replace(subject, stores=stores)
    settings = settings_of(args) | {"device": str(network.device)}
    return Chosen(subject, scores, settings, inputs, Path("work_dirs", args.config.stem, "ood_eval"))


def _fitted_images(checkpoint: dict[str, Any]) -> frozenset[str]:
    """What tells the images that tools/fit_gmm.py fitted a checkpoint's mixtures on; empty where it does not say."""
    meta = checkpoint.get("meta")
    record = meta.get("posthoc") if isinstance(meta, dict) else None
    images = record.get("fitted_images") if isinstance(record, dict) else None
    return frozenset(map(str, images)) if isinstance(images, (list, tuple)) else frozenset()


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What numbers depend on beside the network and how it is shown images, for the record."""
    values = getattr(args, "label_values", None)
    return {"limit": args.limit, **({} if values is None else {"label_values": list(values)})}


def depends_on(inputs: dict[str, dict[str, Any]], inference: Inference) -> dict[str, Any]:
    """What stored score maps depend on: what went in, by its checksum, and how the network looks at an image."""
    return {name: record["sha256"] for name, record in inputs.items()} | {"inference": inference.record()}
