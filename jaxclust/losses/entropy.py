"""How unsure assignments are, and how even."""

import chex
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import entr


def assignment_entropy(q: Array, evenness: float = 1.0) -> Array:
    """Mean entropy of the rows minus the entropy of their mean, to be minimised.

    Das, Ghosh & Bhowmick 2019, Eq. 6, after Bridle, Heading & MacKay 1992: its negative
    is the mutual information of samples and clusters, largest where every sample is sure
    of its cluster and the clusters are even. Eq. 6 prints the opposite sign; minimising
    that would make assignments ambiguous, against the paper's own words and its source. It also
    sums over the samples where this takes the mean.

    Args:
        q: float [n, k]; rows sum to one.
        evenness: weight of the mean's entropy; Hu et al. 2017 take 4 (their mu).

    Returns:
        float [], with an evenness of 1 in [-log k, 0].

    >>> round(float(assignment_entropy(jnp.eye(2))), 4)  # sure and even: -log 2
    -0.6931
    >>> float(assignment_entropy(jnp.full((3, 2), 0.5))) == 0
    True
    """
    chex.assert_rank(q, 2)
    chex.assert_type(q, float)
    # Entries of zero have entropy zero but an infinite slope.
    q = jnp.maximum(q, jnp.finfo(q.dtype).tiny)
    return jnp.mean(jnp.sum(entr(q), axis=1)) - evenness * jnp.sum(entr(jnp.mean(q, axis=0)))
