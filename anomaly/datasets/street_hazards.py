"""StreetHazards: simulated streets with out-of-place objects, in two towns that do not occur in training."""

from __future__ import annotations

from dataclasses import replace

from anomaly.datasets.download import Download
from anomaly.datasets.entry import CatalogEntry
from anomaly.datasets.layout import Encoding, Layout
from anomaly.frames import ANOMALY, IGNORE, KNOWN

_URL = "https://people.eecs.berkeley.edu/~hendrycks/"
CLASSES = (
    "unlabeled",
    "building",
    "fence",
    "other",
    "pedestrian",
    "pole",
    "road line",
    "road",
    "sidewalk",
    "vegetation",
    "car",
    "wall",
    "traffic sign",
)


def _encodings(*ignored: int) -> dict[str, Encoding]:
    """Return the encodings of the published values 1 to 14 and of values less one, with some classes ignored."""
    raw = {value: IGNORE if value in ignored else KNOWN for value in range(1, 14)} | {14: ANOMALY}
    return {"published": raw, "less one": {value - 1: meaning for value, meaning in raw.items()}}


def _layouts(town: str, *ignored: int) -> tuple[Layout, ...]:
    encodings = _encodings(*ignored)
    published = Layout(
        "published",
        f"annotations/test/{town}/{{id}}.png",
        (f"images/test/{town}/{{id}}.*",),
        frame=f"{town}/{{id}}",
        encodings=encodings,
    )
    if town != "{town}":
        return (published,)
    return (published, Layout("ObsNet", "annotations/test/{id}.png", ("images/test/{id}.*",), encodings=encodings))


_TEST = CatalogEntry(
    name="street_hazards",
    title="StreetHazards, test",
    layouts=_layouts("{town}"),
    encoding=_encodings()["published"],
    folders=("street_hazards", "street_hazards/test", "StreetHazards", "StreetHazards/test", "test", "."),
    home="https://github.com/hendrycks/anomaly-seg",
    citation="Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings, ICML 2022",
    licence="not found",
    sizes=((1280, 720),),
    downloads=(
        Download(_URL + "streethazards_train.tar", "streethazards_train.tar", md5="cd2d1a8649848afb85b5059d227d2090"),
        Download(_URL + "streethazards_test.tar", "streethazards_test.tar", md5="8c547c1346b00c21b2483887110bfea7"),
    ),
    pitfalls=(
        "Values are 1 to 14; in code that subtracts 1 the anomaly is 13, which is a traffic sign in the files.",
        "Projects differ on whether `unlabeled` (1) and `other` (4) are known. Here both are; `-no_other` ignores 4 "
        "(as DenseHybrid), `-no_unlabeled` ignores both (as Mask2Anomaly).",
        "Its authors average over images; here all pixels are pooled (conventions `per_image`, `hendrycks`).",
        "The images have an alpha channel, which is dropped.",
        "For open-world IoU, thresholds for each town (`-t5`, `-t6`) are chosen on the other one.",
    ),
)
SETS = (
    _TEST,
    replace(
        _TEST,
        name="street_hazards-no_other",
        title="StreetHazards, test, `other` ignored",
        layouts=_layouts("{town}", 4),
    ),
    replace(
        _TEST,
        name="street_hazards-no_unlabeled",
        title="StreetHazards, test, `unlabeled` and `other` ignored",
        layouts=_layouts("{town}", 1, 4),
    ),
    *(
        replace(_TEST, name=f"street_hazards-{town}", title=f"StreetHazards, town {town[1]}", layouts=_layouts(town, 4))
        for town in ("t5", "t6")
    ),
)
