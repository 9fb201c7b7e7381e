"""Adapter that makes a model of a function from an image to its anomaly score map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anomaly.errors import InputError
from anomaly.frames import Image, plain_array
from anomaly.models.base import Prediction
from anomaly.models.evaluation_mode import evaluation_mode
from anomaly.models.torch import weights_record
from anomaly.models.user_code import user_code


class ScoreModel:
    """Model made of a function that computes an anomaly score map of an image.

    All metrics that do not need classes can be measured. Torch modules that the function uses are in evaluation mode,
    and gradients are off, while it is called.

    Args:
        function: Receives an RGB image ``(H, W, 3)``, uint8, and returns a score for each pixel, ``(h, w)``. Higher =
            more anomalous. A map of another size is resized bilinearly to the image.
        name: Name of the score in tables. Default: the name of the function, or ``"score"`` for a lambda.

    Raises:
        InputError: ``function`` is not callable.

    Examples:
        >>> import numpy as np
        >>> bright = ScoreModel(lambda image: image.mean(2), name="brightness")
        >>> bright(bright.prepare(np.full((4, 6, 3), 9, np.uint8))[None]).score.shape
        torch.Size([1, 4, 6])
    """

    gives = frozenset({"score"})
    classes: tuple[str, ...] = ()

    def __init__(self, function: Callable[[Image], Any], *, name: str | None = None) -> None:
        if not callable(function):
            raise InputError(f"function: expected a function of an image, found {function!r}; pass something callable")
        self._function = function
        own = getattr(function, "__name__", type(function).__name__)
        self.name = str(name or ("score" if own == "<lambda>" else own))

    @property
    def record(self) -> dict[str, str]:
        """Name, type and a hash of the weights that the function uses, for results."""
        return {"name": self.name, "type": "score function", **weights_record(self._function)}

    def prepare(self, image: Image) -> Tensor:
        """Convert an image to a tensor without scaling its values.

        Args:
            image: RGB image. Shape: ``(H, W, 3)``, uint8.

        Returns:
            The values 0 to 255. Shape: ``(3, H, W)``, float32.
        """
        return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float()

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Prediction:
        """Score inputs one by one.

        Args:
            inputs: Images from :meth:`prepare`. Shape: ``(B, 3, h, w)``.

        Raises:
            InputError: The function returns something other than a map of numbers, or maps of several sizes for inputs
                of one size.
        """
        with evaluation_mode(self._function):
            maps = [self._score(each) for each in inputs]
        if len(sizes := sorted({tuple(each.shape) for each in maps})) > 1:
            raise InputError(
                f"{self.name}: expected maps of one size for images of one size, found {sizes[0]} and {sizes[1]}; "
                "return a map of the image's size"
            )
        return Prediction(score=torch.stack(maps))

    def _score(self, inputs: Tensor) -> Tensor:
        image = inputs.permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        with user_code(f"{self.name} on an image of shape {image.shape}"):
            result = self._function(image)
        found = plain_array(self.name, "a score map", result)
        if found.ndim != 2:
            raise InputError(
                f"{self.name}: expected a score map (h, w) of an image of shape {image.shape}, found shape "
                f"{found.shape}; return one number for each pixel"
            )
        return torch.from_numpy(found.astype(np.float32))
