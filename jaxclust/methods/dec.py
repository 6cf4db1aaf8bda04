"""Clustering an autoencoder's latents by their own sharpened assignments.

DEC (Xie, Girshick & Farhadi 2016) moves latents and centroids towards a target
distribution made of the assignments themselves; IDEC (Guo et al. 2017) keeps the decoder
as a regulariser. Without training the same parts are the two-stage baselines, k-means
on the latents of a plain, denoising or variational autoencoder. ICS (ics.py) adds terms.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxclust.clustering import health, kmeans
from jaxclust.clustering.distances import squared_distances
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
from jaxclust.images.augment import Affine, Augmentation, augment
from jaxclust.losses.dec import kl_divergence, student_t_assignment, target_distribution
from jaxclust.losses.reconstruction import reconstruction_error
from jaxclust.methods.parts import autoencoding, checks
from jaxclust.methods.parts.descent import descend
from jaxclust.methods.parts.pretraining import USUAL, epochs_or, reconstruction_phase
from jaxclust.models.layers import Module

# Digits are not mirrored.
DIGIT_VIEWS = Augmentation(
    Affine(rotation=15.0, shift=0.1, zoom=0.15, shear=0.2),
    brightness=0.1,
    contrast=0.2,
    erasing=0.25,
)


@dataclass(frozen=True)
class Config:
    """Settings of DEC's family; the defaults are DEC's."""

    epochs: int = 40
    """Passes over the data while clustering; 0: k-means on the latents."""
    batch_size: int = 256
    """Images a step, pre-training too."""
    network: autoencoding.Network = "dense"
    """dense: DEC's; shallow and deep: ICS's, three and five pooled convolutions; strided:
    DERC's, strided_valid without padding; variational: shallow with a Gaussian latent."""
    latent_width: int = 10
    """Width of the latent that is clustered."""

    pretrain_epochs: int | None = 50
    """Passes of reconstruction training before; None: as DERC's default."""
    pretrain_augmented: bool = False
    """Pre-train on random affine views, of the ranges of `views`."""
    noise: float = 0.0
    """Standard deviation of noise on pre-training's input (the denoising kind)."""
    learning_rate: float = 1e-3
    """Adam's, in both phases."""

    clustering_weight: float = 1.0
    """Of KL(p || q), q the Student-t assignments, p their target distribution."""
    reconstruction_weight: float = 0.0
    """Of the reconstruction error; 0: the decoder is left alone (DEC)."""
    per_pixel: bool = True
    """Average the reconstruction error over an image's values instead of summing."""
    cluster_augmented: bool = False
    """Train on random views, of the ranges of `views`, in the images' place, towards the
    targets of the plain images (Guo et al. 2018)."""
    refresh_every: int = 1
    """Epochs between two computations of the target distribution."""
    tolerance: float = 0.001
    """Stop once fewer than this share of assignments change between two of those."""
    views: Augmentation = field(default_factory=lambda: DIGIT_VIEWS)
    """Random views, for what of the method uses any."""


_AE = Config(epochs=0)
PRESETS: dict[str, dict[str, Config]] = {
    "dec": {"best": Config(), "paper": Config()},
    # The published weight 0.1 is of the clustering loss against a mean over pixels.
    "idec": {
        name: Config(clustering_weight=0.1, reconstruction_weight=1.0) for name in ("best", "paper")
    },
    "ae_kmeans": {"best": _AE, "paper": _AE},
    "dae": {
        "best": replace(
            _AE,
            network="strided",
            pretrain_epochs=None,
            pretrain_augmented=True,
        ),
        "paper": replace(_AE, network="strided", pretrain_epochs=None),
    },
    "denoising_ae_kmeans": {name: replace(_AE, noise=0.5) for name in ("best", "paper")},
    "vae_kmeans": {name: replace(_AE, network="variational") for name in ("best", "paper")},
}


class ClusterState(NamedTuple):
    """The cluster state; the centroids are trained and stand in the params."""

    targets: Array  # float [n, k]: p of every image
    assignments: Array  # int32 [n]: when p was last computed
    changed: Array  # float []: share of them that changed then
    usage: Array  # float [k]: running share of each cluster


class Pass(NamedTuple):
    """What a further loss term may look at."""

    state: TrainState
    params: PyTree  # what the loss is a function of
    batch: Batch
    latent: Array  # float [b, d]: of the batch, in training mode
    q: Array  # float [b, k]
    model_state: PyTree  # after the batch's pass
    key: Array


# By name, (weight, value) of each.
Weighed = dict[str, tuple[float, Array]]
# pass -> (its terms, model_state after what the terms themselves passed)
Terms = Callable[[Pass], tuple[Weighed, PyTree]]


def check(config: Config) -> None:
    """Raise InputError for settings without sense."""
    checks.positive(config, "learning_rate")
    checks.at_least(config, 0, "clustering_weight", "reconstruction_weight", "noise", "tolerance")
    checks.at_least(config, 1, "refresh_every")


def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008  (a NamedTuple, immutable)
    network: Module | None = None,
    terms: Callable[[autoencoding.Autoencoder], Terms] | None = None,
) -> Method:
    """DEC's family as pure functions.

    Args:
        config: settings; see :data:`PRESETS`.
        spec: size and shape of the data, number of clusters.
        compute: precision of the network's passes, and the devices' axis.
        network: an autoencoder in the named one's place, see :func:`autoencoding.build`.
        terms: given the autoencoder, what further losses a step has.

    Returns:
        A Method whose phases are `pretrain` and `cluster`.

    Raises:
        InputError: settings without sense, or images too small for the network.
    """
    check(config)
    k, axis_name = spec.n_clusters, compute.axis_name
    auto = autoencoding.build(config.network, config.latent_width, spec, compute, network)
    adam = optax.adam(config.learning_rate)
    further = terms(auto) if terms else None
    decodes = config.reconstruction_weight > 0

    def assign(params: PyTree, latent: Array) -> Array:
        """Student-t assignments q [b, k]."""
        return student_t_assignment(squared_distances(latent, params["centroids"]))

    def reconstruct(params: PyTree, stats: PyTree, images: Array, key: Array) -> Any:
        return auto.run(params["network"], stats, images, key)

    def init(key: Array, images: Array) -> TrainState:
        network_key, run_key = jax.random.split(key)
        weights, stats = auto.init(network_key, images)
        params = {"network": weights, "centroids": jnp.zeros((k, config.latent_width))}
        return first_state(
            key=run_key,
            params=params,
            model_state=stats,
            opt_state=adam.init(params),
            cluster=ClusterState(
                targets=jnp.full((spec.n_images, k), 1 / k, jnp.float32),
                assignments=jnp.zeros(spec.n_images, jnp.int32),
                changed=jnp.ones(()),
                usage=health.even_usage(k),
            ),
        )

    def retarget(state: TrainState, latents: Array) -> TrainState:
        """p of every image from its present assignments."""
        q = assign(state.params, latents)
        assignments = jnp.argmax(q, axis=1).astype(jnp.int32)
        changed = health.churn(assignments, state.cluster.assignments)
        cluster = state.cluster._replace(
            targets=target_distribution(q), assignments=assignments, changed=changed
        )
        return state.replace(cluster=cluster)

    def begin(state: TrainState, latents: Array) -> TrainState:
        """Centroids by k-means, the first targets, an optimiser without a past.

        The decoder goes, where nothing is decoded any more.
        """
        fit = kmeans.fit(jax.random.fold_in(state.key, state.step), latents, k)
        weights, stats = state.params["network"], state.model_state
        if not decodes:
            # Left alone it would still cost the optimiser as much as the encoder does.
            weights, stats = auto.encoder(weights, stats)
        params = {"network": weights, "centroids": fit.centroids}
        state = state.replace(params=params, model_state=stats, opt_state=adam.init(params))
        state = retarget(state, latents)
        # Nothing has changed yet, and that is no reason to stop.
        return state.replace(cluster=state.cluster._replace(changed=jnp.ones(())))

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        run_key, term_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        targets = state.cluster.targets[batch.rows]
        if config.cluster_augmented:
            view_key = jax.random.fold_in(run_key, 1)
            places = collectives.positions(batch.images.shape[0], axis_name)
            batch = batch._replace(images=augment(view_key, batch.images, config.views, places))

        def loss_of(params: PyTree) -> tuple[Array, tuple[PyTree, tuple[dict[str, Array], Array]]]:
            weights, stats = params["network"], state.model_state
            coded = None
            if decodes:
                coded, stats = auto.run(weights, stats, batch.images, run_key)
                latent = coded.latent
            else:
                latent, stats = auto.encode(weights, stats, batch.images)
            q = assign(params, latent)
            weighed: Weighed = {
                "clustering_loss": (config.clustering_weight, kl_divergence(targets, q))
            }
            if coded is not None:
                error = reconstruction_error(
                    coded.decoded, batch.images, per_pixel=config.per_pixel
                )
                weighed["reconstruction"] = (config.reconstruction_weight, error)
            if further:
                seen = Pass(state, params, batch, latent, q, stats, term_key)
                more, stats = further(seen)
                weighed |= more
            total = jnp.sum(jnp.stack([weight * value for weight, value in weighed.values()]))
            named = {name: value for name, (_, value) in weighed.items()}
            return total, (stats, (named, q))

        done = descend(adam, loss_of, state, axis_name)
        named, q = done.aux
        # Of the whole batch, where devices share one.
        named = collectives.mean_over_devices(named, axis_name)
        own = jnp.argmax(collectives.gathered(q, axis_name), axis=1)
        usage = health.update_usage(state.cluster.usage, own)
        watch = {**named, **done.norms, "changed": state.cluster.changed}
        watch |= health.cluster_health(usage)
        after = done.state.replace(step=state.step + 1, cluster=state.cluster._replace(usage=usage))
        return after, StepInfo(done.loss, watch)

    def predict(state: TrainState, images: Array) -> Prediction:
        latent = auto.latent(state.params["network"], state.model_state, images)
        q = assign(state.params, latent)
        assignments = jnp.argmax(q, axis=1).astype(jnp.int32)
        return Prediction(assignments, q, latent, {"centroid": assignments})

    def settled(state: TrainState) -> Array:
        return state.cluster.changed < config.tolerance

    pretrain = reconstruction_phase(
        reconstruct,
        adam,
        epochs=epochs_or(config.pretrain_epochs, USUAL, config.batch_size, spec.n_images),
        batch_size=config.batch_size,
        ranges=config.views.affine if config.pretrain_augmented else Affine(),
        noise=config.noise,
        axis_name=axis_name,
    )
    cluster = Phase(
        "cluster",
        config.epochs,
        config.batch_size,
        step,
        begin,
        refresh=retarget,
        finished=settled,
        refresh_every=config.refresh_every,
    )
    return Method(init, predict, (pretrain, cluster))
