"""mmseg datasets for closed-set data that mmseg does not include, and for networks with added classes."""

from gmmseg.datasets.added_classes import dataset_with_added_classes
from gmmseg.datasets.camvid import CamVidDataset

__all__ = ["CamVidDataset", "dataset_with_added_classes"]
