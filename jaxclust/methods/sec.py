"""SEC: spectral embedded clustering (Nie, Zeng, Tsang, Xu & Zhang 2011)."""

from dataclasses import dataclass

import numpy as np

from jaxclust.clustering.host import graph_factors
from jaxclust.core.settings import setting
from jaxclust.core.types import Compute, DataSpec, Method
from jaxclust.methods import classical
from jaxclust.methods.parts.recipe import recorded


@dataclass(frozen=True)
class Config(classical.Config):
    """SEC's settings. The paper picks both weights by labels, from a grid."""

    neighbours: int = setting(10, least=1)
    """Neighbours of each image."""
    fit: float = setting(0.01, least=0)
    """Weight of the linear map's error, relative to the graph (mu); 0: spectral clustering."""
    ridge: float = setting(1.0, above=0)
    """Penalty on the map's weights (gamma)."""


PRESETS = {"best": Config(), "paper": Config(fit=1.0)}


@recorded("sec")
def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008
) -> Method:
    """Spectral embedded clustering; new images get their nearest neighbour's cluster.

    Raises:
        InputError: more images than fit, or images too small for the features.
    """
    del compute

    def assign(x: np.ndarray, seed: int) -> np.ndarray:
        x = classical.at_unit_length(x, spec)
        how = (config.neighbours, config.fit, config.ridge)
        return graph_factors.spectral_embedded(x, spec.n_clusters, seed, *how)

    return classical.in_one_go(config, spec, 100_000, classical.by_neighbour(spec, assign))
