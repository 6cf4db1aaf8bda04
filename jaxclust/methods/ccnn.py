"""CCNN: joint clustering and representation learning with feature-drift compensation.

Hsu & Lin 2017, "CNN-Based Joint Clustering and Representation Learning with
Feature Drift Compensation for Large-Scale Image Data". Mini-batch k-means gives
pseudo-labels, the network is fine-tuned on the samples nearest to their
centroids, and centroids move by features tracked back to the network that made
the assignment.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxclust.base import (
    Batch,
    DataSpec,
    Method,
    Phase,
    Prediction,
    PyTree,
    StepInfo,
    TrainState,
)
from jaxclust.clustering import health, kmeans
from jaxclust.clustering.drift import rollback
from jaxclust.clustering.selection import (
    Buffer,
    Samples,
    empty_buffer,
    nearest,
    nearest_balanced,
    push,
)
from jaxclust.data.augment import Affine, random_affine
from jaxclust.errors import InputError
from jaxclust.losses.dec import student_t_assignment
from jaxclust.losses.pseudo_label import sum_of_squared_errors
from jaxclust.methods.pretrain import reconstruction_phase
from jaxclust.models.autoencoder import Decoder
from jaxclust.models.ccnn import (
    CCNN,
    AlexNetBackbone,
    Body,
    DenseHead,
    FlatHead,
    LeNetBackbone,
    Module,
    Outputs,
    SalientHead,
)

# Below this height or width AlexNet's first convolution leaves too little.
_SMALL = 64
_ALEXNET_SIZE = 224
_OUTPUT_FIT_STEPS, _OUTPUT_FIT_BATCH = 500, 512


@dataclass(frozen=True)
class Config:
    """CCNN's settings; the defaults are preset `best`."""

    epochs: int = 20
    """Passes over the data while clustering."""
    batch_size: int = 200
    """Images a mini-batch is clustered in."""
    network: Literal["auto", "lenet", "alexnet", "alexnet_dense"] = "auto"
    """lenet: the paper's Fig. 4; alexnet: Fig. 1, on images resized to 224;
    alexnet_dense: AlexNet's own fully connected head (Table V). auto: lenet under
    64 pixels, alexnet from there."""
    feature_width: int | None = None
    """Width of the feature that is clustered; default the number of clusters."""
    rectify_features: bool = False
    """ReLU on the feature, as in the paper."""
    output: Literal["relu", "softmax"] = "softmax"
    """Non-linearity of the output: relu (Eqs. 4-6) or softmax (Figs. 1 and 3)."""

    init: Literal["autoencoder", "random"] = "autoencoder"
    """The network clustering starts from."""
    pretrain_epochs: int = 20
    """Passes of the autoencoder's reconstruction training."""
    pretrain_learning_rate: float = 1e-3
    """Adam's rate in it."""

    learning: Literal["joint", "minibatch_kmeans", "kmeans"] = "joint"
    """joint: the method. minibatch_kmeans (Baseline-II) and kmeans (Baseline-III)
    cluster the initial network's features and train nothing."""
    features: Literal["feature_layer", "backbone"] = "feature_layer"
    """What the two frozen baselines cluster: the feature layer (FC9) or the
    backbone's map averaged over positions."""
    seeding: kmeans.Seeding = "kmeans++"
    """k-means++ (Sec. III.C) or uniform (Table I)."""
    initial_kmeans: bool = True
    """Run full k-means from the seeds before training."""
    fit_output: bool = True
    """Fit the output layer to the first pseudo-labels before training."""
    normalise_features: bool = True
    """Cluster features of unit length."""

    k_m: int = 160
    """Samples of each mini-batch that are trusted (the paper's top-k_m)."""
    n_m: int = 160
    """Trusted samples a fine-tuning step needs; a multiple of k_m."""
    balanced: bool = True
    """Choose trusted samples in turn from every cluster, not by distance alone."""
    centroid_update: Literal["minibatch", "finetune"] = "minibatch"
    """Move centroids on every mini-batch (Sec. III.C) or only when fine-tuning, by
    the samples fine-tuned on (Table I)."""
    max_count: float | None = 50.0
    """Cap on the counts that set the centroids' learning rate; None is Eq. 12."""

    compensation: Literal["rollback", "none"] = "rollback"
    """Feature-drift compensation (Eqs. 13-14); none is Baseline-I."""
    rollback_scope: Literal["network", "feature_layer"] = "network"
    """Roll back the whole network or the feature layer alone (W_FC9)."""
    rollback_path: Literal["fast", "explicit"] = "fast"
    """For the whole network: reuse the features extracted before the update, or
    subtract the update and extract them again."""

    optimiser: Literal["adam", "sgd"] = "adam"
    """Of fine-tuning; sgd has momentum 0.9."""
    learning_rate: float = 3e-4
    """Of fine-tuning."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How the rate runs over the epochs; cosine ends at zero."""
    dropout: float = 0.5
    """On the wide layers of the AlexNet-size networks."""
    views: Affine = field(default_factory=lambda: Affine(15.0, 0.1, 0.15, 0.2))
    """Random views the networks are trained on; pseudo-labels and centroids always
    come from the plain images."""
    labels: Literal["centroid", "output"] = "output"
    """Reading of the final labels: nearest centroid or largest output."""


PRESETS: dict[str, Config] = {
    "best": Config(),
    "paper": Config(
        epochs=10,
        batch_size=50,
        rectify_features=True,
        output="relu",
        seeding="uniform",
        initial_kmeans=False,
        fit_output=False,
        normalise_features=False,
        k_m=10,
        n_m=50,
        balanced=False,
        centroid_update="finetune",
        max_count=None,
        optimiser="sgd",
        # The paper gives none; this is the usual rate for fine-tuning an AlexNet.
        learning_rate=1e-3,
        schedule="constant",
        views=Affine(),
        labels="centroid",
    ),
}


class ClusterState(NamedTuple):
    """CCNN's cluster state."""

    kmeans: kmeans.KMeansState  # centroids [k, d], counts [k]
    buffer: Buffer | None  # trusted samples, room for n_m; None if one batch fills it
    usage: Array  # float [k]: running share of each cluster
    loss: Array  # float []: of the last fine-tuning step


def check(config: Config) -> None:
    """Raise InputError for settings that contradict each other."""
    if config.features == "backbone" and config.learning == "joint":
        raise InputError(
            "features=backbone is for the frozen baselines; set learning=kmeans or "
            "minibatch_kmeans, or leave features at feature_layer"
        )
    if not config.learning_rate > 0 or not config.pretrain_learning_rate > 0:
        raise InputError("learning rates must be positive; set --learning-rate")
    if not 1 <= config.k_m <= config.batch_size:
        raise InputError(
            f"k_m must lie between 1 and batch_size ({config.batch_size}), not {config.k_m}; "
            "lower --k-m or raise --batch-size"
        )
    if config.n_m < config.k_m or config.n_m % config.k_m:
        raise InputError(
            f"n_m must be a multiple of k_m ({config.k_m}), not {config.n_m}; set --n-m"
        )


def fit_to_batch(config: Config, n_images: int) -> Config:
    """The settings with k_m and n_m scaled down to a set smaller than the batch."""
    if config.batch_size <= n_images:
        return config
    from dataclasses import replace

    k_m = max(1, config.k_m * n_images // config.batch_size)
    return replace(config, batch_size=n_images, k_m=k_m, n_m=k_m * max(1, config.n_m // config.k_m))


def network_body(config: Config, spec: DataSpec) -> tuple[Module, int | None]:
    """The body for a data set, and the side its images are resized to (None: as is)."""
    name = config.network
    if name == "auto":
        name = "lenet" if min(spec.image_shape[:2]) < _SMALL else "alexnet"
    if name == "lenet":
        return Body(LeNetBackbone(), FlatHead()), None
    if name == "alexnet":
        head = SalientHead((6144, 2048, spec.n_clusters), config.dropout)
    else:
        head = DenseHead(dropout=config.dropout)
    return Body(AlexNetBackbone(), head), _ALEXNET_SIZE


def fine_tuning_optimiser(config: Config, n_images: int) -> optax.GradientTransformation:
    """The optimiser of the joint phase, its schedule over the fine-tuning steps."""
    rate: optax.ScalarOrSchedule = config.learning_rate
    if config.schedule == "cosine":
        batches = -(-n_images // config.batch_size) * config.epochs
        steps = batches // (config.n_m // config.k_m)
        rate = optax.cosine_decay_schedule(config.learning_rate, max(steps, 1))
    if config.optimiser == "adam":
        return optax.adam(rate)
    return optax.sgd(rate, momentum=0.9)


def build(config: Config, spec: DataSpec, body: Module | None = None) -> Method:
    """CCNN as pure functions.

    Args:
        config: settings; see :data:`PRESETS`.
        spec: size and shape of the data, number of clusters.
        body: a Flax module (images [b, h, w, c], train) -> [b, m] in place of the
            paper's; it sees the images as they are. The `backbone` features need
            its method `pooled`.

    Returns:
        A Method whose phases are `pretrain` (with init=autoencoder) and `cluster`.

    Raises:
        InputError: settings that contradict each other.
    """
    check(config)
    config = fit_to_batch(config, spec.n_images)
    resize = None
    if body is None:
        body, resize = network_body(config, spec)
    k = spec.n_clusters
    network = CCNN(
        body, config.feature_width or k, k, config.rectify_features, config.normalise_features
    )
    decoder = Decoder(spec.image_shape)
    pretrains = config.init == "autoencoder" and config.pretrain_epochs > 0
    pretrainer = optax.adam(config.pretrain_learning_rate)
    tuner = fine_tuning_optimiser(config, spec.n_images)

    def prepare(images: Array) -> Array:
        if resize is None or images.shape[1:3] == (resize, resize):
            return images
        shape = (images.shape[0], resize, resize, images.shape[3])
        return jax.image.resize(images, shape, "bilinear")

    def forward(params: PyTree, stats: PyTree, images: Array, key: Array) -> tuple[Outputs, PyTree]:
        """Outputs and new statistics in training mode."""
        return network.apply(
            {"params": params, **stats},
            images,
            train=True,
            rngs={"dropout": key},
            mutable=list(stats),
        )

    def extract(params: PyTree, stats: PyTree, images: Array) -> tuple[Array, Array]:
        """What is clustered [b, d] and the output logits [b, k], in inference mode."""
        variables = {"params": params, **stats}
        outputs: Any = network.apply(variables, images, train=False)
        if config.features == "backbone":
            pooled: Any = network.apply(variables, images, train=False, method="backbone_features")
            return pooled, outputs.logits
        return outputs.features, outputs.logits

    def activate(logits: Array) -> Array:
        return jax.nn.softmax(logits) if config.output == "softmax" else jax.nn.relu(logits)

    def reconstruct(
        params: PyTree, model_state: PyTree, images: Array, key: Array
    ) -> tuple[Array, PyTree]:
        outputs, network_state = forward(
            params["network"], model_state["network"], prepare(images), key
        )
        decoded, decoder_state = decoder.apply(
            {"params": params["decoder"], **model_state["decoder"]},
            outputs.code,
            train=True,
            mutable=list(model_state["decoder"]),
        )
        return decoded, {"network": network_state, "decoder": decoder_state}

    def init(key: Array, images: Array) -> TrainState:
        network_key, decoder_key, run_key = jax.random.split(key, 3)
        images = prepare(images)
        variables = network.init(network_key, images, train=False)
        stats = {"network": {c: v for c, v in variables.items() if c != "params"}}
        params = {"network": variables["params"]}
        if pretrains:
            code = jnp.zeros((1, network.feature_width))
            decoding = decoder.init(decoder_key, code, train=False)
            params["decoder"] = decoding["params"]
            stats["decoder"] = {c: v for c, v in decoding.items() if c != "params"}
        width = jax.eval_shape(extract, params["network"], stats["network"], images)[0].shape[1]
        capacity = config.n_m if config.n_m > config.k_m and config.learning == "joint" else 0
        cluster = ClusterState(
            kmeans=kmeans.KMeansState(jnp.zeros((k, width)), jnp.zeros(k)),
            buffer=empty_buffer(capacity, images.shape[1:], width) if capacity else None,
            usage=health.even_usage(k),
            loss=jnp.zeros(()),
        )
        optimiser = pretrainer if pretrains else tuner
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            key=run_key,
            params=params,
            model_state=stats,
            opt_state=optimiser.init(params),
            cluster=cluster,
        )

    def fit_output(key: Array, layer: PyTree, features: Array, targets: Array) -> PyTree:
        """The output layer trained alone to give `targets` from fixed features."""
        adam = optax.adam(1e-2)

        def one(carry: tuple[PyTree, PyTree], key: Array) -> tuple[tuple[PyTree, PyTree], None]:
            layer, opt_state = carry
            rows = jax.random.randint(key, (_OUTPUT_FIT_BATCH,), 0, features.shape[0])

            def loss_of(layer: PyTree) -> Array:
                logits = features[rows] @ layer["kernel"] + layer["bias"][None]
                return sum_of_squared_errors(activate(logits), targets[rows])

            updates, opt_state = adam.update(jax.grad(loss_of)(layer), opt_state)
            return (optax.apply_updates(layer, updates), opt_state), None

        keys = jax.random.split(key, _OUTPUT_FIT_STEPS)
        return jax.lax.scan(one, (layer, adam.init(layer)), keys)[0][0]

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
                fit_key, params["network"]["output"], features, targets
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
        """One optimiser step on trusted samples: (state, updates, what to watch)."""
        view_key, dropout_key = jax.random.split(key)
        views = random_affine(view_key, samples.images, config.views)

        def loss_of(params: PyTree) -> tuple[Array, PyTree]:
            outputs, stats = forward(
                params["network"], state.model_state["network"], views, dropout_key
            )
            outputs = activate(outputs.logits)
            return sum_of_squared_errors(outputs, samples.assignments), stats

        (loss, stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = tuner.update(gradients, state.opt_state, state.params)
        tuned = state.replace(
            params=optax.apply_updates(state.params, updates),
            model_state={"network": stats},
            opt_state=opt_state,
            cluster=state.cluster._replace(loss=loss),
        )
        norms = {
            "gradient_norm": optax.tree.norm(gradients),
            "update_norm": optax.tree.norm(updates),
        }
        return tuned, updates, norms

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
        moved = kmeans.update(
            state.cluster.kmeans, features, assignments, max_count=config.max_count
        )
        return state.replace(cluster=state.cluster._replace(kmeans=moved))

    def cluster_batch(state: TrainState, batch: Batch) -> Samples:
        images = prepare(batch.images)
        h, _ = extract(state.params["network"], state.model_state["network"], images)
        assignments, distances = kmeans.assign(h, state.cluster.kmeans.centroids)
        return Samples(images, h, assignments, distances)

    def finish(state: TrainState, samples: Samples, watch: dict[str, Array]) -> StepInfo:
        watch = {**watch, **health.cluster_health(state.cluster.usage)}
        return StepInfo(state.cluster.loss, watch)

    def count(state: TrainState, samples: Samples) -> TrainState:
        usage = health.update_usage(state.cluster.usage, samples.assignments)
        return state.replace(step=state.step + 1, cluster=state.cluster._replace(usage=usage))

    def joint_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        key = jax.random.fold_in(state.key, state.step)
        clustered = cluster_batch(state, batch)
        distances = clustered.distances
        if config.balanced:
            chosen = nearest_balanced(clustered.assignments, distances, config.k_m)
        else:
            chosen = nearest(distances, config.k_m)
        trusted = jax.tree.map(lambda leaf: leaf[chosen], clustered)
        minibatch = config.centroid_update == "minibatch"

        def learn(state: TrainState, ready: Samples) -> tuple[TrainState, dict[str, Array]]:
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
        return state, finish(state, clustered, watch)

    def frozen_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        """Mini-batch k-means on the initial features (Baseline-II)."""
        clustered = cluster_batch(state, batch)
        loss = 0.5 * jnp.mean(clustered.distances)
        state = move_centroids(count(state, clustered), clustered.features, clustered.assignments)
        state = state.replace(cluster=state.cluster._replace(loss=loss))
        return state, finish(state, clustered, {})

    def predict(state: TrainState, images: Array) -> Prediction:
        h, logits = extract(state.params["network"], state.model_state["network"], prepare(images))
        distances = kmeans.squared_distances(h, state.cluster.kmeans.centroids)
        readings = {"centroid": jnp.argmin(distances, axis=1).astype(jnp.int32)}
        probabilities = student_t_assignment(distances)
        if config.learning == "joint":
            readings["output"] = jnp.argmax(logits, axis=1).astype(jnp.int32)
            if config.labels == "output":
                probabilities = jax.nn.softmax(logits)
        name = config.labels if config.labels in readings else "centroid"
        return Prediction(readings[name], probabilities, h, readings)

    epochs = 0 if config.learning == "kmeans" else config.epochs
    step = joint_step if config.learning == "joint" else frozen_step
    phases = [Phase("cluster", epochs, config.batch_size, step, begin)]
    if pretrains:
        phases.insert(
            0,
            reconstruction_phase(
                reconstruct,
                pretrainer,
                epochs=config.pretrain_epochs,
                batch_size=config.batch_size,
                ranges=config.views,
            ),
        )
    return Method(init, predict, tuple(phases))
