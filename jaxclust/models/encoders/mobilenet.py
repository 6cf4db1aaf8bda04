"""MobileNet-v1 (Howard et al. 2017) as Keras builds and names it, without its classifier."""

import flax.linen as nn
from jax import Array

from jaxclust.models.encoders.named_layers import DepthwiseConv, Encoder, coloured
from jaxclust.models.layers import Conv


class MobileNetV1(Encoder):
    """Images [b, h, w, 1 or 3] -> [b, ceil(h / 32), ceil(w / 32), 1024 times the width].

    Attributes:
        width: multiplier of every layer's channels.
    """

    width: float = 1.0

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        def settled(x: Array, name: str) -> Array:
            return self.norm_relu6(x, f"{name}_bn", train)

        widths = (32, 64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)
        first, *others = (int(width * self.width) for width in widths)
        conv = Conv(first, (3, 3), (2, 2), "SAME", use_bias=False, name="conv1")
        x = settled(conv(coloured(x)), "conv1")
        for i, channels in enumerate(others, 1):
            stride = 2 if i in {2, 4, 6, 12} else 1
            x = settled(DepthwiseConv(stride=stride, name=f"conv_dw_{i}")(x), f"conv_dw_{i}")
            x = settled(self.conv(x, f"conv_pw_{i}", channels, 1), f"conv_pw_{i}")
        return x
