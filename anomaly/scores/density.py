"""Scores from densities of a generative classifier over the embedding.

``class_log_likelihood (B, C, h, w)`` is ``log p(x|c)`` of each pixel's embedding, in nats, before any normalisation
over classes; ``component_log_prob (B, C, P, h, w)`` is ``log(w_cp N(x; cp))`` of each class's components with their
weights. The first is the largest of the second over P for GMMSeg (as in the paper), and the log of their sum for
mixtures that were fitted afterwards; scores of components take the sum. All must be finite, or minus infinity where a
class has no such component.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anomaly.errors import InputError
from anomaly.scores.sample import PixelSample


def gmm_nll(class_log_likelihood: Tensor) -> Tensor:
    """Negative of the largest class log-likelihood, ``-max_c log p(x|c)`` (Liang et al., NeurIPS 2022).

    Args:
        class_log_likelihood: In nats, finite.

    Shape:
        ``(B, C, h, w)`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    return -class_log_likelihood.amax(dim=1).float()


def predicted_nll(class_log_likelihood: Tensor, logits: Tensor) -> Tensor:
    """Negative log-likelihood of the class that the network predicts, ``-log p(x|c*)``, ``c* = argmax_c l_c``.

    It differs from :func:`gmm_nll` where the logits are not ordered as the likelihoods (GMMSeg's have a LayerNorm
    with a weight and a bias for each class between).

    Shape:
        twice ``(B, C, h, w)`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    return -class_log_likelihood.gather(1, logits.argmax(1, keepdim=True)).squeeze(1).float()


def likelihood_ratio(class_log_likelihood: Tensor) -> Tensor:
    """Negative log-ratio of the two largest class likelihoods, ``-(log p(x|c1) - log p(x|c2))``.

    Shape:
        ``(B, C, h, w)`` -> ``(B, h, w)``.

    Returns:
        float32, at most 0, higher = more anomalous.

    Raises:
        InputError: There is but one class.
    """
    return -top_two_margin(class_log_likelihood, "likelihood_ratio")


def marginal_nll(component_log_prob: Tensor) -> Tensor:
    """``-log p(x)``, components and classes summed, all classes equally likely: ``-log 1/C sum_c p(x|c)``.

    Shape:
        ``(B, C, P, h, w)`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    classes = component_log_prob.shape[1]
    return math.log(classes) - _full(component_log_prob).flatten(1, 2).logsumexp(1).float()


def empirical_nll(component_log_prob: Tensor, *, log_prior: Tensor) -> Tensor:
    """``-log p(x)`` with the classes as frequent as in the training labels: ``-log sum_c pi_c p(x|c)``.

    Args:
        component_log_prob: See the head of this file.
        log_prior: ``log pi_c``, minus infinity for a class that does not occur.

    Shape:
        ``(B, C, P, h, w)`` and ``(C,)`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    likelihood = _full(component_log_prob).logsumexp(2)
    return -(likelihood + log_prior.to(likelihood)[:, None, None]).logsumexp(1).float()


def fit_prior(sample: PixelSample) -> dict[str, Tensor]:
    """Class frequencies. ``log_prior (C,)``: minus infinity for a class that does not occur."""
    classes = sample.classes
    mass = torch.zeros(classes, dtype=torch.float64).index_add_(0, sample.labels, sample.weights.double())
    return {"log_prior": (mass / mass.sum()).log().float()}


def nearest_component(component_log_prob: Tensor, component_peak: Tensor) -> Tensor:
    """Squared Mahalanobis distance to the nearest component of all classes, ``min_cp sum_d (x_d - mu_d)^2 / var_d``.

    A density divides by the volume of its component, a distance does not.

    Args:
        component_log_prob: See the head of this file.
        component_peak: The same at the component's mean: its largest value.

    Shape:
        ``(B, C, P, h, w)`` and ``(C, P)`` -> ``(B, h, w)``.

    Returns:
        float32, at least 0 up to rounding, higher = more anomalous.
    """
    below = component_peak.to(component_log_prob)[:, :, None, None] - component_log_prob
    below = torch.where(component_peak.isfinite()[:, :, None, None].to(below.device), below, torch.inf)
    return 2 * below.flatten(1, 2).amin(1).float()


def top_two_margin(values: Tensor, name: str) -> Tensor:
    """How far the largest of C values is above the second. Shape: ``(B, C, h, w)`` -> ``(B, h, w)``, float32.

    Raises:
        InputError: There is but one class; ``name`` is the score that wants two.
    """
    if values.shape[1] < 2:
        raise InputError(f"score {name!r} needs at least two classes, found {values.shape[1]}; choose another score")
    best, second = _full(values).topk(2, dim=1).values.unbind(1)
    return (best - second).float()


def _full(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
