"""Ctrl-C: at once while nothing can be lost, between steps while a run trains."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# What to do after an interruption, for the message; empty if nothing can be resumed.
_advice: list[str] = []


def advice() -> str:
    """What to say after "interrupted" at this moment; begins with a semicolon, or is empty."""
    return _advice[-1] if _advice else ""


@contextmanager
def advising(text: str) -> Iterator[None]:
    """What to say after "interrupted", within the context."""
    _advice.append(f"; {text}")
    try:
        yield
    except KeyboardInterrupt as error:
        # It is caught outside of this context.
        error.add_note(_advice[-1])
        raise
    finally:
        _advice.pop()


def end_at_once(signum: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    """End the process with one line and status 130, whatever it is doing.

    It raises no exception: libraries sometimes swallow those, and some with running threads or
    callbacks print tracebacks. Half-written files have temporary names.
    """
    del signum, frame
    os.write(2, f"jaxclust: interrupted{advice()}\n".encode())
    os._exit(130)


def install() -> None:
    """End at once on Ctrl-C from now on; for a process that is a command from start to end."""
    if threading.current_thread() is not threading.main_thread():
        return
    # A command in the background of a shell script must ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, end_at_once)


@contextmanager
def _handled(handle: Callable[[Any, int, FrameType | None], None]) -> Iterator[bool]:
    """SIGINT handled by `handle(previous handler, …)`; False outside the main thread."""
    try:
        before: Any = signal.getsignal(signal.SIGINT)
        if not callable(before):
            before = signal.default_int_handler
        old = signal.signal(signal.SIGINT, lambda *given: handle(before, *given))
    except ValueError:  # not the main thread: whoever owns it handles Ctrl-C
        yield False
        return
    try:
        yield True
    finally:
        signal.signal(signal.SIGINT, old)


@contextmanager
def asking() -> Iterator[Callable[[], bool]]:
    """Ctrl-C is noted, to be asked about between chunks; a second one acts as before the context.

    That ends the process if it is a command, and raises KeyboardInterrupt elsewhere.
    """
    asked = False

    def handle(before: Any, signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            before(signum, frame)
        asked = True

    with _handled(handle):
        yield lambda: asked


@contextmanager
def cleaning_up() -> Iterator[None]:
    """Ctrl-C as KeyboardInterrupt, so that temporary files are removed; a second one as before."""
    asked = False

    def handle(before: Any, signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            before(signum, frame)
        asked = True
        signal.default_int_handler(signum, frame)

    with _handled(handle):
        yield
