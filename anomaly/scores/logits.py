"""Scores from the logits' absolute level, which the softmax throws away."""

from __future__ import annotations

import torch
from torch import Tensor


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


def energy(logits: Tensor) -> Tensor:
    """Free energy at temperature 1, ``-log sum_c exp(l_c)`` (Liu et al., NeurIPS 2020, eq. 4).

    Args:
        logits: Class logits of any float type, finite.

    Shape:
        ``(B, C, H, W)`` -> ``(B, H, W)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return -logits.logsumexp(dim=1).float()
