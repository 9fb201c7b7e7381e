"""The table of post-processing steps by name.

To add a step, write a function in a module of this folder, its test, and a line in this table. This module does not
import OpenCV: the function of a step is imported when it is first called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import Image, ScoreMap
from anomaly.utils import devices
from anomaly.utils.lazy import LazyFunction
from anomaly.utils.names import by_name
from anomaly.utils.parameters import bind, parse_call

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Context:
    """Inputs of a step besides the score.

    Args:
        frame: Name of the frame.
        image: RGB image. Shape ``(H, W, 3)``, uint8.
        classes: Class index that the network predicts for each pixel, an array, or a tensor on a GPU; ``None`` if
            there is none. Shape ``(H, W)``.
        class_names: Names of the classes.
    """

    frame: str
    image: Image
    classes: npt.NDArray[np.integer] | Tensor | None = None
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A kind of post-processing.

    Args:
        name: Name on the command line and in results.
        function: Function of the score map and the fields of a :class:`Context` that it ``needs``, with parameters as
            keyword arguments.
        needs: Names of these fields.
        source: Paper that introduced it.
        on_device: The same function of a score map on a GPU, a tensor; None moves the map to the CPU and back.
    """

    name: str
    function: Callable[..., ScoreMap]
    needs: tuple[str, ...]
    source: str
    on_device: Callable[..., Tensor] | None = None


def _lazy(place: str) -> LazyFunction:
    """Refer to a function of a module of this folder as ``"module:function"``, imported on first use."""
    return LazyFunction(f"anomaly.postprocessing.{place}")


def _step(name: str, module: str, needs: tuple[str, ...], source: str) -> Step:
    """A step whose function, and its twin in ``on_device.py``, have the name of the step."""
    return Step(name, _lazy(f"{module}:{name}"), needs, source, _lazy(f"on_device:{name}"))


STEPS: dict[str, Step] = by_name(
    (
        _step("boundary", "boundary", ("classes",), "Jung et al., ICCV 2021"),
        _step("dilated_smoothing", "smoothing", (), "Jung et al., ICCV 2021"),
        _step("smooth", "smoothing", (), "Gaussian filter"),
        _step("guided", "guided", ("image",), "He et al., TPAMI 2013"),
        _step("roi", "masks", ("frame",), "region of interest"),
        _step("never", "masks", ("classes", "class_names"), "classes that are never anomalous"),
    ),
    "steps",
)


@dataclass(frozen=True)
class Chain:
    """A sequence of steps; an empty chain does not change scores.

    Args:
        name: Text from which it was parsed, as results record it.
        steps: Kind of each step, and its function with parameters.
    """

    name: str = ""
    steps: tuple[tuple[Step, partial[ScoreMap]], ...] = field(default=(), compare=False)

    @property
    def needs(self) -> set[str]:
        """Fields of a :class:`Context` that its steps need."""
        return {name for step, _ in self.steps for name in step.needs}

    def __call__(self, score: Any, context: Context) -> Any:
        """Post-process a score map; one on a GPU is post-processed there.

        Args:
            score: Score map, an array or a tensor. Shape ``(H, W)``, float32.
            context: Frame, image and classes.

        Returns:
            Score map, an array or a tensor as the one given. Shape ``(H, W)``, float32.

        Raises:
            InputError: A step needs predicted classes and there are none (stored scores have none), or a step fails.
        """
        if "classes" in self.needs and context.classes is None:
            raise InputError(
                f"post-processing {self.name!r} needs the network's classes, and stored scores have none; give a "
                "model, or choose steps that need no classes"
            )
        for step, function in self.steps:
            given = [getattr(context, name) for name in step.needs]
            if not devices.on_device(score):
                score = function(score, *given).astype(np.float32, copy=False)
            elif step.on_device is not None:
                score = step.on_device(score, *given, **function.keywords)
            else:
                score = _moved(function(*map(devices.to_numpy, (score, *given))), score)
        return score


def _moved(values: ScoreMap, score: Tensor) -> Tensor:
    """Bring the result of a step to the device of the score that it was computed from."""
    import torch

    return torch.from_numpy(values.astype(np.float32, copy=False)).to(score.device)


def parse_chain(text: str) -> Chain:
    """Parse a chain such as ``boundary,smooth:sigma=2``.

    Args:
        text: Steps ``STEP`` or ``STEP:KEY=VALUE``, separated by commas; ``none`` for a chain without steps.

    Raises:
        InputError: A step is unknown (the message lists all steps, the closest first), or a parameter is unknown or
            out of range.
    """
    if text == "none":
        return Chain()
    return Chain(text, tuple(_parse_step(word) for word in text.split(",")))


def _parse_step(text: str) -> tuple[Step, partial[ScoreMap]]:
    name, words = parse_call(text, "post-processing")
    if name not in STEPS:
        closest = sorted(STEPS, key=lambda known: -SequenceMatcher(None, name, known).ratio())
        raise InputError(f"unknown post-processing {name!r}; the steps are {', '.join(closest)}")
    step = STEPS[name]
    values = bind(step.function, words, f"post-processing {name}")
    if not {"frame", "class_names"} & set(step.needs):  # reports values out of range before any frame is read
        blank = Context("", np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.int64))
        step.function(np.zeros((1, 1), np.float32), *(getattr(blank, need) for need in step.needs), **values)
    return step, partial(step.function, **values)
