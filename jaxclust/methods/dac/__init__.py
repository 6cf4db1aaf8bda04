"""DAC: deep adaptive image clustering (Chang et al. 2017).

Pairs of images are classified as alike or different by the cosine similarity of their
label features, starting with the pairs the network is surest of; thresholds that close
in on each other take in the others epoch by epoch (Algorithm 1).
"""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxclust.clustering import health, thresholds
from jaxclust.clustering.thresholds import ThresholdState
from jaxclust.core import collectives, keys
from jaxclust.core.errors import InputError
from jaxclust.core.types import (
    Batch,
    Batches,
    Compute,
    DataSpec,
    Method,
    Network,
    Phase,
    Prediction,
    PyTree,
    Step,
    StepInfo,
    TrainState,
    first_state,
)
from jaxclust.images.augment import augment, plain
from jaxclust.losses import pairwise
from jaxclust.losses.entropy import assignment_entropy
from jaxclust.methods.dac.dac_config import PRESETS, Config, check, fit_to_set, schedule_of
from jaxclust.methods.parts.gradient import Aux, Context, counted, gradient_step
from jaxclust.methods.parts.recipe import recorded
from jaxclust.models.adapter import as_network, collections
from jaxclust.models.allconvnet import NETWORKS, AllConvNet, map_side, network_for
from jaxclust.models.layers import Module

__all__ = ["PRESETS", "ClusterState", "Config", "build"]


class ClusterState(NamedTuple):
    """DAC's cluster state."""

    thresholds: ThresholdState  # lambda, u and l, each float []
    draw: Array  # float [m, k]: label features of the draw's images before its passes


def _softmax(label_features: Array) -> Array:
    """The softmax from these rows, which are the restraint layer's output."""
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
            f"images of {height}x{width} pixels are too small for ‹network› {config.network}; "
            "use auto"
        )
    return network


def optimiser(config: Config) -> optax.GradientTransformation:
    """RMSprop as in the published code's library: epsilon outside the root."""
    return optax.rmsprop(config.learning_rate, decay=0.9, eps=1e-8, eps_in_sqrt=False)


@dataclass(frozen=True, eq=False)
class _DAC:
    """What DAC's functions share."""

    config: Config
    spec: DataSpec
    network: Network
    axis_name: str | None

    @property
    def batches(self) -> int:
        """Batches per pass over a draw."""
        return self.config.batches_of(self.config.draw_size, self.config.batch_size)

    @property
    def short(self) -> int:
        """Images in a pass's last batch if it is smaller than the others; else 0."""
        return self.config.short_of(self.config.draw_size, self.config.batch_size)

    @property
    def repeats(self) -> int:
        """Updates per draw."""
        return self.config.inner_passes * self.batches * self.config.views_per_batch

    @cached_property
    def update(self) -> Step:
        """One optimiser update on views of a part of the draw; its targets are the extra."""

        def views(key: Array, images: Array, places: Array) -> Array:
            return augment(key, images, self.config.views, places)

        return gradient_step(
            self.loss, optimiser(self.config), views=views, axis_name=self.axis_name
        )

    def label_features(self, state: TrainState, images: Array, *, train: bool = False) -> Array:
        """Label features of plain images [b, h, w, c], by running or batch statistics -> [b, k]."""
        variables = {"params": state.params, **state.model_state}
        images = plain(images, self.config.views.affine)
        key = keys.of(state, "targets") if train else None
        return pairwise.restrain(self.network.apply(variables, images, train=train, key=key)[0])

    def draw_features(self, state: TrainState, images: Array) -> Array:
        """Label features of a draw [m, h, w, c], each batch by its own statistics -> [m, k]."""
        m, size = images.shape[0], self.config.target_batch
        train = self.config.target_statistics == "batch"
        # Batch norm makes a constant of a single image: a last one joins those before it.
        if size is None or not train or m <= size + 1:
            return self.label_features(state, images, train=train)
        left = m % size
        whole = m - left - (size if left == 1 else 0)
        batches = images[:whole].reshape(-1, size, *images.shape[1:])
        features = jax.vmap(lambda batch: self.label_features(state, batch, train=True))(batches)
        found = [features.reshape(whole, -1)]
        if whole < m:
            found.append(self.label_features(state, images[whole:], train=True))
        return jnp.concatenate(found)

    def init(self, key: Array, images: Array) -> TrainState:
        network_key, run_key = keys.pair(key)
        variables = self.network.init(network_key, images)
        m, k = self.config.draw_size, self.spec.n_clusters
        schedule, _ = schedule_of(self.config)
        cluster = ClusterState(thresholds.start(schedule), jnp.zeros((m, k), jnp.float32))
        params = variables["params"]
        stats = collections(variables)
        opt_state = optimiser(self.config).init(params)
        return first_state(run_key, cluster, k, params, stats, opt_state)

    def begin_epoch(self, state: TrainState) -> TrainState:
        """Move the thresholds and, where asked for, forget the optimiser's averages."""
        schedule, epochs = schedule_of(self.config)
        moved = thresholds.advance(schedule, state.cluster.thresholds, epochs)
        state = state.replace(cluster=state.cluster._replace(thresholds=moved))
        if self.config.restart_optimiser:
            state = state.replace(opt_state=optimiser(self.config).init(state.params))
        return state

    def begin_draw(self, state: TrainState, images: Array) -> TrainState:
        """Fix the targets of a new draw; devices share its images where they can."""
        m, config = self.config.draw_size, self.config
        by_batches = config.target_batch is not None and config.target_statistics == "batch"
        shared = self.axis_name is not None and m % jax.lax.axis_size(self.axis_name) == 0
        if shared and not by_batches:
            own = images[collectives.own_rows(m, self.axis_name)]
            part = self.label_features(state, own, train=config.target_statistics == "batch")
            draw = collectives.gathered(part, self.axis_name)
        else:
            draw = self.draw_features(state, images)
        state = counted(state, jnp.argmax(draw, axis=1))
        return state.replace(cluster=state.cluster._replace(draw=draw))

    def loss(self, params: PyTree, at: Context) -> tuple[Array, Aux]:
        """Loss of the whole batch's pairs, against the draw's targets."""
        config, known, cluster = self.config, at.batch.extra, at.state.cluster
        variables = {"params": params, **at.state.model_state}
        logits, stats = self.network.apply(variables, at.batch.images, train=True, key=at.key)
        logits = collectives.gathered(logits, self.axis_name)
        features = pairwise.restrain(logits)
        targets, mask = pairwise.select_pairs(
            pairwise.cosine_similarities(known), cluster.thresholds.upper, cluster.thresholds.lower
        )
        compare = {
            "bce": pairwise.pairwise_bce,
            "squared_error": pairwise.pairwise_squared_error,
            "absolute_error": pairwise.pairwise_absolute_error,
        }[config.loss]
        total = pair_loss = compare(features, targets, mask)
        terms = {"pair_loss": pair_loss, "selected_pairs": jnp.mean(mask)}
        terms["similar_pairs"] = jnp.mean(targets)
        if config.self_label_weight:
            of_features = config.self_label == "label_features"
            seen = features if of_features else jax.nn.softmax(logits)
            then = _softmax(known) if config.self_label == "softmax" else known
            auxiliary = pairwise.self_label_bce(seen, then)
            total += config.self_label_weight * auxiliary
            terms["self_label_loss"] = auxiliary
        if config.entropy_weight:
            terms["entropy"] = assignment_entropy(jax.nn.softmax(logits))
            total += config.entropy_weight * terms["entropy"]
        return total, Aux(stats, terms)

    def update_on(
        self, batch: Batch, order: Array, place: Array, size: int, state: TrainState
    ) -> tuple[TrainState, StepInfo]:
        """An update on the batch at a place in a pass over the draw.

        Args:
            batch: the whole draw.
            order: of the pass, int [m].
            place: int [].
            size: images of the batch; it is filled up from the pass's start.
            state: before the update.
        """
        b, m = self.config.batch_size, self.config.draw_size
        chosen = order[(place * b + jnp.arange(size)) % m]
        own = chosen[collectives.own_rows(size, self.axis_name)]
        known = state.cluster.draw[chosen]
        return self.update(state, Batch(batch.images[own], batch.rows[own], known))

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        """One of the updates that see the same draw; the first fixes its targets."""
        config, m = self.config, self.config.draw_size
        per_epoch = -(-self.spec.n_images // m) * self.repeats
        inner = state.step % self.repeats
        new_epoch = (state.step > 0) & (state.step % per_epoch == 0)
        state = jax.lax.cond(new_epoch, self.begin_epoch, lambda s: s, state)
        state = jax.lax.cond(inner == 0, self.begin_draw, lambda s, _: s, state, batch.images)
        # A pass has an order of its own; views of the same batch follow each other.
        place = inner // config.views_per_batch
        passes = (state.step // self.repeats) * config.inner_passes + place // self.batches
        order = jax.random.permutation(keys.of(state, "order", passes), m)
        last = place % self.batches == self.batches - 1
        full = partial(self.update_on, batch, order, place % self.batches, config.batch_size)
        if self.short:
            short = partial(self.update_on, batch, order, place % self.batches, self.short)
            after, info = jax.lax.cond(last, short, full, state)
        else:
            after, info = full(state)
        at = state.cluster.thresholds
        watch = {**info.watch, "lambda": at.adaptive, "upper": at.upper, "lower": at.lower}
        watch |= spread_of(state.cluster.draw) | health.cluster_health(state.usage)
        return after, info._replace(watch=watch)

    def predict(self, state: TrainState, images: Array) -> Prediction:
        features = self.label_features(state, images)
        assignments = jnp.argmax(features, axis=1).astype(jnp.int32)
        return Prediction(assignments, _softmax(features), features, {"argmax": assignments})


@recorded("dac")
def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008  (a NamedTuple, immutable)
    network: Network | Module | None = None,
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
            the paper's for this image size, or a `Network`; its batch norm must know the
            devices' axis.

    Raises:
        InputError: settings that contradict each other or the images' size.
    """
    check(config)
    config = fit_to_set(config, spec.n_images)
    if network is None:
        network = published_network(config, spec).clone(axis_name=compute.axis_name)
    dac = _DAC(config, spec, as_network(network, compute.precision), compute.axis_name)
    # Every device sees the whole draw and shares each update's batch of it.
    shared = (config.batch_size, dac.short) if dac.short else (config.batch_size,)
    batches = Batches(config.draw_size, dac.repeats, config.draws, "inner", shared)
    phase = Phase("cluster", dac.step, schedule_of(config)[1], batches)
    return Method(dac.init, dac.predict, (phase,))
