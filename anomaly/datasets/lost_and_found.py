"""LostAndFound: videos of small obstacles on the road. Results depend on the selection of frames and labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from anomaly.datasets.download import Download
from anomaly.datasets.entry import CatalogEntry
from anomaly.datasets.layout import Encoding, Layout
from anomaly.frames import ANOMALY, IGNORE, KNOWN

_URL = "http://www.dhbw-stuttgart.de/~sgehrig/lostAndFoundDataset/"
LABEL_IDS: Encoding = {0: IGNORE, 1: KNOWN, **dict.fromkeys(range(2, 44), ANOMALY)}
TRAIN_IDS: Encoding = {0: KNOWN, 1: KNOWN, 2: ANOMALY, 255: IGNORE}
_ROI = ("LAF_roi_2048.png",)
_KNOWN_THING = "shows people or bicycles, which are known classes"
_NO_KNOWN = {
    "15_Rechbergstr_Deckenpfronn": _KNOWN_THING,
    "01_Hanns_Klemm_Str_45_000006": _KNOWN_THING,
    "01_Hanns_Klemm_Str_45_000007": _KNOWN_THING,
    "10_Schlossberg_9_000004": _KNOWN_THING,
}
_INVALID = {
    "train": (44, 67, 88, 109, 131, 614),
    "test": (17, 37, 55, 72, 91, 110, 129, 153, 174, 197, 218, 353, 490, 618, 686, 792, 793),
}
_TOTAL = {"train": 1036, "test": 1203}


def _layout(part: str, kind: str) -> Layout:
    return Layout(
        "published",
        f"gtCoarse/{part}/{{scene}}/{{id}}_gtCoarse_{kind}.png",
        (f"leftImg8bit/{part}/{{scene}}/{{id}}_leftImg8bit.*",),
    )


def _lost_and_found(part: str) -> CatalogEntry:
    return CatalogEntry(
        name=f"lost_and_found-{part}",
        title=f"LostAndFound, {part}",
        layouts=(_layout(part, "labelIds"),),
        encoding=LABEL_IDS,
        folders=("lost_and_found", "LostAndFound", "dataset_LostAndFound", "."),
        home="https://wwwlehre.dhbw-stuttgart.de/~sgehrig/lostAndFoundDataset/index.html",
        citation="Pinggera et al., Lost and Found: Detecting Small Road Hazards for Self-Driving Vehicles, IROS 2016",
        licence="not found",
        frames=_TOTAL[part],
        total=_TOTAL[part],
        sizes=((2048, 1024),),
        downloads=(
            Download(
                _URL + "gtCoarse.zip",
                "gtCoarse.zip",
                size=37756896,
                sha256="53b6d3ab000f08b1fb59d70c1398eecc4d82a7baf4e9cf74fbf60d1858abe9ac",
            ),
            Download(
                _URL + "leftImg8bit.zip",
                "leftImg8bit.zip",
                size=5802953400,
                sha256="307f66002023ab597d309963b94990f5b9a8e5735ee729c3292647a66e9f2b18",
                md5="08eaa79ce05126f6bd22a3ca563746d0",
            ),
        ),
        pitfalls=(
            "labelIds mark objects that are no hazard (ids 31, 33, 34, 36 to 39) as anomalies; trainIds map them to 0.",
            "Some label maps are empty; `_valid` leaves these frames out (1030 and 1186 remain).",
            "The PNG files have a gamma chunk, which some readers apply. Here the stored values are used.",
            "Everything off the road is 0 (ignored): only road pixels count, except in `_roi`, which uses a mask.",
        ),
    )


def _subsets(part: str) -> tuple[CatalogEntry, ...]:
    whole = _lost_and_found(part)
    invalid = {"its label map is empty": _INVALID[part]}

    def subset(suffix: str, frames: int, excluded: Mapping[str, str] | None = None) -> CatalogEntry:
        return replace(
            whole,
            name=f"{whole.name}_{suffix}",
            title=f"{whole.title}, {suffix.replace('_', ' ')}",
            frames=frames,
            excluded_places=invalid,
            excluded=excluded or {},
        )

    valid = subset("valid", _TOTAL[part] - len(_INVALID[part]))
    train_ids = replace(
        whole,
        name=f"{whole.name}_trainids",
        title=f"{whole.title}, trainIds",
        layouts=(_layout(part, "labelTrainIds"),),
        encoding=TRAIN_IDS,
    )
    roi = replace(valid, name=f"{whole.name}_roi", title=f"{whole.title}, the whole image counts", roi=_ROI)
    return (whole, valid, train_ids, roi, *((subset("no_known", 1043, _NO_KNOWN),) if part == "test" else ()))


SETS = (*_subsets("test"), *_subsets("train"))
