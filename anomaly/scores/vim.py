"""Virtual-logit matching: what features have outside the space that training pixels span."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.scores.sample import PixelSample


def vim(features: Tensor, logits: Tensor, *, origin: Tensor, residual: Tensor, alpha: Tensor) -> Tensor:
    """``alpha |R'(f - o)| - log sum_c exp(l_c)`` (Wang et al., ViM, CVPR 2022; ranks as their probability does).

    Args:
        features: Finite.
        logits: Finite.
        origin: o.
        residual: R, an orthonormal basis of what lies outside the principal space.
        alpha: Scale that makes the norm as large as a largest logit on training pixels.

    Shape:
        ``(B, D, h, w)``, ``(B, C, h, w)``, ``(D,)``, ``(D, K)``, ``()`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    flat = features.float() - origin.to(features)[:, None, None]
    norm = torch.einsum("bdhw,dk->bkhw", flat, residual.to(flat)).norm(dim=1)
    return alpha.to(norm) * norm - logits.float().logsumexp(1)


def fit(sample: PixelSample) -> dict[str, Tensor]:
    """``origin (D,)``, ``residual (D, K)`` and ``alpha ()``.

    The origin is ``-pinv(W) b`` of the last layer where the network has one, else the mean of the features. The
    principal space has half as many dimensions as the features (the paper: about half for wide networks).
    """
    features, weights = sample.rows("features"), sample.weights.double()
    if sample.linear is None:
        origin = weights @ features / weights.sum()
    else:
        weight, bias = (each.double() for each in sample.linear)
        origin = -torch.linalg.pinv(weight) @ bias
    away = features - origin
    _, basis = torch.linalg.eigh(away.T @ (weights[:, None] * away) / weights.sum())  # ascending
    residual = basis[:, : max(1, features.shape[1] // 2)]
    norms = (away @ residual).norm(dim=1)
    largest = sample.rows("logits").amax(1)
    alpha = (weights * largest).sum() / (weights * norms).sum().clamp_min(1e-12)
    return {"origin": origin.float(), "residual": residual.float(), "alpha": alpha.float()}
