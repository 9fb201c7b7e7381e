"""ESPNetv2 of the public repository sacmehta/EdgeNets, trained on Cityscapes by its authors, as a model to evaluate.

Name it as ``tools/dev/edgenets.py:model``. The environment variable EDGENETS is the folder of a clone of that
repository. Its code is executed.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anomaly import TorchModel
from anomaly.errors import InputError
from anomaly.utils.file_records import file_record

CODE = "model/segmentation/espnetv2.py"
WEIGHTS = "model/segmentation/model_zoo/espnetv2/espnetv2_s_2.0_city_1024x512.pth"
SHA256 = "a72d59699801c7ce8e8b89a53af9097eaaa60dc12180ecde86fd700ba1222fe8"
COMMIT = "2b232d3f7fb60658755dad1ebca0ffc895cc795e"
SIZE = (576, 1024)
CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)


class ESPNetv2(nn.Module):
    """The network at its own input size, without the logit of its last class, the background."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits at the input size, to which the network upsamples them. Shape: ``(B, 19, 576, 1024)``."""
        resized = F.interpolate(images, SIZE, mode="bilinear")  # `size` of TorchModel would antialias
        return self.network(resized)[:, : len(CLASSES)]


def clone() -> Path:
    """The folder of the clone.

    Raises:
        InputError: EDGENETS is not set, or the folder lacks the code or the weights, or has other weights.
    """
    advice = f"clone https://github.com/sacmehta/EdgeNets at {COMMIT[:7]} and set EDGENETS to its folder"
    if not os.environ.get("EDGENETS"):
        raise InputError(f"EDGENETS: expected the folder of a clone of EdgeNets, found it unset; {advice}")
    folder = Path(os.environ["EDGENETS"])
    if missing := [name for name in (CODE, WEIGHTS) if not (folder / name).is_file()]:
        raise InputError(f"{folder}: expected a clone of EdgeNets, found no {' and no '.join(missing)}; {advice}")
    if (found := file_record(folder / WEIGHTS)["sha256"]) != SHA256:
        raise InputError(f"{folder / WEIGHTS}: expected SHA-256 {SHA256}, found {found}; {advice}")
    return folder


def model() -> TorchModel:
    """ESPNetv2 (s = 2.0) with the weights of its authors."""
    folder = clone()
    sys.path.insert(0, str(folder))
    try:
        code = importlib.import_module("model.segmentation.espnetv2")
    finally:
        sys.path.remove(str(folder))
    network = code.ESPNetv2Segmentation(SimpleNamespace(s=2.0), classes=len(CLASSES) + 1, dataset="city")
    network.load_state_dict(torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True))
    return TorchModel(ESPNetv2(network), classes=CLASSES, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
