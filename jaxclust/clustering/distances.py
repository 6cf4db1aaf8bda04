"""Squared distances between rows and centroids, and the nearest of them."""

import jax.numpy as jnp
from jax import Array, lax


def relative_distances(x: Array, centroids: Array) -> Array:
    """Half the squared distances minus half the rows' squared norms -> [n, k].

    They order a row's centroids as the distances do, with one pass fewer.
    """
    cross = jnp.dot(x, centroids.T, precision=lax.Precision.HIGHEST)
    return 0.5 * jnp.sum(jnp.square(centroids), axis=1)[None] - cross


def absolute_distances(relative: Array, x: Array) -> Array:
    """Squared distances from relative ones of each row of x[n, d]: [n, j] -> [n, j]."""
    return jnp.maximum(jnp.sum(jnp.square(x), axis=1, keepdims=True) + 2 * relative, 0)


def squared_distances(x: Array, centroids: Array) -> Array:
    """Squared Euclidean distances, x[n, d] to centroids[k, d] -> [n, k], none negative."""
    return absolute_distances(relative_distances(x, centroids), x)


def nearest_column(distances: Array) -> tuple[Array, Array]:
    """Column of the smallest value in each row of distances[n, k], and that value.

    Ties go to the first. Two reductions that vectorise; `argmin` on CPU does not.
    """
    k = distances.shape[1]
    least = jnp.min(distances, axis=1)
    columns = lax.broadcasted_iota(jnp.int32, distances.shape, 1)
    first = jnp.min(jnp.where(distances <= least[:, None], columns, k - 1), axis=1)
    return first, least


def two_nearest(distances: Array) -> tuple[Array, Array, Array]:
    """:func:`nearest_column`, and the second smallest value of each row."""
    first, least = nearest_column(distances)
    columns = lax.broadcasted_iota(jnp.int32, distances.shape, 1)
    second = jnp.min(jnp.where(columns == first[:, None], jnp.inf, distances), axis=1)
    return first, least, second
