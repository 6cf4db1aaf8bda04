"""Nearest neighbours of all samples, block by block: no n x n array is ever held."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxclust.clustering.distances import relative_distances

# Samples whose neighbours are looked for together.
_BLOCK = 256


class Neighbours(NamedTuple):
    """The most alike other samples of each, the nearest first."""

    rows: Array  # int32 [n, count]
    distances: Array  # cosine distances, of x's dtype [n, count], in [0, 2]


def nearest(x: Array, count: int) -> Neighbours:
    """The samples most alike to each by cosine similarity; none is its own neighbour.

    Args:
        x: float [n, d].
        count: fewer than n.
    """
    n = x.shape[0]
    unit = x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    starts = jnp.arange(0, n, _BLOCK)

    def block(start: Array) -> Neighbours:
        rows = jnp.minimum(start + jnp.arange(_BLOCK), n - 1)
        alike = jnp.dot(unit[rows], unit.T, precision=jax.lax.Precision.HIGHEST)
        alike = alike.at[jnp.arange(_BLOCK), rows].set(-jnp.inf)
        most, where = jax.lax.top_k(alike, count)
        return Neighbours(where.astype(jnp.int32), jnp.clip(1 - most, 0, 2))

    return Neighbours(*(v.reshape(-1, count)[:n] for v in jax.lax.map(block, starts)))


def nearest_among(x: Array, others: Array, count: int) -> Array:
    """Of each x[n, d] its nearest of others[m, d] by Euclidean distance: int32 [n, count]."""
    n = x.shape[0]
    starts = jnp.arange(0, n, _BLOCK)

    def block(start: Array) -> Array:
        rows = jnp.minimum(start + jnp.arange(_BLOCK), n - 1)
        return jax.lax.top_k(-relative_distances(x[rows], others), count)[1].astype(jnp.int32)

    return jax.lax.map(block, starts).reshape(-1, count)[:n]
