"""Closed-set datasets for training and testing networks, in the layouts that mmsegmentation reads."""

from __future__ import annotations

from collections.abc import Mapping

from anomaly.datasets.camvid_ood import CLASSES as CAMVID_CLASSES
from anomaly.datasets.entry import CatalogEntry
from anomaly.datasets.layout import Layout
from anomaly.frames import IGNORE, KNOWN

CITYSCAPES_CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
"""The 19 classes that are evaluated, in the order of their train ids."""


def _classes(count: int, *ignored: int, first: int = 0) -> dict[int, int]:
    return {**dict.fromkeys(range(first, first + count), KNOWN), **dict.fromkeys(ignored, IGNORE)}


def _parts(
    name: str,
    title: str,
    counts: Mapping[str, int | None],
    labels: str,
    images: str,
    encoding: Mapping[int, int],
    folders: tuple[str, ...],
    home: str,
    citation: str,
    licence: str,
    frame: str = "{id}",
    pitfalls: tuple[str, ...] = (),
    classes: tuple[str, ...] = (),
) -> tuple[CatalogEntry, ...]:
    """Make one entry for each part, such as ``val``, which replaces ``PART`` in the patterns."""
    return tuple(
        CatalogEntry(
            name=f"{name}-{part}",
            title=f"{title}, {part}",
            layouts=(
                Layout("mmsegmentation", labels.replace("PART", part), (images.replace("PART", part),), frame=frame),
            ),
            encoding=encoding,
            folders=(*folders, "."),
            home=home,
            citation=citation,
            licence=licence,
            frames=frames,
            anomalies=False,
            pitfalls=pitfalls,
            classes=classes,
        )
        for part, frames in counts.items()
    )


SETS = (
    *_parts(
        "cityscapes",
        "Cityscapes",
        {"train": 2975, "val": 500},
        "gtFine/PART/{city}/{id}_gtFine_labelTrainIds.png",
        "leftImg8bit/PART/{city}/{id}_leftImg8bit.*",
        _classes(19, 255),
        ("cityscapes", "Cityscapes"),
        "https://www.cityscapes-dataset.com",
        "Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016",
        "non-commercial, with registration",
        pitfalls=(
            "cityscapesscripts' createTrainIdLabelImgs makes the labelTrainIds from the labelIds in the archive.",
        ),
        classes=CITYSCAPES_CLASSES,
    ),
    *_parts(
        "camvid",
        "CamVid",
        {"train": 367, "val": 101, "test": 233},
        "annotations/PART/{id}.png",
        "images/PART/{id}.*",
        _classes(len(CAMVID_CLASSES), 11),
        ("camvid", "CamVid"),
        "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
        "Brostow et al., Semantic object classes in video: A high-definition ground truth database, PRL 2009; "
        "classes and parts as in SegNet's tutorial",
        "research",
        classes=CAMVID_CLASSES,
    ),
    *_parts(
        "ade20k",
        "ADE20K",
        {"training": 20210, "validation": 2000},
        "annotations/PART/{id}.png",
        "images/PART/{id}.*",
        _classes(150, 0, first=1),
        ("ade/ADEChallengeData2016", "ADEChallengeData2016", "ade20k"),
        "http://sceneparsing.csail.mit.edu",
        "Zhou et al., Scene Parsing through ADE20K Dataset, CVPR 2017",
        "labels BSD-3-Clause; images for research",
        pitfalls=("0 is not a class; mmsegmentation subtracts 1 (`reduce_zero_label`).",),
    ),
    *_parts(
        "coco_stuff10k",
        "COCO-Stuff 10k",
        {"train2014": 9000, "test2014": 1000},
        "annotations/PART/{id}_labelTrainIds.png",
        "images/PART/{id}.*",
        _classes(171, 255),
        ("coco_stuff10k",),
        "https://github.com/nightrome/cocostuff10k",
        "Caesar et al., COCO-Stuff: Thing and Stuff Classes in Context, CVPR 2018",
        "labels CC BY 4.0; images under Flickr's terms",
        pitfalls=("mmsegmentation's converter makes the label maps from the archive's .mat files.",),
    ),
    *_parts(
        "street_hazards_closed",
        "StreetHazards without anomalies",
        {"training": None, "validation": None},
        "annotations/PART/{town}/{id}.png",
        "images/PART/{town}/{id}.*",
        _classes(13, first=1),
        ("street_hazards/train", "StreetHazards/train", "street_hazards", "StreetHazards"),
        "https://github.com/hendrycks/anomaly-seg",
        "Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings, ICML 2022",
        "not found",
        frame="{town}/{id}",
    ),
    *_parts(
        "bdd100k",
        "BDD100K, semantic segmentation",
        {"train": 7000, "val": 1000},
        "labels/sem_seg/masks/PART/{id}.png",
        "images/10k/PART/{id}.*",
        _classes(19, 255),
        ("bdd100k",),
        "https://doc.bdd100k.com",
        "Yu et al., BDD100K: A Diverse Driving Dataset for Heterogeneous Multitask Learning, CVPR 2020",
        "BDD100K's terms, with registration",
        classes=CITYSCAPES_CLASSES,
    ),
)
