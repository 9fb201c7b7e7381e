"""BDD-Anomaly: images of BDD100K with motorcycles, bicycles and trains, which the training images lack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from anomaly.datasets.entry import CatalogEntry
from anomaly.datasets.layout import Layout
from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN

LIST = "test.odgt"


def listed_images(root: Path) -> Sequence[str] | None:
    """Read the image names in ``test.odgt``, a JSON array or one JSON object per line.

    Args:
        root: Folder of the dataset.

    Returns:
        Names of the images; ``None`` if there is no such file.

    Raises:
        InputError: The file has other content.
    """
    path = root / LIST
    if not path.is_file():
        return None
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        records = lines[0] if len(lines) == 1 and isinstance(lines[0], list) else lines
        return [PurePosixPath(record["fpath_img"]).name for record in records]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"{path}: expected JSON records with 'fpath_img', found something else ({type(error).__name__}: {error}); "
            "download the list again"
        ) from error


SETS = (
    CatalogEntry(
        name="bdd_anomaly",
        title="BDD-Anomaly, test",
        layouts=(
            Layout(
                "published",
                "seg/train_labels/{part}/{id}_train_id.png",
                ("seg/images/{part}/{id}.*",),
                listing=listed_images,
            ),
        ),
        encoding={**dict.fromkeys(range(16), KNOWN), 16: ANOMALY, 17: ANOMALY, 18: ANOMALY, 255: IGNORE},
        folders=("bdd_anomaly", "BddAnomaly", "bdd100k", "."),
        home="https://github.com/hendrycks/anomaly-seg",
        citation="Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings, ICML 2022",
        licence="BDD100K's terms",
        frames=810,
        sizes=((1280, 720),),
        every_frame=True,
        pitfalls=(
            "The test images lie in BDD100K's training and validation folders; test.odgt beside seg/ lists them.",
            "Networks must be trained on the 6,280 images of train.odgt only, which lack the three anomaly classes.",
            "The authors' script shifts label values by 2; such label maps are an error.",
        ),
    ),
)
