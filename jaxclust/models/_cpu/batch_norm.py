"""Batch norm with its gradient written out."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxclust.models.dtypes import widest


def batch_norm(
    x: Array, scale: Array, bias: Array, epsilon: float = 1e-5, axis_name: str | None = None
) -> tuple[Array, Array, Array]:
    """Normalise x[..., c] by the mean and variance of each channel over the batch.

    Ioffe & Szegedy 2015, Algorithm 1, with the gradient written out: two sums and
    one pass, where autodiff goes over x once for every use of the mean and variance.

    Args:
        x: float [..., c]; computed in float32 at least.
        scale: float [c].
        bias: float [c].
        epsilon: added to the variance.
        axis_name: mapped axis over which the statistics are taken too.

    Returns:
        (normalised x, its dtype kept; mean [c] and variance [c], float32 at least). The
        statistics pass no gradient on.
    """
    # Out here, so that what `_batch_norm` hands back has the dtype of what it was given.
    wide = widest(x, scale, bias, jnp.float32)
    scale, bias = scale.astype(wide), bias.astype(wide)
    y, mean, variance = _batch_norm(x, scale, bias, epsilon, axis_name)
    return y, lax.stop_gradient(mean), lax.stop_gradient(variance)


def _over_batch(values: tuple[Array, ...], axis_name: str | None) -> tuple[Array, ...]:
    """Means over all axes but the last, and over the mapped axis."""
    axes = tuple(range(values[0].ndim - 1))
    means = tuple(jnp.mean(value, axis=axes) for value in values)
    return means if axis_name is None else lax.pmean(means, axis_name)


def _batch_norm_forward(
    x: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    wide = x.astype(scale.dtype)
    mean, square = _over_batch((wide, jnp.square(wide)), axis_name)
    variance = jnp.maximum(square - jnp.square(mean), 0)
    factor = lax.rsqrt(variance + epsilon)
    y = (wide - over_channels(mean, x)) * over_channels(factor * scale, x) + over_channels(bias, x)
    return (y.astype(x.dtype), mean, variance), (x, scale, mean, factor)


def normalised(
    x: Array, scale: Array, bias: Array, mean: Array, variance: Array, epsilon: float
) -> Array:
    """x[..., c] normalised by given statistics, its dtype kept; all others float [c].

    Computed in the widest dtype of all of them.
    """
    wide = widest(x, scale, bias, mean, variance)
    scale, bias, mean, variance = (v.astype(wide) for v in (scale, bias, mean, variance))
    factor = over_channels(lax.rsqrt(variance + epsilon) * scale, x)
    y = (x.astype(wide) - over_channels(mean, x)) * factor + over_channels(bias, x)
    return y.astype(x.dtype)


def over_channels(channel: Array, x: Array) -> Array:
    """A vector over the channels, of x's rank."""
    return channel.reshape((1,) * (x.ndim - 1) + channel.shape)


def _batch_norm_backward(
    epsilon: float,
    axis_name: str | None,
    residuals: tuple[Array, ...],
    gradients: tuple[Array, ...],
) -> tuple[Array, Array, Array]:
    x, scale, mean, factor = residuals
    wide, g = x.astype(mean.dtype), gradients[0].astype(mean.dtype)
    axes = tuple(range(x.ndim - 1))

    def by_normalised(of_g: Array, of_gx: Array) -> Array:
        """The sum of g times normalised x, from the sums of g and of g times x.

        So normalised x is never written to memory just for the sum.
        """
        return (of_gx - mean * of_g) * factor

    by_bias, gx = jnp.sum(g, axis=axes), jnp.sum(g * wide, axis=axes)
    g_mean, gx_mean = _over_batch((g, g * wide), axis_name)
    centred = (wide - over_channels(mean, x)) * over_channels(factor, x)
    towards = over_channels(g_mean, x) + centred * over_channels(by_normalised(g_mean, gx_mean), x)
    by_x = (g - towards) * over_channels(factor * scale, x)
    return by_x.astype(x.dtype), by_normalised(by_bias, gx), by_bias


def _batch_norm_value(
    x: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None
) -> tuple[Array, Array, Array]:
    return _batch_norm_forward(x, scale, bias, epsilon, axis_name)[0]


_batch_norm = jax.custom_vjp(_batch_norm_value, nondiff_argnums=(3, 4))
_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)
