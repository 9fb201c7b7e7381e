"""Mixed precision on a CPU, which mmengine's ``AmpOptimWrapper`` does not support."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from gmmseg.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Runs the forward pass under bfloat16 autocast.

    Gradients need no scaling, because bfloat16 has the range of float32.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter autocast and mmengine's handling of accumulated gradients.

        Args:
            model: The network, or a data-parallel wrapper of it.
        """
        with super().optim_context(model), torch.autocast("cpu", torch.bfloat16):
            yield
