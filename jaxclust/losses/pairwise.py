"""Pairwise classification of label features (Chang et al. 2017, DAC)."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

# Similarities are kept this far from 0 and 1, where the logarithm has no bound.
CLIP = 1e-7


def restrain(logits: Array) -> Array:
    """Label features: exp(z - max z), then rows of unit length.

    Chang et al. 2017, Eqs. 9a and 9b, the restraint layer: no entry is negative and
    every row has length one, as the clustering constraint (Eq. 3) asks.

    Args:
        logits: z, float [b, k].

    Returns:
        float [b, k].

    >>> restrain(jnp.zeros((1, 4))).tolist()
    [[0.5, 0.5, 0.5, 0.5]]
    """
    chex.assert_rank(logits, 2)
    chex.assert_type(logits, float)
    powers = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True)))
    return powers / jnp.sqrt(jnp.sum(jnp.square(powers), axis=-1, keepdims=True))


def cosine_similarities(label_features: Array) -> Array:
    """Dot products of all pairs of rows of unit length (Chang et al. 2017, Eq. 4).

    `optax.losses.cosine_similarity` compares one row with one other, and divides by lengths that
    are one here.

    Args:
        label_features: rows of unit length, float [b, k].

    Returns:
        float [b, b].

    >>> cosine_similarities(jnp.array([[1.0, 0.0], [0.6, 0.8]])).round(2).tolist()[0][0]
    1.0
    """
    chex.assert_rank(label_features, 2)
    chex.assert_type(label_features, float)
    # Accelerators would round the factors, and thresholds near one are compared with these.
    return jnp.dot(label_features, label_features.T, precision=jax.lax.Precision.HIGHEST)


def select_pairs(
    similarities: Array, upper: Array | float, lower: Array | float
) -> tuple[Array, Array]:
    """Which pairs are taken as similar, which as dissimilar, which are left out.

    Chang et al. 2017, Eqs. 6 and 8: similar from `upper` on, dissimilar below
    `lower`, no label between.

    Args:
        similarities: float [b, b].
        upper: u, float [].
        lower: l, float [], at most u.

    Returns:
        (targets r, one for similar pairs and zero elsewhere; mask v, one for selected
        pairs), both [b, b] of the similarities' dtype.

    >>> targets, mask = select_pairs(jnp.array([[1.0, 0.7], [0.7, 0.2]]), 0.9, 0.5)
    >>> targets.tolist(), mask.tolist()
    ([[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]])
    """
    chex.assert_rank(similarities, 2)
    chex.assert_type(similarities, float)
    chex.assert_rank([upper, lower], 0)
    similar = similarities >= upper
    selected = similar | (similarities < lower)
    return similar.astype(similarities.dtype), selected.astype(similarities.dtype)


def _check_pairs(label_features: Array, targets: Array, mask: Array) -> None:
    """Raise AssertionError unless float [b, k], [b, b] and [b, b]."""
    chex.assert_rank(label_features, 2)
    chex.assert_shape([targets, mask], (label_features.shape[0],) * 2)
    chex.assert_type([label_features, targets, mask], float)


def _mean_of_selected(losses: Array, mask: Array) -> Array:
    return jnp.sum(losses * mask) / jnp.maximum(jnp.sum(mask), 1)


def pairwise_bce(label_features: Array, targets: Array, mask: Array) -> Array:
    """Mean binary cross-entropy between pair targets and cosine similarities.

    Chang et al. 2017, Eqs. 2 and 10, over the selected pairs. Similarities are clipped
    to [CLIP, 1 - CLIP], so that the loss of a perfect clustering is -log(1 - CLIP).

    Args:
        label_features: rows of unit length without negative entries, float [b, k].
        targets: r, float [b, b].
        mask: v, float [b, b]; all zero gives zero.

    Returns:
        float [].

    >>> one_hot = jnp.eye(2)
    >>> float(pairwise_bce(one_hot, jnp.eye(2), jnp.ones((2, 2)))) < 2e-7
    True
    """
    _check_pairs(label_features, targets, mask)
    similarities = jnp.clip(cosine_similarities(label_features), CLIP, 1 - CLIP)
    losses = -targets * jnp.log(similarities) - (1 - targets) * jnp.log1p(-similarities)
    return _mean_of_selected(losses, mask)


def pairwise_squared_error(label_features: Array, targets: Array, mask: Array) -> Array:
    """Mean squared difference of pair targets and cosine similarities.

    What the published code of Chang et al. 2017 minimises on MNIST in place of
    :func:`pairwise_bce`.

    Args:
        label_features: rows of unit length, float [b, k].
        targets: r, float [b, b].
        mask: v, float [b, b]; all zero gives zero.

    Returns:
        float [].

    >>> float(pairwise_squared_error(jnp.eye(2), jnp.ones((2, 2)), jnp.ones((2, 2))))
    0.5
    """
    _check_pairs(label_features, targets, mask)
    similarities = cosine_similarities(label_features)
    return _mean_of_selected(jnp.square(similarities - targets), mask)


def pairwise_absolute_error(label_features: Array, targets: Array, mask: Array) -> Array:
    """Mean absolute difference of pair targets and cosine similarities.

    What the published code of Chang et al. 2017 minimises on CIFAR-10, but for a factor: its
    cross-entropy has targets and similarities in each other's place, so that with targets clipped
    at :data:`CLIP` a pair costs -log(CLIP) times the difference.

    Args:
        label_features: rows of unit length, float [b, k].
        targets: r, float [b, b].
        mask: v, float [b, b]; all zero gives zero.

    Returns:
        float [].

    >>> float(pairwise_absolute_error(jnp.eye(2), jnp.ones((2, 2)), jnp.ones((2, 2))))
    0.5
    """
    _check_pairs(label_features, targets, mask)
    similarities = cosine_similarities(label_features)
    return _mean_of_selected(jnp.abs(similarities - targets), mask)


def self_label_bce(probabilities: Array, targets: Array) -> Array:
    """Mean binary cross-entropy of outputs against earlier outputs of the same network.

    The auxiliary term of the published code, which keeps labels from drifting within
    the passes over one draw of images.

    Args:
        probabilities: float [b, k] in [0, 1]: the softmax output, or label features.
        targets: float [b, k] in [0, 1], held fixed.

    Returns:
        float [], mean over all b * k entries.

    >>> float(self_label_bce(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0]]))) < 2e-7
    True
    """
    chex.assert_rank([probabilities, targets], 2)
    chex.assert_equal_shape([probabilities, targets])
    chex.assert_type([probabilities, targets], float)
    clipped = jnp.clip(probabilities, CLIP, 1 - CLIP)
    return -jnp.mean(targets * jnp.log(clipped) + (1 - targets) * jnp.log1p(-clipped))
