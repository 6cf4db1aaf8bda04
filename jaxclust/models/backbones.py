"""Backbones that CCNN trains from scratch: images in, maps out (Hsu & Lin 2017, Figs. 1 and 4).

Those that come with weights are in `jaxclust.models.encoders`.
"""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxclust.models.layers import conv_block, max_pool


class LeNetBackbone(nn.Module):
    """The small network's convolutions: 5x5, pool, 5x5, pool; SAME padding.

    images [b, h, w, c] -> [b, ceil(h/4), ceil(w/4), widths[-1]].
    """

    widths: Sequence[int] = (64, 128)
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        for width in self.widths:
            x = max_pool(conv_block(x, width, (5, 5), train, self.axis_name), padding="SAME")
        return x


class AlexNetBackbone(nn.Module):
    """AlexNet's conv1-5 with batch norm and local response normalisation.

    images [b, 224, 224, c] -> [b, 6, 6, 256].
    """

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        block = partial(conv_block, train=train, axis_name=self.axis_name)
        pool = partial(max_pool, window=(3, 3), strides=(2, 2))
        x = pool(local_response(block(x, 96, (11, 11), strides=(4, 4))))
        x = pool(local_response(block(x, 256, (5, 5))))
        for width in (384, 384, 256):
            x = block(x, width, (3, 3))
        return pool(x)


def local_response(x: Array, radius: int = 2) -> Array:
    """x / (2 + 1e-4 * sum of squares over 2*radius+1 neighbouring channels)^0.75.

    Krizhevsky et al. 2012, Sec. 3.3, x [b, h, w, c].
    """
    squares = jnp.pad(jnp.square(x), [(0, 0)] * 3 + [(radius, radius)])
    channels = x.shape[-1]
    total = sum(squares[..., i : i + channels] for i in range(2 * radius + 1))
    return x / (2 + 1e-4 * total) ** 0.75
