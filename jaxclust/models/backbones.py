"""CCNN's networks (Hsu & Lin 2017, Figs. 1 and 4).

Every network is a body that ends in one vector an image, a feature layer (the
paper's FC9) and an output layer. The layer names `body`, `feature` and `output`
are those the method rolls back or fits alone.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxclust.models.layers import BatchNorm, Conv, Dropout, max_pool


def _conv_block(
    x: Array,
    width: int,
    window: tuple[int, int],
    train: bool,
    axis_name: str | None,
    strides: tuple[int, int] = (1, 1),
) -> Array:
    """Convolution without bias, batch norm, ReLU."""
    x = Conv(width, window, strides, use_bias=False)(x)
    return nn.relu(BatchNorm(use_running_average=not train, axis_name=axis_name)(x))


class LeNetBackbone(nn.Module):
    """The small network's convolutions: 5x5, pool, 5x5, pool; SAME padding.

    images [b, h, w, c] -> [b, ceil(h/4), ceil(w/4), widths[-1]].
    """

    widths: Sequence[int] = (64, 128)
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        for width in self.widths:
            x = max_pool(_conv_block(x, width, (5, 5), train, self.axis_name), padding="SAME")
        return x


class AlexNetBackbone(nn.Module):
    """AlexNet's conv1-5 with batch norm and local response normalisation.

    images [b, 224, 224, c] -> [b, 6, 6, 256].
    """

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        block = partial(_conv_block, train=train, axis_name=self.axis_name)
        pool = partial(max_pool, window=(3, 3), strides=(2, 2))
        x = pool(local_response(block(x, 96, (11, 11), strides=(4, 4))))
        x = pool(local_response(block(x, 256, (5, 5))))
        for width in (384, 384, 256):
            x = block(x, width, (3, 3))
        return pool(x)


def local_response(x: Array, radius: int = 2) -> Array:
    """x / (2 + 1e-4 * sum of squares over 2*radius+1 neighbouring channels)^0.75.

    Krizhevsky et al. 2012, Sec. 3.3, x [b, h, w, c].
    """
    squares = jnp.pad(jnp.square(x), [(0, 0)] * 3 + [(radius, radius)])
    channels = x.shape[-1]
    total = sum(squares[..., i : i + channels] for i in range(2 * radius + 1))
    return x / (2 + 1e-4 * total) ** 0.75


class FlatHead(nn.Module):
    """The small network's head: flatten, dense, batch norm, ReLU -> [b, width]."""

    width: int = 128
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = nn.Dense(self.width, use_bias=False)(x.reshape(x.shape[0], -1))
        return nn.relu(BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x))


class SalientHead(nn.Module):
    """CCNN's head: three 3x3 convolutions, then each channel's maximum -> [b, widths[-1]].

    The last width is the number of clusters. Dropout acts on the wide ones.
    """

    widths: Sequence[int]
    dropout: float = 0.5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        for width in self.widths[:-1]:
            x = _conv_block(x, width, (3, 3), train, self.axis_name)
            x = Dropout(self.dropout, self.axis_name)(x, train)
        x = _conv_block(x, self.widths[-1], (3, 3), train, self.axis_name)
        return jnp.max(x, axis=(1, 2))


class DenseHead(nn.Module):
    """AlexNet's own head, fc6 and fc7, for the paper's Table V -> [b, width]."""

    width: int = 4096
    dropout: float = 0.5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = x.reshape(x.shape[0], -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width)(x))
            x = Dropout(self.dropout, self.axis_name)(x, train)
        return x


class PooledHead(nn.Module):
    """The map's mean over its positions -> [b, channels]."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        del train
        return jnp.mean(x, axis=(1, 2))


class Body(nn.Module):
    """A backbone [b, h, w, c] -> map and a head map -> vector; both replaceable.

    Attributes:
        backbone: any module (images, train) -> [b, h', w', c].
        head: any module (map, train) -> [b, m].
        frozen_statistics: the backbone's batch norm keeps to its stored statistics in
            training too.
    """

    backbone: nn.Module
    head: nn.Module
    frozen_statistics: bool = False

    def __call__(self, x: Array, train: bool) -> Array:
        return self.head(self.backbone(x, train and not self.frozen_statistics), train)

    def pooled(self, x: Array, train: bool) -> Array:
        """The backbone's map averaged over its positions -> [b, channels]."""
        return jnp.mean(self.backbone(x, train), axis=(1, 2))


class Passed(nn.Module):
    """A body that was computed elsewhere: what it is given [b, m] is its vector."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        del train
        return x


class Outputs(NamedTuple):
    """What the network says of a batch."""

    code: Array  # float [b, d]: the feature layer's output, as an autoencoder codes it
    features: Array  # float [b, d]: the same, of unit length where asked for
    logits: Array  # float [b, k]: the output layer before its non-linearity


class CCNN(nn.Module):
    """Body, feature layer and output layer.

    Attributes:
        body: any module (images, train) -> [b, m].
        feature_width: width of the feature h; None: the body's output is the feature.
        n_clusters: width of the output.
        rectify: apply ReLU to the feature, as the paper does.
        unit: scale the feature to unit length, for clusters and output layer.
    """

    body: nn.Module
    feature_width: int | None
    n_clusters: int
    rectify: bool = True
    unit: bool = False

    def setup(self) -> None:
        self.feature = lambda x: x
        if self.feature_width is not None:
            self.feature = nn.Dense(self.feature_width)
        self.output = nn.Dense(self.n_clusters)

    def __call__(self, x: Array, train: bool) -> Outputs:
        """images [b, h, w, c] -> Outputs."""
        code = self.feature(self.body(x, train))
        code = nn.relu(code) if self.rectify else code
        features = unit_length(code) if self.unit else code
        return Outputs(code, features, self.output(features))

    def backbone_features(self, x: Array, train: bool) -> Array:
        """Pooled backbone features [b, channels]; the body must be a `Body`."""
        pooled = self.body.pooled(x, train)  # pyright: ignore[reportAttributeAccessIssue]
        return unit_length(pooled) if self.unit else pooled


def unit_length(x: Array) -> Array:
    """Rows of x [b, d] divided by their Euclidean length; zero rows stay zero."""
    squares = jnp.sum(jnp.square(x), axis=1, keepdims=True)
    # Inside the root, so that the gradient at zero is finite.
    return x * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))
