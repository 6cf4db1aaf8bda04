"""Nearest neighbours of all samples, block by block: no n x n array is ever held."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxclust.clustering.distances import relative_distances

# Number of samples whose neighbours are searched for together.
_BLOCK = 256


class Neighbours(NamedTuple):
    """The other samples most similar to each, nearest first."""

    rows: Array  # int32 [n, count]
    distances: Array  # cosine distances, of x's dtype [n, count], in [0, 2]


def nearest(x: Array, count: int) -> Neighbours:
    """The samples most similar to each by cosine similarity; none is its own neighbour.

    Args:
        x: float [n, d].
        count: fewer than n.
    """
    unit = x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 1e-12)

    def of(rows: Array) -> Neighbours:
        alike = jnp.dot(unit[rows], unit.T, precision=jax.lax.Precision.HIGHEST)
        alike = alike.at[jnp.arange(_BLOCK), rows].set(-jnp.inf)
        most, where = jax.lax.top_k(alike, count)
        return Neighbours(where.astype(jnp.int32), jnp.clip(1 - most, 0, 2))

    return _by_blocks(of, x.shape[0])


def nearest_among(x: Array, others: Array, count: int) -> Array:
    """The nearest of others[m, d] to each x[n, d] by Euclidean distance: int32 [n, count]."""

    def of(rows: Array) -> Array:
        return jax.lax.top_k(-relative_distances(x[rows], others), count)[1].astype(jnp.int32)

    return _by_blocks(of, x.shape[0])


def nearest_others(x: Array, count: int) -> Array:
    """The nearest others to each x[n, d] by Euclidean distance: int32 [n, count], count < n."""

    def of(rows: Array) -> Array:
        distances = relative_distances(x[rows], x).at[jnp.arange(_BLOCK), rows].set(jnp.inf)
        return jax.lax.top_k(-distances, count)[1].astype(jnp.int32)

    return _by_blocks(of, x.shape[0])


def distance_to(x: Array, place: int) -> Array:
    """Euclidean distance of each x[n, d] to its `place`-th nearest other -> float [n].

    Args:
        x: float [n, d].
        place: 1 for the nearest; fewer than n.
    """
    found = nearest_others(x, place)[:, -1]
    # From the difference: a difference of squares rounds to zero where samples are near.
    return jnp.sqrt(jnp.sum(jnp.square(x - x[found]), axis=1))


def _by_blocks(of: Callable[[Array], Any], n: int) -> Any:
    """`of` applied to rows int32 [_BLOCK] at a time, for all n; arrays have n as first axis."""

    def block(start: Array) -> Any:
        return of(jnp.minimum(start + jnp.arange(_BLOCK), n - 1))

    found = jax.lax.map(block, jnp.arange(0, n, _BLOCK))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], found)
