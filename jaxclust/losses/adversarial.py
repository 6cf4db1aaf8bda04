"""Losses against an adversary: the worst small change of an image, a generator's images."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jax import Array


def _divergence(logits: Array, others: Array) -> Array:
    """KL(softmax(logits) || softmax(others)) of each row, float [b, k] both -> float [b]."""
    chex.assert_equal_shape([logits, others])
    log_p = jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(log_p) * (log_p - jax.nn.log_softmax(others)), axis=1)


def _unit(x: Array) -> Array:
    """Each row of x[b, ...] divided by its length."""
    flat = x.reshape(x.shape[0], -1)
    lengths = jnp.sqrt(jnp.sum(jnp.square(flat), axis=1, keepdims=True))
    # Where the slope vanishes there is no worst direction, and none is taken.
    return (flat / jnp.maximum(lengths, jnp.finfo(x.dtype).tiny)).reshape(x.shape)


def _worst(moved: Callable[[Array], Array], noise: Array, steps: int) -> Array:
    """Unit directions [b, ...] along which a function grows most, by power iteration."""
    direction = _unit(noise)
    for _ in range(steps):
        direction = _unit(jax.lax.stop_gradient(jax.grad(moved)(direction)))
    return direction


def _check(images: Array, logits: Array, noise: Array, radius: Array) -> None:
    if images.ndim < 2:
        raise AssertionError(f"images must have at least rank 2, not shape {images.shape}")
    chex.assert_rank(logits, 2)
    chex.assert_equal_shape([images, noise])
    chex.assert_shape([logits, radius], [(images.shape[0], logits.shape[1]), images.shape[:1]])
    chex.assert_type([images, logits, noise, radius], float)


def virtual_adversarial(
    images: Array,
    logits: Array,
    noise: Array,
    radius: Array,
    network: Callable[[Array], Array],
    reach: float = 10.0,
    steps: int = 1,
) -> Array:
    """How far the worst small change of each image moves its assignment, to be minimised.

    Miyato, Maeda, Koyama & Ishii 2018; Hu et al. 2017, Eqs. 3-6: the direction that moves it most
    is found by power iteration from a random one. Gradients flow through the changed images'
    assignments alone.

    Args:
        images: float [b, ...].
        logits: of the images, float [b, k].
        noise: of the images' shape and dtype, where the power iteration begins.
        radius: length of each image's change, float [b].
        network: images [b, ...] -> logits [b, k].
        reach: length of the step with which slopes are taken (xi).
        steps: of the power iteration.

    Returns:
        float []: mean of KL(softmax(logits) || softmax(network(changed images))).

    >>> x, turn = jnp.ones((1, 2)), jnp.array([[1.0, -1.0], [0.0, 0.0]])
    >>> moved = lambda r: virtual_adversarial(x, x @ turn, x, jnp.full(1, r), lambda x: x @ turn)
    >>> float(moved(0.0)), round(float(moved(1.0)), 4)
    (0.0, 0.1296)
    """
    _check(images, logits, noise, radius)
    fixed, images = jax.lax.stop_gradient(logits), jax.lax.stop_gradient(images)

    def divergence(changed: Array) -> Array:
        return _divergence(fixed, network(changed))

    direction = _worst(lambda d: jnp.sum(divergence(images + reach * d)), noise, steps)
    return jnp.mean(divergence(images + jax.vmap(jnp.multiply)(radius, direction)))


def discriminator_bce(real: Array, generated: Array) -> Array:
    """Binary cross-entropy of telling real images from generated ones, to be minimised.

    Goodfellow et al. 2014, Eq. 1, its two expectations added.

    Args:
        real: logits of real images, float [b]; above zero for real.
        generated: logits of as many generated ones, float [b].

    Returns:
        float [].

    >>> float(discriminator_bce(jnp.zeros(2), jnp.zeros(2)))  # 2 log 2
    1.3862943649291992
    """
    chex.assert_rank(real, 1)
    chex.assert_equal_shape([real, generated])
    chex.assert_type([real, generated], float)
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(generated))


def generator_bce(generated: Array) -> Array:
    """How well generated images are told from real ones, to be minimised by the generator.

    Goodfellow et al. 2014, Sec. 3: the form whose slope does not vanish.

    Args:
        generated: logits of generated images, float [b]; above zero for real.

    Returns:
        float []: mean of -log sigmoid(logit).

    >>> float(generator_bce(jnp.zeros(2)))  # log 2
    0.6931471824645996
    """
    chex.assert_rank(generated, 1)
    chex.assert_type(generated, float)
    return jnp.mean(jax.nn.softplus(-generated))
