"""`jaxclust run`: a method on a data set."""

import contextlib
import io
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from jaxclust.cli import words
from jaxclust.cli.arguments import last_value, say
from jaxclust.core.errors import InputError, first_line
from jaxclust.core.visible import visible
from jaxclust.data.catalogue import ImageSet
from jaxclust.methods import registry
from jaxclust.runs import defaults
from jaxclust.runs.finished import FinishedRun
from jaxclust.runs.joining import joined
from jaxclust.runs.options import Options
from jaxclust.runs.single import execute


def main(arguments: Sequence[str]) -> int:
    """`jaxclust run`: parse, run, write the page, print the summary."""
    arguments = list(arguments)
    helping = bool({"-h", "--help"} & set(arguments))
    method, dataset = last_value(arguments, "method"), last_value(arguments, "dataset")
    if not helping:
        if dataset is None:
            raise InputError("--dataset is missing; see jaxclust run --help")
        method = method or defaults.method_of(
            dataset,
            last_value(arguments, "encoder"),
            resized=last_value(arguments, "image-size") is not None,
            several="--distributed" in arguments
            or last_value(arguments, "num-processes") not in {None, "1"},
        )
    registered = registry.find(method or Options.method)
    config = registered.config(last_value(arguments, "preset") or Options.preset)
    about = "\n\n".join(f"{name}: {entry.about}" for name, entry in registry.METHODS.items())
    options, config = parse(arguments, replace(Options(), method=method or "ccnn"), config, about)
    options, config = _at_home(options), _at_home(config)
    options = defaults.with_encoder(joined(options))
    command = shlex.join(["jaxclust", "run", *arguments])
    after = _page_writer(options)
    if options.seeds != 1:
        from jaxclust.runs import several

        summary = several.execute(options, config, command, after)
    else:
        summary = execute(options, config, command, after)
    if options.json:
        print(json.dumps(summary))
    else:
        _print_summary(summary)
    return 0


def _at_home(settings: Any) -> Any:
    """Settings whose paths begin at the home directory where they have `~`."""
    given = {field.name: getattr(settings, field.name) for field in fields(settings)}
    paths = {name: path.expanduser() for name, path in given.items() if isinstance(path, Path)}
    return replace(settings, **paths)


def _page_writer(options: Options) -> Callable[[FinishedRun, ImageSet], None] | None:
    """What to do with each finished run: write its page."""
    if not options.report:
        return None

    def write(run: FinishedRun, image_set: ImageSet) -> None:
        # Drawing needs libraries that a run without a page should not load.
        from jaxclust.report import page

        try:
            written = page.write(run, image_set, quiet=options.quiet)
        except Exception as error:  # the run is finished either way
            print(
                f"warning: report.html could not be written ({visible(first_line(error))}); try "
                f"jaxclust report {visible(run.path)}",
                file=sys.stderr,
            )
            return
        if not options.quiet:
            say(f"see {written}", sys.stderr)

    return write


def parse(
    arguments: Sequence[str], options: Options, config: Any, about: str
) -> tuple[Options, Any]:
    """Options and the method's settings from the command line, through tyro.

    Args:
        arguments: the words after `jaxclust run`.
        options: their defaults.
        config: the method's settings from the preset.
        about: the help text above the options.

    Raises:
        InputError: an unknown option, or a value that its option does not accept.
        SystemExit: the help was asked for and is printed.
    """
    helping = bool({"-h", "--help"} & set(arguments))
    known = {**words.types_of(options), **words.types_of(config)}
    given = [] if helping else words.options_in(arguments, known)
    parsed = _read(arguments, options, config, about, helping=helping)
    if parsed is None:
        raise InputError(
            words.complaint(
                given, known, lambda some: _read(some, options, config, about) is not None
            )
        )
    return parsed


def _read(
    arguments: Sequence[str], options: Options, config: Any, about: str, *, helping: bool = False
) -> tuple[Options, Any] | None:
    """The arguments as parsed by tyro; None if it rejects them."""
    import tyro

    kind = type(config)

    @dataclass(frozen=True)
    class Command:
        run: Options
        method: kind  # pyright: ignore[reportInvalidTypeForm]

    try:
        # tyro prints errors in boxes; `words` says on one line what is wrong.
        with contextlib.redirect_stderr(io.StringIO()):
            parsed = tyro.cli(
                Command,
                args=list(arguments),
                default=Command(options, config),
                prog="jaxclust run",
                description=f"Cluster a set of images.\n\n{about}",
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
                console_outputs=helping,
            )
    except SystemExit as stop:
        if stop.code:
            return None
        raise
    return parsed.run, parsed.method


def _starts(told: list[dict[str, Any]]) -> str:
    """The seed of each start, and its score in each round."""
    lines = []
    for one in told:
        scores = ", ".join(f"{judged['score']:.3g}" for judged in one["rounds"])
        chosen = ", chosen" if one["chosen"] else ""
        lines.append(f"seed {one['seed']}: score {scores}{chosen}")
    return "; ".join(lines)


def _written(value: float, deviation: float | None = None) -> str:
    """A score with four decimals, megabytes and images a second with one."""
    decimals = 4 if abs(value) <= 1 else 1
    text = f"{value:.{decimals}f}"
    return text if deviation is None else f"{text} ± {deviation:.{decimals}f}"


def _print_summary(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    title = Text(visible(f"{summary['method']} on {summary['dataset']}"))
    table = Table(show_header=False, title=title)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in summary.items():
        if name in {"versions", "by_seed"} or name.endswith("_std") or value is None or value == []:
            continue
        if name == "images_per_second" and not value:
            continue  # a method that takes no steps
        if name == "starts":
            value = _starts(value)
        elif isinstance(value, list):
            value = "; ".join(map(str, value))
        elif summary.get(f"{name}_std") is not None:
            value = _written(value, summary[f"{name}_std"])
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        text = _written(value) if isinstance(value, float) else visible(value)
        table.add_row(name, Text(text))
    Console().print(table, highlight=False, markup=False)
