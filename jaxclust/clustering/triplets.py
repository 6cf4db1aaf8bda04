"""Which images make a triplet: partners of the same cluster, and ones unlike them."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxclust.core import keys


def choose_triplets(key: Array, classes: Array, valid: Array) -> tuple[Array, Array, Array]:
    """For each sample of a batch, another one of its class and one of another class.

    Args:
        key: random key.
        classes: pseudo-classes, int [b].
        valid: samples that may be part of a triplet, bool [b].

    Returns:
        (rows of the same class int [b], rows of another int [b], whether both exist
        bool [b]).
    """
    b = classes.shape[0]
    same_key, other_key = jax.random.split(key)
    alike = classes[:, None] == classes[None]
    same = alike & valid[None] & ~jnp.eye(b, dtype=bool)
    other = ~alike & valid[None]

    def draw(key: Array, allowed: Array) -> Array:
        scores = jax.random.uniform(key, (b, b))
        return jnp.argmax(jnp.where(allowed, scores, -1.0), axis=1)

    exists = valid & jnp.any(same, axis=1) & jnp.any(other, axis=1)
    return draw(same_key, same), draw(other_key, other), exists


def choose_negatives(
    key: Array, latent: Array, candidates: Array, radius: Array, positions: Array, tries: int
) -> Array:
    """A negative for each anchor: Algorithm 1, with a bounded number of draws.

    Args:
        key: random key; each anchor's draws are keyed by its position.
        latent: of the anchors, float [b, d].
        candidates: latents that negatives are drawn from, float [n, d].
        radius: distance of each anchor's farthest view from it, float [b].
        positions: where in `candidates` each anchor itself stands, int [b].
        tries: draws for each anchor.

    Returns:
        int32 [b], rows of `candidates`: each anchor's first draw that lies farther away than its
        views, or else its farthest draw.
    """

    def one(latent: Array, radius: Array, position: Array) -> Array:
        # Any row but the anchor's own.
        shift = jax.random.randint(keys.of_row(key, position), (tries,), 1, candidates.shape[0])
        drawn = (position + shift) % candidates.shape[0]
        distances = jnp.linalg.norm(candidates[drawn] - latent[None], axis=1)
        outside = distances > radius
        chosen = jnp.where(jnp.any(outside), jnp.argmax(outside), jnp.argmax(distances))
        return drawn[chosen].astype(jnp.int32)

    return jax.vmap(one)(latent, radius, positions)
