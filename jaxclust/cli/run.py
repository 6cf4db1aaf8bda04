"""`jaxclust run`: a method on a data set."""

import contextlib
import io
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any

from jaxclust.cli.arguments import last_value
from jaxclust.core.errors import InputError
from jaxclust.methods import registry
from jaxclust.runs.options import Options
from jaxclust.runs.single import execute


def main(arguments: Sequence[str]) -> int:
    """`jaxclust run`: parse, run, print the summary."""
    arguments = list(arguments)
    helping = bool({"-h", "--help"} & set(arguments))
    method, dataset = last_value(arguments, "method"), last_value(arguments, "dataset")
    if not helping:
        for name, given in (("method", method), ("dataset", dataset)):
            if given is None:
                raise InputError(f"--{name} is missing; see jaxclust run --help")
    registered = registry.find(method or Options.method)
    config = registered.config(last_value(arguments, "preset") or Options.preset)
    _check(arguments, (Options, type(config)))
    about = "\n\n".join(f"{name}: {entry.about}" for name, entry in registry.METHODS.items())
    options, config = parse(arguments, replace(Options(), method=method or "ccnn"), config, about)
    command = shlex.join(["jaxclust", "run", *arguments])
    if options.seeds != 1:
        from jaxclust.runs import several

        summary = several.execute(options, config, command)
    else:
        summary = execute(options, config, command)
    if options.json:
        print(json.dumps(summary))
    else:
        _print_summary(summary)
    return 0


def _option_names(kind: type, instance: Any = None) -> set[str]:
    """Every option a (nested) dataclass gives rise to."""
    names = set()
    instance = kind() if instance is None else instance
    for entry in fields(kind):
        default = getattr(instance, entry.name)
        if is_dataclass(default):
            names |= _option_names(type(default), default)
        else:
            name = entry.name.replace("_", "-")
            names |= {name, f"no-{name}"} if isinstance(default, bool) else {name}
    return names


def _check(arguments: Sequence[str], kinds: Sequence[type]) -> None:
    known = set().union(*(_option_names(kind) for kind in kinds)) | {"help"}
    for word in arguments:
        if not word.startswith("--"):
            continue
        name = word[2:].split("=", 1)[0].replace("_", "-")
        if name not in known:
            close = get_close_matches(name, sorted(known), 1)
            hint = f"did you mean --{close[0]}?" if close else "see --help"
            raise InputError(f"unknown option {word.split('=', 1)[0]}; {hint}")


def parse(
    arguments: Sequence[str], options: Options, config: Any, about: str
) -> tuple[Options, Any]:
    """Options and the method's settings from the command line, through tyro."""
    import tyro

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
    from rich.text import Text

    title = Text(f"{summary['method']} on {summary['dataset']}")
    table = Table(show_header=False, title=title)
    for name, value in summary.items():
        if name in {"versions", "by_seed"} or name.endswith("_std") or value is None or value == []:
            continue
        if isinstance(value, list):
            value = "; ".join(map(str, value))
        elif summary.get(f"{name}_std") is not None:
            value = f"{value:.4f} ± {summary[f'{name}_std']:.4f}"
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        table.add_row(name, Text(f"{value:.4f}" if isinstance(value, float) else str(value)))
    Console().print(table, highlight=False, markup=False)
