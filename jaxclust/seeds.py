"""Runs that differ by their seed alone, one after the other, and their mean and spread."""

import statistics
from dataclasses import asdict, replace
from typing import Any

from jaxclust import run
from jaxclust.errors import InputError
from jaxclust.report.run_dir import RunDirectory
from jaxclust.run import Options

# What differs between runs and is summarised by mean and standard deviation.
_AVERAGED = ("nmi", "ari", "acc", "empty_clusters", "clusters_found", "images_per_second")
_SAME = (
    "method", "dataset", "preset", "n_images", "n_clusters", "n_skipped", "platform", "device",
    "device_count", "versions",
)  # fmt: skip


def execute(options: Options, config: Any, command: str = "") -> dict[str, Any]:
    """`options.seeds` runs, from seed `options.seed` on.

    The run directory gets a whole run's folder `seed-S` for each, `assignments-S.csv`, and a
    summary whose scores are means, with their sample standard deviations beside them as
    `nmi_std` and so on. With --resume, unfinished runs go on and further seeds are added.

    Args:
        options: what to run on and where to write; at least two seeds.
        config: the method's own settings.
        command: see :func:`run.execute`.

    Raises:
        InputError, RunError, train.Stopped: as of one run.
    """
    if options.seeds < 2:
        raise InputError(f"--seeds must be at least 1, not {options.seeds}")
    if options.coordinator is not None:
        raise InputError("--seeds is for one process; start a run of several for each --seed")
    directory = RunDirectory(options.out or run.default_out(options))
    record = {
        "options": run.as_recorded(options),
        "config": run.plain(asdict(config)),
        "versions": run.versions(),
    }
    directory.check(record, resume=options.resume, overwrite=options.overwrite)
    summaries = []
    for seed in range(options.seed, options.seed + options.seeds):
        folder = directory.path / f"seed-{seed}"
        here = folder.is_dir() and any(folder.iterdir())
        one = replace(
            options,
            seed=seed,
            seeds=1,
            out=folder,
            resume=options.resume and here,
            overwrite=options.overwrite and here,
        )
        summaries.append(run.execute(one, config, command))
        # Only now: what a single run refuses must leave nothing behind.
        directory.open(record, overwrite=False)
        content = (folder / "assignments.csv").read_bytes()
        directory.write_bytes(f"assignments-{seed}.csv", content)
    summary = combined(summaries, str(directory.path))
    directory.write_json("summary.json", summary)
    return summary


def combined(summaries: list[dict[str, Any]], out: str) -> dict[str, Any]:
    """One summary of several: means, standard deviations, and each seed's scores.

    Args:
        summaries: of two runs or more, of the same settings.
        out: the folder that holds them.
    """
    first = summaries[0]
    result: dict[str, Any] = {name: first[name] for name in _SAME}
    result["seeds"] = [one["seed"] for one in summaries]
    scores = [name for name in first if name.startswith(("nmi_", "acc_"))]
    for name in (*_AVERAGED, *scores):
        values = [one[name] for one in summaries]
        known = None not in values
        result[name] = statistics.mean(values) if known else None
        result[f"{name}_std"] = statistics.stdev(values) if known else None
    result["warnings"] = [
        f"seed {one['seed']}: {text}" for one in summaries for text in one["warnings"]
    ]
    result["seconds"] = {
        name: round(sum(one["seconds"][name] for one in summaries), 2) for name in first["seconds"]
    }
    result["by_seed"] = [
        {name: one[name] for name in ("seed", "nmi", "ari", "acc", "out")} for one in summaries
    ]
    return {**result, "out": out}
