"""Whether a segmentor looks at an image whole or by sliding windows: ``model.test_cfg``, checked before it is used."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from anomaly.errors import InputError

Size = tuple[int, int]


def sliding_windows(test_cfg: Mapping[str, Any] | None) -> tuple[Size, Size] | None:
    """Give height and width of the windows, and how far they are apart, vertically and horizontally.

    Args:
        test_cfg: mmseg's setting of that name; its ``mode`` is ``"whole"`` where it does not say.

    Returns:
        None where an image is seen whole.

    Raises:
        InputError: Another mode, windows or strides that are not two positive integers, or windows that leave pixels
            out.
    """
    settings = test_cfg or {}
    mode = settings.get("mode", "whole")
    if mode not in ("whole", "slide"):
        close = difflib.get_close_matches(str(mode), ("whole", "slide"), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "; set one of the two"
        raise InputError(f"model.test_cfg.mode: expected 'whole' or 'slide', found {mode!r}{hint}")
    if mode == "whole":
        return None
    window, stride = (_size(name, settings.get(name)) for name in ("crop_size", "stride"))
    if stride[0] > window[0] or stride[1] > window[1]:
        raise InputError(
            f"model.test_cfg.stride: expected no more than crop_size {window}, or pixels are left out, found {stride}; "
            "set a smaller one"
        )
    return window, stride


def _size(name: str, value: Any) -> Size:
    sides = list(value) if isinstance(value, list | tuple) else []
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise InputError(
            f"model.test_cfg.{name}: expected two positive integers, a height and a width, as model.test_cfg.mode is "
            f"'slide', found {value!r}; set them, such as {name}=(512,512)"
        )
    return sides[0], sides[1]
