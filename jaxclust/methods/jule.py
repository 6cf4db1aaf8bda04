"""JULE: joint unsupervised learning of representations and clusters (Yang et al. 2016).

Yang, Parikh & Batra 2016, "Joint Unsupervised Learning of Deep Representations and Image
Clusters". Clusters are merged bottom-up, a fraction of them at a time. Between two merges, a
network is trained on triplets of the current clusters, and the next merge uses its features.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxclust.clustering import kmeans
from jaxclust.clustering.host.degree_linkage import degree_linkage
from jaxclust.clustering.host.graph_merging import Graph, nearest_pairs, neighbour_graph
from jaxclust.core import collectives, keys, settings
from jaxclust.core.errors import InputError
from jaxclust.core.settings import setting
from jaxclust.core.types import (
    Batches,
    Compute,
    DataSpec,
    Method,
    Network,
    Phase,
    Prediction,
    PyTree,
    Refit,
    Step,
    TrainState,
    first_state,
)
from jaxclust.losses.triplet import batch_triplet
from jaxclust.methods.classical import at_unit_length
from jaxclust.methods.parts.gradient import Aux, Context, gradient_step
from jaxclust.methods.parts.recipe import recorded
from jaxclust.models.adapter import as_network, collections
from jaxclust.models.layers import Module
from jaxclust.models.unit_embedding import UnitEmbedding

_MOST = 100_000  # images whose first clusters are merged one by one
# With more clusters than this for each wanted in the end, those without affinity are merged first,
# as in the published code.
_MANY = 20


@dataclass(frozen=True)
class Config:
    """JULE's settings; the defaults are preset `best`."""

    starts: int = setting(1, least=1, most=64)
    """Number of starts; one is chosen without labels and trained to the end."""
    epochs: int = setting(20, least=0)
    """Epochs after each merge."""
    batch_size: int = setting(100, least=2, most=500)
    """Images per step; triplets are formed among all of them, in memory that grows as its cube."""
    unrolling: float = setting(0.9, above=0, most=1)
    """Fraction of the clusters merged at a time (eta); the paper uses 0.2 for faces."""
    neighbours: int = setting(20, least=1)
    """Neighbours of each image in the graph (K_s)."""
    local: int = setting(5, least=1)
    """Number of nearest clusters that a pair's affinity should stand out from (K_c)."""
    margin: float = setting(0.2, least=0)
    """Margin of the triplets."""
    learning_rate: float = setting(0.01, above=0)
    """Learning rate of gradient descent with momentum 0.9; decays as (1 + step / 10,000)^-0.75."""
    dampening: float = setting(0.9, least=0, most=0.99)
    """Fraction of each gradient that momentum leaves out, as in the published code; 0 leaves out
    nothing."""
    weight_decay: float = setting(5e-5, least=0)
    """Weight decay, of all weights."""
    outlier_share: float = setting(0.1, least=0, most=0.5)
    """In the end, clusters of fewer images than this share of the mean are outliers, which join the
    nearest cluster; 0: there are none, as in the published code."""
    recluster: bool = False
    """Cluster the final features again from scratch (the paper's RC)."""


_PUBLISHED = Config(outlier_share=0.0)
PRESETS = {
    "best": Config(),
    "paper": replace(_PUBLISHED, dampening=0.0),
    "reference": _PUBLISHED,
    "faces": replace(_PUBLISHED, unrolling=0.2),
}


class ClusterState(NamedTuple):
    """What has been merged."""

    labels: Array  # int32 [n]: the current clusters, possibly thousands
    cut: Array  # int32 [n]: the same, merged down to k
    features: Array  # float [n, d]: of the images, when last merged
    left: Array  # int32 []: number of current clusters


def periods(config: Config, spec: DataSpec) -> int:
    """Merges until k clusters are left of the most there can be at first, half the images."""
    left, count = max(spec.n_images // 2, 1), 0
    while left > spec.n_clusters:
        left -= min(math.ceil(left * config.unrolling), left - spec.n_clusters)
        count += 1
    return count


def _descent(config: Config) -> optax.GradientTransformation:
    def rate(step: Any) -> Any:
        return config.learning_rate * (1 + 1e-4 * step) ** -0.75

    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.scale(1 - config.dampening),
        optax.sgd(rate, momentum=0.9),
    )


@dataclass(frozen=True, eq=False)
class _JULE:
    config: Config
    spec: DataSpec
    network: Network  # images -> [b, d], of unit length
    width: int
    sgd: optax.GradientTransformation
    axis_name: str | None

    def init(self, key: Array, images: Array) -> TrainState:
        network_key, run_key = keys.pair(key)
        variables = self.network.init(network_key, images)
        stats = collections(variables)
        blank = jnp.zeros(self.spec.n_images, jnp.int32)
        features = jnp.zeros((self.spec.n_images, self.width), jnp.float32)
        cluster = ClusterState(blank, blank, features, jnp.zeros((), jnp.int32))
        opt_state = self.sgd.init(variables["params"])
        k = self.spec.n_clusters
        return first_state(run_key, cluster, k, variables["params"], stats, opt_state)

    def _graph(self, features: np.ndarray) -> Graph:
        return neighbour_graph(features, self.config.neighbours)

    def _merged(
        self,
        state: TrainState,
        features: np.ndarray,
        graph: Graph,
        labels: np.ndarray,
        down_to: int,
    ) -> TrainState:
        """The state with labels merged down to `down_to` clusters, and from there to k."""
        config, k = self.config, self.spec.n_clusters
        how = (config.neighbours, config.local, graph, _MANY * k)
        if down_to > k:
            labels = degree_linkage(features, labels, down_to, *how)
        cut = degree_linkage(features, labels, k, *how, config.outlier_share)
        labels = labels if down_to > k else cut
        usage = (np.bincount(cut, minlength=k)[:k] / len(cut)).astype(np.float32)
        cluster = state.cluster._replace(
            labels=jnp.asarray(labels, jnp.int32),
            cut=jnp.asarray(cut),
            left=jnp.asarray(len(np.unique(labels)), jnp.int32),
        )
        return state.replace(cluster=cluster, usage=jnp.asarray(usage))

    @staticmethod
    def _kept(state: TrainState, features: np.ndarray) -> TrainState:
        """The state with the features that new images are compared with."""
        return state.replace(cluster=state.cluster._replace(features=jnp.asarray(features)))

    def begin(self, state: TrainState, images: np.ndarray) -> TrainState:
        """The first clusters: each image joined to its nearest one, by their values."""
        values = at_unit_length(images, self.spec)
        graph = self._graph(values)
        labels = nearest_pairs(graph.nearest)
        return self._merged(state, values, graph, labels, len(labels))

    def merge(self, state: TrainState, features: np.ndarray) -> TrainState:
        """Merge a fraction of the clusters, by the network's features."""
        labels = np.asarray(state.cluster.labels)
        count, k = len(np.unique(labels)), self.spec.n_clusters
        merged = max(0, min(math.ceil(count * self.config.unrolling), count - k))
        return self._kept(
            self._merged(state, features, self._graph(features), labels, count - merged), features
        )

    def finish(self, state: TrainState, features: np.ndarray) -> TrainState:
        """Merge all that are left; with RC, start again from the first clusters."""
        graph, labels = self._graph(features), np.asarray(state.cluster.labels)
        if self.config.recluster:
            labels = nearest_pairs(graph.nearest)
        return self._kept(
            self._merged(state, features, graph, labels, self.spec.n_clusters), features
        )

    def loss(self, params: PyTree, at: Context) -> tuple[Array, Aux]:
        variables = {"params": params, **at.state.model_state}
        z, stats = self.network.apply(variables, at.batch.images, train=True, key=at.key)
        z = collectives.gathered(z, self.axis_name)
        labels = at.state.cluster.labels[collectives.gathered(at.batch.rows, self.axis_name)]
        triplet = batch_triplet(z, labels, self.config.margin)
        return triplet, Aux(stats, {"triplet": triplet}, at.state.cluster.cut[at.batch.rows])

    def predict(self, state: TrainState, images: Array) -> Prediction:
        variables = {"params": state.params, **state.model_state}
        z, _ = self.network.apply(variables, images, train=False)
        neighbour, _ = kmeans.assign(z, jnp.asarray(state.cluster.features))
        assignments = jnp.asarray(state.cluster.cut)[neighbour].astype(jnp.int32)
        sure = jnp.equal(assignments[:, None], jnp.arange(self.spec.n_clusters)[None])
        return Prediction(assignments, sure.astype(jnp.float32), z, {"merged": assignments})

    def phases(self, step: Step) -> tuple[Phase, ...]:
        """Merging and training in turn; training moves features away from those merged.

        Clusters merged down to k are not trained on: as published, that is the end.
        """
        count, batches = periods(self.config, self.spec), Batches(self.config.batch_size)
        first, merging = Refit(self.begin, "host", sees="images"), Refit(self.merge, "host")
        training = Phase(
            "train0",
            step,
            self.config.epochs,
            batches,
            first,
            until=lambda state: state.cluster.left <= self.spec.n_clusters,
            scored="never",
        )
        # Before the first merge no image's features are kept, so there is nothing to score by.
        after = training._replace(first=merging, scored="first")
        more = (after._replace(name=f"train{i + 1}") for i in range(count))
        return (training, *more, Phase("merge", None, 0, batches, Refit(self.finish, "host")))


@recorded("jule")
def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008
    network: Network | Module | None = None,
    width: int = 160,
) -> Method:
    """JULE on images; new images get the cluster of the nearest one by features.

    Args:
        config: settings; see :data:`PRESETS`.
        spec: size and shape of the data, number of clusters.
        compute: precision of the network's passes, and the devices' axis.
        network: a Flax module (images, train) -> [b, width] of unit length in place of the paper's,
            or a `Network`; its batch norm must know the devices' axis.
        width: of the network's output.

    Raises:
        InputError: invalid settings, features in place of images, or more images than can be merged
            one by one.
    """
    settings.check(config)
    if spec.n_images > _MOST:
        raise InputError(
            f"{spec.n_images:,} images are more than jule merges one by one ({_MOST:,}); take "
            f"fewer (‹limit› {_MOST})"
        )
    if network is None:
        if min(spec.image_shape[:2]) < 2:
            raise InputError("jule needs images of at least two pixels a side")
        network = UnitEmbedding(width, axis_name=compute.axis_name)
    net = as_network(network, compute.precision)
    jule = _JULE(config, spec, net, width, _descent(config), compute.axis_name)
    step = gradient_step(jule.loss, jule.sgd, axis_name=compute.axis_name)
    return Method(jule.init, jule.predict, jule.phases(step))
