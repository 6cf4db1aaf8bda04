"""DAC's all-convolutional networks (Chang et al. 2017, supplement; the published code).

Blocks of convolutions, each with batch norm and ReLU, with max-pools between them, a
1x1 convolution to k channels, an average over what is left of the map, and two dense layers that
start as the identity.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxclust.models.layers import BatchNorm, Conv, Dense, Padding, max_pool


def identity_init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """The identity matrix [d, k], as an initialiser (Le, Jaitly & Hinton 2015)."""
    del key
    return jnp.eye(shape[0], shape[1], dtype=dtype)


class AllConvNet(nn.Module):
    """Images [b, h, w, c] -> logits [b, n_clusters], before the restraint layer.

    Attributes:
        n_clusters: k, width of the 1x1 convolution, the dense layers and the output.
        blocks: widths of the convolutions of each block.
        windows: side of the convolutions of each block.
        pool: window and stride of the max-pool after each block.
        padding: of the convolutions; SAME where images are too small for VALID.
        normalise_pools: batch norm after every pool too (the MNIST network).
        averaged: of the last maps the average leaves out the last rows and columns, as many as this
            number does not divide; None: none of them.
        rectify_output: ReLU on the output (not for 32x32 images).
        axis_name: mapped axis over which batch norm takes its statistics too.
    """

    n_clusters: int
    blocks: Sequence[Sequence[int]] = ((64, 64, 64), (128, 128, 128))
    windows: Sequence[int] = (3, 3)
    pool: int = 2
    padding: Padding = "VALID"
    normalise_pools: bool = False
    averaged: int | None = None
    rectify_output: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        def norm(x: Array) -> Array:
            return BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x)

        def conv(x: Array, width: int, window: int) -> Array:
            shape, init = (window, window), nn.initializers.he_normal()
            x = Conv(width, shape, padding=self.padding, use_bias=False, kernel_init=init)(x)
            return nn.relu(norm(x))

        for widths, window in zip(self.blocks, self.windows, strict=True):
            for width in widths:
                x = conv(x, width, window)
            x = max_pool(x, (self.pool, self.pool), padding=self.padding)
            x = norm(x) if self.normalise_pools else x
        x = conv(x, self.n_clusters, 1)
        height, width = (self._kept(side) for side in x.shape[1:3])
        x = jnp.mean(x[:, :height, :width], axis=(1, 2))
        x = norm(x) if self.normalise_pools else x
        for last in (False, True):
            x = norm(Dense(self.n_clusters, use_bias=False, kernel_init=identity_init)(x))
            x = nn.relu(x) if self.rectify_output or not last else x
        return x

    def _kept(self, side: int) -> int:
        """Rows or columns of the last maps that are averaged."""
        return side - (side % self.averaged if self.averaged and side > self.averaged else 0)


def mnist_network(n_clusters: int, padding: Padding = "VALID") -> AllConvNet:
    """The network for 28x28 images; smaller ones need padding SAME."""
    return AllConvNet(n_clusters, padding=padding, normalise_pools=True, rectify_output=True)


def cifar_network_1(n_clusters: int) -> AllConvNet:
    """The first of the two networks for 32x32 images.

    Its pool of 4 leaves out the last row and column of 5x5 maps.
    """
    return AllConvNet(n_clusters, blocks=((64, 64), (128, 128)), averaged=4)


def cifar_network_2(n_clusters: int) -> AllConvNet:
    """The second of the two networks for 32x32 images."""
    return AllConvNet(n_clusters)


def stl_network(n_clusters: int) -> AllConvNet:
    """The network for 96x96 images (STL-10, ImageNet-10)."""
    blocks = ((64,) * 3, (128,) * 3, (256,) * 3)
    return AllConvNet(n_clusters, blocks, (3, 3, 3), rectify_output=True)


def dog_network(n_clusters: int) -> AllConvNet:
    """The network for ImageNet-Dog: 5x5 convolutions first, pools of 4."""
    blocks = ((64, 64), (128, 128))
    return AllConvNet(n_clusters, blocks, (5, 3), pool=4, rectify_output=True)


NETWORKS: dict[str, Callable[[int], AllConvNet]] = {
    "mnist": mnist_network,
    "cifar1": cifar_network_1,
    "cifar2": cifar_network_2,
    "stl": stl_network,
    "dog": dog_network,
}


def network_for(image_shape: tuple[int, int, int], n_clusters: int) -> AllConvNet:
    """The published network for images of such a size, by their shorter side.

    Under 32 pixels it is MNIST's, under 28 with SAME padding, since VALID leaves nothing; under 90
    CIFAR's second, else STL-10's.
    """
    side = min(image_shape[:2])
    if side < 28:
        return mnist_network(n_clusters, "SAME")
    if side < 32:
        return mnist_network(n_clusters)
    return cifar_network_2(n_clusters) if side < 90 else stl_network(n_clusters)


def map_side(network: AllConvNet, side: int) -> int:
    """Side of the map that is averaged, given the images' side; 0: nothing is left."""
    for widths, window in zip(network.blocks, network.windows, strict=True):
        if network.padding == "SAME":
            side = -(-side // network.pool)
        else:
            side = max(0, side - len(widths) * (window - 1)) // network.pool
    return side
