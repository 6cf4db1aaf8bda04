"""k-means: seeding, assignment, mini-batch update, Lloyd's iterations."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

Seeding = Literal["kmeans++", "uniform"]


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


def squared_distances(x: Array, centroids: Array) -> Array:
    """Squared Euclidean distances, x[n, d] to centroids[k, d] -> [n, k], none negative."""
    cross = jnp.dot(x, centroids.T, precision=jax.lax.Precision.HIGHEST)
    norms = jnp.sum(jnp.square(x), axis=1, keepdims=True)
    distances = norms - 2 * cross + jnp.sum(jnp.square(centroids), axis=1)[None]
    return jnp.maximum(distances, 0)


def assign(x: Array, centroids: Array) -> tuple[Array, Array]:
    """Nearest centroid of each row of x[n, d].

    Returns:
        (assignments int32 [n], squared distances to them float [n]). Of equally
        near centroids the first wins.
    """
    distances = squared_distances(x, centroids)
    return jnp.argmin(distances, axis=1).astype(jnp.int32), jnp.min(distances, axis=1)


def cluster_sums(
    x: Array, assignments: Array, k: int, weights: Array | None = None
) -> tuple[Array, Array]:
    """Per-cluster sum of rows and number of rows, weighted: (float [k, d], float [k])."""
    member = jax.nn.one_hot(assignments, k, dtype=x.dtype)
    if weights is not None:
        member *= weights[:, None].astype(x.dtype)
    sums = jnp.dot(member.T, x, precision=jax.lax.Precision.HIGHEST)
    return sums, jnp.sum(member, axis=0)


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
        max_count: counts are held at this, so that centroids keep following
            features that move. None is the papers' rule.

    Returns:
        The state after the batch; centroids without samples are unchanged.
    """
    sums, added = cluster_sums(x, assignments, state.centroids.shape[0], weights)
    counts = state.counts + added
    weighted = state.counts[:, None] * state.centroids + sums
    moved = weighted / jnp.maximum(counts, 1e-12)[:, None]
    centroids = jnp.where(added[:, None] > 0, moved, state.centroids)
    if max_count is not None:
        counts = jnp.minimum(counts, max_count)
    return KMeansState(centroids, counts)


def seed_uniform(key: Array, x: Array, k: int) -> Array:
    """k different rows of x[n, d], drawn uniformly -> [k, d]."""
    return x[jax.random.choice(key, x.shape[0], (k,), replace=False)]


def seed_plus_plus(key: Array, x: Array, k: int) -> Array:
    """k rows of x[n, d] by D^2 sampling (Arthur & Vassilvitskii 2007) -> [k, d].

    Each next seed is drawn with probability proportional to its squared distance
    from the nearest seed so far; where all rows coincide with seeds, any is drawn.
    """
    first_key, key = jax.random.split(key)
    first = x[jax.random.randint(first_key, (), 0, x.shape[0])]
    seeds = jnp.zeros((k, x.shape[1]), x.dtype).at[0].set(first)
    nearest = squared_distances(x, first[None])[:, 0]

    def draw(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        seeds, nearest = carry
        # Plus a trace, so that all-zero distances still give a distribution.
        weights = nearest + jnp.finfo(x.dtype).tiny
        chosen = jax.random.categorical(jax.random.fold_in(key, i), jnp.log(weights))
        seed = x[chosen]
        distance = squared_distances(x, seed[None])[:, 0]
        return seeds.at[i].set(seed), jnp.minimum(nearest, distance)

    return jax.lax.fori_loop(1, k, draw, (seeds, nearest))[0]


def seed(key: Array, x: Array, k: int, seeding: Seeding) -> Array:
    """Initial centroids [k, d] by name: 'kmeans++' or 'uniform'."""
    return seed_plus_plus(key, x, k) if seeding == "kmeans++" else seed_uniform(key, x, k)


def lloyd_step(x: Array, centroids: Array) -> tuple[Array, Array]:
    """One of Lloyd's iterations: x[n, d], centroids[k, d] -> (new centroids, inertia).

    The inertia is that of the centroids given. An empty cluster's centroid moves
    to the sample farthest from its own centroid, the next empty one to the next.
    """
    assignments, distances = assign(x, centroids)
    k = centroids.shape[0]
    sums, counts = cluster_sums(x, assignments, k)
    means = sums / jnp.maximum(counts, 1)[:, None]
    empty = counts == 0
    _, farthest = jax.lax.top_k(distances, k)
    replacement = x[farthest[jnp.maximum(jnp.cumsum(empty) - 1, 0)]]
    return jnp.where(empty[:, None], replacement, means), jnp.sum(distances)


def lloyd(x: Array, centroids: Array, max_iterations: int = 300, tol: float = 1e-4) -> Array:
    """Lloyd's iterations from given centroids [k, d] -> centroids [k, d].

    Ends after `max_iterations` or once the centroids' summed squared shift is at
    most `tol` times the mean variance of x's columns (scikit-learn's rule).
    """
    limit = tol * jnp.mean(jnp.var(x, axis=0))

    def moving(carry: tuple[Array, Array, Array]) -> Array:
        iteration, _, shift = carry
        return (iteration < max_iterations) & (shift > limit)

    def body(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        iteration, centroids, _ = carry
        moved, _ = lloyd_step(x, centroids)
        return iteration + 1, moved, jnp.sum(jnp.square(moved - centroids))

    start = (jnp.zeros((), jnp.int32), centroids, jnp.full((), jnp.inf, x.dtype))
    return jax.lax.while_loop(moving, body, start)[1]


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
        x: samples, float [n, d], n >= k.
        k: number of clusters, static.
        seeding: 'kmeans++' or 'uniform'.
        restarts: independent seedings tried.
        max_iterations: bound on Lloyd's iterations of each.
        tol: see :func:`lloyd`.
    """

    def once(key: Array) -> KMeansFit:
        centroids = lloyd(x, seed(key, x, k, seeding), max_iterations, tol)
        assignments, distances = assign(x, centroids)
        _, sizes = cluster_sums(x, assignments, k)
        return KMeansFit(centroids, assignments, sizes, jnp.sum(distances))

    def better(best: KMeansFit, key: Array) -> tuple[KMeansFit, None]:
        new = once(key)
        wins = new.inertia < best.inertia
        return jax.tree.map(lambda a, b: jnp.where(wins, a, b), new, best), None

    keys = jax.random.split(key, restarts)
    return jax.lax.scan(better, once(keys[0]), keys[1:])[0]
