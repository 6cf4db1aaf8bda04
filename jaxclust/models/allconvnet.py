"""DAC's all-convolutional networks (Chang et al. 2017, supplement; the published code).

Blocks of un-padded 3x3 convolutions, each with batch norm and ReLU, with 2x2
max-pools between them, a 1x1 convolution to k channels, an average over what is
left of the map, and two dense layers that start as the identity.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxclust.models.layers import BatchNorm, Conv, max_pool


def identity_init(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """The identity matrix, as an initialiser (Le, Jaitly & Hinton 2015)."""
    del key
    return jnp.eye(shape[0], shape[1], dtype=dtype)


class AllConvNet(nn.Module):
    """Images [b, h, w, c] -> logits [b, n_clusters], before the restraint layer.

    Attributes:
        n_clusters: k, width of the 1x1 convolution, the dense layers and the output.
        blocks: widths of the 3x3 convolutions of each block.
        pool: window of the average pool after the 1x1 convolution.
        normalise_pools: batch norm after every pool too (the MNIST network).
        rectify_output: ReLU on the output (the MNIST network).
    """

    n_clusters: int
    blocks: Sequence[Sequence[int]] = ((64, 64, 64), (128, 128, 128))
    pool: int = 3
    normalise_pools: bool = False
    rectify_output: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        def norm(x: Array) -> Array:
            return BatchNorm(use_running_average=not train)(x)

        def conv(x: Array, width: int, window: int) -> Array:
            init = nn.initializers.he_normal()
            x = Conv(width, (window, window), padding="VALID", use_bias=False, kernel_init=init)(x)
            return nn.relu(norm(x))

        for widths in self.blocks:
            for width in widths:
                x = conv(x, width, 3)
            x = max_pool(x)
            x = norm(x) if self.normalise_pools else x
        x = conv(x, self.n_clusters, 1)
        x = nn.avg_pool(x, (self.pool, self.pool), (self.pool, self.pool))
        x = norm(x) if self.normalise_pools else x
        x = x.reshape(x.shape[0], -1)
        for last in (False, True):
            x = norm(nn.Dense(self.n_clusters, use_bias=False, kernel_init=identity_init)(x))
            x = nn.relu(x) if self.rectify_output or not last else x
        return x


def mnist_network(n_clusters: int) -> AllConvNet:
    """The network for 28x28 images."""
    return AllConvNet(n_clusters, pool=2, normalise_pools=True, rectify_output=True)


def cifar_network_2(n_clusters: int) -> AllConvNet:
    """The second of the two networks for 32x32 images."""
    return AllConvNet(n_clusters)
