"""Sum of squared errors against pseudo-labels (Hsu & Lin 2017, CCNN)."""

import chex
import jax
import jax.numpy as jnp
from jax import Array


def sum_of_squared_errors(
    outputs: Array, pseudo_labels: Array, weights: Array | None = None
) -> Array:
    """Mean over the batch of 1/2 * sum_j (y_j - t_j)^2, t the one-hot pseudo-label.

    Hsu & Lin 2017, Eq. 1. Its gradient by the outputs is (y - t) / b, Eq. 3.
    Eqs. 4 and 8 of the paper print max(y, 0) for the derivative of ReLU; autodiff
    through the network uses the true one, the 0/1 step.

    Args:
        outputs: y, float [b, k], after the output non-linearity (ReLU or softmax).
        pseudo_labels: int [b], each in [0, k); out of range means no target at all
            (t = 0).
        weights: float or bool [b], optional; the mean becomes the weighted mean. All zero
            gives zero.

    Returns:
        float [], zero where every output equals its one-hot pseudo-label.

    >>> round(float(sum_of_squared_errors(jnp.eye(3), jnp.array([0, 1, 0]))), 3)
    0.333
    """
    outputs, pseudo_labels = jnp.asarray(outputs), jnp.asarray(pseudo_labels)
    chex.assert_rank([outputs, pseudo_labels], [2, 1])
    chex.assert_equal_shape_prefix([outputs, pseudo_labels], 1)
    chex.assert_type([outputs, pseudo_labels], [float, int])
    targets = jax.nn.one_hot(pseudo_labels, outputs.shape[-1], dtype=outputs.dtype)
    errors = 0.5 * jnp.sum(jnp.square(outputs - targets), axis=-1)
    if weights is None:
        return jnp.mean(errors)
    chex.assert_equal_shape([weights, errors])
    weights = jnp.asarray(weights, outputs.dtype)
    return jnp.sum(weights * errors) / jnp.maximum(jnp.sum(weights), 1)
