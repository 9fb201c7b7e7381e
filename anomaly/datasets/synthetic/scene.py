"""Rendering of a synthetic street scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomaly.datasets.synthetic.buildings import sample_buildings
from anomaly.datasets.synthetic.camera import sample_camera
from anomaly.datasets.synthetic.canvas import Canvas
from anomaly.datasets.synthetic.classes import NOTHING
from anomaly.datasets.synthetic.ground import cast_shadows, paint_ground
from anomaly.datasets.synthetic.item import Item
from anomaly.datasets.synthetic.lens import take_picture
from anomaly.datasets.synthetic.light import Light, sample_light
from anomaly.datasets.synthetic.oddities import place_oddities
from anomaly.datasets.synthetic.plants import sample_plants
from anomaly.datasets.synthetic.sky import paint_sky, paint_skyline
from anomaly.datasets.synthetic.street import Street, sample_street
from anomaly.datasets.synthetic.traffic import sample_cars, sample_furniture, sample_people
from anomaly.errors import InputError


@dataclass(frozen=True)
class Scene:
    """An image with its labels.

    Args:
        image: RGB image. Shape ``(H, W, 3)``, uint8.
        label: Class indices; 255 for pixels of anomalous objects. Shape ``(H, W)``, uint8.
        anomaly: Whether a pixel belongs to an anomalous object. Shape ``(H, W)``, bool.
    """

    image: npt.NDArray[np.uint8]
    label: npt.NDArray[np.uint8]
    anomaly: npt.NDArray[np.bool_]


def render_scene(seed: int, size: tuple[int, int] = (360, 480), anomalies: int = 0) -> Scene:
    """Render a scene; the same arguments always give the same bytes.

    The street of a seed is the same with and without anomalies, which are added with their shadows.

    Args:
        seed: Seed, 0 or more.
        size: Height and width in pixels, at least 32 each.
        anomalies: Number of anomalous objects to place on and beside the road.

    Raises:
        InputError: An argument is out of range.
    """
    if seed < 0 or anomalies < 0 or min(size) < 32:
        raise InputError(
            f"render_scene: expected seed >= 0, anomalies >= 0 and a size of at least 32x32, "
            f"found seed={seed}, anomalies={anomalies}, size={size[0]}x{size[1]}; correct these values"
        )
    rng = np.random.default_rng([seed, 0])
    street = sample_street(rng)
    own_lane = float(rng.choice([lane for lane in street.lanes if lane > 0]))
    canvas = Canvas(sample_camera(rng, size, own_lane), sample_light(rng))
    houses, things = _sample_items(rng, street, canvas.light, own_lane)
    things += place_oddities(np.random.default_rng([seed, 1]), anomalies, street, canvas.camera, canvas.light, things)
    items = houses + things
    paint_sky(canvas, rng)
    paint_skyline(canvas, rng)
    paint_ground(canvas, street, rng)
    cast_shadows(canvas, [p for i in items for p in i.shadows], [p for i in items for p in i.contacts])
    for item in sorted(items, key=lambda i: -i.z):
        left, _, right, _ = item.box(canvas.camera)
        if right > 0 and left < size[1]:
            item.draw(canvas)
    image = take_picture(canvas, np.random.default_rng([seed, 2]))
    return Scene(image, canvas.label, canvas.label == NOTHING)


def _sample_items(
    rng: np.random.Generator, street: Street, light: Light, own_lane: float
) -> tuple[list[Item], list[Item]]:
    """Draw the houses, and the objects between them."""
    houses, things = [], []
    for side in (street.left, street.right):
        houses += sample_buildings(rng, side, light)
        things += sample_plants(rng, side, light)
    things += sample_cars(rng, street, light, own_lane)
    things += sample_people(rng, street, light)
    things += sample_furniture(rng, street, light)
    return houses, things
