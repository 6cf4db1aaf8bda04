"""Soft assignments (van der Maaten & Hinton 2008; Xie et al. 2016, DEC)."""

import jax.numpy as jnp
from jax import Array


def student_t_assignment(squared_distances: Array, freedom: float = 1.0) -> Array:
    """Student-t similarity to each centroid, normalised over centroids.

    Xie, Girshick & Farhadi 2016, Eq. 1: (1 + d^2 / a)^(-(a + 1) / 2).

    Args:
        squared_distances: d^2 of n samples to k centroids, float [n, k].
        freedom: a, the degrees of freedom.

    Returns:
        q, float [n, k]; rows sum to one.
    """
    # Through the logarithm, so that distances of 1e6 and beyond do not underflow.
    log_kernel = -(freedom + 1) / 2 * jnp.log1p(squared_distances / freedom)
    log_kernel -= jnp.max(log_kernel, axis=1, keepdims=True)
    kernel = jnp.exp(log_kernel)
    return kernel / jnp.sum(kernel, axis=1, keepdims=True)
