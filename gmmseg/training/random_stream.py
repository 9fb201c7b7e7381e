"""Randomness as a function of the place in the training, so that a resumed one goes on as if it had never stopped.

What a step draws (dropout, drop path) depends on the seed, the process and the step; how a sample is augmented on
the seed and the sample's position in the stream. Nothing depends on what was drawn before, on workers or validation.
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

_SAMPLES, _STEPS = 0, 1  # keep the two kinds of places apart


def seed_all(*place: int) -> None:
    """Seed Python's, NumPy's and torch's own generators.

    Args:
        *place: What the seed is a function of; numbers of 0 or more.
    """
    words = np.random.SeedSequence(place).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    seed = int(words[0]) << 32 | int(words[1])
    torch.default_generator.manual_seed(seed)  # torch.manual_seed takes a millisecond where there is no GPU
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


def in_reproducible_stream(loader: dict[str, Any], seed: int) -> dict[str, Any]:
    """Give the config of a data loader whose samples are augmented as a function of their position in the stream.

    Args:
        loader: mmengine's config of a data loader.
        seed: Of the training.
    """
    return {
        **loader,
        "dataset": {"type": SeededDataset, "dataset": loader["dataset"], "training_seed": seed},
        "sampler": {"type": PositionedSampler, "sampler": loader["sampler"]},
        "generator": torch.Generator(),  # or torch would draw from the one that the network uses
    }


class DrawnIndex(int):
    """An index into a data set that knows at which place of the stream it was drawn: epoch, position."""

    place: tuple[int, int]


class PositionedSampler:
    """Passes on a sampler's indices as :class:`DrawnIndex`; the rest of it is the sampler's own.

    Positions are counted over all processes, so that many draw what one would.

    Args:
        sampler: The sampler, or its config.
        dataset: What it samples from.
        seed: Of the sampler; ``None`` has it choose one.
    """

    def __init__(self, sampler: Any, dataset: Any, seed: int | None) -> None:
        if isinstance(sampler, dict):
            inner = dataset.dataset if isinstance(dataset, SeededDataset) else dataset
            sampler = DATA_SAMPLERS.build(sampler, default_args={"dataset": inner, "seed": seed})
        self.sampler = sampler
        self._rank, self._processes = get_dist_info()
        self._epoch = self._position = 0
        if hasattr(sampler, "skip"):  # mmengine looks whether it is there
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
        """Start another epoch, in which positions count from 0."""
        if epoch != self._epoch:
            self._epoch, self._position = epoch, 0
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def _skip(self, num_samples: int) -> None:
        self.sampler.skip(num_samples)
        self._position = num_samples


class SeededDataset(torch.utils.data.Dataset):
    """Seeds all generators before a sample is made; all else is the data set's own.

    Args:
        dataset: The data set, or its config.
        training_seed: Of the training.
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
        """Make a sample; one that a sampler of others drew is left to the generators as they are.

        Raises:
            InputError: It cannot be made, as of a file that cannot be read.
        """
        if isinstance(index, DrawnIndex):
            seed_all(self.training_seed, _SAMPLES, *index.place)
        try:
            return self.dataset[int(index)]
        except Exception as error:  # a pipeline can fail in any way
            reason = " ".join(str(error).split())
            raise InputError(f"{self._name(int(index))} cannot be read: {type(error).__name__}: {reason}") from error

    def _name(self, index: int) -> str:
        try:
            return self.dataset.get_data_info(index)["img_path"]
        except (AttributeError, KeyError):
            return f"sample {index}"


def seed_step(runner: Any) -> None:
    """Seed for the runner's process and step."""
    seed_all(runner.seed, _STEPS, runner.rank, runner.iter)


class StepSeedHook(Hook):
    """Seeds all generators at the start of every training step."""

    priority = 0  # before any hook that draws

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed for this process and step."""
        seed_step(runner)
