"""The plan of a street: widths of road and pavements, and the surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Style = Literal["town", "suburb", "park"]


@dataclass(frozen=True)
class Side:
    """One side of the street, from the kerb outwards; widths are in metres.

    Args:
        sign: -1 on the left, +1 on the right.
        kerb: Distance from the centre line to the kerb.
        pavement: Width of the pavement.
        verge: Width of the grass between the pavement and the houses, 0 in town.
        style: ``town``, ``suburb`` or ``park``, which decides about houses and plants.
    """

    sign: int
    kerb: float
    pavement: float
    verge: float
    style: Style

    @property
    def wall(self) -> float:
        """Distance from the centre line to the fronts of the houses, in metres."""
        return self.kerb + self.pavement + self.verge


@dataclass(frozen=True)
class Street:
    """Lanes and both sides of a street.

    Args:
        lanes: Centres of the lanes in metres to the right of the centre line; traffic keeps right.
        lane_width: Width of a lane in metres.
        parking: Whether cars park along the kerbs, on strips 2.2 m wide beside the lanes.
        left: The left side.
        right: The right side.
    """

    lanes: tuple[float, ...]
    lane_width: float
    parking: bool
    left: Side
    right: Side


def _side(rng: np.random.Generator, sign: int, kerb: float) -> Side:
    style: Style = rng.choice(["town", "suburb", "park"], p=[0.5, 0.32, 0.18])
    verge = {"town": 0.0, "suburb": rng.uniform(3.0, 9.0), "park": rng.uniform(10.0, 18.0)}[style]
    pavement = rng.uniform(2.2, 4.5) if style == "town" else rng.uniform(1.5, 2.6)
    return Side(sign, kerb, pavement, float(verge), style)


def sample_street(rng: np.random.Generator) -> Street:
    """Draw a street of two to four lanes."""
    width = rng.uniform(2.9, 3.7)
    each_way = 1 if rng.random() < 0.72 else 2
    lanes = tuple((i + 0.5) * width for i in range(-each_way, each_way))
    parking = bool(rng.random() < 0.5)
    kerb = each_way * width + (2.2 if parking else rng.uniform(0.3, 0.9))
    return Street(lanes, width, parking, _side(rng, -1, kerb), _side(rng, 1, kerb))
