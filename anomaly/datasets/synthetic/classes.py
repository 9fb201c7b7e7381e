"""Classes of the synthetic street scenes, in the order of their indices, with colours like those of Cityscapes."""

from __future__ import annotations

from enum import IntEnum


class Class(IntEnum):
    """Class indices in label files."""

    ROAD = 0
    LANE_MARK = 1
    PAVEMENT = 2
    BUILDING = 3
    POLE = 4
    SIGN = 5
    VEGETATION = 6
    TERRAIN = 7
    SKY = 8
    PERSON = 9
    CAR = 10


NOTHING = 255
"""Label of pixels without a class, which are those of anomalous objects."""

CLASSES: tuple[str, ...] = tuple(c.name.lower() for c in Class)

PALETTE: tuple[tuple[int, int, int], ...] = (
    (128, 64, 128),
    (255, 255, 255),
    (244, 35, 232),
    (70, 70, 70),
    (153, 153, 153),
    (220, 220, 0),
    (107, 142, 35),
    (152, 251, 152),
    (70, 130, 180),
    (220, 20, 60),
    (0, 0, 142),
)
