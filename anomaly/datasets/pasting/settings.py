"""What is pasted, where, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass

from anomaly.errors import InputError
from anomaly.utils.given import real, whole


@dataclass(frozen=True)
class PasteSettings:
    """Which objects are pasted, where, and how.

    Args:
        ground: Classes on which objects stand, such as road and pavement. Empty: they stand anywhere in the lower half.
        known_classes: Classes whose regions are pasted as known objects, such as car and person. Empty: none.
        objects_per_image: Number of cut-outs in an image.
        known_per_image: Number of known objects in an image; ``None``: as many as cut-outs.
        height: Smallest and largest height of an object that stands on the lowest row, as a share of the height of the
            image. It falls linearly to 0 at the horizon.
        horizon: Row of the horizon, as a share of the height of the image from its top.
        matching: How far brightness and colours are matched to the surroundings, 0 (not at all) to 1.
        seed: Seed, 0 or more.

    Raises:
        InputError: A value is out of range.
    """

    ground: tuple[int, ...] = ()
    known_classes: tuple[int, ...] = ()
    objects_per_image: int = 2
    known_per_image: int | None = None
    height: tuple[float, float] = (0.15, 0.45)
    horizon: float = 0.45
    matching: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("ground", "known_classes"):
            classes = getattr(self, name)
            if any(whole(name, index, 0) > 255 for index in classes):
                raise InputError(f"{name}: expected class indices from 0 to 255, found {max(classes)}; correct it")
        whole("objects_per_image", self.objects_per_image, 1, "at least 1 object")
        whole("known_per_image", self.known_count, 0, "0 or more objects")
        whole("seed", self.seed, 0, "a whole number of 0 or more")
        if self.known_per_image and not self.known_classes:
            raise InputError(
                f"known_per_image: expected known_classes too, found none for {self.known_per_image} objects; name them"
            )
        low, high = (real("height", share) for share in self.height)
        if not 0 < low <= high <= 1:
            raise InputError(
                f"height: expected two shares, 0 < smallest <= largest <= 1, found {low:g} and {high:g}; correct them"
            )
        for name, most in (("horizon", 0.95), ("matching", 1)):
            if not 0 <= real(name, getattr(self, name)) <= most:
                raise InputError(
                    f"{name}: expected a number from 0 to {most}, found {getattr(self, name):g}; correct it"
                )

    @property
    def known_count(self) -> int:
        """Number of known objects in an image."""
        if not self.known_classes:
            return 0
        return self.objects_per_image if self.known_per_image is None else self.known_per_image

    def first_row(self, height: float, rows: int, share: float) -> int:
        """First row on which an object has at least a height; the inverse of :meth:`object_height`.

        Args:
            height: The height in pixels.
            rows: Height of the image.
            share: Height of the object on the lowest row, as a share of that of the image.
        """
        horizon = self.horizon * rows
        return math.ceil(horizon + height / (share * rows) * (rows - 1 - horizon))

    def object_height(self, row: float, rows: int, share: float) -> float:
        """Height in pixels of an object that stands on a row.

        Args:
            row: The row, 0 at the top.
            rows: Height of the image.
            share: Height of the object on the lowest row, as a share of that of the image.
        """
        horizon = self.horizon * rows
        return share * rows * max(0.0, (row - horizon) / (rows - 1 - horizon))
