import importlib.util
import logging

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from jaxclust.clustering.host import reducers
from jaxclust.core.errors import InputError


def blobs():
    rng = np.random.default_rng(0)
    centres = 8 * rng.normal(size=(3, 10))
    labels = np.repeat(np.arange(3), 50)
    return (centres[labels] + rng.normal(size=(150, 10))).astype(np.float32), labels


def test_pca_is_scikit_learns():
    x, _ = blobs()
    found = reducers.reduce(x, "pca", seed=0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        np.abs(found), np.abs(PCA(2, random_state=0).fit_transform(x)), rtol=1e-3, atol=1e-3
    )
    np.testing.assert_array_equal(reducers.reduce(x, "none", seed=0), x)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reducer", ["tsne", "umap"])
def test_neighbours_stay_neighbours(reducer):
    if reducer == "umap" and importlib.util.find_spec("umap") is None:
        pytest.skip("umap-learn is not installed (extra umap)")
    x, labels = blobs()
    found = reducers.reduce(x, reducer, seed=0)
    assert found.shape == (150, 2)
    assert KNeighborsClassifier(5).fit(found, labels).score(found, labels) > 0.98
    np.testing.assert_array_equal(reducers.reduce(x, reducer, seed=0), found)


def test_few_samples_lower_the_perplexity():
    x, _ = blobs()
    assert reducers.reduce(x[::20], "tsne", seed=0).shape == (8, 2)


def test_tsne_says_how_far_it_is(caplog):
    if importlib.util.find_spec("openTSNE") is None:
        pytest.skip("openTSNE is not installed (extra tsne)")
    with caplog.at_level(logging.INFO, "jaxclust.progress"):
        reducers.reduce(blobs()[0], "tsne", seed=0)
    assert "t-SNE iteration 750 of 750" in caplog.text


def test_a_missing_library_is_named_before_work_starts(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'jaxclust\[umap\]'"):
        reducers.check_reducer("umap", 100)
    reducers.check_reducer("tsne", 20_000)
    with pytest.raises(InputError, match=r"jaxclust\[tsne\]'.* or take at most 20,000 images"):
        reducers.check_reducer("tsne", 20_001)
