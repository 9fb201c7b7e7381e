"""Checks of what a network returns, before anything is computed from it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from anomaly.errors import InputError
from anomaly.models.base import MAPS, PLAIN_MAPS

ROUNDING = 1e-2
"""How far the class probabilities of a query may be from a sum of 1: bfloat16 has 8 bits."""


def as_float32(values: Tensor, name: str, what: str = "model") -> Tensor:
    """Convert a field of a prediction to float32; a type of fewer digits causes a warning, because its values tie.

    Args:
        values: The field, of any float type.
        name: Its name, for the warning.
        what: What returned it, for the warning.

    Raises:
        InputError: It is of no float type.
    """
    if not values.dtype.is_floating_point:
        raise InputError(f"{what}: expected {name} of a float type, found {values.dtype}; return them as floats")
    if values.dtype in (torch.bfloat16, torch.float16):
        warnings.warn(
            f"{what}: the {name} are {str(values.dtype).removeprefix('torch.')}, so that many pixels have equal scores "
            "and metrics are inaccurate; use precision float32 and weights in float32",
            stacklevel=3,
        )
    return values.float()


class MapChecks:
    """Checks of what one network returns: shapes, probabilities, and that the number of classes stays the same.

    Args:
        classes: Names of the classes; empty if they are not known.
        what: What returns the maps, for messages.
    """

    def __init__(self, classes: Sequence[str], what: str = "model") -> None:
        self._classes, self._what = classes, what
        self._count: int | None = None

    def __call__(self, maps: Mapping[str, Tensor], count: int) -> None:
        """Check the maps of ``count`` inputs; probabilities in place of logits cause a warning, at the first inputs.

        Raises:
            InputError: A map is none, or there were other numbers of classes before.
        """
        found = check_maps(maps, count, self._classes, self._what)
        if self._count is None:
            _tell_probabilities(maps, self._what)
        elif self._count != found:
            raise InputError(
                f"{self._what}: expected the same classes for every input, found {self._count} and then {found}; the "
                "classes are the second dimension of logits, (B, C, h, w)"
            )
        self._count = found


def _tell_probabilities(maps: Mapping[str, Tensor], what: str) -> None:
    """Warn of logits that look like the output of a softmax, and masks that look like that of a sigmoid."""
    logits, masks = maps.get("logits"), maps.get("mask_logits")
    if logits is not None and logits.min() >= 0 and (logits.sum(1) - 1).abs().max() < ROUNDING:
        warnings.warn(
            f"{what}: the logits of every pixel sum to 1, as probabilities do; return the values before the softmax, "
            "because scores apply it again",
            stacklevel=3,
        )
    if masks is not None and masks.min() >= 0 and masks.max() <= 1:
        warnings.warn(
            f"{what}: the masks are between 0 and 1, as after a sigmoid; return the values before it, because scores "
            "apply it again",
            stacklevel=3,
        )


def check_maps(maps: Mapping[str, Tensor], count: int, classes: Sequence[str], what: str = "model") -> int:
    """Check the shapes of the fields of a prediction, and that probabilities are some.

    Args:
        maps: Fields of :class:`anomaly.Prediction` by name: logits, or both fields of a mask classifier, and others.
        count: Number of inputs, B.
        classes: Names of the classes; empty if they are not known.
        what: What returned the maps, for the message.

    Returns:
        Number of classes.

    Raises:
        InputError: A shape or type is wrong, there is one class or one query, or a number of classes or a probability
            is wrong.
    """
    if "logits" in maps:
        found = _check_logits(maps["logits"], count, classes, what)
    else:
        found = _check_masks(maps["query_class_prob"], maps["mask_logits"], count, classes, what)
    for name, value in maps.items():
        dims = value.ndim == 3 if name in PLAIN_MAPS else value.ndim >= 4
        wrong = name in MAPS and (not dims or len(value) != count)
        if wrong or (name == "class_log_likelihood" and value.shape[1] != found):
            raise InputError(
                f"{what}: expected {name} of {count} inputs and {found} classes, found shape {tuple(value.shape)}"
            )
    return found


def _check_logits(logits: Tensor, count: int, classes: Sequence[str], what: str) -> int:
    shape = tuple(logits.shape)
    if len(shape) != 4 or shape[0] != count or shape[1] < 2:
        raise InputError(
            f"{what}: expected logits (B, C, h, w) of {count} inputs and at least two classes, found shape {shape}"
            + (" (the softmax of one class is 1 everywhere)" if shape[1:2] == (1,) else "")
        )
    if classes and len(classes) != shape[1]:
        raise InputError(
            f"{what}: expected logits of the {len(classes)} classes, found {shape[1]}; name all classes, in their order"
        )
    return shape[1]


def _check_masks(prob: Tensor, masks: Tensor, count: int, classes: Sequence[str], what: str) -> int:
    shape, mask_shape = tuple(prob.shape), tuple(masks.shape)
    if len(shape) != 3 or len(mask_shape) != 4 or shape[:2] != mask_shape[:2] or shape[0] != count:
        raise InputError(
            f"{what}: expected class probabilities (B, Q, C + 1) and masks (B, Q, h, w) of {count} inputs, found "
            f"shapes {shape} and {mask_shape}"
        )
    if shape[1] < 2:
        raise InputError(
            f"{what}: expected a mask classifier of at least two queries, found one, so that every score would be that "
            "of a single mask; use another network"
        )
    if shape[2] < 2 or (classes and shape[2] != len(classes) + 1):
        known = f"{len(classes)} classes" if classes else "at least one class"
        raise InputError(
            f"{what}: expected class probabilities of {known} and of no object, which comes last, found "
            f"{shape[2]} probabilities; a mask classifier without a no-object class is not supported"
        )
    low, high, total = float(prob.min()), float(prob.max()), float((prob.sum(2) - 1).abs().max())
    if low < 0 or high > 1 or total > ROUNDING:  # NaN passes: the check of scores names the frame
        raise InputError(
            f"{what}: expected class probabilities that sum to 1 for each query, found values from {low:.3g} to "
            f"{high:.3g}; return the softmax over all classes and no object"
        )
    return shape[2] - 1
