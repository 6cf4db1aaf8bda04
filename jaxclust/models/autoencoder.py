"""Autoencoders, and decoders that turn a code back into images of the exact shape."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
from jax import Array

from jaxclust.models.layers import BatchNorm, Conv, max_pool, upsample


class Decoder(nn.Module):
    """Code [b, d] -> images of exactly `image_shape` [b, h, w, c].

    A dense layer to a map of at most 8 by 8 (two upsamplings at least), then as
    often as needed an upsampling by two and a 3x3 convolution. The last one has
    the image's channels and no batch norm; what exceeds the image is cropped.
    """

    image_shape: tuple[int, int, int]
    width: int = 64

    @nn.compact
    def __call__(self, code: Array, train: bool) -> Array:
        height, width, channels = self.image_shape
        doublings = max(2, math.ceil(math.log2(max(height, width) / 8)))
        rows, columns = (-(-side // 2**doublings) for side in (height, width))

        def norm(x: Array) -> Array:
            return nn.relu(BatchNorm(use_running_average=not train)(x))

        x = nn.Dense(rows * columns * self.width, use_bias=False)(code)
        x = norm(x).reshape(-1, rows, columns, self.width)
        for level in range(1, doublings):
            # Half the width where the map has its last size but one.
            features = self.width // 2 if level == doublings - 1 else self.width
            x = norm(Conv(features, use_bias=False)(upsample(x)))
        return Conv(channels)(upsample(x))[:, :height, :width]


class Coded(NamedTuple):
    """What an autoencoder makes of a batch."""

    latent: Array  # float [b, d]
    decoded: Array  # float [b, h, w, c]


class PooledAutoencoder(nn.Module):
    """ICS's autoencoder (Das, Ghosh & Bhowmick 2019, Sec. 4.3) -> Coded.

    The encoder is a 3x3 convolution, 2x2 max-pool, batch norm and ReLU for every
    width, then a dense layer to the latent; the decoder mirrors it with upsampling
    for pooling. Odd maps are pooled with their last row and column alone and cropped
    again on the way back, so that the decoded images have the images' exact shape.
    The paper gives no widths; doubled ones from 32 are chosen here.
    """

    image_shape: tuple[int, int, int]
    latent_width: int = 10
    widths: Sequence[int] = (32, 64, 128)

    def setup(self) -> None:
        glorot = nn.initializers.glorot_uniform()
        sizes = [self.image_shape[:2]]
        for _ in self.widths:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        self.sizes = sizes
        mirrored = [*self.widths[-2::-1], self.image_shape[2]]
        self.down = [Conv(width, use_bias=False, kernel_init=glorot) for width in self.widths]
        self.up = [
            Conv(width, use_bias=i == len(mirrored) - 1, kernel_init=glorot)
            for i, width in enumerate(mirrored)
        ]
        self.to_latent = nn.Dense(self.latent_width, kernel_init=glorot)
        flat = sizes[-1][0] * sizes[-1][1] * self.widths[-1]
        self.from_latent = nn.Dense(flat, use_bias=False, kernel_init=glorot)
        self.down_norms = [BatchNorm() for _ in self.widths]
        self.up_norms = [BatchNorm() for _ in self.widths]

    def encode(self, x: Array, train: bool) -> Array:
        """images [b, h, w, c] -> latent [b, latent_width]."""
        for conv, norm in zip(self.down, self.down_norms, strict=True):
            x = nn.relu(norm(max_pool(conv(x), padding="SAME"), not train))
        return self.to_latent(x.reshape(x.shape[0], -1))

    def decode(self, latent: Array, train: bool) -> Array:
        """latent [b, latent_width] -> images [b, h, w, c]."""
        x = self.from_latent(latent).reshape(-1, *self.sizes[-1], self.widths[-1])
        for conv, norm, (height, width) in zip(
            self.up, self.up_norms, self.sizes[-2::-1], strict=True
        ):
            x = conv(upsample(nn.relu(norm(x, not train)))[:, :height, :width])
        return x

    def __call__(self, x: Array, train: bool) -> Coded:
        """images [b, h, w, c] -> Coded."""
        latent = self.encode(x, train)
        return Coded(latent, self.decode(latent, train))
