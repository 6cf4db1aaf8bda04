"""AC-PIC: agglomeration by path integrals on the nearest-neighbour graph (Zhang et al. 2013).

Zhang, Zhao & Wang 2013, "Agglomerative clustering via maximum incremental path integral".
"""

from dataclasses import dataclass

import numpy as np

from jaxclust.clustering.host import graph_merging
from jaxclust.core.settings import setting
from jaxclust.core.types import Compute, DataSpec, Method
from jaxclust.methods import classical
from jaxclust.methods.parts.recipe import recorded


@dataclass(frozen=True)
class Config(classical.Config):
    """AC-PIC's settings; the defaults are preset `best`."""

    neighbours: int = setting(20, least=1)
    """Neighbours of each image (K)."""
    scale: float = setting(1.0, above=0)
    """sigma^2 of the edge weights, as a multiple of the mean squared edge length (a)."""
    z: float = setting(0.01, above=0, most=0.99)
    """Factor by which each further step discounts a path."""
    outlier_share: float = setting(0.1, least=0, most=0.5)
    """Clusters of fewer images than this share of the mean are outliers, which join the nearest
    cluster; 0: there are none, as published."""
    unit_length: bool = True
    """Shift the darkest value to zero and scale images to unit length before comparing them."""


PRESETS = {"best": Config(), "paper": Config(outlier_share=0.0)}


@recorded("ac_pic")
def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008
) -> Method:
    """Agglomeration by path integrals; new images get their nearest neighbour's cluster.

    Raises:
        InputError: more images than fit, or images too small for the features.
    """
    del compute

    def assign(x: np.ndarray, seed: int) -> np.ndarray:
        del seed  # nothing is drawn
        x = classical.at_unit_length(x, spec) if config.unit_length else x
        how = (config.neighbours, config.scale, config.z, config.outlier_share)
        return graph_merging.path_integral(x, spec.n_clusters, *how)

    return classical.in_one_go(config, spec, 100_000, classical.by_neighbour(spec, assign))
