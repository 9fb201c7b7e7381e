"""Checks of the features that densities are fitted to."""

from __future__ import annotations

from torch import Tensor

from anomaly.errors import InputError

ROUNDING = 2.0**-20
"""Relative difference, eight steps of a float32, below which features are equal up to rounding."""


def check_features(what: str, features: Tensor, dim: int | None = None) -> Tensor:
    """Check features and return them in float64.

    Args:
        what: What is fitted to them, for the message.
        features: Features of pixels. Shape ``(n, D)``.
        dim: Expected size of a feature; ``None`` accepts any.

    Raises:
        InputError: There is no pixel, a value is not finite, or the features have another size.
    """
    shape = tuple(features.shape)
    if len(shape) != 2 or (dim is not None and shape[1] != dim):
        raise InputError(
            f"{what}: expected features of shape (n, {'D' if dim is None else dim}), found {shape}; give those of "
            "other pixels"
        )
    if not len(features):
        raise InputError(f"{what}: expected features of at least one pixel, found none; fit it to other images")
    wrong = len(features) - int(features.isfinite().all(1).sum())
    if wrong:
        raise InputError(
            f"{what}: expected finite features, found NaN or infinity in {wrong} of {len(features)} pixels; check the "
            "network that gives them"
        )
    return features.double()
