"""Write the table of GMMSeg configs into docs/models.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from anomaly.cli.parser import command_parser
from anomaly.cli.process import run
from anomaly.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
START, END = "<!-- written by tools/dev/model_table.py -->\n", "<!-- end -->"
HEADER = """
| config | backbone | dataset | crop | steps | batch | GMMSeg mIoU | baseline | baseline mIoU |
| --- | --- | --- | --- | ---: | ---: | ---: | --- | ---: |
"""
NAME = re.compile(r"(.+)-gmmseg_([^_]+)_(?:(\d+)xb\d+-)?\d+k_(.+)-(\d+)x(\d+)")
FAMILIES = ["segformer", "deeplabv3plus", "ocrnet", "upernet", "fcn"]
BACKBONES = {"r101-d8": "ResNet-101", "hr48": "HRNetV2-W48", "swin-b": "Swin-B"}
BACKBONES |= {"convnext-b": "ConvNeXt-B", "dinov2-s": "DINOv2-S", "dinov2-b": "DINOv2-B"}
BACKBONES |= {"dinov2-s-frozen": "DINOv2-S, frozen", "dinov2-b-frozen": "DINOv2-B, frozen"}
BACKBONES |= {f"mit-b{number}": f"MiT-B{number}" for number in range(6)}
DATA = {"cityscapes": "Cityscapes", "ade20k": "ADE20K", "coco-stuff10k": "COCO-Stuff 10k", "camvid": "CamVid"}

# In percent, one scale, no flip. GMMSeg: the README of its authors' code. Baselines: mmseg's metafiles.
PUBLISHED = {
    "segformer-gmmseg_mit-b5_8xb2-80k_coco-stuff10k-512x512": 44.81,
    "segformer_mit-b0_8xb1-160k_cityscapes-1024x1024": 76.54,
    "segformer_mit-b1_8xb1-160k_cityscapes-1024x1024": 78.56,
    "segformer_mit-b0_8xb2-160k_ade20k-512x512": 37.41,
    "segformer_mit-b1_8xb2-160k_ade20k-512x512": 40.97,
    "deeplabv3plus_r101-d8_4xb4-160k_ade20k-512x512": 45.47,
    "ocrnet_hr48_4xb4-160k_ade20k-512x512": 43.25,
    "upernet_swin-b_8xb2-160k_ade20k-512x512": 47.99,
    "fcn_r101-d8_4xb4-160k_ade20k-512x512": 39.91,
}


def row(path: Path) -> tuple[tuple[Any, ...], str]:
    """The position of a config in the table, and its line.

    Raises:
        InputError: The name of the config does not follow docs/models.md.
    """
    from mmengine.config import Config

    match = NAME.fullmatch(path.stem)
    if match is None or match[1] not in FAMILIES or match[4] not in DATA:
        raise InputError(
            f"{path}: expected a name FAMILY-gmmseg_BACKBONE_BATCH-LENGTH_DATA-CROP, found another; rename it"
        )
    family, backbone, gpus, data, height, width = match.groups()
    config, baseline = Config.fromfile(path), path.stem.replace("-gmmseg", "")
    cells = [f"[{path.stem}](../configs/gmmseg/{path.name})", BACKBONES.get(backbone, backbone), DATA[data]]
    cells += [f"{height}x{width}", f"{config.train_cfg.max_iters:,}"]
    cells += [f"{gpus or 1} x {config.train_dataloader.batch_size}", str(PUBLISHED.get(path.stem, ""))]
    cells += [f"[softmax](../configs/softmax/{baseline}.py)", str(PUBLISHED.get(baseline, ""))]
    place = (list(DATA).index(data), int(height), FAMILIES.index(family), backbone)
    return place, f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Read every config of configs/gmmseg and insert the table between the marks of the document."""
    parser = command_parser(__doc__)
    parser.add_argument("--file", type=Path, default=ROOT / "docs/models.md", help="document that holds the table")
    path = parser.parse_args().file
    before, start, rest = path.read_text().partition(START) if path.is_file() else ("", "", "")
    _, end, after = rest.partition(END)
    if not end:
        raise InputError(f"{path} has no lines {START.strip()!r} and {END!r} to put the table between")
    lines = [line for _, line in sorted(row(config) for config in (ROOT / "configs/gmmseg").glob("*.py"))]
    path.write_text(f"{before}{start}{HEADER}{''.join(lines)}\n{end}{after}")


if __name__ == "__main__":
    run(main)
