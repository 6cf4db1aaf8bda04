"""Gaussian mixtures: fitted by expectation-maximisation on the host, evaluated anywhere."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxclust.clustering.host import samples
from jaxclust.core.errors import RunError

Covariance = Literal["full", "tied", "diag", "spherical"]


class Mixture(NamedTuple):
    """A mixture of k Gaussians in d dimensions."""

    weights: ArrayLike  # float [k], sum to one
    means: ArrayLike  # float [k, d]
    factors: ArrayLike  # float [k, d, d]: F with F F^T the inverse covariance, triangular


def fit(
    x: np.ndarray,
    k: int,
    seed: int,
    *,
    covariance: Covariance = "full",
    restarts: int = 10,
    regularisation: float = 1e-6,
    max_iterations: int = 100,
) -> Mixture:
    """scikit-learn's expectation-maximisation, the likeliest of several starts.

    Args:
        x: samples, float [n, d].
        k: number of components.
        seed: of the k-means starts.
        covariance: full, tied (one for all), diag or spherical.
        restarts: starts tried.
        regularisation: added to the variances, so that they stay positive.
        max_iterations: bound on the iterations of each start.

    Raises:
        RunError: samples that are not finite, or so far apart that a Gaussian of some of them is
            degenerate in double precision.
    """
    from sklearn.mixture import GaussianMixture

    mixed = GaussianMixture(
        k,
        covariance_type=covariance,
        n_init=restarts,
        reg_covar=regularisation,
        max_iter=max_iterations,
        random_state=seed,
    )
    found = _fitted(mixed, x)
    factors = _full_factors(np.asarray(found.precisions_cholesky_), covariance, k, x.shape[1])
    return Mixture(*(np.float32(leaf) for leaf in (found.weights_, found.means_, factors)))


def _fitted(mixed: Any, x: np.ndarray) -> Any:
    """scikit-learn's mixture, fitted; its errors in plain words."""
    samples.check_finite(x, "images")
    try:
        with samples.quiet():
            return mixed.fit(x.astype(np.float64))
    except ValueError as error:
        raise RunError(
            "the mixture has a Gaussian without extent in some direction; ask for fewer clusters, "
            f"or for the covariance diag or spherical in place of {mixed.covariance_type}"
        ) from error


def _full_factors(factors: np.ndarray, covariance: Covariance, k: int, d: int) -> np.ndarray:
    """scikit-learn's factors, whose shape depends on the covariance, as [k, d, d]."""
    if covariance == "tied":
        return np.broadcast_to(factors, (k, d, d))
    if covariance == "diag":
        return factors[:, :, None] * np.eye(d)
    if covariance == "spherical":
        return factors[:, None, None] * np.eye(d)
    return factors


def blank(k: int, d: int) -> Mixture:
    """k standard Gaussians at zero: a mixture's shapes before it is fitted."""
    factors = jnp.broadcast_to(jnp.eye(d, dtype=jnp.float32), (k, d, d))
    return Mixture(jnp.full(k, 1 / k, jnp.float32), jnp.zeros((k, d), jnp.float32), factors)


def responsibilities(x: Array, mixture: Mixture) -> Array:
    """Posterior probability of each component: x[n, d] -> float [n, k], rows sum to one."""

    def log_density(mean: Array, factor: Array) -> Array:
        y = jnp.dot(x - mean[None], factor, precision=jax.lax.Precision.HIGHEST)
        return jnp.sum(jnp.log(jnp.diagonal(factor))) - 0.5 * jnp.sum(jnp.square(y), axis=1)

    means, factors = jnp.asarray(mixture.means), jnp.asarray(mixture.factors)
    # One component at a time: [n, k, d] need not fit.
    logs = jax.lax.map(lambda component: log_density(*component), (means, factors))
    return jax.nn.softmax(logs.T + jnp.log(jnp.asarray(mixture.weights))[None], axis=1)


_responsibilities = jax.jit(responsibilities)


def posteriors(x: np.ndarray, mixture: Mixture) -> np.ndarray:
    """:func:`responsibilities` on the host, compiled once for each shape -> float32 [n, k]."""
    return np.asarray(_responsibilities(jnp.asarray(x), jax.tree.map(jnp.asarray, mixture)))
