"""How a subcommand parses its arguments."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxclust.core import processes
from jaxclust.core.errors import InputError
from jaxclust.core.visible import visible
from jaxclust.runs.options import MOST_GIGABYTES


def last_value(arguments: Sequence[str], name: str) -> str | None:
    """The last value given for an option, which may be written with `_` for `-`."""
    found = None
    for i, word in enumerate(arguments):
        option, given, value = word.partition("=")
        if option.replace("_", "-") != f"--{name}":
            continue
        if given:
            found = value
        elif i + 1 < len(arguments):
            found = arguments[i + 1]
    return found


class Parser(argparse.ArgumentParser):
    """An argument parser that reports errors on one line, like the rest of the program.

    Args:
        command: the subcommand.
        about: what it does.
    """

    def __init__(self, command: str, about: str) -> None:
        super().__init__(
            prog=f"jaxclust {command}",
            description=about,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        said = message.replace("unrecognized arguments:", "unknown option")
        raise InputError(f"{said}; see {self.prog} --help")


def path(word: str) -> Path:
    """A path, with `~` expanded; for `Parser.add_argument(type=…)`."""
    return Path(word).expanduser()


def gigabytes(word: str) -> float:
    """An amount of memory; for `Parser.add_argument(type=…)`."""
    value = float(word)
    if not 0 <= value <= MOST_GIGABYTES:
        raise ValueError
    return value


def data_dir(parser: argparse.ArgumentParser) -> Any:
    """Add `--data-dir`, the location of prepared data sets."""
    return parser.add_argument(
        "--data-dir",
        type=path,
        metavar="DIR",
        help="where prepared data sets are; default JAXCLUST_DATA_DIR or ~/tensorflow_datasets",
    )


def several_processes(parser: argparse.ArgumentParser) -> None:
    """Add the options that make this process one of several."""
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes that Slurm, Open MPI or Kubernetes started and numbered",
    )
    parser.add_argument(
        "--coordinator", metavar="HOST:PORT", help="of the first process, if they are several"
    )
    parser.add_argument("--num-processes", type=int, default=1, metavar="N")
    parser.add_argument("--process-id", type=int, default=0, metavar="I", help="0 to N - 1")


def strict(parser: argparse.ArgumentParser) -> None:
    """Add `--strict`, for shards that cannot be read."""
    parser.add_argument(
        "--strict",
        action="store_true",
        help="stop at a missing or damaged shard; without this, such shards are skipped and listed",
    )


def join_processes(given: argparse.Namespace) -> None:
    """Join the other processes, if there are some; before JAX is used.

    Raises:
        InputError: see :func:`processes.join_as_told`.
    """
    processes.join_as_told(
        given.distributed, given.coordinator, given.num_processes, given.process_id
    )


def images(parser: argparse.ArgumentParser) -> Any:
    """Add `--images`, the current location of a run's images."""
    return parser.add_argument(
        "--images",
        type=path,
        metavar="FOLDER",
        help="where the images of folder:PATH, or the file of npz:PATH, are now; default: where "
        "the run found them",
    )


def say(text: str, stream: Any = None) -> None:
    """Print a line that contains names; on a terminal, invisible characters are escaped.

    Args:
        text: the line; a pipe gets it unchanged.
        stream: default: standard output.
    """
    stream = sys.stdout if stream is None else stream
    print(visible(text) if stream.isatty() else text, file=stream)
