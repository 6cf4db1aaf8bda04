"""What every table of runs shares: running what is missing, gathering it, its results page.

A table is a list of kinds of run, each with a few seeds. Its script can be killed and
repeated: finished runs are skipped, killed ones resumed, seeds that the table's json
already holds not run again (`--again` runs all). `--collect` runs nothing and only
gathers; of a run that is not finished it takes the last scores logged and says which
epoch they are of.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxclust.cli import main as jaxclust
from jaxclust.report.comparison import spread
from jaxclust.training import warm_start

RESULTS = Path(__file__).parent.parent / "results"
Row = dict[str, Any]


class Cell(NamedTuple):
    """A kind of run."""

    name: str  # of its run folders, with the seed added
    title: str
    dataset: str
    options: Sequence[str]  # of `jaxclust run`, without data set and seed
    # The kind of run of the same table whose pre-training is this one's too, to the bit.
    # If a seed of it is available, the run starts from there, which only saves time.
    pretrained: str | None = None
    seeds: Sequence[int] | None = None  # None: the table's

    def arguments(self) -> list[str]:
        """What `jaxclust run` is given but for the seed and folders."""
        return [*self.options, f"--dataset={self.dataset}"]


class Table(NamedTuple):
    """A table of runs; its files in experiments/results/ have its name."""

    name: str
    title: str
    cells: Sequence[Cell]
    seeds: Sequence[int] = (0, 1, 2)
    # (row of a cell, its run folders) -> further rows
    derive: Callable[[Row, list[Path]], list[Row]] | None = None
    # further columns of the page, of numbers that `derive` adds to a row, one a seed
    columns: Sequence[str] = ()

    def seeds_of(self, cell: Cell) -> Sequence[int]:
        """The seeds that a cell is run with."""
        return self.seeds if cell.seeds is None else cell.seeds

    def all_seeds(self) -> list[int]:
        """The seeds of any cell."""
        return sorted({*self.seeds, *(seed for c in self.cells for seed in c.seeds or ())})


def logged(folder: Path) -> list[Row]:
    """The lines of a run's metrics.jsonl that hold scores."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [row for line in lines if "nmi" in (row := json.loads(line))]


def _one(folder: Path) -> Row | None:
    """A run's figures: finished, or as of the last scores logged."""
    if (folder / "summary.json").is_file():
        summary = json.loads((folder / "summary.json").read_text())
        return {**summary, "seconds": round(sum(summary["seconds"].values())), "epoch": "all"}
    scored = logged(folder)
    if not scored:
        return None
    config = json.loads((folder / "config.json").read_text())
    known = {**config["options"], **config["data"], **config["device"]}
    epochs = config["config"]["epochs"]
    epochs = "the method's own" if epochs is None else epochs
    progress = {"epoch": f"{scored[-1]['epoch']} of {epochs}", "seconds": None}
    return {**known, "versions": config["versions"], **scored[-1], **progress}


# More values than this are shown as a range.
_LISTED_SINGLY = 5
_LISTED = ("nmi", "acc", "ari", "empty_clusters", "seconds", "epoch")


def gather(cell: Cell, seeds: Sequence[int], runs: Path) -> tuple[Row, list[Path]] | None:
    """A cell's row from the seeds that have figures, and their folders."""
    folders = [runs / f"{cell.name}-{seed}" for seed in seeds]
    found = [(folder, one) for folder in folders if (one := _one(folder))]
    if not found:
        return None
    runs_ = [one for _, one in found]
    # A method that reads labels in several ways scores each.
    readings = [name for name in runs_[0] if name.startswith(("nmi_", "acc_"))]
    row = {
        "name": cell.name,
        "title": cell.title,
        "dataset": cell.dataset,
        "command": " ".join(["jaxclust run", *cell.arguments(), "--seed SEED"]),
        "n_images": runs_[0]["n_images"],
        "seeds": [one["seed"] for one in runs_],
        **{name: [one.get(name) for one in runs_] for name in (*_LISTED, *readings)},
        "device": runs_[0]["device"],
        "versions": runs_[0]["versions"],
    }
    return row, [folder for folder, _ in found]


def merge(old: Row | None, new: Row) -> Row:
    """A row with the seeds of both; for a seed in both, the new figures."""
    if old is None:
        return new
    kept = [i for i, seed in enumerate(old["seeds"]) if seed not in new["seeds"]]
    order = sorted([*(old["seeds"][i] for i in kept), *new["seeds"]])
    merged = {**old, **new}
    for name, values in merged.items():
        if isinstance(values, list):
            fresh = new.get(name) or [None] * len(new["seeds"])
            past = old.get(name) or [None] * len(old["seeds"])
            by_seed = dict(zip(new["seeds"], fresh, strict=True))
            by_seed |= {old["seeds"][i]: past[i] for i in kept}
            merged[name] = [by_seed[seed] for seed in order]
    return merged


def recorded(table: Table, results: Path = RESULTS) -> dict[str, Row]:
    """The rows of earlier calls, by name."""
    path = results / f"{table.name}.json"
    return {row["name"]: row for row in json.loads(path.read_text())} if path.is_file() else {}


def collect(table: Table, runs: Path, results: Path = RESULTS) -> list[Row]:
    """A row for every cell that has a seed, recorded earlier or finished now."""
    rows = recorded(table, results)
    order: list[str] = []
    for cell in table.cells:
        order.append(cell.name)
        if cell.name in rows:
            rows[cell.name]["title"] = cell.title
        if gathered := gather(cell, table.seeds_of(cell), runs):
            row, folders = gathered
            derived = table.derive(row, folders) if table.derive else []
            for new in [row, *derived]:
                rows[new["name"]] = merge(rows.get(new["name"]), new)
        order += [name for name, row in rows.items() if row.get("of") == cell.name]
    return [rows[name] for name in dict.fromkeys(order) if name in rows]


def _listed(values: Sequence[Any] | None) -> str:
    if values and set(values) == {"all"}:
        return "all"
    if values and len(values) > _LISTED_SINGLY and None not in values:
        least, most = min(values), max(values)
        return str(least) if least == most else f"{least} to {most}"
    return ", ".join("–" if value is None else str(value) for value in values or []) or "–"


def _figures(values: Sequence[float | None] | None) -> str:
    known = [value for value in values or [] if value is not None]
    return ", ".join(f"{value:.4g}" for value in known) or "–"


def markdown(rows: Sequence[Row], more: Sequence[str] = ()) -> str:
    """The rows as a Markdown table, with further columns by name."""
    columns = ["data set", "run", "NMI", "ACC", "seeds", "epochs", "empty clusters", "seconds"]
    columns += [name.replace("_", " ") for name in more]
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for row in rows:
        listed = (row.get(name) for name in ("seeds", "epoch", "empty_clusters", "seconds"))
        figures = (row["dataset"], row["title"], spread(row["nmi"]), spread(row["acc"]))
        further = (_figures(row.get(name)) for name in more)
        lines.append(f"| {' | '.join([*figures, *map(_listed, listed), *further])} |")
    return "\n".join(lines) + "\n"


def page(table: Table, rows: Sequence[Row]) -> str:
    """The table with what was run to get it."""
    commands = "\n".join(f"- {row['name']}: `{row['command']}`" for row in rows)
    return (
        f"# {table.title}\n\n"
        "Percent, mean ± standard deviation over seeds; NMI is the geometric one. Written by "
        f"`python -m experiments.tables.{table.name} --data-dir DATA_DIR`, which goes on where "
        "it stopped and fills in missing seeds and rows. What it says: README.md beside this "
        "file. Seconds leave out a pre-training that another row's run has done.\n\n"
        f"{markdown(rows, table.columns)}\n{_machines(rows)}\n\n{commands}\n"
    )


def _machines(rows: Sequence[Row]) -> str:
    """What the rows were run on: a sentence for each device and set of versions."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if "versions" in row:
            versions = ", ".join(f"{name} {value}" for name, value in row["versions"].items())
            cores = ", 2 cores" if row["device"] == "cpu" else ""
            found.setdefault(f"{row['device']}{cores}; {versions}", []).append(row["name"])
    if len(found) == 1:
        return f"Device and versions: {next(iter(found))}."
    return "Devices and versions:\n\n" + "\n".join(
        f"- {machine}: {', '.join(names)}." for machine, names in found.items()
    )


def write(table: Table, rows: Sequence[Row], results: Path = RESULTS) -> None:
    """The table's json and md; nothing where there is no row yet."""
    if not rows:
        return
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{table.name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    (results / f"{table.name}.md").write_text(page(table, rows))


def _run(table: Table, options: argparse.Namespace) -> int:
    """Run the cells' missing seeds; the first exit status that is not zero, else zero."""
    known = {} if options.again else recorded(table, options.results)
    place = [f"--data-dir={options.data_dir}"] if options.data_dir else []
    for seed in options.seeds:
        for cell in table.cells:
            wanted = cell.dataset in options.datasets and seed in table.seeds_of(cell)
            wanted = wanted and any(part in cell.name for part in options.only)
            folder = options.runs / f"{cell.name}-{seed}"
            row = known.get(cell.name, {"seeds": []})
            epochs = row.get("epoch", ["all"] * len(row["seeds"]))
            done = seed in row["seeds"] and epochs[row["seeds"].index(seed)] == "all"
            if not wanted or done or (folder / "summary.json").is_file():
                continue
            given = [*cell.arguments(), *place, f"--seed={seed}", f"--out={folder}", "--resume"]
            start = options.runs / f"{cell.pretrained}-{seed}"
            if cell.pretrained and (start / warm_start.FILE).is_file():
                given.append(f"--pretrained={start}")
            # A run's page is made by `jaxclust report` when somebody wants it.
            if status := jaxclust(["run", *given, "--quiet", "--no-report"]):
                return status
    return 0


def main(table: Table, description: str) -> int:
    """Run what is missing, then gather and write; the script's exit status."""
    datasets = list(dict.fromkeys(cell.dataset for cell in table.cells))
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir")
    parser.add_argument("--runs", type=Path, default=Path("runs") / table.name)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the table is written")
    parser.add_argument("--datasets", nargs="+", choices=datasets, default=datasets)
    parser.add_argument(
        "--seeds", nargs="+", type=int, choices=table.all_seeds(), default=table.all_seeds()
    )
    parser.add_argument("--only", nargs="+", default=[""], help="cells whose name has one of these")
    parser.add_argument("--collect", action="store_true", help="run nothing")
    parser.add_argument("--again", action="store_true", help="run recorded seeds too")
    options = parser.parse_args()
    if not options.collect and (status := _run(table, options)):
        return status
    rows = collect(table, options.runs, options.results)
    write(table, rows, options.results)
    print(markdown(rows, table.columns))
    return 0
