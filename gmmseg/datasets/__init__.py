"""mmseg datasets for closed-set data that mmseg does not include."""

from gmmseg.datasets.camvid import CamVidDataset

__all__ = ["CamVidDataset"]
