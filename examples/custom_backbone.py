"""CCNN around your own network: any Flax module (images, train) -> vectors.

    python examples/custom_backbone.py

Convolution and batch norm come from `jaxclust.models.layers`, which stay fast inside compiled
loops on CPU; Flax's own layers work too.
"""

import argparse
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxclust import metrics
from jaxclust.data import catalogue
from jaxclust.images.normalisation import measure
from jaxclust.methods import ccnn
from jaxclust.models.layers import BatchNorm, Conv
from jaxclust.training import loop, placement
from jaxclust.training.prediction import predictor


class Residual(nn.Module):
    """A stem, two residual blocks, the mean over positions."""

    width: int = 32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """images [b, h, w, c] -> [b, width]."""
        x = Conv(self.width, (3, 3), strides=(2, 2))(images)
        for _ in range(2):
            y = nn.relu(BatchNorm()(x, not train))
            y = Conv(self.width, (3, 3), use_bias=False)(y)
            y = nn.relu(BatchNorm()(y, not train))
            x += Conv(self.width, (3, 3))(y)
        return jnp.mean(nn.relu(x), axis=(1, 2))


def main() -> None:
    """Cluster scikit-learn's digits and print the agreement with their labels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--limit", type=int, default=1797)
    given = parser.parse_args()
    digits = catalogue.load("digits", catalogue.default_data_dir(), limit=given.limit)
    data = placement.put(digits.images, measure(digits.images))
    config = replace(ccnn.PRESETS["best"], epochs=given.epochs, pretrain_epochs=given.epochs)
    method = ccnn.build(config, placement.spec_of(data, n_clusters=10), body=Residual())
    fitted = loop.fit(method, data, seed=0)
    clusters = predictor(method, data)(fitted.state).assignments
    print({name: round(value, 3) for name, value in metrics.score(digits.labels, clusters).items()})


if __name__ == "__main__":
    main()
