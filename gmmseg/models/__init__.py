"""Generative heads and backbones as mmseg modules."""

from gmmseg.models.efficientnet_lite import EfficientNetLite0
from gmmseg.models.heads import GMMHeadMixin, SegformerGMMSegHead
from gmmseg.models.segmentor import GMMSegmentor

__all__ = ["EfficientNetLite0", "GMMHeadMixin", "GMMSegmentor", "SegformerGMMSegHead"]
