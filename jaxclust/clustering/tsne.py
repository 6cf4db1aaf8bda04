"""Exact t-SNE (van der Maaten & Hinton 2008), in memory that grows with n, not n^2.

Every pair is visited in every iteration, a block of rows at a time, and its affinity
computed anew. That is 5e9 pairs per iteration at n = 70,000, which is for accelerators; on a CPU,
use host/reducers.py's approximate t-SNE for more than a few thousand samples.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxclust.clustering.blocks import block_rows, by_blocks
from jaxclust.clustering.distances import squared_distances

_BISECTIONS = 60
# The published schedule, as scikit-learn has it.
EXAGGERATION, EXAGGERATED = 12.0, 250
_MOMENTA = (0.5, 0.8)
_LEAST_GAIN = 0.01


class Affinities(NamedTuple):
    """What gives `p(j | i) = exp(-precision_i |x_i - x_j|^2 - log_sum_i)`."""

    precisions: Array  # float [n]: of each sample's Gaussian
    log_sums: Array  # float [n]: that make the rows sum to one


class Slope(NamedTuple):
    """The gradient at a map, and how far the map is from the affinities."""

    gradient: Array  # float [n, dimensions]
    divergence: Array  # float []: KL(P || Q), of the affinities without exaggeration


def affinities(x: Array, perplexity: float) -> Affinities:
    """Precisions that give each sample's neighbours the wanted perplexity.

    van der Maaten & Hinton 2008, Eq. 1, by bisection of the logarithm.

    Args:
        x: samples, float [n, d].
        perplexity: exp of the entropy of each p(. | i), below n - 1; where more samples than that
            are equally near, they share equally.
    """
    n = x.shape[0]
    wanted = jnp.log(perplexity)

    def rows(part: Array, index: Array) -> tuple[Array, Array]:
        itself = index[:, None] == jnp.arange(n)[None]
        distances = jnp.where(itself, jnp.inf, squared_distances(part, x))
        # The nearest neighbour at zero, so that no row vanishes.
        shift = jnp.min(distances, axis=1, keepdims=True)
        relative = distances - shift

        def entropy(log_precision: Array) -> tuple[Array, Array]:
            precision = jnp.exp(log_precision)[:, None]
            weights = jnp.where(itself, 0.0, jnp.exp(-precision * relative))
            total = jnp.sum(weights, axis=1)
            mean = jnp.sum(weights * jnp.where(itself, 0.0, relative), axis=1) / total
            return jnp.log(total) + precision[:, 0] * mean, jnp.log(total)

        def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bounds
            middle = (low + high) / 2
            flat = entropy(middle)[0] > wanted
            return jnp.where(flat, middle, low), jnp.where(flat, high, middle)

        # Between a Gaussian that spans all distances and one that spans none.
        scale = jnp.log(jnp.mean(jnp.where(itself, 0.0, relative), axis=1) + 1e-30)
        low, high = lax.fori_loop(0, _BISECTIONS, halve, (-scale - 10.0, -scale + 30.0))
        found = jnp.minimum((low + high) / 2, _highest_log_precision(x))
        return jnp.exp(found), entropy(found)[1] - jnp.exp(found) * shift[:, 0]

    return Affinities(*by_blocks(rows, block_rows(n, n), x, jnp.arange(n)))


def _highest_log_precision(x: Array) -> Array:
    """Log precision float [] beyond which the rounding of distances decides.

    Among equally near samples, such as copies, no precision has the wanted perplexity, and the
    search for it diverges.
    """
    rounding = 8 * jnp.finfo(x.dtype).eps * jnp.max(jnp.sum(jnp.square(x), axis=1))
    return -jnp.log(rounding + 1e-30)


def joint(x: Array, index: Array, found: Affinities) -> Array:
    """Rows `index` [b] of the joint affinities P [n, n], zero on the diagonal (Sec. 2)."""
    n = x.shape[0]
    distances = squared_distances(x[index], x)
    given_row = -found.precisions[index][:, None] * distances - found.log_sums[index][:, None]
    given_column = -found.precisions[None] * distances - found.log_sums[None]
    p = (jnp.exp(given_row) + jnp.exp(given_column)) / (2 * n)
    return jnp.where(index[:, None] == jnp.arange(n)[None], 0.0, p)


def slope(y: Array, x: Array, found: Affinities, exaggeration: float | Array = 1.0) -> Slope:
    """Gradient of the divergence at map y[n, dimensions] (Eq. 5), pairs in blocks.

    Args:
        y: the map.
        x: samples, float [n, d].
        found: their affinities.
        exaggeration: factor on the affinities in the gradient.
    """
    n = y.shape[0]

    def rows(index: Array) -> tuple[Array, Array, Array, Array]:
        p = joint(x, index, found)
        own = y[index]
        # Dimension by dimension: near neighbours keep their digits.
        offsets = [own[:, d, None] - y[None, :, d] for d in range(y.shape[1])]
        near = 1 / (1 + sum(jnp.square(offset) for offset in offsets))
        near = jnp.where(index[:, None] == jnp.arange(n)[None], 0.0, near)
        attraction = jnp.stack([jnp.sum(p * near * o, axis=1) for o in offsets], axis=1)
        repulsion = jnp.stack([jnp.sum(near * near * o, axis=1) for o in offsets], axis=1)
        logs = jnp.log(jnp.maximum(p, 1e-30)) - jnp.log(jnp.maximum(near, 1e-30))
        return attraction, repulsion, jnp.sum(near, axis=1), jnp.sum(p * logs, axis=1)

    attraction, repulsion, near, logs = by_blocks(rows, block_rows(n, n), jnp.arange(n))
    total = jnp.sum(near)
    gradient = 4 * (exaggeration * attraction - repulsion / total)
    return Slope(gradient, jnp.sum(logs) + jnp.log(total))


class Descent(NamedTuple):
    """Where the iterations stand."""

    y: Array  # float [n, dimensions]
    step: Array  # float [n, dimensions]: the last one
    gains: Array  # float [n, dimensions]: factor on each coordinate's rate
    iteration: Array  # int32 []
    divergence: Array  # float []: at the map before the last step


def start(y: Array) -> Descent:
    """The iterations' state at a first map."""
    nothing = jnp.zeros_like(y)
    return Descent(y, nothing, nothing + 1, jnp.zeros((), jnp.int32), jnp.zeros((), y.dtype))


def descend(state: Descent, x: Array, found: Affinities, iterations: int) -> Descent:
    """This many iterations of gradient descent with momentum and gains.

    The first 250 exaggerate the affinities by 12, with momentum 0.5, then 0.8; the rate
    is n / 48, at least 50 (Belkina et al. 2019).
    """
    rate = max(x.shape[0] / EXAGGERATION / 4, 50.0)

    def one(_: int, state: Descent) -> Descent:
        early = state.iteration < EXAGGERATED
        now = slope(state.y, x, found, jnp.where(early, EXAGGERATION, 1.0))
        onward = state.step * now.gradient < 0
        gains = jnp.maximum(jnp.where(onward, state.gains + 0.2, state.gains * 0.8), _LEAST_GAIN)
        momentum = jnp.where(early, *_MOMENTA)
        step = momentum * state.step - rate * gains * now.gradient
        # Momentum starts anew without the exaggeration, and the gains with it.
        after = Descent(state.y + step, step, gains, state.iteration + 1, now.divergence)
        ends = after.iteration == EXAGGERATED
        return after._replace(
            step=jnp.where(ends, 0.0, after.step), gains=jnp.where(ends, 1.0, after.gains)
        )

    return lax.fori_loop(0, iterations, one, state)
