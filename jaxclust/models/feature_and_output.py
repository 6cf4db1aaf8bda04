"""CCNN's network around any backbone and head (Hsu & Lin 2017, Figs. 1 and 4).

Every network is a body that ends in one vector per image, a feature layer (the
paper's FC9) and an output layer. The layer names `body`, `feature` and `output`
are those the method rolls back or fits alone.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxclust.models.layers import Dense


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
    """A body that was computed elsewhere: its input [b, m] is its vector."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        del train
        return x


class Outputs(NamedTuple):
    """What the network says about a batch."""

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
            self.feature = Dense(self.feature_width)
        self.output = Dense(self.n_clusters)

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
