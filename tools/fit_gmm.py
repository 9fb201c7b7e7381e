"""Fit class mixtures to a trained network's features: ``python tools/fit_gmm.py CONFIG CHECKPOINT --out DIR``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from _progress import frame_progress
from _run import read_config, run
from _weights import portable


def parse_args() -> argparse.Namespace:
    """Arguments in mmseg's habits."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("config", type=Path, help="config of an mmseg network whose head ends in a conv_seg, as nearly all do")
    add("checkpoint", type=Path, help="a checkpoint of that network")
    add("--out", type=Path, required=True, metavar="DIR", help="gets CONFIG_posthoc-gmm.py and CONFIG_posthoc-gmm.pth")
    add("--images", type=int, default=100, metavar="N", help="training photographs, drawn at random (default: 100)")
    add("--components", type=int, default=3, metavar="P", help="most Gaussians of a class (default: 3)")
    add("--pixels", type=int, default=20_000, metavar="N", help="most pixels of a class (default: 20000)")
    add("--seed", type=int, default=0, help="draws photographs, pixels and starts (default: 0)")
    add("--data-root", type=Path, metavar="DIR", help="folder that holds the data sets (default: data)")
    add("--device", help="such as cpu or cuda:0 (default: cuda where there is one)")
    add("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="settings to override")
    return parser.parse_args()


def main() -> None:
    """Load the network, pass over the photographs once, fit, and write config and checkpoint, both or none."""
    args = parse_args()
    config = read_config(args.config, args.cfg_options, args.data_root)

    import torch

    from anomaly.integrations.mmseg_detector import build_model, pick_device
    from anomaly.provenance import file_record, provenance
    from anomaly.staging import staged
    from gmmseg.checkpoints import check_classes, load_checkpoint_file, load_weights
    from gmmseg.engine.feature_pass import collect_features, open_training_set
    from gmmseg.models.posthoc_segmentor import posthoc_config

    checkpoint, device = load_checkpoint_file(args.checkpoint), pick_device(args.device)
    inputs = {"config": file_record(args.config, portable(config)), "checkpoint": file_record(args.checkpoint)}
    origin = provenance(inputs)
    config = posthoc_config(config, args.components)
    model = build_model(config)
    fresh = {f"densities.{key}": value for key, value in model.densities.state_dict().items()}
    load_weights(model, {**checkpoint["state_dict"], **fresh}, args.checkpoint)
    dataset = open_training_set(config)
    classes = dataset.metainfo["classes"]
    check_classes(checkpoint, classes, args.checkpoint)

    name, draw = f"{args.config.stem}_posthoc-gmm", torch.Generator().manual_seed(args.seed)
    with staged(args.out, (f"{name}.pth", f"{name}.py")) as stage, frame_progress() as progress:
        bar = progress.add_task("features", total=min(args.images, len(dataset)))
        pixels = (args.images, args.pixels, draw, lambda: progress.advance(bar))
        sample = collect_features(model.to(device), dataset, *pixels)
        components = model.cpu().densities.fit(sample, draw)
        unseen = [label for label, used in zip(classes, components, strict=True) if not used]
        record = {**origin, "images": args.images, "seed": args.seed, "pixels": sample.seen.tolist()}
        record |= {"components": components, "unseen_classes": unseen}
        meta = {"dataset_meta": {"classes": tuple(classes)}, "posthoc": record}
        torch.save({"state_dict": model.state_dict(), "meta": meta}, stage / f"{name}.pth")
        (stage / f"{name}.py").write_text(portable(config))
    if unseen:
        print(f"no pixel of {', '.join(unseen)}: they count as unknown; raise --images", file=sys.stderr)
    print(f"{args.out / name}.py and {name}.pth are written: a config and checkpoint for tools/ood_eval.py")


if __name__ == "__main__":
    run(main)
