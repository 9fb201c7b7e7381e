"""Traffic: cars in lanes and along kerbs, people on pavements and on the road, lamps and signs."""

from __future__ import annotations

import numpy as np

from anomaly.datasets.synthetic.cars import make_car
from anomaly.datasets.synthetic.furniture import make_lamp, make_sign, make_traffic_light
from anomaly.datasets.synthetic.item import Item
from anomaly.datasets.synthetic.light import Light
from anomaly.datasets.synthetic.people import make_person
from anomaly.datasets.synthetic.street import Street


def sample_cars(rng: np.random.Generator, street: Street, light: Light, own_lane: float) -> list[Item]:
    """Draw moving and parked cars; the first metres of the camera's own lane are free."""
    items = []
    for lane in street.lanes:
        z = rng.uniform(9, 40) if lane == own_lane else rng.uniform(7, 35)
        while z < 120:
            heading = 0.0 if lane > 0 else np.pi
            items.append(make_car(rng, lane + rng.uniform(-0.3, 0.3), z, heading + rng.normal(0, 0.03), light))
            z += rng.uniform(8, 60)
    if rng.random() < 0.15:
        turn = rng.choice([-1, 1]) * rng.uniform(1.1, 1.6)
        items.append(make_car(rng, rng.uniform(-2, 4), rng.uniform(10, 30), turn, light))
    for side in (street.left, street.right) if street.parking else ():
        fill = rng.uniform(0.2, 0.9)
        for z in np.arange(rng.uniform(6, 9), 80, 6.2):
            if rng.random() < fill:
                heading = (0.0 if side.sign > 0 else np.pi) + rng.normal(0, 0.03)
                items.append(make_car(rng, side.sign * (side.kerb - 1.1), z + rng.uniform(-0.4, 0.4), heading, light))
    return items


def sample_people(rng: np.random.Generator, street: Street, light: Light) -> list[Item]:
    """Draw people on the pavements, and occasionally on the road."""
    items = []
    for side in (street.left, street.right):
        busy = {"town": 7, "suburb": 2, "park": 3}[side.style]
        for _ in range(rng.poisson(busy)):
            s = side.sign * (side.kerb + rng.uniform(0.5, side.pavement - 0.3))
            items.append(make_person(rng, s, float(np.exp(rng.uniform(np.log(5), np.log(50)))), light))
    for _ in range(rng.poisson(0.5)):
        s = rng.uniform(-street.left.kerb, street.right.kerb)
        items.append(make_person(rng, s, rng.uniform(8, 35), light))
    return items


def sample_furniture(rng: np.random.Generator, street: Street, light: Light) -> list[Item]:
    """Draw lamps in a row and some signs and traffic lights by the kerb."""
    items = []
    step = rng.uniform(16, 30)
    for side in (street.left, street.right):
        if rng.random() < 0.7:
            for z in np.arange(rng.uniform(6, 24), 130, step):
                items.append(make_lamp(rng, side.sign * (side.kerb + 0.45), float(z), light))
        for _ in range(rng.poisson(1.6)):
            z = float(np.exp(rng.uniform(np.log(6), np.log(45))))
            items.append(make_sign(rng, side.sign * (side.kerb + rng.uniform(0.4, 0.9)), z, light))
        if rng.random() < 0.3:
            items.append(make_traffic_light(rng, side.sign * (side.kerb + 0.4), rng.uniform(8, 30), light))
    return items
