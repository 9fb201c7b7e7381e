"""An endless stream of images in which every class has its turn, however rare it is."""

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
    """Draws a class, each with the same chance, then an image, each that has a pixel of the class with the same.

    Draws are independent: an image may come again at once. Which image has which class is read from the label maps
    once and kept in a file (see :func:`gmmseg.training.class_index.class_index`). A class that no image has is left
    out with a warning. Many processes share one stream, process r taking every draw number r modulo their number,
    and only the first reads the labels. Resuming skips through the stream without loading an image.

    Args:
        dataset: An mmseg data set with labels, or mmengine's wrapper of such.
        seed: Of the stream; by default one that all processes draw together.

    Raises:
        InputError: No image has a labelled pixel, or a label map cannot be read.

    Source: the sampler of the published code of Liang et al., GMMSeg (NeurIPS 2022), which needs index files of
    its own making.
    """

    def __init__(self, dataset: Any, seed: int | None = None) -> None:
        super().__init__(dataset, shuffle=True, seed=seed)
        present, names = _on_all_processes(dataset), dataset.metainfo["classes"]
        images = [np.flatnonzero(of_class) for of_class in present.T]
        missing = [str(name) for name, of_class in zip(names, images, strict=True) if not len(of_class)]
        if len(missing) == len(names):
            raise InputError(
                f"ClassBalancedSampler: none of the {len(present)} label maps has a pixel of one of the "
                f"{len(names)} classes; check the data set's folders and its reduce_zero_label"
            )
        if missing:
            text = f"ClassBalancedSampler: no image has the class {', '.join(missing)}; left out"
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


def _on_all_processes(dataset: Any) -> np.ndarray:
    """The class index of the first process, or its error, on all."""
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
