"""The worst small change of an image, against NumPy and brute force."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax, rel_entr, softmax

from jaxclust.losses import virtual_adversarial

RNG = np.random.default_rng(0)
B, D, K = 5, 6, 3
TURN = RNG.normal(size=(D, K))
X = RNG.normal(size=(B, D))
NOISE = RNG.normal(size=(B, D))
RADIUS = np.linspace(0.1, 0.5, B)


def network(x):
    return jnp.tanh(x) @ TURN


def by_hand(x):
    return np.tanh(x) @ TURN


def divergence(x, changed):
    p, q = softmax(by_hand(x), axis=1), softmax(by_hand(changed), axis=1)
    return rel_entr(p, q).sum(axis=1)


def slope(x, changed):
    """Of the divergence, by what is changed: (q - p) through the layer and tanh."""
    p, q = softmax(by_hand(x), axis=1), softmax(by_hand(changed), axis=1)
    return ((q - p) @ TURN.T) * (1 - np.tanh(changed) ** 2)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_a_power_step_and_the_change_are_a_second_reading_s():
    with jax.enable_x64(True):
        found = virtual_adversarial(
            jnp.asarray(X), network(X), jnp.asarray(NOISE), jnp.asarray(RADIUS), network, reach=0.7
        )
    direction = unit(slope(X, X + 0.7 * unit(NOISE)))
    expected = divergence(X, X + RADIUS[:, None] * direction).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_no_other_direction_moves_an_image_more():
    with jax.enable_x64(True):
        found = virtual_adversarial(
            jnp.asarray(X), network(X), jnp.asarray(NOISE), jnp.full(B, 1e-3), network, 1e-3, 60
        )
    others = unit(RNG.normal(size=(2000 * B, D))).reshape(2000, B, D)
    worst = max(divergence(X, X + 1e-3 * other).mean() for other in others)
    assert worst <= float(found) * (1 + 1e-3)
    assert worst > 0.5 * float(found)


def test_gradients_flow_through_the_changed_images_alone():
    """The direction and the images' own assignments are held, as the authors hold them."""

    def loss(turn, held=None):
        logits = jnp.tanh(X) @ (turn if held is None else held)
        return virtual_adversarial(
            jnp.asarray(X), logits, jnp.asarray(NOISE), jnp.asarray(RADIUS),
            lambda x: jnp.tanh(x) @ turn, 0.7,
        )  # fmt: skip

    with jax.enable_x64(True):
        found = jax.grad(loss)(jnp.asarray(TURN))
        np.testing.assert_allclose(found, jax.grad(loss)(jnp.asarray(TURN), TURN), rtol=1e-12)
    changed = np.tanh(X + RADIUS[:, None] * unit(slope(X, X + 0.7 * unit(NOISE))))
    q, p = np.exp(log_softmax(changed @ TURN, axis=1)), softmax(by_hand(X), axis=1)
    np.testing.assert_allclose(found, changed.T @ (q - p) / B, rtol=1e-8)
