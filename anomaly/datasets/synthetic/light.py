"""Weather and time of day: the effects of sun, sky and air on colours."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Colour = npt.NDArray[np.float64]
"""RGB, 0..255."""

UP = (0.0, 1.0, 0.0)


@dataclass(frozen=True)
class Light:
    """The light of one scene.

    Args:
        sun: Unit vector towards the sun, in road coordinates ``(s, y, z)``.
        direct: Strength of direct sunlight, 0 (overcast) to about 1.
        ambient: Strength of ambient light.
        tint: Colour of sunlight as three factors about 1.
        zenith: Colour of the sky overhead.
        skyline: Colour of the sky at the horizon and of haze.
        clouds: Share of the sky covered by clouds, 0..1.
        haze: Extinction per metre.
        lamps: Whether lamps and windows are lit.
    """

    sun: npt.NDArray[np.float64]
    direct: float
    ambient: float
    tint: Colour
    zenith: Colour
    skyline: Colour
    clouds: float
    haze: float
    lamps: bool

    def shade(self, colour: npt.ArrayLike, normal: Iterable[float] | None = None) -> Colour:
        """Compute the colour of a matt surface; ``normal`` is ``(s, y, z)`` of any length, by default to the camera."""
        return np.asarray(colour, dtype=np.float64) * (self._front if normal is None else self._lit(*normal))

    @cached_property
    def _front(self) -> Colour:
        return self._lit(0.0, 0.25, -0.97)

    def _lit(self, right: float, up: float, ahead: float) -> Colour:
        length = math.sqrt(right * right + up * up + ahead * ahead)
        s, y, z = self.sun.tolist()
        facing = max(right * s + up * y + ahead * z, 0.0) / length
        return self.ambient * (0.88 + 0.12 * up / length) + self.direct * facing * self.tint

    def reach(self, height: float) -> npt.NDArray[np.float64]:
        """Compute the offset ``(s, z)`` of the shadow of a point at a height, in metres, at most 30."""
        shift = -self.sun[[0, 2]] / max(self.sun[1], 0.15) * height
        return shift * min(1.0, 30.0 / max(float(np.hypot(*shift)), 1e-9))


def sample_light(rng: np.random.Generator) -> Light:
    """Draw the light of a clear, cloudy, overcast, golden or dusky hour."""
    kind = rng.choice(["clear", "cloudy", "overcast", "golden", "dusk"], p=[0.3, 0.25, 0.2, 0.15, 0.1])
    low = kind in ("golden", "dusk")
    elevation = np.radians(rng.uniform(10, 25) if low else rng.uniform(30, 65))
    azimuth = rng.uniform(-np.pi, np.pi)
    sun = np.array(
        [np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)],
    )
    direct = {"clear": 0.72, "cloudy": 0.5, "overcast": 0.06, "golden": 0.65, "dusk": 0.08}[kind]
    ambient = {"clear": 0.5, "cloudy": 0.6, "overcast": 0.82, "golden": 0.48, "dusk": 0.48}[kind]
    zenith = {
        "clear": (70, 125, 200),
        "cloudy": (110, 150, 200),
        "overcast": (168, 174, 182),
        "golden": (95, 130, 185),
        "dusk": (62, 74, 120),
    }[kind]
    skyline = {
        "clear": (190, 212, 232),
        "cloudy": (205, 215, 225),
        "overcast": (205, 208, 212),
        "golden": (250, 208, 160),
        "dusk": (205, 150, 135),
    }[kind]
    return Light(
        sun=sun,
        direct=direct * rng.uniform(0.85, 1.15),
        ambient=ambient * rng.uniform(0.9, 1.12),
        tint=np.array([1.18, 1.0, 0.78]) if low else np.array([1.05, 1.0, 0.94]),
        zenith=np.clip(np.array(zenith) + rng.uniform(-12, 12, 3), 0, 255),
        skyline=np.clip(np.array(skyline) + rng.uniform(-10, 10, 3), 0, 255),
        clouds={"clear": 0.15, "cloudy": 0.55, "overcast": 0.9, "golden": 0.35, "dusk": 0.5}[kind]
        * rng.uniform(0.6, 1.1),
        haze=float(np.exp(rng.uniform(np.log(0.0006), np.log(0.009)))),
        lamps=kind == "dusk",
    )
