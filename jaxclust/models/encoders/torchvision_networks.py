"""ImageNet encoders as torchvision builds and names them.

AlexNet (Krizhevsky 2014), VGG-16 (Simonyan & Zisserman 2015) and ResNets (He et al. 2016;
stride in the 3x3 convolution). Classifiers are left out: an encoder ends in its last map.
"""

from collections.abc import Sequence

import flax.linen as nn
from jax import Array

from jaxclust.models.encoders.named_layers import Encoder, coloured
from jaxclust.models.layers import Conv, max_pool


class AlexNet(Encoder):
    """Images [b, h, w, 1 or 3] -> maps of 256 channels; the first convolution has padding 2."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        del train  # no layer depends on it
        first = Conv(64, (11, 11), (4, 4), ((2, 2), (2, 2)), name="features.0")
        x = nn.relu(first(coloured(x)))
        x = max_pool(x, (3, 3), (2, 2))
        x = max_pool(nn.relu(self.conv(x, "features.3", 192, 5, bias=True)), (3, 3), (2, 2))
        for number, width in ((6, 384), (8, 256), (10, 256)):
            x = nn.relu(self.conv(x, f"features.{number}", width, 3, bias=True))
        return max_pool(x, (3, 3), (2, 2))


class VGG16(Encoder):
    """Images [b, h, w, 1 or 3] -> [b, h / 32, w / 32, 512], rounded down."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        del train
        x, number = coloured(x), 0
        for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                x = nn.relu(self.conv(x, f"features.{number}", width, 3, bias=True))
                number += 2
            x, number = max_pool(x), number + 1
        return x


class ResNet(Encoder):
    """Images [b, h, w, 1 or 3] -> [b, ceil(h / 32), ceil(w / 32), 512 or 2048].

    512 channels with basic blocks, 2048 with bottlenecks.

    Attributes:
        depths: blocks of each of the four stages.
        bottleneck: 1x1, 3x3, 1x1 in place of two 3x3 convolutions.
    """

    depths: Sequence[int] = (2, 2, 2, 2)
    bottleneck: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = self.conv(coloured(x), "conv1", 64, 7, 2)
        x = nn.relu(self.norm(x, "bn1", train))
        x = max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, depth in enumerate(self.depths):
            for block in range(depth):
                stride = 2 if stage and not block else 1
                x = self._block(x, f"layer{stage + 1}.{block}", 64 * 2**stage, stride, train)
        return x

    def _block(self, x: Array, name: str, width: int, stride: int, train: bool) -> Array:
        wide = 4 * width if self.bottleneck else width
        # (width, window, stride) of each convolution
        layers = [(width, 3, stride), (width, 3, 1)]
        if self.bottleneck:
            layers = [(width, 1, 1), (width, 3, stride), (wide, 1, 1)]
        y = x
        for i, (channels, window, step) in enumerate(layers, 1):
            y = self.conv(y, f"{name}.conv{i}", channels, window, step)
            y = self.norm(y, f"{name}.bn{i}", train)
            y = nn.relu(y) if i < len(layers) else y
        if stride != 1 or x.shape[-1] != wide:
            x = self.conv(x, f"{name}.downsample.0", wide, 1, stride)
            x = self.norm(x, f"{name}.downsample.1", train)
        return nn.relu(x + y)
