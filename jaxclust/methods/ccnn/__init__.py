"""CCNN: joint clustering and representation learning with feature-drift compensation.

Hsu & Lin 2017, "CNN-Based Joint Clustering and Representation Learning with
Feature Drift Compensation for Large-Scale Image Data". Mini-batch k-means gives
pseudo-labels, the network is fine-tuned on the samples nearest to their
centroids, and centroids move by features tracked back to the network that made
the assignment.
"""

from functools import partial
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
from jaxclust.core import collectives
from jaxclust.core.types import (
    Batch,
    Compute,
    DataSpec,
    Method,
    Phase,
    Prediction,
    PyTree,
    StepInfo,
    TrainState,
    first_state,
)
from jaxclust.images.augment import random_affine
from jaxclust.losses.dec import student_t_assignment
from jaxclust.losses.pseudo_label import sum_of_squared_errors
from jaxclust.methods.ccnn.ccnn_config import PRESETS, Config, check, fit_to_batch, weights_file
from jaxclust.methods.ccnn.ccnn_network import (
    fine_tuning_optimiser,
    fit_output,
    network_body,
    with_backbone,
)
from jaxclust.methods.parts.descent import descend
from jaxclust.methods.parts.pretraining import reconstruction_phase
from jaxclust.models import precision
from jaxclust.models.autoencoder import Coded, Decoder
from jaxclust.models.encoders import pretrained
from jaxclust.models.feature_and_output import CCNN, Outputs
from jaxclust.models.layers import Module

__all__ = [
    "PRESETS",
    "ClusterState",
    "Config",
    "build",
    "fine_tuning_optimiser",
    "network_body",
]


class ClusterState(NamedTuple):
    """CCNN's cluster state."""

    kmeans: kmeans.KMeansState  # centroids [k, d], counts [k]
    buffer: Buffer | None  # trusted samples, room for n_m; None if one batch fills it
    usage: Array  # float [k]: running share of each cluster
    loss: Array  # float []: of the last fine-tuning step


def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008  (a NamedTuple, immutable)
    body: Module | None = None,
) -> Method:
    """CCNN as pure functions.

    Args:
        config: settings; see :data:`PRESETS`.
        spec: size and shape of the data, number of clusters.
        compute: precision of the network's passes, and the devices' axis.
        body: a Flax module (images [b, h, w, c], train) -> [b, m] in place of the
            paper's; it sees the images as they are. The `backbone` features need
            its method `pooled`; its batch norm must know the devices' axis.

    Returns:
        A Method whose phases are `pretrain` (with init=autoencoder) and `cluster`.

    Raises:
        InputError: settings that contradict each other.
    """
    check(config)
    config = fit_to_batch(config, spec.n_images)
    resize, axis_name = None, compute.axis_name
    file = weights_file(config)
    weights = None if file is None else pretrained.load(file)
    if body is None:
        body, resize = network_body(config, spec, axis_name, weights)
    k = spec.n_clusters
    width = config.feature_width or (k if weights is None else None)
    network = CCNN(body, width, k, config.rectify_features, config.normalise_features)
    decoder = Decoder(spec.image_shape, axis_name=axis_name)
    pretrains = config.init == "autoencoder" and config.pretrain_epochs > 0
    pretrainer = optax.adam(config.pretrain_learning_rate)
    tuner = fine_tuning_optimiser(config, spec.n_images)
    apply = partial(precision.apply, precision=compute.precision)

    def prepare(images: Array) -> Array:
        if resize is None or images.shape[1:3] == (resize, resize):
            return images
        shape = (images.shape[0], resize, resize, images.shape[3])
        return jax.image.resize(images, shape, "bilinear")

    def forward(params: PyTree, stats: PyTree, images: Array, key: Array) -> tuple[Outputs, PyTree]:
        """Outputs and new statistics in training mode."""
        return apply(
            network,
            {"params": params, **stats},
            images,
            train=True,
            rngs={"dropout": key},
            mutable=list(stats),
        )

    def extract(params: PyTree, stats: PyTree, images: Array) -> tuple[Array, Array]:
        """What is clustered [b, d] and the output logits [b, k], in inference mode."""
        variables = {"params": params, **stats}
        outputs: Any = apply(network, variables, images, train=False)
        if config.features == "backbone":
            pooled: Any = apply(network, variables, images, train=False, method="backbone_features")
            return pooled, outputs.logits
        return outputs.features, outputs.logits

    def activate(logits: Array) -> Array:
        return jax.nn.softmax(logits) if config.output == "softmax" else jax.nn.relu(logits)

    def reconstruct(
        params: PyTree, model_state: PyTree, images: Array, key: Array
    ) -> tuple[Coded, PyTree]:
        outputs, network_state = forward(
            params["network"], model_state["network"], prepare(images), key
        )
        decoded, decoder_state = apply(
            decoder,
            {"params": params["decoder"], **model_state["decoder"]},
            outputs.code,
            train=True,
            mutable=list(model_state["decoder"]),
        )
        model_state = {"network": network_state, "decoder": decoder_state}
        return Coded(outputs.code, decoded), model_state

    def init(key: Array, images: Array) -> TrainState:
        network_key, decoder_key, run_key = jax.random.split(key, 3)
        images = prepare(images)
        variables = network.init(network_key, images, train=False)
        if weights is not None:
            variables = with_backbone(variables, weights)
        stats = {"network": {c: v for c, v in variables.items() if c != "params"}}
        params = {"network": variables["params"]}
        if pretrains:
            code = jnp.zeros((1, width or k))
            decoding = decoder.init(decoder_key, code, train=False)
            params["decoder"] = decoding["params"]
            stats["decoder"] = {c: v for c, v in decoding.items() if c != "params"}
        wide = jax.eval_shape(extract, params["network"], stats["network"], images)[0].shape[1]
        capacity = config.n_m if config.n_m > config.k_m and config.learning == "joint" else 0
        cluster = ClusterState(
            kmeans=kmeans.KMeansState(jnp.zeros((k, wide)), jnp.zeros(k)),
            buffer=empty_buffer(capacity, images.shape[1:], wide) if capacity else None,
            usage=health.even_usage(k),
            loss=jnp.zeros(()),
        )
        optimiser = pretrainer if pretrains else tuner
        return first_state(
            key=run_key,
            params=params,
            model_state=stats,
            opt_state=optimiser.init(params),
            cluster=cluster,
        )

    def begin(state: TrainState, features: Array) -> TrainState:
        """Seed the centroids, fit the output layer, drop the decoder."""
        seed_key, fit_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        counts = jnp.zeros(k)
        if config.learning == "kmeans" or config.initial_kmeans:
            fit = kmeans.fit(seed_key, features, k, seeding=config.seeding)
            centroids = fit.centroids
            if config.max_count is not None:
                counts = jnp.minimum(fit.sizes, config.max_count)
        else:
            centroids = kmeans.seed(seed_key, features, k, config.seeding)
        params = {"network": dict(state.params["network"])}
        if config.fit_output and config.learning == "joint":
            targets, _ = kmeans.assign(features, centroids)
            params["network"]["output"] = fit_output(
                fit_key, params["network"]["output"], features, targets, activate
            )
        cluster = state.cluster._replace(kmeans=kmeans.KMeansState(centroids, counts))
        return state.replace(
            params=params,
            model_state={"network": state.model_state["network"]},
            opt_state=tuner.init(params),
            cluster=cluster,
        )

    def fine_tune(
        state: TrainState, samples: Samples, key: Array
    ) -> tuple[TrainState, PyTree, dict[str, Array]]:
        """One optimiser step on trusted samples: (state, updates, what to watch).

        The samples are this device's part of them.
        """
        view_key, dropout_key = jax.random.split(key)
        places = collectives.positions(samples.images.shape[0], axis_name)
        views = random_affine(view_key, samples.images, config.views, places)

        def loss_of(params: PyTree) -> tuple[Array, tuple[PyTree, None]]:
            outputs, stats = forward(
                params["network"], state.model_state["network"], views, dropout_key
            )
            outputs = activate(outputs.logits)
            loss = sum_of_squared_errors(outputs, samples.assignments)
            return loss, ({"network": stats}, None)

        done = descend(tuner, loss_of, state, axis_name)
        tuned = done.state.replace(cluster=state.cluster._replace(loss=done.loss))
        return tuned, done.updates, done.norms

    def tracked_features(
        before: TrainState, after: TrainState, updates: PyTree, samples: Samples
    ) -> Array:
        """Features for the centroid update, once the network has moved on (Eq. 14)."""
        params, stats = after.params["network"], after.model_state["network"]
        if config.compensation == "none":
            return extract(params, stats, samples.images)[0]
        if config.rollback_scope == "feature_layer":
            params = rollback(params, updates["network"], layers=("feature",))
            return extract(params, stats, samples.images)[0]
        if config.rollback_path == "fast":
            return samples.features
        params = rollback(params, updates["network"])
        return extract(params, before.model_state["network"], samples.images)[0]

    def move_centroids(state: TrainState, features: Array, assignments: Array) -> TrainState:
        """By this device's features and assignments, and the others'."""
        features, assignments = collectives.gathered((features, assignments), axis_name)
        moved = kmeans.update(
            state.cluster.kmeans, features, assignments, max_count=config.max_count
        )
        return state.replace(cluster=state.cluster._replace(kmeans=moved))

    def cluster_batch(state: TrainState, batch: Batch) -> Samples:
        images = prepare(batch.images)
        h, _ = extract(state.params["network"], state.model_state["network"], images)
        assignments, distances = kmeans.assign(h, state.cluster.kmeans.centroids)
        return Samples(images, h, assignments, distances)

    def finish(state: TrainState, watch: dict[str, Array]) -> StepInfo:
        watch = {**watch, **health.cluster_health(state.cluster.usage)}
        return StepInfo(state.cluster.loss, watch)

    def count(state: TrainState, samples: Samples) -> TrainState:
        assignments = collectives.gathered(samples.assignments, axis_name)
        usage = health.update_usage(state.cluster.usage, assignments)
        return state.replace(step=state.step + 1, cluster=state.cluster._replace(usage=usage))

    def joint_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        key = jax.random.fold_in(state.key, state.step)
        clustered = cluster_batch(state, batch)
        # The trusted samples are the nearest of the whole batch, and known to every device.
        found = (clustered.assignments, clustered.distances)
        assignments, distances = collectives.gathered(found, axis_name)
        if config.balanced:
            chosen = nearest_balanced(assignments, distances, config.k_m)
        else:
            chosen = nearest(distances, config.k_m)
        trusted = jax.tree.map(
            lambda leaf: collectives.rows_of_all(leaf, chosen, axis_name), clustered
        )
        minibatch = config.centroid_update == "minibatch"

        def learn(state: TrainState, ready: Samples) -> tuple[TrainState, dict[str, Array]]:
            own = collectives.own_rows(ready.distances.shape[0], axis_name)
            ready = jax.tree.map(lambda leaf: leaf[own], ready)
            after, updates, norms = fine_tune(state, ready, key)
            movers = clustered if minibatch else ready
            features = tracked_features(state, after, updates, movers)
            return move_centroids(after, features, movers.assignments), norms

        def wait(state: TrainState) -> tuple[TrainState, dict[str, Array]]:
            if minibatch:
                state = move_centroids(state, clustered.features, clustered.assignments)
            return state, {"gradient_norm": jnp.zeros(()), "update_norm": jnp.zeros(())}

        state = count(state, clustered)
        if state.cluster.buffer is None:
            state, watch = learn(state, trusted)
        else:
            buffer = push(state.cluster.buffer, trusted)
            full = buffer.size == config.n_m
            emptied = buffer._replace(size=jnp.where(full, 0, buffer.size))
            state = state.replace(cluster=state.cluster._replace(buffer=emptied))
            state, watch = jax.lax.cond(full, lambda s: learn(s, buffer.samples), wait, state)
            watch["fine_tuned"] = full
        watch["distance"] = jnp.mean(distances)
        return state, finish(state, watch)

    def frozen_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        """Mini-batch k-means on the initial features (Baseline-II)."""
        clustered = cluster_batch(state, batch)
        mean = jnp.mean(clustered.distances)
        loss = 0.5 * collectives.mean_over_devices(mean, axis_name)
        state = move_centroids(count(state, clustered), clustered.features, clustered.assignments)
        state = state.replace(cluster=state.cluster._replace(loss=loss))
        return state, finish(state, {})

    def predict(state: TrainState, images: Array) -> Prediction:
        h, logits = extract(state.params["network"], state.model_state["network"], prepare(images))
        distances = squared_distances(h, state.cluster.kmeans.centroids)
        readings = {"centroid": nearest_column(distances)[0]}
        probabilities = student_t_assignment(distances)
        if config.learning == "joint":
            readings["output"] = jnp.argmax(logits, axis=1).astype(jnp.int32)
            if config.labels == "output":
                probabilities = jax.nn.softmax(logits)
        name = config.labels if config.labels in readings else "centroid"
        return Prediction(readings[name], probabilities, h, readings)

    epochs = 0 if config.learning == "kmeans" else config.epochs
    step = joint_step if config.learning == "joint" else frozen_step
    shared = (max(config.n_m, config.k_m),) if config.learning == "joint" else ()
    # With no epochs to follow, `begin` is the clustering.
    sample = kmeans.seeding_sample(k) if epochs else None
    phases = [
        Phase("cluster", epochs, config.batch_size, step, begin, shared=shared, sample=sample)
    ]
    if pretrains:
        phases.insert(
            0,
            reconstruction_phase(
                reconstruct,
                pretrainer,
                epochs=config.pretrain_epochs,
                batch_size=config.batch_size,
                ranges=config.views,
                axis_name=axis_name,
            ),
        )
    expected = None if weights is None else weights.normalisation(spec.image_shape[2])
    return Method(init, predict, tuple(phases), expected)
