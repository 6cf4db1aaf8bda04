"""Convolutional k-means beside loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust.clustering import convolutional
from jaxclust.clustering.convolutional import Whitening
from jaxclust.models.layers import conv2d

M, SIDE, WINDOW, C = 60, 3, 6, 2
RNG = np.random.default_rng(0)
WINDOWS = RNG.normal(size=(M, WINDOW, WINDOW, C)) @ np.array([[1.0, 0.4], [0.0, 0.7]])
WINDOWS = WINDOWS.astype(np.float32)
PLACES = [(i, j) for i in range(WINDOW - SIDE + 1) for j in range(WINDOW - SIDE + 1)]


def patches():
    cut = [WINDOWS[:, i : i + SIDE, j : j + SIDE].reshape(M, -1) for i, j in PLACES]
    return np.stack(cut, axis=1).astype(np.float64)


def white_of(x, share=0.1):
    """Symmetric inverse root, by another way than the library's: a singular value decomposition."""
    flat = x.reshape(-1, x.shape[-1])
    covariance = np.cov(flat.T, bias=True)
    u, values, _ = np.linalg.svd(covariance)
    scale = 1 / np.sqrt(values + share * values.mean())
    return flat.mean(axis=0), u @ np.diag(scale) @ u.T


def test_patches_are_cut_at_every_place():
    found = convolutional.patches(jnp.asarray(WINDOWS), SIDE)
    np.testing.assert_array_equal(found, patches().astype(np.float32))


def test_whitened_patches_have_no_correlations():
    white = convolutional.whitening(jnp.asarray(WINDOWS), SIDE)
    mean, matrix = white_of(patches())
    np.testing.assert_allclose(white.mean, mean, atol=1e-5)
    np.testing.assert_allclose(white.matrix, matrix, atol=2e-4)
    plain = convolutional.whitening(jnp.asarray(WINDOWS), SIDE, share=0.0)
    x = (patches().reshape(-1, SIDE * SIDE * C) - mean) @ np.asarray(plain.matrix, np.float64)
    np.testing.assert_allclose(np.cov(x.T, bias=True), np.eye(len(mean)), atol=1e-3)


@pytest.mark.parametrize("rounds", [1, 4])
def test_filters_are_a_loop_s(rounds):
    """Window by window: the strongest answer's patch is added to its filter."""
    mean, matrix = white_of(patches())
    white = Whitening(jnp.asarray(mean, jnp.float32), jnp.asarray(matrix, jnp.float32))
    key, count = jax.random.key(3), 5
    found = convolutional.learned(key, jnp.asarray(WINDOWS), SIDE, count, white, rounds)
    whitened = (patches() - mean) @ matrix

    def begun(number):
        drawn = jax.random.permutation(jax.random.fold_in(key, number), M)[:count]
        longest = [max(one, key=np.linalg.norm) for one in whitened[np.asarray(drawn)]]
        return np.stack(longest) / np.linalg.norm(longest, axis=1, keepdims=True)

    filters = begun(0)
    for number in range(1, rounds + 1):
        sums, given = filters.copy(), np.zeros(count, int)
        for window in whitened:
            answers = window @ filters.T
            place, which = np.unravel_index(answers.argmax(), answers.shape)
            sums[which] += answers[place, which] * window[place]
            given[which] += 1
        sums[given == 0] = begun(number)[given == 0]
        filters = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(found, filters, atol=2e-4)


def test_shifted_patterns_make_one_filter():
    """Bars anywhere in their windows: one filter of each kind, though both begin alike."""
    windows = np.zeros((200, 6, 6, 1), np.float32)
    for i, window in enumerate(windows):
        row, column = RNG.integers(0, 4, 2)
        if i % 2:
            window[row : row + 3, column + 1, 0] = 1
        else:
            window[row + 1, column : column + 3, 0] = 1
    windows += 0.01 * RNG.normal(size=windows.shape).astype(np.float32)
    identity, alike = Whitening(jnp.zeros(9), jnp.eye(9)), []
    for seed in range(8):
        key = jax.random.key(seed)
        filters = convolutional.learned(key, jnp.asarray(windows), 3, 2, identity)
        energy = np.square(np.asarray(filters, np.float64)).reshape(2, 3, 3)
        # The share of a filter in its heaviest row, and in its heaviest column.
        kinds = [(one.sum(axis=1).max(), one.sum(axis=0).max()) for one in energy]
        alike.append(sorted(a - b for a, b in kinds))
    np.testing.assert_allclose(alike, 8 * [[-2 / 3, 2 / 3]], atol=0.2)


def test_the_kernel_answers_as_the_filters_do():
    mean, matrix = white_of(patches())
    white = Whitening(jnp.asarray(mean, jnp.float32), jnp.asarray(matrix, jnp.float32))
    filters = RNG.normal(size=(4, len(mean)))
    kernel, bias = convolutional.kernel(jnp.asarray(filters, jnp.float32), white, SIDE)
    found = conv2d(jnp.asarray(WINDOWS), kernel, (1, 1), "VALID") + bias[None, None, None]
    expected = (patches() - mean) @ matrix @ filters.T
    np.testing.assert_allclose(found.reshape(M, len(PLACES), 4), expected, atol=2e-3)


def test_groups_see_maps_that_answer_together():
    """Three sources of energy, each of two maps."""
    source = RNG.normal(size=(500, 3))
    signs = RNG.choice([-1, 1], size=(2, 500, 3))
    answers = np.concatenate([source * signs[0], source * signs[1]], axis=1)
    seen = convolutional.connections(jax.random.key(0), jnp.asarray(answers, jnp.float32), 6, 2)
    assert sorted(map(sorted, seen.tolist())) == sorted(2 * [[0, 3], [1, 4], [2, 5]])
    assert len({first for first, _ in seen.tolist()}) == 6


def test_maps_that_never_answer_are_their_own_neighbours():
    seen = convolutional.connections(jax.random.key(0), jnp.zeros((10, 4)), 8, 1)
    assert sorted(seen[:, 0].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
