"""CamVid-OOD: CamVid's test images with one animal pasted into each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from anomaly.datasets.entry import CatalogEntry
from anomaly.datasets.layout import Layout
from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN

CLASSES = (
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
)
ENCODING = {**dict.fromkeys(range(len(CLASSES)), KNOWN), 11: IGNORE, 12: ANOMALY}


def listed_images(root: Path) -> Sequence[str] | None:
    """Read the image names in ``test_ood.txt``, whose lines are 'IMAGE LABEL'.

    Only the names of the files are used, because the folders often belong to another machine.

    Args:
        root: Folder of the dataset.

    Returns:
        Names of the images; ``None`` if there is no such file.

    Raises:
        InputError: A line does not have two paths with the same name, or a frame occurs twice.
    """
    path = root / "test_ood.txt"
    if not path.is_file():
        return None
    names: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        paths = [PurePosixPath(part) for part in line.split()]
        if not paths:
            continue
        if len(paths) != 2 or paths[0].stem != paths[1].stem:
            raise InputError(
                f"{path}, line {number}: expected the paths of an image and its label with a space "
                f"between them, found {line!r}; correct the line, or remove the file to use every image"
            )
        if paths[0].name in names:
            raise InputError(
                f"{path}, line {number}: expected every frame once, found {paths[0].name} again; remove it"
            )
        names.append(paths[0].name)
    return names


SETS = (
    CatalogEntry(
        name="camvid_ood",
        title="CamVid-OOD",
        layouts=(
            Layout("published", "testannot_ood/{id}.png", ("test_ood/{id}.*",), listing=listed_images),
            Layout("folders", "labels/{id}.png", ("images/{id}.*",), part=True),
        ),
        encoding=ENCODING,
        folders=("camvid_ood", "CamVid", "camvid", "."),
        home="https://github.com/valeoai/obsnet (release file 'CamVid OOD')",
        citation="Besnier et al., Triggering Failures: Out-Of-Distribution detection by learning from local "
        "adversarial attacks in Semantic Segmentation, ICCV 2021",
        licence="none stated; CamVid is for research",
        frames=233,
        sizes=((480, 360),),
        classes=CLASSES,
        every_frame=True,
        pitfalls=(
            "11 is void and 12 is the anomaly. Code that uses 0 to 11 as class indices counts void pixels as known.",
            "All other labels equal those of CamVid's test images, pixel by pixel.",
        ),
    ),
)
