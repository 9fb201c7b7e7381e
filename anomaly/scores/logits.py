"""Scores from the logits' absolute level, which the softmax throws away, and from their distances."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.errors import InputError
from anomaly.scores.density import top_two_margin


def max_logit(logits: Tensor) -> Tensor:
    """Negative of the largest logit, ``-max_c l_c`` (Hendrycks et al., Scaling OOD detection, ICML 2022).

    Args:
        logits: Class logits of any float type, finite.

    Shape:
        ``(B, C, H, W)`` -> ``(B, H, W)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    return -logits.amax(dim=1).float()


def energy(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Free energy, ``-T log sum_c exp(l_c / T)`` (Liu et al., NeurIPS 2020, eq. 4).

    Args:
        logits: Class logits of any float type, finite.
        temperature: T, above 0.

    Shape:
        ``(B, C, H, W)`` -> ``(B, H, W)``.

    Returns:
        float32, unbounded, higher = more anomalous.

    Raises:
        InputError: The temperature is not above 0.
    """
    if not 0 < temperature < float("inf"):
        raise InputError(f"energy: expected a temperature above 0, found {temperature}")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return -temperature * (logits / temperature).logsumexp(dim=1).float()


def margin(logits: Tensor) -> Tensor:
    """Negative distance of the two largest logits, ``-(l_1 - l_2)`` (Scheffer et al., IDA 2001, as uncertainty).

    Shape:
        ``(B, C, H, W)`` -> ``(B, H, W)``.

    Returns:
        float32, at most 0, higher = more anomalous.

    Raises:
        InputError: There is but one class.
    """
    return -top_two_margin(logits, "margin")
