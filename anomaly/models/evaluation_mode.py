"""Put networks into evaluation mode during prediction, restore their mode, and detect predictions that are random."""

from __future__ import annotations

import argparse
import functools
import gc
import sys
import types
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from anomaly.errors import InputError

MOST = 10_000
"""Largest number of objects that are searched for modules: more would take longer than the network."""
STEADY, ROUNDING = 1e-3, 4e-6
"""Differences between two calls that count as rounding: shares of a map's range, and of its largest value."""
_PLAIN = frozenset({str, bytes, int, float, bool, complex, type(None), Tensor, nn.Parameter, np.ndarray, torch.device})
_CONTAINERS = (list, tuple, set, frozenset, deque)
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


@contextmanager
def evaluation_mode(*objects: object) -> Iterator[list[nn.Module]]:
    """Put every module that the objects are, or use, into evaluation mode while the context lasts.

    Only the flag ``training`` of each module is set, and each is restored at the end, also after an error. ``train()``
    and ``eval()``, which networks may override, are not called.

    Args:
        *objects: Modules, or functions, methods, partial functions and objects that use modules (see
            :func:`modules_of`).

    Yields:
        The modules.
    """
    found = [(module, module.training) for module in modules_of(*objects)]
    try:
        for module, training in found:
            if training:
                module.training = False
        yield [module for module, _ in found]
    finally:
        for module, training in found:
            if module.training != training:
                module.training = training


def modules_of(*objects: object) -> list[nn.Module]:
    """Find all modules that the objects are or can reach, each once.

    The search follows: submodules; attributes of objects; lists, tuples, sets and values of dicts; arguments of
    ``functools.partial``; the object of a bound method; a function's closure, defaults and wrapped function. For
    functions and classes that do not belong to a library it also follows the globals that their code names. It visits
    at most ``MOST`` objects.
    """
    modules: dict[int, nn.Module] = {}
    seen: dict[int, object] = {}  # keeps the objects alive, so that no id is reused
    waiting: deque[object] = deque(objects)
    while waiting and len(seen) < MOST:
        each = waiting.popleft()
        if id(each) in seen:
            continue
        seen[id(each)] = each
        if issubclass(type(each), nn.Module):  # never isinstance: a proxy may lie about its class
            own = [module for module in each.modules() if id(module) not in modules]  # type: ignore[attr-defined]
            modules.update((id(module), module) for module in own)
            found = [v for module in own for name, v in vars(module).items() if name not in _OF_EVERY_MODULE]
        else:
            found = list(_reached(each))
        waiting.extend(value for value in found if not _is_plain(value))
    return [module for module in modules.values() if hasattr(module, "training")]  # a frozen ScriptModule has none


def _is_plain(value: object) -> bool:
    """Whether a value cannot lead to a module."""
    kind = type(value)
    return kind in _PLAIN or (kind is tuple and all(type(each) in _PLAIN for each in value))  # type: ignore[attr-defined]


def _reached(each: Any) -> Iterator[object]:
    """Objects that one step leads to from an object that is not a module."""
    kind = type(each)
    if issubclass(kind, dict):
        yield from islice(each.values(), MOST)
    elif issubclass(kind, _CONTAINERS):
        yield from islice(each, MOST)
    elif issubclass(kind, functools.partial):
        yield from (each.func, each.args, each.keywords)
    elif issubclass(kind, types.MethodType):
        yield from (each.__self__, each.__func__)
    elif issubclass(kind, types.FunctionType):
        yield from _of_function(each)
    elif issubclass(kind, staticmethod | classmethod):
        yield each.__func__
    elif issubclass(kind, property):
        yield each.fget
    elif issubclass(kind, type):
        if not _of_library(each.__module__):
            yield from (
                value for base in each.__mro__ if not _of_library(base.__module__) for value in vars(base).values()
            )
    elif not _of_standard_library(kind.__module__) or issubclass(kind, types.SimpleNamespace | argparse.Namespace):
        yield kind
        slots = [vars(base).get("__slots__", ()) for base in kind.__mro__]
        for name in ("__dict__", *(name for of in slots for name in ((of,) if isinstance(of, str) else of))):
            with suppress(Exception):  # a proxy may have no target yet
                yield getattr(each, name)
    else:
        owner = getattr(
            each, "__self__", None
        )  # the object of a method that is not a Python function, such as one in C
        yield None if isinstance(owner, types.ModuleType) else owner


def _of_function(function: types.FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    yield from (function.__defaults__, function.__kwdefaults__, vars(function))
    if not _of_library(function.__module__):
        names = {name for code in _codes(function.__code__) for name in code.co_names}
        yield from _named(function.__globals__, names, set())


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _named(namespace: Mapping[str, object], names: Collection[str], visited: set[int]) -> Iterator[object]:
    """Values of a namespace under these names; Python modules among them are searched in turn."""
    for name in names:
        value = namespace.get(name)
        if not issubclass(type(value), types.ModuleType):
            yield value
        elif id(value) not in visited and not _of_library(vars(value).get("__name__")):
            visited.add(id(value))
            yield from _named(vars(value), names, visited)


@functools.lru_cache(maxsize=4096)
def _of_library(name: object) -> bool:
    """Whether a Python module belongs to the standard library or was installed."""
    file = getattr(sys.modules.get(str(name).partition(".")[0]), "__file__", None) or ""
    return _of_standard_library(name) or "site-packages" in file or "dist-packages" in file


def _of_standard_library(name: object) -> bool:
    return str(name).partition(".")[0] in sys.stdlib_module_names


@contextmanager
def state_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Raise an error if a network changes its state during prediction, and restore the state.

    This detects batch normalisation in training mode that :func:`modules_of` does not find, or whose flag ``training``
    has no effect, as in a traced module. The buffers of ``modules`` are checked, and those of all other modules of the
    process that normalise by running statistics and are in training mode.

    Args:
        modules: The known modules of the network.

    Raises:
        InputError: The state has changed.
    """
    hidden = [each for each in gc.get_objects() if issubclass(type(each), _NormBase) and each.training]
    buffers = {id(one): one for module in (*modules, *hidden) for one in module.buffers() if not one.is_meta}
    before = {key: one.clone() for key, one in buffers.items()}
    yield
    changed = [key for key, one in buffers.items() if not torch.equal(one, before[key])]
    for key in changed:
        buffers[key].copy_(before[key])
    if changed:
        raise InputError(
            f"expected a network that prediction does not change, found {len(changed)} changed buffers, such as "
            "running "
            "statistics of batch normalisation; put it into evaluation mode yourself (net.eval(), before it is traced "
            "or exported)"
        )


class Steady:
    """Calls a network, and warns if it predicts one image differently a second time.

    Evaluation mode does not reach operations such as ``F.dropout(x)``, which is random, or
    ``BatchNorm2d(n, track_running_stats=False)``, which normalises by the statistics of the batch. Therefore the first
    batch of one image is predicted twice. The first image of the first larger batch is predicted again too, among
    copies of itself. The state of torch's random generators is that after a single call.
    """

    def __init__(self) -> None:
        self._shown: set[bool] = set()  # whether a batch of one, and one of several

    def __call__(self, ask: Callable[[Tensor], Mapping[str, Tensor]], inputs: Tensor) -> Mapping[str, Tensor]:
        """Return the output of ``ask`` for the inputs: named maps ``(B, ...)``, and other tensors by name.

        Args:
            ask: The network.
            inputs: Inputs of one size. Shape: ``(B, 3, h, w)``.
        """
        several = len(inputs) > 1
        if several in self._shown:
            return ask(inputs)
        copies = inputs[:1].expand_as(inputs).clone()  # before the call: the network may write to its input
        found = ask(inputs)
        self._shown.add(several)
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        with torch.random.fork_rng(list(devices)):
            again = ask(copies)
        for name, value in found.items():
            if value.ndim >= 3 and not _same(value[0], again[name][0]):
                self._shown = {True, False}
                _tell(name, several)
                break
        return found


def _same(one: Tensor, other: Tensor) -> bool:
    finite = one[one.isfinite()]
    most = 0.0
    if len(finite):
        most = STEADY * float(finite.max() - finite.min()) + ROUNDING * float(finite.abs().max())
    return one.shape == other.shape and bool(torch.isclose(one, other, rtol=0, atol=most, equal_nan=True).all())


def _tell(name: str, several: bool) -> None:
    depends = "is random, or depends on the other images of its batch" if several else "is random"
    warnings.warn(
        f"the network predicts different {name} when it receives the same image twice: its output {depends}, although "
        "its modules are in evaluation mode. Possible causes are F.dropout without training=False, and batch "
        "normalisation without running statistics. Its metrics are not reproducible",
        stacklevel=4,
    )
