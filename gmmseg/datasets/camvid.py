"""CamVid (Brostow et al., 2008) in the 11-class form of SegNet, as an mmseg data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from mmseg.datasets import BaseSegDataset

from anomaly.errors import InputError
from gmmseg.registry import DATASETS


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """367 / 101 / 233 street images, 480x360; label 11 (unlabelled) is ignored.

    ``data_prefix`` names the folders of images and of label maps. Images may be PNG (as distributed) or
    JPEG; the loader looks.

    Args:
        **kwargs: Arguments of mmseg's ``BaseSegDataset``.

    Raises:
        InputError: No folder of images, or none in it.
    """

    METAINFO: ClassVar[dict[str, Any]] = {
        "classes": (
            *("sky", "building", "pole", "road", "pavement", "tree"),
            *("sign symbol", "fence", "car", "pedestrian", "bicyclist"),
        ),
        "palette": [
            *([128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0]),
            *([192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192]),
        ],
    }

    def __init__(self, **kwargs: Any) -> None:
        folder = Path(kwargs.get("data_root") or "", kwargs["data_prefix"]["img_path"])
        suffix = next((s for s in (".png", ".jpg") if any(folder.glob(f"*{s}"))), None)
        if suffix is None:
            raise InputError(
                f"no CamVid images in {folder}: expected .png or .jpg files there; put CamVid under data/camvid, "
                "name the folder that holds camvid/ with --data-root, or leave the closed set out (--no-closed-set)"
            )
        super().__init__(img_suffix=suffix, seg_map_suffix=".png", **kwargs)

    @classmethod
    def get_label_map(cls, new_classes: Any = None) -> dict[int, int]:
        """Label 11, unlabelled, becomes mmseg's ignore label, and so do classes left out of ``new_classes``."""
        return {**(super().get_label_map(new_classes) or {}), 11: 255}
