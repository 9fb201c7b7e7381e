"""The canvas, painted from back to front: colours with antialiased edges, class indices and depths with hard edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from anomaly.datasets.synthetic.camera import Camera
from anomaly.datasets.synthetic.classes import NOTHING
from anomaly.datasets.synthetic.light import Light

_SHIFT = 4

Points = npt.NDArray[np.floating]


def _fixed(points: npt.ArrayLike) -> npt.NDArray[np.int32]:
    # OpenCV counts from pixel centres, the camera from pixel corners, half a pixel apart.
    return (np.asarray(points) * (1 << _SHIFT) - (1 << _SHIFT) / 2).astype(np.int32)


class Canvas:
    """Image, label and depth of one scene. It starts empty; paint distant objects first.

    Attributes:
        image: RGB image without haze and lens effects. Shape ``(H, W, 3)``, uint8.
        label: Class indices. Shape ``(H, W)``, uint8.
        depth: Distance from the camera in metres. Shape ``(H, W)``, float32.
    """

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera = camera
        self.light = light
        self.image: npt.NDArray[np.uint8] = np.zeros((*camera.size, 3), np.uint8)
        self.label: npt.NDArray[np.uint8] = np.full(camera.size, NOTHING, np.uint8)
        self.depth: npt.NDArray[np.float32] = np.full(camera.size, 1e4, np.float32)

    def pen(self, depth: float, label: int) -> Pen:
        """Return a pen for one object at a distance of ``depth`` metres."""
        return Pen(self, depth, label)


@dataclass(frozen=True)
class Board:
    """Paints flat shapes on an upright plane that faces the camera; points are ``(right, up)`` in metres."""

    pen: Pen
    foot: npt.NDArray[np.float64]
    scale: float

    def fill(self, shape: npt.ArrayLike, colour: npt.ArrayLike) -> None:
        """Fill a shape ``(N, 2)`` with class and colour, as :meth:`Pen.fill` does."""
        self.pen.fill(self.foot + np.asarray(shape) * (self.scale, -self.scale), colour)

    def detail(self, shape: npt.ArrayLike, colour: npt.ArrayLike) -> None:
        """Fill a shape ``(N, 2)`` with colour only, as :meth:`Pen.detail` does."""
        self.pen.detail([self.foot + np.asarray(shape) * (self.scale, -self.scale)], colour)


@dataclass(frozen=True)
class Pen:
    """Paints one object: ``fill`` and ``stamp`` set class and colour, ``detail`` sets only the colour."""

    canvas: Canvas
    depth: float
    label: int

    def fill(self, points: npt.ArrayLike, colour: npt.ArrayLike) -> None:
        """Fill a polygon given in pixels. Shape ``(N, 2)``."""
        outline = _fixed(points)
        cv2.fillPoly(self.canvas.image, [outline], _rgb(colour), cv2.LINE_AA, _SHIFT)
        cv2.fillPoly(self.canvas.label, [outline], int(self.label), cv2.LINE_8, _SHIFT)
        cv2.fillPoly(self.canvas.depth, [outline], float(self.depth), cv2.LINE_8, _SHIFT)

    def detail(self, polygons: Sequence[npt.ArrayLike] | Points, colour: npt.ArrayLike) -> None:
        """Fill polygons with colour only; they must not overlap, and lie inside an area that this pen has filled."""
        if len(polygons):
            outlines = [_fixed(points) for points in polygons]
            cv2.fillPoly(self.canvas.image, outlines, _rgb(colour), cv2.LINE_AA, _SHIFT)

    def board(self, s: float, z: float) -> Board:
        """Return a board at ``(s, z)``, in metres."""
        column, row, scale = self.canvas.camera.board(s, z)
        return Board(self, np.array([column, row]), scale)

    def stamp(self, colour: npt.NDArray[np.float32], cover: npt.NDArray[np.float32], corners: npt.ArrayLike) -> None:
        """Paint a texture onto a quadrilateral.

        Args:
            colour: Texture, 0..255. Shape ``(h, w, 3)``.
            cover: Opacity, 0 (transparent) to 1; pixels with at least 0.5 get the pen's label. Shape ``(h, w)``.
            corners: Pixels of the top left, top right, bottom right and bottom left corner. Shape ``(4, 2)``.
        """
        quad = np.asarray(corners, dtype=np.float32)
        height, width = self.canvas.label.shape
        left, top = np.maximum(np.floor(quad.min(0)).astype(int) - 1, 0)
        right, bottom = np.minimum(np.ceil(quad.max(0)).astype(int) + 1, (width, height))
        if left >= right or top >= bottom:
            return
        h, w = cover.shape
        source = np.array([(-0.5, -0.5), (w - 0.5, -0.5), (w - 0.5, h - 0.5), (-0.5, h - 0.5)], np.float32)
        matrix = cv2.getPerspectiveTransform(source, quad - np.array([left, top], np.float32) - 0.5)
        size = (int(right - left), int(bottom - top))
        paint = cv2.warpPerspective(colour, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpPerspective(cover, matrix, size)
        box = np.s_[top:bottom, left:right]
        under = self.canvas.image[box].astype(np.float32)
        blend = under + alpha[..., None] * (paint - under)
        self.canvas.image[box] = np.clip(blend + 0.5, 0, 255).astype(np.uint8)
        self.canvas.label[box][alpha >= 0.5] = self.label
        self.canvas.depth[box][alpha >= 0.5] = self.depth


def _rgb(colour: npt.ArrayLike) -> tuple[float, ...]:
    return tuple(np.asarray(colour, dtype=np.float64).tolist())
