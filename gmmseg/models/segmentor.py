"""mmseg's encoder-decoders with class log-likelihoods in addition to logits."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from mmengine.structures import PixelData
from mmseg.models import CascadeEncoderDecoder, EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor

from anomaly.errors import InputError
from gmmseg.registry import MODELS


class LikelihoodSegmentor(EncoderDecoder):
    """Predicts logits and class log-likelihoods in one pass, on whole images or by a sliding window.

    Predictions hold ``class_log_likelihood`` (PixelData, ``(C, H, W)``) next to mmseg's ``seg_logits``. Training is
    that of mmseg. Internally both maps are passed on as 2C channels, so that mmseg's inference handles them in the
    same way. Subclasses implement :meth:`describe`.

    Args:
        **kwargs: Arguments of the mmseg segmentor.

    Raises:
        InputError: There is the argument ``frozen`` of networks that ``gmmseg fit`` of version 0.2 wrote.

    Attributes:
        describes: Names of the maps that :meth:`describe` returns.
    """

    describes: tuple[str, ...] = ("logits", "class_log_likelihood", "component_log_prob", "component_peak", "features")

    def __init__(self, **kwargs: Any) -> None:
        if "frozen" in kwargs:
            fitted_before()
        super().__init__(**kwargs)

    def describe(self, inputs: Tensor) -> dict[str, Tensor]:
        """Compute all maps that the mixtures give, at the decode head's resolution.

        Args:
            inputs: Preprocessed images. Shape ``(B, 3, H, W)``.

        Returns:
            Maps by name: ``logits`` and ``class_log_likelihood``, both ``(B, C, h, w)``; ``component_log_prob
            (B, C, P, h, w)``, log-densities of the components, including their weights; ``component_peak (C, P)``,
            their values at the components' means; ``features (B, D, h, w)``, the embeddings.
        """
        raise NotImplementedError

    def classify(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits and class log-likelihoods at the decode head's resolution.

        Args:
            inputs: Preprocessed images. Shape ``(B, 3, H, W)``.

        Returns:
            Two maps, both ``(B, C, h, w)``.
        """
        found = self.describe(inputs)
        return found["logits"], found["class_log_likelihood"]

    def _init_decode_head(self, decode_head: Any) -> None:
        super()._init_decode_head(decode_head)
        self.out_channels = 2 * self.num_classes  # channels that mmseg's sliding window accumulates

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Compute logits and log-likelihoods, concatenated, at the size of the input. Shape ``(B, 2C, H, W)``."""
        head = self.decode_head[-1] if isinstance(self, CascadeEncoderDecoder) else self.decode_head
        return head.predict_by_feat(torch.cat(self.classify(inputs), dim=1), batch_img_metas)

    def infer(self, inputs: Tensor, batch_img_metas: list[dict]) -> tuple[Tensor, Tensor]:
        """Compute logits and class log-likelihoods, on whole images or by a sliding window, according to ``test_cfg``.

        Args:
            inputs: Preprocessed images. Shape ``(B, 3, H, W)``.
            batch_img_metas: mmseg's metainfo of each image.

        Returns:
            Two maps, both ``(B, C, H, W)``.
        """
        logits, log_likelihood = super().inference(inputs, batch_img_metas).chunk(2, dim=1)
        return logits, log_likelihood

    def inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Compute logits only, for code that expects an mmseg segmentor. Shape ``(B, C, H, W)``."""
        return self.infer(inputs, batch_img_metas)[0]

    def predict(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """Predict as mmseg does, and add ``class_log_likelihood`` to every data sample.

        Args:
            inputs: Preprocessed images. Shape ``(B, 3, H, W)``.
            data_samples: One sample per image with its metainfo; ``None`` makes new ones.

        Returns:
            The data samples with predictions.
        """
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
        """Compute the maps of :meth:`LikelihoodSegmentor.describe` for images of shape ``(B, 3, H, W)``."""
        return self.decode_head.describe(self.extract_feat(inputs))


@MODELS.register_module()
class CascadeGMMSegmentor(LikelihoodSegmentor, CascadeEncoderDecoder):
    """A ``CascadeEncoderDecoder`` whose last decode head is generative, such as OCRNet."""

    def describe(self, inputs: Tensor) -> dict[str, Tensor]:
        """Compute the maps of :meth:`LikelihoodSegmentor.describe` for images of shape ``(B, 3, H, W)``."""
        features = self.extract_feat(inputs)
        logits = self.decode_head[0].forward(features)
        for head in self.decode_head[1:-1]:
            logits = head.forward(features, logits)
        return self.decode_head[-1].describe(features, logits)


@MODELS.register_module(name=["PosthocSegmentor", "PosthocCascadeSegmentor"])
def fitted_before(**_: Any) -> NoReturn:
    """Refuse the networks that ``gmmseg fit`` wrote up to version 0.2.

    Raises:
        InputError: Always.
    """
    raise InputError(
        "model: expected a network, found one with mixtures that `gmmseg fit` of version 0.2 wrote, which are not read "
        "any more; run `gmmseg fit` with the config and the checkpoint of the network itself again"
    )
