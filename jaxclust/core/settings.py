"""Settings that declare their own bounds, and the check that enforces them."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jaxclust.core.errors import InputError, nearest_name


@dataclass(frozen=True)
class Bounds:
    """What a number must satisfy."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf  # must be larger than this


def setting(
    default: Any = dataclasses.MISSING,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
) -> Any:
    """A dataclass field for a number with bounds; each bound may be left out.

    Args:
        default: its value if none is given.
        least: lowest value.
        most: highest value.
        above: every value must be larger.
    """
    return dataclasses.field(default=default, metadata={"bounds": Bounds(least, most, above)})


def check(*holders: Any) -> None:
    """InputError for a setting that is not of its declared type, or out of its bounds.

    Args:
        holders: dataclasses; those nested in them are checked too.
    """
    for holder in holders:
        hints = get_type_hints(type(holder))
        for field in dataclasses.fields(holder):
            value = getattr(holder, field.name)
            if is_dataclass(value):
                check(value)
                continue
            check_value(field.name, value, hints[field.name])
            check_bounds(field.name, value, field.metadata.get("bounds", Bounds()))


def check_value(name: str, value: Any, kind: Any) -> None:
    """InputError for a value that is not of a setting's declared type."""
    kinds = get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)
    if any(_fits(value, one) for one in kinds):
        return
    texts = [one for one in kinds if get_origin(one) is Literal]
    if texts and isinstance(value, str):
        raise InputError(
            f"‹{name}› cannot be '{value}'; {nearest_name(value, map(str, get_args(texts[0])))}"
        )
    wanted = " or ".join(_said(one) for one in kinds)
    raise InputError(f"‹{name}› must be {wanted}, not {value!r}")


def check_bounds(name: str, value: Any, bounds: Bounds) -> None:
    """InputError for a number out of its bounds, or not finite; other values pass."""
    number: Any = value
    if isinstance(value, bool) or not isinstance(value, Real):
        return
    if not math.isfinite(number):
        raise InputError(f"‹{name}› must be a finite number, not {value}")
    if number < bounds.least:
        raise InputError(f"‹{name}› must be at least {bounds.least:g}, not {value}")
    if number > bounds.most:
        raise InputError(f"‹{name}› must be at most {bounds.most:.10g}, not {value}")
    if number <= bounds.above:
        what = "positive" if bounds.above == 0 else f"more than {bounds.above:g}"
        raise InputError(f"‹{name}› must be {what}, not {value}")


def _fits(value: Any, kind: Any) -> bool:
    if kind is Any or kind is None or kind is NoneType:
        return kind is Any or value is None
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if not isinstance(value, tuple | list):
            return False
        if parts[1:] == (Ellipsis,):
            parts = parts[:1] * len(value)
        return len(value) == len(parts) and all(map(_fits, value, parts))
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is int:
        return isinstance(value, Integral)
    if kind is float:
        return isinstance(value, Real)
    if get_origin(kind) in {list, Sequence, Callable}:
        return True
    return isinstance(value, kind)


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _said(kind: Any) -> str:
    if kind is NoneType or kind is None:
        return "none"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_args(kind)[1:] == (Ellipsis,):
        return f"values, each {_said(get_args(kind)[0])}"
    if get_origin(kind) is tuple:
        return f"{len(get_args(kind))} values, each {_said(get_args(kind)[0])}"
    return _NAMES.get(kind, "a path" if kind is Path else getattr(kind, "__name__", str(kind)))


def changed(config: Any, **changes: Any) -> Any:
    """A dataclass with the changes that are not None and that it has settings for."""
    known = {field.name for field in dataclasses.fields(config)}
    given = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(config, **{n: v for n, v in given.items() if n in known})
