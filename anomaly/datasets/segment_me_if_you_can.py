"""AnomalyTrack and ObstacleTrack of SegmentMeIfYouCan, of which only the validation labels are public."""

from __future__ import annotations

from collections.abc import Mapping

from anomaly.datasets.download import Download
from anomaly.datasets.entry import CatalogEntry
from anomaly.datasets.fishyscapes_lost_and_found import ENCODING
from anomaly.datasets.layout import Layout

HOME = "https://segmentmeifyoucan.com/datasets"
CITATION = "Chan et al., SegmentMeIfYouCan: A Benchmark for Anomaly Segmentation, NeurIPS 2021 Datasets and Benchmarks"
_MASKS = Layout("published", "labels_masks/{id}_labels_semantic.png", ("images/{id}.*",))
_PLAIN = Layout("Mask2Anomaly", "labels_masks/{id}.png", ("images/{id}.*",), numbered=True)
_SCENES = {
    "curvy": ("curvy-street",),
    "darkasphalt": ("darkasphalt_",),
    "darkasphalt_dog": ("darkasphalt2",),
    "darkasphalt_all": ("darkasphalt_", "darkasphalt2"),
    "gravel": ("gravel",),
    "greyasphalt": ("greyasphalt",),
    "motorway": ("motorway",),
    "paving": ("paving",),
    "shiny": ("one-way-street",),
}
_LEFT_OUT = "not among the 30 official validation frames"


def _anomaly_track(part: str, frames: int, hidden: bool) -> CatalogEntry:
    return CatalogEntry(
        name=f"anomaly_track-{part}",
        title=f"SegmentMeIfYouCan AnomalyTrack (RoadAnomaly21), {part}",
        layouts=(_MASKS, _PLAIN),
        encoding=ENCODING,
        folders=(
            "anomaly_track",
            "anomaly_track/dataset_AnomalyTrack",
            "dataset_AnomalyTrack",
            "segment_me/dataset_AnomalyTrack",
            "RoadAnomaly21",
            ".",
        ),
        home=HOME,
        citation=CITATION,
        licence="LICENSE.txt in the archive",
        frames=frames,
        sizes=((2048, 1024), (1280, 720)),
        every_frame=not hidden,
        hidden=hidden,
        excluded={"validation": "belongs to the validation split"} if hidden else {},
        downloads=(
            Download("https://zenodo.org/record/5270237/files/dataset_AnomalyTrack.zip", "dataset_AnomalyTrack.zip"),
        ),
        pitfalls=(
            "Labels of the 100 test images are not public; code that reads them as zeros reports an AP of about 6 %.",
            "RbA resizes images and labels to 1280x720, which gives other results than full size.",
        ),
    )


def _obstacle_track(
    part: str, frames: int | None, only: tuple[str, ...], excluded: Mapping[str, str] | None = None
) -> CatalogEntry:
    return CatalogEntry(
        name=f"obstacle_track-{part}",
        title=f"SegmentMeIfYouCan ObstacleTrack (RoadObstacle21), {part}",
        layouts=(_MASKS, _PLAIN),
        encoding=ENCODING,
        folders=(
            "obstacle_track",
            "obstacle_track/dataset_ObstacleTrack",
            "dataset_ObstacleTrack",
            "RoadObstacle21",
            "RoadObsticle21",
            ".",
        ),
        home=HOME,
        citation=CITATION,
        licence="image-sources.txt in the archive",
        frames=frames,
        sizes=((1920, 1080),),
        hidden=part != "val",
        only=only,
        excluded=excluded or {},
        downloads=(
            Download("https://zenodo.org/record/5281633/files/dataset_ObstacleTrack.zip", "dataset_ObstacleTrack.zip"),
        ),
        pitfalls=(
            "Everything off the road is 255 (ignored): only road pixels count.",
            "The test split is 327 of the images in the archive; night and snowstorm are separate splits.",
            "Some copies name the folder RoadObsticle21.",
        ),
    )


_NIGHT, _SNOW = ("driveway",), ("snowstorm1", "snowstorm2")
SETS = (
    _anomaly_track("val", 10, hidden=False),
    _anomaly_track("test", 100, hidden=True),
    _obstacle_track(
        "val",
        30,
        ("validation_",),
        {f"validation_{number}": _LEFT_OUT for number in (19, *range(21, 30))},
    ),
    _obstacle_track("test", 327, tuple(scene for scenes in _SCENES.values() for scene in scenes)),
    _obstacle_track("night", 30, _NIGHT),
    _obstacle_track("snowstorm", 55, _SNOW),
    *(_obstacle_track(part, None, only) for part, only in _SCENES.items()),
)
