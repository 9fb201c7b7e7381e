"""Scores from class densities over the embedding."""

from __future__ import annotations

from torch import Tensor


def gmm_nll(class_log_likelihood: Tensor) -> Tensor:
    """Negative of the largest class log-likelihood, ``-max_c log p(x|c)`` (Liang et al., NeurIPS 2022).

    Args:
        class_log_likelihood: Log-density of each pixel's embedding under each class's mixture, in nats,
            before any normalisation over classes; finite.

    Shape:
        ``(B, C, H, W)`` -> ``(B, H, W)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    return -class_log_likelihood.amax(dim=1).float()
