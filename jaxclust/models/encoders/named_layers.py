"""What encoders share: layers that bear the names they have in weight files."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxclust.models.layers import BatchNorm, Conv


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


def coloured(x: Array) -> Array:
    """Grey images as coloured ones: [b, h, w, 1 or 3] -> [b, h, w, 3]."""
    return jnp.repeat(x, 3, axis=-1) if x.shape[-1] == 1 else x
