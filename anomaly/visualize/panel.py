"""A picture of a frame with image, score and label side by side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import cv2
import matplotlib
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from anomaly.errors import InputError
from anomaly.frames import ANOMALY, IGNORE, KNOWN, Image, Label, ScoreMap
from anomaly.visualize.arrays import as_image, as_label
from anomaly.visualize.heatmap import INFERNO, Heatmap

Pixels = TypeVar("Pixels", Image, ScoreMap)

MAX_HEIGHT, MAX_WIDTH = 288, 400
HEADER, FOOTER, GAP, TEXT = 26, 40, 6, 13
PAPER, INK, FAINT = (255, 255, 255), (30, 30, 34), (110, 110, 118)
LABEL_COLOURS = {KNOWN: (62, 74, 97), ANOMALY: (255, 176, 0), IGNORE: (214, 214, 220)}
LABEL_NAMES = {KNOWN: "known", ANOMALY: "anomaly", IGNORE: "ignored"}


def cell_size(height: int, width: int) -> tuple[int, int]:
    """Compute height and width of a frame in a panel: at most 288 x 400, never enlarged, with the same aspect."""
    scale = min(MAX_HEIGHT / height, MAX_WIDTH / width, 1.0)
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrink(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize an image or score map to ``(height, width)``, by area averages or, to enlarge, bilinearly."""
    height, width = size
    smaller = pixels.shape[0] >= height and pixels.shape[1] >= width
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def shrink_label(label: Label, size: tuple[int, int]) -> Label:
    """Resize a label map to ``(height, width)`` by the nearest pixel, so that no new values appear."""
    return cv2.resize(label, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)


@dataclass(frozen=True)
class Panel:
    """Draws image, heatmap and label side by side, with titles, a colour bar and a legend.

    Args:
        name: Name of the score, written above the heatmap.
        heatmap: Colour scale of the score.
    """

    name: str
    heatmap: Heatmap

    def draw(self, image: Image, score: ScoreMap, label: Label, title: str) -> Image:
        """Draw a frame.

        Args:
            image: RGB image. Shape ``(h, w, 3)``, uint8.
            score: Score map, higher = more anomalous. Shape ``(h, w)``.
            label: ``KNOWN``, ``ANOMALY`` or ``IGNORE`` for each pixel. Shape ``(h, w)``.
            title: Text above the image, such as dataset and frame.

        Returns:
            RGB picture, uint8, larger than three frames side by side by fixed margins.

        Raises:
            InputError: The sizes differ, or an argument is not of this kind.
        """
        image, label = as_image(image, "panel"), as_label(label, "panel")
        if not image.shape[:2] == np.shape(score) == label.shape:
            raise InputError(
                f"panel: expected image, score and label of one size, found {image.shape}, {np.shape(score)} "
                f"and {label.shape}; resize them"
            )
        height, width = label.shape
        canvas = _frame(height, width, self.name, self.heatmap).copy()
        _write(canvas[:HEADER, GAP : GAP + width], title)
        colours = np.zeros((256, 3), np.uint8)
        for value, colour in LABEL_COLOURS.items():
            colours[value] = colour
        for column, cell in enumerate((image, self.heatmap.draw(score), colours[label])):
            left = GAP + column * (width + GAP)
            canvas[HEADER : HEADER + height, left : left + width] = cell
        return canvas


def encode_png(picture: Image) -> bytes:
    """Encode an RGB picture as PNG, with light compression because encoding dominates the cost of a panel."""
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes()


@lru_cache(maxsize=32)
def _frame(height: int, width: int, name: str, scale: Heatmap) -> Image:
    """Draw the parts that all pictures of one size and score share."""
    image = PillowImage.new("RGB", (4 * GAP + 3 * width, HEADER + height + FOOTER), PAPER)
    draw = ImageDraw.Draw(image)
    heat, mask = 2 * GAP + width, 3 * GAP + 2 * width
    top = HEADER + height + GAP
    _text(draw, (heat, HEADER // 2), f"{name}: brighter = more anomalous", width, "lm")
    _text(draw, (mask, HEADER // 2), "label", width, "lm")

    bar = np.broadcast_to(INFERNO[np.linspace(0, 255, width).round().astype(int)], (10, width, 3))
    image.paste(PillowImage.fromarray(np.ascontiguousarray(bar)), (heat, top))
    low, high = scale.low, scale.high
    middle = top + 10 + (FOOTER - GAP - 10) // 2
    for x, anchor, text in (
        (heat, "lm", f"≤ {low:.4g}"),
        (heat + width // 2, "mm", f"{(low + high) / 2:.4g}"),
        (heat + width, "rm", f"≥ {high:.4g}"),
    ):
        _text(draw, (x, middle), text, width // 3, anchor)

    for column, (value, colour) in enumerate(LABEL_COLOURS.items()):
        x = mask + column * width // 3
        draw.rectangle((x, top, x + 10, top + 10), fill=colour, outline=FAINT)
        _text(draw, (x + 16, top + 5), LABEL_NAMES[value], width // 3 - 16, "lm")
    return np.asarray(image)


def _write(strip: Image, text: str) -> None:
    """Write ``text`` into a paper-coloured strip of a canvas, in place."""
    image = PillowImage.new("RGB", (strip.shape[1], strip.shape[0]), PAPER)
    _text(ImageDraw.Draw(image), (0, strip.shape[0] // 2), text, strip.shape[1], "lm")
    strip[:] = np.asarray(image)


def _text(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, room: int, anchor: str) -> None:
    """Write ``text`` at ``at`` in one line, shortened with an ellipsis if it is wider than ``room`` pixels."""
    font = _font()
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if draw.textlength(text, font) > room:
        while text and draw.textlength(text + "…", font) > room:
            text = text[:-1]
        text = text + "…" if text else ""
    draw.text(at, text, INK, font, anchor)


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", TEXT)
