"""A sample of pixels of every class, drawn in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from anomaly.utils.processes import Processes


class StratifiedSample:
    """A uniform random sample of the pixels of every class, drawn in one pass over any number of pixels.

    Every pixel gets a random number, and each class keeps the pixels with the smallest ones. After any number of
    batches, all pixels of a class are therefore in its sample with equal probability.

    Args:
        num_classes: Number of classes, C.
        per_class: Largest number of pixels kept per class.
        dim: Size of a feature, D.
        generator: CPU generator that draws the random numbers.

    Shape:
        ``seen (C,)``: number of pixels of each class that were added, int64.
    """

    def __init__(self, num_classes: int, per_class: int, dim: int, generator: torch.Generator) -> None:
        self.seen = torch.zeros(num_classes, dtype=torch.long)
        self._draws = torch.full((num_classes, per_class), torch.inf, dtype=torch.float64)
        self._features = torch.empty(num_classes, per_class, dim)  # uses memory only where it is written
        self._here = torch.zeros(num_classes, per_class, dtype=torch.bool)
        self._generator = generator

    def add(self, features: Tensor | None, labels: Tensor) -> None:
        """Add pixels to the sample.

        Several processes add all pixels in the same order, with generators in the same state. :meth:`gather` then
        brings the features together.

        Args:
            features: Features of the pixels; None if another process has them. Shape ``(N, D)``.
            labels: Classes of the pixels. Shape ``(N,)``, int64 in ``[0, C)``.
        """
        features, labels = None if features is None else features.cpu(), labels.cpu()
        self.seen += torch.bincount(labels, minlength=len(self.seen))
        for k in labels.unique().tolist():
            of_class = labels == k
            slots = self._draws.shape[1]
            draws = torch.rand(int(of_class.sum()), dtype=torch.float64, generator=self._generator)
            draws = torch.cat([self._draws[k], draws])
            chosen = draws.topk(slots, largest=False).indices
            arriving = chosen[chosen >= slots]
            free = torch.ones(slots, dtype=torch.bool)
            free[chosen[chosen < slots]] = False
            self._draws[k, free] = draws[arriving]
            self._here[k, free] = features is not None
            if features is not None:
                self._features[k, free] = features[of_class][arriving - slots]

    def gather(self, processes: Processes) -> None:
        """Bring the features of all processes together, on each of them.

        Args:
            processes: The processes that added the pixels.
        """
        if processes.size == 1:
            return
        for here, own in zip(self._here, self._features, strict=True):
            for places, features in processes.gather((here, own[here])):
                own[places] = features

    def of_class(self, index: int) -> Tensor:
        """Return the sampled features of a class. Shape ``(n, D)``, with n at most ``per_class``."""
        return self._features[index, self._draws[index] < torch.inf]
