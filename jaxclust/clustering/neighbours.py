"""Nearest neighbours of all samples, block by block: no n x n array is ever held."""

import jax
import jax.numpy as jnp
from jax import Array

# Samples whose neighbours are looked for together.
_BLOCK = 256


def nearest_neighbours(x: Array, count: int) -> Array:
    """The most alike other samples of each, by cosine similarity.

    Args:
        x: float [n, d].
        count: fewer than n.

    Returns:
        int32 [n, count], the nearest first; a sample is none of its own.
    """
    n = x.shape[0]
    unit = x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    starts = jnp.arange(0, n, _BLOCK)

    def block(start: Array) -> Array:
        rows = jnp.minimum(start + jnp.arange(_BLOCK), n - 1)
        alike = jnp.dot(unit[rows], unit.T, precision=jax.lax.Precision.HIGHEST)
        alike = alike.at[jnp.arange(_BLOCK), rows].set(-jnp.inf)
        return jax.lax.top_k(alike, count)[1].astype(jnp.int32)

    return jax.lax.map(block, starts).reshape(-1, count)[:n]
