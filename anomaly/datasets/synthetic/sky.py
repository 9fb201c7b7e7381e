"""The sky with clouds, and the skyline at the end of the street."""

from __future__ import annotations

import cv2
import numpy as np

from anomaly.datasets.synthetic.canvas import Canvas
from anomaly.datasets.synthetic.classes import Class
from anomaly.datasets.synthetic.texture import fbm

_SKYLINE = 260.0
"""Distance of the skyline in metres."""


def paint_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the sky down to the horizon: a gradient, the glow of the sun, and clouds."""
    light, camera = canvas.light, canvas.camera
    width, rows = camera.size[1], int(camera.horizon) + 2
    y, x = np.ogrid[:rows, :width]
    fall = np.clip(y / camera.horizon, 0, 1).astype(np.float32) ** 1.5
    glow = np.zeros((rows, width), np.float32)
    if light.sun[2] > 0.2:
        column = camera.centre + camera.focal * light.sun[0] / light.sun[2]
        row = camera.horizon - camera.focal * light.sun[1] / light.sun[2]
        glow = (light.direct * 90 * np.exp(-((x - column) ** 2 + (y - row) ** 2) * (18 / width**2))).astype(np.float32)
    cloud = fbm(rng, (max(4, rows * 2 // 3), width), width / 5, 4)
    # Clouds flatten towards the horizon.
    drawn_out = (np.sqrt(np.linspace(0, 1, rows)) * (len(cloud) - 1)).astype(int)
    cover = np.clip(cloud[drawn_out] / 1.3 + (2.6 * light.clouds - 1.5), 0, 1) * np.float32(0.85)
    bright = np.clip(255 * (light.ambient + light.direct), 120, 250) * (1 - 0.18 * np.clip(cover - 0.4, 0, 1))
    channels = []
    for zenith, skyline, tint in zip(light.zenith, light.skyline, light.tint, strict=True):
        sky = np.float32(zenith) + fall * np.float32(skyline - zenith) + glow * np.float32(tint)
        sky += cover * (0.55 * bright + np.float32(0.45 * skyline) - sky)
        channels.append(cv2.convertScaleAbs(sky.astype(np.float32)))
    canvas.image[:rows] = cv2.merge(channels)
    canvas.label[:rows] = Class.SKY


def paint_skyline(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a distant line of trees with roofs in front of it."""
    camera, light = canvas.camera, canvas.light
    width = camera.size[1]
    columns = np.linspace(-2, width + 2, max(16, width // 3))
    metres = camera.focal / _SKYLINE
    bumps = fbm(rng, (2, len(columns)), 30, 4)[0]
    tops = camera.horizon - metres * np.clip(rng.uniform(8, 20) + 4 * bumps, 3, None)
    foot = camera.horizon + max(1.5, metres * 3)
    outline = np.concatenate([np.column_stack([columns, tops]), [(width + 2, foot), (-2, foot)]])
    trees = canvas.pen(_SKYLINE, Class.VEGETATION)
    trees.fill(outline, light.shade(np.array([62, 84, 48]) * rng.uniform(0.8, 1.2)))
    roofs = canvas.pen(_SKYLINE * 0.8, Class.BUILDING)
    column = -10.0
    while column < width:
        wide = metres * rng.uniform(8, 30)
        if rng.random() < 0.6:
            top = camera.horizon - metres * rng.uniform(8, 45)
            box = [(column, top), (column + wide, top), (column + wide, foot), (column, foot)]
            roofs.fill(box, light.shade(rng.uniform(110, 190) + rng.uniform(-15, 15, 3)))
        column += wide
