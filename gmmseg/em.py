"""Online EM, the only code that writes to the mixture."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmmseg.functional import direction_and_variance, scale_to_unit, sinkhorn_assign
from gmmseg.functional.collectives import all_max, all_sum, gather_equal, gather_rows, process_rank
from gmmseg.memory import FeatureMemory, places_of_even_choice, sort_by_group
from gmmseg.mixture import GaussianMixture
from gmmseg.settings import MixtureSettings


class EMUpdater(nn.Module):
    """Assigns pixels to components, keeps some of them in a memory, and fits the mixture to that memory.

    With several processes, each contributes its own pixels. All of them end in the same state, the one that a
    single process would reach with all pixels in rank order. Only sums over pixels and the pixels chosen for the
    memory are exchanged.

    Args:
        num_classes: Number of classes, C.
        settings: Sizes of the memory, steps between M-steps, and momenta.

    Attributes:
        listeners: Functions that are called after every E-step, to monitor a training. Each gets the log-density
            of every labelled pixel under the best component of its class, and the pixel's group, both ``(N,)``.

    Shape:
        ``step ()``: int64, number of training steps seen.

    Source: Liang et al., GMMSeg (NeurIPS 2022), section 3.2, eq. 8 to 10.
    """

    step: Tensor

    def __init__(self, num_classes: int, settings: MixtureSettings) -> None:
        super().__init__()
        self.settings = settings
        self.listeners: list[Callable[[Tensor, Tensor], None]] = []
        self.memory = FeatureMemory(
            num_classes * settings.num_components,
            settings.memory_size,
            settings.embed_dim,
            settings.memory_start,
            settings.memory_blocks,
        )
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def assign(self, log_prob: Tensor, labels: Tensor) -> Tensor:
        """E-step: assign every pixel to a component of its class, balanced within the class.

        Args:
            log_prob: Log-densities of the components of each pixel's class. Shape ``(N, P)``.
            labels: Class of every pixel. Shape ``(N,)``, int64 in ``[0, C)``.

        Returns:
            Group ``class * P + component`` of every pixel. Shape ``(N,)``, int64.
        """
        components = self.settings.num_components
        classes = len(self.memory.pushed) // components
        scores = scale_to_unit(log_prob, labels, classes, all_max)
        epsilon, iterations = self.settings.sinkhorn_epsilon, self.settings.sinkhorn_iterations
        groups = labels * components + sinkhorn_assign(scores, labels, classes, epsilon, iterations, all_sum)
        for listen in self.listeners:
            listen(log_prob.amax(1), groups)
        return groups

    @torch.no_grad()
    def update(self, mixture: GaussianMixture, embeddings: Tensor, groups: Tensor, reliable: Tensor) -> None:
        """Store reliable pixels in the memory; every ``em_interval`` steps, fit the mixture to it (M-step).

        Args:
            mixture: The mixture to fit, in place.
            embeddings: Embeddings of the labelled pixels. Shape ``(N, D)``.
            groups: Group of every pixel, as returned by :meth:`assign`. Shape ``(N,)``.
            reliable: Whether the network classifies the pixel correctly. Shape ``(N,)``, bool.
        """
        mixture.means.copy_(F.normalize(mixture.means, dim=-1))
        candidates = reliable.nonzero().squeeze(1)
        own, chosen_groups = self._choose(groups[candidates])
        self.memory.push(gather_rows(embeddings[candidates[own]]), chosen_groups)
        if self.settings.em_interval == 1 or self.step % self.settings.em_interval == 0:
            present = groups.new_zeros(len(mixture.means))
            present.index_fill_(0, groups // self.settings.num_components, 1)
            self._fit(mixture, all_max(present))
        self.step += 1

    def _choose(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Choose at most ``max_samples`` pixels of each group, evenly from the pixels of all processes in rank order.

        Args:
            groups: Groups of this process's candidate pixels. Shape ``(n,)``.

        Returns:
            Indices of the candidates chosen on this process, and the groups of the pixels chosen on all processes,
            in the order of :func:`gather_rows`.
        """
        memory = self.memory
        most = min(self.settings.max_samples, memory.size - memory.block + 1)
        order, start, here = sort_by_group(groups, len(memory.pushed))
        counts = gather_equal(here)  # (processes, G)
        places = places_of_even_choice(counts.sum(0), most)  # (G, most), among the pixels of all processes
        group, column = (places >= 0).nonzero(as_tuple=True)
        place = places[group, column]
        ends = counts.cumsum(0)
        owner = (ends[:, group] <= place).sum(0)
        own = owner == (rank := process_rank())
        first = start - (ends[rank] - here)  # start of a group on this process, less its pixels on earlier ones
        mine = order[(first[group] + place)[own]]
        return mine, group[owner.argsort(stable=True)]

    def _fit(self, mixture: GaussianMixture, present: Tensor) -> None:
        """Move the components of the classes present in this batch, ``(C,)``, towards the moments of their memory."""
        memory, components = self.memory, self.settings.num_components
        means, stds = mixture.means.flatten(0, 1), mixture.stds.flatten(0, 1)  # views of the mixture itself
        groups = ((present.repeat_interleave(components) > 0) & (memory.count > 0)).nonzero().squeeze(1)
        direction, variance = direction_and_variance(
            memory.sums[groups], memory.square_sums[groups], memory.count[groups]
        )
        std = (variance + self.settings.variance_floor).sqrt()
        means[groups] = means[groups].lerp(direction.to(means), 1 - self.settings.mean_momentum)
        stds[groups] = stds[groups].lerp(std.to(stds), 1 - self.settings.std_momentum)
