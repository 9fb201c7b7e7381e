"""Closed-set data as mmseg data sets, where mmseg has none."""

from gmmseg.datasets.camvid import CamVidDataset

__all__ = ["CamVidDataset"]
