"""CamVid-OOD: CamVid's test photographs with one animal pasted into each.

Besnier et al., "Triggering Failures: Out-Of-Distribution detection by learning from local adversarial attacks
in Semantic Segmentation" (ObsNet), ICCV 2021. The label files hold CamVid's classes 0-10 (known), 11
(unlabelled, ignored) and 12 (anomaly).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from anomaly.datasets.images import find_photos
from anomaly.datasets.split import FrameFiles, Split
from anomaly.errors import InputError
from anomaly.labels import ANOMALY, IGNORE, KNOWN

PUBLISHED_LAYOUT = "test_ood/NAME.png + testannot_ood/NAME.png, test_ood.txt optional"
FOLDER_LAYOUT = "images/NAME.jpg (or .png) + labels/NAME.png"
LAYOUT = f"{PUBLISHED_LAYOUT}, or {FOLDER_LAYOUT}"
HOME = "https://github.com/valeoai/obsnet (release file 'CamVid OOD')"

CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign symbol", "fence", "car", "pedestrian", "bicyclist"),
)
ENCODING = {**dict.fromkeys(range(len(CLASSES)), KNOWN), 11: IGNORE, 12: ANOMALY}


def read_split(name: str, root: Path) -> Split | None:
    """Open CamVid-OOD in the published layout, or as folders ``images`` and ``labels``.

    The published ``test_ood.txt`` decides which frames belong to the set and in what order. Without it all
    photographs do, in the order of their names.

    Args:
        name: Name that the split gets.
        root: Folder that holds ``test_ood`` and ``testannot_ood``, or ``images`` and ``labels``.

    Returns:
        The split, or ``None`` where ``root`` has neither pair of folders.

    Raises:
        InputError: ``test_ood.txt`` has a line that does not name a photograph and a label, a frame lacks one
            of the two, a frame has two photographs, or there are no frames.
    """
    for images, labels, layout in (
        (root / "test_ood", root / "testannot_ood", PUBLISHED_LAYOUT),
        (root / "images", root / "labels", FOLDER_LAYOUT),
    ):
        if images.is_dir() and labels.is_dir():
            listing = root / "test_ood.txt"
            listed = layout == PUBLISHED_LAYOUT and listing.is_file()
            files = _from_list(listing, images, labels) if listed else _from_folders(images, labels)
            return Split(name, root, layout, files, ENCODING, CLASSES)
    return None


def _from_folders(images: Path, labels: Path) -> tuple[FrameFiles, ...]:
    photos = find_photos(images, [label.stem for label in labels.glob("*.png")])
    return tuple(FrameFiles(photo.stem, photo, labels / f"{photo.stem}.png") for photo in photos)


def _from_list(listing: Path, images: Path, labels: Path) -> tuple[FrameFiles, ...]:
    """Read lines 'IMAGE LABEL'; only the file names count, as the folders are often another machine's."""
    files = []
    for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        paths = [PurePosixPath(part) for part in line.split()]
        if len(paths) != 2:
            raise InputError(
                f"{listing}, line {number}: expected the paths of a photograph and its label with a space "
                f"between them, found {line!r}; correct the line, or remove the file to take every photograph"
            )
        files.append(FrameFiles(paths[0].stem, images / paths[0].name, labels / paths[1].name))
    return tuple(files)
