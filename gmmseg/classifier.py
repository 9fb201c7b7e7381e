"""The generative classifier that takes the place of a segmentation head's last 1x1 convolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anomaly.errors import InputError
from gmmseg.em import EMUpdater
from gmmseg.functional.collectives import all_sum, num_processes
from gmmseg.mixture import AddedMixture, GaussianMixture
from gmmseg.settings import MixtureSettings


@dataclass(frozen=True)
class Classification:
    """Output of :class:`GMMClassifier` for one feature map.

    Shape:
        ``class_log_likelihood (B, C, H, W)``: log-likelihood of each class, for open-world scores.
        ``logits (B, C, H, W)``: the same after the LayerNorm over classes, for closed-set classification.
        ``log_prob (N, C, P)``: log-density of each component, with N = B * H * W.
        ``embeddings (N, D)``: unit vectors.
    """

    logits: Tensor
    class_log_likelihood: Tensor
    log_prob: Tensor
    embeddings: Tensor


class GMMClassifier(nn.Module):
    r"""Classifies pixels by class-conditional Gaussian mixtures over normalised embeddings.

    A forward pass changes no state. Only :meth:`learn` does, and it is called in training only.

    **Added classes.** The last ``settings.added_classes`` of the classes were added after training. They change nothing
    for the others, whose log-likelihoods and logits are bit for bit those of the network without them. Logits are a
    LayerNorm over classes of the log-likelihoods :math:`l`; its mean :math:`m` and variance :math:`v` stay those of the
    C' trained classes. An added class has the logit that a trained class with an average scale and shift would have:

    .. math:: \frac{l - m}{\sqrt{v + \epsilon}} \cdot \frac{1}{C'} \sum_{c \le C'} \gamma_c
        + \frac{1}{C'} \sum_{c \le C'} \beta_c

    When maps are resized to the image, the last bit may be rounded differently with more channels.

    Args:
        num_classes: Number of classes, C, with those that were added.
        settings: Settings of the mixtures and of EM.

    Raises:
        InputError: Every class is an added one.

    Source: Liang et al., GMMSeg (NeurIPS 2022), section 3.2.
    """

    def __init__(self, num_classes: int, settings: MixtureSettings) -> None:
        super().__init__()
        if (trained := num_classes - settings.added_classes) < 1:
            raise InputError(
                f"mixture setting 'added_classes' must be less than num_classes, {num_classes}, found "
                f"{settings.added_classes}; num_classes counts trained and added classes"
            )
        self.settings = settings
        self.embed_norm = nn.LayerNorm(settings.embed_dim)
        self.class_norm = nn.LayerNorm(trained)
        self.mixture = GaussianMixture(trained, settings.num_components, settings.embed_dim)
        self.added = nn.ModuleList(
            AddedMixture(settings.num_components, settings.embed_dim) for _ in range(settings.added_classes)
        )
        self.em = EMUpdater(trained, settings)

    def forward(self, features: Tensor) -> Classification:
        """Compute densities and logits of every pixel, in float32 or better even under autocast.

        Args:
            features: Feature map with D = ``settings.embed_dim`` channels. Shape ``(B, D, H, W)``.
        """
        batch, dim, height, width = features.shape
        with torch.autocast(features.device.type, enabled=False):
            features = features if features.dtype == torch.float64 else features.float()
            flat = features.permute(0, 2, 3, 1).reshape(-1, dim)  # (N, D)
            # Lengths are about sqrt(D). The floor bounds the gradient of a pixel whose features are all equal.
            embeddings = F.normalize(self.embed_norm(flat), dim=1, eps=0.1)
            log_prob = self.mixture.log_prob(embeddings)  # (N, C, P)
            likelihood = log_prob.max(2).values  # (N, C); the backward pass of amax is far slower
            logits = self.class_norm(likelihood)
            if self.added:
                # Each class is a product of its own: one product of all could round the others differently.
                more = torch.stack([mixture.log_prob(embeddings) for mixture in self._added()], dim=1)
                best = more.amax(2)
                logits = torch.cat([logits, self.logits_of_added(best, likelihood)], dim=1)
                log_prob, likelihood = torch.cat([log_prob, more], 1), torch.cat([likelihood, best], 1)

        def to_map(values: Tensor) -> Tensor:
            return values.view(batch, height, width, -1).permute(0, 3, 1, 2)

        return Classification(to_map(logits), to_map(likelihood), log_prob, embeddings)

    def logits_of_added(self, added: Tensor, trained: Tensor) -> Tensor:
        """Compute logits of added classes, normalised by the mean and variance of the trained classes.

        They are scaled and shifted as a trained class is on average.

        Args:
            added: Log-likelihoods of A added classes. Shape ``(N, A)``.
            trained: Log-likelihoods of the C' trained classes. Shape ``(N, C')``.

        Returns:
            Logits of the added classes. Shape ``(N, A)``.
        """
        norm = self.class_norm
        variance, mean = torch.var_mean(trained, dim=1, correction=0, keepdim=True)
        return (added - mean) / (variance + norm.eps).sqrt() * norm.weight.mean() + norm.bias.mean()

    def peak(self) -> Tensor:
        """Compute the log-density of every component at its mean, as forward gives them. Shape ``(C, P)``."""
        return torch.cat([self.mixture.peak(), *(mixture.peak()[None] for mixture in self._added())])

    def _added(self) -> list[AddedMixture]:
        return [mixture for mixture in self.added if isinstance(mixture, AddedMixture)]

    def learn(self, output: Classification, labels: Tensor, ignore_index: int = 255) -> Tensor:
        """Update memory and mixture from a labelled batch, and return the contrastive loss.

        Every labelled pixel is assigned to a component of its class. The loss is the cross-entropy over all
        C * P components with that component as the target, times ``contrast_weight``. Pixels that the network
        classifies correctly enter the memory. Pixels with NaN or infinite embeddings are left out.

        Args:
            output: Output of :meth:`forward` for the batch.
            labels: Class of every pixel. Shape ``(B, H, W)``, int64 in ``[0, C)`` or ``ignore_index``.
            ignore_index: Label of pixels to leave out.

        Returns:
            The loss, shape ``()``. Without a labelled pixel it is 0 and still part of the graph. With several
            processes, the mean of their losses equals the loss of a single process with all pixels.

        Raises:
            InputError: Classes were added.
        """
        if self.added:
            raise InputError(
                "a network with added classes cannot be trained; train the original network, then run gmmseg add-class "
                "again"
            )
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
        # The mean over the pixels of all processes; gradients are averaged over processes afterwards.
        pixels = all_sum((target != ignore).sum()).clamp_min(1) / num_processes()
        return total / pixels * self.settings.contrast_weight
