"""Heads: maps [b, h, w, c] in, one vector per image out (Hsu & Lin 2017, Figs. 1 and 4)."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxclust.models.layers import BatchNorm, Dense, Dropout, conv_block


class FlatHead(nn.Module):
    """The small network's head: flatten, dense, batch norm, ReLU -> [b, width]."""

    width: int = 128
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = Dense(self.width, use_bias=False)(x.reshape(x.shape[0], -1))
        return nn.relu(BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x))


class SalientHead(nn.Module):
    """CCNN's head: three 3x3 convolutions, then each channel's maximum -> [b, widths[-1]].

    The last width is the number of clusters. Dropout acts on the wide ones.
    """

    widths: Sequence[int]
    dropout: float = 0.5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        for width in self.widths[:-1]:
            x = conv_block(x, width, (3, 3), train, self.axis_name)
            x = Dropout(self.dropout, self.axis_name)(x, train)
        x = conv_block(x, self.widths[-1], (3, 3), train, self.axis_name)
        return jnp.max(x, axis=(1, 2))


class DenseHead(nn.Module):
    """AlexNet's own head, fc6 and fc7, for the paper's Table V -> [b, width]."""

    width: int = 4096
    dropout: float = 0.5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = x.reshape(x.shape[0], -1)
        for _ in range(2):
            x = nn.relu(Dense(self.width)(x))
            x = Dropout(self.dropout, self.axis_name)(x, train)
        return x


class PooledHead(nn.Module):
    """The map's mean over its positions -> [b, channels]."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        del train
        return jnp.mean(x, axis=(1, 2))
