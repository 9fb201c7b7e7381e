"""Slow twins: the definitions as plain loops, in float64 or finer, sharing no code with the package."""

import functools
import math
from decimal import Decimal, localcontext


def auroc(known, anomaly):
    """Every pair compared; a tie counts half."""
    wins = 0.0
    for a in map(float, anomaly):
        for k in map(float, known):
            wins += 1.0 if a > k else 0.5 if a == k else 0.0
    return wins / (len(known) * len(anomaly)) if len(known) and len(anomaly) else math.nan


def _counts(known, anomaly):
    """At every distinct score, descending, as threshold: how many of each are at or above it."""
    known, anomaly = [float(k) for k in known], [float(a) for a in anomaly]
    for threshold in sorted({*known, *anomaly}, reverse=True):
        yield sum(a >= threshold for a in anomaly), sum(k >= threshold for k in known)


def average_precision(known, anomaly):
    """The step sum over every distinct score."""
    if not len(known) or not len(anomaly):
        return math.nan
    total, last_recall = 0.0, 0.0
    for tp, fp in _counts(known, anomaly):
        recall = tp / len(anomaly)
        total += (recall - last_recall) * tp / (tp + fp)
        last_recall = recall
    return total


def fpr_at_tpr(known, anomaly, tpr=0.95):
    """The first threshold that reaches ``tpr``."""
    if not len(known) or not len(anomaly):
        return math.nan
    return next(fp / len(known) for tp, fp in _counts(known, anomaly) if tp / len(anomaly) >= tpr)


def pixel_metrics(frames):
    """Pool frames of (id, score, label), the first of each id, pixel by pixel."""
    seen, known, anomaly, ignored, without = set(), [], [], 0, 0
    for name, score, label in frames:
        if name in seen:
            continue
        seen.add(name)
        before = len(anomaly)
        for row_score, row_label in zip(score, label, strict=True):
            for s, value in zip(row_score, row_label, strict=True):
                if value == 255:
                    ignored += 1
                else:
                    (anomaly if value == 1 else known).append(float(s))
        without += len(anomaly) == before
    return {
        "auroc": auroc(known, anomaly),
        "ap": average_precision(known, anomaly),
        "fpr95": fpr_at_tpr(known, anomaly),
        "frames": len(seen),
        "known_pixels": len(known),
        "anomaly_pixels": len(anomaly),
        "ignored_pixels": ignored,
        "frames_without_anomaly": without,
    }


def exactly(function):
    """Compute with 80 decimal digits."""

    @functools.wraps(function)
    def inside(*arguments):
        with localcontext() as context:
            context.prec = 80
            return function(*arguments)

    return inside


def _probabilities(logits):
    """Softmax to 80 digits, so that not even 1 - p loses anything that float32 can hold."""
    exponentials = [Decimal(x).exp() for x in logits]
    return [e / sum(exponentials) for e in exponentials]


@exactly
def msp(logits):
    return float(1 - max(_probabilities(logits)))


@exactly
def entropy(logits):
    return float(-sum(p * p.ln() for p in _probabilities(logits)))


@exactly
def energy(logits):
    return float(-sum(Decimal(x).exp() for x in logits).ln())
