"""Fishyscapes Static: 30 Cityscapes images with pasted objects, in three versions whose results are not comparable."""

from __future__ import annotations

from anomaly.datasets.download import Download
from anomaly.datasets.entry import CatalogEntry
from anomaly.datasets.fishyscapes_lost_and_found import CITATION, ENCODING, FISHYSCAPES
from anomaly.datasets.layout import Layout

_CITYSCAPES = tuple(
    f"{folder}leftImg8bit/val/*/{{id}}_leftImg8bit.*"
    for folder in (
        "",
        "../cityscapes/",
        "../Cityscapes/",
        "../../cityscapes/",
        "../../Cityscapes/",
        "../../../cityscapes/",
    )
)
_VERSIONS = {
    "v1": (
        "no blending",
        4417983,
        "47060202a0eb0af1273046a679956661dc47ff1479253bfc0bcbb7a980831211",
        "79fb134419c83f2f20b575955efa9d20",
    ),
    "v2": (
        "better blending",
        4107857,
        "bb11f288ae0347c42da09b9ea1a40d8df967a5091e4193b6f7014cbd97564d16",
        "5088c63497927200d935c41d54b1cb23",
    ),
    "v3": (
        "with pasted Cityscapes objects that are not anomalies",
        8046056,
        "3813994ccb73645d28aa53946646a03d859dbeb9a2d31ad7233e45db00878b8f",
        "0dc11db9e57088c5bb18de4c55a53f3a",
    ),
}


def _static(version: str) -> CatalogEntry:
    difference, size, sha256, md5 = _VERSIONS[version]
    folder, archive = f"fs_val_{version}", f"fs_val_{version}.zip"
    return CatalogEntry(
        name=f"fishyscapes_static-{version}",
        title=f"Fishyscapes Static, validation, {version} ({difference})",
        layouts=(
            Layout(
                "published, beside Cityscapes",
                "{number}_{id}_labels.png",
                _CITYSCAPES,
                overlays="{number}_{id}_rgb.npz",
            ),
            Layout("RbA", "{id}_labels.png", (f"../fs_static_images_{version}/{{id}}_rgb.*",)),
            Layout("DenseHybrid", "{id}_labels.png", ("{id}_rgb.*",), versionless=True),
            Layout("Mask2Anomaly", "labels_masks/{id}.png", ("images/{id}.*",), versionless=True),
            Layout("anomaly_datasets", "{id}.png", ("{id}.jpg",), versionless=True),
        ),
        encoding=ENCODING,
        folders=(
            f"fishyscapes_static/{folder}",
            f"fishyscapes_static/{folder}/{folder}",
            f"Fishyscapes/{folder}",
            f"fishyscapes/{folder}",
            folder,
            f"fishyscapes_static-{version}",
            "fs_static",
            ".",
        ),
        home="https://fishyscapes.com/dataset",
        citation=CITATION,
        licence="not found; the images have Cityscapes' terms",
        frames=30,
        sizes=((2048, 1024),),
        version=version,
        other_versions=tuple(
            other for name in _VERSIONS if name != version for other in (f"fs_val_{name}", f"static-{name}")
        ),
        downloads=(Download(FISHYSCAPES + archive, archive, size=size, sha256=sha256, md5=md5),),
        pitfalls=(
            "Papers rarely say which version they used, and results differ between versions.",
            "The archive holds signed differences to Cityscapes' validation images, so you need those too.",
            "In v3 not every pasted object is an anomaly (only the labels say which), and some frames have no anomaly.",
        ),
    )


SETS = tuple(_static(version) for version in _VERSIONS)
