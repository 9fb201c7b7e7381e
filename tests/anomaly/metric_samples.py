"""Data samples with anomalous pixels, as mmseg's segmentors hand them on, and how mmengine runs metrics over them."""

import numpy as np
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from tests.anomaly import tiny_segmentor

CLASSES, ANOMALOUS = 4, 12
META = {"classes": tiny_segmentor.CLASSES}
FRAMES, SIZE = 5, 40


def labels(seed, anomaly=ANOMALOUS):
    """Blocks of classes and ignored pixels, with one anomalous object."""
    rng = np.random.default_rng(seed)
    label = np.kron(rng.choice([0, 1, 2, 3, 255], (5, 5)), np.ones((8, 8), int))
    top, left = rng.integers(0, 25, 2)
    label[top : top + 13, left : left + 14] = anomaly
    return label


def data_sample(seed, label=None, likelihood=True, **meta):
    """What a segmentor hands on: logits and likelihoods with ties, and lower where the label is an anomaly."""
    rng = np.random.default_rng(100 + seed)
    label = labels(seed) if label is None else label
    logits = rng.integers(-20, 20, (CLASSES, *label.shape)) / 8 - (label == ANOMALOUS)
    sample = SegDataSample(metainfo={"img_path": f"/data/set/{seed}.png", **meta})
    maps = {"seg_logits": logits, "pred_sem_seg": logits.argmax(0)[None], "gt_sem_seg": label[None]}
    maps |= {"class_log_likelihood": 1e3 * logits - 1e5 * rng.random(label.shape)} if likelihood else {}
    for name, values in maps.items():
        dtype = torch.float32 if len(values) > 1 else torch.int64
        setattr(sample, name, PixelData(data=torch.tensor(values, dtype=dtype)))
    return sample


def run(metrics, samples, size=FRAMES):
    metrics = Evaluator(metrics)
    metrics.dataset_meta = META
    for start in range(0, len(samples), 2):
        metrics.process(samples[start : start + 2])
    return metrics.evaluate(size)
