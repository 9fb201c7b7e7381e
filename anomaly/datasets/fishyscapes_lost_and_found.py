"""Fishyscapes Lost&Found: 100 images of LostAndFound with new labels. Only the labels are distributed."""

from __future__ import annotations

from dataclasses import replace

from anomaly.datasets.download import Download
from anomaly.datasets.entry import CatalogEntry
from anomaly.datasets.layout import Layout
from anomaly.frames import ANOMALY, IGNORE, KNOWN

FISHYSCAPES = "http://robotics.ethz.ch/~asl-datasets/Fishyscapes/"
CITATION = "Blum et al., The Fishyscapes Benchmark, IJCV 2021"
ENCODING = {0: KNOWN, 1: ANOMALY, 255: IGNORE}
_LAF = tuple(
    f"{folder}leftImg8bit/{split}/{{scene}}/{{id}}_leftImg8bit.*"
    for folder in ("", "../lost_and_found/", "../LostAndFound/", "../dataset_LostAndFound/")
    for split in ("train", "test")
)
_VAL = CatalogEntry(
    name="fishyscapes_lost_and_found",
    title="Fishyscapes Lost&Found, validation",
    layouts=(
        Layout(
            "published, beside LostAndFound",
            "{number}_{id}_labels.png",
            (*(pattern.replace("{scene}", "*") for pattern in _LAF), "../laf_images/{id}_leftImg8bit.*"),
        ),
        Layout("SegmentMeIfYouCan", "labels/val/{id}_fishy-labels.png", tuple(p.replace("{scene}", "*") for p in _LAF)),
        Layout("PEBAL, SynBoost", "labels/{id}.png", ("original/{id}.*",)),
        Layout(
            "DenseHybrid",
            "ood/{id}_ood_segmentation.png",
            ("leftImg8bit/{id}_leftImg8bit.*", "{id}_leftImg8bit.*"),
            encodings={"with void = 2": {0: KNOWN, 1: ANOMALY, 2: IGNORE}},
        ),
        Layout(
            "SML",
            "gtFine_trainvaltest/gtFine/val/{city}/{id}_gtFine_labelIds.png",
            ("leftImg8bit_trainvaltest/leftImg8bit/val/{city}/{id}_leftImg8bit.*",),
            encodings={"with any other value ignored": {value: ENCODING.get(value, IGNORE) for value in range(256)}},
        ),
        Layout("Mask2Anomaly", "labels_masks/{id}.png", ("images/{id}.*",), numbered=True),
        Layout("Meta-OOD", "{id}.png", ("{id}.jpg",)),
    ),
    encoding=ENCODING,
    folders=(
        "fishyscapes_lost_and_found",
        "fishyscapes/LostAndFound",
        "Fishyscapes/LostAndFound",
        "fishyscapes_lostandfound",
        "Fishyscapes/fishyscapes_lostandfound",
        "dataset_FishyLAF",
        "FS_LostFound_full",
        ".",
    ),
    home="https://fishyscapes.com/dataset",
    citation=CITATION,
    licence="not found; the images have LostAndFound's terms",
    frames=100,
    sizes=((2048, 1024),),
    downloads=(
        Download(
            FISHYSCAPES + "fishyscapes_lostandfound.zip",
            "fishyscapes_lostandfound.zip",
            size=729335,
            sha256="f0078e89f0a147060a0864feb90e8b523313a2723b1b764bce638dc425473094",
            md5="0d3bf7c0ec38bd50b84f3d8aaa4b2e26",
        ),
    ),
    pitfalls=(
        "The archive holds only labels; the images come from LostAndFound, from both its train and its test folder.",
        "The 80th frame has no anomaly, so its per-image metrics are undefined.",
        "DenseHybrid's copies use 2 for void; the published files use 255.",
        "The test split (275 images) is hidden; only the benchmark's server evaluates on it.",
    ),
)
_INVALID = "LostAndFound's own label for it is invalid"
SETS = (
    _VAL,
    replace(
        _VAL,
        name="fishyscapes_lost_and_found-valid",
        title="Fishyscapes Lost&Found, as SegmentMeIfYouCan's FishyLAFObstacle-val",
        frames=98,
        excluded={
            "01_Hanns_Klemm_Str_45_000001_000240": _INVALID,
            "01_Hanns_Klemm_Str_45_000005_000230": _INVALID,
        },
    ),
)
