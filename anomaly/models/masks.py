"""What a mask classifier says of a class at a pixel: the sum over its masks, weighted by their class probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK = 1 << 16  # pixels whose masks are in float64 at a time


def weighted_masks(weights: Tensor, mask_logits: Tensor) -> Tensor:
    """Sum the masks of all queries with one or several weights for each query, in float64.

    With the class probabilities of the queries as weights, these are the class sums ``S_c = sum_q p_q(c) sigmoid(m_q)``
    of a mask classifier. The class with the largest sum is the one that it predicts for a pixel.

    Args:
        weights: Weights of each query. Shape: ``(B, Q, K)``.
        mask_logits: Mask of each query before the sigmoid. Shape: ``(B, Q, h, w)``.

    Returns:
        ``sum_q weights_qk sigmoid(m_q)``. Shape: ``(B, K, h, w)``, float64.

    Source: Cheng et al., Per-Pixel Classification is Not All You Need for Semantic Segmentation (NeurIPS 2021).
    """
    across = weights.double().transpose(1, 2)
    parts = [across @ part.double().sigmoid() for part in mask_logits.flatten(2).split(_CHUNK, dim=2)]
    return torch.cat(parts, dim=2).unflatten(2, mask_logits.shape[2:])
