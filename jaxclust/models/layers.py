"""The layers every network is built from.

They match Flax's own in parameters, initialisation and results, with gradients that are fast on CPU
too (see `jaxclust.models._cpu`). Parameters start as float32 whatever JAX's default float is; see
dtypes.py.
"""

from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxclust.core import collectives
from jaxclust.models import dtypes
from jaxclust.models._cpu.batch_norm import batch_norm, normalised
from jaxclust.models._cpu.convolution import conv2d
from jaxclust.models._cpu.padding import Edges, Padding
from jaxclust.models._cpu.pooling import max_pool
from jaxclust.models._cpu.transposed import conv_transpose2d

__all__ = [
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Dropout",
    "Edges",
    "Initializer",
    "Module",
    "Padding",
    "batch_norm",
    "conv2d",
    "conv_block",
    "conv_transpose2d",
    "grid_max",
    "max_pool",
    "upsample",
]

Module: TypeAlias = nn.Module  # a network given in place of a paper's
# (key, shape, dtype) -> array
Initializer: TypeAlias = nn.initializers.Initializer


def upsample(x: Array, factor: int = 2) -> Array:
    """Nearest-neighbour upsampling, dtype kept: x[n, h, w, c] -> [n, factor*h, factor*w, c]."""
    n, h, w, c = x.shape
    wide = jnp.broadcast_to(x[:, :, None, :, None], (n, h, factor, w, factor, c))
    return wide.reshape(n, factor * h, factor * w, c)


def grid_max(x: Array, side: int) -> Array:
    """Maxima of a map's parts, `side` of them each way: x[n, h, w, c] -> [n, side, side, c].

    Parts differ by a pixel where the sides do not divide evenly; a side that is no longer than
    the grid's is left as it is.
    """
    for axis in (1, 2):
        length = x.shape[axis]
        if length > side:
            ends = [(i * length // side, -(-(i + 1) * length // side)) for i in range(side)]
            parts = [lax.slice_in_dim(x, *end, axis=axis) for end in ends]
            x = jnp.stack([jnp.max(part, axis=axis) for part in parts], axis=axis)
    return x


class Conv(nn.Module):
    """Convolution layer; parameters `kernel` [i, j, c, features] and `bias` [features].

    `nn.Conv`'s parameters, initialisation and results, with :func:`conv2d`'s
    gradients.

    Attributes:
        features: channels of the result.
        kernel_size: (rows, columns).
        strides: (rows, columns).
        padding: 'SAME', 'VALID' or ((top, bottom), (left, right)).
        use_bias: add `bias`.
        kernel_init: of `kernel`, float32.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x[n, h, w, c] -> [n, h', w', features], in the wider dtype of x and kernel."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, dtypes.PARAMETERS)
        x, kernel = dtypes.alike(x, kernel)
        y = self.convolve(x, kernel)
        if self.use_bias:
            zeros = nn.initializers.zeros_init()
            bias = self.param("bias", zeros, (self.features,), dtypes.PARAMETERS)
            y += bias.astype(y.dtype).reshape(1, 1, 1, -1)
        return y

    def convolve(self, x: Array, kernel: Array) -> Array:
        """x[n, h, w, c] -> [n, h', w', features], without the bias."""
        return conv2d(x, kernel, self.strides, self.padding)


class Dense(nn.Dense):
    """`nn.Dense`, x[..., c] -> [..., features], its parameters float32 to begin with."""

    param_dtype: Any = dtypes.PARAMETERS


class ConvTranspose(Conv):
    """Transposed convolution layer; `nn.ConvTranspose` with :func:`conv_transpose2d`."""

    strides: tuple[int, int] = (2, 2)

    def convolve(self, x: Array, kernel: Array) -> Array:
        """x[n, h, w, c] -> [n, h', w', features]."""
        return conv_transpose2d(x, kernel, self.strides, self.padding)


class BatchNorm(nn.Module):
    """Batch norm layer; parameters `scale` and `bias`, statistics `mean` and `var`, all [c].

    `nn.BatchNorm`'s variables and results (Ioffe & Szegedy 2015), with :func:`batch_norm`'s
    gradient. The variables start as float32; the arithmetic is float32 at least, also where
    input and parameters are bfloat16.

    Attributes:
        use_running_average: normalise by the stored statistics; here or in the call.
        momentum: fraction of the stored statistics that each batch keeps.
        epsilon: added to the variance.
        axis_name: mapped axis over which the statistics are taken too.
    """

    use_running_average: bool | None = None
    # 0.9: runs are short, and 0.99 would still remember the start.
    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, use_running_average: bool | None = None) -> Array:
        """x[..., c] -> [..., c], its dtype kept."""
        average = nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        channels = (x.shape[-1],)
        like = (channels, dtypes.PARAMETERS)
        scale = self.param("scale", nn.initializers.ones_init(), *like)
        bias = self.param("bias", nn.initializers.zeros_init(), *like)
        mean = self.variable("batch_stats", "mean", jnp.zeros, *like)
        variance = self.variable("batch_stats", "var", jnp.ones, *like)
        if average:
            return normalised(x, scale, bias, mean.value, variance.value, self.epsilon)
        axis_name = None if self.is_initializing() else self.axis_name
        y, *now = batch_norm(x, scale, bias, self.epsilon, axis_name)
        if not self.is_initializing():
            for running, value in zip((mean, variance), now, strict=True):
                value = value.astype(running.value.dtype)
                running.value = self.momentum * running.value + (1 - self.momentum) * value
        return y


def conv_block(
    x: Array,
    width: int,
    window: tuple[int, int],
    train: bool,
    axis_name: str | None,
    strides: tuple[int, int] = (1, 1),
) -> Array:
    """Convolution without bias, batch norm, ReLU: [b, h, w, c] -> [b, h', w', width].

    Call it in a compact module, to which it adds its layers.
    """
    x = Conv(width, window, strides, use_bias=False)(x)
    return nn.relu(BatchNorm(use_running_average=not train, axis_name=axis_name)(x))


class Dropout(nn.Module):
    """Dropout whose mask is keyed by an image's place in the batch.

    So splitting the batch over devices changes nothing. Otherwise like `nn.Dropout`, with random
    numbers from "dropout".

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
        # Drawn as float32 whatever JAX's default float and x are: the same mask in any of them.
        keeping = jnp.float32(1 - self.rate)

        def kept(place: Array) -> Array:
            return jax.random.bernoulli(jax.random.fold_in(key, place), keeping, x.shape[1:])

        axis_name = None if self.is_initializing() else self.axis_name
        keep = jax.vmap(kept)(collectives.positions(x.shape[0], axis_name))
        return jnp.where(keep, x / (1 - self.rate), 0)
