"""RoadAnomaly: 60 images of unusual dangers on the road.

The published label files hold 0 (known) and 2 (anomaly); no pixel is ignored. In widespread copies the values are 0
and 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from anomaly.datasets.entry import CatalogEntry
from anomaly.datasets.layout import Layout
from anomaly.errors import InputError
from anomaly.frames import ANOMALY, KNOWN

PUBLISHED = {0: KNOWN, 2: ANOMALY}
ENCODINGS = {"published": PUBLISHED, "rewritten to 0 and 1": {0: KNOWN, 1: ANOMALY}}


def frame_list(root: Path) -> Sequence[str] | None:
    """Read the image names in ``frame_list.json``.

    Args:
        root: Folder of the dataset.

    Returns:
        Names of the images; ``None`` if there is no such file.

    Raises:
        InputError: The file is not a JSON list of distinct file names.
    """
    path = root / "frame_list.json"
    if not path.is_file():
        return None
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: expected a JSON list of file names, found no JSON ({error}); restore it") from error
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise InputError(
            f'{path}: expected a JSON list of file names such as "a.jpg", found something else; '
            "restore it, or remove it to use every image"
        )
    names = [PurePosixPath(entry).name for entry in entries]
    if len(set(names)) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: expected every image once, found {double} {names.count(double)} times; remove it")
    return names


FRAMES = Layout(
    "published",
    labels="frames/{id}.labels/labels_semantic.png",
    images=("frames/{id}.*",),
    encodings=ENCODINGS,
    listing=frame_list,
)
SETS = (
    CatalogEntry(
        name="road_anomaly",
        title="RoadAnomaly",
        layouts=(
            FRAMES,
            Layout("SynBoost, PEBAL, RPL", "labels/{id}.png", ("original/{id}.*",), encodings=ENCODINGS),
            Layout("Mask2Anomaly", "labels_masks/{id}.png", ("images/{id}.*",), encodings=ENCODINGS),
            Layout("masks alone", "road_anomaly_masks/{id}.png", ("frames/{id}.*",), encodings=ENCODINGS),
        ),
        encoding=PUBLISHED,
        folders=(
            "road_anomaly",
            "road_anomaly/RoadAnomaly_jpg",
            "RoadAnomaly_jpg",
            "RoadAnomaly",
            "RoadAnomaly/RoadAnomaly_jpg",
            ".",
        ),
        home="https://www.epfl.ch/labs/cvlab/data/road-anomaly/",
        citation="Lis et al., Detecting the Unexpected via Image Resynthesis, ICCV 2019",
        licence="labels CC BY-SA 4.0; images from the web, each with its own terms (credits.txt)",
        frames=60,
        sizes=((1280, 720),),
        every_frame=True,
        pitfalls=(
            "Anomalies are 2 as published and 1 in copies; code that expects 1 finds none in the published files.",
            "Only 46 of the 60 frames have instance labels.",
        ),
    ),
)
