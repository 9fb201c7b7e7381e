"""Scores from the softmax over classes. Ranks are the data, so neither is computed as a difference from 1.

With ``z_c = l_c - max l`` and ``r`` the sum of ``exp(z_c)`` over all classes but the winner, the winner's
probability is ``1 / (1 + r)``. In float32 that rounds to 1 from a margin of about 17 upwards and all
confident pixels would tie; ``r`` itself keeps its seven digits down to 1e-38, a margin of 87 (float64's
``1 - p`` ends at 37).
"""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.errors import InputError


def msp(logits: Tensor) -> Tensor:
    """Maximum softmax probability, as ``1 - max_c p_c = r / (1 + r)`` (Hendrycks & Gimpel, ICLR 2017).

    Args:
        logits: Class logits of any float type, finite.

    Shape:
        ``(B, C, H, W)`` -> ``(B, H, W)``.

    Returns:
        float32 in ``[0, 1 - 1/C]``, higher = more anomalous. 0 only where the margin to every other class is
        above 87 or so.
    """
    z = _below_top(logits)
    rest = _rest(z, z.exp())
    return (rest / (1 + rest)).float()


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax in nats, ``-sum_c p_c log p_c`` (Hendrycks & Gimpel, ICLR 2017, as uncertainty).

    Computed as ``log(1 + r) - sum_c p_c z_c``, two terms that are never negative, so nothing cancels.

    Args:
        logits: Class logits of any float type, finite.

    Shape:
        ``(B, C, H, W)`` -> ``(B, H, W)``.

    Returns:
        float32 in ``[0, log C]``, higher = more anomalous.
    """
    z = _below_top(logits)
    odds = z.exp()
    weighted = (z * odds).sum(dim=1)
    rest = _rest(z, odds)
    return (rest.log1p() - weighted / (1 + rest)).float()


def gen(logits: Tensor, *, gamma: float = 0.1, top: int = 100) -> Tensor:
    """Generalised entropy, ``sum_c p_c^gamma (1 - p_c)^gamma`` over the most probable classes (Liu et al., CVPR 2023).

    Both factors are computed from logarithms, so that confident pixels keep their ranks.

    Args:
        logits: Class logits of any float type, finite.
        gamma: In (0, 1).
        top: M, how many of the most probable classes count; the paper takes 100, or all where there are fewer.

    Shape:
        ``(B, C, H, W)`` -> ``(B, H, W)``.

    Returns:
        float32 in ``[0, C / 4^gamma]``, higher = more anomalous.

    Raises:
        InputError: A parameter is out of range.
    """
    if not 0 < gamma < 1 or top < 1:
        raise InputError(f"gen: expected gamma between 0 and 1 and top of 1 or more, found {gamma} and {top}")
    z = _below_top(logits)
    most = z.topk(min(top, logits.shape[1]), dim=1).values  # descending
    rest = _rest(z, z.exp())[:, None]
    log_p = most - rest.log1p()
    # 1 - p of the winner is rest / (1 + rest); of any other it is no difference of nearly equal numbers
    log_others = torch.log1p(-log_p.exp().clamp_max(1 - 1e-7))
    log_others[:, :1] = rest.log() - rest.log1p()
    return (gamma * (log_p + log_others)).exp().sum(dim=1).float()


def _below_top(logits: Tensor) -> Tensor:
    """Give ``z`` (B,C,H,W), in float32 or better."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits - logits.amax(dim=1, keepdim=True)


def _rest(z: Tensor, odds: Tensor) -> Tensor:
    """Give ``r`` (B,H,W) from ``z`` and ``odds = exp(z)``, overwriting both.

    Where k classes share the top, k - 1 of them belong to ``r`` with odds of 1 each.
    """
    top = z.eq_(0)  # 1 or 0
    return odds.sub_(top).sum(dim=1) + (top.sum(dim=1) - 1)
