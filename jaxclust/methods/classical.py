"""scikit-learn's classical clusterers, with the same interface as the deep methods.

They see the whole data set at once, on the host. What they leave behind labels images one by one,
so that new images get labels too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxclust.clustering import kmeans
from jaxclust.clustering.host import clusterers, mixture
from jaxclust.clustering.host.samples import quiet
from jaxclust.core import keys, settings
from jaxclust.core.errors import InputError
from jaxclust.core.settings import setting
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
from jaxclust.images.descriptors import Descriptor, check_descriptor, describe
from jaxclust.methods.parts.recipe import recorded


@dataclass(frozen=True)
class Config:
    """Settings that every classical clusterer has."""

    features: Descriptor = "auto"
    """pixels; hog: histograms of oriented gradients and an 8x8 grid of colours; auto: pixels for
    images under 64 pixels, otherwise hog."""


@dataclass(frozen=True)
class MixtureConfig(Config):
    """Gaussian mixture on principal components."""

    components: int = setting(50, least=1)
    """Number of principal components the mixture is fitted to; at most all there are."""
    covariance: mixture.Covariance = "full"
    """full, tied (one for all clusters), diag or spherical."""
    restarts: int = setting(10, least=1)
    """Independent k-means starts; the likeliest mixture wins."""


@dataclass(frozen=True)
class SpectralConfig(Config):
    """Spectral clustering of the nearest-neighbour graph."""

    neighbours: int = setting(10, least=2)
    """Neighbours of each image, itself included."""


@dataclass(frozen=True)
class AgglomerativeConfig(Config):
    """Bottom-up merging."""

    linkage: clusterers.Linkage = "ward"
    """How the distance between two clusters is defined."""


@dataclass(frozen=True)
class NMFConfig(Config):
    """Non-negative matrix factorisation; an image belongs to its strongest component."""

    max_iterations: int = setting(200, least=1)
    """Maximum iterations of the factorisation."""


class Mixed(NamedTuple):
    """What a Gaussian mixture leaves behind."""

    mean: ArrayLike  # float [d]
    basis: ArrayLike  # float [d, p]: principal directions
    mixture: mixture.Mixture  # of p dimensions


class Seen(NamedTuple):
    """What a clusterer without a model leaves behind: the images it saw, and their clusters."""

    features: ArrayLike  # float [n, d]
    assignments: ArrayLike  # int32 [n]


class Parts(NamedTuple):
    """What NMF leaves behind."""

    floor: ArrayLike  # float [d]: the smallest values, subtracted so that nothing is negative
    components: ArrayLike  # float [k, d]


class Clusterer(NamedTuple):
    """A classical algorithm as three functions of what it leaves behind."""

    blank: Callable[[int], PyTree]  # width d -> zeros in its shapes, before the fit
    fit: Callable[[np.ndarray, int], PyTree]  # (features [n, d], seed) -> what it leaves
    judge: Callable[[PyTree, Array], Array]  # (what it left, [b, d]) -> probabilities [b, k]


def in_one_go(config: Config, spec: DataSpec, limit: int, clusterer: Clusterer) -> Method:
    """One phase whose first refit is the algorithm."""
    settings.check(config)
    if spec.n_images > limit:
        raise InputError(
            f"{spec.n_images:,} images are more than this method can hold in memory at once "
            f"({limit:,}); take fewer (‹limit› {limit}) or use minibatch_kmeans"
        )
    check_descriptor(config.features, spec.shape)

    def init(key: Array, images: Array) -> TrainState:
        width = describe(images, config.features).shape[1]
        return first_state(key, clusterer.blank(width), spec.n_clusters)

    def begin(state: TrainState, features: np.ndarray) -> TrainState:
        return state.replace(cluster=clusterer.fit(features, keys.run_seed(state)))

    def predict(state: TrainState, images: Array) -> Prediction:
        x = describe(images, config.features)
        probabilities = clusterer.judge(state.cluster, x)
        assignments = jnp.argmax(probabilities, axis=1).astype(jnp.int32)
        return Prediction(assignments, probabilities, x, {"fit": assignments})

    first = Refit(begin, on="host")
    return Method(init, predict, (Phase("cluster", None, 0, Batches(spec.n_images), first=first),))


@recorded("gmm")
def build_mixture(config: MixtureConfig, spec: DataSpec, compute: Compute = Compute()) -> Method:  # noqa: B008
    """A Gaussian mixture on principal components; `compute` has no effect.

    Raises:
        InputError: more images than fit, or images too small for the features.
    """
    del compute
    k = spec.n_clusters

    def width_of(d: int) -> int:
        return min(config.components, d, spec.n_images)

    def blank(d: int) -> Mixed:
        p = width_of(d)
        return Mixed(jnp.zeros(d, jnp.float32), jnp.zeros((d, p), jnp.float32), mixture.blank(k, p))

    def fit(x: np.ndarray, seed: int) -> Mixed:
        from sklearn.decomposition import PCA

        with quiet():
            pca = PCA(width_of(x.shape[1]), random_state=seed).fit(x)
        mean, basis = pca.mean_, np.asarray(pca.components_).T
        projected = (x - mean) @ basis
        fitted = mixture.fit(
            projected, k, seed, covariance=config.covariance, restarts=config.restarts
        )
        return Mixed(mean.astype(np.float32), basis.astype(np.float32), fitted)

    def judge(left: Mixed, x: Array) -> Array:
        mean, basis = jnp.asarray(left.mean), jnp.asarray(left.basis)
        projected = jnp.dot(x - mean[None], basis, precision=jax.lax.Precision.HIGHEST)
        return mixture.responsibilities(projected, left.mixture)

    return in_one_go(config, spec, 200_000, Clusterer(blank, fit, judge))


def at_unit_length(x: np.ndarray, spec: DataSpec) -> np.ndarray:
    """Images [n, d] scaled to unit length, after shifting the set's darkest value to zero.

    Features are scaled only. The authors of the systems that the papers compare with prepare images
    for their graphs this way: their figures for CMU-PIE are for such images, and a face in the dark
    is no farther from itself.
    """
    x = x - x.min() if len(spec.shape) == 3 else x
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def by_neighbour(spec: DataSpec, assign: Callable[[np.ndarray, int], np.ndarray]) -> Clusterer:
    """A clusterer without a model: an image gets its nearest neighbour's cluster."""
    n, k = spec.n_images, spec.n_clusters

    def judge(left: Seen, x: Array) -> Array:
        neighbour, _ = kmeans.assign(x, jnp.asarray(left.features))
        return jax.nn.one_hot(jnp.asarray(left.assignments)[neighbour], k)

    return Clusterer(
        blank=lambda d: Seen(jnp.zeros((n, d), jnp.float32), jnp.zeros(n, jnp.int32)),
        fit=lambda x, seed: Seen(x, assign(x, seed)),
        judge=judge,
    )


@recorded("spectral")
def build_spectral(config: SpectralConfig, spec: DataSpec, compute: Compute = Compute()) -> Method:  # noqa: B008
    """Spectral clustering; new images get their nearest neighbour's cluster.

    Raises:
        InputError: more images than fit, or images too small for the features.
    """
    del compute

    def assign(x: np.ndarray, seed: int) -> np.ndarray:
        return clusterers.spectral(x, spec.n_clusters, seed, config.neighbours)

    return in_one_go(config, spec, 100_000, by_neighbour(spec, assign))


@recorded("agglomerative")
def build_agglomerative(
    config: AgglomerativeConfig,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008
) -> Method:
    """Agglomerative clustering; new images get their nearest neighbour's cluster.

    Raises:
        InputError: more images than fit, or images too small for the features.
    """
    del compute

    def assign(x: np.ndarray, seed: int) -> np.ndarray:
        del seed  # nothing is drawn
        return clusterers.agglomerative(x, spec.n_clusters, config.linkage)

    # The distances of all pairs, each held once: 3.6 GB at this many.
    return in_one_go(config, spec, 30_000, by_neighbour(spec, assign))


@recorded("nmf")
def build_nmf(config: NMFConfig, spec: DataSpec, compute: Compute = Compute()) -> Method:  # noqa: B008
    """NMF; an image belongs to the component with its largest weight.

    Raises:
        InputError: more images than fit, or images too small for the features.
    """
    del compute
    k = spec.n_clusters

    def fit(x: np.ndarray, seed: int) -> Parts:
        floor = x.min(axis=0)
        components = clusterers.nmf(x - floor, k, seed, config.max_iterations)
        return Parts(floor, components)

    def judge(left: Parts, x: Array) -> Array:
        floor, components = jnp.asarray(left.floor), jnp.asarray(left.components)
        weights = clusterers.nmf_weights(jnp.maximum(x - floor[None], 0), components)
        # An image with no component is shared equally by all clusters.
        total = jnp.sum(weights, axis=1, keepdims=True)
        return jnp.where(total > 0, weights / jnp.maximum(total, 1e-12), 1 / k)

    clusterer = Clusterer(lambda d: Parts(jnp.zeros(d), jnp.zeros((k, d))), fit, judge)
    return in_one_go(config, spec, 200_000, clusterer)


PRESETS: dict[str, dict[str, Any]] = {
    name: {"best": config, "paper": config}
    for name, config in {
        "gmm": MixtureConfig(),
        "spectral": SpectralConfig(),
        "agglomerative": AgglomerativeConfig(),
        "nmf": NMFConfig(),
    }.items()
}
