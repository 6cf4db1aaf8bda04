"""The published autoencoders by name."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from jaxclust.models.autoencoder import (
    DEEP,
    SHALLOW,
    DenseAutoencoder,
    PooledAutoencoder,
    StridedAutoencoder,
    VariationalAutoencoder,
)
from jaxclust.models.sparse_autoencoder import SparseAutoencoder
from jaxclust.models.what_where import WhatWhereAutoencoder

NETWORKS: dict[str, Callable[[Any, int], nn.Module]] = {
    "shallow": lambda shape, width: PooledAutoencoder(shape, width, SHALLOW),
    "deep": lambda shape, width: PooledAutoencoder(shape, width, DEEP),
    "variational": lambda shape, width: VariationalAutoencoder(shape, width, SHALLOW),
    "strided": lambda shape, width: StridedAutoencoder(shape, width),
    "strided_valid": lambda shape, width: StridedAutoencoder(shape, width, padding="VALID"),
    "dense": lambda shape, width: DenseAutoencoder(shape, width),
    "sparse": lambda shape, width: SparseAutoencoder(shape, width),
    "what_where": lambda shape, width: WhatWhereAutoencoder(shape, (16, width)),
}
