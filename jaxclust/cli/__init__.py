"""The command line: runs the subcommand and returns its exit status."""

import errno
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence

from jaxclust.core import interrupts
from jaxclust.core.errors import InputError, RunError, Stopped, nearest_name
from jaxclust.core.visible import visible

# Each is a file in jaxclust/cli/ with a function `main`, of its own name but for these.
_FILES = {"kmeans": "kmeans_shards"}
_COMMANDS = ("run", "embed", "kmeans", "predict", "report", "apply", "export", "table", "datasets")
_USAGE = """\
usage: jaxclust run [--method METHOD] --dataset DATASET [options]
       jaxclust embed SOURCE --encoder NAME --out FILE
       jaxclust kmeans SHARDS --n-clusters K --out DIR [--levels L] [--strict] [--distributed]
       jaxclust predict RUN_DIR IMAGES [--out FILE] [--in-memory GB] [--data-dir DIR]
       jaxclust report RUN_DIR [--map MAP] [--images FOLDER] [--data-dir DIR]
       jaxclust apply RUN_DIR EDITS.json [--out FOLDER] [--images FOLDER] [--data-dir DIR]
       jaxclust export RUN_DIR --to FOLDER [--copy] [--images FOLDER] [--data-dir DIR]
       jaxclust table RUN_DIR... [--format FORMAT] [--out FILE]
       jaxclust datasets [--data-dir DIR]

`jaxclust run --method METHOD --help` lists all options of a run with that method.
"""
_FULL = {
    errno.ENOSPC: "the disk is full; free some room",
    errno.EDQUOT: "the disk quota is used up; free some room",
    errno.EFBIG: "a file would grow beyond the limit of this process; raise it (ulimit -f)",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0 done, 1 failed while running, 2 bad usage or input, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _escape_what_cannot_be_encoded()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return _dispatch(arguments)
    except Exception as error:
        status = _told(error, arguments[0] if arguments else "")
        if status is None:
            raise
        return status
    except KeyboardInterrupt as error:
        return _say("interrupted" + "".join(getattr(error, "__notes__", [])[:1]), 130)


def script(arguments: Sequence[str] | None = None) -> None:
    """The installed script's entry point: runs :func:`main`, then ends the process."""
    # Before other imports: they take seconds, and Ctrl-C must work meanwhile.
    interrupts.install()
    status = main(arguments)
    if status and "jaxclust.core.processes" in sys.modules:
        from jaxclust.core import processes

        processes.leave(status)
    sys.exit(status)


# What continues a command's work.
_AGAIN = {"run": " and continue with --resume", "embed": " and repeat the command"}


def _told(error: Exception, command: str) -> int | None:
    """Print what ended the command; returns its status, or None for an unexpected error."""
    if isinstance(error, InputError):
        return _say(error.on_command_line(), 2)
    if isinstance(error, RunError):
        return _say(error, 1)
    if isinstance(error, Stopped):
        return _say("interrupted, a checkpoint was written; continue with --resume", 130)
    if isinstance(error, BrokenPipeError):
        # The reader closed the pipe; nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if "No space left on device" in text:  # also raised by errors other than OSError
        number = errno.ENOSPC
    if number in _FULL:
        return _say(f"{_FULL[number]}{_AGAIN.get(command, '')}", 1)
    if isinstance(error, OSError):
        why = error.strerror or text or type(error).__name__
        where = error.filename or "a file that is read or written"
        # The system takes no such name, so it is the command that is wrong.
        return _say(f"{where}: {why}", 2 if number == errno.ENAMETOOLONG else 1)
    if "RESOURCE_EXHAUSTED" in text or isinstance(error, MemoryError):
        return _say("out of memory; lower --batch-size, --image-size or --limit", 1)
    return None


def _say(message: object, status: int) -> int:
    print(f"jaxclust: {visible(' '.join(str(message).split()))}", file=sys.stderr)
    return status


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """Print a library's warning on one line, without its source location."""
    print(f"warning: {visible(' '.join(str(message).split()))}", file=sys.stderr)


def _escape_what_cannot_be_encoded() -> None:
    """Print characters that the output's encoding lacks as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(_USAGE, end="")
        return 0 if arguments else 2
    command, rest = arguments[0], arguments[1:]
    if command not in _COMMANDS:
        raise InputError(f"unknown command '{command}'; {nearest_name(command, _COMMANDS)}")
    # Imported on demand: a subcommand's libraries take a second to load.
    return importlib.import_module(f"jaxclust.cli.{_FILES.get(command, command)}").main(rest)
