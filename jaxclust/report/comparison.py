"""Runs side by side: one row per method and data set, over seeds, with the papers' figures."""

import csv
import io
import json
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxclust.core.errors import InputError, first_line
from jaxclust.report.differences import OPTIONS, differences, is_whole
from jaxclust.report.published import OTHER_RUN, Published, published_beside
from jaxclust.report.text import shown
from jaxclust.runs.directory import RunDirectory

SCORES = ("nmi", "acc", "ari")


class Row(NamedTuple):
    """Runs that differ only in their seed."""

    dataset: str
    method: str
    title: str  # method, and what differs from its preset `best`
    seeds: list[int]
    # by name, of every seed, in 0 to 1; None without labels
    scores: dict[str, list[float | None]]
    published: Published | None = None  # the paper's figure for this method and set
    # SHA-256 of the images of every seed's run, by seed; unknown for results files.
    data: Mapping[int, str] = MappingProxyType({})
    draws: bool = False  # every seed draws other images (imbalance)
    whole: bool = True  # its runs are finished


def spread(values: Sequence[float | None]) -> str:
    """Mean and sample standard deviation in percent; `–` where nothing is known."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "–"
    mean = f"{100 * statistics.mean(known):.1f}"
    return f"{mean} ± {100 * statistics.stdev(known):.1f}" if len(known) > 1 else mean


def rows_of(places: Iterable[Path]) -> list[Row]:
    """Rows of runs, grouped by data set, otherwise in the order found.

    Args:
        places: run directories, folders of several seeds' runs, folders of these, or the JSON files
            in experiments/results/.

    Raises:
        InputError: a place that holds no finished run, or a damaged one.
    """
    rows: list[Row] = []
    for place in places:
        found = _recorded(place) if place.is_file() else [_of_run(one) for one in _runs_in(place)]
        if not found:
            raise InputError(f"{place} holds no finished run; give run directories")
        for row in found:
            _add(rows, row)
    rows = _told_apart(rows)
    order = list(dict.fromkeys(row.dataset for row in rows))
    return sorted(rows, key=lambda row: order.index(row.dataset))


def _add(rows: list[Row], row: Row) -> None:
    """Merge a run's row into the one of its kind, or append it; a known run changes nothing."""
    known = next((one for one in rows if one[:3] == row[:3] and _same_data(one, row)), None)
    if known is None:
        rows.append(row)
        return
    fresh = [i for i, seed in enumerate(row.seeds) if seed not in known.seeds]
    known.seeds.extend(row.seeds[i] for i in fresh)
    for name in SCORES:
        known.scores[name].extend(row.scores[name][i] for i in fresh)
    rows[rows.index(known)] = known._replace(data={**row.data, **known.data})


def _same_data(one: Row, other: Row) -> bool:
    """Whether runs on a data set of the same name saw the same images, as far as is known."""
    both = one.data.keys() & other.data.keys()
    if one.draws and other.draws:
        return all(one.data[seed] == other.data[seed] for seed in both)
    return not one.data or not other.data or set(one.data.values()) == set(other.data.values())


def _told_apart(rows: list[Row]) -> list[Row]:
    """The rows; those that differ only in their images get the images' fingerprint."""
    alike = Counter(row[:3] for row in rows)
    return [
        row._replace(title=f"{row.title}, data {min(row.data.values())[:8]}")
        if alike[row[:3]] > 1 and row.data
        else row
        for row in rows
    ]


def _runs_in(place: Path) -> Iterator[Path]:
    """Folders of finished runs: the place itself, or the runs in it and those of their seeds.

    A folder `seed-S` in a run's folder counts if the run is one of several seeds and has the same
    settings; otherwise an older run left it there.
    """
    yield from _runs_of(place)
    own = (place / "config.json").is_file()
    for folder in sorted(place.glob("*")):
        if not (own and folder.name.startswith("seed-")):
            yield from _runs_of(folder)


def _runs_of(folder: Path) -> Iterator[Path]:
    """The finished run in a folder, or those of its seeds."""
    seeds = [one for one in sorted(folder.glob("seed-*")) if (one / "summary.json").is_file()]
    record = _record_of(folder) if (folder / "config.json").is_file() else {}
    # The summary of several seeds says nothing that the seeds' own do not.
    if "data" in record or not seeds:
        if (folder / "summary.json").is_file():
            yield folder
        return
    for seed in seeds:
        theirs = _record_of(seed)
        if not record or all(_asked(theirs, name) == _asked(record, name) for name in _OF_ALL):
            yield seed


# What the runs of several seeds share.
_OF_ALL = ("method", "dataset", "preset", *OPTIONS, "config")


def _asked(record: Mapping[str, Any], name: str) -> Any:
    return record.get(name) if name == "config" else record.get("options", {}).get(name)


def _record_of(folder: Path) -> dict[str, Any]:
    return RunDirectory(folder).read_config()


def _of_run(path: Path) -> Row:
    record = _record_of(path)
    try:
        summary = json.loads((path / "summary.json").read_text("utf-8"))
        options, differs = record["options"], differences(record)
        scores = {name: [summary[name]] for name in SCORES}
        settings = {**record["config"], **{name: options.get(name) for name in OTHER_RUN}}
        paper = published_beside(options["method"], options["dataset"], settings)
        return Row(
            options["dataset"],
            options["method"],
            ", ".join([options["method"], *differs]),
            [options["seed"]],
            scores,
            paper if is_whole(record) else None,
            {options["seed"]: record["data"]["sha256"]},
            options.get("imbalance") is not None,
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"the run in {path} is damaged ({error!r}); run it again") from error


def _recorded(path: Path) -> list[Row]:
    """Rows of a results file."""
    try:
        entries = json.loads(path.read_text("utf-8"))
        rows = []
        for entry in entries:
            given = dict(re.findall(r"--([\w-]+)=(\S+)", entry["command"]))
            settings = {name.replace("-", "_"): value for name, value in given.items()}
            # A row derived from a run's log is not a result of its method.
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
                    whole=title == entry["title"],
                )
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a results file ({first_line(error)})") from error
    return rows


def _partial(entry: Mapping[str, Any]) -> str:
    """How far unfinished runs are."""
    unfinished = [epoch for epoch in entry.get("epoch", []) if epoch != "all"]
    return f" (epoch {unfinished[0]})" if unfinished else ""


def listed(seeds: Sequence[int]) -> str:
    """Seeds in order; five or more without a gap as a range."""
    gapless = seeds[-1] - seeds[0] == len(seeds) - 1 >= 4
    return f"{seeds[0]} to {seeds[-1]}" if gapless else ", ".join(map(str, seeds))


_HEADER = ("data set", "run", "NMI", "ACC", "ARI", "seeds", "published NMI / ACC")


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, in the order of `_HEADER`."""
    paper = row.published
    beside = "–"
    if paper is not None:
        figures = ("–" if value is None else f"{value:.1f}" for value in (paper.nmi, paper.acc))
        beside = f"{' / '.join(figures)} ({paper.source})"
    figures = (spread(row.scores[name]) for name in SCORES)
    return (shown(row.dataset), shown(row.title), *figures, listed(sorted(row.seeds)), beside)


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
            # As in the other formats: a mean is over all seeds or not given.
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
