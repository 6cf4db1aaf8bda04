"""Soft assignments and the targets made from them (Xie et al. 2016, DEC)."""

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array


def student_t_assignment(squared_distances: Array, freedom: float = 1.0) -> Array:
    """Student-t similarity to each centroid, normalised over centroids.

    van der Maaten & Hinton 2008; Xie, Girshick & Farhadi 2016, Eq. 1; Das, Ghosh &
    Bhowmick 2019, Eq. 2: (1 + d^2 / a)^(-(a + 1) / 2).

    Args:
        squared_distances: d^2 of n samples to k centroids, float [n, k].
        freedom: a, the degrees of freedom.

    Returns:
        q, float [n, k]; rows sum to one.

    >>> q = student_t_assignment(jnp.array([[0.0, 1.0]]))  # the nearer one, two to one
    >>> [round(float(share), 3) for share in q[0]]
    [0.667, 0.333]
    """
    chex.assert_rank(squared_distances, 2)
    chex.assert_type(squared_distances, float)
    # Through the logarithm, so that distances of 1e6 and beyond do not underflow.
    log_kernel = -(freedom + 1) / 2 * jnp.log1p(squared_distances / freedom)
    log_kernel -= jnp.max(log_kernel, axis=1, keepdims=True)
    kernel = jnp.exp(log_kernel)
    return kernel / jnp.sum(kernel, axis=1, keepdims=True)


def target_distribution(q: Array, power: float | Array = 2.0, balance: float = 1.0) -> Array:
    """Assignments sharpened, and weighted against large clusters.

    Xie et al. 2016, Eq. 3; Das et al. 2019, Eq. 3: q^2 over the soft size of the cluster,
    normalised over clusters; Dizaji et al. 2017, Eq. 6: q over the root of the size. The sizes are
    sums over all rows, so q should cover the whole data set.

    Args:
        q: float [n, k]; rows sum to one.
        power: of q, float or float []; above 1 it sharpens.
        balance: power of the size that it is divided by.

    Returns:
        p, float [n, k]; rows sum to one. A cluster without any share gets none.

    >>> target_distribution(jnp.array([[0.5, 0.5], [0.5, 0.5]])).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    chex.assert_rank(q, 2)
    chex.assert_type(q, float)
    sizes = jnp.sum(q, axis=0, keepdims=True)
    plain = isinstance(power, float | int) and power == 2
    sharp = jnp.square(q) if plain else q ** jnp.asarray(power, q.dtype)
    weighed = sharp / jnp.where(sizes > 0, sizes, 1) ** balance
    return weighed / jnp.sum(weighed, axis=1, keepdims=True)


def kl_divergence(p: Array, q: Array) -> Array:
    """KL(p || q) of each row, averaged over rows.

    Xie et al. 2016, Eq. 2; Das et al. 2019, Eq. 4, there summed over rows. A row's divergence
    is `optax.losses.kl_divergence`.

    Args:
        p: targets, held fixed, float [n, k]; rows sum to one.
        q: assignments, float [n, k]; rows sum to one.

    Returns:
        float [], zero at p = q and, apart from rounding, never negative. Entries of p that are
        zero add nothing; those of q count as at least the smallest normal number.

    >>> float(kl_divergence(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0]])))
    0.0
    """
    chex.assert_rank([p, q], 2)
    chex.assert_equal_shape([p, q])
    chex.assert_type([p, q], float)
    log_q = jnp.log(jnp.maximum(q, jnp.finfo(q.dtype).tiny))
    return jnp.mean(optax.losses.kl_divergence(log_q, jax.lax.stop_gradient(p)))
