"""DERC's settings and their presets."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from jaxclust.clustering.host import mixture, reducers
from jaxclust.core.errors import InputError
from jaxclust.core.settings import setting
from jaxclust.core.types import DataSpec
from jaxclust.images.augment import Affine
from jaxclust.methods.derc.derc_map import Clusterer
from jaxclust.methods.parts import autoencoding

_NARROWEST = 10  # Table II: 10 to 128
_NO_VIEWS = Affine()
Network = Literal[autoencoding.Name, "auto", "none"]


@dataclass(frozen=True)
class Config:
    """DERC's settings; the defaults are preset `best`."""

    starts: int = setting(1, least=1, most=64)
    """Number of starts; one is chosen without labels and trained to the end."""
    epochs: int | None = setting(None, least=0)
    """Epochs of each retraining; default 10, or on a small data set as many as 350 steps need."""
    iterations: int = setting(5, least=0)
    """Rounds of retraining, 1 to 5 in the paper; 0: DERC-R."""
    batch_size: int = setting(256, least=1)
    """Images per step; triplets are formed among them. With many clusters take several times as
    many, or images find no other of their cluster."""
    network: Network = "auto"
    """strided: Table II's with padding; strided_valid: without, as printed; both have 16 filters in
    the first layer, where 2 are printed. dense: DEC's; none: the values themselves are clustered,
    and nothing is trained. auto: strided for images; for features none without retraining, else
    dense."""
    latent_width: int | None = setting(None, least=1)
    """Width of the latent (of what_where, channels of its last maps); default the number of
    clusters (Sec. IV.B), at least 10 (Table II), or without a network the number of values."""
    pretrain_epochs: int | None = setting(None, least=0)
    """Epochs of reconstruction pre-training; default 30, or on a small data set as many as 1000
    steps need."""
    pretrain_views: Affine = _NO_VIEWS
    """Random views that pre-training reconstructs; none by default: they harm aligned images."""
    learning_rate: float = setting(1e-3, above=0)
    """Adam's learning rate, in all phases."""

    reducer: reducers.Reducer = "tsne"
    """How latents are reduced to few dimensions: tsne, tsne_exact (on accelerators), umap, pca or
    none."""
    dimensions: int = setting(2, least=1)
    """Number of dimensions after reduction."""
    neighbours: int = setting(30, least=1)
    """t-SNE's perplexity, UMAP's neighbours."""
    clusterer: Clusterer = "gmm"
    """What clusters the reduced latents; dbscan and hdbscan find their own number of clusters."""
    restarts: int = setting(20, least=1)
    """Starts of the mixture; the likeliest wins."""
    covariance: mixture.Covariance = "full"
    """Covariance of the mixture: full, tied, diag or spherical."""
    eps: float = setting(1.0, above=0)
    """Radius of a DBSCAN neighbourhood, in fiftieths of the reduced latents' standard deviation."""
    min_samples: int = setting(10, least=1)
    """Images that make a neighbourhood dense (DBSCAN, HDBSCAN)."""
    min_cluster_size: int | None = setting(None, least=2)
    """Images of HDBSCAN's smallest cluster; default a hundredth of all, at least 5."""

    alpha: float = setting(0.7, least=0, most=1)
    """Weight of the triplet loss; the reconstruction has 1 - alpha (Eq. 8)."""
    margin: float = setting(1.0, least=0)
    """Margin of the triplet loss."""
    hinge: bool = True
    """Stop pushing triplets apart at the margin; otherwise Eq. 7 as printed."""
    per_pixel: bool = False
    """Average retraining's reconstruction error over an image's values instead of summing."""

    @property
    def finds_number(self) -> bool:
        """Whether it finds the number of clusters itself."""
        return self.clusterer in {"dbscan", "hdbscan"}


PRESETS: dict[str, Config] = {
    "best": Config(),
    "paper": Config(iterations=1),
}
# A start takes as long as pre-training and one map.
WITHOUT_RETRAINING = {
    "best": Config(iterations=0, starts=4),
    "paper": Config(iterations=0),
}


def of_data(config: Config, spec: DataSpec) -> Config:
    """The settings with what depends on the data filled in: the network and the latent's width.

    Raises:
        InputError: retraining without a network.
    """
    network = config.network
    if network == "auto" and len(spec.shape) == 3:
        network = "strided"
    elif network == "auto":
        network = "dense" if config.iterations else "none"
    if network == "none" and config.iterations:
        raise InputError(
            "without a ‹network› there is nothing to retrain; set ‹iterations› 0 (method derc_r), "
            "or set ‹network› dense"
        )
    if network == "none":
        width = math.prod(spec.shape)
    else:
        usual = max(_NARROWEST, spec.n_clusters)
        width = usual if config.latent_width is None else config.latent_width
    return replace(config, network=network, latent_width=width)
