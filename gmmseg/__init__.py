"""Generative segmentation: Gaussian mixtures as the classifier of a segmentation network (GMMSeg, NeurIPS 2022)."""

from anomaly import __version__

__all__ = ["__version__"]
