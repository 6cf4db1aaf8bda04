"""An autoencoder whose hidden units are rarely active."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxclust.core import collectives
from jaxclust.models.autoencoder import Coded
from jaxclust.models.layers import Dense


class SparseAutoencoder(nn.Module):
    """One layer of sigmoid units, each active for few of the images (Ng 2011) -> Coded.

    The penalty is the divergence of each unit's mean activity over the batch from the target,
    weighted as in the lecture notes, where the squared error has a factor of a half.
    """

    image_shape: tuple[int, ...]  # of images, or (width,) of features
    latent_width: int = 200
    activity: float = 0.05  # rho
    weight: float = 6.0  # twice beta
    axis_name: str | None = None  # over which the mean activity is taken too

    def setup(self) -> None:
        self.to_latent = Dense(self.latent_width)
        self.to_pixels = Dense(math.prod(self.image_shape))

    def encode(self, x: Array, train: bool) -> Array:
        """images [b, ...] -> latent [b, latent_width], in (0, 1)."""
        del train
        return nn.sigmoid(self.to_latent(x.reshape(x.shape[0], -1)))

    def __call__(self, x: Array, train: bool) -> Coded:
        """images [b, ...] -> Coded."""
        latent = self.encode(x, train)
        decoded = self.to_pixels(latent).reshape(-1, *self.image_shape)
        axis_name = self.axis_name if train and not self.is_initializing() else None
        mean = collectives.mean_over_devices(jnp.mean(latent, axis=0), axis_name)
        mean, wanted = jnp.clip(mean, 1e-6, 1 - 1e-6), self.activity
        on = wanted * jnp.log(wanted / mean)
        off = (1 - wanted) * jnp.log((1 - wanted) / (1 - mean))
        penalty = self.weight * jnp.sum(on + off)
        return Coded(latent, decoded, jnp.full(x.shape[0], penalty))
