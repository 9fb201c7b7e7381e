"""Virtual-logit matching: the part of features outside the space that training pixels span."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.errors import InputError
from anomaly.scores.sample import PixelSample
from anomaly.scores.spread import ROUNDING, cannot_be_fitted, rounding_of


def vim(features: Tensor, logits: Tensor, *, origin: Tensor, residual: Tensor, alpha: Tensor) -> Tensor:
    """Norm of the feature's residual, less the log-sum of logits: ``alpha |R'(f - o)| - log sum_c exp(l_c)``.

    Its ranks are those of the probability in the paper, with a different choice of alpha and o (see :func:`fit`). A
    number added to the logits of all classes does not change the softmax, so training does not determine it; here it
    changes no rank either. The alpha of the paper is negative where such a number makes the mean of the largest logit
    negative, and then higher scores would be less anomalous. For a last layer whose weights and biases sum to 0 over
    classes, alpha and o equal those of the paper.

    Args:
        features: Features f, finite.
        logits: Class logits, finite.
        origin: Origin o of the feature space.
        residual: Orthonormal basis R of the complement of the principal space.
        alpha: Scale, above 0. It makes the mean norm on training pixels equal to the mean difference between the
            largest logit and the mean of a pixel's logits.

    Shape:
        ``(B, D, h, w)``, ``(B, C, h, w)``, ``(D,)``, ``(D, K)``, ``()`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.

    Source: Wang et al., ViM: Out-Of-Distribution with Virtual-logit Matching (CVPR 2022).
    """
    flat = features.float() - origin.to(features)[:, None, None]
    norm = torch.einsum("bdhw,dk->bkhw", flat, residual.to(flat)).norm(dim=1)
    return alpha.to(norm) * norm - logits.float().logsumexp(1)


def check(*, alpha: Tensor | None = None, **_: Tensor) -> None:
    """Check that the scale is positive; files of earlier versions may hold a negative one, which inverts the score.

    Args:
        alpha: The scale; ``None`` passes the check.
        **_: Other statistics, not checked.

    Raises:
        InputError: The scale is not above 0.
    """
    if alpha is not None and not alpha > 0:
        raise InputError(
            f"score 'vim': expected statistics with a scale above 0, found {float(alpha):.6g} (from an earlier "
            "version), which would invert the score; fit it again, with anomaly fit"
        )


def fit(sample: PixelSample) -> dict[str, Tensor]:
    """Compute origin, residual space and scale.

    The origin is ``-pinv(W) b`` of the last layer, with the means over classes subtracted from W and b. For a network
    without such a layer it is the mean of the features. The principal space has half as many dimensions as the features
    (in the paper about half, for wide networks).

    Args:
        sample: Training pixels.

    Returns:
        ``origin (D,)``, ``residual (D, K)`` and ``alpha ()``.

    Raises:
        InputError: No feature has a part outside the principal space, or the logits of each pixel are all equal.
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
        raise cannot_be_fitted("vim", "logits that differ between classes", f"equal ones for all {logits.shape[1]}")
    alpha = (weights * largest).sum() / (weights * norms).sum()
    return {"origin": origin.float(), "residual": residual.float(), "alpha": alpha.float()}


def _centred(values: Tensor, classes: int = 1) -> Tensor:
    """Subtract the mean over classes; ``classes`` is their dimension."""
    return values - values.mean(classes, keepdim=True)
