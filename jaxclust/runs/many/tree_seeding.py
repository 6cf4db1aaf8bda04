"""k-means|| (Bahmani et al. 2012) for all nodes of a level at once, with rows in many processes.

Each round draws rows with a probability proportional to their squared distance from what was drawn
before. Only the drawn rows travel, a few for each centroid that is wanted.
"""

from typing import NamedTuple

import jax
import numpy as np

from jaxclust.clustering import row_blocks
from jaxclust.core import exchange
from jaxclust.runs.many.held_rows import Held, blocks, most_rows, origins, stretches

# Rounds, each of which draws about as many rows as centroids are wanted; more follow while a node
# has drawn too few.
_ROUNDS, _MOST_ROUNDS = 3, 10


class Drawn(NamedTuple):
    """Rows that were drawn, of all processes, in an order that all of them agree on."""

    nodes: np.ndarray  # int32 [c]
    rows: np.ndarray  # float32 [c, d]


def seeds(held: Held, wanted: np.ndarray, key: jax.Array, radius: float) -> np.ndarray:
    """First centroids of every node: those of node 0, then those of node 1, …

    Args:
        held: this process's rows.
        wanted: int64 [nodes]: how many centroids each node gets.
        key: random key, the same in every process.
        radius: the length of the longest row of all.

    Returns:
        float32 [sum of wanted, d], the same in every process.
    """
    drawn = _first(held, jax.random.fold_in(key, 0))
    nearest = row_blocks.far(len(held.order))
    new, before = drawn, np.zeros(held.nodes, np.int32)
    for turn in range(1, _MOST_ROUNDS + 1):
        _approach(held, new, before, nearest, radius)
        before = np.bincount(drawn.nodes, minlength=held.nodes).astype(np.int32)
        total = exchange.summed(_by_node(held, np.asarray(nearest.distances)))
        lacking = (before < wanted) & (total > 0)
        if turn > _ROUNDS and not lacking.any():
            break
        asked = wanted if turn <= _ROUNDS else np.where(lacking, wanted, 0)
        rate = asked / np.maximum(total, np.finfo(np.float32).tiny)
        new = _draw(held, jax.random.fold_in(key, turn), rate, np.asarray(nearest.distances))
        drawn = Drawn(*(np.concatenate(both) for both in zip(drawn, new, strict=True)))
    return _chosen(
        held, drawn, np.asarray(nearest.owners), wanted, jax.random.fold_in(key, _MOST_ROUNDS + 1)
    )


def _by_node(held: Held, values: np.ndarray) -> np.ndarray:
    """The sum of the rows' values in each node, float64 [nodes]."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return sums[held.starts[1:]] - sums[held.starts[:-1]]


def _uniform(held: Held, key: jax.Array, start: int, stop: int) -> np.ndarray:
    """A number in [0, 1) for each row of a stretch, whichever process holds it."""
    shards, rows = origins(held, start, stop)
    short = row_blocks.padded_rows(stop - start, most_rows(held.width)) - (stop - start)
    found = row_blocks.drawer()(key, np.pad(shards, (0, short)), np.pad(rows, (0, short)))
    return np.asarray(found)[: stop - start]


def _first(held: Held, key: jax.Array) -> Drawn:
    """One row of each node, all with equal probability: the one that drew the smallest number."""
    least, at = np.full(held.nodes, np.inf, np.float32), np.zeros(held.nodes, np.int64)
    for part in stretches(held, range(held.nodes)):
        drawn = _uniform(held, key, part.start, part.stop)
        row = int(np.argmin(drawn))
        if drawn[row] < least[part.node]:
            least[part.node], at[part.node] = drawn[row], part.start + row
    everyone = exchange.of_all(least)
    # Of equal numbers, the lowest process's counts; where nobody has rows, nothing is drawn.
    mine = (np.argmin(everyone, axis=0) == jax.process_index()) & np.isfinite(least)
    return _gathered(held, at[mine], np.flatnonzero(mine))


def _draw(held: Held, key: jax.Array, rate: np.ndarray, distances: np.ndarray) -> Drawn:
    """Rows with a probability of `rate` [nodes] times their squared distance."""
    found, nodes = [], []
    for part in stretches(held, np.flatnonzero(rate)):
        drawn = _uniform(held, key, part.start, part.stop)
        own = np.flatnonzero(drawn < rate[part.node] * distances[part.start : part.stop])
        found.append(part.start + own)
        nodes.append(np.full(len(own), part.node))
    if not found:
        return _gathered(held, np.zeros(0, np.int64), np.zeros(0, np.int64))
    return _gathered(held, np.concatenate(found), np.concatenate(nodes))


def _gathered(held: Held, at: np.ndarray, nodes: np.ndarray) -> Drawn:
    """Rows at places of the file, and those of the other processes, by node and origin."""
    rows = np.zeros((len(at), held.width), np.float32)
    marks = np.zeros((len(at), 3), np.int32)
    for i, place in enumerate(at.tolist()):
        rows[i] = held.file.read(place, place + 1)
        shard, row = origins(held, place, place + 1)
        marks[i] = nodes[i], shard[0], row[0]
    marks, rows = exchange.rows_of_all(marks), exchange.rows_of_all(rows)
    order = np.lexsort((marks[:, 2], marks[:, 1], marks[:, 0]))
    return Drawn(marks[order, 0], rows[order])


def _approach(
    held: Held,
    new: Drawn,
    before: np.ndarray,
    nearest: row_blocks.Nearest,
    radius: float,
) -> None:
    """Let each row know its nearest drawn row, in place; `before` [nodes] were known already."""
    ends = np.searchsorted(new.nodes, np.arange(held.nodes + 1))
    near = row_blocks.approacher()
    for part, rows in blocks(held, np.flatnonzero(np.diff(ends))):
        group = new.rows[ends[part.node] : ends[part.node + 1]]
        size = row_blocks.padded_centroids(len(group))
        own = slice(part.start, part.stop)
        known = row_blocks.stretch_of(nearest, own, len(rows))
        group = row_blocks.far_away(group, size, radius)
        found = near(rows, group, np.int32(before[part.node]), known)
        row_blocks.store(nearest, own, found)


def _chosen(
    held: Held, drawn: Drawn, owners: np.ndarray, wanted: np.ndarray, key: jax.Array
) -> np.ndarray:
    """Of each node's drawn rows as many as are wanted, each weighted by the rows nearest to it."""
    by_node = np.argsort(drawn.nodes, kind="stable")
    rows = drawn.rows[by_node]
    ends = np.searchsorted(drawn.nodes[by_node], np.arange(held.nodes + 1))
    weights = np.zeros(len(rows), np.int64)
    for node in range(held.nodes):
        own = owners[held.starts[node] : held.starts[node + 1]]
        count = int(ends[node + 1] - ends[node])
        weights[ends[node] : ends[node + 1]] = np.bincount(own, minlength=count)
    weights = exchange.summed(weights)
    found = np.zeros((int(wanted.sum()), held.width), np.float32)
    if jax.process_index() == 0:
        starts = np.concatenate([[0], np.cumsum(wanted)])
        for node in range(held.nodes):
            own = slice(ends[node], ends[node + 1])
            found[starts[node] : starts[node + 1]] = _reduced(
                rows[own], weights[own], int(wanted[node]), jax.random.fold_in(key, node)
            )
    return exchange.from_first(found)


def _reduced(rows: np.ndarray, weights: np.ndarray, k: int, key: jax.Array) -> np.ndarray:
    """k of a node's drawn rows; too few are repeated, as fewer different ones are there."""
    if len(rows) <= k:
        return rows[np.minimum(np.arange(k), len(rows) - 1)]
    size, most = row_blocks.padded_centroids(len(rows)), row_blocks.padded_centroids(k)
    short = size - len(rows)
    chosen = row_blocks.reducer()(
        key,
        np.pad(rows, ((0, short), (0, 0))),
        np.pad(weights, (0, short)).astype(np.float32),
        np.int32(k),
        most=most,
    )
    return rows[np.asarray(chosen)[:k]]
