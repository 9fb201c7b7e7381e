"""Where arrays are: in the memory of the CPU, or tensors on a GPU. This module does not import torch."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt


def on_device(values: Any) -> bool:
    """Whether an array is a tensor on a GPU (CUDA or ROCm), where torch works on it; elsewhere NumPy and OpenCV do.

    Other accelerators do not count: they lack float64 or stable sorting.

    Args:
        values: An array or a tensor.
    """
    return getattr(getattr(values, "device", None), "type", "cpu") == "cuda"


def to_numpy(values: Any) -> npt.NDArray[Any]:
    """Return an array as it is, and a tensor of any device as an array.

    Args:
        values: An array or a tensor.
    """
    array: npt.NDArray[Any] = values.detach().cpu().numpy() if hasattr(values, "detach") else values
    return array
