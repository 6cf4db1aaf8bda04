"""Checks the arguments of `jaxclust run` against the dataclass fields that they set."""

import functools
import operator
import types
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from jaxclust.core.errors import InputError

_KINDS = {int: "a whole number", float: "a number", Path: "a path", str: "a word"}


class Given(NamedTuple):
    """An option as given."""

    name: str  # without dashes, words joined by hyphens
    words: tuple[str, ...]  # as given, the option itself first

    @property
    def values(self) -> tuple[str, ...]:
        """The values given for it."""
        own = self.words[0].split("=", 1)[1:]
        return (*own, *self.words[1:])


def types_of(instance: Any) -> dict[str, Any]:
    """The type of every option that a dataclass defines, including nested ones."""
    found: dict[str, Any] = {}
    hints = get_type_hints(type(instance))
    for entry in fields(instance):
        value = getattr(instance, entry.name)
        if is_dataclass(value):
            found |= types_of(value)
        else:
            found[entry.name.replace("_", "-")] = hints[entry.name]
    return found


def options_in(arguments: Sequence[str], known: dict[str, Any]) -> list[Given]:
    """The arguments grouped by option.

    Raises:
        InputError: an unknown option (names the nearest one), or an extra word.
    """
    found: list[Given] = []
    for word in arguments:
        if word.startswith("--"):
            name = word[2:].split("=", 1)[0].replace("_", "-")
            _check_known(name, word, known)
            found.append(Given(name, (word,)))
        elif found and _takes(found[-1], known):
            found[-1] = found[-1]._replace(words=(*found[-1].words, word))
        else:
            raise InputError(f"unexpected '{word}': every value must follow its --option")
    return found


def _check_known(name: str, word: str, known: dict[str, Any]) -> None:
    kind = known.get(name.removeprefix("no-") if name.startswith("no-") else name)
    if name in known or kind is bool or name == "help":
        return
    close = get_close_matches(name, sorted(known), 1)
    hint = f"did you mean --{close[0]}?" if close else "see --help"
    raise InputError(f"unknown option {word.split('=', 1)[0]}; {hint}")


def _takes(given: Given, known: dict[str, Any]) -> bool:
    """Whether the option can take another value."""
    kind = _without_none(known.get(given.name))[0]
    return get_origin(kind) in {tuple, list} or (kind not in {bool, None} and not given.values)


def complaint(
    given: Sequence[Given], known: dict[str, Any], accepted: Callable[[Sequence[str]], bool]
) -> str:
    """What is wrong with options that cannot be parsed, on one line.

    Args:
        given: the options.
        known: their types.
        accepted: whether the parser accepts these words on their own.
    """
    bad = next((one for one in given if not accepted(one.words)), None)
    if bad is None:
        return "these options cannot be combined; see --help"
    kind, optional = _without_none(known.get(bad.name))
    if kind is None or kind is bool:
        return f"--{bad.name} takes no value; see --help"
    if not bad.values:
        return f"--{bad.name} needs a value: {_expected(kind)}; see --help"
    said = " ".join(bad.values)
    none = ", or None" if optional else ""
    return f"--{bad.name} must be {_expected(kind)}{none}, not '{said}'; see --help"


def _without_none(kind: Any) -> tuple[Any, bool]:
    """A type without its `| None`, and whether it had one."""
    if get_origin(kind) not in {Union, types.UnionType}:
        return kind, False
    parts = get_args(kind)
    others = [one for one in parts if one is not type(None)]
    return functools.reduce(operator.or_, others), len(others) < len(parts)


def _expected(kind: Any) -> str:
    """A type in words."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) in {Union, types.UnionType}:
        return " or ".join(_expected(one) for one in get_args(kind))
    if get_origin(kind) in {tuple, list}:
        parts = get_args(kind)
        if (len(parts) == 2 and parts[1] is Ellipsis) or len(parts) == 1:
            return f"values, each {_expected(parts[0])}"
        return f"{len(parts)} values ({', '.join(_expected(one) for one in parts)})"
    return _KINDS.get(kind, f"a value of type {getattr(kind, '__name__', kind)}")
