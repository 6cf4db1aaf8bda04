"""The command line: `jaxclust run`, `jaxclust predict` and `jaxclust datasets`."""

import contextlib
import errno
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxclust.errors import InputError, RunError, nearest_name

if TYPE_CHECKING:
    from jaxclust.run import Options

_USAGE = """\
usage: jaxclust run --method METHOD --dataset DATASET [options]
       jaxclust predict RUN_DIR IMAGES [--out FILE] [--data-dir DIR]
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
        return _say(error, 2)
    except RunError as error:
        return _say(error, 1)
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
        from jaxclust.train import Stopped

        if isinstance(error, Stopped):
            return _say("interrupted, a checkpoint is written; go on with --resume", 130)
        raise


def script(arguments: Sequence[str] | None = None) -> None:
    """The installed script's entry: :func:`main`, then the end of the process."""
    status = main(arguments)
    if status and "jaxclust.parallel" in sys.modules:
        from jaxclust import parallel

        parallel.leave(status)
    sys.exit(status)


def _say(message: object, status: int) -> int:
    print(f"jaxclust: {' '.join(str(message).split())}", file=sys.stderr)
    return status


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(_USAGE, end="")
        return 0 if arguments else 2
    command, rest = arguments[0], arguments[1:]
    commands = {"run": run, "predict": predict, "datasets": datasets}
    if command not in commands:
        raise InputError(f"unknown command '{command}'; {nearest_name(command, commands)}")
    return commands[command](rest)


def run(arguments: Sequence[str]) -> int:
    """`jaxclust run`: parse, run, print the summary."""
    from jaxclust.methods import registry
    from jaxclust.run import Options, execute

    arguments = list(arguments)
    helping = bool({"-h", "--help"} & set(arguments))
    method, dataset = _value(arguments, "method"), _value(arguments, "dataset")
    if not helping:
        for name, given in (("method", method), ("dataset", dataset)):
            if given is None:
                raise InputError(f"--{name} is missing; see jaxclust run --help")
    registered = registry.find(method or Options.method)
    config = registered.config(_value(arguments, "preset") or Options.preset)
    _check_options(arguments, (Options, type(config)))
    about = "\n\n".join(f"{name}: {entry.about}" for name, entry in registry.METHODS.items())
    options, config = _parse(arguments, replace(Options(), method=method or "ccnn"), config, about)
    if options.seeds != 1:
        from jaxclust import seeds

        execute = seeds.execute
    summary = execute(options, config)
    if options.json:
        print(json.dumps(summary))
    else:
        _print_summary(summary)
    return 0


def _value(arguments: list[str], name: str) -> str | None:
    """The last value given for an option."""
    found = None
    for i, word in enumerate(arguments):
        if word == f"--{name}" and i + 1 < len(arguments):
            found = arguments[i + 1]
        elif word.startswith(f"--{name}="):
            found = word.split("=", 1)[1]
    return found


def _option_names(kind: type, instance: Any = None) -> set[str]:
    """Every option a (nested) dataclass gives rise to."""
    names = set()
    instance = kind() if instance is None else instance
    for entry in fields(kind):
        value = getattr(instance, entry.name)
        if is_dataclass(value):
            names |= _option_names(type(value), value)
        else:
            name = entry.name.replace("_", "-")
            names |= {name, f"no-{name}"} if isinstance(value, bool) else {name}
    return names


def _check_options(arguments: Sequence[str], kinds: Sequence[type]) -> None:
    known = set().union(*(_option_names(kind) for kind in kinds)) | {"help"}
    for word in arguments:
        if not word.startswith("--"):
            continue
        name = word[2:].split("=", 1)[0].replace("_", "-")
        if name not in known:
            close = get_close_matches(name, sorted(known), 1)
            hint = f"did you mean --{close[0]}?" if close else "see --help"
            raise InputError(f"unknown option {word.split('=', 1)[0]}; {hint}")


def _parse(
    arguments: Sequence[str], options: "Options", config: Any, about: str
) -> tuple["Options", Any]:
    """Options and the method's settings from the command line, through tyro."""
    import tyro

    from jaxclust.run import Options

    kind = type(config)

    @dataclass(frozen=True)
    class Command:
        run: Options
        method: kind  # pyright: ignore[reportInvalidTypeForm]

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed = tyro.cli(
                Command,
                args=list(arguments),
                default=Command(options, config),
                prog="jaxclust run",
                description=f"Cluster a set of images.\n\n{about}",
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
            )
    except SystemExit as stop:
        if stop.code:
            raise InputError(_one_line(complaint.getvalue())) from None
        raise
    return parsed.run, parsed.method


def _one_line(boxed: str) -> str:
    """What tyro says in a drawn box, as a sentence."""
    text = boxed.split("For full helptext")[0]
    text = re.sub("╭.*╮", " ", text)
    words = re.sub("[╭╮╰╯│─]+", " ", text).split()
    return " ".join(words).rstrip(". ") + "; see --help"


def _print_summary(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, title=f"{summary['method']} on {summary['dataset']}")
    for name, value in summary.items():
        if name in {"versions", "by_seed"} or name.endswith("_std") or value is None or value == []:
            continue
        if isinstance(value, list):
            value = "; ".join(map(str, value))
        elif summary.get(f"{name}_std") is not None:
            value = f"{value:.4f} ± {summary[f'{name}_std']:.4f}"
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    Console().print(table, highlight=False)


_PREDICT = """\
usage: jaxclust predict RUN_DIR IMAGES [--out FILE] [--data-dir DIR]

Label new images as a finished run would have: index, id, cluster and confidence of each,
as CSV. IMAGES: a folder, a picture, an npz file, or what --dataset takes.
"""


def predict(arguments: Sequence[str]) -> int:
    """`jaxclust predict`: labels for new images."""
    arguments = list(arguments)
    if {"-h", "--help"} & set(arguments):
        print(_PREDICT, end="")
        return 0
    given = {name: _value(arguments, name) for name in ("out", "data-dir")}
    places = _positional(arguments, given)
    if len(places) != 2:
        raise InputError("predict takes a run's folder and images; see jaxclust predict --help")
    import csv

    from jaxclust.predict import predict as label

    data_dir = Path(given["data-dir"]).expanduser() if given["data-dir"] else None
    image_set, prediction = label(Path(places[0]).expanduser(), places[1], data_dir)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("index", "id", "cluster", "confidence"))
    for i, (name, cluster) in enumerate(zip(image_set.ids, prediction.assignments, strict=True)):
        writer.writerow((i, name, cluster, f"{prediction.probabilities[i, cluster]:.6g}"))
    for name, reason in image_set.skipped:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    if given["out"] is None:
        print(text.getvalue(), end="")
    else:
        Path(given["out"]).write_text(text.getvalue(), "utf-8", "surrogateescape")
    return 0


def _positional(arguments: Sequence[str], options: Iterable[str]) -> list[str]:
    """The words that are neither one of the options nor its value."""
    words, rest = [], iter(arguments)
    for word in rest:
        if not word.startswith("--"):
            words.append(word)
        elif word[2:].split("=", 1)[0] not in options:
            raise InputError(f"unknown option {word}; see --help")
        elif "=" not in word:
            next(rest, None)
    return words


def datasets(arguments: Sequence[str]) -> int:
    """`jaxclust datasets`: names, sizes, whether present, where each file goes."""
    from rich.console import Console
    from rich.table import Table

    from jaxclust.data import sources

    arguments = list(arguments)
    if {"-h", "--help"} & set(arguments):
        print("usage: jaxclust datasets [--data-dir DIR]\n\nList the data sets known by name.")
        return 0
    given = _value(arguments, "data-dir")
    if arguments and (given is None or len(arguments) > 2):
        raise InputError(f"unexpected {' '.join(arguments)}; only --data-dir DIR is known here")
    data_dir = Path(given).expanduser() if given else sources.default_data_dir()
    print(f"data directory: {data_dir}")
    table = Table("name", "images", "classes", "shape", "present", "file, below it")
    for name, entry in sources.CATALOGUE.items():
        shape = "x".join(str(side) for side in entry.shape)
        here = "yes" if sources.present(name, data_dir) else "no"
        where = entry.file or entry.how
        table.add_row(name, f"{entry.n_images:,}", str(entry.n_classes), shape, here, where)
    table.add_row("npz:PATH", "", "", "", "", "images, labels")
    table.add_row("folder:PATH", "", "", "", "", "JPEG, PNG, …")
    Console().print(table, highlight=False)
    return 0
