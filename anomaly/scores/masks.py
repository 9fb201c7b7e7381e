"""Scores of mask classifiers, such as Mask2Former: networks that predict Q masks, each with class probabilities.

In the formulas, ``p_q(c)`` is the probability of class c for query q, ``m_q`` the mask of the query at the pixel before
the sigmoid, and ``S_c = sum_q p_q(c) sigmoid(m_q)`` the mask-weighted sum of class c. Sums over classes leave out the
no-object class, which is the last one. All sums are computed in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.models.masks import weighted_masks

_TINY = 1e-300


def rba(query_class_prob: Tensor, mask_logits: Tensor) -> Tensor:
    """Rejected by all, ``-sum_c tanh(S_c)``: high where no class is claimed by any mask.

    Args:
        query_class_prob: Class probabilities of each query, the no-object class last. Shape: ``(B, Q, C + 1)``.
        mask_logits: Mask of each query before the sigmoid. Shape: ``(B, Q, h, w)``.

    Returns:
        float32 in ``[-C, 0]``, higher = more anomalous. Shape: ``(B, h, w)``.

    Source: Nayal et al., RbA: Segmenting Unknown Regions Rejected by All (ICCV 2023).
    """
    return -weighted_masks(query_class_prob[..., :-1], mask_logits).tanh().sum(dim=1).float()


def eam(query_class_prob: Tensor, mask_logits: Tensor) -> Tensor:
    """Ensemble over anomaly masks, ``1 - sum_q sigmoid(m_q) max_c p_q(c)``.

    Args:
        query_class_prob: Class probabilities of each query, the no-object class last. Shape: ``(B, Q, C + 1)``.
        mask_logits: Mask of each query before the sigmoid. Shape: ``(B, Q, h, w)``.

    Returns:
        float32, at most 1, higher = more anomalous; negative where several masks overlap. Shape: ``(B, h, w)``.

    Source: Grcic et al., On Advantages of Mask-level Recognition for Outlier-aware Segmentation (CVPRW 2023).
    """
    largest = query_class_prob[..., :-1].amax(dim=2, keepdim=True)
    return (1 - weighted_masks(largest, mask_logits)[:, 0]).float()


def max_class_sum(query_class_prob: Tensor, mask_logits: Tensor) -> Tensor:
    """Negative of the largest mask-weighted sum of a class, ``-max_c S_c``; the counterpart of ``max_logit``.

    Args:
        query_class_prob: Class probabilities of each query, the no-object class last. Shape: ``(B, Q, C + 1)``.
        mask_logits: Mask of each query before the sigmoid. Shape: ``(B, Q, h, w)``.

    Returns:
        float32, at most 0, higher = more anomalous. Shape: ``(B, h, w)``.

    Source: Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings (ICML 2022), on these sums.
    """
    return -weighted_masks(query_class_prob[..., :-1], mask_logits).amax(dim=1).float()


def mask_entropy(query_class_prob: Tensor, mask_logits: Tensor) -> Tensor:
    """Entropy in nats of the sums divided by their total, ``-sum_c s_c log s_c`` with ``s_c = S_c / sum_k S_k``.

    Where no mask claims the pixel at all, it is that of equal shares, ``log C``.

    Args:
        query_class_prob: Class probabilities of each query, the no-object class last. Shape: ``(B, Q, C + 1)``.
        mask_logits: Mask of each query before the sigmoid. Shape: ``(B, Q, h, w)``.

    Returns:
        float32 in ``[0, log C]``, higher = more anomalous. Shape: ``(B, h, w)``.

    Source: Hendrycks & Gimpel (ICLR 2017), on these sums.
    """
    sums = weighted_masks(query_class_prob[..., :-1], mask_logits) + _TINY
    share = sums / sums.sum(dim=1, keepdim=True)
    return -torch.xlogy(share, share).sum(dim=1).float()


def no_object(query_class_prob: Tensor, mask_logits: Tensor) -> Tensor:
    """Sum of the masks, weighted by the probability of the no-object class, ``sum_q p_q(no object) sigmoid(m_q)``.

    Args:
        query_class_prob: Class probabilities of each query, the no-object class last. Shape: ``(B, Q, C + 1)``.
        mask_logits: Mask of each query before the sigmoid. Shape: ``(B, Q, h, w)``.

    Returns:
        float32 in ``[0, Q]``, higher = more anomalous. Shape: ``(B, h, w)``.

    Source: Cheng et al., Per-Pixel Classification is Not All You Need for Semantic Segmentation (NeurIPS 2021), which
        defines the no-object class.
    """
    return weighted_masks(query_class_prob[..., -1:], mask_logits)[:, 0].float()
