"""One level of a tree of centroids: every node's rows are split by a k-means of their own."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxclust.clustering import row_blocks
from jaxclust.clustering.bounds import slack_of
from jaxclust.core import exchange
from jaxclust.runs.many.held_rows import Held, blocks


class Level(NamedTuple):
    """A level that is being grown; the same in every process."""

    wanted: np.ndarray  # int64 [nodes]: how many centroids each node has
    centroids: np.ndarray  # float32 [m, d]: node by node
    active: np.ndarray  # bool [nodes]: whose centroids still move
    iteration: int = 0

    @property
    def starts(self) -> np.ndarray:
        """Where each node's centroids begin, int64 [nodes + 1]."""
        return np.concatenate([[0], np.cumsum(self.wanted)]).astype(np.int64)


class Scale(NamedTuple):
    """What is known of all rows; the same in every process."""

    n: int
    radius: float  # the length of the longest row
    variance: float  # the mean of the columns' variances

    @property
    def slack(self) -> np.float32:
        """As :func:`bounds.rounding_slack` of all rows."""
        return np.float32(slack_of(np.float32(self.radius**2), np.float32))


class Settled(NamedTuple):
    """A level's answer: this process's rows, and sums over all."""

    labels: np.ndarray  # int32 [n]: of each row of the file, the level's centroid by number
    distances: np.ndarray  # float32 [n]: squared, to it
    sizes: np.ndarray  # int64 [m]: rows of each centroid
    inertia: np.ndarray  # float64 [m]: their summed squared distances


class _Sums(NamedTuple):
    sums: np.ndarray  # [m, d]
    counts: np.ndarray  # [m]
    inertia: np.ndarray  # [nodes]: of those that were visited
    far: np.ndarray  # float32 [nodes]: the largest squared distance to an own centroid
    at: np.ndarray  # int64 [nodes]: where that row is in the file


def divided(sizes: np.ndarray, total: int) -> np.ndarray:
    """How many centroids each node gets: in proportion to its rows, at least one.

    Largest remainders; no node gets more than it has rows.

    Args:
        sizes: int [nodes]: rows of each.
        total: how many centroids there are; between the number of nodes with rows and of rows.

    Returns:
        int64 [nodes], which add up to `total`; 0 for a node without rows.

    >>> divided(np.array([10, 70, 0, 20]), 10)
    array([1, 7, 0, 2])
    """
    least = np.minimum(sizes, 1).astype(np.int64)
    exact = sizes / sizes.sum() * total
    found = np.clip(np.floor(exact).astype(np.int64), least, sizes)
    while (short := total - int(found.sum())) != 0:
        gain = np.where(found < sizes, exact - found, -np.inf)
        loss = np.where(found > least, found - exact, -np.inf)
        order = np.argsort(-(gain if short > 0 else loss), kind="stable")[: abs(short)]
        able = (gain if short > 0 else loss)[order] > -np.inf
        found[order[able]] += 1 if short > 0 else -1
    return found


def grown(
    held: Held,
    level: Level,
    scale: Scale,
    limits: np.ndarray,
    most: int,
    done: Callable[[Level, float], None],
) -> Level:
    """Lloyd's iterations of every node, in all processes together, until they stand still.

    Args:
        held: this process's rows.
        level: the first centroids, or those of an earlier iteration.
        scale: of all rows.
        limits: float [nodes]: a node is done once its centroids' summed squared shift is at most
            this.
        most: iterations at most.
        done: called after each with the level and the inertia before it; a level that is gone on
            with counts only the nodes that still move.
    """
    bounds = row_blocks.unknown(len(held.order))
    shifts = np.full(len(level.centroids), np.inf, np.float32)
    inertia = np.zeros(held.nodes)
    while level.active.any() and level.iteration < most:
        found = _swept(held, level, scale, bounds, shifts)
        inertia = np.where(level.active, found.inertia, inertia)
        level, shifts = _moved(held, level, found, limits)
        done(level, float(inertia.sum()))
    return level


def _swept(
    held: Held, level: Level, scale: Scale, bounds: row_blocks.Bounds, shifts: np.ndarray
) -> _Sums:
    """Assign the rows of the active nodes and add them up; `bounds` change in place."""
    starts, move = level.starts, row_blocks.mover()
    sums = np.zeros(level.centroids.shape, np.float64)
    counts = np.zeros(len(level.centroids), np.int64)
    inertia, far = np.zeros(held.nodes), np.zeros(held.nodes, np.float32)
    at = np.zeros(held.nodes, np.int64)
    for part, rows in blocks(held, np.flatnonzero(level.active)):
        own, size = slice(starts[part.node], starts[part.node + 1]), part.stop - part.start
        group, shifted = _padded(level.centroids[own], shifts[own], held.nodes > 1, scale.radius)
        mine = slice(part.start, part.stop)
        known = row_blocks.stretch_of(bounds, mine, len(rows))
        found = move(rows, np.int32(size), group, known, shifted, scale.slack)
        row_blocks.store(bounds, mine, found.bounds)
        count = own.stop - own.start
        sums[own] += np.asarray(found.sums)[:count]
        counts[own] += np.asarray(found.counts)[:count].astype(np.int64)
        inertia[part.node] += float(found.inertia)
        if found.farthest > far[part.node]:
            far[part.node], at[part.node] = found.farthest, part.start + int(found.row)
    sums, counts, inertia = (exchange.summed(values) for values in (sums, counts, inertia))
    return _Sums(sums, counts, inertia, far, at)


def _padded(
    group: np.ndarray, shifts: np.ndarray, several: bool, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """A node's centroids and their shifts, filled up where several nodes share a program."""
    size = row_blocks.padded_centroids(len(group)) if several else len(group)
    return (
        row_blocks.far_away(group, size, radius),
        np.pad(shifts, (0, size - len(group))),
    )


def _moved(held: Held, level: Level, found: _Sums, limits: np.ndarray) -> tuple[Level, np.ndarray]:
    """The level with the active nodes' centroids at their rows' means, and how far each moved."""
    full = found.counts > 0
    centroids = level.centroids.copy()
    centroids[full] = (found.sums[full] / found.counts[full][:, None]).astype(np.float32)
    moving = np.repeat(level.active, level.wanted)
    waiting = _filled(held, level, centroids, found, moving & ~full)
    squared = np.square(centroids.astype(np.float64) - level.centroids).sum(axis=1)
    total = np.concatenate([[0.0], np.cumsum(squared)])[level.starts]
    active = level.active & ((np.diff(total) > limits) | waiting)
    moved = level._replace(centroids=centroids, active=active, iteration=level.iteration + 1)
    return moved, np.sqrt(squared).astype(np.float32)


def _filled(
    held: Held, level: Level, centroids: np.ndarray, found: _Sums, empty: np.ndarray
) -> np.ndarray:
    """Move one empty centroid of each node, in place, to the row farthest from its own.

    Returns:
        bool [nodes]: which nodes had an empty centroid and a row to fill it.
    """
    starts = level.starts
    ends = np.concatenate([[0], np.cumsum(empty)])[starts]
    filled = np.zeros(held.nodes, bool)
    if not empty.any():
        return filled
    everyone = exchange.of_all(found.far)
    filled = (np.diff(ends) > 0) & (everyone.max(axis=0) > 0)
    mine = np.flatnonzero(filled & (everyone.argmax(axis=0) == jax.process_index()))
    rows = [held.file.read(int(found.at[node]), int(found.at[node]) + 1) for node in mine]
    nodes = exchange.rows_of_all(mine.astype(np.int32))
    farthest = exchange.rows_of_all(np.concatenate([*rows, np.zeros((0, held.width), np.float32)]))
    for node, row in zip(nodes, farthest, strict=True):
        first = starts[node] + int(np.argmax(empty[starts[node] : starts[node + 1]]))
        centroids[first] = row
    return filled


def settled(held: Held, level: Level, scale: Scale) -> Settled:
    """Each row's centroid of a grown level, among those of its node."""
    starts, near, n = level.starts, row_blocks.assigner(), len(held.order)
    labels, distances = np.zeros(n, np.int32), np.zeros(n, np.float32)
    for part, rows in blocks(held, range(held.nodes)):
        own, size = slice(starts[part.node], starts[part.node + 1]), part.stop - part.start
        group, _ = _padded(
            level.centroids[own], np.zeros(own.stop - own.start), held.nodes > 1, scale.radius
        )
        found, squared = near(rows, group)
        labels[part.start : part.stop] = own.start + np.asarray(found)[:size]
        distances[part.start : part.stop] = np.asarray(squared)[:size]
    m = len(level.centroids)
    sizes = exchange.summed(np.bincount(labels, minlength=m))
    inertia = exchange.summed(np.bincount(labels, weights=distances, minlength=m))
    return Settled(labels, distances, sizes.astype(np.int64), inertia.astype(np.float64))
