"""k-means: seeding, assignment, mini-batch update, Lloyd's iterations.

Distances are computed one block of rows at a time, so that [n, k] never has to fit in memory.
"""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxclust.clustering.blocks import block_rows, by_blocks
from jaxclust.clustering.bounds import Bounds, reassign, rounding_slack
from jaxclust.clustering.distances import (
    absolute_distances,
    nearest_column,
    relative_distances,
    squared_distances,
)

Seeding = Literal["kmeans++", "greedy", "uniform"]
# From this many clusters on, keeping bounds costs less than the distances it saves.
MANY_CLUSTERS = 32


class KMeansState(NamedTuple):
    """Centroids and how many samples each has absorbed."""

    centroids: Array  # float [k, d]
    counts: Array  # float [k]


class KMeansFit(NamedTuple):
    """Result of a full k-means."""

    centroids: Array  # float [k, d]
    assignments: Array  # int32 [n]
    sizes: Array  # float [k]: samples in each cluster
    inertia: Array  # float []: sum of squared distances to the nearest centroid


def assign(x: Array, centroids: Array) -> tuple[Array, Array]:
    """Nearest centroid of each row of x[n, d].

    Returns:
        (assignments int32 [n], squared distances to them float [n]). Ties go to the first centroid.
    """

    def all_at_once(x: Array) -> tuple[Array, Array]:
        first, least = nearest_column(relative_distances(x, centroids))
        return first, absolute_distances(least[:, None], x)[:, 0]

    return by_blocks(all_at_once, block_rows(x.shape[0], centroids.shape[0]), x)


def _precise(x: Array) -> Array:
    """x as float32, or wider if it already is."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def cluster_sums(
    x: Array, assignments: Array, k: int, weights: Array | None = None
) -> tuple[Array, Array]:
    """Per-cluster sum of rows and number of rows, weighted: (float [k, d], float [k]).

    In single precision at least: bfloat16 counts no further than 256.
    """
    x = _precise(x)
    ones = jnp.ones(x.shape[0], x.dtype)
    if weights is not None:
        ones = weights.astype(x.dtype)
        x = x * ones[:, None]
    return jax.ops.segment_sum(x, assignments, k), jax.ops.segment_sum(ones, assignments, k)


def update(
    state: KMeansState,
    x: Array,
    assignments: Array,
    weights: Array | None = None,
    max_count: float | None = None,
) -> KMeansState:
    """Move each centroid towards its new samples, learning rate 1 / count.

    Sculley 2010; Hsu & Lin 2017, Eqs. 11-12. Taking the samples one by one,
    c <- (1 - 1/count) c + h/count, telescopes to
    c <- (count c + sum h) / (count + n), which is what is computed.

    Args:
        state: centroids and counts before the batch.
        x: samples, float [b, d].
        assignments: int [b].
        weights: float [b], how often each sample counts; default once.
        max_count: counts are capped at this, so that centroids keep following features that move.
            None is the papers' rule.

    Returns:
        The state after the batch; centroids without samples are unchanged.
    """
    sums, added = cluster_sums(x, assignments, state.centroids.shape[0], weights)
    counts = state.counts + added
    weighted = state.counts[:, None] * state.centroids + sums
    moved = weighted / jnp.maximum(counts, 1e-12)[:, None]
    moved = moved.astype(state.centroids.dtype)
    centroids = jnp.where(added[:, None] > 0, moved, state.centroids)
    if max_count is not None:
        counts = jnp.minimum(counts, max_count)
    return KMeansState(centroids, counts.astype(state.counts.dtype))


def seed_uniform(key: Array, x: Array, k: int) -> Array:
    """k different rows of x[n, d], drawn uniformly -> [k, d]."""
    return x[jax.random.choice(key, x.shape[0], (k,), replace=False)]


def seed_plus_plus(key: Array, x: Array, k: int, candidates: int = 1) -> Array:
    """k rows of x[n, d] by D^2 sampling (Arthur & Vassilvitskii 2007) -> [k, d].

    Each next seed is drawn with probability proportional to its squared distance
    from the nearest seed so far; where all rows coincide with seeds, any is drawn.

    Args:
        key: random key.
        x: samples, float [n, d].
        k: number of seeds.
        candidates: rows drawn for each seed; the one that lowers the summed distances most is
            taken.
    """
    first_key, key = jax.random.split(key)
    first = x[jax.random.randint(first_key, (), 0, x.shape[0])]
    seeds = jnp.zeros((k, x.shape[1]), x.dtype).at[0].set(first)
    nearest = squared_distances(x, first[None])[:, 0]

    def draw(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        seeds, nearest = carry
        # Plus a trace, so that all-zero distances still give a distribution.
        weights = jnp.log(nearest + jnp.finfo(x.dtype).tiny)
        drawn = jax.random.categorical(
            jax.random.fold_in(key, i), weights[None], shape=(candidates,)
        )
        distances = jnp.minimum(nearest[:, None], squared_distances(x, x[drawn]))
        best = jnp.argmin(jnp.sum(distances, axis=0))
        return seeds.at[i].set(x[drawn[best]]), distances[:, best]

    return lax.fori_loop(1, k, draw, (seeds, nearest))[0]


def seeding_sample(k: int) -> int:
    """Number of samples that is enough to seed k centroids which training then moves."""
    return max(100_000, 100 * k)


def seed(key: Array, x: Array, k: int, seeding: Seeding) -> Array:
    """Initial centroids [k, d] by name.

    'kmeans++', 'greedy' (k-means++ with the best of 2 + log k candidates, as in scikit-learn) or
    'uniform'.
    """
    if seeding == "uniform":
        return seed_uniform(key, x, k)
    return seed_plus_plus(key, x, k, 2 + int(math.log(k)) if seeding == "greedy" else 1)


def means(x: Array, assignments: Array, distances: Array, k: int) -> Array:
    """Mean of each cluster's rows -> [k, d].

    An empty cluster's centroid moves to the sample farthest from its own centroid,
    by `distances` [n], the next empty one to the next.
    """
    sums, counts = cluster_sums(x, assignments, k)
    empty = counts == 0
    _, farthest = lax.top_k(distances, k)
    replacement = x[farthest[jnp.maximum(jnp.cumsum(empty) - 1, 0)]]
    found = sums / jnp.maximum(counts, 1)[:, None]
    if jnp.issubdtype(x.dtype, jnp.floating):
        found = found.astype(x.dtype)
    return jnp.where(empty[:, None], replacement, found)


def lloyd_step(x: Array, centroids: Array) -> tuple[Array, Array]:
    """One of Lloyd's iterations: x[n, d], centroids[k, d] -> (new centroids, inertia).

    The inertia is that of the centroids given; see :func:`means` for empty clusters.
    """
    assignments, distances = assign(x, centroids)
    return means(x, assignments, distances, centroids.shape[0]), jnp.sum(distances)


def lloyd(x: Array, centroids: Array, max_iterations: int = 300, tol: float = 1e-4) -> Array:
    """Lloyd's iterations from given centroids [k, d] -> centroids [k, d].

    Ends after `max_iterations` or once the centroids' summed squared shift is at
    most `tol` times the mean variance of x's columns (scikit-learn's rule). With many clusters,
    bounds skip the rows that cannot have changed; the assignments of every iteration are the same.
    """
    n, k = x.shape[0], centroids.shape[0]
    limit = tol * jnp.mean(jnp.var(x, axis=0))
    slack = rounding_slack(x)
    unknown = Bounds(jnp.zeros(n, jnp.int32), jnp.full(n, -1, x.dtype))

    def moving(carry: tuple[Array, Array, Array, Bounds]) -> Array:
        iteration, _, shifts, _ = carry
        return (iteration < max_iterations) & (jnp.sum(jnp.square(shifts)) > limit)

    def body(
        carry: tuple[Array, Array, Array, Bounds],
    ) -> tuple[Array, Array, Array, Bounds]:
        iteration, centroids, shifts, bounds = carry
        if k < MANY_CLUSTERS:
            moved, _ = lloyd_step(x, centroids)
        else:
            bounds, distances = reassign(x, centroids, bounds, shifts, slack)
            moved = means(x, bounds.assignments, distances, k)
        shifts = jnp.sqrt(jnp.sum(jnp.square(moved - centroids), axis=1))
        return iteration + 1, moved, shifts, bounds

    start = (jnp.zeros((), jnp.int32), centroids, jnp.full(k, jnp.inf, x.dtype), unknown)
    return lax.while_loop(moving, body, start)[1]


def fit(
    key: Array,
    x: Array,
    k: int,
    *,
    seeding: Seeding = "kmeans++",
    restarts: int = 10,
    max_iterations: int = 300,
    tol: float = 1e-4,
) -> KMeansFit:
    """Full-set k-means: the lowest inertia of `restarts` seedings.

    Args:
        key: random key.
        x: samples [n, d], n >= k; clustered in single precision at least. Rounding loses their
            distances if their mean lies thousands of deviations from zero: subtract it first.
        k: number of clusters, static.
        seeding: see :func:`seed`.
        restarts: independent seedings tried.
        max_iterations: bound on Lloyd's iterations of each.
        tol: see :func:`lloyd`.
    """
    x = _precise(x)

    def once(key: Array) -> KMeansFit:
        centroids = lloyd(x, seed(key, x, k, seeding), max_iterations, tol)
        assignments, distances = assign(x, centroids)
        _, sizes = cluster_sums(x, assignments, k)
        return KMeansFit(centroids, assignments, sizes, jnp.sum(distances))

    def better(best: KMeansFit, key: Array) -> tuple[KMeansFit, None]:
        new = once(key)
        # Values that are not numbers are not hidden.
        wins = ~(new.inertia >= best.inertia)
        return jax.tree.map(lambda a, b: jnp.where(wins, a, b), new, best), None

    # Begins with none, so that the program holds one fit, not two, to compile.
    none = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(once, key))
    none = none._replace(inertia=jnp.full_like(none.inertia, jnp.inf))
    return lax.scan(better, none, jax.random.split(key, restarts))[0]
