"""The ways a run ends early, as a person at the keyboard meets them."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Refused before work starts: bad usage, data, weights or checkpoint (exit 2).

    The message is one line: what was wrong, what was expected, what to do.
    """


class RunError(RuntimeError):
    """Stopped while running; the last good checkpoint is kept (exit 1)."""


class Stopped(Exception):
    """Interrupted between steps; the state has been saved (exit 130)."""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """What to put behind "unknown X": the nearest known name, or all of them."""
    known = list(known)
    close = get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"


def first_line(error: Exception) -> str:
    """What an error says, cut to one line; its kind if it says nothing."""
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__
