"""A hook that stops a training before a non-finite number or an invalid label damages the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from anomaly.errors import InputError
from gmmseg.mixture import GaussianMixture
from gmmseg.registry import HOOKS
from gmmseg.training.nonfinite import describe, first_bad_layer, is_bad
from gmmseg.training.random_stream import seed_step


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network itself, without a data-parallel wrapper."""
    network: nn.Module = getattr(model, "module", model) if is_model_wrapper(model) else model
    return network


def decode_heads(model: nn.Module) -> list[BaseDecodeHead]:
    """Return the decode heads of a segmentor, without auxiliary heads.

    Args:
        model: Any network.

    Returns:
        One head, several for a cascade, none if ``model`` is not a segmentor.
    """
    heads = getattr(model, "decode_head", None)
    heads = heads if isinstance(heads, nn.ModuleList) else [heads]
    return [head for head in heads if isinstance(head, BaseDecodeHead)]


def check_class_count(model: nn.Module, classes: list[str] | None, source: str) -> None:
    """Check that the network has as many classes as the data.

    Args:
        model: The network.
        classes: Class names of the data; ``None`` if unknown, which passes the check.
        source: Part of the config that reads the data, such as ``"train_dataloader"``, for the message.

    Raises:
        InputError: The numbers of classes differ.
    """
    for name, head in unwrapped(model).named_modules():
        if classes is not None and isinstance(head, BaseDecodeHead) and len(classes) != head.num_classes:
            raise InputError(
                f"{name} has num_classes={head.num_classes}, and the data of {source} have {len(classes)} "
                f"classes ({', '.join(classes[:3])}, ...); set num_classes={len(classes)} for every head of the model"
            )


def check_channels(model: nn.Module) -> None:
    """Check that every head takes the maps that the backbone gives, if the backbone says which (``out_channels``).

    Args:
        model: The network.

    Raises:
        InputError: A head names a map that is not there, or another number of channels.
    """
    maps = getattr(getattr(model, "backbone", None), "out_channels", None)
    if not isinstance(maps, tuple) or getattr(model, "neck", None) is not None:
        return
    for name, head in model.named_modules():
        if not isinstance(head, BaseDecodeHead):
            continue
        indices = head.in_index if isinstance(head.in_index, (list, tuple)) else [head.in_index]
        if any(not -len(maps) <= i < len(maps) for i in indices):
            raise InputError(
                f"{name}.in_index: expected indices of the backbone's {len(maps)} maps, found {head.in_index}; correct "
                "in_index, or the stages of the backbone"
            )
        given = [int(maps[i]) for i in indices]
        expected = [sum(given)] if head.input_transform == "resize_concat" else given
        found = list(head.in_channels) if isinstance(head.in_channels, (list, tuple)) else [head.in_channels]
        if found != expected:
            raise InputError(
                f"{name}.in_channels: expected the channels of the backbone's maps, {given}, found {head.in_channels}; "
                "correct in_channels"
            )


@HOOKS.register_module()
class TrainingGuardHook(Hook):
    """Stops a training with a clear :class:`InputError` before the weights or a checkpoint are damaged.

    It checks the labels before every step, the losses and mixtures after every forward pass, the gradients before
    every update, and all weights before every checkpoint. ``default_hooks=dict(guard=None)`` in a config leaves it out.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Any) -> None:
        """Start checking the network and its optimizer."""
        self._runner = runner
        self._model: Any = unwrapped(runner.model)
        self._mixtures = [(n, m) for n, m in self._model.named_modules() if isinstance(m, GaussianMixture)]
        wrapper = runner.optim_wrapper
        wrappers = [wrapper] if isinstance(wrapper, OptimWrapper) else list(wrapper.values())
        self._handles = [
            self._model.register_forward_hook(self._after_forward, with_kwargs=True),
            *(one.optimizer.register_step_pre_hook(self._before_update) for one in wrappers),
        ]

    def after_train(self, runner: Any) -> None:
        """Stop checking."""
        for handle in self._handles:
            handle.remove()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Check the labels of a batch before it is moved to a device.

        Raises:
            InputError: A sample has no labels, or a label is neither a class nor the ignored value.
        """
        self._batch = data_batch
        heads = decode_heads(self._model)
        if not heads:
            return
        classes, ignored = heads[-1].num_classes, heads[-1].ignore_index
        for sample in data_batch["data_samples"]:
            if "gt_sem_seg" not in sample:
                raise InputError(
                    f"{_image_of(sample)} has no labels; add LoadAnnotations to the pipeline of train_dataloader"
                )
            label = sample.gt_sem_seg.data
            outside = label[((label < 0) | (label >= classes)) & (label != ignored)]
            if outside.numel():
                raise InputError(
                    f"step {runner.iter + 1}: expected the labels 0 to {classes - 1} of the network's {classes} "
                    f"classes, or {ignored} (ignored), in {_image_of(sample)}, found "
                    f"{', '.join(str(int(value)) for value in outside.unique()[:5])}; map the labels in the dataset's "
                    "config (metainfo, label_map, reduce_zero_label), or correct the file"
                )

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Check that all tensors of a checkpoint are finite.

        Raises:
            InputError: A tensor holds a NaN or an infinity; the checkpoint is not written.
        """
        bad = [f"{name} holds {describe(value)}" for name, value in checkpoint["state_dict"].items() if is_bad(value)]
        if bad:
            raise InputError(f"no checkpoint was written, because {bad[0]}; earlier checkpoints are intact")

    def _after_forward(self, model: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if kwargs.get("mode") != "loss":
            return
        losses = {name: value for name, value in output.items() if "loss" in name}
        watched = [*_flat(losses), *self._mixture_state()]
        sums = torch.stack([value.detach().double().sum() for _, value in watched])  # one transfer from a GPU
        if not sums.isfinite().all():
            name, value = next((name, value) for name, value in watched if is_bad(value.detach().double().sum()))
            bad = f"{name} is {float(value.detach())}" if value.numel() == 1 else f"{name} holds {describe(value)}"
            self._stop(bad, kwargs["inputs"] if "inputs" in kwargs else args[0])

    def _before_update(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if getattr(optimizer, "found_inf", None) is not None:  # the loss scaler handles it, inside the update
            return
        gradients = {n: p.grad for n, p in self._model.named_parameters() if p.grad is not None}
        if torch.nn.utils.get_total_norm(gradients.values()).isfinite():
            return
        # Non-finite gradients spread towards the input, so the last of them is closest to the origin.
        bad = [
            f"the gradient of {n} holds {describe(gradient)}" for n, gradient in gradients.items() if is_bad(gradient)
        ]
        inputs = self._model.data_preprocessor(self._batch, True)["inputs"]
        self._stop(bad[-1] if bad else "the norm of the gradients overflows", inputs)

    def _mixture_state(self) -> Iterator[tuple[str, Tensor]]:
        for name, mixture in self._mixtures:
            for buffer, value in mixture.named_buffers():
                yield f"{name}.{buffer}", value

    def _stop(self, bad: str, inputs: Tensor) -> NoReturn:
        seed_step(self._runner)  # so that dropout is the same as in the failed pass
        images = [sample for sample, image in zip(self._batch["data_samples"], inputs, strict=True) if is_bad(image)]
        layer = first_bad_layer(self._model, inputs)
        states = [*self._model.named_parameters(), *self._mixture_state()]
        found = [f"the image {_image_of(sample)} is not finite after preprocessing" for sample in images[:1]]
        found.append(
            f"the first layer with an output that is not finite is {layer}"
            if layer
            else "all layer outputs are finite when the pass is repeated, so the loss or the mixture is the origin"
        )
        found += [f"{name} holds {describe(value)}" for name, value in states if is_bad(value)][:2]
        raise InputError(
            f"training stopped in step {self._runner.iter + 1}, before its update: {bad}; {'; '.join(found)}. The "
            "checkpoints are intact: check that image or layer, lower the learning rate or clip gradients "
            "(optim_wrapper.clip_grad), then continue with --resume"
        )


def _flat(losses: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, value in losses.items():
        yield from ((name, one) for one in (value if isinstance(value, (list, tuple)) else [value]))


def _image_of(sample: Any) -> str:
    label = sample.get("seg_map_path")
    return f"{sample.get('img_path', 'an image')}{f' ({label})' if label else ''}"
