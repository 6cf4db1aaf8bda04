"""DAC: deep adaptive image clustering (Chang et al. 2017).

Pairs of images are classified as alike or different by the cosine similarity of their
label features, starting with the pairs the network is surest of; thresholds that close
in on each other take in the others epoch by epoch (Algorithm 1).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxclust.clustering import health, thresholds
from jaxclust.clustering.thresholds import ThresholdState
from jaxclust.core import collectives
from jaxclust.core.errors import InputError
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
from jaxclust.images.augment import augment
from jaxclust.losses import pairwise
from jaxclust.methods.dac.dac_config import PRESETS, Config, check, fit_to_set, schedule_of
from jaxclust.methods.parts.descent import descend
from jaxclust.models import precision
from jaxclust.models.allconvnet import NETWORKS, AllConvNet, map_side, network_for
from jaxclust.models.layers import Module

__all__ = ["PRESETS", "ClusterState", "Config", "build"]


class ClusterState(NamedTuple):
    """DAC's cluster state."""

    thresholds: ThresholdState  # lambda, u and l, each float []
    draw: Array  # float [m, k]: label features of the draw's images before its passes
    usage: Array  # float [k]: running share of each cluster


def _softmax(label_features: Array) -> Array:
    """The softmax whose restraint layer's output these rows are."""
    return label_features / jnp.sum(label_features, axis=-1, keepdims=True)


def spread_of(label_features: Array) -> dict[str, Array]:
    """Shares of the entries of [m, k] in four intervals (the paper's Fig. 4).

    Label features of a finished clustering are near 0 or 1.
    """
    return {
        f"entries_{low}_to_{high}": jnp.mean((label_features >= low) & (label_features < top))
        for low, high, top in ((0, 0.1, 0.1), (0.1, 0.5, 0.5), (0.5, 0.9, 0.9), (0.9, 1, jnp.inf))
    }


def published_network(config: Config, spec: DataSpec) -> AllConvNet:
    """The network the settings name for a data set; InputError for images too small."""
    if config.network == "auto":
        return network_for(spec.image_shape, spec.n_clusters)
    network = NETWORKS[config.network](spec.n_clusters)
    height, width, _ = spec.image_shape
    if not map_side(network, min(height, width)):
        raise InputError(
            f"images of {height}x{width} pixels are too small for network {config.network}; "
            "use --network auto"
        )
    return network


def optimiser(config: Config) -> optax.GradientTransformation:
    """RMSprop as the published code's library has it: epsilon outside the root."""
    return optax.rmsprop(config.learning_rate, decay=0.9, eps=1e-8, eps_in_sqrt=False)


def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008  (a NamedTuple, immutable)
    network: Module | None = None,
) -> Method:
    """DAC as pure functions.

    A step is one optimiser update; `repeats` of them see the same draw of m images.
    The first of them computes the label features that fix the draw's targets.

    With `compute.axis_name`, every device is given the whole draw and trains on its part
    of each batch; the pairs span all parts.

    Args:
        config: settings; see :data:`PRESETS`.
        spec: size and shape of the data, number of clusters.
        compute: precision of the network's passes, and the devices' axis.
        network: a Flax module (images [b, h, w, c], train) -> logits [b, k] in place of
            the paper's for this image size; its batch norm must know the devices' axis.

    Raises:
        InputError: settings that contradict each other or the images' size.
    """
    check(config)
    config = fit_to_set(config, spec.n_images)
    k, m, b = spec.n_clusters, config.draw_size, config.batch_size
    axis_name = compute.axis_name
    if network is None:
        network = published_network(config, spec).clone(axis_name=axis_name)
    apply = partial(precision.apply, network, precision=compute.precision)
    schedule, epochs = schedule_of(config)
    rmsprop = optimiser(config)
    batches = -(-m // b)
    repeats = config.inner_passes * batches * config.views_per_batch
    per_epoch = -(-spec.n_images // m) * repeats

    def label_features(state: TrainState, images: Array) -> Array:
        """Of plain images, by running statistics."""
        logits: Any = apply({"params": state.params, **state.model_state}, images, train=False)
        return pairwise.restrain(logits)

    def targets_of(state: TrainState, images: Array) -> Array:
        """Label features [m, k] of the draw's plain images."""
        if config.target_statistics == "running":
            return label_features(state, images)
        variables = {"params": state.params, **state.model_state}
        logits, _ = apply(variables, images, train=True, mutable=list(state.model_state))
        return pairwise.restrain(logits)

    def init(key: Array, images: Array) -> TrainState:
        network_key, run_key = jax.random.split(key)
        variables = network.init(network_key, images, train=False)
        params = variables["params"]
        return first_state(
            key=run_key,
            params=params,
            model_state={name: value for name, value in variables.items() if name != "params"},
            opt_state=rmsprop.init(params),
            cluster=ClusterState(
                thresholds.start(schedule), jnp.zeros((m, k)), health.even_usage(k)
            ),
        )

    def begin_epoch(state: TrainState) -> TrainState:
        """Move the thresholds and, where asked for, forget the optimiser's averages."""
        moved = thresholds.advance(schedule, state.cluster.thresholds)
        state = state.replace(cluster=state.cluster._replace(thresholds=moved))
        if config.restart_optimiser:
            state = state.replace(opt_state=rmsprop.init(state.params))
        return state

    def begin_draw(state: TrainState, images: Array) -> TrainState:
        """Fix the targets of a new draw, whose images devices share where they can."""
        if axis_name is not None and m % jax.lax.axis_size(axis_name) == 0:
            part = targets_of(state, images[collectives.own_rows(m, axis_name)])
            draw = collectives.gathered(part, axis_name)
        else:
            draw = targets_of(state, images)
        assignments = jnp.argmax(draw, axis=1)
        usage = health.update_usage(state.cluster.usage, assignments)
        return state.replace(cluster=state.cluster._replace(draw=draw, usage=usage))

    def loss_of(
        params: PyTree, state: TrainState, views: Array, known: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        stats = state.model_state
        logits, stats = apply({"params": params, **stats}, views, train=True, mutable=list(stats))
        logits = collectives.gathered(logits, axis_name)
        features = pairwise.restrain(logits)
        at = state.cluster.thresholds
        targets, mask = pairwise.select_pairs(
            pairwise.cosine_similarities(known), at.upper, at.lower
        )
        compare = {
            "bce": pairwise.pairwise_bce,
            "squared_error": pairwise.pairwise_squared_error,
        }[config.loss]
        pair_loss = compare(features, targets, mask)
        watch = {"pair_loss": pair_loss, "selected_pairs": jnp.mean(mask)}
        watch["similar_pairs"] = jnp.mean(targets)
        total = pair_loss
        if config.self_label_weight:
            if config.self_label == "softmax":
                auxiliary = pairwise.self_label_bce(jax.nn.softmax(logits), _softmax(known))
            else:
                auxiliary = pairwise.self_label_bce(features, known)
            total += config.self_label_weight * auxiliary
            watch["self_label_loss"] = auxiliary
        return total, (stats, watch)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        inner = state.step % repeats
        new_epoch = (state.step > 0) & (state.step % per_epoch == 0)
        state = jax.lax.cond(new_epoch, begin_epoch, lambda s: s, state)
        state = jax.lax.cond(inner == 0, begin_draw, lambda s, _: s, state, batch.images)
        # A pass has an order of its own; views of the same batch follow each other.
        place = inner // config.views_per_batch
        passes = (state.step // repeats) * config.inner_passes + place // batches
        order_key, view_key = jax.random.split(state.key)
        order = jax.random.permutation(jax.random.fold_in(order_key, passes), m)
        # The last batch of a pass is filled up from its start.
        chosen = order[(place % batches * b + jnp.arange(b)) % m]
        own = collectives.own_rows(b, axis_name)
        views = augment(
            jax.random.fold_in(view_key, state.step), batch.images[chosen[own]], config.views, own
        )
        known = state.cluster.draw[chosen]
        done = descend(
            rmsprop, lambda params: loss_of(params, state, views, known), state, axis_name
        )
        at = state.cluster.thresholds
        watch = {**done.aux, "lambda": at.adaptive, "upper": at.upper, "lower": at.lower}
        watch |= done.norms
        watch |= spread_of(state.cluster.draw)
        watch |= health.cluster_health(state.cluster.usage)
        return done.state.replace(step=state.step + 1), StepInfo(done.loss, watch)

    def predict(state: TrainState, images: Array) -> Prediction:
        features = label_features(state, images)
        assignments = jnp.argmax(features, axis=1).astype(jnp.int32)
        return Prediction(assignments, _softmax(features), features, {"argmax": assignments})

    # Every device sees the whole draw and shares each update's batch of it.
    phase = Phase("cluster", epochs, m, step, repeats=repeats, whole_batch=True, shared=(b,))
    return Method(init, predict, (phase,))
