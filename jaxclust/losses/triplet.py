"""Triplet losses: an anchor nearer to one sample than to another.

`optax.losses.triplet_margin_loss` is not used, since it compares distances: the papers here compare
their squares, and one weights them.
"""

import chex
import jax.numpy as jnp
from jax import Array


def _squared_distance(a: Array, b: Array) -> Array:
    """Of each pair of rows: [n, d], [n, d] -> [n]."""
    return jnp.sum(jnp.square(a - b), axis=1)


def triplet_separation(anchor: Array, positive: Array, negative: Array, margin: float) -> Array:
    """Mean of `max(0, |a - p|^2 - |a - n|^2 + margin)`.

    Das, Ghosh & Bhowmick 2019, Eq. 5, there summed over the batch.

    Args:
        anchor: latents, float [n, d].
        positive: latents of views of the anchors, float [n, d].
        negative: latents of other images, float [n, d].
        margin: how much farther the negative must be, squared distance.

    Returns:
        float [], zero where every triplet is apart by the margin.

    >>> x = jnp.zeros((1, 2))
    >>> float(triplet_separation(x, x, x + 1, 0.5)), float(triplet_separation(x, x, x, 0.5))
    (0.0, 0.5)
    """
    chex.assert_rank([anchor, positive, negative], 2)
    chex.assert_equal_shape([anchor, positive, negative])
    chex.assert_type([anchor, positive, negative], float)
    near, far = _squared_distance(anchor, positive), _squared_distance(anchor, negative)
    return jnp.mean(jnp.maximum(near - far + margin, 0))


def weighted_triplet(
    anchor: Array,
    same: Array,
    other: Array,
    difference: Array,
    mask: Array,
    margin: float | None,
) -> Array:
    """Mean of `(1 - |p_i - p_j|) |z_i - z_j|^2 - |z_i - z_k|^2`, by default hinged.

    Yan et al. 2020, Eq. 7: samples of one pseudo-class attract each other more strongly, the more
    alike their probabilities of it are. As printed the loss has no lower bound; Algorithm 1 lists a
    margin.

    Args:
        anchor: z_i, float [n, d].
        same: z_j of the anchor's pseudo-class, float [n, d].
        other: z_k of another one, float [n, d].
        difference: `|p_ia - p_ja|`, of the probabilities of i and j of i's pseudo-class a,
            float [n] in [0, 1].
        mask: which triplets exist, bool or float [n]; none gives zero.
        margin: max(0, · + margin) of each triplet; None: Eq. 7 as printed.

    Returns:
        float [].

    >>> x, one = jnp.zeros((1, 2)), jnp.ones(1)
    >>> float(weighted_triplet(x, x + 1, x, 0.5 * one, one, None))
    1.0
    """
    chex.assert_rank([anchor, same, other], 2)
    chex.assert_equal_shape([anchor, same, other])
    chex.assert_type([anchor, same, other, difference], float)
    chex.assert_shape([difference, mask], anchor.shape[:1])
    difference = jnp.asarray(difference, anchor.dtype)
    losses = (1 - difference) * _squared_distance(anchor, same) - _squared_distance(anchor, other)
    if margin is not None:
        losses = jnp.maximum(losses + margin, 0)
    mask = jnp.asarray(mask, losses.dtype)
    return jnp.sum(losses * mask) / jnp.maximum(jnp.sum(mask), 1)


def batch_triplet(z: Array, labels: Array, margin: float = 0.2) -> Array:
    """Mean of `max(0, |z_i - z_j|^2 - |z_i - z_k|^2 + margin)` over a batch's triplets.

    Yang, Parikh & Batra 2016, Eq. 8, with a weight of one: j of i's cluster, k of any other. Its
    published code draws 20 samples k for each pair (i, j); here k runs over the whole batch, which
    is what the draws' mean tends to.

    Args:
        z: embeddings, float [n, d].
        labels: clusters, int [n].
        margin: how much farther the other must be, squared distance.

    Returns:
        float []: mean over pairs of the mean over others; zero where no triplet exists.

    >>> z = jnp.array([[0.0], [0.0], [1.0]])
    >>> round(float(batch_triplet(z, jnp.array([0, 0, 1]))), 4)  # apart by the margin
    0.0
    >>> round(float(batch_triplet(z, jnp.array([0, 1, 0]))), 4)  # 1 - 0 + 0.2
    1.2
    """
    chex.assert_rank([z, labels], [2, 1])
    chex.assert_shape(labels, z.shape[:1])
    chex.assert_type([z, labels], [float, int])
    squares = jnp.sum(jnp.square(z[:, None] - z[None]), axis=2)
    same = labels[:, None] == labels[None]
    pairs = jnp.triu(same, 1).astype(z.dtype)  # each once, the first of the two as the anchor
    others = (~same).astype(z.dtype)
    losses = jnp.maximum(squares[:, :, None] - squares[:, None, :] + margin, 0)
    per_pair = jnp.sum(losses * others[:, None], axis=2)
    counts = jnp.sum(others, axis=1)
    pairs = pairs * (counts[:, None] > 0).astype(z.dtype)
    means = per_pair / jnp.maximum(counts, 1)[:, None]
    return jnp.sum(means * pairs) / jnp.maximum(jnp.sum(pairs), 1)
