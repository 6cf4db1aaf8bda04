"""TEMI's loss: mutual information of neighbours' clusters (Adaloglou et al. 2023)."""

import chex
import jax.numpy as jnp
from jax import Array


def neighbour_information(
    student: Array, teacher: Array, shares: Array, weights: Array, beta: float = 0.6
) -> Array:
    """Weighted negative pointwise mutual information of pairs, to be minimised.

    Adaloglou, Michels, Kalisch & Kollmann 2023, Eqs. 5-8: for each pair
    -w log sum_c (q_c p_c)^beta / s_c, averaged over pairs.

    Args:
        student: float [b, k]; q of one of each pair, rows sum to one.
        teacher: float [b, k]; p of the other.
        shares: float [k], of the clusters over the data by the teacher.
        weights: float [b], of the pairs.
        beta: 1 is mutual information itself; below it, larger clusters gain less.

    Returns:
        float [].

    >>> sure = jnp.eye(2)
    >>> round(float(neighbour_information(sure, sure, jnp.full(2, 0.5), jnp.ones(2))), 4)
    -0.6931
    """
    chex.assert_rank(student, 2)
    chex.assert_equal_shape([student, teacher])
    chex.assert_shape(shares, student.shape[1:])
    chex.assert_shape(weights, student.shape[:1])
    chex.assert_type([student, teacher, shares, weights], float)
    # The power has an infinite slope at zero.
    products = jnp.maximum(student * teacher, jnp.finfo(student.dtype).tiny)
    least = jnp.finfo(shares.dtype).tiny
    information = jnp.log(jnp.sum(products**beta / jnp.maximum(shares, least)[None], axis=1))
    return -jnp.mean(weights * information)
