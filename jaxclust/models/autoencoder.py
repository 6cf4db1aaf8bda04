"""Autoencoders, and decoders that turn a code back into images of the exact shape."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxclust.core import collectives
from jaxclust.models.layers import (
    BatchNorm,
    Conv,
    ConvTranspose,
    Dense,
    Padding,
    max_pool,
    upsample,
)


class Decoder(nn.Module):
    """Code [b, d] -> images of exactly `image_shape` [b, h, w, c].

    A dense layer to a map of at most 8 by 8 (at least two upsamplings), then an upsampling by two
    and a 3x3 convolution, as often as needed. The last one has the image's channels and no batch
    norm; what exceeds the image is cropped.
    """

    image_shape: tuple[int, int, int]
    width: int = 64
    axis_name: str | None = None

    @nn.compact
    def __call__(self, code: Array, train: bool) -> Array:
        height, width, channels = self.image_shape
        doublings = max(2, math.ceil(math.log2(max(height, width) / 8)))
        rows, columns = (-(-side // 2**doublings) for side in (height, width))

        def norm(x: Array) -> Array:
            return nn.relu(BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x))

        x = Dense(rows * columns * self.width, use_bias=False)(code)
        x = norm(x).reshape(-1, rows, columns, self.width)
        for level in range(1, doublings):
            # Half the width at the map's last size but one.
            features = self.width // 2 if level == doublings - 1 else self.width
            x = norm(Conv(features, use_bias=False)(upsample(x)))
        return Conv(channels)(upsample(x))[:, :height, :width]


class Coded(NamedTuple):
    """What an autoencoder makes of a batch."""

    latent: Array  # float [b, d]
    decoded: Array  # float [b, h, w, c]
    # float [b]: what the latent costs beside the reconstruction (the variational kind)
    penalty: Array | None = None


# Widths for the paper's two network sizes, with three and five convolutions.
SHALLOW, DEEP = (32, 64, 128), (32, 64, 128, 128, 256)


def mirrored_convolutions(widths: Sequence[int], channels: int) -> tuple[list[Conv], list[Conv]]:
    """The 3x3 convolutions of an encoder, and those of the decoder that mirrors it.

    Batch norm follows each but the last, so only that one, to the image's channels, has a bias.
    """
    glorot = nn.initializers.glorot_uniform()
    down = [Conv(width, use_bias=False, kernel_init=glorot) for width in widths]
    back = [*widths[-2::-1], channels]
    up = [
        Conv(width, use_bias=i == len(back) - 1, kernel_init=glorot) for i, width in enumerate(back)
    ]
    return down, up


class PooledAutoencoder(nn.Module):
    """ICS's autoencoder (Das, Ghosh & Bhowmick 2019, Sec. 4.3) -> Coded.

    The encoder is a 3x3 convolution, 2x2 max-pool, batch norm and ReLU for every
    width, then a dense layer to the latent; the decoder mirrors it with upsampling
    for pooling. The last row and column of odd maps are pooled alone and cropped again on the way
    back, so that the decoded images have the images' exact shape. The paper gives no widths;
    doubled ones from 32 are chosen here.
    """

    image_shape: tuple[int, int, int]
    latent_width: int = 10
    widths: Sequence[int] = SHALLOW
    axis_name: str | None = None  # over which batch norm takes its statistics too

    def setup(self) -> None:
        glorot = nn.initializers.glorot_uniform()
        sizes = [self.image_shape[:2]]
        for _ in self.widths:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        self.sizes = sizes
        self.down, self.up = mirrored_convolutions(self.widths, self.image_shape[2])
        self.to_latent = Dense(self.latent_width, kernel_init=glorot)
        flat = sizes[-1][0] * sizes[-1][1] * self.widths[-1]
        self.from_latent = Dense(flat, use_bias=False, kernel_init=glorot)
        self.down_norms = [BatchNorm(axis_name=self.axis_name) for _ in self.widths]
        self.up_norms = [BatchNorm(axis_name=self.axis_name) for _ in self.widths]

    def encode(self, x: Array, train: bool) -> Array:
        """images [b, h, w, c] -> latent [b, latent_width]."""
        return self.to_latent(self.maps(x, train))

    def maps(self, x: Array, train: bool) -> Array:
        """images [b, h, w, c] -> the last map, flattened [b, m]."""
        for conv, norm in zip(self.down, self.down_norms, strict=True):
            x = nn.relu(norm(max_pool(conv(x), padding="SAME"), not train))
        return x.reshape(x.shape[0], -1)

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


class VariationalAutoencoder(PooledAutoencoder):
    """The same with a Gaussian latent (Kingma & Welling 2014) -> Coded.

    In training the decoder gets a sample, drawn by the stream `latent`; the latent
    returned is always the mean. The penalty is the latent's KL divergence from a
    standard Gaussian, for images whose values have unit variance.
    """

    def setup(self) -> None:
        super().setup()
        self.to_log_variance = Dense(
            self.latent_width, kernel_init=nn.initializers.glorot_uniform()
        )

    def __call__(self, x: Array, train: bool) -> Coded:
        """images [b, h, w, c] -> Coded."""
        flat = self.maps(x, train)
        mean, log_variance = self.to_latent(flat), self.to_log_variance(flat)
        # Beyond these variances the exponential only overflows.
        log_variance = jnp.clip(log_variance, -20, 20)
        latent = mean
        if train and self.has_rng("latent"):
            places = collectives.positions(mean.shape[0], self.axis_name)
            noise = collectives.normal_rows(self.make_rng("latent"), mean, places)
            latent += jnp.exp(0.5 * log_variance) * noise
        divergence = 0.5 * (jnp.exp(log_variance) + jnp.square(mean) - 1 - log_variance)
        return Coded(mean, self.decode(latent, train), jnp.sum(divergence, axis=1))


class StridedAutoencoder(nn.Module):
    """DERC's autoencoder (Yan et al. 2020, Table II) -> Coded.

    Six 3x3 convolutions with ReLU, three of them of stride 2, then a dense latent with
    batch norm; the decoder mirrors it with transposed convolutions. Table II prints 2
    filters for the first layer, where 16 are likely meant, and no padding, for which
    images must have 37 pixels or more. Odd maps are cropped or filled up on the way
    back, so that the decoded images have the images' exact shape.
    """

    image_shape: tuple[int, int, int]
    latent_width: int = 10
    widths: Sequence[int] = (16, 16, 32, 128, 256, 32)
    strides: Sequence[int] = (1, 2, 1, 2, 2, 1)
    padding: Padding = "SAME"
    axis_name: str | None = None

    def setup(self) -> None:
        glorot = nn.initializers.glorot_uniform()
        sizes = [self.image_shape[:2]]
        for stride in self.strides:
            lost = 0 if self.padding == "SAME" else 2
            height, width = (-(-(side - lost) // stride) for side in sizes[-1])
            sizes.append((height, width))
        self.sizes = sizes
        self.down = [
            Conv(width, strides=(stride, stride), padding=self.padding, kernel_init=glorot)
            for width, stride in zip(self.widths, self.strides, strict=True)
        ]
        mirrored = [*self.widths[-2::-1], self.image_shape[2]]
        self.up = [
            ConvTranspose(width, strides=(stride, stride), padding=self.padding, kernel_init=glorot)
            for width, stride in zip(mirrored, self.strides[::-1], strict=True)
        ]
        self.to_latent = Dense(self.latent_width, use_bias=False, kernel_init=glorot)
        self.latent_norm = BatchNorm(axis_name=self.axis_name)
        flat = sizes[-1][0] * sizes[-1][1] * self.widths[-1]
        self.from_latent = Dense(flat, kernel_init=glorot)

    def encode(self, x: Array, train: bool) -> Array:
        """images [b, h, w, c] -> latent [b, latent_width]."""
        for conv in self.down:
            x = nn.relu(conv(x))
        return self.latent_norm(self.to_latent(x.reshape(x.shape[0], -1)), not train)

    def decode(self, latent: Array) -> Array:
        """latent [b, latent_width] -> images [b, h, w, c]."""
        x = self.from_latent(latent).reshape(-1, *self.sizes[-1], self.widths[-1])
        for conv, (height, width) in zip(self.up, self.sizes[-2::-1], strict=True):
            x = conv(nn.relu(x))[:, :height, :width]
            missing = (height - x.shape[1], width - x.shape[2])
            x = jnp.pad(x, [(0, 0), (0, missing[0]), (0, missing[1]), (0, 0)], mode="edge")
        return x

    def __call__(self, x: Array, train: bool) -> Coded:
        """images [b, h, w, c] -> Coded."""
        latent = self.encode(x, train)
        return Coded(latent, self.decode(latent))


class DenseAutoencoder(nn.Module):
    """DEC's autoencoder (Xie et al. 2016, Sec. 4.3) -> Coded.

    Dense layers with ReLU from the pixels through 500, 500 and 2000 units to a linear
    latent, and mirrored back to linear pixels.
    """

    image_shape: tuple[int, ...]  # of images, or (width,) of features
    latent_width: int = 10
    widths: Sequence[int] = (500, 500, 2000)
    axis_name: str | None = None  # nothing here depends on other images

    def setup(self) -> None:
        self.down = [Dense(width) for width in self.widths]
        self.to_latent = Dense(self.latent_width)
        self.up = [Dense(width) for width in self.widths[::-1]]
        self.to_pixels = Dense(math.prod(self.image_shape))

    def hidden(self, x: Array) -> Array:
        """images [b, h, w, c] -> the encoder's last hidden layer [b, widths[-1]]."""
        x = x.reshape(x.shape[0], -1)
        for layer in self.down:
            x = nn.relu(layer(x))
        return x

    def encode(self, x: Array, train: bool) -> Array:
        """images [b, h, w, c] -> latent [b, latent_width]."""
        del train
        return self.to_latent(self.hidden(x))

    def decode(self, latent: Array) -> Array:
        """latent [b, latent_width] -> images [b, h, w, c]."""
        for layer in self.up:
            latent = nn.relu(layer(latent))
        return self.to_pixels(latent).reshape(-1, *self.image_shape)

    def __call__(self, x: Array, train: bool) -> Coded:
        """images [b, h, w, c] -> Coded."""
        latent = self.encode(x, train)
        return Coded(latent, self.decode(latent))


class Sampled(NamedTuple):
    """What a variational autoencoder makes of a batch."""

    mean: Array  # float [b, d]
    log_variance: Array  # float [b, d]
    sample: Array  # float [b, d], drawn from the two in training; else the mean
    decoded: Array  # of the sample, in the images' shape


class DenseVariational(DenseAutoencoder):
    """VaDE's network (Jiang et al. 2017, Sec. 4.3): DEC's layers around a Gaussian -> Sampled.

    In training the decoder gets a sample, drawn by the stream `latent`.
    """

    def setup(self) -> None:
        super().setup()
        self.to_log_variance = Dense(self.latent_width)

    def reconstruct(self, x: Array, train: bool) -> Coded:
        """images -> Coded, through the mean: a plain autoencoder."""
        mean = self.encode(x, train)
        return Coded(mean, self.decode(mean))

    def __call__(self, x: Array, train: bool) -> Sampled:  # pyright: ignore[reportIncompatibleMethodOverride]
        """images -> Sampled."""
        hidden = self.hidden(x)
        mean = self.to_latent(hidden)
        # Beyond these variances the exponential only overflows.
        log_variance = jnp.clip(self.to_log_variance(hidden), -20, 20)
        sample = mean
        if train and self.has_rng("latent"):
            places = collectives.positions(mean.shape[0], self.axis_name)
            noise = collectives.normal_rows(self.make_rng("latent"), mean, places)
            sample += jnp.exp(0.5 * log_variance) * noise
        return Sampled(mean, log_variance, sample, self.decode(sample))
