"""Online EM: the only writer of the mixture."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmmseg.functional import direction_and_variance, scale_to_unit, sinkhorn_assign
from gmmseg.functional.collectives import all_max, all_sum, gather_equal, gather_rows, process_rank
from gmmseg.memory import FeatureMemory, places_of_even_choice
from gmmseg.mixture import GaussianMixture
from gmmseg.settings import MixtureSettings


class EMUpdater(nn.Module):
    """Assigns pixels to components, remembers some of them, and moves the mixture towards what is remembered.

    On many processes each brings its own pixels, and every process ends in the state to which one process would
    come with all of them, in rank order: only sums over pixels and the chosen pixels are exchanged.

    Args:
        num_classes: C.
        settings: Memory, intervals and momenta; see :class:`gmmseg.settings.MixtureSettings`.

    Attributes:
        listeners: Called after every E-step with each labelled pixel's log-density under its own class's best
            component and its group, both ``(N,)``; for whoever watches a training.

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
        """E-step: the component of its own class for every pixel, balanced within the class.

        Args:
            log_prob: Log-densities of the components of every pixel's own class. Shape ``(N, P)``.
            labels: That class. Shape ``(N,)``, int64 in ``[0, C)``.

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
        """Remember reliable pixels; on every ``em_interval``-th step fit the mixture to the memory (M-step).

        Args:
            mixture: What is fitted, in place.
            embeddings: Labelled pixels. Shape ``(N, D)``.
            groups: Their groups, as :meth:`assign` gives them. Shape ``(N,)``.
            reliable: Whether the network classifies the pixel correctly. Shape ``(N,)``, bool.
        """
        mixture.means.copy_(F.normalize(mixture.means, dim=-1))
        candidates = reliable.nonzero().squeeze(1)
        own, chosen_groups = self._choose(groups[candidates])
        self.memory.push(gather_rows(embeddings[candidates[own]]), chosen_groups)
        if self.step % self.settings.em_interval == 0:
            present = torch.bincount(groups // self.settings.num_components, minlength=len(mixture.means))
            self._fit(mixture, all_max(present).nonzero().squeeze(1))
        self.step += 1

    def _choose(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Choose at most ``max_samples`` of each group, evenly from all processes' pixels in rank order.

        Args:
            groups: Of this process's candidates. Shape ``(n,)``.

        Returns:
            Indices of the chosen ones of this process, and the groups of all processes' chosen ones in the order
            in which :func:`gather_rows` brings them.
        """
        memory = self.memory
        most = min(self.settings.max_samples, memory.size - memory.block + 1)
        counts = gather_equal(torch.bincount(groups, minlength=len(memory.pushed)))  # (processes, G)
        places = places_of_even_choice(counts.sum(0), most)  # (G, most) among all processes' pixels
        group, column = (places >= 0).nonzero(as_tuple=True)
        place = places[group, column]
        ends = counts.cumsum(0)
        owner = (ends[:, group] <= place).sum(0)
        own = owner == (rank := process_rank())
        first = counts[rank].cumsum(0) - ends[rank]  # of a group in this process, less what lies in earlier processes
        mine = groups.argsort(stable=True)[(first[group] + place)[own]]
        return mine, group[owner.argsort(stable=True)]

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
