"""Checks that training pixels differ enough to fit a score."""

from __future__ import annotations

from torch import Tensor

from anomaly.errors import InputError

ROUNDING = 2.0**-20
"""Relative difference, eight steps of a float32, below which values are equal up to rounding."""


def rounding_of(values: Tensor) -> float:
    """Return the largest difference that rounding of float32 values can cause; 0 if all values are 0."""
    return ROUNDING * float(values.abs().max())


def cannot_be_fitted(score: str, expected: str, found: str) -> InputError:
    """Return the error for a score that cannot be fitted to the training pixels.

    Args:
        score: Name of the score.
        expected: Description of the pixels that it needs.
        found: Description of the pixels that were found.
    """
    return InputError(
        f"score {score!r}: expected {expected}, found {found}; fit it to more training images, or leave this score out"
    )
