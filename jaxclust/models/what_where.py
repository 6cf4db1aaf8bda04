"""An autoencoder whose decoder is told where the maxima were."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxclust.models.autoencoder import Coded, PooledAutoencoder
from jaxclust.models.layers import max_pool, upsample

_MAP_WEIGHT = 0.1


class WhatWhereAutoencoder(PooledAutoencoder):
    """The pooled autoencoder with a stacked what-where decoder (Zhao et al. 2015) -> Coded.

    The encoder's maxima go up to the latent, the "what"; their places in each window go across to
    the decoder, which puts its values there and zeros elsewhere. Equal maxima all count as places.
    The penalty is a tenth of the squared error of the decoder's maps against the encoder's, each
    map weighted like the image.
    """

    def __call__(self, x: Array, train: bool) -> Coded:
        """images [b, h, w, c] -> Coded."""
        maps, places, y = [], [], x
        for conv, norm in zip(self.down, self.down_norms, strict=True):
            convolved = conv(y)
            pooled = max_pool(convolved, padding="SAME")
            height, width = convolved.shape[1:3]
            places.append(convolved == upsample(pooled)[:, :height, :width])
            y = nn.relu(norm(pooled, not train))
            maps.append(y)
        latent = self.to_latent(y.reshape(y.shape[0], -1))
        z = self.from_latent(latent).reshape(-1, *self.sizes[-1], self.widths[-1])
        penalty = jnp.zeros(x.shape[0], latent.dtype)
        for conv, norm, clean, place in zip(
            self.up, self.up_norms, maps[::-1], places[::-1], strict=True
        ):
            z = nn.relu(norm(z, not train))
            penalty += jnp.mean(jnp.square(z - clean).reshape(x.shape[0], -1), axis=1)
            height, width = place.shape[1:3]
            z = conv(jnp.where(place, upsample(z)[:, :height, :width], 0))
        return Coded(latent, z, _MAP_WEIGHT * math.prod(self.image_shape) * penalty)
