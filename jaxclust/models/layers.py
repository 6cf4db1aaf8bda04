"""The layers every network is built from.

Flax's own, by parameters, initialisation and results, with gradients that are fast
on CPU too: see convolution.py, pooling.py and normalisation.py.
"""

from typing import TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxclust.core import collectives
from jaxclust.models._cpu.batch_norm import batch_norm, over_channels
from jaxclust.models._cpu.convolution import Padding, conv2d, conv_transpose2d
from jaxclust.models._cpu.pooling import max_pool

__all__ = [
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "Dropout",
    "Module",
    "batch_norm",
    "conv2d",
    "conv_transpose2d",
    "max_pool",
    "upsample",
]

Module: TypeAlias = nn.Module  # a network given in place of a paper's


def upsample(x: Array, factor: int = 2) -> Array:
    """Nearest-neighbour upsampling: x[n, h, w, c] -> [n, factor*h, factor*w, c]."""
    n, h, w, c = x.shape
    wide = jnp.broadcast_to(x[:, :, None, :, None], (n, h, factor, w, factor, c))
    return wide.reshape(n, factor * h, factor * w, c)


class Conv(nn.Module):
    """Convolution layer; parameters `kernel` [i, j, c, features] and `bias` [features].

    `nn.Conv`'s parameters, initialisation and results, with :func:`conv2d`'s
    gradients.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x[n, h, w, c] -> [n, h', w', features]."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        y = self.convolve(x, kernel)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
            y += bias.reshape(1, 1, 1, -1)
        return y

    def convolve(self, x: Array, kernel: Array) -> Array:
        """x[n, h, w, c] -> [n, h', w', features], without the bias."""
        return conv2d(x, kernel, self.strides, self.padding)


class ConvTranspose(Conv):
    """Transposed convolution layer; `nn.ConvTranspose` with :func:`conv_transpose2d`."""

    strides: tuple[int, int] = (2, 2)

    def convolve(self, x: Array, kernel: Array) -> Array:
        """x[n, h, w, c] -> [n, h', w', features]."""
        return conv_transpose2d(x, kernel, self.strides, self.padding)


class BatchNorm(nn.Module):
    """Batch norm layer; parameters `scale` and `bias`, statistics `mean` and `var`, all [c].

    `nn.BatchNorm`'s variables and results, with :func:`batch_norm`'s gradient; the
    statistics and the arithmetic are float32 whatever the input's dtype.
    """

    use_running_average: bool | None = None
    # 0.9: runs are short, and 0.99 would still remember the start.
    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, use_running_average: bool | None = None) -> Array:
        """x[..., c] -> [..., c]; `use_running_average` here or as an attribute."""
        average = nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones_init(), channels)
        bias = self.param("bias", nn.initializers.zeros_init(), channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        variance = self.variable("batch_stats", "var", jnp.ones, channels)
        if average:
            factor = over_channels(lax.rsqrt(variance.value + self.epsilon) * scale, x)
            y = (x - over_channels(mean.value, x)) * factor + over_channels(bias, x)
            return y.astype(x.dtype)
        axis_name = None if self.is_initializing() else self.axis_name
        y, *now = batch_norm(x, scale, bias, self.epsilon, axis_name)
        if not self.is_initializing():
            for running, value in zip((mean, variance), now, strict=True):
                running.value = self.momentum * running.value + (1 - self.momentum) * value
        return y


class Dropout(nn.Module):
    """Dropout whose mask is keyed by an image's place in the batch.

    So that splitting the batch over devices changes nothing; else as `nn.Dropout`, its
    random numbers those of "dropout".

    Attributes:
        rate: probability of a value being set to zero; below 1.
        axis_name: mapped axis whose devices share the batch.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """x[b, ...] -> [b, ...]; kept values grow by 1 / (1 - rate)."""
        if not train or not self.rate:
            return x
        key = self.make_rng("dropout")

        def kept(place: Array) -> Array:
            return jax.random.bernoulli(jax.random.fold_in(key, place), 1 - self.rate, x.shape[1:])

        axis_name = None if self.is_initializing() else self.axis_name
        keep = jax.vmap(kept)(collectives.positions(x.shape[0], axis_name))
        return jnp.where(keep, x / (1 - self.rate), 0)
