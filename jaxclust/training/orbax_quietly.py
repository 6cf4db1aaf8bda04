"""Orbax without any output besides its errors, which the caller puts into words."""

import errno
import gc
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

# What the C++ code below orbax says instead of an error number.
_NUMBERS = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
}


def _others(record: logging.LogRecord) -> bool:
    """Whether a log record is not from orbax."""
    return record.name == "absl" and "orbax" not in record.pathname


@contextmanager
def quietly() -> Iterator[None]:
    """Call orbax without showing its logging or its unfinished tasks.

    Other libraries use the same loggers, which are as before when the context ends.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    for logger in loggers:
        logger.addFilter(_others)
    try:
        yield
    except BaseException:
        _drop_tasks()
        raise
    finally:
        for logger in loggers:
            logger.removeFilter(_others)


def _drop_tasks() -> None:
    """Drop the tasks that an error left behind, which complain when they are garbage-collected.

    Those that other threads finish later complain that the event loop is closed.
    """
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
    finally:
        sys.unraisablehook = hook
    if not isinstance(sys.excepthook, _WithoutClosedLoops):
        sys.excepthook = _WithoutClosedLoops(sys.excepthook)


class _WithoutClosedLoops:
    """An exception hook that ignores late answers to a closed event loop."""

    def __init__(self, hook: Any) -> None:
        self.hook = hook

    def __call__(
        self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if not (kind is RuntimeError and str(error) == "Event loop is closed"):
            self.hook(kind, error, traceback)


def number_of(error: BaseException) -> int | None:
    """The error number of a failed write, whatever it was raised as; None for other errors."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    return next((number for text, number in _NUMBERS.items() if text in str(error)), None)
