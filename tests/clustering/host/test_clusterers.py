import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.datasets import make_blobs, make_circles
from sklearn.decomposition import NMF

from jaxclust import metrics
from jaxclust.clustering.host import clusterers
from jaxclust.core.errors import RunError


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


def few(n):
    """Sets of n samples that leave a clusterer little to go by, by name."""
    rng = np.random.default_rng(0)
    copies = rng.normal(size=(3, 5))[np.arange(n) % 3]
    found = {
        "apart": rng.normal(size=(n, 5)),
        "alike": np.full((n, 5), 0.3),
        "all but one alike": np.vstack([np.zeros((n - 1, 5)), np.ones((1, 5))]),
        "copies": copies,
        # Further from each other than a graph of neighbours reaches.
        "islands": 1000 * (np.arange(n) // 3)[:, None] + rng.normal(size=(n, 2)),
    }
    return {name: x.astype(np.float32) for name, x in found.items()}


# Warnings are errors here: none of scikit-learn's may reach a user.
@pytest.mark.parametrize("n", [2, 3, 5, 12, 40])
@pytest.mark.parametrize("name", few(2))
def test_as_many_clusters_as_samples_or_nearly_so(n, name):
    x = few(n)[name]
    for k in sorted({2, n - 1, n} - {1}):
        for found in (clusterers.spectral(x, k, seed=0), clusterers.agglomerative(x, k)):
            assert found.dtype == np.int32
            assert set(found) == set(range(k))
        components = clusterers.nmf(x - x.min(axis=0), k, seed=0)
        assert components.shape == (k, x.shape[1])
        assert np.isfinite(components).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused_in_words(wrong):
    x = few(12)["apart"]
    x[4, 1] = wrong
    for cluster in (
        lambda: clusterers.spectral(x, 3, seed=0),
        lambda: clusterers.spectral(x, 12, seed=0),
        lambda: clusterers.agglomerative(x, 3),
        lambda: clusterers.nmf(x, 3, seed=0),
        lambda: clusterers.dbscan(x, 1.0, 2, 5),
    ):
        with pytest.raises(RunError, match="1 of 12 images hold values that are not finite"):
            cluster()


@pytest.mark.parametrize(("most", "left_out"), [(4, 0), (3, 1), (1, 3)])
def test_clusters_beyond_those_kept_are_counted(most, left_out):
    centres = np.array([[0, 0], [9, 0], [0, 9], [9, 9]], np.float32)
    sizes = [8, 7, 6, 5]
    x = np.repeat(centres, sizes, axis=0)
    found = clusterers.dbscan(x, 1.0, 2, most)
    assert found.left_out == left_out
    assert found.noise.sum() == sum(sizes[most:])


def test_eigenvectors_that_are_not_found_are_said_in_one_line(monkeypatch):
    from scipy.sparse.linalg import ArpackError
    from sklearn.cluster import SpectralClustering

    def fail(self, x):
        raise ArpackError(-9999)

    monkeypatch.setattr(SpectralClustering, "fit_predict", fail)
    with pytest.raises(RunError, match=r"found no eigenvectors .*; ask for fewer clusters"):
        clusterers.spectral(few(12)["apart"], 3, seed=0)


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
