"""Autoencoder reconstruction error."""

import chex
import jax.numpy as jnp
from jax import Array


def reconstruction_error(decoded: Array, images: Array, *, per_pixel: bool = False) -> Array:
    """Squared error summed over an image's values, averaged over the batch.

    Das, Ghosh & Bhowmick 2019 (ICS), Eq. 1, without its batch sum; the usual
    autoencoder loss.

    Args:
        decoded: float [b, h, w, c] (any shape with a leading batch axis).
        images: the targets, same shape.
        per_pixel: average over the image's values instead of summing them.

    Returns:
        float [].

    >>> float(reconstruction_error(jnp.ones((2, 3, 3, 1)), jnp.zeros((2, 3, 3, 1))))
    9.0
    """
    chex.assert_equal_shape([decoded, images])
    chex.assert_type([decoded, images], float)
    errors = jnp.square(decoded - images).reshape(images.shape[0], -1)
    return jnp.mean(errors if per_pixel else jnp.sum(errors, axis=1))
