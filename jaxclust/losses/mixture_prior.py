"""VaDE's Gaussian-mixture prior (Jiang et al. 2017)."""

import chex
import jax
import jax.numpy as jnp
from jax import Array


def mixture_log_density(z: Array, logits: Array, means: Array, log_variances: Array) -> Array:
    """log p(z, c) under a mixture of axis-aligned Gaussians.

    Jiang, Zheng, Tan, Tang & Zhou 2017, Eqs. 1-2. Its softmax over components is Eq. 16's q(c | x).

    Args:
        z: float [b, d].
        logits: float [k]; their softmax is the components' shares.
        means: float [k, d].
        log_variances: float [k, d].

    Returns:
        float [b, k].

    >>> zero = jnp.zeros((1, 1))
    >>> at_its_mean = mixture_log_density(zero, zero[0], zero, zero)  # of a standard normal
    >>> round(float(at_its_mean[0, 0]), 4)
    -0.9189
    """
    _check(z, logits, means, log_variances)
    squares = jnp.square(z[:, None] - means[None]) / jnp.exp(log_variances)[None]
    constant = jnp.log(2 * jnp.pi) + log_variances[None]
    return jax.nn.log_softmax(logits)[None] - 0.5 * jnp.sum(squares + constant, axis=2)


def mixture_divergence(
    mean: Array, log_variance: Array, z: Array, logits: Array, means: Array, log_variances: Array
) -> Array:
    """KL divergence of q(z, c | x) from the mixture p(z, c): the bound but for reconstruction.

    Jiang, Zheng, Tan, Tang & Zhou 2017, Eq. 12 without its first term, and with the sign of a
    loss. q(z | x) is an axis-aligned Gaussian, q(c | x) that of the sample z.

    Args:
        mean: float [b, d], of q(z | x).
        log_variance: float [b, d], of q(z | x).
        z: float [b, d]; a sample of q(z | x).
        logits: float [k]; their softmax is the components' shares.
        means: float [k, d].
        log_variances: float [k, d].

    Returns:
        float [b].

    >>> same = jnp.zeros((2, 3))
    >>> found = mixture_divergence(same, same, same, jnp.zeros(1), same[:1], same[:1])
    >>> bool(jnp.allclose(found, 0, atol=1e-6))
    True
    """
    chex.assert_equal_shape([mean, log_variance, z])
    chex.assert_type([mean, log_variance], float)
    log_gamma = jax.nn.log_softmax(mixture_log_density(z, logits, means, log_variances))
    distance = jnp.square(mean[:, None] - means[None]) + jnp.exp(log_variance)[:, None]
    energy = jnp.sum(log_variances[None] + distance / jnp.exp(log_variances)[None], axis=2)
    surprise = log_gamma - jax.nn.log_softmax(logits)[None]
    own = jnp.sum(1 + log_variance, axis=1)
    return jnp.sum(jnp.exp(log_gamma) * (0.5 * energy + surprise), axis=1) - 0.5 * own


def _check(z: Array, logits: Array, means: Array, log_variances: Array) -> None:
    chex.assert_rank([z, means], 2)
    chex.assert_equal_shape([means, log_variances])
    chex.assert_shape(logits, means.shape[:1])
    chex.assert_axis_dimension(z, 1, means.shape[1])
    chex.assert_type([z, logits, means, log_variances], float)
