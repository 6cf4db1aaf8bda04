"""One block of a large k-means: rows that are in memory, of many that are not.

Blocks and groups of centroids are padded to a few sizes, so that few programs are compiled. Padding
rows count for nothing, and padding centroids lie too far away to be anyone's nearest.
"""

import math
from functools import cache
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxclust.clustering.bounds import Bounds, reassign
from jaxclust.clustering.distances import squared_distances
from jaxclust.clustering.kmeans import MANY_CLUSTERS, assign, cluster_sums
from jaxclust.core import device

Tree = TypeVar("Tree")


class Moved(NamedTuple):
    """What a block contributes to an update of its centroids."""

    bounds: Bounds  # of its rows, [b]
    sums: Array  # float32 [c, d]
    counts: Array  # float32 [c]
    inertia: Array  # float32 []
    farthest: Array  # float32 []: the largest squared distance to an own centroid
    row: Array  # int32 []: whose it is


class Nearest(NamedTuple):
    """A block's rows and the candidates for seeds."""

    distances: Array  # float32 [b]: squared, to the nearest
    owners: Array  # int32 [b]: its number


def padded_rows(count: int, most: int) -> int:
    """The size of block that holds `count` rows: `most` halved as often as it can be, from 256."""
    size = most
    while size // 2 >= max(count, 256):
        size //= 2
    return size


def padded_centroids(count: int) -> int:
    """The size of group that holds `count` centroids: up to 16, then at most a quarter more."""
    if count <= 16:
        return 16
    step = 2 ** (count.bit_length() - 3)
    return -(-count // step) * step


def far_away(group: np.ndarray, size: int, radius: float) -> np.ndarray:
    """Centroids float32 [c, d] filled up to `size` with points that no row is nearest to.

    Args:
        group: centroids, none longer than `radius`.
        size: of the result.
        radius: the length of the longest row.
    """
    filled = np.zeros((size, group.shape[1]), np.float32)
    filled[: len(group)] = group
    filled[len(group) :, 0] = 4 * radius + 1
    return filled


def unknown(count: int) -> Bounds:
    """Bounds that say nothing yet, as NumPy arrays."""
    arrays: Any = np.zeros(count, np.int32), np.full(count, -1, np.float32)
    return Bounds(*arrays)


def far(count: int) -> Nearest:
    """What rows know before there is any candidate, as NumPy arrays."""
    arrays: Any = np.full(count, np.inf, np.float32), np.zeros(count, np.int32)
    return Nearest(*arrays)


def stretch_of(arrays: Tree, rows: slice, size: int) -> Tree:
    """Some rows of each array of a tuple [n], filled up to `size` with zeros."""
    short = size - (rows.stop - rows.start)
    return jax.tree.map(lambda whole: np.pad(whole[rows], (0, short)), arrays)


def store(arrays: Any, rows: slice, found: Any) -> None:
    """Write the first rows of a block's results back to where :func:`stretch_of` took them."""
    for whole, new in zip(arrays, found, strict=True):
        whole[rows] = np.asarray(new)[: rows.stop - rows.start]


@cache
def mover() -> Any:
    """The compiled form of :func:`move`."""
    return device.jit(move)


def move(
    x: Array, count: Array, centroids: Array, bounds: Bounds, shifts: Array, slack: Array
) -> Moved:
    """Assign a block's rows and add them up by centroid: one block of one of Lloyd's iterations.

    Args:
        x: rows, float32 [b, d].
        count: int32 []: rows after so many are padding.
        centroids: float32 [c, d].
        bounds: of the rows, before the centroids moved.
        shifts: float32 [c]: how far each has moved since.
        slack: :func:`bounds.rounding_slack` over all rows.
    """
    if centroids.shape[0] < MANY_CLUSTERS:
        assignments, distances = assign(x, centroids)
        bounds = Bounds(assignments, bounds.lower)
    else:
        bounds, distances = reassign(x, centroids, bounds, shifts, slack)
    real = jnp.arange(x.shape[0]) < count
    distances = jnp.where(real, distances, 0)
    sums, counts = cluster_sums(x, bounds.assignments, centroids.shape[0], real)
    row = jnp.argmax(distances)
    return Moved(bounds, sums, counts, jnp.sum(distances), distances[row], row)


@cache
def assigner() -> Any:
    """The compiled form of :func:`kmeans.assign`."""
    return device.jit(assign)


@cache
def approacher() -> Any:
    """The compiled form of :func:`approach`."""
    return device.jit(approach)


def approach(x: Array, candidates: Array, first: Array, nearest: Nearest) -> Nearest:
    """Each row's nearest candidate, once more of them are there.

    Args:
        x: rows, float32 [b, d].
        candidates: the new ones, float32 [c, d].
        first: int32 []: the number of the first of them.
        nearest: among those before.
    """
    owners, distances = assign(x, candidates)
    nearer = distances < nearest.distances
    return Nearest(
        jnp.where(nearer, distances, nearest.distances),
        jnp.where(nearer, first + owners, nearest.owners),
    )


@cache
def drawer() -> Any:
    """The compiled form of :func:`draws`."""
    return device.jit(draws)


def draws(key: Array, shards: Array, rows: Array) -> Array:
    """A uniform number in [0, 1) for each row, keyed by its shard and its place in it.

    So they do not depend on which process holds the row. int32 [b], int32 [b] -> float32 [b].
    """

    def one(shard: Array, row: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, shard), row))

    return jax.vmap(one)(shards, rows)


@cache
def reducer() -> Any:
    """The compiled form of :func:`reduced`."""
    return device.jit(reduced, static_argnames="most")


def reduced(key: Array, candidates: Array, weights: Array, k: Array, most: int) -> Array:
    """k of many weighted candidates by D^2 sampling -> int32 [most], of which the first k count.

    Greedy k-means++ (Arthur & Vassilvitskii 2007) on weighted points, the last step of k-means||
    (Bahmani et al. 2012, Alg. 2, step 8). Where all candidates are chosen, any is taken again.

    Args:
        key: random key.
        candidates: float32 [c, d].
        weights: float32 [c]: how many rows each stands for; 0: padding.
        k: int32 []: how many are wanted, at most `most`.
        most: the length of the result.
    """
    tiny, tries = jnp.finfo(candidates.dtype).tiny, 2 + int(math.log(most))
    heavy = jnp.log(weights)
    first = jax.random.categorical(jax.random.fold_in(key, 0), heavy).astype(jnp.int32)

    def draw(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        chosen, nearest = carry
        chances = heavy + jnp.log(nearest + tiny)
        drawn = jax.random.categorical(jax.random.fold_in(key, i), chances[None], shape=(tries,))
        distances = squared_distances(candidates, candidates[drawn])
        distances = jnp.minimum(nearest[:, None], distances)
        best = jnp.argmin(weights @ distances)
        return chosen.at[i].set(drawn[best].astype(jnp.int32)), distances[:, best]

    nearest = squared_distances(candidates, candidates[first][None])[:, 0]
    chosen = jnp.zeros(most, jnp.int32).at[0].set(first)
    return jax.lax.fori_loop(1, k, draw, (chosen, nearest))[0]
