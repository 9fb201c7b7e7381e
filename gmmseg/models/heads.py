"""Generative versions of mmseg's decode heads: one mixin, and one class per head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads import DepthwiseSeparableASPPHead, FCNHead, OCRHead, SegformerHead, UPerHead
from mmseg.models.utils import resize
from torch import Tensor, nn

from gmmseg.checkpoints.published import rename_published_keys
from gmmseg.classifier import Classification, GMMClassifier
from gmmseg.registry import MODELS
from gmmseg.settings import MixtureSettings

if TYPE_CHECKING:
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead as _AnyHead
else:
    _AnyHead = object


class GMMHeadMixin(_AnyHead):
    """Replaces the ``conv_seg`` of a decode head by a :class:`~gmmseg.classifier.GMMClassifier`.

    Any mmseg head that ends in ``self.cls_seg(features)`` becomes generative in three lines::

        @MODELS.register_module()
        class MyGMMSegHead(GMMHeadMixin, MyHead):
            \"\"\"MyHead with Gaussian mixtures.\"\"\"

    ``conv_seg`` becomes the identity, so that the head's own ``forward`` returns its feature map. If the map does
    not have ``embed_dim`` channels, ``projection`` maps it there: a 1x1 convolution, the head's norm and a ReLU.

    Args:
        mixture: Settings of :class:`gmmseg.settings.MixtureSettings`, by name.
        **kwargs: Arguments of the mmseg head.

    Raises:
        InputError: ``mixture`` has an unknown key or a value out of range.
    """

    def __init__(self, *, mixture: Mapping[str, Any], **kwargs: Any) -> None:
        settings = MixtureSettings.from_config(mixture)
        kwargs.setdefault("init_cfg", None)  # mmseg's default initialises conv_seg, which this head does not have
        super().__init__(**kwargs)
        self.conv_seg = nn.Identity()
        self.projection = (
            nn.Identity()
            if self.channels == settings.embed_dim
            else ConvModule(self.channels, settings.embed_dim, kernel_size=1, norm_cfg=self.norm_cfg)
        )
        self.classifier = GMMClassifier(self.num_classes, settings)
        self.register_load_state_dict_pre_hook(rename_published_keys)

    def classify(self, *inputs: Any) -> Classification:
        """Compute logits and likelihoods at the head's resolution.

        Args:
            *inputs: Arguments of the mmseg head's ``forward``: the feature maps of the backbone, each of shape
                ``(B, channels_i, H_i, W_i)``, and in a cascade the logits of the previous head.
        """
        return self.classifier(self.projection(super().forward(*inputs)))

    def describe(self, *inputs: Any) -> dict[str, Tensor]:
        """Compute all maps that the mixtures give, at the head's resolution.

        Args:
            *inputs: Arguments of :meth:`classify`.

        Returns:
            The maps of :meth:`gmmseg.models.segmentor.LikelihoodSegmentor.describe`, by name.
        """
        output = self.classify(*inputs)
        batch, _, height, width = output.logits.shape
        even = math.log(self.classifier.settings.num_components)  # the components of a class have equal weights

        def to_map(rows: Tensor) -> Tensor:
            return rows.view(batch, height, width, *rows.shape[1:]).movedim((1, 2), (-2, -1))

        return {
            "logits": output.logits,
            "class_log_likelihood": output.class_log_likelihood,
            "component_log_prob": to_map(output.log_prob) - even,
            "component_peak": self.classifier.peak() - even,
            "features": to_map(output.embeddings),
        }

    def forward(self, *inputs: Any) -> Tensor:
        """Compute logits at the head's resolution, like any mmseg head. Shape ``(B, C, H, W)``."""
        return self.classify(*inputs).logits

    def loss(self, *args: Any) -> dict[str, Tensor]:
        """Compute mmseg's losses of the logits and ``loss_contrast``, and update the mixture.

        Args:
            *args: Arguments of the mmseg head's ``loss``: the inputs of :meth:`classify`, then the data samples and
                ``train_cfg``.

        Returns:
            Losses by name.
        """
        *inputs, samples, _ = args
        output = self.classify(*inputs)
        losses = self.loss_by_feat(output.logits, samples)
        labels = self._stack_batch_gt(samples)
        labels = resize(labels.float(), size=output.logits.shape[2:], mode="nearest").squeeze(1).long()
        losses["loss_contrast"] = self.classifier.learn(output, labels, self.ignore_index)
        return losses


class FastSegformerHead(SegformerHead):
    """mmseg's SegFormer head, made faster by applying the fusion convolution to each feature map at its own size.

    A 1x1 convolution commutes with a resize, and a convolution of concatenated maps is the sum of one convolution
    per map. So only the largest map is convolved at full size. The result equals that of mmseg up to rounding.
    """

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Compute what mmseg's ``SegformerHead.forward`` computes.

        Args:
            inputs: Feature maps of the backbone, each of shape ``(B, channels_i, H_i, W_i)``.

        Returns:
            Output of ``cls_seg`` at the size of the largest map.
        """
        fusion = self.fusion_conv
        inputs = self._transform_inputs(inputs)
        weights = fusion.conv.weight.split(self.channels, dim=1)
        fused = F.conv2d(self.convs[0](inputs[0]), weights[0], fusion.conv.bias)
        for x, embed, weight in zip(inputs[1:], self.convs[1:], weights[1:], strict=True):
            x = F.conv2d(embed(x), weight)
            fused += resize(x, fused.shape[2:], mode=self.interpolate_mode, align_corners=self.align_corners)
        fused = fusion.norm(fused) if fusion.with_norm else fused
        return self.cls_seg(fusion.activate(fused) if fusion.with_activation else fused)


@MODELS.register_module()
class SegformerGMMSegHead(GMMHeadMixin, FastSegformerHead):
    """SegFormer's all-MLP head (Xie et al., NeurIPS 2021) with Gaussian mixtures."""


@MODELS.register_module()
class DepthwiseSeparableASPPGMMSegHead(GMMHeadMixin, DepthwiseSeparableASPPHead):
    """DeepLabV3+'s head (Chen et al., ECCV 2018) with Gaussian mixtures."""


@MODELS.register_module()
class OCRGMMSegHead(GMMHeadMixin, OCRHead):
    """OCRNet's head (Yuan et al., ECCV 2020) with Gaussian mixtures; the last head of a ``CascadeGMMSegmentor``."""


@MODELS.register_module()
class UPerGMMSegHead(GMMHeadMixin, UPerHead):
    """UPerNet's head (Xiao et al., ECCV 2018) with Gaussian mixtures."""


@MODELS.register_module()
class FCNGMMSegHead(GMMHeadMixin, FCNHead):
    """FCN's head (Long et al., CVPR 2015) with Gaussian mixtures."""
