"""A model from what people type: a config and a checkpoint, ``file.py:name``, a module, a function."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

from anomaly.errors import InputError
from anomaly.models.base import Model
from anomaly.utils.file_records import file_record
from anomaly.utils.optional import needs


def load_model(spec: Any, checkpoint: Any = None, *, device: str | None = None) -> Model:
    """Give a model for what names or is one.

    Args:
        spec: One of

            - ``"config.py"`` with ``checkpoint``, or the two as a pair: a network of mmsegmentation;
            - ``"file.py:name"``: what that file calls ``name``: a model, an ``nn.Module``, a class or a function that
              makes one without arguments, or a function of an image that gives its score map. The file is run;
            - an ``nn.Module`` that gives logits (:class:`anomaly.TorchModel` has more options);
            - a function of an image ``(H, W, 3)``, uint8, that gives its score map ``(h, w)``;
            - a model: anything with ``prepare``, ``gives`` and ``classes``.
        checkpoint: File of the weights that belong to a config.
        device: Where a network runs, such as ``"cuda:1"``; CUDA where there is one, else the CPU, by default.

    Returns:
        The model.

    Raises:
        InputError: There is no such file or name, something needed is not installed, or it is no model.
    """
    if isinstance(spec, (tuple, list)):
        if len(spec) != 2 or checkpoint is not None:
            raise InputError(f"model: expected a config and a checkpoint, found {len(spec)} values; give the two")
        spec, checkpoint = spec
    if isinstance(spec, (str, Path)):
        return _from_text(str(spec), checkpoint, device)
    if checkpoint is not None:
        raise InputError(f"checkpoint: expected a config beside it, found {type(spec).__name__}; give one or the other")
    return _from_object(spec, device, "model")


def _from_text(text: str, checkpoint: Any, device: str | None) -> Model:
    path, colon, name = text.rpartition(":")
    if colon and path.endswith(".py"):
        if checkpoint is not None:
            raise InputError(f"checkpoint: {text} names a model itself; load the weights in that file")
        model = _from_object(_named(Path(path), name), device, text)
        with contextlib.suppress(AttributeError):  # a model of somebody's own may not take it
            model.inputs = {"model": {**file_record(Path(path)), "object": name}}  # type: ignore[attr-defined]
        return model
    if text.endswith(".py") and checkpoint is not None:
        with needs("mmseg"):
            from anomaly.models.mmseg import load_mmseg
        return load_mmseg(Path(text), Path(checkpoint), device=device)
    if text.endswith(".py"):
        raise InputError(
            f"{text}: expected a checkpoint beside the config, or {text}:NAME for what that file calls NAME; add one"
        )
    raise InputError(f"model {text!r}: expected a config and a checkpoint, or file.py:name; name one of the two")


def _named(path: Path, name: str) -> Any:
    """What a file of Python calls a name; the file is run, its folder first among those that imports look in."""
    if not path.is_file():
        raise InputError(f"{path}: expected a file of Python with {name}, found no such file; check the path")
    place = str(path.resolve().parent)
    spec = importlib.util.spec_from_file_location(f"_model_of_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: expected a file of Python, found one that cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, place)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # anything can happen in it
        raise InputError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(place)
    if not hasattr(module, name):
        found = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise InputError(f"{path}: expected it to have {name!r}, found {', '.join(found) or 'nothing'}; name one")
    return getattr(module, name)


def _from_object(found: Any, device: str | None, what: str, made: bool = False) -> Model:
    if isinstance(found, type) or (inspect.isfunction(found) and not _arguments(found)):
        if made:
            raise InputError(f"{what}: expected a model or a factory of one, found a factory of factories")
        try:
            built = found()
        except Exception as error:  # the user's own code
            raise InputError(f"{what}: {found.__name__}() fails: {type(error).__name__}: {error}") from error
        return _from_object(built, device, what, made=True)
    with needs("torch"):  # of any model: predictions are tensors
        from torch import nn

        from anomaly.models.functions import ScoreModel
        from anomaly.models.torch import TorchModel
    if all(hasattr(found, name) for name in ("prepare", "gives", "classes")) and callable(found):
        return found
    if isinstance(found, nn.Module):
        return TorchModel(found, device=device)
    if callable(found):
        return ScoreModel(found)
    raise InputError(
        f"{what}: expected a model, an nn.Module or a function of an image, found {type(found).__name__}; see "
        "anomaly.load_model"
    )


def _arguments(function: Any) -> list[inspect.Parameter]:
    """Arguments that have to be given, or could be given by their place."""
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
