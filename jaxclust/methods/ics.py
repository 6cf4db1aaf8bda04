"""ICS: inter-class separation (Das, Ghosh & Bhowmick 2019).

DEC's clustering of an autoencoder's latents, with the reconstruction kept. Assignments are made
confident and even, and every image is pulled towards its own views and pushed away from an image
that is not one of them (Eq. 7).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import Array

from jaxclust.clustering.triplets import choose_negatives
from jaxclust.core import collectives, keys, settings
from jaxclust.core.settings import setting
from jaxclust.core.types import Compute, DataSpec, Method, PyTree
from jaxclust.images.augment import augment
from jaxclust.losses.entropy import assignment_entropy
from jaxclust.losses.triplet import triplet_separation
from jaxclust.methods import dec
from jaxclust.methods.parts import autoencoding
from jaxclust.methods.parts.autoencoding import Autoencoder
from jaxclust.methods.parts.pretraining import epochs_or
from jaxclust.methods.parts.recipe import recorded
from jaxclust.models.layers import Module

__all__ = ["PRESETS", "Config", "build", "choose_negatives"]


@dataclass(frozen=True)
class Config(dec.Config):
    """ICS's settings; the defaults are the shallow network's."""

    network: autoencoding.Name = "shallow"
    """shallow (digits) and deep (natural images) are the paper's."""
    pretrain_epochs: int | None = setting(3, least=0)
    """Epochs of reconstruction pre-training (Sec. 3.3); None: 50, or on a small data set as many as
    `pretrain_steps` needs."""
    # Latents that k-means can separate take more steps than a small reconstruction error.
    pretrain_steps: int = setting(7500, least=0)
    """Minimum steps of pre-training if no epochs are given."""
    clustering_weight: float = setting(0.8, least=0)
    """beta, the weight of KL(p || q) (Eq. 4); 0 leaves it out."""
    reconstruction_weight: float = setting(1.0, least=0)
    """alpha, the weight of the reconstruction error (Eq. 1)."""
    per_pixel: bool = False
    """Average clustering's reconstruction error over an image's values instead of summing."""
    entropy_weight: float = setting(0.01, least=0)
    """gamma, the weight of the assignment entropy (Eq. 6); 0 leaves it out."""
    triplet_weight: float = setting(0.1, least=0)
    """omega, the weight of the triplet loss (Eq. 5); 0 leaves it out. Features have no views, so
    there it must be 0."""
    margin: float = setting(0.24, least=0)
    """Margin of the triplet loss."""
    augments: int = setting(10, least=1)
    """Views of each image; a negative must lie outside all of them (Algorithm 1)."""
    tries: int = setting(10, least=1)
    """Images of the batch drawn to find a negative; if none lies outside the views, the farthest is
    taken."""


_USUAL = 50  # epochs
# Sec. 4.3: latents of 64 values here, of 10 in the deep network.
_SHALLOW = Config(latent_width=64)
_DEEP = Config(
    network="deep",
    clustering_weight=0.7,
    triplet_weight=0.3,
    margin=0.3,
    views=replace(dec.DIGIT_VIEWS, flip=True),
)
PRESETS: dict[str, Config] = {
    # Three passes over a small set are too few to tell its images apart; a reconstruction
    # error summed over pixels outweighs the clustering terms; and with plain images alone,
    # clustering stays where k-means starts it.
    "best": Config(
        pretrain_epochs=None,
        pretrain_augmented=True,
        cluster_augmented=True,
        per_pixel=True,
        entropy_weight=0.1,
        triplet_weight=1.0,
    ),
    "paper": _SHALLOW,
    "shallow": _SHALLOW,
    "deep": _DEEP,
}


def _triplet(
    config: Config, auto: Autoencoder, axis_name: str | None
) -> Callable[[dec.Pass], tuple[Array, PyTree]]:
    """Eq. 5: the loss and model_state after the positives' pass."""

    def triplet(seen: dec.Pass) -> tuple[Array, PyTree]:
        at, a = seen.at, config.augments
        images, places = at.batch.images, at.places
        b = images.shape[0]
        copies = (places[:, None] * a + jnp.arange(a)[None]).reshape(-1)
        crowd = jnp.repeat(images, a, axis=0)
        views = augment(at.draw("negative views"), crowd, config.views, copies)
        # Which images are far is judged by the current network, in inference mode.
        network = jax.lax.stop_gradient(seen.params["network"])
        plain = auto.latent(network, at.state.model_state, images)
        around = auto.latent(network, at.state.model_state, views).reshape(b, a, -1)
        radius = jnp.max(jnp.linalg.norm(around - plain[:, None], axis=2), axis=1)
        everyone = collectives.gathered(plain, axis_name)
        negatives = choose_negatives(
            at.draw("negatives"), plain, everyone, radius, places, config.tries
        )
        positive_key = at.draw("positives")

        def one_of_its_views(place: Array) -> Array:
            return jax.random.randint(keys.of_row(positive_key, place), (), 0, a)

        shown = views[jnp.arange(b) * a + jax.vmap(one_of_its_views)(places)]
        positive, stats = auto.encode(seen.params["network"], seen.model_state, shown, at.key)
        negative = collectives.gathered(seen.latent, axis_name)[negatives]
        return triplet_separation(seen.latent, positive, negative, config.margin), stats

    return triplet


def _terms(config: Config, auto: Autoencoder, axis_name: str | None) -> dec.Terms:
    """Eqs. 5 and 6 beside DEC's losses."""
    triplet = _triplet(config, auto, axis_name)

    def terms(seen: dec.Pass) -> tuple[dec.Weighed, PyTree]:
        weighed: dec.Weighed = {}
        stats = seen.model_state
        if config.entropy_weight:
            q = collectives.gathered(seen.q, axis_name)
            weighed["entropy"] = (config.entropy_weight, assignment_entropy(q))
        if config.triplet_weight:
            loss, of_views = triplet(seen)
            weighed["triplet"] = (config.triplet_weight, loss)
            # Plain images are clustered by plain images' batch-norm statistics.
            stats = of_views if config.cluster_augmented else stats
        return weighed, stats

    return terms


@recorded("ics")
def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008  (a NamedTuple, immutable)
    network: Autoencoder | Module | None = None,
) -> Method:
    """ICS as pure functions; arguments and errors as in :func:`dec.build`.

    Raises:
        InputError: also features, with the triplet loss.
    """
    settings.check(config)
    if config.triplet_weight:
        _ = spec.image_shape  # features have no views
    usual = (_USUAL, config.pretrain_steps)
    epochs = epochs_or(config.pretrain_epochs, usual, config.batch_size, spec.n_images)
    config = replace(config, pretrain_epochs=epochs)
    return dec.build(
        config,
        spec,
        compute,
        network=network,
        terms=lambda auto: _terms(config, auto, compute.axis_name),
    )
