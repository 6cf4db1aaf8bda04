"""Runs that differ only in their seed, and their mean and spread."""

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax

from jaxclust.core import device, interrupts, processes, settings
from jaxclust.core.errors import InputError
from jaxclust.runs import prepare
from jaxclust.runs import single as run
from jaxclust.runs.directory import RunDirectory
from jaxclust.runs.one_program import as_one_program, command_of
from jaxclust.runs.options import (
    Options,
    as_recorded,
    default_out,
    plain,
)
from jaxclust.runs.prepare import Prepared
from jaxclust.training.mapped import can_share, convolves

# What differs between runs and is summarised by mean and standard deviation.
_AVERAGED = ("nmi", "ari", "acc", "empty_clusters", "clusters_found", "images_per_second")
_SAME = (
    "method", "dataset", "preset", "n_images", "n_clusters", "n_skipped", "platform", "device",
    "device_count", "versions",
)  # fmt: skip
# The same, which not every summary has.
_NEWER = ("cluster_count", "passed_over", "finds_number")


def execute(
    options: Options, config: Any, command: str = "", after: prepare.After | None = None
) -> dict[str, Any]:
    """`options.seeds` runs, from seed `options.seed` on.

    For each seed, the run directory gets a whole run's folder `seed-S` and `assignments-S.csv`; it
    also gets a summary whose scores are means, with sample standard deviations as `nmi_std` and so
    on. With --resume, unfinished runs continue and further seeds are added. On accelerators, the
    runs are one program if the method allows it; each run is then credited its share of the
    seconds.

    Args:
        options: what to run on and where to write; at least two seeds.
        config: the method's own settings.
        command: see :func:`run.execute`.
        after: called with every finished run and its images, before the next one starts.

    Raises:
        InputError, RunError, Stopped: as for one run.
    """
    _check(options, config)
    directory = RunDirectory(options.out or default_out(options))
    record = {
        "options": as_recorded(options),
        "config": plain(asdict(config)),
        "versions": prepare.versions(),
    }
    directory.check(record, resume=options.resume, overwrite=options.overwrite)
    singles = _singles(options, directory)
    summaries = []
    with ExitStack() as held:
        # Once, when a run is about to start: a refusal must leave nothing behind.
        begin = cache(partial(_begin, held, directory, record, options))
        for summary in _runs(singles, options, config, command, begin, after):
            summaries.append(summary)
            content = (Path(summary["out"]) / "assignments.csv").read_bytes()
            directory.write_bytes(f"assignments-{summary['seed']}.csv", content)
        summary = combined(summaries, str(directory.path))
        directory.write_json("summary.json", summary)
    return summary


def _check(options: Options, config: Any) -> None:
    """InputError for options that several runs cannot have."""
    if options.seeds < 2:
        raise InputError(f"‹seeds› must be at least 1, not {options.seeds}")
    settings.check(options, config)
    settings.check(replace(options, seed=options.seed + options.seeds - 1))
    if options.coordinator is not None or options.num_processes != 1:
        raise InputError("‹seeds› works in one process only; start one run per ‹seed› instead")


def _singles(options: Options, directory: RunDirectory) -> list[Options]:
    """The options of each run; runs that already exist are resumed or replaced."""
    singles = []
    for seed in range(options.seed, options.seed + options.seeds):
        folder = directory.path / f"seed-{seed}"
        here = folder.is_dir() and any(folder.iterdir())
        again = {"resume": options.resume and here, "overwrite": options.overwrite and here}
        singles.append(replace(options, seed=seed, seeds=1, out=folder, **again))
    return singles


def _runs(
    singles: list[Options],
    options: Options,
    config: Any,
    command: str,
    begin: Callable[[], None],
    after: prepare.After | None,
) -> Iterator[dict[str, Any]]:
    """The summaries of the runs, in one program or one after the other."""
    processes.check_platform()
    on_cpu = jax.default_backend() == "cpu"
    if options.seeds_together == "yes" or (options.seeds_together == "auto" and not on_cpu):
        with device.deterministic(options.deterministic):
            first = prepare.prepare(singles[0], config, command, after)
            reason = _apart(first, singles)
            slower = options.seeds_together == "auto" and reason is None
            if slower and convolves(first.method, first.data):
                reason = "convolutions mapped over seeds are slower than runs in turn"
            if reason is None:
                begin()
                with ExitStack() as held:
                    for one in singles:
                        held.enter_context(RunDirectory(one.out or default_out(one)).locked())
                    yield from as_one_program(first, singles, command)
                return
        if options.seeds_together == "yes":
            raise InputError(f"the seeds cannot run together: {reason}; leave out ‹seeds_together›")
        # Its images must not stay in memory while the runs load theirs.
        del first
    for single in singles:
        yield _alone(single, config, command, begin, after)


def _alone(
    single: Options,
    config: Any,
    command: str,
    begin: Callable[[], None],
    after: prepare.After | None,
) -> dict[str, Any]:
    """One of the runs; its memory is freed when it ends."""
    with device.deterministic(single.deterministic):
        ready = prepare.prepare(single, config, command_of(single, command), after)
        begin()
        return run.carry_out(ready)


def _begin(
    held: ExitStack, directory: RunDirectory, record: dict[str, Any], options: Options
) -> None:
    """Lock and open the folder of all runs; nothing remains of an old one that is replaced."""
    held.enter_context(directory.locked())
    directory.check(record, resume=options.resume, overwrite=options.overwrite)
    held.enter_context(interrupts.advising("continue with --resume"))
    directory.open(record, overwrite=options.overwrite)


def _apart(first: Prepared, singles: list[Options]) -> str | None:
    """Why runs cannot be one program; None if they can."""
    if not can_share(first.method):
        return "part of this method runs on the host"
    if first.method.starts > 1:
        return "each chooses among several ‹starts›"
    if first.data.group is not None:
        return "each already takes several devices; set ‹devices› 1"
    if first.data.streamed:
        return "the images are streamed"
    if first.pretrained is not None:
        return "they start from another run's pre-training"
    if first.options.imbalance is not None:
        return "‹imbalance› draws other images for each seed"
    if any(single.resume for single in singles):
        return "unfinished runs continue one by one"
    return None


def combined(summaries: list[dict[str, Any]], out: str) -> dict[str, Any]:
    """One summary of several: means, standard deviations, and each seed's scores.

    Args:
        summaries: of two runs or more, of the same settings.
        out: the folder that holds them.
    """
    first = summaries[0]
    result: dict[str, Any] = {name: first[name] for name in _SAME}
    result |= {name: first[name] for name in _NEWER if name in first}
    result["seeds"] = [one["seed"] for one in summaries]
    for name in ("peak_rss_mb", "peak_device_mb"):
        result[name] = max((one[name] for one in summaries if one[name] is not None), default=None)
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
        {name: one[name] for name in ("seed", "nmi", "ari", "acc", "starts", "out")}
        for one in summaries
    ]
    return {**result, "out": out}
