"""EfficientNet-Lite (Liu et al. 2020) by the names of its PyTorch package, without classifier.

EfficientNet (Tan & Le 2019) without squeeze-and-excitation, with ReLU6 for swish; stem and head
keep their widths, first and last stage their depths.
"""

import math
from typing import NamedTuple

import flax.linen as nn
from jax import Array

from jaxclust.models.encoders.named_layers import DepthwiseConv, Encoder, coloured
from jaxclust.models.layers import Conv

HEAD = 1280


class Stage(NamedTuple):
    """Blocks of one width, as in the network of width and depth 1."""

    depth: int
    window: int
    stride: int  # of the first block
    width: int
    expansion: int = 6


STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(2, 3, 2, 24),
    Stage(2, 5, 2, 40),
    Stage(3, 3, 2, 80),
    Stage(3, 5, 1, 112),
    Stage(4, 5, 2, 192),
    Stage(1, 3, 1, 320),
)


def scaled(width: int, factor: float) -> int:
    """A width times a factor, as a multiple of 8 that is no more than a tenth lower."""
    near = max(8, int(width * factor + 4) // 8 * 8)
    return near + 8 if near < 0.9 * width * factor else near


def depths(factor: float) -> list[int]:
    """Blocks of each stage."""
    inner = [math.ceil(stage.depth * factor) for stage in STAGES[1:-1]]
    return [STAGES[0].depth, *inner, STAGES[-1].depth]


class EfficientNetLite(Encoder):
    """Images [b, h, w, 1 or 3] -> [b, ceil(h / 32), ceil(w / 32), 1280].

    Attributes:
        width: multiplier of the stages' channels.
        depth: multiplier of the inner stages' blocks.
    """

    width: float = 1.0
    depth: float = 1.0

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = Conv(32, (3, 3), (2, 2), "SAME", use_bias=False, name="_conv_stem")(coloured(x))
        x = self.norm_relu6(x, "_bn0", train)
        number = 0
        for stage, depth in zip(STAGES, depths(self.depth), strict=True):
            for block in range(depth):
                stride = 1 if block else stage.stride
                x = self._block(x, f"_blocks.{number}", stage, stride, train)
                number += 1
        return self.norm_relu6(self.conv(x, "_conv_head", HEAD, 1), "_bn1", train)

    def _block(self, x: Array, name: str, stage: Stage, stride: int, train: bool) -> Array:
        y = x
        if stage.expansion != 1:
            y = self.conv(y, f"{name}._expand_conv", stage.expansion * x.shape[-1], 1)
            y = self.norm_relu6(y, f"{name}._bn0", train)
        y = DepthwiseConv(stage.window, stride, name=f"{name}._depthwise_conv")(y)
        y = self.norm_relu6(y, f"{name}._bn1", train)
        width = scaled(stage.width, self.width)
        y = self.conv(y, f"{name}._project_conv", width, 1)
        y = self.norm(y, f"{name}._bn2", train, epsilon=1e-3)
        return x + y if y.shape == x.shape else y
