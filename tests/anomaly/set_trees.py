"""Tiny evaluation sets on disk, in every layout the readers know, with labels known beforehand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 6, 8
NAMES = ("cow", "bear", "tyre")


def photo(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Give an RGB image (H, W, 3) of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def label(values: Sequence[int], height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Give a label map (H, W) that repeats the values in reading order."""
    return np.resize(np.array(values, dtype=np.uint8), (height, width))


def write(path: Path, pixels: np.ndarray) -> Path:
    """Write an image in the format of its suffix, with the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_list(root: Path, images: Sequence[str]) -> None:
    """Write RoadAnomaly's list of frames."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "frame_list.json").write_text(json.dumps(images))


def road_anomaly(
    root: Path,
    labels: Mapping[str, Sequence[int]] | None = None,
    suffix: str = ".jpg",
    listed: bool = True,
) -> Path:
    """Write RoadAnomaly's layout (also that of street_scenes): by default 0 known and 2 anomaly."""
    labels = labels or dict.fromkeys(NAMES, (0, 0, 2))
    for seed, (name, values) in enumerate(labels.items()):
        write(root / "frames" / f"{name}{suffix}", photo(seed))
        write(root / "frames" / f"{name}.labels" / "labels_semantic.png", label(values))
    if listed:
        write_list(root, [f"{name}{suffix}" for name in labels])
    return root


def camvid_ood(root: Path, values: Sequence[int] = tuple(range(13))) -> Path:
    """Write CamVid-OOD as folders ``images`` and ``labels``."""
    for seed, name in enumerate(NAMES):
        write(root / "images" / f"{name}.jpg", photo(seed))
        write(root / "labels" / f"{name}.png", label(values))
    return root


def camvid_ood_published(root: Path, prefix: str | None = "/SegNet/CamVid/") -> Path:
    """Write CamVid-OOD as published; ``prefix`` opens the paths in ``test_ood.txt`` (None: no such file)."""
    for seed, name in enumerate(NAMES):
        write(root / "test_ood" / f"{name}.png", photo(seed))
        write(root / "testannot_ood" / f"{name}.png", label(tuple(range(13))))
    if prefix is not None:
        lines = [f"{prefix}test_ood/{name}.png {prefix}testannot_ood/{name}.png\n" for name in NAMES]
        (root / "test_ood.txt").write_text("".join(lines))
    return root


RA, CAMVID, FISHY, LAF, HAZARDS = ((0, 0, 2), tuple(range(13)), (0, 1, 255), (0, 1, 2, 43), tuple(range(1, 15)))
LAYOUTS = {
    # set, layout's name: values of the labels, and (frame, image, label map) of two frames
    ("road_anomaly", "published"): (
        RA,
        ("a", "road_anomaly/frames/a.webp", "road_anomaly/frames/a.labels/labels_semantic.png"),
        ("b", "road_anomaly/frames/b.jpg", "road_anomaly/frames/b.labels/labels_semantic.png"),
    ),
    ("road_anomaly", "SynBoost, PEBAL, RPL"): (
        (0, 1),
        ("a", "road_anomaly/original/a.jpg", "road_anomaly/labels/a.png"),
        ("b", "road_anomaly/original/b.jpg", "road_anomaly/labels/b.png"),
    ),
    ("road_anomaly", "Mask2Anomaly"): (
        RA,
        ("0", "RoadAnomaly/images/0.jpg", "RoadAnomaly/labels_masks/0.png"),
        ("59", "RoadAnomaly/images/59.jpg", "RoadAnomaly/labels_masks/59.png"),
    ),
    ("fishyscapes_lost_and_found", "published, beside LostAndFound"): (
        FISHY,
        (
            "04_Maurener_Weg_8_000000_000030",
            "lost_and_found/leftImg8bit/train/04_Maurener_Weg_8/04_Maurener_Weg_8_000000_000030_leftImg8bit.png",
            "fishyscapes_lost_and_found/0000_04_Maurener_Weg_8_000000_000030_labels.png",
        ),
        (
            "01_Hanns_Klemm_Str_45_000000_000080",
            "lost_and_found/leftImg8bit/test/01_Hanns_Klemm_Str_45/01_Hanns_Klemm_Str_45_000000_000080_leftImg8bit.png",
            "fishyscapes_lost_and_found/0001_01_Hanns_Klemm_Str_45_000000_000080_labels.png",
        ),
    ),
    ("fishyscapes_lost_and_found", "published, RbA's images"): (
        FISHY,
        (
            "04_Maurener_Weg_8_000000_000030",
            "Fishyscapes/laf_images/04_Maurener_Weg_8_000000_000030_leftImg8bit.png",
            "Fishyscapes/fishyscapes_lostandfound/0000_04_Maurener_Weg_8_000000_000030_labels.png",
        ),
    ),
    ("fishyscapes_lost_and_found", "SegmentMeIfYouCan"): (
        FISHY,
        (
            "04_Maurener_Weg_8_000000_000030",
            "dataset_LostAndFound/leftImg8bit/train/04_Maurener_Weg_8/04_Maurener_Weg_8_000000_000030_leftImg8bit.webp",
            "dataset_FishyLAF/labels/val/04_Maurener_Weg_8_000000_000030_fishy-labels.png",
        ),
    ),
    ("fishyscapes_lost_and_found", "PEBAL, SynBoost"): (
        FISHY,
        ("x", "fishyscapes/LostAndFound/original/x.png", "fishyscapes/LostAndFound/labels/x.png"),
        ("ignored", "fishyscapes/LostAndFound/original/ignored.png", "fishyscapes/LostAndFound/labels/ignored.png"),
    ),
    ("fishyscapes_lost_and_found", "DenseHybrid"): (
        (0, 1, 2),
        ("x_1", "leftImg8bit/x_1_leftImg8bit.png", "ood/x_1_ood_segmentation.png"),
    ),
    ("fishyscapes_lost_and_found", "SML"): (
        (0, 1, 7),
        (
            "ulm_0",
            "leftImg8bit_trainvaltest/leftImg8bit/val/ulm/ulm_0_leftImg8bit.png",
            "gtFine_trainvaltest/gtFine/val/ulm/ulm_0_gtFine_labelIds.png",
        ),
    ),
    ("fishyscapes_lost_and_found", "Mask2Anomaly"): (
        FISHY,
        ("3", "FS_LostFound_full/images/3.png", "FS_LostFound_full/labels_masks/3.png"),
    ),
    ("fishyscapes_lost_and_found", "Meta-OOD"): (
        FISHY,
        ("x", "fishyscapes_lost_and_found/x.jpg", "fishyscapes_lost_and_found/x.png"),
    ),
    ("fishyscapes_static-v2", "RbA"): (
        FISHY,
        ("0000_x", "Fishyscapes/fs_static_images_v2/0000_x_rgb.png", "Fishyscapes/fs_val_v2/0000_x_labels.png"),
    ),
    ("fishyscapes_static-v1", "DenseHybrid"): (
        FISHY,
        ("0000_x", "fishyscapes_static-v1/0000_x_rgb.jpg", "fishyscapes_static-v1/0000_x_labels.png"),
    ),
    ("fishyscapes_static-v3", "Mask2Anomaly"): (FISHY, ("0", "fs_static/images/0.jpg", "fs_static/labels_masks/0.png")),
    ("fishyscapes_static-v3", "anomaly_datasets"): (FISHY, ("x", "fs_static/x.jpg", "fs_static/x.png")),
    ("anomaly_track-val", "published"): (
        FISHY,
        (
            "validation0000",
            "dataset_AnomalyTrack/images/validation0000.jpg",
            "dataset_AnomalyTrack/labels_masks/validation0000_labels_semantic.png",
        ),
    ),
    ("anomaly_track-val", "Mask2Anomaly"): (
        FISHY,
        ("0", "RoadAnomaly21/images/0.png", "RoadAnomaly21/labels_masks/0.png"),
    ),
    ("obstacle_track-val", "published"): (
        FISHY,
        (
            "validation_2",
            "dataset_ObstacleTrack/images/validation_2.webp",
            "dataset_ObstacleTrack/labels_masks/validation_2_labels_semantic.png",
        ),
    ),
    ("obstacle_track-val", "Mask2Anomaly"): (
        FISHY,
        ("0", "RoadObsticle21/images/0.webp", "RoadObsticle21/labels_masks/0.png"),
    ),
    ("lost_and_found-test", "published"): (
        LAF,
        (
            "01_S_000001_000240",
            "LostAndFound/leftImg8bit/test/01_S/01_S_000001_000240_leftImg8bit.png",
            "LostAndFound/gtCoarse/test/01_S/01_S_000001_000240_gtCoarse_labelIds.png",
        ),
    ),
    ("lost_and_found-train_trainids", "published"): (
        (0, 1, 2, 255),
        (
            "01_S_000001_000240",
            "lost_and_found/leftImg8bit/train/01_S/01_S_000001_000240_leftImg8bit.png",
            "lost_and_found/gtCoarse/train/01_S/01_S_000001_000240_gtCoarse_labelTrainIds.png",
        ),
    ),
    ("street_hazards", "published"): (
        HAZARDS,
        ("t5/1", "street_hazards/test/images/test/t5/1.png", "street_hazards/test/annotations/test/t5/1.png"),
        ("t6/1", "street_hazards/test/images/test/t6/1.png", "street_hazards/test/annotations/test/t6/1.png"),
    ),
    ("street_hazards", "ObsNet"): (
        tuple(range(14)),
        ("1", "StreetHazards/images/test/1.png", "StreetHazards/annotations/test/1.png"),
    ),
    ("street_hazards-t6", "published"): (
        HAZARDS,
        ("t6/1", "test/images/test/t6/1.png", "test/annotations/test/t6/1.png"),
    ),
    ("bdd_anomaly", "published"): (
        (0, 15, 16, 17, 18, 255),
        ("x-1", "bdd100k/seg/images/train/x-1.jpg", "bdd100k/seg/train_labels/train/x-1_train_id.png"),
        ("x-2", "bdd100k/seg/images/val/x-2.jpg", "bdd100k/seg/train_labels/val/x-2_train_id.png"),
    ),
    ("camvid_ood", "published"): (
        CAMVID,
        ("a", "camvid_ood/test_ood/a.png", "camvid_ood/testannot_ood/a.png"),
        ("b", "camvid_ood/test_ood/b.png", "camvid_ood/testannot_ood/b.png"),
    ),
    ("camvid_ood", "folders"): (CAMVID, ("a", "camvid_ood/images/a.jpg", "camvid_ood/labels/a.png")),
    ("small_obstacle-val", "published"): (
        (0, 1, 2, 254),
        ("file_1/a", "small_obstacle/val/file_1/image/a.png", "small_obstacle/val/file_1/labels/a.png"),
    ),
    ("sos", "published"): (
        (0, 253, 254),
        (
            "sequence_001/000008",
            "sos/raw_data/sequence_001/000008_raw_data.jpg",
            "sos/semantic_ood/sequence_001/000008_semantic_ood.png",
        ),
    ),
    ("wos", "Labels and Images"): (
        (0, 1, 2, 200),
        (
            "sequence_001/000008",
            "WOS/Images/sequence_001/000008_raw_data.png",
            "WOS/Labels/sequence_001/000008_semantic_ood.png",
        ),
    ),
    ("cityscapes-val", "mmsegmentation"): (
        (0, 18, 255),
        (
            "ulm_0",
            "cityscapes/leftImg8bit/val/ulm/ulm_0_leftImg8bit.png",
            "cityscapes/gtFine/val/ulm/ulm_0_gtFine_labelTrainIds.png",
        ),
    ),
    ("camvid-test", "mmsegmentation"): ((0, 11), ("a", "camvid/images/test/a.jpg", "camvid/annotations/test/a.png")),
    ("ade20k-validation", "mmsegmentation"): (
        (0, 150),
        (
            "ADE_val_1",
            "ade/ADEChallengeData2016/images/validation/ADE_val_1.jpg",
            "ade/ADEChallengeData2016/annotations/validation/ADE_val_1.png",
        ),
    ),
    ("coco_stuff10k-test2014", "mmsegmentation"): (
        (0, 170, 255),
        (
            "COCO_1",
            "coco_stuff10k/images/test2014/COCO_1.jpg",
            "coco_stuff10k/annotations/test2014/COCO_1_labelTrainIds.png",
        ),
    ),
    ("street_hazards_closed-training", "mmsegmentation"): (
        (1, 13),
        (
            "t1-3/1",
            "street_hazards/train/images/training/t1-3/1.png",
            "street_hazards/train/annotations/training/t1-3/1.png",
        ),
    ),
    ("bdd100k-val", "mmsegmentation"): (
        (0, 18, 255),
        ("x-1", "bdd100k/images/10k/val/x-1.jpg", "bdd100k/labels/sem_seg/masks/val/x-1.png"),
    ),
}


def plant(root: Path, name: str, layout: str, values: Sequence[int] | None = None) -> tuple[str, ...]:
    """Write a set in one of its layouts; give the names of its frames."""
    published, *frames = LAYOUTS[name, layout]
    for seed, (_, image, label_map) in enumerate(frames):
        write(root / image, photo(seed))
        write(root / label_map, label(published if values is None else values))
    return tuple(frame for frame, _, _ in frames)
