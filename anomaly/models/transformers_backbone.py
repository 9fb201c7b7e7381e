"""Any backbone of Hugging Face's transformers (DINOv2, DINOv3, Swin, ConvNeXt, ResNet, ...) as a torch module."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anomaly.errors import InputError
from anomaly.models.hub import local_folder, quiet_transformers
from anomaly.utils.optional import needs

# Settings that change what weights compute without changing their shapes.
_NOT_IN_SHAPES = ("num_attention_heads", "num_heads", "hidden_act", "layer_norm_eps", "window_size", "rope_theta")


class TransformersBackbone(nn.Module):
    """Feature maps of a ``transformers.AutoBackbone``; the extra ``transformers`` installs the library.

    With ``config``, building the backbone needs neither a network connection nor weights. Without it, the
    architecture is read from ``name``.

    Images whose sides are not multiples of the patch size are resized (bilinear) to the nearest multiples, so that
    the maps cover the whole image. They are normalised already.

    Parameters that do not contribute to the maps, such as mask tokens and blocks after the last stage, have no
    gradients.

    Args:
        name: Model id on the Hugging Face hub, or a folder that ``save_pretrained`` wrote.
        config: The architecture: ``model_type`` and settings of its configuration class in transformers. If ``name``
            is given too, it only names the weights.
        stages: Indices of the feature maps to return, in increasing order; negative ones count from the end. Index 0
            is the stem (the patch embedding of a vision transformer, whose map i is that after block i). Default:
            the last one.
        revision: Branch, tag or commit of the model on the hub; the default is its main branch.
        frozen: Keep the weights as they are: no gradients, and always in evaluation mode.

    Attributes:
        out_channels: Number of channels of each map.
        network: The library's backbone.

    Shape:
        Images ``(B, 3, H, W)`` to one float map ``(B, out_channels[i], h_i, w_i)`` per stage, in the library's order:
        finest first for hierarchical networks; all of one size for vision transformers.

    Raises:
        InputError: transformers is not installed; the architecture is unknown, has no backbone class or cannot be
            built; a stage is out of range.

    Source: Wolf et al., Transformers: State-of-the-Art Natural Language Processing (EMNLP 2020, demonstrations).
    """

    def __init__(
        self,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        stages: Sequence[int] | None = None,
        revision: str | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        if name is None and config is None:
            raise nameless("neither")
        with needs("transformers", "TransformersBackbone"):
            import transformers  # noqa: F401
        with quiet_transformers():
            settings = stored_settings(name, revision) if config is None else _settings(config)
            if hasattr(settings, "reshape_hidden_states"):
                settings.reshape_hidden_states = True
            if stages is not None:
                settings.out_indices = _checked_stages(settings, stages)
            self.network = _build(settings)
            patch = getattr(settings, "patch_size", None) or 1
            self._patch = (patch, patch) if isinstance(patch, int) else tuple(patch)
            self.frozen = frozen
            self._unused = self._find_unused(getattr(settings, "num_channels", 3))
        self.name, self.revision = name, revision
        for key, parameter in self.network.named_parameters():
            parameter.requires_grad_(not frozen and key not in self._unused)
        self.out_channels: tuple[int, ...] = tuple(self.network.channels)
        self.train()

    def load_weights(self) -> None:
        """Load the weights of ``name``, from safetensors files only. Code of the model's author is never run.

        Raises:
            InputError: The weights cannot be had, or belong to another architecture.
        """
        with quiet_transformers():
            weights = _load(type(self.network), self.name, self.revision, self.network.config, self._unused)
        self.network.load_state_dict(weights)

    def train(self, mode: bool = True) -> TransformersBackbone:
        """Set the mode; a frozen backbone stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps of the stages. Shape: ``(B, 3, H, W)`` to one ``(B, C_i, h_i, w_i)`` per stage."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return tuple(each.float() for each in self.network(self._resized(image)).feature_maps)

    def _resized(self, image: Tensor) -> Tensor:
        """The image with sides that are multiples of the patch size."""
        sides = zip(image.shape[2:], self._patch, strict=True)
        size = [max(1, round(side / patch)) * patch for side, patch in sides]
        return image if size == list(image.shape[2:]) else F.interpolate(image, size, mode="bilinear")

    def _find_unused(self, channels: int) -> set[str]:
        """Names of the parameters that no map depends on."""
        names, parameters = zip(*self.network.named_parameters(), strict=True)
        image = self._resized(torch.zeros(1, channels, 64, 64))
        with torch.enable_grad():
            try:
                maps = self.network.eval()(image).feature_maps
                gradients = torch.autograd.grad(sum(each.sum() for each in maps), parameters, allow_unused=True)
            except Exception as error:  # whatever the library did not check when it built the network
                raise _cannot_be_built(self.network.config.model_type, error) from error
        return {key for key, gradient in zip(names, gradients, strict=True) if gradient is None}


def nameless(found: str) -> InputError:
    """Return the error of a backbone without a name.

    Args:
        found: What is there instead, for the message.
    """
    return InputError(
        f"TransformersBackbone: expected the name of a pretrained model or a config, found {found}; give "
        "name='facebook/dinov2-small', a folder, or config=dict(model_type='dinov2')"
    )


def _first_line(error: Exception) -> str:
    """What an error of the library says, without its advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return line.split(". ")[0].rstrip(".")


def _settings(config: Mapping[str, Any]) -> Any:
    """The library's configuration object of an architecture."""
    from transformers import AutoConfig

    given = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    kind = given.pop("model_type", None)
    try:
        known = AutoConfig.for_model(kind)
    except Exception as error:  # the library raises many kinds, and one of another package
        raise InputError(
            f"TransformersBackbone: expected a model_type of transformers in config, found {kind!r}; give one such as "
            "'dinov2', 'swin' or 'convnext'"
        ) from error
    unknown = [key for key in given if not hasattr(known, key)]
    if unknown:
        raise InputError(
            f"TransformersBackbone: expected settings of {type(known).__name__} in config, found "
            f"{', '.join(map(repr, unknown))}; correct or remove it"
        )
    try:
        return AutoConfig.for_model(kind, **given)
    except Exception as error:
        raise _cannot_be_built(kind, error) from error


def _folder(name: str | None, revision: str | None, weights: bool = True) -> Path:
    return local_folder(
        str(name), weights=weights, revision=revision, what="TransformersBackbone: name", use="set name='FOLDER'"
    )


def stored_settings(name: str | None, revision: str | None = None) -> Any:
    """Return the configuration object that a pretrained model is stored with.

    Args:
        name: Model id on the Hugging Face hub, or a folder.
        revision: Branch, tag or commit of the model on the hub.

    Raises:
        InputError: The model cannot be had, or has no configuration that can be read.
    """
    from transformers import AutoConfig

    folder = _folder(name, revision, weights=False)
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of the file system, the network and the library
        raise InputError(
            f"TransformersBackbone: expected a folder with the config.json of a model in name={name!r}, found none "
            f"that can be read ({_first_line(error)}); download the model again, or spell out its config"
        ) from error


def _checked_stages(settings: Any, stages: Sequence[int]) -> list[int]:
    """The stages as indices from 0."""
    names = getattr(settings, "stage_names", None)
    if not names:
        raise _without_maps(settings.model_type)
    try:
        indices = [range(len(names))[index] for index in stages]
    except (IndexError, TypeError):
        indices = []
    if not indices or sorted(set(indices)) != indices:
        raise InputError(
            f"TransformersBackbone: expected stages of 0 ({names[0]}) to {len(names) - 1} ({names[-1]}) in increasing "
            f"order, found {stages!r}; correct them"
        )
    return indices


def _build(settings: Any) -> Any:
    """The library's backbone with random weights."""
    from transformers import AutoBackbone

    try:
        return AutoBackbone.from_config(settings, trust_remote_code=False, dtype=torch.float32)
    except Exception as error:
        if "Unrecognized configuration class" in str(error):
            raise _without_maps(settings.model_type) from error
        raise _cannot_be_built(settings.model_type, error) from error


def _cannot_be_built(kind: str, error: Exception) -> InputError:
    return InputError(
        f"TransformersBackbone: expected settings with which {kind!r} can be built, found others "
        f"({_first_line(error)}); correct the backbone's config"
    )


def _without_maps(kind: str) -> InputError:
    return InputError(
        f"TransformersBackbone: expected a model with feature maps, found {kind!r}, which has no backbone class in "
        "transformers; use one such as 'dinov2', 'swin' or 'convnext'"
    )


def _compare(settings: Any, stored: Any, name: str | None) -> None:
    """Refuse settings that would silently change what the weights compute."""
    for key in ("model_type", *_NOT_IN_SHAPES):
        ours, theirs = getattr(settings, key, None), getattr(stored, key, None)
        if ours != theirs:
            raise InputError(
                f"TransformersBackbone: expected {key}={theirs!r} in config, as the weights of {name!r} were trained "
                f"with, found {ours!r}; correct config or name"
            )


def _load(kind: Any, name: str | None, revision: str | None, settings: Any, unused: set[str]) -> dict[str, Tensor]:
    """The weights of a folder or of the hub, for a backbone of class ``kind``."""
    _compare(settings, stored_settings(name, revision), name)
    folder = _folder(name, revision)
    try:
        network, report = kind.from_pretrained(
            folder,
            config=copy.deepcopy(settings),
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # of the file system, the network and the library
        raise InputError(
            f"TransformersBackbone: expected weights of a {settings.model_type!r} in safetensors files at "
            f"name={name!r}, found none that can be loaded ({_first_line(error)}); download the model and give its "
            "folder, or correct config"
        ) from error
    wrong = sorted(report["mismatched_keys"])
    if wrong:
        key, theirs, ours = wrong[0]
        raise InputError(
            f"TransformersBackbone: expected weights of the shapes of config at name={name!r}, found {key} with "
            f"{tuple(theirs)} instead of {tuple(ours)}; correct config or name"
        )
    # The norms of the returned maps belong to the backbone class; no checkpoint of the plain model has them.
    missing = sorted(key for key in set(report["missing_keys"]) - unused if not key.startswith("hidden_states_norms."))
    if missing:
        raise InputError(
            f"TransformersBackbone: expected weights of a {settings.model_type!r} at name={name!r}, found "
            f"{len(missing)} tensors missing, such as {missing[0]}; correct config or name"
        )
    weights: dict[str, Tensor] = network.state_dict()
    return weights
