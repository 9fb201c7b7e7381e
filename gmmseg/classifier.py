"""The generative classifier that takes the place of a segmentation head's last 1x1 convolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmmseg.em import EMUpdater
from gmmseg.functional.collectives import all_sum, num_processes
from gmmseg.mixture import GaussianMixture
from gmmseg.settings import MixtureSettings


@dataclass(frozen=True)
class Classification:
    """What one pass over a feature map gives.

    Shape:
        ``logits (B, C, H, W)``: log-likelihoods after the LayerNorm over classes, for the closed set.
        ``class_log_likelihood (B, C, H, W)``: before it, for open-world scores.
        ``log_prob (N, C, P)``: of the components. ``embeddings (N, D)``: unit vectors. N = B * H * W.
    """

    logits: Tensor
    class_log_likelihood: Tensor
    log_prob: Tensor
    embeddings: Tensor


class GMMClassifier(nn.Module):
    """Classifies pixels by class-conditional Gaussian mixtures over normalised embeddings.

    A forward pass never writes; :meth:`learn` does, and is called in training alone.

    Args:
        num_classes: C.
        settings: See :class:`gmmseg.settings.MixtureSettings`.

    Source: Liang et al., GMMSeg (NeurIPS 2022), section 3.2.
    """

    def __init__(self, num_classes: int, settings: MixtureSettings) -> None:
        super().__init__()
        self.settings = settings
        self.embed_norm = nn.LayerNorm(settings.embed_dim)
        self.class_norm = nn.LayerNorm(num_classes)
        self.mixture = GaussianMixture(num_classes, settings.num_components, settings.embed_dim)
        self.em = EMUpdater(num_classes, settings)

    def forward(self, features: Tensor) -> Classification:
        """Densities and logits of every pixel, in float32 or better whatever autocast says.

        Args:
            features: Shape ``(B, D, H, W)``.
        """
        batch, dim, height, width = features.shape
        with torch.autocast(features.device.type, enabled=False):
            features = features if features.dtype == torch.float64 else features.float()
            flat = features.permute(0, 2, 3, 1).reshape(-1, dim)  # (N, D)
            # Lengths are about sqrt(D); the floor bounds the gradient of a pixel whose features are all equal.
            embeddings = F.normalize(self.embed_norm(flat), dim=1, eps=0.1)
            log_prob = self.mixture.log_prob(embeddings)  # (N, C, P)
            likelihood = log_prob.max(2).values  # (N, C); the gradient of amax takes far longer
            logits = self.class_norm(likelihood)

        def to_map(values: Tensor) -> Tensor:
            return values.view(batch, height, width, -1).permute(0, 3, 1, 2)

        return Classification(to_map(logits), to_map(likelihood), log_prob, embeddings)

    def learn(self, output: Classification, labels: Tensor, ignore_index: int = 255) -> Tensor:
        """Update memory and mixture from a labelled batch, and give the contrastive loss.

        Every labelled pixel is assigned to a component of its class; the loss is the cross-entropy over all
        C * P components with that one as the target, times ``contrast_weight``. Pixels that the network
        classifies correctly enter the memory. Pixels with NaN or infinite embeddings are left out.

        Args:
            output: This classifier's output for the batch.
            labels: Class of every pixel. Shape ``(B, H, W)``, int64 in ``[0, C)`` or ``ignore_index``.
            ignore_index: Label of pixels to leave out.

        Returns:
            Shape ``()``; a zero that keeps the graph where no pixel is labelled. On many processes the mean of all
            of theirs is the loss of one process with all pixels.
        """
        with torch.autocast(labels.device.type, enabled=False):
            return self._learn(output, labels.flatten(), ignore_index)

    def _learn(self, output: Classification, labels: Tensor, ignore_index: int) -> Tensor:
        finite = output.embeddings.detach().sum(1).isfinite()  # one NaN would stay in the running sums for good
        labelled = ((labels != ignore_index) & finite).nonzero().squeeze(1)
        classes = labels[labelled]
        groups = self.em.assign(output.log_prob.detach()[labelled, classes], classes)
        correct = output.logits.argmax(1).flatten()[labelled] == classes
        loss = self._contrast(output.log_prob, labelled, groups)
        self.em.update(self.mixture, output.embeddings.detach()[labelled], groups, correct)
        return loss

    def _contrast(self, log_prob: Tensor, labelled: Tensor, groups: Tensor) -> Tensor:
        ignore = self.settings.contrast_ignore_index
        target = torch.full((len(log_prob),), ignore, device=log_prob.device)
        target[labelled] = groups
        total = F.cross_entropy(log_prob.flatten(1), target, ignore_index=ignore, reduction="sum")
        # the mean over all processes' pixels: gradients are averaged over processes afterwards
        pixels = all_sum((target != ignore).sum()).clamp_min(1) / num_processes()
        return total / pixels * self.settings.contrast_weight
