"""Small Obstacle Dataset: videos of small obstacles on Indian roads."""

from __future__ import annotations

from anomaly.datasets.entry import CatalogEntry
from anomaly.datasets.layout import Layout
from anomaly.frames import ANOMALY, IGNORE, KNOWN

PUBLISHED = {0: IGNORE, 1: KNOWN, **dict.fromkeys(range(2, 255), ANOMALY)}
ENCODINGS = {"published": PUBLISHED, "rewritten to 0, 1 and 255": {0: KNOWN, 1: ANOMALY, 255: IGNORE}}

SETS = tuple(
    CatalogEntry(
        name=f"small_obstacle-{part}",
        title=f"Small Obstacle Dataset, {part}",
        layouts=(
            Layout(
                "published",
                f"{part}/{{scene}}/labels/{{id}}.png",
                (f"{part}/{{scene}}/image/{{id}}.*",),
                frame="{scene}/{id}",
                encodings=ENCODINGS,
            ),
        ),
        encoding=PUBLISHED,
        folders=("small_obstacle", "Small_Obstacle_Dataset", "."),
        home="https://small-obstacle-dataset.github.io",
        citation="Singh et al., LiDAR guided Small obstacle Segmentation, IROS 2020",
        licence="not found",
        pitfalls=(
            "In the published labels 0 is everything off the road; in copies for SegmentMeIfYouCan it is the road. "
            "Labels with only the values 0 and 1 could be either, and are an error.",
        ),
    )
    for part in ("train", "val", "test")
)
