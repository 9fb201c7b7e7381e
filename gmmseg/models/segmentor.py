"""mmseg's encoder-decoders, handing on class log-likelihoods beside the logits."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models import CascadeEncoderDecoder, EncoderDecoder
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor

from gmmseg.models.frozen_depth import FrozenDepth
from gmmseg.registry import MODELS


class LikelihoodSegmentor(EncoderDecoder):
    """Predicts both maps in one pass, whole or sliding; a subclass gives them, and more, in :meth:`describe`.

    Predictions carry ``class_log_likelihood`` (PixelData, ``(C, H, W)``) beside mmseg's ``seg_logits``. Training
    is mmseg's own. Inside, both maps travel as 2C channels, so that mmseg's inference treats them alike.

    Args:
        frozen: Arguments of :class:`gmmseg.models.frozen_depth.FrozenDepth`, whose log-likelihoods are added; None for
            none. ``gmmseg fit --frozen`` fits them.
        **kwargs: Arguments of the mmseg segmentor.
    """

    describes: tuple[str, ...] = ("logits", "class_log_likelihood", "component_log_prob", "component_peak", "features")

    def __init__(self, *, frozen: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.frozen = None if frozen is None else FrozenDepth(num_classes=self.num_classes, **frozen)
        if self.frozen is not None:
            self.describes = tuple(name for name in self.describes if name != "component_peak")

    def with_frozen(self, inputs: Tensor, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the frozen copy's log-likelihoods to what :meth:`describe` is about to give.

        ``component_peak`` is left out then: a component's value is that of a whole mixture too, and has no peak to be
        measured from.
        """
        if self.frozen is None:
            return found
        added = self.frozen(inputs)
        added = resize(added, found["logits"].shape[2:], mode="bilinear", align_corners=self.align_corners)
        more = {"class_log_likelihood": added, "component_log_prob": added[:, :, None]}
        kept = {name: value for name, value in found.items() if name in self.describes}
        return {name: value + more[name] if name in more else value for name, value in kept.items()}

    def describe(self, inputs: Tensor) -> dict[str, Tensor]:
        """All that the mixtures say, at the decode head's resolution.

        Args:
            inputs: Preprocessed images. Shape ``(B, 3, H, W)``.

        Returns:
            ``logits``, ``class_log_likelihood (B, C, h, w)``; ``component_log_prob (B, C, P, h, w)``, the log-densities
            of components with their weights; ``component_peak (C, P)``, the same at their means, without a frozen
            copy; ``features (B, D, h, w)``, the embeddings.
        """
        raise NotImplementedError

    def classify(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and class log-likelihoods at the decode head's resolution, both ``(B, C, h, w)``.

        Args:
            inputs: Preprocessed images. Shape ``(B, 3, H, W)``.
        """
        found = self.describe(inputs)
        return found["logits"], found["class_log_likelihood"]

    def _init_decode_head(self, decode_head: Any) -> None:
        super()._init_decode_head(decode_head)
        self.out_channels = 2 * self.num_classes  # what sliding windows add up

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits, then log-likelihoods, at the size of the input. Shape ``(B, 2C, H, W)``."""
        head = self.decode_head[-1] if isinstance(self, CascadeEncoderDecoder) else self.decode_head
        return head.predict_by_feat(torch.cat(self.classify(inputs), dim=1), batch_img_metas)

    def infer(self, inputs: Tensor, batch_img_metas: list[dict]) -> tuple[Tensor, Tensor]:
        """Logits and class log-likelihoods, whole or sliding as ``test_cfg`` says.

        Args:
            inputs: Preprocessed images. Shape ``(B, 3, H, W)``.
            batch_img_metas: mmseg's metainfo of each image.

        Returns:
            Two maps ``(B, C, H, W)``.
        """
        logits, log_likelihood = super().inference(inputs, batch_img_metas).chunk(2, dim=1)
        return logits, log_likelihood

    def inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits alone, for callers that know mmseg's segmentors. Shape ``(B, C, H, W)``."""
        return self.infer(inputs, batch_img_metas)[0]

    def predict(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """Mmseg's prediction, and ``class_log_likelihood`` on every data sample."""
        size = inputs.shape[2:]
        unknown = {"ori_shape": size, "img_shape": size, "pad_shape": size, "padding_size": [0, 0, 0, 0]}
        metas = [s.metainfo for s in data_samples] if data_samples is not None else [unknown] * len(inputs)
        logits, log_likelihood = self.infer(inputs, metas)
        density = None if data_samples is None else [SegDataSample(metainfo=s.metainfo) for s in data_samples]
        density = self.postprocess_result(log_likelihood, density)
        samples = self.postprocess_result(logits, data_samples)
        for sample, likelihood in zip(samples, density, strict=True):
            sample.class_log_likelihood = PixelData(data=likelihood.seg_logits.data)
        return samples


@MODELS.register_module()
class GMMSegmentor(LikelihoodSegmentor):
    """An ``EncoderDecoder`` with a generative decode head."""

    def describe(self, inputs: Tensor) -> dict[str, Tensor]:
        """See :meth:`LikelihoodSegmentor.describe`."""
        return self.with_frozen(inputs, self.decode_head.describe(self.extract_feat(inputs)))


@MODELS.register_module()
class CascadeGMMSegmentor(LikelihoodSegmentor, CascadeEncoderDecoder):
    """A ``CascadeEncoderDecoder``, such as OCRNet's, whose last decode head is generative."""

    def describe(self, inputs: Tensor) -> dict[str, Tensor]:
        """See :meth:`LikelihoodSegmentor.describe`."""
        features = self.extract_feat(inputs)
        logits = self.decode_head[0].forward(features)
        for head in self.decode_head[1:-1]:
            logits = head.forward(features, logits)
        return self.with_frozen(inputs, self.decode_head[-1].describe(features, logits))
