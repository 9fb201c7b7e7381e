"""Slow twins: the definitions as plain loops, in float64 or finer, sharing no code with the package."""

import functools
import math
from collections import namedtuple
from decimal import Decimal, localcontext

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage


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


def best_f1(known, anomaly):
    """The best of every threshold, and the highest threshold that reaches it."""
    if not len(known) or not len(anomaly):
        return math.nan, math.nan
    thresholds = sorted({float(a) for a in anomaly}, reverse=True)
    f1 = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in (_confusion(known, anomaly, t) for t in thresholds)]
    return max(f1), thresholds[f1.index(max(f1))]


def recall_at_fpr(known, anomaly, fpr=0.05):
    """The best recall of every threshold that keeps ``fpr``."""
    if not len(known) or not len(anomaly):
        return math.nan
    return max([tp / len(anomaly) for tp, fp in _counts(known, anomaly) if fp / len(known) <= fpr], default=0.0)


def _confusion(known, anomaly, threshold):
    tp = sum(float(a) >= threshold for a in anomaly)
    return tp, sum(float(k) >= threshold for k in known), len(anomaly) - tp


def values_of(known, anomaly, threshold=None):
    """Every metric by name; all NaN where one kind of pixel is missing."""
    f1, best = best_f1(known, anomaly)
    found = {
        "auroc": auroc(known, anomaly),
        "ap": average_precision(known, anomaly),
        "fpr95": fpr_at_tpr(known, anomaly),
        "best_f1": f1,
        "best_f1_threshold": best,
        "recall_at_fpr05": recall_at_fpr(known, anomaly),
    }
    if threshold is not None:
        tp, fp, fn = _confusion(known, anomaly, threshold)
        defined = len(known) and len(anomaly)
        found["f1"] = 2 * tp / (2 * tp + fp + fn) if defined else math.nan
        found["iou"] = tp / (tp + fp + fn) if defined else math.nan
    return found


def pixel_metrics(frames, threshold=None):
    """Pool frames of (id, score, label), the first of each id, pixel by pixel, and average over frames."""
    pixels = {}
    for name, score, label in frames:
        if name not in pixels:
            pixels[name] = {0: [], 1: [], 255: []}
            for row_score, row_label in zip(score, label, strict=True):
                for s, value in zip(row_score, row_label, strict=True):
                    pixels[name][int(value)].append(s)
    pooled = {value: [s for frame in pixels.values() for s in frame[value]] for value in (0, 1, 255)}
    found = values_of(pooled[0], pooled[1], threshold)
    per_frame = {name: values_of(frame[0], frame[1], threshold) for name, frame in pixels.items()}
    defined = [name for name, frame in pixels.items() if frame[0] and frame[1]]
    for name in [name for name in found if name != "best_f1_threshold"]:
        values = [per_frame[frame][name] for frame in defined]
        found[f"{name}_per_image"] = math.fsum(values) / len(values) if values else math.nan
    return {
        "values": found,
        "frames": len(pixels),
        "known_pixels": len(pooled[0]),
        "anomaly_pixels": len(pooled[1]),
        "ignored_pixels": len(pooled[255]),
        "undefined_frames": tuple(sorted(pixels.keys() - set(defined))),
    }


def components(predicted, label, min_predicted, min_truth):
    """sIoU of each label component, PPV and mirrored sIoU of each predicted one, one component after the other."""
    eight = np.ones((3, 3))
    truth, _ = ndimage.label(label == 1, eight)
    found, _ = ndimage.label(predicted & (label != 255), eight)
    for k in range(1, found.max() + 1):
        if (found == k).sum() < min_predicted:
            found[found == k] = 0
    counts = label != 255
    for k in range(1, truth.max() + 1):
        if (truth == k).sum() < min_truth:
            counts &= truth != k
    truth, found = truth[counts], found[counts]

    def adjusted(of, others):
        values = []
        for k in np.unique(of[of > 0]):
            own = of == k
            touching = np.isin(others, np.setdiff1d(others[own], 0))
            elsewhere = touching & (of > 0) & ~own
            values.append((own & touching).sum() / ((own | touching).sum() - elsewhere.sum()))
        return values

    ppv = [(truth[found == k] > 0).mean() for k in np.unique(found[found > 0])]
    return adjusted(truth, found), ppv, adjusted(found, truth)


def component_f1(siou, ppv, level):
    """F1 over all components, those of the label judged by sIoU and predicted ones by PPV."""
    tp, fn, fp = 0, 0, 0
    for value in siou:
        tp, fn = (tp + 1, fn) if value >= level else (tp, fn + 1)
    for value in ppv:
        fp += value < level
    return 2 * tp / (2 * tp + fn + fp)


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


class PublishedClassifier(torch.nn.Module):
    """The published GMMSeg classifier, computed in its way and kept under its names, to stand in for ours in a head.

    Every difference of every pixel and component is an array; classes and components are looped over in Python; an
    EM step reads the whole queue. Liang et al., GMMSeg (NeurIPS 2022), and its published code, on one process.
    """

    Output = namedtuple("Output", "logits log_prob embeddings")

    def __init__(self, num_classes, components, dim, memory, max_samples=20, em_interval=5, mean_momentum=0.999):
        super().__init__()
        self.shape = num_classes, components, dim
        self.max_samples, self.em_interval, self.mean_momentum = max_samples, em_interval, mean_momentum
        self.feat_norm, self.mask_norm = torch.nn.LayerNorm(dim), torch.nn.LayerNorm(num_classes)
        self.register_buffer("means", torch.nn.init.trunc_normal_(torch.empty(self.shape), std=0.02))
        self.register_buffer("diagonal", torch.ones(self.shape))
        groups = num_classes * components
        self.register_buffer("queue", F.normalize(torch.randn(groups, dim, memory), dim=1))
        self.register_buffer("queue_ptr", torch.zeros(groups, dtype=torch.long))
        self.register_buffer("iteration_counter", torch.zeros(1))

    def forward(self, features):
        batch, dim, height, width = features.shape
        embeddings = F.normalize(self.feat_norm(features.permute(0, 2, 3, 1).reshape(-1, dim)), dim=1)
        self.means.copy_(F.normalize(self.means, dim=2))
        log_prob = self.log_density(embeddings).view(-1, *self.shape[:2])
        logits = self.mask_norm(log_prob.amax(2)).view(batch, height, width, -1).permute(0, 3, 1, 2)
        return self.Output(logits, log_prob, embeddings)

    def log_density(self, embeddings):
        mean, std = self.means.flatten(0, 1).clone(), self.diagonal.flatten(0, 1).clone()
        difference = embeddings[:, None] - mean  # (N, C * P, D)
        return -0.5 * self.shape[2] * math.log(2 * math.pi) - std.log().sum(1) - 0.5 * (difference / std).pow(2).sum(2)

    def learn(self, output, labels, ignore_index=255):
        labels = labels.flatten()
        assignment, target = self.assign(output, labels, ignore_index)
        loss = F.cross_entropy(output.log_prob.flatten(1), target, ignore_index=255) * 0.01
        with torch.no_grad():
            classes = [k for k in labels.unique().tolist() if k != ignore_index]
            for k in classes:
                self.enqueue(k, output.embeddings, assignment, labels == k)
            if self.iteration_counter % self.em_interval == 0:
                self.fit(classes)
            self.iteration_counter += 1
        return loss

    @torch.no_grad()
    def assign(self, output, labels, ignore_index):
        """One-hot components of the rightly classified pixels, and every labelled pixel's component."""
        right = output.logits.argmax(1).flatten() == labels
        assignment = torch.zeros(len(labels), self.shape[1], device=labels.device)
        target = labels.clone()
        for k in labels.unique().tolist():
            if k == ignore_index:
                continue
            scores = output.log_prob[:, k][labels == k]
            index = self.sinkhorn(scores / scores.abs().max())
            assignment[labels == k] = F.one_hot(index, self.shape[1]).float() * right[labels == k, None]
            target[labels == k] = index + k * self.shape[1]
        return assignment, target

    @staticmethod
    def sinkhorn(scores):
        q = (scores / 0.05).exp().t()
        q = q / q.sum()
        for _ in range(3):
            q = q / q.sum(1, keepdim=True) / q.shape[0]
            q = q / q.sum(0, keepdim=True) / q.shape[1]
        return (q * q.shape[1]).t().argmax(1)

    def enqueue(self, k, embeddings, assignment, of_class):
        embeddings, assignment, size = embeddings[of_class], assignment[of_class].bool(), self.queue.shape[2]
        for p in range(self.shape[1]):
            new = embeddings[assignment[:, p]]
            if len(new) > self.max_samples:
                new = new[torch.linspace(0, len(new) - 1, self.max_samples, dtype=torch.int64).to(new.device)]
            group = k * self.shape[1] + p
            at = int(self.queue_ptr[group])
            first = min(len(new), size - at)
            self.queue[group, :, at : at + first] = new[:first].T
            self.queue[group, :, : len(new) - first] = new[first:].T
            self.queue_ptr[group] = (at + len(new)) % size

    def fit(self, classes):
        for k in classes:
            for p in range(self.shape[1]):
                remembered = self.queue[k * self.shape[1] + p].T  # (M, D)
                mean = F.normalize(remembered.sum(0), dim=0)
                variance = (remembered - mean).pow(2).sum(0) / len(remembered)
                self.means[k, p] = self.mean_momentum * self.means[k, p] + (1 - self.mean_momentum) * mean
                self.diagonal[k, p] = (variance + 1e-2).sqrt()


def bilinear(maps, height, width):
    """Pixel centres at half integers, the border repeated. Shape: ``(..., h, w)`` -> ``(..., height, width)``."""
    for axis, length in ((-2, height), (-1, width)):
        place = (np.arange(length) + 0.5) * maps.shape[axis] / length - 0.5
        low = np.floor(place).astype(int)
        share = (place - low).reshape((-1, 1) if axis == -2 else (-1,))
        first, second = (np.take(maps, i.clip(0, maps.shape[axis] - 1), axis) for i in (low, low + 1))
        maps = (1 - share) * first + share * second
    return maps
