"""Scores from the absolute level of the logits, which the softmax discards, and from their differences."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anomaly.errors import InputError
from anomaly.scores.density import top_two_margin


def max_logit(logits: Tensor) -> Tensor:
    """Negative of the largest logit, ``-max_c l_c``.

    Args:
        logits: Class logits of any float type, finite.

    Shape:
        ``(B, C, H, W)`` -> ``(B, H, W)``.

    Returns:
        float32, unbounded, higher = more anomalous.

    Source: Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings (ICML 2022).
    """
    return -logits.amax(dim=1).float()


def energy(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Free energy, ``-T log sum_c exp(l_c / T)``, plus the constant ``(T - 1) log C``.

    The constant, 0 at T = 1, changes no rank. It keeps the digits that distinguish pixels in float32 for large T.

    Args:
        logits: Class logits of any float type, finite.
        temperature: Temperature T, from 0.001 to 1000. Far below 1 the largest logit decides, far above 1 their mean.

    Shape:
        ``(B, C, H, W)`` -> ``(B, H, W)``.

    Returns:
        float32, unbounded, higher = more anomalous.

    Raises:
        InputError: The temperature is out of range.

    Source: Liu et al., Energy-based Out-of-distribution Detection (NeurIPS 2020), eq. 4.
    """
    if not 1e-3 <= temperature <= 1e3:
        raise InputError(f"energy: expected a temperature from 0.001 to 1000, found {temperature}; choose another")
    least = torch.float32 if temperature == 1 else torch.float64
    logits = logits.to(torch.promote_types(logits.dtype, least))
    constant = (temperature - 1) * math.log(logits.shape[1])
    return (constant - temperature * (logits / temperature).logsumexp(dim=1)).float()


def margin(logits: Tensor) -> Tensor:
    """Negative difference of the two largest logits, ``-(l_1 - l_2)``.

    Args:
        logits: Class logits of any float type, finite.

    Shape:
        ``(B, C, H, W)`` -> ``(B, H, W)``.

    Returns:
        float32, at most 0, higher = more anomalous.

    Raises:
        InputError: There is only one class.

    Source: Scheffer et al. (IDA 2001), as a measure of uncertainty.
    """
    return -top_two_margin(logits, "margin")
