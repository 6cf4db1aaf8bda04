"""Images as points on a sphere."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxclust.models.layers import BatchNorm, Conv, Dense, Initializer, max_pool

# Maps of this side are pooled, and convolved once more.
_LEAST = 10
_WINDOW = 5


class UnitEmbedding(nn.Module):
    """JULE's network (Yang, Parikh & Batra 2016, Sec. 4.1) -> [b, width], rows of unit length.

    Blocks of a 5x5 convolution with 50 filters, batch norm, ReLU and, for maps of ten pixels or
    more, 2x2 max-pool; then a dense layer. As in the published networks, images of 28 and 32 pixels
    have two blocks, those of 16 one. Images too small for the window are padded.
    """

    width: int = 160
    filters: int = 50
    kernel_init: Initializer = nn.initializers.normal(0.01)  # as published
    axis_name: str | None = None  # over which batch norm takes its statistics too

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Images [b, h, w, c] -> [b, width]."""
        while True:
            padding = "VALID" if min(x.shape[1:3]) > _WINDOW else "SAME"
            window = (_WINDOW, _WINDOW)
            x = Conv(
                self.filters, window, padding=padding, use_bias=False, kernel_init=self.kernel_init
            )(x)
            x = nn.relu(BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x))
            if min(x.shape[1:3]) >= _LEAST:
                x = max_pool(x, padding="SAME")
            if min(x.shape[1:3]) < _LEAST:
                break
        x = Dense(self.width, kernel_init=self.kernel_init)(x.reshape(x.shape[0], -1))
        length = jnp.sqrt(jnp.sum(jnp.square(x), axis=1, keepdims=True) + 1e-12)
        return x / length
