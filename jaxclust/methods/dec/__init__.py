"""Clustering an autoencoder's latents by their own sharpened assignments.

DEC (Xie, Girshick & Farhadi 2016) moves latents and centroids towards a target
distribution made of the assignments themselves; IDEC (Guo et al. 2017) keeps the decoder
as a regulariser. Without training, the same parts give the two-stage baselines: k-means on the
latents of a plain, denoising or variational autoencoder. ICS (ics.py) adds terms.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from jaxclust.clustering import health, kmeans
from jaxclust.clustering.distances import squared_distances
from jaxclust.core import keys, settings
from jaxclust.core.types import (
    Batches,
    Compute,
    DataSpec,
    Method,
    Phase,
    Prediction,
    PyTree,
    Refit,
    TrainState,
    first_state,
)
from jaxclust.images.augment import Affine, Augmentation, augment, plain
from jaxclust.losses.dec import kl_divergence, student_t_assignment, target_distribution
from jaxclust.losses.reconstruction import reconstruction_error
from jaxclust.methods.dec.dec_config import DIGIT_VIEWS, PRESETS, Config, without_views
from jaxclust.methods.parts import autoencoding
from jaxclust.methods.parts.autoencoding import Autoencoder
from jaxclust.methods.parts.gradient import Aux, Context, Views, gradient_step
from jaxclust.methods.parts.pretraining import USUAL, epochs_or, reconstruction_phase
from jaxclust.methods.parts.recipe import recorded
from jaxclust.models.layers import Module

__all__ = ["DIGIT_VIEWS", "PRESETS", "ClusterState", "Config", "build"]


class ClusterState(NamedTuple):
    """The cluster state; the centroids are trained and are in the params."""

    targets: Array  # float [n, k]: p of every image
    assignments: Array  # int32 [n]: when p was last computed
    changed: Array  # float []: share of them that changed then


class Pass(NamedTuple):
    """What a further loss term may use."""

    at: Context
    params: PyTree  # what the loss is a function of
    latent: Array  # float [b, d]: of the batch, in training mode
    q: Array  # float [b, k]
    model_state: PyTree  # after the batch's pass


# By name, (weight, value) of each.
Weighed = dict[str, tuple[float, Array]]
# pass -> (its terms, model_state after what the terms themselves passed)
Terms = Callable[[Pass], tuple[Weighed, PyTree]]


def assign(params: PyTree, latent: Array) -> Array:
    """Student-t assignments q [b, k] of latents [b, d] to the params' centroids."""
    return student_t_assignment(squared_distances(latent, params["centroids"]))


def retarget(state: TrainState, latents: Array, power: float | Array = 2.0) -> TrainState:
    """p of every image from its current assignments, sharpened by a power; latents [n, d]."""
    q = assign(state.params, latents)
    assignments = jnp.argmax(q, axis=1).astype(jnp.int32)
    changed = health.churn(assignments, state.cluster.assignments)
    targets = target_distribution(q, power)
    return state.replace(cluster=ClusterState(targets, assignments, changed))


def _sharpening(config: Config, spec: DataSpec, before: int) -> Callable[..., TrainState]:
    """:func:`retarget` with a power that changes linearly over the phase's steps.

    Args:
        config: settings.
        spec: of the data.
        before: steps that pre-training takes.
    """
    first, last = config.power
    if first == last == 2:
        return retarget
    total = max(config.epochs * -(-spec.n_images // min(config.batch_size, spec.n_images)), 1)

    def update(state: TrainState, latents: Array) -> TrainState:
        done = jnp.clip((state.step - before) / total, 0, 1)
        return retarget(state, latents, first + (last - first) * done)

    return update


def _init(config: Config, spec: DataSpec, auto: Autoencoder) -> Callable[..., TrainState]:
    n, k = spec.n_images, spec.n_clusters

    def init(key: Array, images: Array) -> TrainState:
        network_key, run_key = keys.pair(key)
        weights, stats = auto.first(network_key, images)
        none = jnp.zeros((k, auto.width(weights, stats, images)), jnp.float32)
        params = {"network": weights, "centroids": none}
        cluster = ClusterState(
            targets=jnp.full((n, k), 1 / k, jnp.float32),
            assignments=jnp.zeros(n, jnp.int32),
            changed=jnp.ones((), jnp.float32),
        )
        opt_state = optax.adam(config.learning_rate).init(params)
        return first_state(run_key, cluster, k, params, stats, opt_state)

    return init


def _begin(
    config: Config, spec: DataSpec, auto: Autoencoder, retarget: Callable[..., TrainState]
) -> Callable[..., TrainState]:
    def begin(state: TrainState, latents: Array) -> TrainState:
        """Centroids by k-means, the first targets and a fresh optimiser state.

        The decoder is dropped if nothing is decoded any more.
        """
        fit = kmeans.fit(keys.of(state, "seeding"), latents, spec.n_clusters)
        weights, stats = state.params["network"], state.model_state
        if not config.reconstruction_weight:
            # An unused decoder would still cost the optimiser as much as the encoder does.
            weights, stats = auto.encoder_alone(weights, stats, spec.shape)
        params = {"network": weights, "centroids": fit.centroids}
        opt_state = optax.adam(config.learning_rate).init(params)
        state = state.replace(params=params, model_state=stats, opt_state=opt_state)
        state = retarget(state, latents)
        # Nothing has changed yet, and that is no reason to stop.
        return state.replace(cluster=state.cluster._replace(changed=jnp.ones((), jnp.float32)))

    return begin


def _loss(config: Config, auto: Autoencoder, further: Terms | None) -> Callable[..., Any]:
    def loss(params: PyTree, at: Context) -> tuple[Array, Aux]:
        weights, stats, images = params["network"], at.state.model_state, at.batch.images
        coded = None
        if config.reconstruction_weight:
            coded, stats = auto.run(weights, stats, images, at.key)
            latent = coded.latent
        else:
            latent, stats = auto.encode(weights, stats, images, at.key)
        q = assign(params, latent)
        divergence = kl_divergence(at.state.cluster.targets[at.batch.rows], q)
        weighed: Weighed = {"clustering_loss": (config.clustering_weight, divergence)}
        if coded is not None:
            error = reconstruction_error(coded.decoded, images, per_pixel=config.per_pixel)
            weighed["reconstruction"] = (config.reconstruction_weight, error)
        if further:
            more, stats = further(Pass(at, params, latent, q, stats))
            weighed |= more
        total = jnp.sum(jnp.stack([weight * value for weight, value in weighed.values()]))
        terms = {name: value for name, (_, value) in weighed.items()}
        terms["changed"] = at.state.cluster.changed
        return total, Aux(stats, terms, jnp.argmax(q, axis=1))

    return loss


def _predict(config: Config, auto: Autoencoder) -> Callable[[TrainState, Array], Prediction]:
    learns_views = config.pretrain_augmented or config.cluster_augmented

    def predict(state: TrainState, images: Array) -> Prediction:
        images = plain(images, config.views.affine) if learns_views else images
        latent = auto.latent(state.params["network"], state.model_state, images)
        q = assign(state.params, latent)
        assignments = jnp.argmax(q, axis=1).astype(jnp.int32)
        return Prediction(assignments, q, latent, {"centroid": assignments})

    return predict


def pretraining(config: Config, spec: DataSpec, auto: Autoencoder, axis_name: str | None) -> Phase:
    """The reconstruction phase, of the network under the params' `network`."""
    return reconstruction_phase(
        lambda params, stats, images, key: auto.run(params["network"], stats, images, key),
        optax.adam(config.learning_rate),
        epochs=epochs_or(
            config.pretrain_epochs,
            (USUAL[0], config.pretrain_steps),
            config.batch_size,
            spec.n_images,
        ),
        batch_size=config.batch_size,
        ranges=config.views.affine if config.pretrain_augmented else Affine(),
        noise=config.noise,
        axis_name=axis_name,
    )


def _clustering(
    config: Config,
    spec: DataSpec,
    auto: Autoencoder,
    further: Terms | None,
    pretrain: Phase,
    axis_name: str | None,
) -> Phase:
    step = gradient_step(
        _loss(config, auto, further),
        optax.adam(config.learning_rate),
        views=augmented(config.views) if config.cluster_augmented else None,
        axis_name=axis_name,
    )
    before = pretrain.epochs * -(-spec.n_images // min(pretrain.batches.size, spec.n_images))
    renew = _sharpening(config, spec, before)
    return Phase(
        "cluster",
        step,
        config.epochs,
        Batches(config.batch_size),
        first=Refit(_begin(config, spec, auto, renew)),
        between=Refit(renew),
        every=config.refresh_every,
        until=lambda state: state.cluster.changed < config.tolerance,
    )


def augmented(ranges: Augmentation) -> Views:
    """Random views for a step."""
    return lambda key, images, places: augment(key, images, ranges, places)


@recorded("dec")
def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008  (a NamedTuple, immutable)
    network: Autoencoder | Module | None = None,
    terms: Callable[[Autoencoder], Terms] | None = None,
) -> Method:
    """DEC's family as pure functions.

    Args:
        config: settings; see :data:`PRESETS`. Features have no views.
        spec: size and shape of the data, number of clusters.
        compute: precision of the network's passes, and the devices' axis.
        network: an autoencoder in place of the named one; see :func:`autoencoding.build`.
        terms: autoencoder -> further losses of a step.

    Returns:
        A Method whose phases are `pretrain` and `cluster`.

    Raises:
        InputError: invalid settings, or images too small for the network.
    """
    settings.check(config)
    if len(spec.shape) == 1:
        config = without_views(config)
    auto = autoencoding.build(config.network, config.latent_width, spec, compute, network)
    further, axis_name = terms(auto) if terms else None, compute.axis_name
    pretrain = pretraining(config, spec, auto, axis_name)
    return Method(
        _init(config, spec, auto),
        _predict(config, auto),
        (pretrain, _clustering(config, spec, auto, further, pretrain, axis_name)),
        artifacts=lambda state: {"centroids": state.params["centroids"]},
    )
