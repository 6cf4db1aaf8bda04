"""CCNN: joint clustering and representation learning with feature-drift compensation.

Hsu & Lin 2017, "CNN-Based Joint Clustering and Representation Learning with
Feature Drift Compensation for Large-Scale Image Data". Mini-batch k-means gives
pseudo-labels, the network is fine-tuned on the samples nearest to their
centroids, and centroids move by features tracked back to the network that made
the assignment.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxclust.clustering import health, kmeans
from jaxclust.clustering.distances import nearest_column, squared_distances
from jaxclust.clustering.drift import rollback
from jaxclust.clustering.selection import (
    Buffer,
    Samples,
    empty_buffer,
    nearest,
    nearest_balanced,
    push,
)
from jaxclust.core import collectives, keys
from jaxclust.core.types import (
    Batch,
    Batches,
    Compute,
    DataSpec,
    Method,
    Network,
    Phase,
    Prediction,
    Refit,
    StepInfo,
    TrainState,
    first_state,
)
from jaxclust.losses.dec import student_t_assignment
from jaxclust.methods.ccnn.ccnn_config import (
    PRESETS,
    Config,
    check,
    fit_to_batch,
    weights_file,
)
from jaxclust.methods.ccnn.ccnn_network import (
    fine_tuning_optimiser,
    fit_output,
    network_body,
    networks_for,
)
from jaxclust.methods.ccnn.ccnn_tuning import Tuning
from jaxclust.methods.parts.gradient import counted, no_update
from jaxclust.methods.parts.pretraining import reconstruction_phase
from jaxclust.methods.parts.recipe import recorded
from jaxclust.models.encoders import pretrained
from jaxclust.models.layers import Module

__all__ = [
    "PRESETS",
    "ClusterState",
    "Config",
    "build",
    "fine_tuning_optimiser",
    "network_body",
    "rollback",
]


class ClusterState(NamedTuple):
    """CCNN's cluster state."""

    kmeans: kmeans.KMeansState  # centroids [k, d], counts [k]
    buffer: Buffer | None  # trusted samples, room for n_m; None if one batch fills it
    loss: Array  # float []: of the last fine-tuning step


class _CCNN(Tuning):
    """What CCNN's functions share."""

    def init(self, key: Array, images: Array) -> TrainState:
        config, k = self.config, self.spec.n_clusters
        network_key, decoder_key, run_key = jax.random.split(key, 3)
        images = self.networks.prepare(images)
        params, stats = self.networks.first(network_key, images)
        params, stats = {"network": params}, {"network": stats}
        wide = jax.eval_shape(self.extract, params["network"], stats["network"], images)[0].shape[1]
        if self.pretrains:
            code = jnp.zeros((1, self.networks.code_width), jnp.float32)
            decoding = self.networks.decoder.init(decoder_key, code)
            params["decoder"] = decoding["params"]
            stats["decoder"] = {c: v for c, v in decoding.items() if c != "params"}
        capacity = config.n_m if config.n_m > config.k_m and config.learning == "joint" else 0
        cluster = ClusterState(
            kmeans.KMeansState(jnp.zeros((k, wide), jnp.float32), jnp.zeros(k, jnp.float32)),
            empty_buffer(capacity, images.shape[1:], wide) if capacity else None,
            jnp.zeros((), jnp.float32),
        )
        optimiser = fine_tuning_optimiser(config, self.spec.n_images)
        if self.pretrains:
            optimiser = optax.adam(config.pretrain_learning_rate)
        return first_state(run_key, cluster, k, params, stats, optimiser.init(params))

    @property
    def pretrains(self) -> bool:
        return self.config.init == "autoencoder" and self.config.pretrain_epochs > 0

    def begin(self, state: TrainState, features: Array) -> TrainState:
        """Seed the centroids, fit the output layer, drop the decoder."""
        config, k = self.config, self.spec.n_clusters
        counts = jnp.zeros(k, jnp.float32)
        if config.learning == "kmeans" or config.initial_kmeans:
            fit = kmeans.fit(keys.of(state, "seeding"), features, k, seeding=config.seeding)
            centroids, counts = fit.centroids, fit.sizes
            if config.max_count is not None:
                counts = jnp.minimum(counts, config.max_count)
        else:
            centroids = kmeans.seed(keys.of(state, "seeding"), features, k, config.seeding)
        params = {"network": dict(state.params["network"])}
        if config.fit_output and config.learning == "joint":
            targets, _ = kmeans.assign(features, centroids)
            layer, key = params["network"]["output"], keys.of(state, "output layer")
            fitted = fit_output(key, layer, features, targets, self.activate)
            params["network"]["output"] = fitted
        state = state.replace(
            params=params,
            model_state={"network": state.model_state["network"]},
            opt_state=fine_tuning_optimiser(config, self.spec.n_images).init(params),
            cluster=state.cluster._replace(kmeans=kmeans.KMeansState(centroids, counts)),
        )
        return state.replace(last=no_update(state)) if self.keeps_updates else state

    def move_centroids(self, state: TrainState, features: Array, assignments: Array) -> TrainState:
        """Move the centroids by the features and assignments of all devices."""
        features, assignments = collectives.gathered((features, assignments), self.axis_name)
        moved = kmeans.update(
            state.cluster.kmeans, features, assignments, max_count=self.config.max_count
        )
        return state.replace(cluster=state.cluster._replace(kmeans=moved))

    def cluster_batch(self, state: TrainState, batch: Batch) -> Samples:
        images = self.networks.prepare(batch.images)
        h, _ = self.extract(state.params["network"], state.model_state["network"], images)
        assignments, distances = kmeans.assign(h, state.cluster.kmeans.centroids)
        return Samples(images, h, assignments, distances)

    def trusted(self, clustered: Samples) -> tuple[Samples, Array]:
        """The nearest samples of the whole batch, on every device, and all distances."""
        config = self.config
        found = (clustered.assignments, clustered.distances)
        assignments, distances = collectives.gathered(found, self.axis_name)
        if config.balanced:
            chosen = nearest_balanced(assignments, distances, config.k_m)
        else:
            chosen = nearest(distances, config.k_m)
        samples = jax.tree.map(
            lambda leaf: collectives.rows_of_all(leaf, chosen, self.axis_name), clustered
        )
        return samples, distances

    def learn(
        self, state: TrainState, ready: Samples, clustered: Samples
    ) -> tuple[TrainState, dict[str, Array]]:
        """Fine-tune on the samples that are ready, then move the centroids."""
        own = collectives.own_rows(ready.distances.shape[0], self.axis_name)
        ready = jax.tree.map(lambda leaf: leaf[own], ready)
        after, info = self.tune(state, Batch(ready.images, own, ready.assignments))
        after = after.replace(cluster=after.cluster._replace(loss=info.loss))
        movers = clustered if self.config.centroid_update == "minibatch" else ready
        features = self.tracked_features(after, movers)
        return self.move_centroids(after, features, movers.assignments), info.watch

    def wait(self, state: TrainState, clustered: Samples) -> tuple[TrainState, dict[str, Array]]:
        """A step without fine-tuning, for lack of trusted samples."""
        if self.config.centroid_update == "minibatch":
            state = self.move_centroids(state, clustered.features, clustered.assignments)
        none = jnp.zeros((), clustered.distances.dtype)
        state = state.replace(step=state.step + 1)
        return state, {"gradient_norm": none, "update_norm": none}

    def joint_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        clustered = self.cluster_batch(state, batch)
        samples, distances = self.trusted(clustered)
        state = counted(state, clustered.assignments, self.axis_name)
        if state.cluster.buffer is None:
            state, watch = self.learn(state, samples, clustered)
        else:
            buffer = push(state.cluster.buffer, samples)
            full = buffer.size == self.config.n_m
            emptied = buffer._replace(size=jnp.where(full, 0, buffer.size))
            state = state.replace(cluster=state.cluster._replace(buffer=emptied))
            state, watch = jax.lax.cond(
                full,
                lambda s: self.learn(s, buffer.samples, clustered),
                lambda s: self.wait(s, clustered),
                state,
            )
            watch["fine_tuned"] = full
        watch |= {"distance": jnp.mean(distances), **health.cluster_health(state.usage)}
        return state, StepInfo(state.cluster.loss, watch)

    def frozen_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        """Mini-batch k-means on the initial features (Baseline-II)."""
        clustered = self.cluster_batch(state, batch)
        mean = jnp.mean(clustered.distances)
        loss = 0.5 * collectives.mean_over_devices(mean, self.axis_name)
        state = counted(state, clustered.assignments, self.axis_name)
        state = self.move_centroids(state, clustered.features, clustered.assignments)
        cluster = state.cluster._replace(loss=loss)
        state = state.replace(step=state.step + 1, cluster=cluster)
        return state, StepInfo(loss, health.cluster_health(state.usage))

    def predict(self, state: TrainState, images: Array) -> Prediction:
        images = self.networks.prepare(images)
        h, logits = self.extract(state.params["network"], state.model_state["network"], images)
        distances = squared_distances(h, state.cluster.kmeans.centroids)
        readings = {"centroid": nearest_column(distances)[0]}
        probabilities = student_t_assignment(distances)
        if self.config.learning == "joint":
            readings["output"] = jnp.argmax(logits, axis=1).astype(jnp.int32)
            if self.config.labels == "output":
                probabilities = jax.nn.softmax(logits)
        name = self.config.labels if self.config.labels in readings else "centroid"
        return Prediction(readings[name], probabilities, h, readings)

    def phases(self) -> tuple[Phase, ...]:
        config = self.config
        joint = config.learning == "joint"
        epochs = 0 if config.learning == "kmeans" else config.epochs
        # With no epochs to follow, the first refit is the clustering.
        rows = kmeans.seeding_sample(self.spec.n_clusters) if epochs else None
        cluster = Phase(
            "cluster",
            self.joint_step if joint else self.frozen_step,
            epochs,
            Batches(config.batch_size, shared=(max(config.n_m, config.k_m),) if joint else ()),
            first=Refit(self.begin, rows=rows),
        )
        if not self.pretrains:
            return (cluster,)
        pretrain = reconstruction_phase(
            self.networks.reconstruct,
            optax.adam(config.pretrain_learning_rate),
            epochs=config.pretrain_epochs,
            batch_size=config.batch_size,
            ranges=config.views,
            axis_name=self.axis_name,
        )
        return (pretrain, cluster)


def _artifacts(state: TrainState) -> dict[str, Any]:
    return {"centroids": state.cluster.kmeans.centroids}


def weights_of(config: Config) -> dict[str, Any]:
    """Contents of the file that `config.init` names, as an argument of :func:`build`."""
    file = weights_file(config)
    return {} if file is None else {"weights": pretrained.load(file)}


@recorded("ccnn", weights_of, {"weights"})
def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008  (a NamedTuple, immutable)
    body: Module | Network | None = None,
    weights: pretrained.Pretrained | None = None,
) -> Method:
    """CCNN as pure functions.

    Args:
        config: settings; see :data:`PRESETS`.
        spec: size and shape of the data, number of clusters.
        compute: precision of the network's passes, and the devices' axis.
        body: a Flax module (images [b, h, w, c], train) -> [b, m] in place of the
            paper's, or a `Network` of that kind; it sees the images as they are. The
            `backbone` features need a module's method `pooled`; its batch norm must know
            the devices' axis.
        weights: contents of the file that `config.init` names; None: it is read now.

    Returns:
        A Method whose phases are `pretrain` (with init=autoencoder) and `cluster`.

    Raises:
        InputError: settings that contradict each other.
    """
    check(config)
    config = fit_to_batch(config, spec.n_images)
    weights = weights or weights_of(config).get("weights")
    networks = networks_for(config, spec, compute, body, weights)
    ccnn = _CCNN(config, spec, networks, compute.axis_name)
    expected = None if weights is None else weights.normalisation(spec.image_shape[2])
    return Method(ccnn.init, ccnn.predict, ccnn.phases(), _artifacts, expected)
