"""Layer-wise decay of the learning rate: the closer a layer of the backbone is to the image, the slower it learns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from anomaly.errors import InputError
from gmmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS

# Block b of a plain network (group 1), or stage s (group 1) and its block b (group 2) of a hierarchical one.
_BLOCK = re.compile(r"(?:^|\.)(?:stages|layers|layer|blocks)\.(\d+)\.(?:(?:layers|blocks)\.(\d+)\.)?")
_WITHOUT_DECAY = re.compile(r"position|pos_embed|token")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """Builds an optimizer whose backbone layers learn at ``lr * decay_rate ** depth``.

    ``depth`` counts from the top. With L blocks, block i (from 1) has depth L + 1 - i, embeddings and stem have
    L + 1, and the norms after the last block have 0, as has everything outside the backbone. The blocks of a
    hierarchical network are counted through all stages; what lies between two stages belongs to the block next to
    it in its own stage. Norms, biases, other vectors, position embeddings and tokens have no weight decay. Frozen
    parameters are left out.

    In a config::

        optim_wrapper = dict(
            constructor="gmmseg.LayerDecayConstructor",
            paramwise_cfg=dict(decay_rate=0.8, custom_keys=dict(decode_head=dict(lr_mult=10.0))),
            optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05))

    Args:
        optim_wrapper_cfg: mmengine's config of the optimizer wrapper; its optimizer has ``lr`` and ``weight_decay``.
        paramwise_cfg: ``decay_rate``, above 0 and at most 1, and optionally ``custom_keys``: ``lr_mult`` and
            ``decay_mult`` by a part of the parameter's name (the longest that occurs in it counts), multiplied with
            the values above.

    Raises:
        InputError: A setting is unknown or out of range, a key of ``custom_keys`` occurs in no name, or ``decay_rate``
            is below 1 and no parameter of the backbone belongs to a block.

    Source: Clark et al., ELECTRA (ICLR 2020); the depths are those of Bao et al., BEiT (ICLR 2022).
    """

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, *_: Any, **__: Any) -> None:
        """Add the groups of a network: one for each learning rate and weight decay.

        Args:
            params: List that the groups are added to.
            module: The network, with a ``backbone``.
        """
        rate: float = self.paramwise_cfg["decay_rate"]
        custom: dict[str, dict[str, float]] = self.paramwise_cfg.get("custom_keys", {})
        backbone: Any = getattr(module, "backbone", nn.Module())
        names = [f"backbone.{name}" for name, _ in backbone.named_parameters()]
        if rate < 1 and any(value.requires_grad for value in backbone.parameters()) and not any(map(_block, names)):
            raise InputError(
                f"LayerDecayConstructor: expected a backbone with numbered blocks, found none in "
                f"{type(backbone).__name__}; leave out optim_wrapper.constructor"
            )
        if unused := [key for key in custom if not any(key in name for name, _ in module.named_parameters())]:
            raise InputError(
                f"LayerDecayConstructor: expected custom_keys that occur in names of parameters, found {unused[0]!r}, "
                "which occurs in none; correct it"
            )
        depths = layer_depths(names)
        groups: dict[tuple[float, float], dict[str, Any]] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            lr = self.base_lr * rate ** depths.get(name, 0)
            decay = 0.0 if parameter.ndim < 2 or _WITHOUT_DECAY.search(name) else self.base_wd
            multipliers = next((custom[key] for key in sorted(custom, key=len, reverse=True) if key in name), {})
            lr, decay = lr * multipliers.get("lr_mult", 1.0), decay * multipliers.get("decay_mult", 1.0)
            group = groups.setdefault((lr, decay), {"params": [], "lr": lr, "weight_decay": decay})
            group["params"].append(parameter)
        params.extend(groups.values())

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        unknown = sorted(self.paramwise_cfg.keys() - {"decay_rate", "custom_keys"})
        if unknown:
            raise InputError(
                f"LayerDecayConstructor: expected decay_rate and custom_keys in paramwise_cfg, found {unknown[0]!r}; "
                "remove it"
            )
        rate = self.paramwise_cfg.get("decay_rate")
        if not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise InputError(
                f"LayerDecayConstructor: expected paramwise_cfg.decay_rate above 0 and at most 1, found {rate!r}; give "
                "a number such as 0.8"
            )
        if self.base_lr is None or self.base_wd is None:
            raise InputError(
                f"LayerDecayConstructor: expected an optimizer with lr and weight_decay, found {self.base_lr!r} and "
                f"{self.base_wd!r}; give both"
            )


def layer_depths(names: Iterable[str]) -> dict[str, int]:
    """Number the layers of a backbone from the top.

    Args:
        names: Names of its parameters, in the order of the layers.

    Returns:
        For each name, L + 1 - i in block i of L, L + 1 before the first block and 0 after the last one.
    """
    numbers: dict[str, int] = {}
    count, current = 0, None  # blocks seen, and the place of the last one
    last = 0
    for name in names:
        block = _block(name)
        if block is None:
            numbers[name] = -1 if count else 0
            continue
        stage, inner = block
        if inner is None and current is not None and current[1] is not None:  # between the blocks of two stages
            number = count if stage == current[0] else count + 1
        else:
            if block != current:
                count, current = count + 1, block
            number = count
        numbers[name] = number
        last = max(last, number)
    return {name: 0 if number < 0 else last + 1 - number for name, number in numbers.items()}


def _block(name: str) -> tuple[str, str | None] | None:
    """Stage and block of a parameter; block and None in a network without stages; None outside the blocks."""
    match = _BLOCK.search(name)
    return (match[1], match[2]) if match else None
