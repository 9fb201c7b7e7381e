"""Fit class mixtures to the features of a trained network, to get likelihoods without further training.

For a network of mmsegmentation it writes a config and a checkpoint, for another model a Python file and its mixtures.
Every other command takes them.

Examples:
    gmmseg fit CONFIG softmax.pth --out fitted
    gmmseg fit CONFIG gmmseg.pth --out fitted --frozen --images 400
    gmmseg fit --model HUGGING_FACE_FOLDER --folder IMAGES LABELS --out fitted
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomaly.cli.config_options import ALL, Reads
from anomaly.cli.launch import add_launcher, launched
from anomaly.cli.mmseg_config import check_data_root, read_config
from anomaly.cli.parser import check_seed, command_parser, option_of
from anomaly.errors import InputError
from anomaly.utils.processes import Processes


def parse_args(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of ``gmmseg fit``."""
    parser = command_parser(__doc__, "gmmseg fit")
    add = parser.add_argument
    head = "config of an mmseg network whose head ends in a conv_seg, as nearly all heads do"
    add("config", type=Path, nargs="?", help=head)
    add("checkpoint", type=Path, nargs="?", help="checkpoint of that network")
    other = "another model that gives features: a folder or hub id of Hugging Face, or FILE.PY:NAME"
    add("--model", metavar="SPEC", help=other)
    folders = "images to fit to with --model, and PNG label maps of the same names with its class indices, 255 = none"
    add("--folder", nargs=2, type=Path, metavar=("IMAGES", "LABELS"), help=folders)
    pickled = "read the weights of a Hugging Face network from a pickle (tensors only) if it has no safetensors"
    add("--allow-pickle", action="store_true", help=pickled)
    add(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for NAME_posthoc-gmm.py and .pth (or _frozen-gmm)",
    )
    add("--images", type=int, default=100, metavar="N", help="training images, drawn at random (default: 100)")
    add(
        "--frozen",
        nargs="?",
        type=int,
        const=-1,
        metavar="STAGE",
        help="also fit mixtures to a feature map of a frozen copy of the backbone (default: the deepest)",
    )
    add("--components", type=int, default=5, metavar="P", help="largest number of Gaussians per class (default: 5)")
    add("--pixels", type=int, default=20_000, metavar="N", help="largest number of pixels per class (default: 20000)")
    add("--seed", type=int, default=0, help="seed for drawing images, pixels and starting points (default: 0)")
    add("--data-root", type=Path, metavar="DIR", help="folder that holds the datasets (default: data)")
    add("--device", help="device such as cpu or cuda:0 (default: cuda if available)")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="override settings of the config")
    add_launcher(parser)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Load the network, sample features, fit the mixtures, and write config and checkpoint, both or none."""
    args = parse_args(words)
    with launched(args) as processes:
        _fit(args, processes)


def _fit(args: argparse.Namespace, processes: Processes) -> None:
    if min(args.images, args.components, args.pixels) < 1:
        raise InputError(
            "expected --images, --components and --pixels of 1 or more, found "
            f"{args.images}, {args.components} and {args.pixels}"
        )
    check_seed(args.seed)
    if args.model is not None:
        fit_any_model(args, processes)
        return
    if args.checkpoint is None:
        raise InputError("expected CONFIG and CHECKPOINT, or --model SPEC, found neither; name the trained network")
    if lost := [name for name in ("folder", "allow_pickle") if name in args.given]:
        raise InputError(f"--{lost[0].replace('_', '-')} has no effect without --model; omit it")
    unread = {} if args.frozen is None else {r"model\.frozen": "--frozen sets it"}
    config = read_config(args.config, args.cfg_options, args.data_root, Reads(ALL, unread))
    check_data_root(config, args.data_root)

    import torch

    from anomaly.cli.progress import frame_progress
    from anomaly.datasets.images import read_image
    from anomaly.frames import image_hash
    from anomaly.mmengine.closed_set import check_whole
    from anomaly.mmengine.training_pixels import open_training_set
    from anomaly.models.checkpoints import check_classes, load_checkpoint_file, load_weights
    from anomaly.models.mmseg import build_model, pick_device
    from anomaly.results.provenance import provenance
    from anomaly.utils.file_records import config_record, file_record, portable
    from anomaly.utils.shipped import find_shipped
    from gmmseg.training.posthoc_fitting import fit, fitting_config, fresh_weights

    checkpoint, device = load_checkpoint_file(args.checkpoint), pick_device(args.device)
    inputs = {
        "config": config_record(Path(config.filename), config.pretty_text),
        "checkpoint": file_record(find_shipped(args.checkpoint)),
    }
    origin = provenance(inputs)
    config, backbone = fitting_config(config, args.components, args.frozen, build_model)
    model = build_model(config)
    fresh = fresh_weights(model, backbone)
    load_weights(model, {**checkpoint["state_dict"], **fresh}, args.checkpoint)
    classes = (dataset := open_training_set(config)).metainfo["classes"]
    check_classes(checkpoint, classes, args.checkpoint)
    check_whole(dataset, "training data")

    name = f"{args.config.stem}_{'posthoc' if args.frozen is None else 'frozen'}-gmm"
    draw = torch.Generator().manual_seed(args.seed)
    with processes.staged(args.out, (f"{name}.pth", f"{name}.py")) as stage, frame_progress() as progress:
        passes = len({key.partition(".")[0] for key in fresh})
        shown = processes.in_turn(range(min(args.images, len(dataset))))
        bar = progress.add_task("features", total=passes * len(shown))
        images: set[str] = set()

        def on_frame(image: Path) -> None:
            images.add(image_hash(read_image(image)))
            progress.advance(bar)

        fitted = fit(model.to(device), dataset, args.images, args.pixels, draw, on_frame, processes)
        used = next(iter(fitted.values()))
        unseen = [label for label, parts in zip(classes, used["components"], strict=True) if not parts]
        record = {**origin, "images": args.images, "seed": args.seed, **used, "unseen_classes": unseen, "fits": fitted}
        record["fitted_images"] = sorted(set().union(*processes.gather(images)))
        meta = {"dataset_meta": {"classes": tuple(classes)}, "posthoc": record}
        if processes.rank == 0:
            torch.save({"state_dict": model.cpu().state_dict(), "meta": meta}, stage / f"{name}.pth")
            (stage / f"{name}.py").write_text(portable(config.pretty_text))
    if unseen:
        print(f"note: no pixel of {', '.join(unseen)}: they count as unknown; raise --images", file=sys.stderr)
    print(f"wrote {args.out / name}.py and {name}.pth, a config and a checkpoint for anomaly evaluate")


FILE = '''"""A model with class mixtures over its pixel features, written by gmmseg fit: --model THIS_FILE.py:model.

The mixtures and the model are found from here, so move all of them together.
"""

from pathlib import Path

from anomaly import load_model
from gmmseg.posthoc import load_mixtures

HERE = Path(__file__).resolve().parent


def model():
    return load_mixtures(HERE / {mixtures!r}, load_model({model}))
'''


def fit_any_model(args: argparse.Namespace, processes: Processes) -> None:
    """Fit mixtures to the features of a model that is no config of mmsegmentation, and write both files or none.

    Raises:
        InputError: An option belongs to a config, the folders or the model are invalid, or a label is no class.
    """
    of_configs = ("config", "checkpoint", "frozen", "data_root", "cfg_options")
    if lost := [name for name in of_configs if name in args.given]:
        raise InputError(
            f"{option_of(lost[0])}: expected --model, or CONFIG CHECKPOINT with its options, found both; omit one"
        )
    if args.folder is None:
        raise InputError(
            "--model: expected --folder IMAGES LABELS too, found none; name the labelled images to fit the mixtures to"
        )

    import torch

    from anomaly.cli.progress import frame_progress
    from anomaly.datasets.folder import pair_folders
    from anomaly.datasets.images import read_image, read_label
    from anomaly.frames import image_hash
    from anomaly.models.loading import load_model
    from anomaly.results.provenance import provenance
    from gmmseg.posthoc.any_model import Labelled, MixtureModel, fit_mixtures, save_mixtures

    pairs = pair_folders(*args.folder)
    model = load_model(args.model, device=args.device, allow_pickle=args.allow_pickle)
    draw = torch.Generator().manual_seed(args.seed)
    chosen = [pairs[i] for i in torch.randperm(len(pairs), generator=draw)[: args.images].tolist()]

    def read(pair: tuple[str, Path, Path]) -> Labelled:
        _, image, label = pair
        found = read_image(image), read_label(label)
        (height, width), (rows, columns) = found[0].shape[:2], found[1].shape
        if (height, width) != (rows, columns):
            raise InputError(
                f"{label}: expected the size of {image}, {width}x{height}, found {columns}x{rows}; use files that "
                "belong together"
            )
        return found

    own = dict(getattr(model, "record", {}))
    name = f"{own.get('name', 'model')}_posthoc-gmm"
    images: set[str] = set()
    with processes.staged(args.out, (f"{name}.pth", f"{name}.py")) as stage, frame_progress() as progress:
        bar = progress.add_task("features", total=len(processes.in_turn(chosen)))

        def on_frame(image: Any) -> None:
            images.add(image_hash(image))
            progress.advance(bar)

        densities, seen = fit_mixtures(
            model,
            chosen,
            read,
            components=args.components,
            pixels=args.pixels,
            generator=draw,
            on_frame=on_frame,
            processes=processes,
        )
        images = set().union(*processes.gather(images))
        parts = densities.log_weights.isfinite().sum(1).tolist()
        record = {"images": len(images), "seed": args.seed, "pixels": seen.tolist(), "components": parts}
        record["command"] = provenance({})["command"]
        mixed = MixtureModel(model, densities, fitted_images=images, record=record)
        made_by = _seen_from(args.out, args.model) + (", allow_pickle=True" if args.allow_pickle else "")
        if processes.rank == 0:
            save_mixtures(stage / f"{name}.pth", mixed)
            (stage / f"{name}.py").write_text(FILE.format(mixtures=f"{name}.pth", model=made_by))
    if unseen := [str(k) for k, count in enumerate(parts) if not count]:
        named = [model.classes[int(k)] for k in unseen] if model.classes else unseen
        more = "; raise --images" if len(chosen) < len(pairs) else ""
        print(
            f"note: {', '.join(named)} occur in none of the {len(chosen)} images and count as unknown{more}",
            file=sys.stderr,
        )
    print(f"wrote {args.out / name}.py, for anomaly evaluate --model {args.out / name}.py:model")


def _seen_from(folder: Path, spec: str) -> str:
    """Python code for a model's specification, with a path in it taken from ``HERE``, which is ``folder``."""
    file, colon, name = spec.rpartition(":") if spec.rpartition(":")[0].endswith(".py") else (spec, "", "")
    if not Path(file).exists():  # an id of the hub
        return repr(spec)
    path = os.path.relpath(Path(file).resolve(), folder.resolve())
    return f"str(HERE / {path!r}) + {colon + name!r}" if colon else f"HERE / {path!r}"
