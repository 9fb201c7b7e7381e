"""Scores from the softmax over classes, computed so that confident pixels keep their ranks.

Let ``z_c = l_c - max l``, and let ``r`` be the sum of ``exp(z_c)`` over all classes except the predicted one, whose
probability is then ``1 / (1 + r)``. In float32 this rounds to 1 for margins above about 17, so that all confident
pixels would tie. ``r`` keeps its seven digits down to 1e-38, a margin of 87 (``1 - p`` in float64 ends at 37). So
scores are computed from ``r`` and not as a difference from 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.errors import InputError


def msp(logits: Tensor) -> Tensor:
    """One minus the maximum softmax probability, ``1 - max_c p_c = r / (1 + r)``.

    Here r is the sum of ``exp(l_c - max l)`` over all classes except the predicted one.

    Args:
        logits: Class logits of any float type, finite.

    Shape:
        ``(B, C, H, W)`` -> ``(B, H, W)``.

    Returns:
        float32 in ``[0, 1 - 1/C]``, higher = more anomalous. It is 0 only where the margin to every other class is
        above about 87.

    Source: Hendrycks & Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples (ICLR 2017).
    """
    z = _below_top(logits)
    rest = _rest(z, z.exp())
    return (rest / (1 + rest)).float()


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax in nats, ``-sum_c p_c log p_c``.

    It is computed as ``log(1 + r) - sum_c p_c z_c`` with ``z_c = l_c - max l``, and r the sum of ``exp(z_c)`` over all
    classes except the predicted one. Both terms are non-negative, so no digits cancel.

    Args:
        logits: Class logits of any float type, finite.

    Shape:
        ``(B, C, H, W)`` -> ``(B, H, W)``.

    Returns:
        float32 in ``[0, log C]``, higher = more anomalous.

    Source: Hendrycks & Gimpel (ICLR 2017), as a measure of uncertainty.
    """
    z = _below_top(logits)
    odds = z.exp()
    weighted = (z * odds).sum(dim=1)
    rest = _rest(z, odds)
    return (rest.log1p() - weighted / (1 + rest)).float()


def gen(logits: Tensor, *, gamma: float = 0.1, top: int = 100) -> Tensor:
    """Generalised entropy, ``sum_c p_c^gamma (1 - p_c)^gamma`` over the most probable classes.

    Both factors are computed from logarithms, so that confident pixels keep their ranks.

    Args:
        logits: Class logits of any float type, finite.
        gamma: Exponent, in (0, 1).
        top: Number of the most probable classes in the sum; all classes if there are fewer. The paper uses 100.

    Shape:
        ``(B, C, H, W)`` -> ``(B, H, W)``.

    Returns:
        float32 in ``[0, C / 4^gamma]``, higher = more anomalous.

    Raises:
        InputError: A parameter is out of range.

    Source: Liu et al., GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection (CVPR 2023).
    """
    if not 0 < gamma < 1 or top < 1:
        raise InputError(
            f"gen: expected gamma between 0 and 1 and top of 1 or more, found {gamma} and {top}; correct them"
        )
    z = _below_top(logits)
    most = _largest(z, min(top, logits.shape[1]))
    rest = _rest(z, z.exp())[:, None]
    log_p = most - rest.log1p()
    # 1 - p of the predicted class is rest / (1 + rest). For other classes, p is not close to 1.
    log_others = torch.log1p(-log_p.exp().clamp_max(1 - 1e-7))
    log_others[:, :1] = rest.log() - rest.log1p()
    return (gamma * (log_p + log_others)).exp().sum(dim=1).float()


def _below_top(logits: Tensor) -> Tensor:
    """Compute ``z = l - max l`` in float32 or better. Shape ``(B, C, H, W)``."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits - logits.amax(dim=1, keepdim=True)


def _largest(z: Tensor, count: int) -> Tensor:
    """The largest values of each pixel, descending. Shape ``(B, C, H, W)`` -> ``(B, count, H, W)``."""
    if z.device.type != "cpu" or z.requires_grad or count < z.shape[1]:
        return z.topk(count, dim=1).values
    rows = (-z).movedim(1, -1).contiguous().numpy()  # which NumPy sorts five times faster than torch
    rows.sort(axis=-1)
    return -torch.from_numpy(rows).movedim(-1, 1).contiguous()


def _rest(z: Tensor, odds: Tensor) -> Tensor:
    """Compute ``r`` from ``z`` and ``odds = exp(z)``, overwriting both. Shape ``(B, H, W)``.

    If k classes share the largest logit, k - 1 of them count in ``r`` with odds of 1 each.
    """
    top = z.eq_(0)  # 1 or 0
    return odds.sub_(top).sum(dim=1) + (top.sum(dim=1) - 1)
