"""Decoders that turn a code back into images."""

import math

import flax.linen as nn
from jax import Array

from jaxclust.models.layers import Conv, upsample


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
            return nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))

        x = nn.Dense(rows * columns * self.width, use_bias=False)(code)
        x = norm(x).reshape(-1, rows, columns, self.width)
        for level in range(1, doublings):
            # Half the width where the map has its last size but one.
            features = self.width // 2 if level == doublings - 1 else self.width
            x = norm(Conv(features, use_bias=False)(upsample(x)))
        return Conv(channels)(upsample(x))[:, :height, :width]
