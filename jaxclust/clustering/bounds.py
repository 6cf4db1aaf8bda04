"""Bounds on distances, which save Lloyd's iterations most of the comparisons."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxclust.clustering.blocks import block_rows, by_blocks
from jaxclust.clustering.distances import absolute_distances, relative_distances, two_nearest

# One centroid in this many is compared with every row.
_MOVERS = 8


class Bounds(NamedTuple):
    """What saves Lloyd's iterations most distances."""

    assignments: Array  # int32 [n]
    lower: Array  # float [n]: at most the distance to every other centroid


def rounding_slack(x: Array) -> Array:
    """Bound float [] on the rounding of `|x|^2 - 2xc + |c|^2` over the rows of x[n, d].

    Bounds are loosened by this much, and so err on the side of looking again.
    """
    return slack_of(jnp.max(jnp.sum(jnp.square(x), axis=1)), x.dtype)


def slack_of(longest: Any, dtype: Any) -> Array:
    """:func:`rounding_slack` from the largest squared length of a row."""
    return 16 * jnp.finfo(dtype).eps * longest


def screen_rows(
    x: Array, centroids: Array, bounds: Bounds, movers: Array, other_shift: Array, slack: Array
) -> tuple[Bounds, Array, Array]:
    """Bounds and own squared distances of rows [b, d], and which rows they leave open.

    Only the movers, int [j], are compared with; the other centroids cannot have come
    nearer than the lower bound less the largest shift among them.
    """
    own = jnp.sum(jnp.square(x - centroids[bounds.assignments]), axis=1)
    norms = jnp.sum(jnp.square(x), axis=1)
    distances = norms[:, None] + 2 * relative_distances(x, centroids[movers])
    distances = jnp.where(movers[None] == bounds.assignments[:, None], jnp.inf, distances)
    column, least, second = two_nearest(distances)
    unseen = bounds.lower - other_shift
    now = jnp.minimum(own, least)
    # Near ties are left to the full comparison, so that both give one answer.
    is_open = (jnp.sqrt(now + slack) >= unseen) | (jnp.abs(own - least) <= 2 * slack)
    assignments = jnp.where(least < own, movers[column], bounds.assignments)
    other = jnp.minimum(jnp.maximum(own, least), second)
    lower = jnp.minimum(unseen, jnp.sqrt(jnp.maximum(other - slack, 0)))
    return Bounds(assignments, lower), now, is_open


def farthest_moved(shifts: Array) -> tuple[Array, Array]:
    """The centroids that moved farthest, int [k // _MOVERS], and the next largest shift."""
    count = max(1, shifts.shape[0] // _MOVERS)
    largest, order = lax.top_k(shifts, count + 1)
    return order[:count], largest[count]


def open_first(is_open: Array) -> tuple[Array, Array]:
    """Rows in an order with the open ones first, int32 [n], and how many these are, int []."""
    n, count = is_open.shape[0], jnp.sum(is_open)
    place = jnp.where(is_open, jnp.cumsum(is_open) - 1, count + jnp.cumsum(~is_open) - 1)
    order = jnp.zeros(n, jnp.int32).at[place].set(jnp.arange(n), unique_indices=True)
    return order, count


def compare_all(x: Array, centroids: Array, slack: Array) -> tuple[Bounds, Array]:
    """Rows [b, d] against every centroid: their bounds and least squared distances [b]."""
    first, *relative = two_nearest(relative_distances(x, centroids))
    least, second = absolute_distances(jnp.stack(relative, axis=1), x).T
    return Bounds(first, jnp.sqrt(jnp.maximum(second - slack, 0))), least


def reassign(
    x: Array, centroids: Array, bounds: Bounds, shifts: Array, slack: Array
) -> tuple[Bounds, Array]:
    """Assignment that saves most rows the comparison with all centroids.

    Bounds in the manner of Hamerly 2010, with the farthest-moved eighth of the
    centroids compared with directly: late in a run most centroids stand still and few
    move far, and one bound for all would be spoilt by those.

    Args:
        x: samples, float [n, d].
        centroids: [k, d], after moving.
        bounds: of the centroids before moving; lower bounds of -1 say nothing.
        shifts: how far each centroid has moved, float [k].
        slack: :func:`rounding_slack` of x, the same in every iteration.

    Returns:
        (bounds with the assignments that :func:`jaxclust.clustering.kmeans.assign` gives,
        squared distances to them float [n]).
    """
    n, k = x.shape[0], centroids.shape[0]
    rows = block_rows(n, k)
    movers, other_shift = farthest_moved(shifts)

    def screen(x: Array, bounds: Bounds) -> tuple[Bounds, Array, Array]:
        return screen_rows(x, centroids, bounds, movers, other_shift, slack)

    screened, own, is_open = by_blocks(screen, rows, x, bounds)
    order, count = open_first(is_open)

    def compare(i: Array, out: tuple[Bounds, Array]) -> tuple[Bounds, Array]:
        chosen = lax.dynamic_slice_in_dim(order, jnp.minimum(i * rows, n - rows), rows)
        new = compare_all(x[chosen], centroids, slack)
        return jax.tree.map(
            lambda whole, piece: whole.at[chosen].set(piece, unique_indices=True), out, new
        )

    return lax.fori_loop(0, -(-count // rows), compare, (screened, own))
