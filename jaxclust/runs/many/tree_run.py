"""Hierarchical k-means of features in shards: read, grow level by level, write assignments."""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxclust.core import device, exchange, keys
from jaxclust.core.errors import InputError
from jaxclust.data import shards
from jaxclust.data.feature_shards import write_assignments
from jaxclust.data.shards import Shard
from jaxclust.runs.csv_tables import ERRORS, as_text
from jaxclust.runs.lock import locked
from jaxclust.runs.many.held_rows import Held, regrouped, whole
from jaxclust.runs.many.ingest import Ingested, ingested
from jaxclust.runs.many.tree_growing import Level, Settled, divided, grown, settled
from jaxclust.runs.many.tree_seeding import seeds
from jaxclust.runs.many.tree_settings import Settings, levels_of, read_centroids
from jaxclust.runs.many.tree_state import (
    State,
    check_record,
    read_state,
    write_record,
    write_state,
)
from jaxclust.runs.prepare import versions
from jaxclust.runs.sharded import found_by_first
from jaxclust.runs.writable import write_file

# Seconds between two states on disk.
_SAVED_EVERY = 10.0


class _Work(NamedTuple):
    """What a run needs everywhere."""

    settings: Settings
    record: dict[str, Any]  # what must be the same to continue
    levels: int
    out: Path
    folder: Path  # for this process's rows
    say: Callable[[str], None]
    given: np.ndarray | None  # first centroids, if there are


def execute(
    settings: Settings,
    out: Path,
    *,
    scratch: Path | None = None,
    strict: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run or continue a k-means of shards; all of its processes call this alike.

    Args:
        settings: see there.
        out: folder for centroids, assignments and summary, which all processes see.
        scratch: folder for a copy of this process's rows, removed at the end; default `out`.
        strict: refuse shards that are missing or damaged instead of passing over them.
        quiet: show no progress.

    Returns:
        The summary, as in `summary.json`.

    Raises:
        InputError: unusable shards or settings, or a folder with something else.
    """
    began, levels = time.perf_counter(), levels_of(settings)
    found = found_by_first(settings.source)
    given = None if settings.centroids is None else read_centroids(settings.centroids)
    record = {**asdict(settings), "processes": jax.process_count()}
    exchange.agreed(lambda: check_record(out, record))
    say = _teller(quiet or jax.process_index() > 0)
    if (done := out / "summary.json").is_file():
        say(f"{out} is finished already")
        return json.loads(done.read_text("utf-8"))
    with ExitStack() as held:
        exchange.agreed(lambda: held.enter_context(locked(out)))
        folder = held.enter_context(_own_folder(scratch or out, out))
        work = _Work(settings, record, levels, out, folder, say, given)
        return _executed(work, found, strict, began)


def _executed(work: _Work, found: Sequence[Shard], strict: bool, began: float) -> dict[str, Any]:
    """All of it, once a folder for rows is there; returns the summary."""
    known = read_state(work.out)
    read = ingested(found, work.folder, strict, work.say)
    _check_rows(read, work.settings, known)
    exchange.agreed(lambda: write_record(work.out, work.record))
    held, levels, answer = _grow_all(work, read, known)
    written = exchange.summed(_written(work, found, held, read, answer))
    assert int(written[0]) == read.scale.n
    summary = _summary(work, read, levels, answer, time.perf_counter() - began)
    exchange.agreed(lambda: _finish(work.out, levels, read, summary))
    return summary


def _teller(quiet: bool) -> Callable[[str], None]:
    def say(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr, flush=True)

    return say


@contextmanager
def _own_folder(parent: Path, out: Path) -> Iterator[Path]:
    """A folder for this process's rows, removed at the end; other runs may share its parent."""
    run = hashlib.sha256(str(out.resolve()).encode("utf-8", ERRORS)).hexdigest()[:12]
    folder = parent / f".rows-{run}-{jax.process_index()}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_rows(read: Ingested, settings: Settings, known: State | None) -> None:
    """InputError if the shards have changed, or have fewer rows than clusters are wanted."""
    if known is not None and not np.array_equal(known.rows, read.rows):
        raise InputError(
            "the shards do not have the rows that they had when this k-means began; bring them "
            "back, or start again in another folder"
        )
    if settings.n_clusters > read.scale.n:
        raise InputError(
            f"{settings.n_clusters:,} clusters of {read.scale.n:,} rows are not possible; lower "
            "‹n_clusters›"
        )


def _grow_all(
    work: _Work, read: Ingested, known: State | None
) -> tuple[Held, tuple[Level, ...], Settled]:
    """All levels, and the refinement: (the rows, the levels, the last one's answer)."""
    state, held = known or State(read.rows, ()), read.held
    n = np.asarray([read.scale.n], np.int64)
    variances, sizes = np.asarray([read.scale.variance]), n
    answer: Settled | None = None
    for depth in range(work.levels + bool(work.settings.refine)):
        refines = depth == work.levels
        if answer is not None and refines:
            held, sizes, variances = whole(held), n, np.asarray([read.scale.variance])
        elif answer is not None:
            held = regrouped(held, answer.labels, len(sizes), work.folder / f"{depth}.rows")
        if depth == len(state.grown):
            first = state.grown[-1].centroids if refines else None
            level = _grow(work, read, held, state, sizes, variances, first)
            state = State(state.rows, (*state.grown, level))
            _save(work, state)
        answer = settled(held, state.grown[depth], read.scale)
        sizes = answer.sizes
        variances = answer.inertia / np.maximum(sizes, 1) / held.width
        name = "refined" if refines else f"level {depth + 1}"
        work.say(f"{name}: {len(sizes):,} clusters, inertia {answer.inertia.sum():.6g}")
    assert answer is not None
    return held, state.grown, answer


def _grow(
    work: _Work,
    read: Ingested,
    held: Held,
    state: State,
    sizes: np.ndarray,
    variances: np.ndarray,
    first: np.ndarray | None,
) -> Level:
    """The next level: from where it stood, from given centroids, or from its seeds."""
    depth, settings = len(state.grown), work.settings
    most = settings.max_iterations if first is None else settings.refine
    level = state.growing
    if level is None and first is not None:
        level = Level(np.asarray([len(first)]), first, np.asarray([True]))
    elif level is None:
        total = round(settings.n_clusters ** ((depth + 1) / work.levels))
        wanted = divided(sizes, max(total, int(np.count_nonzero(sizes))))
        centroids = _first(work, held, wanted, depth, read)
        level = Level(wanted, centroids, wanted > 0)
        _save(work, state._replace(growing=level))
    last = [time.perf_counter()]

    def done(level: Level, inertia: float) -> None:
        moving = int(level.active.sum())
        work.say(
            f"level {depth + 1}, iteration {level.iteration}: inertia {inertia:.6g}, {moving} of "
            f"{len(level.active)} still move"
        )
        if time.perf_counter() - last[0] > _SAVED_EVERY:
            _save(work, state._replace(growing=level))
            last[0] = time.perf_counter()

    limits = settings.tol * variances
    return grown(held, level, read.scale, limits, most, done)


def _first(work: _Work, held: Held, wanted: np.ndarray, depth: int, read: Ingested) -> np.ndarray:
    """A level's first centroids: given, or drawn."""
    given = work.given
    if given is None:
        key = jax.random.fold_in(keys.run_key(work.settings.seed), depth)
        return seeds(held, wanted, key, read.scale.radius)
    wished = (int(wanted.sum()), held.width)
    if given.shape != wished:
        raise InputError(f"‹centroids› have shape {given.shape}; {wished} is expected")
    return given


def _save(work: _Work, state: State) -> None:
    if jax.process_index() == 0:
        write_state(work.out, state)


def _written(
    work: _Work, found: Sequence[Shard], held: Held, read: Ingested, answer: Settled
) -> np.ndarray:
    """Write the assignments of this process's shards; returns how many rows they have, [1]."""
    folder = work.out / "assignments"
    folder.mkdir(exist_ok=True)
    labels, distances = np.empty_like(answer.labels), np.empty_like(answer.distances)
    labels[held.order], distances[held.order] = answer.labels, np.sqrt(answer.distances)
    written = 0
    for number, start in zip(held.shards, held.offsets[:-1], strict=True):
        shard, count = found[number], int(read.rows[number])
        if count < 0:
            continue
        rows = slice(start, start + count)

        def fill(path: Path, shard: Shard = shard, rows: slice = rows) -> None:
            with shards.local(shard.where) as features:
                write_assignments(path, features, labels[rows], distances[rows])

        shards.write(str(folder / f"{shard.name}.parquet"), fill)
        written += count
    return np.asarray([written], np.int64)


def _summary(
    work: _Work, read: Ingested, levels: tuple[Level, ...], answer: Settled, seconds: float
) -> dict[str, Any]:
    """What is recorded of a finished run; the same in every process."""
    peaks = exchange.of_all(np.asarray(device.peak_memory_mb()["peak_rss_mb"], np.float32))
    return {
        "n_rows": read.scale.n,
        "n_clusters": len(levels[-1].centroids),
        "levels": [len(level.centroids) for level in levels],
        "iterations": [level.iteration for level in levels],
        "inertia": float(answer.inertia.sum()),
        "empty_clusters": int(np.sum(answer.sizes == 0)),
        "shards": int(np.count_nonzero(read.rows >= 0)),
        "skipped": [one.where for one in read.skipped],
        "peak_rss_mb": [round(float(peak), 1) for peak in peaks],
        "seconds": round(seconds, 2),
        "settings": asdict(work.settings),
        **device.describe(),
        "versions": versions(),
    }


def _finish(out: Path, levels: tuple[Level, ...], read: Ingested, summary: dict[str, Any]) -> None:
    """Write what one process writes; the summary last, as it says that all is there."""
    np.save(out / "centroids.npy", levels[-1].centroids)
    rows = [(one.where, one.reason) for one in read.skipped]
    if rows:
        write_file(out / "skipped.csv", as_text(("shard", "reason"), rows).encode("utf-8", ERRORS))
    write_file(out / "summary.json", json.dumps(summary, indent=1).encode())
