"""Exact t-SNE against scikit-learn's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import squareform
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE
from sklearn.manifold._t_sne import _joint_probabilities, _kl_divergence
from sklearn.metrics import pairwise_distances

from jaxclust.clustering import tsne

PERPLEXITY = 20.0


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:300].astype(np.float32) / 4


@pytest.fixture(scope="module")
def found(digits):
    return jax.jit(tsne.affinities)(jnp.asarray(digits), PERPLEXITY)


def reference(x):
    distances = pairwise_distances(x, squared=True).astype(np.float32)
    return _joint_probabilities(distances, PERPLEXITY, verbose=0)


def test_affinities_are_scikit_learns(digits, found):
    p = tsne.joint(jnp.asarray(digits), jnp.arange(300), found)
    np.testing.assert_allclose(p, squareform(reference(digits)), rtol=2e-3, atol=1e-7)
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-2, 5.0])
def test_the_gradient_is_scikit_learns(digits, found, scale):
    y = scale * np.random.default_rng(0).normal(size=(300, 2))
    divergence, expected = _kl_divergence(
        y.ravel(), reference(digits), degrees_of_freedom=1, n_samples=300, n_components=2
    )
    now = jax.jit(tsne.slope)(jnp.asarray(y, jnp.float32), jnp.asarray(digits), found)
    np.testing.assert_allclose(now.divergence, divergence, rtol=1e-4)
    distance = np.linalg.norm(now.gradient - expected.reshape(300, 2))
    assert distance < 1e-4 * np.linalg.norm(expected)


def test_blocks_change_nothing(digits, found, monkeypatch):
    y = jnp.asarray(np.random.default_rng(0).normal(size=(300, 2)), jnp.float32)
    whole = tsne.slope(y, jnp.asarray(digits), found)
    monkeypatch.setattr(tsne, "block_rows", lambda n, k: 70)
    parts = tsne.slope(y, jnp.asarray(digits), found)
    np.testing.assert_allclose(parts.gradient, whole.gradient, atol=1e-7)
    again = tsne.affinities(jnp.asarray(digits), PERPLEXITY)
    np.testing.assert_allclose(again.precisions, found.precisions, rtol=1e-4)


def test_the_same_schedule_ends_as_near(digits, found):
    first = 1e-4 * np.random.default_rng(1).normal(size=(300, 2)).astype(np.float32)
    theirs = TSNE(perplexity=PERPLEXITY, method="exact", init=first, max_iter=500).fit(digits)
    samples = jnp.asarray(digits)

    @jax.jit
    def run(y):
        state = tsne.descend(tsne.start(y), samples, found, 500)
        return tsne.slope(state.y, samples, found).divergence

    assert run(jnp.asarray(first)) <= 1.02 * theirs.kl_divergence_
