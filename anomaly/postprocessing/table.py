"""Every step of post-processing by name. A new one is a function in a file here, its test and a line of this table.

Nothing here imports OpenCV: a step's function is imported when it is first needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import partial

import numpy as np
import numpy.typing as npt

from anomaly.errors import InputError
from anomaly.frames import Image, ScoreMap
from anomaly.utils.lazy import LazyFunction
from anomaly.utils.names import by_name
from anomaly.utils.parameters import bind, parse_call


@dataclass(frozen=True)
class Context:
    """What a step may want beside the score.

    Args:
        frame: Name of the frame.
        image: RGB image. Shape: ``(H, W, 3)``, uint8.
        classes: The network's class of every pixel, where the chain needs it. Shape: ``(H, W)``.
        class_names: Names of the classes.
    """

    frame: str
    image: Image
    classes: npt.NDArray[np.integer] | None = None
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A kind of post-processing.

    Args:
        name: On the command line and in results.
        function: Takes the score, then the fields of a :class:`Context` that it ``needs``, then parameters by keyword.
        needs: Names of these fields.
        source: The paper it comes from.
    """

    name: str
    function: Callable[..., ScoreMap]
    needs: tuple[str, ...]
    source: str


def _lazy(place: str) -> LazyFunction:
    """A function of a module of this folder, ``"module:function"``."""
    return LazyFunction(f"anomaly.postprocessing.{place}")


STEPS: dict[str, Step] = by_name(
    (
        Step("boundary", _lazy("boundary:boundary"), ("classes",), "Jung et al., ICCV 2021"),
        Step("dilated_smoothing", _lazy("smoothing:dilated_smoothing"), (), "Jung et al., ICCV 2021"),
        Step("smooth", _lazy("smoothing:smooth"), (), "Gaussian filter"),
        Step("guided", _lazy("guided:guided"), ("image",), "He et al., TPAMI 2013"),
        Step("roi", _lazy("masks:roi"), ("frame",), "region of interest"),
        Step("never", _lazy("masks:never"), ("classes", "class_names"), "classes that are never anomalous"),
    ),
    "steps",
)


@dataclass(frozen=True)
class Chain:
    """Steps, one after the other; without any it leaves a score as it is.

    Args:
        name: As it was written, and as results record it.
        steps: Kind and function with its parameters of each.
    """

    name: str = ""
    steps: tuple[tuple[Step, Callable[..., ScoreMap]], ...] = field(default=(), compare=False)

    @property
    def needs(self) -> set[str]:
        """Fields of a :class:`Context` that its steps want."""
        return {name for step, _ in self.steps for name in step.needs}

    def __call__(self, score: ScoreMap, context: Context) -> ScoreMap:
        """Post-process one score map. Shape: ``(H, W)``, float32.

        Raises:
            InputError: There is no class map where one is needed (scores that are stored have none), or a step's own.
        """
        if "classes" in self.needs and context.classes is None:
            raise InputError(
                f"post-processing {self.name!r} needs the network's classes, and stored scores have none; give config "
                "and checkpoint, or choose steps that need none"
            )
        for step, function in self.steps:
            score = function(score, *(getattr(context, name) for name in step.needs)).astype(np.float32, copy=False)
        return score


def parse_chain(text: str) -> Chain:
    """Read ``STEP,STEP:KEY=VALUE`` such as ``boundary,smooth:sigma=2``; ``none`` is the chain without steps.

    Raises:
        InputError: There is no such step (the message lists all, the closest first), or a parameter that it does not
            have or that is out of range.
    """
    if text == "none":
        return Chain()
    return Chain(text, tuple(_parse_step(word) for word in text.split(",")))


def _parse_step(text: str) -> tuple[Step, Callable[..., ScoreMap]]:
    name, words = parse_call(text, "post-processing")
    if name not in STEPS:
        closest = sorted(STEPS, key=lambda known: -SequenceMatcher(None, name, known).ratio())
        raise InputError(f"unknown post-processing {name!r}; the steps are {', '.join(closest)}")
    step = STEPS[name]
    values = bind(step.function, words, f"post-processing {name}")
    if not {"frame", "class_names"} & set(step.needs):  # what is out of range is told before a frame is read
        blank = Context("", np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.int64))
        step.function(np.zeros((1, 1), np.float32), *(getattr(blank, need) for need in step.needs), **values)
    return step, partial(step.function, **values)
