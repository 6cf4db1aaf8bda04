import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.datasets import make_blobs, make_circles
from sklearn.decomposition import NMF

from jaxclust import metrics
from jaxclust.clustering.host import clusterers


def test_spectral_separates_rings_which_ward_cannot():
    x, labels = make_circles(300, factor=0.4, noise=0.03, random_state=0)
    x = x.astype(np.float32)
    found = clusterers.spectral(x, 2, seed=0)
    assert found.dtype == np.int32
    assert metrics.score(labels, found)["acc"] == 1
    assert metrics.score(labels, clusterers.agglomerative(x, 2))["acc"] < 0.9


def test_spectral_takes_sets_smaller_than_its_neighbourhood():
    x = np.array([[0, 0], [0, 1], [9, 9], [9, 8]], np.float32)
    assert len(set(clusterers.spectral(x, 2, seed=0))) == 2


@pytest.mark.parametrize("linkage", ["ward", "average", "complete", "single"])
def test_agglomerative_finds_blobs(linkage):
    x, labels = make_blobs(120, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    found = clusterers.agglomerative(x.astype(np.float32), 3, linkage)
    assert metrics.score(labels, found)["acc"] == 1


def test_nmf_weights_are_the_non_negative_least_squares():
    rng = np.random.default_rng(0)
    components = rng.uniform(size=(4, 12)).astype(np.float32)
    x = rng.uniform(size=(20, 12)).astype(np.float32)
    found = clusterers.nmf_weights(jnp.asarray(x), jnp.asarray(components))
    expected = np.stack([nnls(components.T, row)[0] for row in x])
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_nmf_reconstructs_as_well_as_scikit_learn():
    rng = np.random.default_rng(1)
    x = (rng.uniform(size=(60, 3)) @ rng.uniform(size=(3, 15))).astype(np.float32)
    components = clusterers.nmf(x, 3, seed=0, max_iterations=5000)
    assert components.dtype == np.float32
    assert components.min() >= 0
    np.testing.assert_allclose(np.linalg.norm(components, axis=1), 1, rtol=1e-5)
    weights = np.asarray(clusterers.nmf_weights(jnp.asarray(x), jnp.asarray(components)))
    ours = np.linalg.norm(x - weights @ components)
    theirs = NMF(3, init="nndsvda", max_iter=5000, random_state=0).fit(x).reconstruction_err_
    assert ours <= 1.05 * theirs + 1e-4
