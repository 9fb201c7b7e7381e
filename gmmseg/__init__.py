"""Generative segmentation: Gaussian mixtures as the classifier of a segmentation network (GMMSeg, NeurIPS 2022)."""

__version__ = "0.2.0"
