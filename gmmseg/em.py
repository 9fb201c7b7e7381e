"""Online EM: the only writer of the mixture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmmseg.distributed import gather_rows
from gmmseg.functional import direction_and_variance, scale_to_unit, sinkhorn_assign
from gmmseg.memory import FeatureMemory, choose_evenly
from gmmseg.mixture import GaussianMixture
from gmmseg.settings import MixtureSettings


class EMUpdater(nn.Module):
    """Assigns pixels to components, remembers some of them, and moves the mixture towards what is remembered.

    Args:
        num_classes: C.
        settings: Memory, intervals and momenta; see :class:`gmmseg.settings.MixtureSettings`.

    Shape:
        ``step ()``: int64, number of training steps seen.

    Source: Liang et al., GMMSeg (NeurIPS 2022), section 3.2, eq. 8 to 10.
    """

    step: Tensor

    def __init__(self, num_classes: int, settings: MixtureSettings) -> None:
        super().__init__()
        self.settings = settings
        num_groups = num_classes * settings.num_components
        self.memory = FeatureMemory(num_groups, settings.memory_size, settings.embed_dim, settings.memory_start)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def assign(self, log_prob: Tensor, labels: Tensor) -> Tensor:
        """E-step: the component of its own class for every pixel, balanced within the class.

        Args:
            log_prob: Component log-densities. Shape ``(N, C, P)``.
            labels: Class of every pixel. Shape ``(N,)``, int64 in ``[0, C)``.

        Returns:
            Group ``class * P + component`` of every pixel. Shape ``(N,)``, int64.
        """
        components = log_prob.shape[2]
        groups = torch.empty_like(labels)
        for k in labels.unique().tolist():
            of_class = labels == k
            scores = scale_to_unit(log_prob[of_class, k])
            index = sinkhorn_assign(scores, self.settings.sinkhorn_epsilon, self.settings.sinkhorn_iterations)
            groups[of_class] = index + k * components
        return groups

    @torch.no_grad()
    def update(self, mixture: GaussianMixture, embeddings: Tensor, groups: Tensor, reliable: Tensor) -> None:
        """Remember reliable pixels; on every ``em_interval``-th step fit the mixture to the memory (M-step).

        At most ``max_samples`` pixels of a group are remembered in one step. On many processes each chooses its
        own, only those are exchanged, and as many are chosen of all: every process ends with the same state. One
        process on the same pixels would choose others.

        Args:
            mixture: What is fitted, in place.
            embeddings: Labelled pixels. Shape ``(N, D)``.
            groups: Their groups, as :meth:`assign` gives them. Shape ``(N,)``.
            reliable: Whether the network classifies the pixel correctly. Shape ``(N,)``, bool.
        """
        mixture.means.copy_(F.normalize(mixture.means, dim=-1))
        num_groups, most = len(self.memory.count), min(self.settings.max_samples, self.memory.size)
        candidates = reliable.nonzero().squeeze(1)
        candidates = candidates[choose_evenly(groups[candidates], num_groups, most)]
        chosen_groups = gather_rows(groups[candidates])
        chosen = choose_evenly(chosen_groups, num_groups, most)
        self.memory.push(gather_rows(embeddings[candidates])[chosen], chosen_groups[chosen])
        if self.step % self.settings.em_interval == 0:
            self._fit(mixture, gather_rows((groups // self.settings.num_components).unique()).unique())
        self.step += 1

    def _fit(self, mixture: GaussianMixture, classes: Tensor) -> None:
        """Move the components of ``classes`` (those in this batch) towards the moments of their memory."""
        memory, components = self.memory, self.settings.num_components
        means, stds = mixture.means.flatten(0, 1), mixture.stds.flatten(0, 1)  # views of the mixture itself
        groups = (classes[:, None] * components + torch.arange(components, device=classes.device)).flatten()
        groups = groups[memory.count[groups] > 0]
        direction, variance = direction_and_variance(
            memory.sums[groups], memory.square_sums[groups], memory.count[groups]
        )
        std = (variance + self.settings.variance_floor).sqrt()
        means[groups] = means[groups].lerp(direction.to(means), 1 - self.settings.mean_momentum)
        stds[groups] = stds[groups].lerp(std.to(stds), 1 - self.settings.std_momentum)
