"""Generative decode heads, segmentors with likelihoods, and backbones, as mmseg modules."""

from gmmseg.models.efficientnet_lite import EfficientNetLite0, EfficientNetLite1, EfficientNetLite2
from gmmseg.models.heads import (
    DepthwiseSeparableASPPGMMSegHead,
    FCNGMMSegHead,
    GMMHeadMixin,
    OCRGMMSegHead,
    SegformerGMMSegHead,
    UPerGMMSegHead,
)
from gmmseg.models.segmentor import CascadeGMMSegmentor, GMMSegmentor, LikelihoodSegmentor
from gmmseg.models.transformers_backbone import TransformersBackbone

__all__ = [
    "CascadeGMMSegmentor",
    "DepthwiseSeparableASPPGMMSegHead",
    "EfficientNetLite0",
    "EfficientNetLite1",
    "EfficientNetLite2",
    "FCNGMMSegHead",
    "GMMHeadMixin",
    "GMMSegmentor",
    "LikelihoodSegmentor",
    "OCRGMMSegHead",
    "SegformerGMMSegHead",
    "TransformersBackbone",
    "UPerGMMSegHead",
]
