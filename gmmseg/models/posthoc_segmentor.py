"""mmseg's encoder-decoders with mixtures that are fitted, after training, to the inputs of the last convolution."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmseg.models import CascadeEncoderDecoder, EncoderDecoder
from mmseg.models.utils import resize
from mmseg.registry import MODELS as MMSEG_MODELS
from torch import Tensor, nn

from anomaly.errors import InputError
from gmmseg.models.segmentor import LikelihoodSegmentor
from gmmseg.posthoc.mixtures import ClassDensities
from gmmseg.registry import MODELS


@MODELS.register_module()
class PosthocSegmentor(LikelihoodSegmentor):
    """An unchanged, trained network with class log-likelihoods of the features that its ``conv_seg`` classifies.

    The logits are bit for bit those of the network. Features are scaled to unit length, because their length
    expresses the network's confidence and would distort the densities. ``gmmseg fit`` fits the densities.

    Args:
        num_components: Largest number of Gaussians per class, P.
        **kwargs: Arguments of the mmseg segmentor.

    Raises:
        InputError: ``num_components`` is not a positive integer, or the last decode head does not end in a
            ``conv_seg`` with one logit per class.
    """

    def __init__(self, *, num_components: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(num_components, int) or num_components < 1:
            raise InputError(
                f"num_components must be an integer of 1 or more, found {num_components!r}; correct it in the config"
            )
        head = self.decode_head[-1] if isinstance(self, CascadeEncoderDecoder) else self.decode_head
        conv_seg = getattr(head, "conv_seg", None)
        if not isinstance(conv_seg, nn.Conv2d) or conv_seg.out_channels != self.num_classes:
            kind = "nothing" if conv_seg is None else str(conv_seg)
            raise InputError(
                f"expected a decode head whose conv_seg gives a logit for each of its {self.num_classes} classes, "
                f"found {kind} as the conv_seg of {type(head).__name__}; mixtures cannot be fitted to such a network "
                "(generative already, mask classification, or one logit for two classes)"
            )
        self._classified = [conv_seg]  # in a list, so that torch does not register it as a second submodule
        self.densities = ClassDensities(self.num_classes, num_components, conv_seg.in_channels)

    @property
    def last_layer(self) -> nn.Conv2d:
        """The convolution that computes the network's logits from features."""
        return self._classified[0]

    def embed(self, inputs: Tensor, batch_img_metas: list[dict]) -> tuple[Tensor, Tensor]:
        """Compute the network's logits at the size of the input, and unit features at the head's resolution.

        Args:
            inputs: Preprocessed images, or their crops in a sliding window. Shape ``(B, 3, H, W)``.
            batch_img_metas: mmseg's metainfo of each image.

        Returns:
            Logits ``(B, C, H, W)`` and features ``(B, D, h, w)``.

        Raises:
            InputError: The head did not run its ``conv_seg``.
        """
        logits, features = self._run(inputs, batch_img_metas)
        return logits, F.normalize(features.float(), dim=1)

    def _run(self, inputs: Tensor, batch_img_metas: list[dict]) -> tuple[Tensor, Tensor]:
        """Compute the network's logits at the size of the input, and the features that its last layer classifies."""
        with _inputs_of(self.last_layer) as caught:
            logits = super(LikelihoodSegmentor, self).encode_decode(inputs, batch_img_metas)
        if not caught:
            raise InputError(
                "expected a decode head that runs its conv_seg, found one that does not; mixtures cannot be fitted to "
                "this network"
            )
        return logits, caught[-1]

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Compute logits and log-likelihoods, concatenated, at the size of the input. Shape ``(B, 2C, H, W)``."""
        logits, embeddings = self.embed(inputs, batch_img_metas)
        likelihood = _to_map(self.densities(_to_rows(embeddings)), embeddings)
        likelihood = resize(likelihood, logits.shape[2:], mode="bilinear", align_corners=self.align_corners)
        found = self.with_frozen(inputs, {"logits": logits, "class_log_likelihood": likelihood})
        return torch.cat(list(found.values()), dim=1)

    def describe(self, inputs: Tensor) -> dict[str, Tensor]:
        """Compute all maps that the mixtures give, at the decode head's resolution.

        Args:
            inputs: Preprocessed images. Shape ``(B, 3, H, W)``.

        Returns:
            The maps of :meth:`LikelihoodSegmentor.describe`, by name. ``features`` are those of the network, not
            scaled to unit length.
        """
        metas = [dict.fromkeys(("ori_shape", "img_shape", "pad_shape"), inputs.shape[2:])] * len(inputs)
        _, features = self._run(inputs, metas)
        embeddings = F.normalize(features.float(), dim=1)
        with torch.autocast(inputs.device.type, enabled=False):  # under autocast the logits would have 8 bits
            logits = self.last_layer(features.to(self.last_layer.weight.dtype))
        components = self.densities.of_components(_to_rows(embeddings))
        found = {
            "logits": logits,
            "class_log_likelihood": _to_map(self.densities.of_classes(components), embeddings),
            "component_log_prob": _to_map(components, embeddings),
            "component_peak": self.densities.peak(),
            "features": features,
        }
        return self.with_frozen(inputs, found)

    def loss(self, *_: Any) -> dict[str, Tensor]:
        """Raise an error, because training would move the features away from their mixtures.

        Raises:
            InputError: Always.
        """
        raise InputError(
            "a network with fitted mixtures cannot be trained; train the original network, then run gmmseg fit again"
        )


@MODELS.register_module()
class PosthocCascadeSegmentor(PosthocSegmentor, CascadeEncoderDecoder):
    """A :class:`PosthocSegmentor` for a ``CascadeEncoderDecoder``: mixtures of the last head's features."""


def posthoc_config(config: Config, num_components: int) -> Config:
    """Add mixtures to the config of a trained network.

    Args:
        config: Config of an mmseg network.
        num_components: Largest number of Gaussians per class, P.

    Returns:
        A changed copy of ``config``.

    Raises:
        InputError: The model type is neither ``EncoderDecoder`` nor ``CascadeEncoderDecoder``.
    """
    kind = config.get("model", {}).get("type")
    network = MMSEG_MODELS.get(kind) if isinstance(kind, str) else kind
    name = {EncoderDecoder: "PosthocSegmentor", CascadeEncoderDecoder: "PosthocCascadeSegmentor"}.get(network)
    if name is None:
        raise InputError(
            f"config {config.filename}: expected a model of type EncoderDecoder or CascadeEncoderDecoder, found "
            f"{kind}; give the config of such a network, or use gmmseg fit --frozen, which takes GMMSeg networks too"
        )
    config = copy.deepcopy(config)
    config.model.update(type=f"gmmseg.{name}", num_components=num_components)
    return config


@contextmanager
def _inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Record the inputs of a module while the context is active."""
    caught: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        yield caught
    finally:
        handle.remove()


def _to_rows(maps: Tensor) -> Tensor:
    """Shape: ``(B, D, h, w)`` -> ``(N, D)``."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def _to_map(rows: Tensor, like: Tensor) -> Tensor:
    """Shape: ``(N, ...)`` -> ``(B, ..., h, w)``, with B, h and w of ``like``."""
    batch, _, height, width = like.shape
    return rows.view(batch, height, width, *rows.shape[1:]).movedim((1, 2), (-2, -1))
