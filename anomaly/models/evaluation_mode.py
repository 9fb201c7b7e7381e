"""Networks in evaluation mode while they are asked, and as they were found afterwards; what is random still is told."""

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
"""Objects that are looked into on the way to modules: more would take longer than a network does."""
STEADY, ROUNDING = 1e-3, 4e-6
"""Of the range of a map's values, and of the largest: by how much rounding may change it from one call to the next."""
_PLAIN = frozenset({str, bytes, int, float, bool, complex, type(None), Tensor, nn.Parameter, np.ndarray, torch.device})
_CONTAINERS = (list, tuple, set, frozenset, deque)
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


@contextmanager
def evaluation_mode(*subjects: object) -> Iterator[list[nn.Module]]:
    """Have every module in evaluation mode that subjects are or reach, while the context lasts.

    Only the flag ``training`` of each module is set, and each is put back as it was found, whatever happens inside:
    ``train()`` and ``eval()``, which networks override to do more, are not called.

    Args:
        subjects: Modules, or functions, methods, partial functions and objects that call them (:func:`modules_of`).
    """
    found = [(module, module.training) for module in modules_of(*subjects)]
    try:
        for module, training in found:
            if training:
                module.training = False
        yield [module for module, _ in found]
    finally:
        for module, training in found:
            if module.training != training:
                module.training = training


def modules_of(*subjects: object) -> list[nn.Module]:
    """All modules that subjects are or can reach, each once.

    Looked into are: submodules; attributes of objects; lists, tuples, sets and values of dicts; arguments of
    ``functools.partial``; the object of a bound method; a function's closure, defaults and what it wraps. Of functions
    and classes that are not a library's also the globals that their code names. At most ``MOST`` objects are.
    """
    modules: dict[int, nn.Module] = {}
    seen: dict[int, object] = {}  # with the objects, so that no identity is used twice
    waiting: deque[object] = deque(subjects)
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
    """Whether nothing is to be found in it."""
    kind = type(value)
    return kind in _PLAIN or (kind is tuple and all(type(each) in _PLAIN for each in value))  # type: ignore[attr-defined]


def _reached(each: Any) -> Iterator[object]:
    """What one step leads to from an object that is no module."""
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
            with suppress(Exception):  # a proxy may have nothing yet that it stands for
                yield getattr(each, name)
    else:
        owner = getattr(each, "__self__", None)  # of a method that is no function, such as one of C
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
    """What a namespace has under these names, and the modules of Python among it."""
    for name in names:
        value = namespace.get(name)
        if not issubclass(type(value), types.ModuleType):
            yield value
        elif id(value) not in visited and not _of_library(vars(value).get("__name__")):
            visited.add(id(value))
            yield from _named(vars(value), names, visited)


@functools.lru_cache(maxsize=4096)
def _of_library(name: object) -> bool:
    """Whether a module of Python is of the standard library or was installed."""
    file = getattr(sys.modules.get(str(name).partition(".")[0]), "__file__", None) or ""
    return _of_standard_library(name) or "site-packages" in file or "dist-packages" in file


def _of_standard_library(name: object) -> bool:
    return str(name).partition(".")[0] in sys.stdlib_module_names


@contextmanager
def state_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Refuse a network that changes its state while it is asked, and put the state back.

    That is batch normalisation in training mode where :func:`modules_of` does not find it, or where the flag
    ``training`` does nothing, as in a traced module. Looked at are the buffers of these modules, and of all others of
    the process that normalise by running statistics and are in training mode.

    Args:
        modules: Those of the network that are known.

    Raises:
        InputError: The state has changed.
    """
    hidden = [each for each in gc.get_objects() if issubclass(type(each), _NormBase) and each.training]
    buffers = {id(one): one for module in (*modules, *hidden) for one in module.buffers()}
    before = {key: one.clone() for key, one in buffers.items()}
    yield
    changed = [key for key, one in buffers.items() if not torch.equal(one, before[key])]
    for key in changed:
        buffers[key].copy_(before[key])
    if changed:
        raise InputError(
            f"expected a network that is the same after it was asked, found {len(changed)} buffers changed, such as "
            "running statistics of batch normalisation; put it into evaluation mode yourself (net.eval(), before it is "
            "traced or exported)"
        )


class Steady:
    """Asks a network, and warns where it does not give one image the same answer again.

    What evaluation mode does not reach is random by itself, as ``F.dropout(x)`` is, or normalises by the statistics of
    the batch it is given, as ``BatchNorm2d(n, track_running_stats=False)`` does. So the first batch of one image is
    shown twice, and so is the first image of the first batch of several, the second time among copies of itself. The
    generators of torch are left as one call leaves them.
    """

    def __init__(self) -> None:
        self._shown: set[bool] = set()  # whether a batch of one, and one of several

    def __call__(self, ask: Callable[[Tensor], Mapping[str, Tensor]], inputs: Tensor) -> Mapping[str, Tensor]:
        """Give what ``ask`` gives of the inputs: maps ``(B, ...)`` of three dimensions or more, and others by name.

        Args:
            ask: The network.
            inputs: Of one size. Shape: ``(B, 3, h, w)``.
        """
        several = len(inputs) > 1
        if several in self._shown:
            return ask(inputs)
        copies = inputs[:1].expand_as(inputs).clone()  # before: the network may write to its input
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
        f"the network, shown one image twice, gives other {name} the second time: its answer {depends}, though its "
        "modules are in evaluation mode, as with F.dropout without training=False or batch normalisation without "
        "running statistics; its figures will not come out again",
        stacklevel=4,
    )
