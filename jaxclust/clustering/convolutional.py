"""Convolutional k-means: filters learned from windows larger than the filters.

Dundar, Jin & Culurciello 2016, "Convolutional Clustering for Unsupervised Learning". A window gives
its best patch to the filter that responds to it most strongly, wherever it lies, so that no two
filters are shifted copies of each other.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

_EXACT = lax.Precision.HIGHEST
_CHUNK = 500  # windows whose patches are in memory at once


class Whitening(NamedTuple):
    """A linear map after which patches have no correlations."""

    mean: Array  # float [d]
    matrix: Array  # float [d, d], symmetric


def patches(maps: Array, side: int) -> Array:
    """All square patches of maps [n, h, w, c] -> [n, places, side * side * c]."""
    height, width = (length - side + 1 for length in maps.shape[1:3])
    shifted = [maps[:, i : i + height, j : j + width] for i in range(side) for j in range(side)]
    return jnp.stack(shifted, axis=3).reshape(len(maps), height * width, -1)


def whitening(windows: Array, side: int, share: float = 0.1) -> Whitening:
    """ZCA of the patches of windows [m, h, w, c].

    Args:
        windows: float.
        side: of a patch.
        share: fraction of the mean variance, added to every variance.
    """

    def moments(part: Array) -> tuple[Array, Array]:
        x = patches(part[None], side)[0]
        return jnp.mean(x, axis=0), jnp.dot(x.T, x, precision=_EXACT) / len(x)

    mean, second = (jnp.mean(each, axis=0) for each in lax.map(moments, windows, batch_size=_CHUNK))
    covariance = second - jnp.outer(mean, mean)
    values, vectors = jnp.linalg.eigh(covariance)
    scale = lax.rsqrt(jnp.maximum(values, 0) + share * jnp.maximum(jnp.mean(values), 1e-12))
    return Whitening(mean, jnp.dot(vectors * scale[None], vectors.T, precision=_EXACT))


def best_patches(patched: Array, filters: Array) -> tuple[Array, Array, Array]:
    """The strongest response in each window.

    Args:
        patched: windows' patches, float [m, places, d].
        filters: unit rows, float [k, d].

    Returns:
        (filter int32 [m], response float [m], patch float [m, d]).
    """
    answers = jnp.einsum("mpd,kd->mpk", patched, filters, precision=_EXACT)
    flat = answers.reshape(len(answers), -1)
    best = jnp.argmax(flat, axis=1)
    place, which = jnp.divmod(best, len(filters))
    strength = jnp.take_along_axis(flat, best[:, None], axis=1)[:, 0]
    found = jnp.take_along_axis(patched, place[:, None, None], axis=1)[:, 0]
    return which.astype(jnp.int32), strength, found


def _unit(rows: Array) -> Array:
    lengths = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return rows / jnp.maximum(lengths, jnp.finfo(rows.dtype).tiny)


def whitened(windows: Array, side: int, white: Whitening) -> Array:
    """The patches of windows [m, h, w, c] without correlations -> [m, places, d]."""
    centred = patches(windows, side) - white.mean[None, None]
    return jnp.dot(centred, white.matrix, precision=_EXACT)


def _longest(patched: Array) -> Array:
    """The direction of each window's longest patch: [m, places, d] -> [m, d]."""
    which = jnp.argmax(jnp.sum(jnp.square(patched), axis=2), axis=1)
    return _unit(jnp.take_along_axis(patched, which[:, None, None], axis=1)[:, 0])


def learned(
    key: Array, windows: Array, side: int, count: int, white: Whitening, rounds: int = 10
) -> Array:
    """Filters by convolutional k-means -> unit rows, float [count, side * side * c].

    Each round adds to every filter the patches given to it, weighted by its responses, and takes
    the sum's direction (Coates & Ng 2012's update). A filter starts as the longest patch of a
    window drawn at random; one that is given no patch starts again from another.

    Args:
        key: random key.
        windows: float [m, h, w, c], h and w at least `side`.
        side: of a filter.
        count: number of filters.
        white: of the windows' patches, which are compared after it.
        rounds: number of rounds over all windows.
    """
    size = min(_CHUNK, len(windows))
    chunks = windows[: len(windows) // size * size].reshape(-1, size, *windows.shape[1:])

    def begun(at: Array) -> Array:
        # Where there are more filters than windows, some begin alike.
        order = jax.random.permutation(jax.random.fold_in(key, at), len(windows))
        drawn = windows[order[jnp.arange(count) % len(windows)]]
        return _longest(whitened(drawn, side, white))

    def one_round(filters: Array, at: Array) -> tuple[Array, None]:
        def add(sums: Array, chunk: Array) -> tuple[Array, None]:
            which, strength, found = best_patches(whitened(chunk, side, white), filters)
            return sums + jax.ops.segment_sum(strength[:, None] * found, which, count), None

        sums, _ = lax.scan(add, jnp.zeros_like(filters), chunks)
        given = jnp.any(sums, axis=1, keepdims=True)
        return jnp.where(given, _unit(filters + sums), begun(at)), None

    numbers = jnp.arange(rounds + 1, dtype=jnp.int32)
    return lax.scan(one_round, begun(numbers[0]), numbers[1:])[0]


def kernel(filters: Array, white: Whitening, side: int) -> tuple[Array, Array]:
    """Filters of whitened patches, as filters of plain ones.

    Args:
        filters: float [k, side * side * c].
        white: the whitening they were learned with.
        side: of a filter.

    Returns:
        (kernel float [side, side, c, k], bias float [k]) of a convolution.
    """
    plain = jnp.dot(white.matrix, filters.T, precision=_EXACT)
    bias = -jnp.dot(white.mean, plain, precision=_EXACT)
    return plain.reshape(side, side, -1, len(filters)), bias


def connections(key: Array, answers: Array, groups: int, size: int) -> Array:
    """Which maps a group of filters sees -> int32 [groups, size].

    The published matrix is learned from labels, which nothing here may see. Instead, every group
    has a map drawn at random and those whose squares correlate with its own most closely (Coates &
    Ng 2011).

    Args:
        key: random key.
        answers: responses of maps, at any places, float [m, maps].
        groups: number of groups.
        size: maps of each.
    """
    energy = jnp.square(answers)
    energy = energy - jnp.mean(energy, axis=0, keepdims=True)
    energy = _unit(energy.T)
    alike = jnp.dot(energy, energy.T, precision=_EXACT)
    maps = alike.shape[0]
    # Where there are more groups than maps, some maps begin several.
    order = jax.random.permutation(key, jnp.arange(groups, dtype=jnp.int32) % maps)
    # A map is its own nearest, even one that never responds.
    alike = jnp.where(jnp.eye(maps, dtype=bool), jnp.inf, alike)
    return lax.top_k(alike[order], size)[1].astype(jnp.int32)
