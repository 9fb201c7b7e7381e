"""A network as what ``ood_eval.py`` evaluates."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _run import read_config
from anomaly.datasets.split import Split
from anomaly.provenance import file_record
from anomaly.run import Subject
from anomaly.score_store import ScoreWriter
from anomaly.scores.table import SCORES, Score, get_scores


@dataclass(frozen=True)
class Chosen:
    """What is evaluated, by which scores, what it depends on, and where its results go by default."""

    subject: Subject
    scores: list[Score]
    settings: dict[str, Any]
    inputs: dict[str, dict[str, Any]]
    out: Path


def choose_network(args: argparse.Namespace, splits: Sequence[Split]) -> Chosen:
    """Build the network, with its weights.

    Raises:
        InputError: Whatever is wrong with config, checkpoint, scores or data.
    """
    scores = get_scores(args.scores)
    config = read_config(args.config, args.cfg_options, args.data_root)

    from anomaly.integrations.mmseg_closed_set import open_closed_set
    from anomaly.integrations.mmseg_detector import build_model, pick_device
    from anomaly.integrations.mmseg_run import mmseg_subject
    from gmmseg.checkpoints import check_classes, load_checkpoint_file, load_weights

    device, model = pick_device(args.device), build_model(config)
    checkpoint = load_checkpoint_file(args.checkpoint)
    load_weights(model, checkpoint["state_dict"], args.checkpoint)
    if closed_set := None if args.no_closed_set else open_closed_set(config):
        check_classes(checkpoint, closed_set.metainfo["classes"], args.checkpoint)
    inputs = {"config": file_record(args.config, config.pretty_text), "checkpoint": file_record(args.checkpoint)}
    stores = {}
    if args.save_scores is not None:
        made_by = {"method": args.config.stem, "settings": {n: record["sha256"] for n, record in inputs.items()}}
        stores = {split.name: ScoreWriter(args.save_scores / split.name, set=split.name, **made_by) for split in splits}
    subject = mmseg_subject(config, model, device, closed_set=closed_set, limit=args.limit, stores=stores)
    gives = () if subject.detector is None else subject.detector.gives
    scores = scores or [score for score in SCORES.values() if score.needs in gives]
    settings = {"limit": args.limit, "device": str(device)}
    return Chosen(subject, scores, settings, inputs, Path("work_dirs", args.config.stem, "ood_eval"))
