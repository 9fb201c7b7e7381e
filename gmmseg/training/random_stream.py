"""Random numbers as a function of the position in the training, so that a resumed training continues exactly.

Random numbers of a step (dropout, drop path) depend on the seed, the process and the step. The augmentation of a
sample depends on the seed and the sample's position in the stream. Nothing depends on earlier draws, on the number of
workers or on validation.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, DATASETS

from anomaly.errors import InputError

_SAMPLES, _STEPS = 0, 1  # two kinds of positions, which never share a seed


def seed_all(*place: int) -> None:
    """Seed the global generators of Python, NumPy and torch.

    Args:
        *place: Non-negative numbers; the seed is a function of them.
    """
    words = np.random.SeedSequence(place).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    seed = int(words[0]) << 32 | int(words[1])
    torch.default_generator.manual_seed(seed)  # torch.manual_seed takes a millisecond without a GPU
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


def in_reproducible_stream(loader: dict[str, Any], seed: int) -> dict[str, Any]:
    """Change the config of a data loader so that augmentation depends on a sample's position in the stream only.

    Args:
        loader: mmengine's config of a data loader.
        seed: Seed of the training.

    Returns:
        A changed copy of ``loader``.
    """
    return {
        **loader,
        "dataset": {"type": SeededDataset, "dataset": loader["dataset"], "training_seed": seed},
        "sampler": {"type": PositionedSampler, "sampler": loader["sampler"]},
        "generator": torch.Generator(),  # without it torch would draw from the network's generator
    }


class DrawnIndex(int):
    """An index into a dataset, with the place in the stream where it was drawn (epoch, position)."""

    place: tuple[int, int]


class PositionedSampler:
    """Wraps a sampler so that its indices are :class:`DrawnIndex`; all other attributes are those of the sampler.

    Positions are counted over all processes, so that several processes draw the same stream as one.

    Args:
        sampler: The sampler, or its config.
        dataset: The dataset to sample from.
        seed: Seed of a sampler that is built from a config; ``None`` lets it choose one.
    """

    def __init__(self, sampler: Any, dataset: Any, seed: int | None) -> None:
        if isinstance(sampler, dict):
            inner = dataset.dataset if isinstance(dataset, SeededDataset) else dataset
            sampler = DATA_SAMPLERS.build(sampler, default_args={"dataset": inner, "seed": seed})
        self.sampler = sampler
        self._rank, self._processes = get_dist_info()
        self._epoch = self._position = 0
        if hasattr(sampler, "skip"):  # mmengine tests for this attribute
            self.skip = self._skip

    def __getattr__(self, name: str) -> Any:
        if name == "sampler":  # not set yet, while unpickling
            raise AttributeError(name)
        return getattr(self.sampler, name)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        for index in self.sampler:
            drawn = DrawnIndex(index)
            drawn.place = self._epoch, self._position * self._processes + self._rank
            self._position += 1
            yield drawn

    def set_epoch(self, epoch: int) -> None:
        """Start another epoch; positions count from 0 again."""
        if epoch != self._epoch:
            self._epoch, self._position = epoch, 0
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def _skip(self, num_samples: int) -> None:
        self.sampler.skip(num_samples)
        self._position = num_samples


class SeededDataset(torch.utils.data.Dataset):
    """Wraps a dataset so that all generators are seeded before each sample; other attributes are the dataset's own.

    Args:
        dataset: The dataset, or its config.
        training_seed: Seed of the training.
    """

    def __init__(self, dataset: Any, training_seed: int) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.training_seed = training_seed

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # not set yet, while unpickling
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """Load a sample. Generators are seeded first if ``index`` is a :class:`DrawnIndex`.

        Raises:
            InputError: The sample cannot be loaded, for example because its file cannot be read.
        """
        if isinstance(index, DrawnIndex):
            seed_all(self.training_seed, _SAMPLES, *index.place)
        try:
            return self.dataset[int(index)]
        except Exception as error:  # a pipeline can raise anything
            reason = " ".join(str(error).split())
            raise InputError(f"{self._name(int(index))} cannot be read: {type(error).__name__}: {reason}") from error

    def _name(self, index: int) -> str:
        try:
            return self.dataset.get_data_info(index)["img_path"]
        except (AttributeError, KeyError):
            return f"sample {index}"


def seed_step(runner: Any) -> None:
    """Seed all generators for the current process and step of a runner."""
    seed_all(runner.seed, _STEPS, runner.rank, runner.iter)


class StepSeedHook(Hook):
    """Seeds all generators at the start of every training step."""

    priority = 0  # before any hook that draws

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed all generators for this process and step."""
        seed_step(runner)
