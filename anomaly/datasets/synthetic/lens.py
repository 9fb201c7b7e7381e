"""Effects of air, lens and sensor on the whole image: haze, exposure, colour cast, blur, vignette and noise."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.datasets.synthetic.canvas import Canvas
from anomaly.datasets.synthetic.classes import Class
from anomaly.datasets.synthetic.texture import noise_tile, tiled


def take_picture(canvas: Canvas, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Render the RGB image of a painted canvas. Shape ``(H, W, 3)``, uint8."""
    height, width = canvas.label.shape
    through = np.exp(np.float32(-canvas.light.haze) * canvas.depth)
    through[canvas.label == Class.SKY] = 1.0
    plaster = tiled(noise_tile(2.0), rng, (height, width)) * (canvas.label == Class.BUILDING)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    vignette = 1 - np.float32(rng.uniform(0, 0.08)) * (x * x + y * y)
    cast = rng.uniform(0.85, 1.15) * (1 + rng.normal(0, 0.03, 3))
    contrast = rng.uniform(0.9, 1.15)
    gain = vignette * through * (1 + np.float32(0.035) * plaster)
    fog = vignette * (1 - through)
    blur = width / 480 * rng.uniform(0.3, 0.7) + 0.15
    grain = rng.uniform(0.8, 3.5)
    channels = []
    for c in range(3):
        scale = np.float32(cast[c] * contrast)
        light = canvas.image[..., c] * (gain * scale)
        light += fog * (scale * np.float32(canvas.light.skyline[c]))
        light += np.float32(118 * (1 - contrast))
        light = cv2.GaussianBlur(light, (0, 0), blur)
        noise = tiled(noise_tile(0.0), rng, (height, width))
        light += noise * (np.float32(grain * 0.7) + light * np.float32(grain / 255))
        channels.append(np.clip(light, 0, 255).astype(np.uint8))
    return cv2.merge(channels)
