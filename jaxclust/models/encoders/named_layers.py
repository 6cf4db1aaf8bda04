"""What encoders share: layers named as they are in weight files."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxclust.models import dtypes
from jaxclust.models._cpu.depthwise import depthwise_conv2d
from jaxclust.models.layers import BatchNorm, Conv


class DepthwiseConv(nn.Module):
    """Square convolution of each channel by itself; parameter `kernel` [window, window, c].

    With stride 2, even sides are padded more after the map than before it.
    """

    window: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x[n, h, w, c] -> [n, ceil(h / stride), ceil(w / stride), c]."""
        shape = (self.window, self.window, x.shape[-1])
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, dtypes.PARAMETERS)
        x, kernel = dtypes.alike(x, kernel)
        return depthwise_conv2d(x, kernel, self.stride)


class Encoder(nn.Module):
    """Float images [b, h, w, 1 or 3] -> the last map [b, h', w', c], of their dtype.

    Attributes:
        axis_name: mapped axis over which batch norm takes its statistics too.
    """

    axis_name: str | None = None

    def conv(
        self, x: Array, name: str, width: int, window: int, stride: int = 1, bias: bool = False
    ) -> Array:
        """A square convolution by that name, padded by half its window."""
        edge = (window // 2, window // 2)
        size, strides = (window, window), (stride, stride)
        return Conv(width, size, strides, (edge, edge), use_bias=bias, name=name)(x)

    def norm(self, x: Array, name: str, train: bool, epsilon: float = 1e-5) -> Array:
        """Batch norm by that name."""
        layer = BatchNorm(epsilon=epsilon, axis_name=self.axis_name, name=name)
        return layer(x, use_running_average=not train)

    def norm_relu6(self, x: Array, name: str, train: bool) -> Array:
        """Batch norm by that name, of TensorFlow's epsilon, then ReLU6."""
        return jnp.clip(self.norm(x, name, train, epsilon=1e-3), 0, 6)


def coloured(x: Array) -> Array:
    """Grey images as coloured ones: [b, h, w, 1 or 3] -> [b, h, w, 3]."""
    return jnp.repeat(x, 3, axis=-1) if x.shape[-1] == 1 else x
