"""An autoencoder that removes noise at every layer."""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxclust.models.layers import Conv, ConvTranspose, Dense, Dropout

_SLOPE = 0.01  # of the leaky ReLU


class Repaired(NamedTuple):
    """What a denoising autoencoder makes of a batch."""

    latent: Array  # float [b, d]: of the noisy images
    errors: Array  # float [b]: of the denoising, all layers together


class DenoisingAutoencoder(nn.Module):
    """DEPICT's autoencoder (Dizaji et al. 2017, Sec. 3.2) -> Repaired.

    Two strided convolutions with leaky ReLU and a dense latent with tanh. In training the images
    and the first map lose values at random. The decoder mirrors the encoder and should give, at
    every layer, what the encoder has without noise. An error is the mean over a layer's values, and
    the maps' errors have a weight of a tenth, as in the published code. Values of the images lie
    between -1 and 1, so that lost ones are grey and the decoder ends in tanh. Maps are padded, so
    that images of any size fit.
    """

    image_shape: tuple[int, int, int]
    latent_width: int
    widths: Sequence[int] = (50, 50)
    windows: Sequence[int] = (4, 5)
    dropouts: Sequence[float] = (0.1, 0.1)  # of the images, and of the first map
    map_weight: float = 0.1
    axis_name: str | None = None

    def setup(self) -> None:
        glorot = nn.initializers.glorot_uniform()
        sizes = [self.image_shape[:2]]
        for _ in self.widths:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        self.sizes = sizes
        self.down = [
            Conv(width, (side, side), (2, 2), kernel_init=glorot)
            for width, side in zip(self.widths, self.windows, strict=True)
        ]
        backwards = zip(
            (*self.widths[-2::-1], self.image_shape[2]), self.windows[::-1], strict=True
        )
        self.up = [
            ConvTranspose(width, (side, side), (2, 2), kernel_init=glorot)
            for width, side in backwards
        ]
        self.noise = [Dropout(rate, self.axis_name) for rate in self.dropouts]
        self.to_latent = Dense(self.latent_width, kernel_init=glorot)
        flat = sizes[-1][0] * sizes[-1][1] * self.widths[-1]
        self.from_latent = Dense(flat, kernel_init=glorot)

    def maps(self, x: Array, noised: bool) -> list[Array]:
        """The images and the maps they become, with or without noise."""
        found = [x]
        for i, conv in enumerate(self.down):
            if i < len(self.noise):
                x = self.noise[i](x, noised)
            x = nn.leaky_relu(conv(x), _SLOPE)
            found.append(x)
        return found

    def code(self, last: Array) -> Array:
        """The last map [b, h, w, c] -> latent [b, latent_width]."""
        return jnp.tanh(self.to_latent(last.reshape(last.shape[0], -1)))

    def encode(self, x: Array, train: bool) -> Array:
        """images [b, h, w, c] -> latent [b, latent_width], without noise."""
        del train
        return self.code(self.maps(x, False)[-1])

    def decode(self, latent: Array) -> list[Array]:
        """latent [b, latent_width] -> the maps and the images, as :meth:`maps` has them."""
        x = nn.leaky_relu(self.from_latent(latent), _SLOPE)
        x = x.reshape(-1, *self.sizes[-1], self.widths[-1])
        found = [x]
        for i, (conv, (height, width)) in enumerate(zip(self.up, self.sizes[-2::-1], strict=True)):
            x = conv(x)[:, :height, :width]
            x = jnp.tanh(x) if i == len(self.up) - 1 else nn.leaky_relu(x, _SLOPE)
            found.append(x)
        return found[::-1]

    def __call__(self, x: Array, train: bool) -> Repaired:
        """images [b, h, w, c] -> Repaired."""
        latent = self.code(self.maps(x, train)[-1])
        errors = jnp.zeros(x.shape[0], latent.dtype)
        pairs = zip(self.decode(latent), self.maps(x, False), strict=True)
        for i, (repaired, clean) in enumerate(pairs):
            squares = jnp.square(repaired - clean).reshape(x.shape[0], -1)
            errors += (self.map_weight if i else 1) * jnp.mean(squares, axis=1)
        return Repaired(latent, errors)
