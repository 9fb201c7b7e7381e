"""Scores from the densities of a generative classifier over the embedding.

``class_log_likelihood (B, C, h, w)`` is ``log p(x|c)`` of the embedding of each pixel, in nats, before any
normalisation over classes. ``component_log_prob (B, C, P, h, w)`` is ``log(w_cp N(x; cp))`` for each component,
including its weight. For GMMSeg, the class log-likelihood is the maximum over the components, as in the paper; for
mixtures fitted after training, it is the logarithm of their sum. Scores that use components always sum them.
``outlier_log_likelihood (B, h, w)`` is ``log p(x|outlier)`` under a density fitted to outliers. Values must be finite,
or minus infinity for components that a class does not have.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anomaly.errors import InputError
from anomaly.scores.sample import PixelSample


def gmm_nll(class_log_likelihood: Tensor) -> Tensor:
    """Negative of the largest class log-likelihood, ``-max_c log p(x|c)``.

    Args:
        class_log_likelihood: Class log-likelihoods in nats, finite.

    Shape:
        ``(B, C, h, w)`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.

    Source: Liang et al., GMMSeg (NeurIPS 2022).
    """
    return -class_log_likelihood.amax(dim=1).float()


def predicted_nll(class_log_likelihood: Tensor, logits: Tensor) -> Tensor:
    """Negative log-likelihood of the class that the network predicts, ``-log p(x|c*)``, ``c* = argmax_c l_c``.

    It differs from :func:`gmm_nll` where logits and likelihoods are ordered differently. In GMMSeg a LayerNorm with a
    weight and a bias for each class lies between them.

    Args:
        class_log_likelihood: Class log-likelihoods in nats, finite, or one for all classes.
        logits: Class logits of any float type, finite.

    Shape:
        ``(B, C, h, w)`` or ``(B, 1, h, w)``, and ``(B, C, h, w)`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    return -class_log_likelihood.expand_as(logits).gather(1, logits.argmax(1, keepdim=True)).squeeze(1).float()


def likelihood_margin(class_log_likelihood: Tensor) -> Tensor:
    """Negative log-ratio of the two largest class likelihoods, ``-(log p(x|c1) - log p(x|c2))``.

    Args:
        class_log_likelihood: Class log-likelihoods in nats, finite.

    Shape:
        ``(B, C, h, w)`` -> ``(B, h, w)``.

    Returns:
        float32, at most 0, higher = more anomalous.

    Raises:
        InputError: There is only one class.
    """
    return -top_two_margin(class_log_likelihood, "likelihood_margin")


def marginal_nll(component_log_prob: Tensor) -> Tensor:
    """Negative log-likelihood under all classes with equal priors, ``-log 1/C sum_c p(x|c)``.

    Args:
        component_log_prob: Log-densities of the components in nats, including their weights.

    Shape:
        ``(B, C, P, h, w)`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    classes = component_log_prob.shape[1]
    return math.log(classes) - _full(component_log_prob).flatten(1, 2).logsumexp(1).float()


def empirical_nll(component_log_prob: Tensor, *, log_prior: Tensor) -> Tensor:
    """Negative log-likelihood with class priors from the training labels, ``-log sum_c pi_c p(x|c)``.

    Args:
        component_log_prob: Log-densities of the components in nats, including their weights.
        log_prior: ``log pi_c``; minus infinity for a class that does not occur.

    Shape:
        ``(B, C, P, h, w)`` and ``(C,)`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.
    """
    likelihood = _full(component_log_prob).logsumexp(2)
    return -(likelihood + log_prior.to(likelihood)[:, None, None]).logsumexp(1).float()


def fit_prior(sample: PixelSample) -> dict[str, Tensor]:
    """Compute class frequencies.

    Args:
        sample: Training pixels.

    Returns:
        ``log_prior (C,)``; minus infinity for a class that does not occur.
    """
    classes = sample.classes
    mass = torch.zeros(classes, dtype=torch.float64).index_add_(0, sample.labels, sample.weights.double())
    return {"log_prior": (mass / mass.sum()).log().float()}


def outlier_ratio(outlier_log_likelihood: Tensor, class_log_likelihood: Tensor) -> Tensor:
    """Log-ratio of the likelihoods under outliers and under all classes, ``log p(x|outlier) - log 1/C sum_c p(x|c)``.

    The classes have equal priors, as in :func:`marginal_nll`. A class that no training pixel had, of a log-likelihood
    such as -1e9, adds nothing to the sum, and counts in C.

    Args:
        outlier_log_likelihood: Log-likelihoods in nats under a density fitted to outliers, finite.
        class_log_likelihood: Class log-likelihoods in nats of the same embedding, finite.

    Shape:
        ``(B, h, w)`` and ``(B, C, h, w)`` -> ``(B, h, w)``.

    Returns:
        float32, unbounded, higher = more anomalous.

    Source: Bishop, Novelty detection and neural network validation (IEE Proceedings, 1994).
    """
    classes = class_log_likelihood.shape[1]
    known = _full(class_log_likelihood).logsumexp(1) - math.log(classes)
    return (_full(outlier_log_likelihood) - known).float()


def nearest_component(component_log_prob: Tensor, component_peak: Tensor) -> Tensor:
    """Squared Mahalanobis distance to the nearest component of all classes, ``min_cp sum_d (x_d - mu_d)^2 / var_d``.

    Unlike a density, a distance is not divided by the volume of its component.

    Args:
        component_log_prob: Log-densities of the components in nats, including their weights.
        component_peak: Their values at the means of the components, which are the largest.

    Shape:
        ``(B, C, P, h, w)`` and ``(C, P)`` -> ``(B, h, w)``.

    Returns:
        float32, at least 0 up to rounding, higher = more anomalous.
    """
    below = component_peak.to(component_log_prob)[:, :, None, None] - component_log_prob
    below = torch.where(component_peak.isfinite()[:, :, None, None].to(below.device), below, torch.inf)
    return 2 * below.flatten(1, 2).amin(1).float()


def top_two_margin(values: Tensor, name: str) -> Tensor:
    """Compute the difference between the largest and the second largest of C values.

    Args:
        values: Values of each class. Shape ``(B, C, h, w)``.
        name: Name of the score, for the message.

    Returns:
        Shape ``(B, h, w)``, float32.

    Raises:
        InputError: There is only one class.
    """
    if values.shape[1] < 2:
        raise InputError(f"score {name!r} needs at least two classes, found {values.shape[1]}; choose another score")
    best, second = _full(values).topk(2, dim=1).values.unbind(1)
    return (best - second).float()


def _full(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
