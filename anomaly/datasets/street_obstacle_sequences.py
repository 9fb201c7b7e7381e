"""Street Obstacle Sequences and Wuppertal Obstacle Sequences: videos in which some frames have labels."""

from __future__ import annotations

from anomaly.datasets.entry import CatalogEntry
from anomaly.datasets.layout import Layout
from anomaly.frames import ANOMALY, IGNORE, KNOWN

PUBLISHED = {0: IGNORE, 253: KNOWN, 254: ANOMALY}
_CITATION = "Maag et al., Two Video Data Sets for Tracking and Retrieval of Out of Distribution Objects, ACCV 2022"


def _sequences(name: str, title: str, frames: int, record: str) -> CatalogEntry:
    return CatalogEntry(
        name=name,
        title=title,
        layouts=(
            Layout(
                "published",
                "semantic_ood/{sequence}/{id}_semantic_ood.png",
                ("raw_data/{sequence}/{id}_raw_data.*",),
                frame="{sequence}/{id}",
            ),
            Layout(
                "Labels and Images",
                "Labels/{sequence}/{id}_semantic_ood.png",
                ("Images/{sequence}/{id}_raw_data.*",),
                frame="{sequence}/{id}",
                encodings={"with obstacles 2 to 200": {0: IGNORE, 1: KNOWN, **dict.fromkeys(range(2, 201), ANOMALY)}},
            ),
        ),
        encoding=PUBLISHED,
        folders=(name, name.upper(), "."),
        home=f"https://zenodo.org/records/{record}",
        citation=_CITATION,
        licence="see its page",
        frames=frames,
        sizes=((1920, 1080),),
        pitfalls=(
            "254 is the anomaly. That 253 is the road and 0 everything else is inferred from the authors' other "
            "datasets; any other value is an error.",
            "Only some frames of each video have labels; the others are not evaluated.",
        ),
    )


SETS = (
    _sequences("sos", "Street Obstacle Sequences", 1129, "7144906"),
    _sequences("wos", "Wuppertal Obstacle Sequences", 938, "12188586"),
)
