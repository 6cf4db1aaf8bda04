"""The command line: which subcommand, and the exit status it ends with."""

import errno
import importlib
import os
import sys
from collections.abc import Sequence

from jaxclust.core.errors import InputError, RunError, Stopped, nearest_name

# Each is a file of jaxclust/cli/ with a function `main`.
_COMMANDS = ("run", "predict", "report", "export", "table", "datasets")
_USAGE = """\
usage: jaxclust run --method METHOD --dataset DATASET [options]
       jaxclust predict RUN_DIR IMAGES [--out FILE] [--in-memory GB] [--data-dir DIR]
       jaxclust report RUN_DIR [--map MAP] [--data-dir DIR]
       jaxclust export RUN_DIR --to FOLDER [--copy] [--data-dir DIR]
       jaxclust table RUN_DIR... [--format FORMAT] [--out FILE]
       jaxclust datasets [--data-dir DIR]

`jaxclust run --method METHOD --help` lists all options of a run with that method.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0 done, 1 failed while running, 2 bad usage or input, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(arguments)
    except InputError as error:
        return _say(error.on_command_line(), 2)
    except RunError as error:
        return _say(error, 1)
    except Stopped:
        return _say("interrupted, a checkpoint is written; go on with --resume", 130)
    except KeyboardInterrupt:
        return _say("interrupted; go on with --resume", 130)
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _say("the disk is full; free some room and go on with --resume", 1)
        return _say(f"{error.filename or 'a file'}: {error.strerror or error}", 1)
    except Exception as error:
        if "No space left on device" in str(error):  # tensorstore's, no OSError
            return _say("the disk is full; free some room and go on with --resume", 1)
        if "RESOURCE_EXHAUSTED" in str(error) or isinstance(error, MemoryError):
            return _say("out of memory; lower --batch-size, --image-size or --limit", 1)
        raise


def script(arguments: Sequence[str] | None = None) -> None:
    """The installed script's entry: :func:`main`, then the end of the process."""
    status = main(arguments)
    if status and "jaxclust.core.processes" in sys.modules:
        from jaxclust.core import processes

        processes.leave(status)
    sys.exit(status)


def _say(message: object, status: int) -> int:
    print(f"jaxclust: {' '.join(str(message).split())}", file=sys.stderr)
    return status


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(_USAGE, end="")
        return 0 if arguments else 2
    command, rest = arguments[0], arguments[1:]
    if command not in _COMMANDS:
        raise InputError(f"unknown command '{command}'; {nearest_name(command, _COMMANDS)}")
    # Imported when called: a subcommand's libraries take a second.
    return importlib.import_module(f"jaxclust.cli.{command}").main(rest)
