"""Virtual-logit matching: what features have outside the space that training pixels span."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.errors import InputError
from anomaly.scores.sample import PixelSample
from anomaly.scores.spread import ROUNDING, cannot_be_fitted, rounding_of


def vim(features: Tensor, logits: Tensor, *, origin: Tensor, residual: Tensor, alpha: Tensor) -> Tensor:
    """``alpha |R'(f - o)| - log sum_c exp(l_c)`` (Wang et al., ViM, CVPR 2022; ranks as their probability does).

    It departs from the paper in alpha and o (:func:`fit`): a number that is added to the logits of all classes changes
    no softmax, so that training does not fix it, and here it changes no rank either. The paper's alpha is negative
    where it makes the mean of the largest logit so, and the score points downwards then. Of a last layer whose weights
    and biases sum to 0 over classes, alpha and o are the paper's.

    Args:
        features: Finite.
        logits: Finite.
        origin: o.
        residual: R, an orthonormal basis of what lies outside the principal space.
        alpha: Scale, above 0, that makes the norm on training pixels as large as the largest logit is above the mean of
            a pixel's logits.

    Shape:
        ``(B, D, h, w)``, ``(B, C, h, w)``, ``(D,)``, ``(D, K)``, ``()`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    flat = features.float() - origin.to(features)[:, None, None]
    norm = torch.einsum("bdhw,dk->bkhw", flat, residual.to(flat)).norm(dim=1)
    return alpha.to(norm) * norm - logits.float().logsumexp(1)


def check(*, alpha: Tensor | None = None, **_: Tensor) -> None:
    """Refuse statistics that turn the score upside down, as files of earlier versions may hold them.

    Raises:
        InputError: The scale is not above 0.
    """
    if alpha is not None and not alpha > 0:
        raise InputError(
            f"score 'vim': expected statistics with a scale above 0, found {float(alpha):.6g}, by which it would "
            "point downwards, as of an earlier version; fit it again, by anomaly fit-scores"
        )


def fit(sample: PixelSample) -> dict[str, Tensor]:
    """``origin (D,)``, ``residual (D, K)`` and ``alpha ()``.

    The origin is ``-pinv(W) b`` of the last layer where the network has one, both less their means over classes, else
    the mean of the features. The principal space has half as many dimensions as the features (the paper: about half for
    wide networks).

    Raises:
        InputError: No feature has anything outside the principal space, or all logits of a pixel are the same.
    """
    features, weights = sample.rows("features"), sample.weights.double()
    if sample.linear is None:
        origin = weights @ features / weights.sum()
    else:
        weight, bias = (each.double() for each in sample.linear)
        origin = -torch.linalg.pinv(_centred(weight, 0), rtol=ROUNDING) @ _centred(bias, 0)
    away = features - origin
    _, basis = torch.linalg.eigh(away.T @ (weights[:, None] * away) / weights.sum())  # ascending
    residual = basis[:, : max(1, features.shape[1] // 2)]
    norms = (away @ residual).norm(dim=1)
    logits = sample.rows("logits")
    largest = _centred(logits).amax(1)
    if norms.max() <= rounding_of(features):
        expected = f"features that vary in more than {features.shape[1] - residual.shape[1]} directions"
        raise cannot_be_fitted("vim", expected, f"{len(features)} pixels that do not")
    if largest.max() <= rounding_of(logits):
        raise cannot_be_fitted("vim", "logits that differ between classes", f"the same for all {logits.shape[1]}")
    alpha = (weights * largest).sum() / (weights * norms).sum()
    return {"origin": origin.float(), "residual": residual.float(), "alpha": alpha.float()}


def _centred(values: Tensor, classes: int = 1) -> Tensor:
    """Less their mean over classes, which are in that dimension."""
    return values - values.mean(classes, keepdim=True)
