"""Colours that are distinguishable with any kind of colour vision."""

from __future__ import annotations

RGB = tuple[int, int, int]

# Okabe & Ito, Color Universal Design (2008)
BLUE: RGB = (0, 114, 178)
ORANGE: RGB = (230, 159, 0)
GREEN: RGB = (0, 158, 115)
PURPLE: RGB = (204, 121, 167)
SKY: RGB = (86, 180, 233)
VERMILION: RGB = (213, 94, 0)
YELLOW: RGB = (240, 228, 66)
GREY: RGB = (128, 128, 128)
OKABE_ITO = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW)

# Each is as far as possible from those before it, in CIELAB, for normal, deuteranopic and protanopic vision.
CLASSES: tuple[RGB, ...] = (
    (75, 120, 165), (255, 210, 75), (135, 0, 0), (135, 240, 195), (0, 45, 150),
    (105, 15, 60), (210, 135, 90), (120, 225, 255), (150, 135, 255), (150, 120, 120),
    (225, 225, 135), (165, 135, 0), (45, 60, 120), (90, 90, 60), (120, 165, 180),
    (150, 165, 240), (15, 90, 105), (90, 90, 180), (150, 90, 15), (180, 165, 135),
)  # fmt: skip

INK: RGB = (38, 42, 52)
PAPER: RGB = (214, 214, 220)


def hexadecimal(colour: RGB) -> str:
    """Format a colour for matplotlib, such as ``#0072b2``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def series(count: int) -> list[str]:
    """Return ``count`` colours for curves, formatted for matplotlib; they repeat after seven."""
    return [hexadecimal(OKABE_ITO[place % len(OKABE_ITO)]) for place in range(count)]
