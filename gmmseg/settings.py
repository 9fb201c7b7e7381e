"""The settings of a mixture classifier, checked when they are given."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from anomaly.errors import InputError
from gmmseg.memory import MemoryStart, block_size


@dataclasses.dataclass(frozen=True)
class MixtureSettings:
    """Settings of the mixtures and of their online EM; the defaults are the paper's.

    Args:
        num_components: P, Gaussians per class.
        embed_dim: D, size of the embeddings the mixtures live in.
        memory_size: M, features remembered per component.
        memory_blocks: K: at most so many blocks keep them, as moments (see :class:`gmmseg.memory.FeatureMemory`);
            a memory of no more features keeps each.
        max_samples: Most features remembered per component and step.
        em_interval: Steps from one M-step to the next.
        mean_momentum: Share of the old mean that an M-step keeps, in [0, 1]. A short training wants less.
        std_momentum: Share of the old standard deviation that an M-step keeps, in [0, 1].
        variance_floor: Added to every variance, so that no component collapses.
        sinkhorn_epsilon: Temperature of the balanced assignment.
        sinkhorn_iterations: Alternations of the balanced assignment.
        contrast_weight: Weight of the contrastive loss over all components.
        memory_start: ``"empty"`` uses only what was pushed; ``"random"`` counts random unit vectors as data
            until they are overwritten, as the published code does.
        contrast_ignore_index: Target that the contrastive loss leaves out. The published code used 255, which
            is also the number of a component where C * P > 255; -100 never is.

    Raises:
        InputError: A value out of its range.
    """

    num_components: int = 5
    embed_dim: int = 64
    memory_size: int = 32_000
    memory_blocks: int = 1000
    max_samples: int = 20
    em_interval: int = 5
    mean_momentum: float = 0.999
    std_momentum: float = 0.0
    variance_floor: float = 1e-2
    sinkhorn_epsilon: float = 0.05
    sinkhorn_iterations: int = 3
    contrast_weight: float = 0.01
    memory_start: MemoryStart = "empty"
    contrast_ignore_index: int = -100

    def __post_init__(self) -> None:
        for name in ("num_components", "embed_dim", "memory_size", "memory_blocks", "max_samples", "em_interval"):
            value = getattr(self, name)
            self._require(name, isinstance(value, int) and value >= 1, "an integer of 1 or more")
        fewest = -(-self.memory_size // self.memory_blocks)
        divides = block_size(self.memory_size, self.memory_blocks) < 2 * fewest
        self._require("memory_size", divides, f"such as {fewest * self.memory_blocks}, to divide into memory_blocks")
        iterations = isinstance(self.sinkhorn_iterations, int) and self.sinkhorn_iterations >= 0
        self._require("sinkhorn_iterations", iterations, "an integer of 0 or more")
        self._require("memory_start", self.memory_start in ("empty", "random"), "'empty' or 'random' (as published)")
        self._require("sinkhorn_epsilon", self.sinkhorn_epsilon >= 0.03, "0.03 or more (float32 underflows)")
        self._require("variance_floor", self.variance_floor > 0, "a positive number")
        for name in ("mean_momentum", "std_momentum"):
            self._require(name, 0 <= getattr(self, name) <= 1, "a share between 0 and 1")
        self._require("contrast_weight", self.contrast_weight >= 0, "0 or more")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise InputError(f"mixture setting {name!r} must be {expected}, found {getattr(self, name)!r}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MixtureSettings:
        """Read settings from a config's ``mixture=dict(...)``; a key that nothing reads is an error.

        Raises:
            InputError: An unknown key (the closest known one is named), or a value out of its range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in config:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise InputError(f"unknown mixture setting {key!r}: {hint}the settings are {', '.join(known)}")
        return cls(**config)
