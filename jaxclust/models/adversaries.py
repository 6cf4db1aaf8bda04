"""A network that draws images and one that tells them from real ones."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxclust.models.layers import BatchNorm, Conv, ConvTranspose, Dense, grid_max

_SLOPE = 0.2  # of the leaky ReLU
_WINDOW = (5, 5)
_FIRST = nn.initializers.normal(0.02)


class Judged(NamedTuple):
    """What the discriminator says about a batch."""

    logits: Array  # float [b]: above zero for real
    maps: tuple[Array, ...]  # float [b, h, w, c] each: its layers' outputs


class Adversaries(nn.Module):
    """Generator and discriminator of strided convolutions (Radford, Metz & Chintala 2016).

    The discriminator halves the map until a side is 4 or less, at least twice, doubling its width
    from `width` to at most eight times that; batch norm follows all but its first layer. The
    generator mirrors it. Its last layer is linear where the paper has tanh, as images here have
    unit variance and no bounds.
    """

    image_shape: tuple[int, int, int]
    width: int = 64
    latent_width: int = 100
    axis_name: str | None = None  # over which batch norm takes its statistics too

    def setup(self) -> None:
        halvings = max(2, math.ceil(math.log2(min(self.image_shape[:2]) / 4)))
        widths = [self.width * min(2**i, 8) for i in range(halvings)]
        sizes = [self.image_shape[:2]]
        for _ in widths:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        self.sizes, self.last_width = sizes, widths[-1]
        norms = len(widths) - 1
        self.down = [
            Conv(width, _WINDOW, (2, 2), use_bias=i == 0, kernel_init=_FIRST)
            for i, width in enumerate(widths)
        ]
        self.down_norms = [BatchNorm(axis_name=self.axis_name) for _ in range(norms)]
        self.to_logit = Dense(1, kernel_init=_FIRST)
        mirrored = [*widths[-2::-1], self.image_shape[2]]
        self.from_noise = Dense(math.prod(sizes[-1]) * widths[-1], False, kernel_init=_FIRST)
        self.up = [
            ConvTranspose(width, _WINDOW, use_bias=i == norms, kernel_init=_FIRST)
            for i, width in enumerate(mirrored)
        ]
        self.up_norms = [BatchNorm(axis_name=self.axis_name) for _ in mirrored]

    def judge(self, x: Array, train: bool) -> Judged:
        """images [b, h, w, c] -> Judged."""
        maps = [nn.leaky_relu(self.down[0](x), _SLOPE)]
        for conv, norm in zip(self.down[1:], self.down_norms, strict=True):
            maps.append(nn.leaky_relu(norm(conv(maps[-1]), not train), _SLOPE))
        return Judged(self.to_logit(maps[-1].reshape(len(x), -1))[:, 0], tuple(maps))

    def generate(self, noise: Array, train: bool) -> Array:
        """noise [b, latent_width] -> images [b, h, w, c]."""
        x = self.from_noise(noise).reshape(-1, *self.sizes[-1], self.last_width)
        for conv, norm, (height, width) in zip(
            self.up, self.up_norms, self.sizes[-2::-1], strict=True
        ):
            x = conv(nn.relu(norm(x, not train)))[:, :height, :width]
        return x

    def features(self, x: Array, train: bool) -> Array:
        """images [b, h, w, c] -> float [b, d]: maxima of 4 by 4 parts of every map (Sec. 5.1)."""
        pooled = [grid_max(y, 4).reshape(len(x), -1) for y in self.judge(x, train).maps]
        return jnp.concatenate(pooled, axis=1)

    def __call__(self, x: Array, train: bool) -> tuple[Judged, Array]:
        """images [b, h, w, c] -> (Judged, images drawn from a noise of zeros)."""
        noise = jnp.zeros((len(x), self.latent_width), x.dtype)
        return self.judge(x, train), self.generate(noise, train)
