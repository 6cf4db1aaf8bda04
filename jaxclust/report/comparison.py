"""Runs side by side: one row a method and data set, over seeds, beside the papers' figures."""

import csv
import io
import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from jaxclust.core.errors import InputError
from jaxclust.methods import registry
from jaxclust.report.published import PRETRAINED, PUBLISHED, Published
from jaxclust.report.text import shown
from jaxclust.runs.directory import RunDirectory

SCORES = ("nmi", "acc", "ari")


class Row(NamedTuple):
    """Runs that differ by their seed alone."""

    dataset: str
    method: str
    title: str  # method and what is not as its preset `best` has it
    seeds: list[int]
    # by name, of every seed, in 0 to 1; None without labels
    scores: dict[str, list[float | None]]
    published: Published | None = None  # the paper's figure for this method and set


def spread(values: Sequence[float | None]) -> str:
    """Mean and sample standard deviation in percent; `–` where nothing is known."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "–"
    mean = f"{100 * statistics.mean(known):.1f}"
    return f"{mean} ± {100 * statistics.stdev(known):.1f}" if len(known) > 1 else mean


def rows_of(places: Iterable[Path]) -> list[Row]:
    """Rows of runs, a data set after the other, else in the order they are met.

    Args:
        places: run directories, folders of several seeds' runs, folders of such, or the json
            files of experiments/results/.

    Raises:
        InputError: a place that holds no finished run, or a damaged one.
    """
    rows: dict[tuple[str, str, str], Row] = {}

    def add(row: Row) -> None:
        key = row[:3]
        known = rows.setdefault(key, row)
        if known is row:
            return
        fresh = [i for i, seed in enumerate(row.seeds) if seed not in known.seeds]
        known.seeds.extend(row.seeds[i] for i in fresh)
        for name in SCORES:
            known.scores[name].extend(row.scores[name][i] for i in fresh)

    for place in places:
        if place.is_file():
            for row in _recorded(place):
                add(row)
            continue
        found = [place, *sorted(place.glob("*")), *sorted(place.glob("*/seed-*"))]
        runs = [one for one in found if (one / "summary.json").is_file()]
        # The summary of several seeds says nothing that theirs do not.
        runs = [one for one in runs if not any(one.glob("seed-*"))]
        if not runs:
            raise InputError(f"{place} holds no finished run; give run directories")
        for one in runs:
            add(_of_run(one))
    order = list(dict.fromkeys(row.dataset for row in rows.values()))
    return sorted(rows.values(), key=lambda row: order.index(row.dataset))


def _of_run(path: Path) -> Row:
    record = RunDirectory(path).read_config()
    try:
        summary = json.loads((path / "summary.json").read_text("utf-8"))
        options = record["options"]
        scores = {name: [summary[name]] for name in SCORES}
        title = ", ".join([options["method"], *_changes(options, record["config"])])
        settings = {**record["config"], **{name: options.get(name) for name in _OTHER_DATA}}
        paper = published_beside(options["method"], options["dataset"], settings)
        return Row(options["dataset"], options["method"], title, [options["seed"]], scores, paper)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"the run in {path} is damaged ({error!r}); run it again") from error


# Options that change what a run is, beside its method's settings.
_TOLD = ("n_clusters", "image_size", "limit", "imbalance", "labels_from_folders", "precision")
_USUAL = {"precision": "float32", "labels_from_folders": False}
# With these, a run is of other data than the paper's.
_OTHER_DATA = ("n_clusters", "limit", "imbalance")


def published_beside(method: str, dataset: str, settings: Mapping[str, Any]) -> Published | None:
    """The paper's figure that a run with these settings may stand beside, if there is one."""
    if any(settings.get(name) is not None for name in _OTHER_DATA):
        return None
    # Then it is the paper's Baseline-I, under CCNN's name.
    if method == "ccnn" and settings.get("compensation") == "none":
        return None
    pretrained = settings.get("init") not in {None, "random", "autoencoder"}
    if pretrained and (method, dataset) in PRETRAINED:
        return PRETRAINED[method, dataset]
    return PUBLISHED.get((method, dataset))


def _changes(options: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The preset if not `best`, and every setting that is not the preset's."""
    found = [] if options["preset"] == "best" else [options["preset"]]
    for name in _TOLD:
        if options.get(name) != _USUAL.get(name):
            found.append(f"{name}={options[name]}")
    if options["method"] not in registry.METHODS:
        return found
    # Through JSON, as the run's record went.
    preset = registry.find(options["method"]).config(options["preset"])
    defaults = json.loads(json.dumps(asdict(preset), default=str))
    for name, value in config.items():
        if name in defaults and defaults[name] != value:
            found.append(f"{name}={value}")
    return found


def _recorded(path: Path) -> list[Row]:
    """Rows of a results file."""
    try:
        entries = json.loads(path.read_text("utf-8"))
        rows = []
        for entry in entries:
            given = dict(re.findall(r"--([\w-]+)=(\S+)", entry["command"]))
            settings = {name.replace("-", "_"): value for name, value in given.items()}
            # A row derived from a run's log is none of its method's results.
            method = "" if "of" in entry else settings.get("method", "")
            missing = [None] * len(entry["seeds"])
            title = entry["title"] + _partial(entry)
            rows.append(
                Row(
                    entry["dataset"],
                    method,
                    title,
                    list(entry["seeds"]),
                    {name: list(entry.get(name) or missing) for name in SCORES},
                    published_beside(method, entry["dataset"], settings),
                )
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no file of results ({error!r})") from error
    return rows


def _partial(entry: Mapping[str, Any]) -> str:
    """How far runs are that had not finished."""
    unfinished = [epoch for epoch in entry.get("epoch", []) if epoch != "all"]
    return f" (epoch {unfinished[0]})" if unfinished else ""


_HEADER = ("data set", "run", "NMI", "ACC", "ARI", "seeds", "published NMI / ACC")


def cells(row: Row) -> tuple[str, ...]:
    """A row in words, as `_HEADER` names them."""
    paper = row.published
    beside = "–"
    if paper is not None:
        figures = ("–" if value is None else f"{value:.1f}" for value in (paper.nmi, paper.acc))
        beside = f"{' / '.join(figures)} ({paper.source})"
    figures = (spread(row.scores[name]) for name in SCORES)
    seeds = ", ".join(map(str, sorted(row.seeds)))
    return (shown(row.dataset), shown(row.title), *figures, seeds, beside)


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = [_HEADER, ("---",) * len(_HEADER), *map(cells, rows)]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def as_csv(rows: Sequence[Row]) -> str:
    """Comma-separated numbers: means and standard deviations in 0 to 1, published in percent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    named = [f"{name}{suffix}" for name in SCORES for suffix in ("", "_std")]
    published = [f"published_{name}" for name in (*SCORES, "source")]
    writer.writerow(["dataset", "method", "run", "seeds", *named, *published])
    for row in rows:
        figures: list[Any] = []
        for name in SCORES:
            known = [value for value in row.scores[name] if value is not None]
            # As in the other formats: a mean is of all seeds or not given.
            values = known if len(known) == len(row.seeds) else []
            figures.append(statistics.mean(values) if values else "")
            figures.append(statistics.stdev(values) if len(values) > 1 else "")
        paper = row.published
        beside = ["" if value is None else value for value in _in_order(paper)]
        seeds = " ".join(map(str, sorted(row.seeds)))
        writer.writerow([row.dataset, row.method, row.title, seeds, *figures, *beside])
    return text.getvalue()


def _in_order(paper: Published | None) -> tuple[Any, ...]:
    if paper is None:
        return (None,) * 4
    return (*(getattr(paper, name) for name in SCORES), paper.source)


def show(rows: Sequence[Row]) -> None:
    """Print the table on the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*_HEADER)
    for row in rows:
        table.add_row(*map(Text, cells(row)))
    Console().print(table, highlight=False)
