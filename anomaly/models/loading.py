"""Load a model: from mmsegmentation, from Hugging Face, from ``file.py:name``, from a module or a function."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from anomaly.errors import InputError
from anomaly.models.base import Model
from anomaly.models.hub import HUB_ID
from anomaly.utils.file_records import file_record
from anomaly.utils.optional import needs, raise_missing

FILES = (".py", ".pth", ".pt", ".ckpt", ".onnx", ".safetensors", ".bin", ".json", ".yaml", ".yml", ".npz")
"""Endings of files, which no id of the hub has."""
FORMS = (
    "a config and a checkpoint, a folder or hub id of Hugging Face, a detector of anomaly fit (.npz), or file.py:name"
)


def load_model(
    spec: Any,
    checkpoint: Any = None,
    *,
    fitted: str | Path | None = None,
    backbones: Sequence[Any] = (),
    device: str | None = None,
    allow_pickle: bool = False,
) -> Model:
    """Load a model from a specification.

    Args:
        spec: One of

            - ``"config.py"`` together with ``checkpoint``, or the two as a pair: a network of mmsegmentation;
            - a folder of ``save_pretrained``, or the id of a model on the Hugging Face hub: a network of
              ``transformers`` for semantic or universal segmentation, with its image processor
              (:class:`anomaly.HuggingFaceModel`). Code from there is never executed;
            - ``"detector.npz"``: a detector without a network, written by ``anomaly fit`` or :meth:`save` of what
              :func:`anomaly.fit` returns;
            - ``"file.py:name"``: the object ``name`` of a Python file: a model, an ``nn.Module``, a class or function
              that returns one when called without arguments, or a function from an image to its score map. The file is
              executed;
            - an ``nn.Module`` that returns logits (:class:`anomaly.TorchModel` has more options);
            - a function from an image ``(H, W, 3)``, uint8, to its score map ``(h, w)``, higher = more anomalous;
            - a model object: anything with ``prepare``, ``gives`` and ``classes``.
        checkpoint: File with the weights, if ``spec`` is a config. Only tensors and plain containers are loaded from
            it, so that it cannot run code.
        fitted: File of ``anomaly fit`` with what was fitted to this network: densities of features, which become part
            of its predictions, and what scores such as ``"knn"`` learned. No code is run from it.
        backbones: Where the backbones of ``fitted`` or of a detector are found now, every one, in the order of their
            densities. Needed if one has moved, or is a ``"file.py:name"`` or an ``nn.Module``; by default all are
            loaded from where they were.
        device: Device of the network, such as ``"cuda:1"``. Default: CUDA if available, else the CPU.
        allow_pickle: Whether the weights of a Hugging Face network may be read from a pickle where there are no
            safetensors. Only tensors and plain containers are loaded from it.

    Returns:
        The model.

    Raises:
        InputError: A file or name does not exist, a required package is not installed, the checkpoint does not fit the
            config, the network or a backbone is missing or another one than the densities were fitted to, there are
            ``backbones`` for a model that has none, or ``spec`` is none of these.
    """
    backbones = backbones if isinstance(backbones, (list, tuple)) else [backbones]
    if fitted is not None:
        from anomaly.models.fitted_file import load_fitted

        network = load_model(spec, checkpoint, device=device, allow_pickle=allow_pickle)
        return load_fitted(fitted, network, backbones=backbones)
    if isinstance(spec, (str, Path)) and str(spec).endswith(".npz") and checkpoint is None:
        with needs("torch"):
            from anomaly.models.fitted_file import load_fitted
        return load_fitted(spec, backbones=backbones, device=device)
    if backbones:
        raise InputError("backbones: expected a detector or a fitted file that has some, found none; omit them")
    if isinstance(spec, (tuple, list)):
        if any(not isinstance(one, (str, Path)) for one in spec):
            raise InputError(
                f"model: expected one model, or a pair of config and checkpoint, found {len(spec)} objects; evaluate "
                "one model at a time"
            )
        if len(spec) != 2 or checkpoint is not None:
            raise InputError(f"model: expected a config and a checkpoint, found {len(spec)} values; pass these two")
        spec, checkpoint = spec
    if isinstance(spec, (str, Path)):
        return _from_text(str(spec), checkpoint, device, allow_pickle)
    if checkpoint is not None:
        raise InputError(
            f"checkpoint: expected a config to go with it, found {type(spec).__name__}; omit the checkpoint"
        )
    return _from_object(spec, device, "model")


def names_huggingface(text: str) -> bool:
    """Whether a specification is a folder, or may be an id of the Hugging Face hub."""
    return Path(text).is_dir() or (HUB_ID.fullmatch(text) is not None and not text.endswith(FILES))


def _from_text(text: str, checkpoint: Any, device: str | None, allow_pickle: bool) -> Model:
    path, colon, name = text.rpartition(":")
    if colon and path.endswith(".py"):
        if checkpoint is not None:
            raise InputError(
                f"checkpoint: expected none, because {text} is a complete model; load the weights in that file"
            )
        model = _from_object(getattr(run_file(Path(path), name), name), device, text)
        with contextlib.suppress(AttributeError):  # a user's model may not allow new attributes
            own = dict(getattr(model, "inputs", {}))  # of a network that the file loads from elsewhere
            record = {**file_record(Path(path)), "object": name}
            model.inputs = {**own, "file" if "model" in own else "model": record}  # type: ignore[attr-defined]
        return model
    if text.endswith(".py") and checkpoint is not None:
        with needs("mmseg"):
            from anomaly.models.mmseg import load_mmseg
        return load_mmseg(Path(text), Path(checkpoint), device=device)
    if text.endswith(".py"):
        raise InputError(
            f"{text}: expected a checkpoint for this config, or {text}:NAME for an object of this file, found neither; "
            "add one"
        )
    if checkpoint is None and names_huggingface(text):
        with needs("transformers", f"the model {text}"):
            from anomaly.models.huggingface import load_huggingface
        return load_huggingface(text, device=device, allow_pickle=allow_pickle)
    raise InputError(f"model: expected {FORMS}, found {text!r}; {_closest_form(text)}")


def _closest_form(text: str) -> str:
    """What the user probably meant by a text that is no specification."""
    folder = Path(text).parent
    if Path(text).is_file() and (folder / "config.json").is_file():
        return f"pass the folder {folder}"
    if text.startswith(("/", ".", "~")) and not Path(text).exists():
        return "nothing is there, so check the path"
    return "use one of these forms"


def run_file(path: Path, name: str) -> ModuleType:
    """Execute a Python file of the user, with its folder first on the import path.

    Args:
        path: The file.
        name: Name of an object that it has to define.

    Returns:
        The module that the file is.

    Raises:
        InputError: There is no such file, it fails, or it does not define ``name``.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected a Python file that defines {name}, found no such file; check the path")
    place = str(path.resolve().parent)
    spec = importlib.util.spec_from_file_location(f"_model_of_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: expected a Python file, found one that cannot be imported; check the path")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, place)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # anything can happen in it
        if isinstance(error, ModuleNotFoundError):
            with contextlib.suppress(ModuleNotFoundError):  # a package that no extra installs
                raise_missing(error, what=str(path))
        raise InputError(
            f"{path}: expected a file that runs, found {type(error).__name__}: {error}; correct the file"
        ) from error
    finally:
        sys.path.remove(place)
    if not hasattr(module, name):
        found = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise InputError(
            f"{path}: expected an object {name!r}, found {', '.join(found) or 'none'}; name one that the file defines"
        )
    return module


def is_factory(found: Any) -> bool:
    """Whether an object of the user is a class, or a function without required arguments."""
    return isinstance(found, type) or (inspect.isfunction(found) and not _arguments(found))


def call_factory(found: Any, what: str) -> Any:
    """Return what a class or function of the user makes when it is called without arguments.

    Args:
        found: The class or function.
        what: Where it comes from, for the message.

    Raises:
        InputError: It fails.
    """
    try:
        return found()
    except InputError as error:  # says itself what to do
        raise InputError(f"{what}: {error}") from error
    except Exception as error:  # the user's own code
        raise InputError(
            f"{what}: {found.__name__}() failed with {type(error).__name__}: {error}; correct that code"
        ) from error


def _from_object(found: Any, device: str | None, what: str, made: bool = False) -> Model:
    if is_factory(found):
        if made:
            raise InputError(
                f"{what}: expected a model or a factory of one, found a factory that returns another factory; return "
                "the model"
            )
        return _from_object(call_factory(found, what), device, what, made=True)
    with needs("torch"):  # predictions of every model are tensors
        from torch import nn

        from anomaly.models.functions import ScoreModel
        from anomaly.models.torch import TorchModel, of_transformers, pick_device
    if all(hasattr(found, name) for name in ("prepare", "gives", "classes")) and callable(found):
        if device is not None and getattr(found, "device", None) != pick_device(device):
            raise InputError(
                f"device {device!r}: expected none for {what}, which is a model with a device of its own, found one; "
                "set it where the model is made"
            )
        return found
    if of_transformers(found):
        raise InputError(
            f"{what}: expected a network with its image processor, found {type(found).__name__} alone; pass "
            "anomaly.HuggingFaceModel(network, processor), or save both in a folder with save_pretrained"
        )
    if isinstance(found, nn.Module):
        return TorchModel(found, device=device)
    if callable(found):
        if device is not None:
            raise InputError(
                f"device {device!r}: expected none for {what}, which is a score function, found one; choose the device "
                "in the function"
            )
        return ScoreModel(found)
    raise InputError(
        f"{what}: expected a model, an nn.Module or a function of an image, found {type(found).__name__}; see "
        "anomaly.load_model"
    )


def _arguments(function: Any) -> list[inspect.Parameter]:
    """The parameters of a function that are required, or that accept any number of positional arguments."""
    kinds = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return [
        one
        for one in inspect.signature(function).parameters.values()
        if one.kind in kinds and (one.default is one.empty or one.kind is inspect.Parameter.VAR_POSITIONAL)
    ]
