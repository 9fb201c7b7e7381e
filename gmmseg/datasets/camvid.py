"""CamVid (Brostow et al., 2008) with the 11 classes of SegNet, as an mmseg dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from mmseg.datasets import BaseSegDataset

from anomaly.errors import InputError
from gmmseg.registry import DATASETS


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid: 367 training, 101 validation and 233 test images of streets, 480x360 pixels.

    Label 11 (unlabelled) is ignored. ``data_prefix`` names the folders of images and label maps. Images may be PNG
    files, as distributed, or JPEG files; the suffix is detected.

    Args:
        **kwargs: Arguments of mmseg's ``BaseSegDataset``.

    Raises:
        InputError: The folder of images is missing or holds no image.
    """

    METAINFO: ClassVar[dict[str, Any]] = {
        "classes": (
            "sky",
            "building",
            "pole",
            "road",
            "pavement",
            "tree",
            "sign symbol",
            "fence",
            "car",
            "pedestrian",
            "bicyclist",
        ),
        "palette": [
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    }

    def __init__(self, **kwargs: Any) -> None:
        folder = Path(kwargs.get("data_root") or "", kwargs["data_prefix"]["img_path"])
        suffix = next((s for s in (".png", ".jpg") if any(folder.glob(f"*{s}"))), None)
        if suffix is None:
            raise InputError(
                f"no CamVid images in {folder}: expected .png or .jpg files there, found none; put CamVid in "
                "data/camvid, give the folder that holds camvid/ as --data-root, or leave out the closed set "
                "(--no-closed-set)"
            )
        super().__init__(img_suffix=suffix, seg_map_suffix=".png", **kwargs)

    @classmethod
    def get_label_map(cls, new_classes: Any = None) -> dict[int, int]:
        """Map label 11 (unlabelled), and classes that ``new_classes`` leaves out, to mmseg's ignore label 255."""
        return {**(super().get_label_map(new_classes) or {}), 11: 255}
