"""A classifier of dense layers."""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
from jax import Array

from jaxclust.models.layers import BatchNorm, Dense, Initializer


class Classified(NamedTuple):
    """What a classifier makes of a batch."""

    logits: Array  # float [b, k]
    hidden: Array  # float [b, m]: its last hidden layer


def _scaled(share: float) -> Initializer:
    """Normal weights with a fraction of LeCun's variance."""
    return nn.initializers.variance_scaling(share, "fan_in", "normal")


class Perceptron(nn.Module):
    """Dense layers with batch norm and ReLU, then logits near zero -> Classified.

    IMSAT's network (Hu et al. 2017, Sec. 4.2), initialised as in the published code: the first
    assignments are nearly even. Its `wscale` of 0.1 and 0.0001 is a factor of the weights'
    variance, as Chainer 1 takes it, not of their size.
    """

    classes: int
    widths: Sequence[int] = (1200, 1200)
    axis_name: str | None = None  # over which batch norm takes its statistics too

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Classified:
        """Images [b, ...] or features [b, d] -> Classified."""
        x = x.reshape(x.shape[0], -1)
        for width in self.widths:
            # Batch norm takes the scale away again; small weights turn faster.
            x = Dense(width, kernel_init=_scaled(0.1))(x)
            x = nn.relu(BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x))
        logits = Dense(self.classes, kernel_init=_scaled(1e-4))(x)
        return Classified(logits, x)
