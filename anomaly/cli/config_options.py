"""``--cfg-options KEY=VALUE``: override settings of a config. A setting that would have no effect is refused.

A key has an effect if the command reads that part of the config (:class:`Reads`), and if that part knows the name: its
class or function takes such an argument, or, for a dict without a ``type``, the name is present or documented. Other
keys are refused with the nearest valid name.
"""

from __future__ import annotations

import ast
import copy
import difflib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anomaly.errors import InputError

NETWORK = ("model", "default_scope")
"""Keys that are read to build a network."""

LOOKING = (
    *NETWORK,
    "test_dataloader.dataset.pipeline",
    "test_pipeline",
    "val_dataloader.dataset.type",
    "val_dataloader.dataset.metainfo",
)
"""Keys that are read to run a network on images: also the preprocessing and the class names."""

CLOSED_SET = (
    *("val_dataloader.dataset", "val_evaluator.type", "val_evaluator.ignore_index"),
    *("val_evaluator.*.type", "val_evaluator.*.ignore_index"),
)
"""Further keys that are read to measure the closed set."""

TESTING = (
    *(*NETWORK, "data_preprocessor", "test_dataloader", "test_cfg", "test_evaluator", "default_hooks", "custom_hooks"),
    *("work_dir", "env_cfg", "log_processor", "log_level", "visualizer", "randomness", "experiment_name"),
    *("model_wrapper_cfg", "sync_bn", "find_unused_parameters"),
)
"""Keys that are read to test a network with mmengine's runner."""

ALL = (
    *(*TESTING, "train_dataloader", "train_cfg", "val_dataloader", "val_cfg", "val_evaluator", "optim_wrapper"),
    *("auto_scale_lr", "param_scheduler", "load_from", "resume", "activation_checkpointing", "efficient_conv_bn_eval"),
    "compile",
)
"""Keys that are read to train a network, or stored in the work dir to test it later."""

CHECKPOINT_FOLLOWS = {
    r"model\.(.*\.)?(init_cfg|pretrained)": "the weights come from the checkpoint, and no others are read"
}
"""Keys that have no effect if the weights come from a checkpoint, and why."""

_REPLACES = {"data_preprocessor": "model.data_preprocessor", "test_pipeline": "test_dataloader.dataset.pipeline"}
_TYPED = {"type", "_scope_"}  # keys of everything that a registry builds
_MANY = 4  # number of places that a message names


@dataclass(frozen=True)
class Reads:
    """The parts of a config that a command reads.

    Args:
        keys: Dotted keys, each with everything below it; ``*`` stands for any one part, such as an index.
        but: Exceptions, with the reason: regular expressions of whole keys, each with everything below it.
    """

    keys: Sequence[str] = ALL
    but: Mapping[str, str] = field(default_factory=dict)

    def why_not(self, key: str) -> str | None:
        """Why a key is not read, if there is a known reason."""
        return next((why for pattern, why in self.but.items() if re.fullmatch(rf"({pattern})(\..+)?", key)), None)

    def reads(self, key: str) -> bool:
        """Whether the command reads a key, something below it, or something that contains it."""
        return self.why_not(key) is None and any(
            all(given == read or read == "*" for given, read in zip(key.split("."), keys.split("."), strict=False))
            for keys in self.keys
        )


def set_options(config: Any, options: Sequence[str], reads: Reads) -> Any:
    """Override settings of a config.

    Args:
        config: The config; it is not changed.
        options: Settings ``KEY=VALUE`` in mmengine's notation.
        reads: The parts of the config that the command reads.

    Returns:
        The config with the settings.

    Raises:
        InputError: An option is not of the form ``KEY=VALUE``, does not fit the config, has no effect, or contradicts
            another option.
    """
    parsed = [_parse(option) for option in options]
    _check_one_another([key for key, _, _ in parsed])
    changed = copy.deepcopy(config)
    for key, value, option in sorted(parsed, key=lambda each: not each[0].endswith("._delete_")):
        try:
            changed.merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError, AttributeError, AssertionError, RecursionError) as error:
            raise InputError(f"--cfg-options {option} does not fit the config: {error}") from error
    for key, value, option in parsed:
        if fault := _unread(key, config, reads) or _unknown(key, value, config, changed):
            raise InputError(f"--cfg-options {option} has no effect: {fault}")
    return changed


def _parse(option: str) -> tuple[str, Any, str]:
    from mmengine.config import DictAction

    key, separator, value = option.partition("=")
    if not separator or not key:
        raise InputError(f"--cfg-options: expected KEY=VALUE, found {option!r}; write it so")
    try:
        return key, DictAction._parse_iterable(value), option
    except (AssertionError, RecursionError) as error:
        raise InputError(f"--cfg-options {option} does not fit the config: {error}") from error


def _check_one_another(keys: Sequence[str]) -> None:
    """Refuse keys if one would replace another."""
    for i, key in enumerate(keys):
        for other in keys[:i]:
            if key == other:
                raise InputError(f"--cfg-options {key}: expected each key once, found it twice; give it once")
            if f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}."):
                raise InputError(
                    f"--cfg-options {other} and {key}: expected separate keys, but one contains the other and would "
                    "replace it; "
                    "give one of them"
                )


# Which parts of a config are read.


def _unread(key: str, config: Any, reads: Reads) -> str:
    """Why the command does not read a key; empty if it does."""
    top, _, rest = key.partition(".")
    tool = Path(sys.argv[0]).name
    if why := reads.why_not(key):
        return why + "; omit it"
    tops = list(dict.fromkeys(keys.partition(".")[0] for keys in reads.keys))
    if top in tops and (instead := _REPLACES.get(top)) and _has(config, instead):
        return f"{instead} is read instead; set {'.'.join(filter(None, (instead, rest)))}"
    if reads.reads(key):
        return ""
    if top in tops:
        read = [keys for keys in reads.keys if keys.partition(".")[0] == top]
        return f"{tool} reads only {' and '.join(read)} of it; omit it"
    if top in ALL:
        return f"{tool} does not read {top}; omit it"
    if top in config:
        places = [place for place in _equal(config[top], config, "") if reads.reads(place)]
        places = [place + (f".{rest}" if rest else "") for place in places]
        found = ", ".join(places[:_MANY]) + (f" and {len(places) - _MANY} more" if len(places) > _MANY else "")
        return f"{top} is a variable of the config file, whose value was substituted when the file was read; " + (
            f"set the key that you mean, with the same value: {found}" if found else "set the key where it is used"
        )
    return f"{tool} reads no {top!r} of a config; " + _nearest(top, tops)


def _has(config: Any, key: str) -> bool:
    node = config
    for part in key.split("."):
        if not isinstance(node, Mapping) and node is not config:
            return False
        node = node.get(part)
    return bool(node)


def _equal(value: Any, node: Any, path: str) -> Iterator[str]:
    """Dotted keys below the top level that hold an equal value."""
    for key, child in node.items() if hasattr(node, "items") else enumerate(node):
        place = f"{path}.{key}" if path else str(key)
        if path and value is not None and type(child) is type(value) and child == value:
            yield place
        elif isinstance(child, Mapping | list | tuple):
            yield from _equal(value, child, place)


def _nearest(name: str, names: Iterable[str], elsewhere: Sequence[str] = ()) -> str:
    close = difflib.get_close_matches(name, names := sorted(names), n=1)
    if close or elsewhere:
        return f"did you mean {' or '.join([*elsewhere[:_MANY], *close] if elsewhere else close)}?"
    return f"it has {', '.join(names)}" if names else "it has no settings"


# Which names a part of a config accepts.


def _unknown(key: str, value: Any, config: Any, changed: Any) -> str:
    """Which part of a key is unknown, as a sentence; empty if all are known."""
    parts, before, after = key.split("."), config._cfg_dict, changed._cfg_dict
    for depth, part in enumerate(parts):
        path = ".".join(parts[:depth])
        if isinstance(after, list):
            before = before[int(part)] if isinstance(before, list) else None
            after = after[int(part)]
            continue
        if part == "_delete_":
            return "" if value is True else "it has a meaning only with the value True; omit it"
        names = _names(path, before, after, changed) if depth else None
        if names is not None and part not in names:
            elsewhere = [place for place in _keys(config.get(parts[0]), parts[0]) if place.endswith(f".{parts[-1]}")]
            rest = "".join(f".{each}" for each in parts[depth + 1 :])
            whole = "" if not rest else f" (of {key})"
            return f"{path}{_of(after)} takes no {part!r}{whole}; " + _nearest(part, names, elsewhere)
        before = before.get(part) if isinstance(before, Mapping) else None
        after = after.get(part)
    return next((_alone(needed) for pattern, needed in _needed(value, changed) if re.fullmatch(pattern, key)), "")


def _alone(needed: str) -> str:
    return f"it is read only with {needed}; set that too, or omit it"


def _needed(value: Any, config: Any) -> Iterator[tuple[str, str]]:
    """Keys that have no effect without another setting, with that setting, where it is missing."""
    if ((config.get("model") or {}).get("test_cfg") or {}).get("mode") != "slide":
        yield r"model\.test_cfg\.(crop_size|stride)", "model.test_cfg.mode=slide"
    if not (config.get("auto_scale_lr") or {}).get("enable"):
        yield r"auto_scale_lr\.base_batch_size", "auto_scale_lr.enable=True"
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if value is True and not (config.get(loader) or {}).get("num_workers"):
            yield rf"{loader}\.persistent_workers", f"{loader}.num_workers above 0"


def _of(node: Any) -> str:
    kind = node.get("type") if isinstance(node, Mapping) else None
    return "" if kind is None else f" (type {kind if isinstance(kind, str) else getattr(kind, '__name__', kind)})"


def _keys(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, Mapping | list | tuple):
        for key, child in node.items() if isinstance(node, Mapping) else enumerate(node):
            yield f"{path}.{key}"
            yield from _keys(child, f"{path}.{key}")


def _names(path: str, before: Any, after: Mapping[str, Any], config: Mapping[str, Any]) -> set[str] | None:
    """Names that a dict of a config may have: arguments of its class or function, or documented names; None for any.

    Args:
        path: Dotted key of the dict.
        before: The dict in the config file; None if the file has none.
        after: The dict with all settings.
        config: The whole config with all settings.
    """
    before = before if isinstance(before, Mapping) else {}
    documented = next((names for pattern, names in _documented(config) if re.fullmatch(pattern, path)), None)
    if documented is None:
        names = _TYPED | taken if (taken := _typed(after.get("type"))) is not None else None
    else:
        names = documented(after)
    return None if names is None else names | {str(name) for name in before}


Names = Callable[[Mapping[str, Any]], "set[str] | None"]


def _documented(config: Mapping[str, Any]) -> list[tuple[str, Names]]:
    """Dicts that are not, or not only, arguments of the class they name: a pattern of the path, and the names."""
    import torch
    from mmengine.dist import init_dist
    from mmengine.hooks import CheckpointHook
    from mmengine.optim import AmpOptimWrapper
    from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
    from mmengine.utils.dl_utils import set_multi_processing

    from gmmseg.training import SafeRunner

    def only(*names: str) -> Names:
        return lambda _: set(names)

    def anything(_: Any) -> None:
        return None

    def arguments(*kinds: Any, more: Iterable[str] = ()) -> Names:
        return lambda _: set(more).union(*map(_by_name, kinds))

    def of_type(default: str | None, *more: str) -> Names:
        """What the class takes, or the default one, and more."""

        def names(node: Mapping[str, Any]) -> set[str] | None:
            taken = _typed(node.get("type", default))
            return None if taken is None else taken | _TYPED | set(more)

        return names

    def where(holds: Callable[[Mapping[str, Any]], bool], then: Names, otherwise: Names) -> Names:
        return lambda node: then(node) if holds(node) else otherwise(node)

    def hooks(node: Mapping[str, Any]) -> set[str]:
        defaults = {"runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint", "guard"}
        return defaults | {name for name, hook in node.items() if isinstance(hook, Mapping) and "type" in hook}

    loader = ("dataset", "sampler", "batch_sampler", "num_batch_per_epoch", "disable_subprocess_warning")
    multiplied = ("bias_lr_mult", "bias_decay_mult", "norm_decay_mult", "dwconv_decay_mult", "flat_decay_mult")
    wrapper = of_type("OptimWrapper", *_by_name(AmpOptimWrapper), "optimizer", "constructor", "paramwise_cfg")
    paramwise = only("custom_keys", *multiplied, "bypass_duplicate", "dcn_offset_lr_mult")
    if (config.get("optim_wrapper") or {}).get("constructor"):  # the constructor decides what it takes
        wrapper = paramwise = anything
    by_norm, by_value = (
        arguments(clip, more=("type",)) for clip in (torch.nn.utils.clip_grad_norm_, torch.nn.utils.clip_grad_value_)
    )
    loops = arguments(IterBasedTrainLoop, EpochBasedTrainLoop, more=("by_epoch",))
    keeping = arguments(CheckpointHook, SafeRunner.save_checkpoint, Runner.save_checkpoint, more=_TYPED | {"priority"})
    keeps = lambda node: node.get("type", "CheckpointHook") == "CheckpointHook"  # noqa: E731
    return [
        (r"(train|val|test)_dataloader", arguments(torch.utils.data.DataLoader, more=loader)),
        (r"optim_wrapper", wrapper),
        (r"optim_wrapper\.paramwise_cfg", paramwise),
        (r"optim_wrapper\.paramwise_cfg\.custom_keys", anything),
        (r"optim_wrapper\.paramwise_cfg\.custom_keys\.[^.]+", only("lr_mult", "decay_mult")),
        (r"optim_wrapper\.clip_grad", where(lambda node: node.get("type") == "value", by_value, by_norm)),
        (r"train_cfg", where(lambda node: "type" in node, of_type(None), loops)),
        (r"val_cfg", of_type("ValLoop")),
        (r"test_cfg", of_type("TestLoop")),
        (r"param_scheduler(\.\d+)?", of_type(None, "convert_to_iter_based")),
        (r"default_hooks", hooks),
        (r"default_hooks\.guard", of_type("gmmseg.TrainingGuardHook")),
        (r"default_hooks\.checkpoint", where(keeps, keeping, of_type(None, "priority"))),
        (r"(default_hooks\.[^.]+|custom_hooks\.\d+)", of_type(None, "priority")),
        (r"log_processor", of_type("LogProcessor")),
        (r"visualizer", of_type("Visualizer")),
        (r"model_wrapper_cfg", of_type("MMDistributedDataParallel")),
        (r"env_cfg", only("cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit")),
        (r"env_cfg\.mp_cfg", arguments(set_multi_processing)),
        (r"env_cfg\.dist_cfg", arguments(init_dist, torch.distributed.init_process_group)),
        (r"randomness", arguments(SafeRunner.set_randomness)),
        (r"auto_scale_lr", only("enable", "base_batch_size")),
        (r"compile", arguments(torch.compile)),
        (r"model\.train_cfg", only()),
        (r"model\.test_cfg", only("mode", "crop_size", "stride")),
        (r"model\..*data_preprocessor\.test_cfg", only("size", "size_divisor")),
        (r"model\..*\.mixture", anything),  # the head itself refuses unknown settings
        (r".+\.(norm|conv|act)_cfg", of_type(None, "requires_grad")),
        (r".+\.init_cfg(\.\d+)?(\.override(\.\d+)?)?", of_type(None, "override", "name")),
        (r".+\.data_prefix", only("img_path", "seg_map_path")),
        (r".+\.metainfo", only("classes", "palette")),
        (r".+\.(backend_args|file_client_args)", anything),
    ]


def _typed(kind: Any) -> set[str] | None:
    """Argument names of a registered class or function; empty without one; None if they are not known."""
    if kind is None:
        return set()
    found = [kind] if callable(kind) else _registered(str(kind))
    sets = [_parameters(each) for each in found]
    return set().union(*sets) if sets and None not in sets else None  # type: ignore[arg-type]


def _registered(name: str) -> list[Any]:
    """Everything that mmseg's registries have under a name; they find other packages by their scope."""
    import mmseg.registry
    from mmengine.registry import Registry

    registries = [each for each in vars(mmseg.registry).values() if isinstance(each, Registry)]
    found = [each for registry in registries if (each := registry.get(name)) is not None]
    return list(dict.fromkeys(found))


def _parameters(kind: Any) -> set[str] | None:
    """Argument names of a class or function, including those that ``**kwargs`` passes to base classes; None for any."""
    takers = [kind]
    if inspect.isclass(kind):
        takers = [vars(each)["__init__"] for each in kind.__mro__[:-1] if "__init__" in vars(each)]
    names: set[str] = set()
    for taker in takers:
        try:
            rest = next((name for name, each in _arguments(taker) if each is inspect.Parameter.VAR_KEYWORD), None)
        except (TypeError, ValueError):
            return None
        names |= _by_name(taker)
        if rest is None or kind is taker:
            return names if rest is None else None
        uses = _uses(taker, rest)
        if uses is None:
            return None
        taken, handed_on = uses
        names |= taken
        if not handed_on:
            return names
    return names


def _arguments(taker: Any) -> list[tuple[str, Any]]:
    """Name and kind of each argument."""
    return [(each.name, each.kind) for each in inspect.signature(taker).parameters.values()]


def _by_name(taker: Any) -> set[str]:
    """Names of the arguments that can be passed by name."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name for name, kind in _arguments(taker) if kind in kinds} - {"self"}


def _uses(method: Any, rest: str) -> tuple[set[str], bool] | None:
    """Names that a method takes from ``**rest``, and whether it passes the rest to ``super``; None for other uses."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    except (OSError, TypeError, SyntaxError):
        return None
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    taken, handed_on = set(), False
    for use in (node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == rest):
        parent = parents[use]
        outer = parents.get(parent)
        match parent, outer:
            case ast.keyword(arg=None), ast.Call(func=ast.Attribute(attr="__init__", value=ast.Call(func=called))):
                if not (isinstance(called, ast.Name) and called.id == "super"):
                    return None
                handed_on = True
            case ast.Attribute(attr="get" | "pop" | "setdefault"), ast.Call(args=[ast.Constant(value=str(name)), *_]):
                taken.add(name)
            case ast.Subscript(slice=ast.Constant(value=str(name))), _:
                taken.add(name)
            case ast.Compare(left=ast.Constant(value=str(name))), _:
                taken.add(name)
            case _:
                return None
    return taken, handed_on
