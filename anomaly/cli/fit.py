"""Fit densities of features, and scores such as knn and mahalanobis, to ordinary images, in one pass into one file.

Without a model it makes a detector: the density of the features of a frozen, pretrained backbone, which needs no labels
and no training. With a model it adds such densities to its predictions, and fits what its scores need.

Examples:
    anomaly fit --images FOLDER --out detector.npz
    anomaly fit --backbone efficientnet-lite0:sizes=360+720 --images FOLDER --labels FOLDER --out detector.npz
    anomaly fit CONFIG CHECKPOINT --backbone efficientnet-lite0 --out fitted.npz
    anomaly evaluate CONFIG CHECKPOINT --fitted fitted.npz --data road_anomaly --scores gmm_nll knn
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly.cli.launch import add_launcher, launched
from anomaly.cli.options import add_inference, add_model, by_windows, model_words, read_inference, read_model
from anomaly.cli.parser import check_seed, command_parser
from anomaly.errors import InputError
from anomaly.scores.registry import get_scores
from anomaly.utils.processes import Processes

if TYPE_CHECKING:
    from anomaly.fitting.images import TrainingImages
    from anomaly.models.base import Model
    from anomaly.models.fitted import FittedModel

FITTING = ("train_dataloader.dataset", "val_dataloader.dataset.pipeline")
BY_OTHERS = {r"train_dataloader\.dataset\.(.+\.)?pipeline": "the images are preprocessed as for testing"}


def main(words: Sequence[str] | None = None, program: str = "anomaly fit") -> None:
    """Read the images once, fit everything, and write the file."""
    parser = command_parser(__doc__, program)
    add_model(parser, required=False, fitting=True)
    add = parser.add_argument
    add("--images", type=Path, metavar="DIR", help="folder of ordinary images (default: the config's training data)")
    add("--labels", type=Path, metavar="DIR", help="PNG label maps of the same names, with class indices, 255 = none")
    add_densities(parser)
    add("--out", type=Path, required=True, metavar="FILE", help="file to write; .npz is added if it has no ending")
    scores = "scores to fit to the labels (default: all that the model supports)"
    add("--scores", nargs="+", default=[], metavar="NAME", help=scores)
    pixels = (
        "largest number of pixels that scores are fitted to, balanced over images and their classes (default: 50000)"
    )
    add("--pixels", type=int, default=50_000, metavar="N", help=pixels)
    add("--data-root", type=Path, metavar="DIR", help="folder that holds the datasets (default: data)")
    add_inference(parser, fitting=True)
    add_launcher(parser)
    args = parser.parse_args(words)
    with launched(args) as processes:
        _fit(args, processes)


def add_densities(parser: argparse.ArgumentParser) -> None:
    """Add the options of which densities are fitted, which ``anomaly look --ordinary`` shares."""
    add = parser.add_argument_group("densities").add_argument
    backbone = (
        "frozen backbone to fit a density to, with settings: efficientnet-lite0, -lite1, -lite2, a folder or hub id "
    )
    backbone += (
        "of Hugging Face, or FILE.PY:NAME; several make an ensemble (default without a model: efficientnet-lite0)"
    )
    add("--backbone", nargs="+", default=[], metavar="SPEC[:KEY=VALUE]", help=backbone)
    own = "what the model itself adds: likelihood, logits, features (with settings, as features:components=3) or none "
    own += "(default: its likelihood; else its logits beside backbones; without any a density of its features)"
    add("--own", metavar="WHAT", help=own)
    outliers = "a dataset of `anomaly data paste`, whose objects get a density of outliers, for the score outlier_ratio"
    add("--outliers", type=Path, metavar="DIR", help=outliers)
    add("--limit", type=int, default=400, metavar="N", help="largest number of images, drawn at random (default: 400)")
    add("--seed", type=int, default=0, help="seed of all draws (default: 0)")


def _fit(args: argparse.Namespace, processes: Processes) -> None:
    out = args.out if args.out.suffix else args.out.with_suffix(".npz")
    if out.suffix != ".npz":
        raise InputError(f"--out: expected a file name that ends in .npz, found {out}; choose such a name")
    if min(args.limit, args.pixels) < 1:
        raise InputError(
            f"expected --limit and --pixels of 1 or more, found {args.limit} and {args.pixels}; correct them"
        )
    check_seed(args.seed)
    words = model_words(args)
    if not words and args.images is None:
        raise InputError("expected --images FOLDER, or a model with training data (CONFIG CHECKPOINT), found neither")
    if args.labels is not None and args.images is None:
        raise InputError("--labels: expected --images FOLDER too, found none; name the images of these label maps")
    named = get_scores(args.scores)
    if named and not words:
        raise InputError("--scores: expected a model whose scores are fitted, found none; name it, or omit --scores")

    from anomaly.cli.config_options import CHECKPOINT_FOLLOWS, LOOKING, Reads

    model = None
    if words:
        reads = (*LOOKING, *FITTING) if args.images is None else LOOKING
        model = read_model(args, Reads(reads, {**CHECKPOINT_FOLLOWS, **BY_OTHERS, **by_windows(args)}))
    images = _images(args, model)
    fitted, seconds = fit_densities(args, model, images, processes, named or None)
    if processes.rank:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    fitted.save(out)
    _tell(fitted, images, seconds)
    files = [str(body.record.get("spec", "")) for one in fitted.members if (body := one.backbone) is not None]
    if any(".py:" in spec for spec in files):  # their code is only executed if they are named
        way = f"--fitted {out} {' '.join(files)}"
    else:
        way = f"--{'model' if model is None else 'fitted'} {out}"
    model_named = ["--model", *words] if len(words) == 1 else words
    what = "a detector" if model is None else "for this model"
    scores = " --scores marginal_nll" if any(member.settings.of == "logits" for member in fitted.members) else ""
    print(f"wrote {out}, {what}: anomaly evaluate {' '.join([*model_named, way])}{scores} --data NAME")


def _images(args: argparse.Namespace, model: Model | None) -> TrainingImages:
    """The images to fit to: of a folder, or the training data of the model's config."""
    if args.images is not None:
        from anomaly.fitting.images import folder_of_images

        return folder_of_images(args.images, args.labels, classes=len(getattr(model, "classes", ())) or None)
    config = getattr(model, "config", None)
    if config is None:
        raise InputError(
            "expected --images FOLDER, because only a config of mmsegmentation names its training data, found none; "
            "name the folder"
        )
    from anomaly.cli.mmseg_config import check_data_root

    check_data_root(config, args.data_root)

    from anomaly.mmengine.training_images import training_images_of

    return training_images_of(model)


def fit_densities(
    args: argparse.Namespace,
    model: Model | None,
    images: TrainingImages,
    processes: Processes,
    scores: Sequence[Any] | None = (),
) -> tuple[FittedModel, float]:
    """Fit what the arguments name, with a progress bar.

    Args:
        args: Parsed arguments.
        model: The model; None for a detector.
        images: What to fit to.
        processes: The processes that share the images.
        scores: Scores to fit; None for all that the model supports.

    Returns:
        The model with what was fitted, and the seconds that it took.
    """
    from anomaly.cli.progress import frame_progress
    from anomaly.datasets.catalog import load_dataset
    from anomaly.fitting.fit import fit_model
    from anomaly.fitting.images import outliers_of
    from anomaly.models.feature_density import choose_densities, parse_density
    from anomaly.models.tiling import Inference
    from anomaly.results.provenance import provenance

    densities = choose_densities(model, [parse_density(text) for text in args.backbone], args.own)
    outliers = None if args.outliers is None else outliers_of(load_dataset("pasted_objects", args.outliers))
    start = time.monotonic()
    count = min(args.limit, len(images.items)) + (0 if outliers is None else min(args.limit, len(outliers.items)))
    with frame_progress() as progress:
        bar = progress.add_task("images", total=len(processes.in_turn(range(count))))
        fitted = fit_model(
            model,
            images,
            densities,
            scores=scores,
            limit=args.limit,
            pixels=getattr(args, "pixels", 50_000),
            outliers=outliers,
            seed=args.seed,
            device=args.device,
            inference=read_inference(args, getattr(model, "inference", None) or Inference()),
            origin={"command": provenance({})["command"]},
            on_frame=lambda: progress.advance(bar),
            processes=processes,
        )
    return fitted, time.monotonic() - start


def _tell(fitted: FittedModel, images: TrainingImages, seconds: float) -> None:
    """Say what was fitted, and which classes have no pixel."""
    counts = fitted.fit_record["pixels"]
    if images.labelled and counts:
        names = images.names or fitted.classes or [str(k) for k in range(len(counts))]
        if unseen := [str(names[k]) for k, count in enumerate(counts) if not count]:
            print(
                f"note: {', '.join(unseen)}: no pixel in these images, so they count as unknown; give more images "
                "(--limit)",
                file=sys.stderr,
            )
    if images.labelled and not fitted.classes:
        print(f"labels: {images.classes} classes, 0 to {images.classes - 1}; 255 means none")
    for member in fitted.members:
        what = f"{member.settings.of} of the model"
        if member.backbone is not None:
            what = str(member.backbone.record.get("spec", "backbone"))
        print(f"{what}: {describe(member)}; weight {member.weight:.4g}")
    learned = [] if fitted.statistics is None else fitted.statistics[0]["scores"]
    if learned:
        print(f"scores: {', '.join(learned)}")
    print(f"{fitted.fit_record['images']} images in {seconds:.0f} s")


def describe(member: Any) -> str:
    """A density in words."""
    densities, settings = member.densities, member.settings
    if densities is None:
        return "as it is"
    of = "one density of all pixels" if densities.num_classes == 1 else f"{densities.num_classes} classes"
    kind = f"a bank of up to {settings.bank} features each" if settings.bank else f"{settings.covariance} Gaussians"
    more = ", and outliers" if densities.outliers is not None else ""
    return f"{densities.dim} dimensions, {of}, {kind}{more}"
