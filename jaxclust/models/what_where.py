"""An autoencoder whose decoder is told where the maxima were."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxclust.models.autoencoder import Coded, mirrored_convolutions
from jaxclust.models.layers import BatchNorm, max_pool, upsample

_MAP_WEIGHT = 0.1


class WhatWhereAutoencoder(nn.Module):
    """A stacked what-where autoencoder (Zhao et al. 2015) -> Coded.

    The encoder is a 3x3 convolution, 2x2 max-pool, batch norm and ReLU for every width. Its last
    maps, the "what", are the latent, [b, h' * w' * widths[-1]]: a dense layer would lose where in
    the image they are. The maxima's places in each window go across to the decoder, which puts its
    values there and zeros elsewhere. Equal maxima all count as places. The penalty is a tenth of
    the squared error of the decoder's maps against the encoder's, each map weighted like the image.
    """

    image_shape: tuple[int, int, int]
    widths: Sequence[int] = (16, 32)
    axis_name: str | None = None  # over which batch norm takes its statistics too

    def setup(self) -> None:
        self.down, self.up = mirrored_convolutions(self.widths, self.image_shape[2])
        self.down_norms = [BatchNorm(axis_name=self.axis_name) for _ in self.widths]
        self.up_norms = [BatchNorm(axis_name=self.axis_name) for _ in self.widths[1:]]

    def levels(self, x: Array, train: bool) -> tuple[list[Array], list[Array]]:
        """images [b, h, w, c] -> each level's maps, and bool: where its maxima were."""
        maps, places = [], []
        for conv, norm in zip(self.down, self.down_norms, strict=True):
            convolved = conv(x)
            pooled = max_pool(convolved, padding="SAME")
            height, width = convolved.shape[1:3]
            places.append(convolved == upsample(pooled)[:, :height, :width])
            x = nn.relu(norm(pooled, not train))
            maps.append(x)
        return maps, places

    def encode(self, x: Array, train: bool) -> Array:
        """images [b, h, w, c] -> latent [b, d]."""
        maps, _ = self.levels(x, train)
        return maps[-1].reshape(x.shape[0], -1)

    def __call__(self, x: Array, train: bool) -> Coded:
        """images [b, h, w, c] -> Coded."""
        maps, places = self.levels(x, train)
        z, penalty = maps[-1], jnp.zeros(x.shape[0], maps[-1].dtype)
        for i, (conv, place) in enumerate(zip(self.up, places[::-1], strict=True)):
            if i:
                z = nn.relu(self.up_norms[i - 1](z, not train))
                apart = jnp.square(z - maps[-1 - i]).reshape(x.shape[0], -1)
                penalty += jnp.mean(apart, axis=1)
            height, width = place.shape[1:3]
            z = conv(jnp.where(place, upsample(z)[:, :height, :width], 0))
        latent = maps[-1].reshape(x.shape[0], -1)
        return Coded(latent, z, _MAP_WEIGHT * math.prod(self.image_shape) * penalty)
