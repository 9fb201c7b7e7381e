"""Whether training pixels differ enough in what a score measures to learn from them."""

from __future__ import annotations

from torch import Tensor

from anomaly.errors import InputError

ROUNDING = 2.0**-20
"""Eight steps of a float32, as a share of its value: what differs by no more is the same up to rounding."""


def rounding_of(values: Tensor) -> float:
    """The largest difference that rounding of float32 values explains; 0 where all are 0."""
    return ROUNDING * float(values.abs().max())


def cannot_be_fitted(score: str, expected: str, found: str) -> InputError:
    """Say that the training pixels tell nothing about what a score measures: ``expected`` and ``found`` of them."""
    return InputError(
        f"score {score!r}: expected {expected}, found {found}; fit it to more training images, or leave this score out"
    )
