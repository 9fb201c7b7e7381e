"""Settings of a mixture classifier, validated on construction."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from anomaly.errors import InputError
from gmmseg.memory import MemoryStart, block_size


@dataclasses.dataclass(frozen=True)
class MixtureSettings:
    """Settings of the mixtures and of their online EM; the defaults follow the paper.

    Args:
        num_components: Gaussians per class, P.
        embed_dim: Size of an embedding, D.
        memory_size: Features kept per component, M.
        memory_blocks: Largest number of blocks K in which a memory keeps its features, as moments (see
            :class:`gmmseg.memory.FeatureMemory`). A memory of at most this size keeps each feature by itself.
        max_samples: Largest number of features stored per component and step.
        em_interval: Steps between two M-steps.
        mean_momentum: Share of the old mean that an M-step keeps, in [0, 1]. Use less for a short training.
        std_momentum: Share of the old standard deviation that an M-step keeps, in [0, 1].
        variance_floor: Added to every variance, so that no component collapses.
        sinkhorn_epsilon: Temperature of the balanced assignment, at least 0.03.
        sinkhorn_iterations: Iterations of the balanced assignment.
        contrast_weight: Weight of the contrastive loss over all components.
        memory_start: ``"empty"`` uses only features that were pushed. ``"random"`` counts random unit vectors as
            data until they are overwritten, as the published code does.
        contrast_ignore_index: Target that the contrastive loss ignores. The published code uses 255, which is
            also the number of a component where C * P > 255; -100 never is.
        added_classes: Classes that were added after training, the last ones of the head's ``num_classes``;
            ``gmmseg add-class`` writes this setting.

    Raises:
        InputError: A value is out of range.
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
    added_classes: int = 0

    def __post_init__(self) -> None:
        for name in ("num_components", "embed_dim", "memory_size", "memory_blocks", "max_samples", "em_interval"):
            value = getattr(self, name)
            self._require(name, isinstance(value, int) and value >= 1, "an integer of 1 or more")
        fewest = -(-self.memory_size // self.memory_blocks)
        divides = block_size(self.memory_size, self.memory_blocks) < 2 * fewest
        self._require("memory_size", divides, f"such as {fewest * self.memory_blocks}, to divide into memory_blocks")
        for name in ("sinkhorn_iterations", "added_classes"):
            value = getattr(self, name)
            self._require(name, isinstance(value, int) and value >= 0, "an integer of 0 or more")
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
        """Read the settings from ``mixture=dict(...)`` of a config.

        Args:
            config: Settings by name; those left out take their defaults.

        Raises:
            InputError: A name is unknown (the message suggests the closest known one), or a value is out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in config:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise InputError(f"unknown mixture setting {key!r}: {hint}the settings are {', '.join(known)}")
        return cls(**config)
