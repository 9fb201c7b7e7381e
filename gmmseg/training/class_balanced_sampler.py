"""An infinite sampler of images that draws every class equally often, however rare it is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dataset import InfiniteSampler
from mmengine.dist import broadcast_object_list, get_rank
from mmengine.logging import print_log

from anomaly.errors import InputError
from gmmseg.registry import DATA_SAMPLERS
from gmmseg.training.class_index import class_index


@DATA_SAMPLERS.register_module()
class ClassBalancedSampler(InfiniteSampler):
    """Draws a class uniformly, then an image uniformly from those with at least one pixel of the class.

    Draws are independent, so an image may be drawn twice in a row. The classes of each image are read from the label
    maps once and kept in a file (see :func:`gmmseg.training.class_index.class_index`). A class that no image contains
    is left out with a warning.

    Several processes share one stream: of n processes, process r takes the draws whose number is r modulo n, and only
    the first one reads the labels. Resuming skips ahead in the stream without loading images.

    Args:
        dataset: An mmseg dataset with labels, or one of mmengine's dataset wrappers.
        seed: Seed of the stream; by default one that all processes draw together.

    Raises:
        InputError: No image has a labelled pixel, or a label map cannot be read.

    Source: the published code of Liang et al., GMMSeg (NeurIPS 2022), whose sampler needs index files that are made
    beforehand.
    """

    def __init__(self, dataset: Any, seed: int | None = None) -> None:
        super().__init__(dataset, shuffle=True, seed=seed)
        present, names = _shared_class_index(dataset), dataset.metainfo["classes"]
        images = [np.flatnonzero(of_class) for of_class in present.T]
        missing = [str(name) for name, of_class in zip(names, images, strict=True) if not len(of_class)]
        if len(missing) == len(names):
            raise InputError(
                f"ClassBalancedSampler: expected pixels of the {len(names)} classes, found none in {len(present)} "
                "label maps; check the folders and reduce_zero_label of the dataset in the config"
            )
        if missing:
            text = f"ClassBalancedSampler: no image contains {', '.join(missing)}; left out of the stream"
            print_log(text, logger="current", level=logging.WARNING)
        self._images = np.concatenate(images)
        sizes = np.array([len(of_class) for of_class in images])
        starts = sizes.cumsum() - sizes
        self._sizes, self._starts = sizes[sizes > 0], starts[sizes > 0]

    def _infinite_indices(self) -> Iterator[int]:
        random = np.random.default_rng(self.seed)
        while True:
            classes = random.integers(len(self._sizes), size=1024)
            places = self._starts[classes] + random.integers(self._sizes[classes])
            yield from self._images[places].tolist()


def _shared_class_index(dataset: Any) -> np.ndarray:
    """Compute the class index on the first process, and return it (or raise its error) on all of them."""
    result: list[Any] = [None]
    if get_rank() == 0:
        try:
            result = [class_index(dataset)]
        except InputError as error:
            result = [error]
    broadcast_object_list(result)
    if isinstance(result[0], InputError):
        raise result[0]
    return result[0]
