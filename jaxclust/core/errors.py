"""The ways a run can end early, as the user sees them."""

import errno
import re
from collections.abc import Iterable
from difflib import get_close_matches

_SETTING = re.compile(r"‹([a-z][a-z0-9_.]*)›")


# Numbers of errors of a disk without room, which the user can make.
OUT_OF_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class InputError(ValueError):
    """Refused before work starts: bad usage, data, weights or checkpoint (exit 2).

    The message is one line: what was wrong, what was expected, what to do. Settings are written as
    `‹batch_size›`: Python users see `batch_size`, the command line shows `--batch-size`.

    >>> error = InputError("‹batch_size› must be at least 1, not 0")
    >>> print(error)
    batch_size must be at least 1, not 0
    >>> print(error.on_command_line())
    --batch-size must be at least 1, not 0
    >>> error.settings
    ('batch_size',)
    """

    def __init__(self, message: str) -> None:
        super().__init__(_SETTING.sub(r"\1", message))
        self._marked = message

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings that the message names, in order."""
        return tuple(dict.fromkeys(_SETTING.findall(self._marked)))

    @property
    def marked(self) -> str:
        """The message with its settings still marked, from which the same error can be made."""
        return self._marked

    def on_command_line(self) -> str:
        """The message with settings as options of the command line."""
        return _SETTING.sub(lambda found: option(found[1]), self._marked)


def option(setting: str) -> str:
    """A setting's name on the command line: `views.affine.shift` is `--shift`."""
    return f"--{setting.rsplit('.', 1)[-1].replace('_', '-')}"


class RunError(RuntimeError):
    """Stopped while running; the last good checkpoint is kept (exit 1)."""


class Stopped(Exception):
    """Interrupted between steps; the state has been saved (exit 130)."""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """What to say after "unknown X": the nearest known name, or all of them."""
    known = list(known)
    close = get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"


def first_line(error: Exception) -> str:
    """An error's message, cut to one line; its type if it has none."""
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__
