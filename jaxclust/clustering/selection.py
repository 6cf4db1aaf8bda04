"""Which samples of a mini-batch are trusted, and the buffer that collects them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Samples(NamedTuple):
    """Images, the cluster given to each, and how sure that was."""

    images: Array  # float [m, h, w, c]
    features: Array  # float [m, d], those the assignment was made on
    assignments: Array  # int32 [m]
    distances: Array  # float [m]: squared, to the centroid assigned to


class Buffer(NamedTuple):
    """Trusted samples waiting for a fine-tuning step."""

    samples: Samples  # room for N_m
    size: Array  # int32 []: filled places, from the front


def empty_buffer(capacity: int, image_shape: tuple[int, ...], width: int) -> Buffer:
    """A buffer for `capacity` images of [h, w, c] with features of `width`."""
    samples = Samples(
        images=jnp.zeros((capacity, *image_shape), jnp.float32),
        features=jnp.zeros((capacity, width), jnp.float32),
        assignments=jnp.zeros((capacity,), jnp.int32),
        distances=jnp.zeros((capacity,), jnp.float32),
    )
    return Buffer(samples, jnp.zeros((), jnp.int32))


def nearest(distances: Array, m: int) -> Array:
    """Indices int32 [m] of the m smallest of distances[b], nearest first.

    Hsu & Lin 2017, Sec. III.E: the top-k_m samples. Ties go to the lower index.
    """
    return jnp.argsort(distances, stable=True)[:m].astype(jnp.int32)


def rank_in_cluster(assignments: Array, distances: Array) -> Array:
    """Rank int32 [b] of each sample within its cluster by distance; the nearest is 0."""
    order = jnp.lexsort((distances, assignments))
    ordered = assignments[order]
    place = jnp.arange(assignments.shape[0])
    starts = jnp.concatenate([jnp.ones((1,), bool), ordered[1:] != ordered[:-1]])
    first = jax.lax.cummax(jnp.where(starts, place, 0))
    return jnp.zeros_like(place).at[order].set(place - first).astype(jnp.int32)


def nearest_balanced(assignments: Array, distances: Array, m: int) -> Array:
    """Indices int32 [m], taken cluster by cluster in turn, nearest samples first.

    Every cluster gives its nearest sample, then every cluster its next, until m
    are chosen: small clusters give all they have, large ones only their core.
    """
    rank = rank_in_cluster(assignments, distances)
    return jnp.lexsort((distances, rank))[:m].astype(jnp.int32)


def push(buffer: Buffer, samples: Samples) -> Buffer:
    """Append samples; there must be room, as there always is if the capacity is a multiple of the
    number pushed and the buffer is emptied when full."""

    def insert(store: Array, new: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(store, new, buffer.size, axis=0)

    added = samples.assignments.shape[0]
    return Buffer(jax.tree.map(insert, buffer.samples, samples), buffer.size + added)
