"""Autoencoder reconstruction errors."""

import chex
import jax.numpy as jnp
import optax
from jax import Array


def reconstruction_error(decoded: Array, images: Array, *, per_pixel: bool = False) -> Array:
    """Squared error summed over an image's values, averaged over the batch.

    Das, Ghosh & Bhowmick 2019 (ICS), Eq. 1; the usual autoencoder loss.

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


def bernoulli_error(logits: Array, targets: Array) -> Array:
    """Cross-entropy summed over an image's values, averaged over the batch.

    Kingma & Welling 2014, App. C.1: the reconstruction term of a variational autoencoder that
    decodes each value as a Bernoulli distribution. Grey values count as shares of white.

    Args:
        logits: float [b, h, w, c] (any shape with a leading batch axis), of the decoded values.
        targets: the images, same shape, in [0, 1].

    Returns:
        float [].

    >>> round(float(bernoulli_error(jnp.zeros((2, 3)), jnp.ones((2, 3)))), 4)  # 3 log 2
    2.0794
    """
    chex.assert_equal_shape([logits, targets])
    chex.assert_type([logits, targets], float)
    errors = optax.sigmoid_binary_cross_entropy(logits, targets)
    return jnp.mean(jnp.sum(errors.reshape(targets.shape[0], -1), axis=1))
