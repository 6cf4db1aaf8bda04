"""NMF that follows the nearest-neighbour graph (Cai, He, Wang, Bao & Han 2009).

Cai, He, Wang, Bao & Han 2009, "Locality Preserving Nonnegative Matrix Factorization", with the
squared error of Cai, He, Han & Huang 2011, "Graph Regularized Nonnegative Matrix Factorization".
"""

from dataclasses import dataclass

import numpy as np

from jaxclust.clustering.host import graph_factors
from jaxclust.core.settings import setting
from jaxclust.core.types import Compute, DataSpec, Method
from jaxclust.methods import classical
from jaxclust.methods.parts.recipe import recorded


@dataclass(frozen=True)
class Config(classical.Config):
    """Graph-regularised NMF's settings; the defaults are the published ones."""

    neighbours: int = setting(5, least=1)
    """Neighbours of each image."""
    weight: float = setting(100.0, least=0)
    """Weight of the graph's term (lambda)."""
    max_iterations: int = setting(300, least=1)
    """Number of updates."""


PRESETS = {"best": Config(), "paper": Config()}


@recorded("graph_nmf")
def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008
) -> Method:
    """Graph-regularised NMF; new images get their nearest neighbour's cluster.

    Raises:
        InputError: more images than fit, or images too small for the features.
    """
    del compute

    def assign(x: np.ndarray, seed: int) -> np.ndarray:
        if len(spec.shape) == 1:
            x = x - x.min(axis=0)  # features may be negative
        x = classical.at_unit_length(x, spec)
        how = (config.neighbours, config.weight, config.max_iterations)
        return graph_factors.graph_nmf(x, spec.n_clusters, seed, *how)

    return classical.in_one_go(config, spec, 100_000, classical.by_neighbour(spec, assign))
