import importlib.util
import logging
import subprocess
import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from jaxclust.clustering.host import reducers, samples
from jaxclust.core.errors import InputError, RunError


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
def test_ten_thousand_samples_are_mapped_to_three_dimensions(monkeypatch):
    if importlib.util.find_spec("openTSNE") is None:
        pytest.skip("openTSNE is not installed (extra tsne)")
    monkeypatch.setattr(reducers, "_EXAGGERATED", 1)
    monkeypatch.setattr(reducers, "_ITERATIONS", 1)
    x = np.random.default_rng(0).normal(size=(10_000, 3)).astype(np.float32)
    assert reducers.reduce(x, "tsne", seed=0, dimensions=3, neighbours=5).shape == (10_000, 3)


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


# In an interpreter of its own: what this guards against ends the whole interpreter.
_SPREADLESS = """
import importlib.util, sys
import numpy as np
from jaxclust.clustering.host import reducers
from jaxclust.core.errors import RunError

reducer, hidden = sys.argv[1:]
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == hidden else find_spec(name)
rng = np.random.default_rng(0)
for n in (2, 3, 4, 5, 12, 60):
    apart = rng.normal(size=(n, 5))
    refused = {
        "zero": np.zeros((n, 5)),
        "alike": np.full((n, 5), 0.3),
        "rounding apart": np.float32(7) + np.float32(4e-7) * rng.integers(0, 2, (n, 5)),
        "NaN": np.where(np.arange(5) == 2, np.nan, apart),
        "infinite": np.where(np.arange(5) == 2, np.inf, apart),
    }
    reduced = {
        "all but one": np.vstack([np.zeros((n - 1, 5)), np.ones((1, 5))]),
        "two": apart[np.arange(n) % 2],
        "fewer than neighbours": apart[np.arange(n) % 3],
        "one column": apart[:, :1],
        "tiny": 1e-40 * apart,
        "huge": 1e25 * apart,
        "far from zero": 1e6 + (np.arange(n) % 2)[:, None] * np.ones(5),
    }
    for name, x in (refused | reduced).items():
        try:
            found = reducers.reduce(x.astype(np.float32), reducer, seed=0)
            assert name in reduced and np.isfinite(found).all() and len(found) == n, (name, n)
        except RunError as error:
            said = str(error)
            assert name in refused and ("are alike" in said or "not finite" in said), (name, n)
print("all seen")
"""


@pytest.mark.parametrize(
    ("reducer", "hidden"),
    [("tsne", "nothing"), ("tsne", "openTSNE"), ("tsne_exact", "nothing"), ("pca", "nothing")],
)
def test_samples_without_spread_never_reach_compiled_code(reducer, hidden):
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", _SPREADLESS, reducer, hidden]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "all seen\n"), done.stderr[-2000:]


def test_ordinary_samples_are_left_as_they_are():
    x, _ = blobs()
    assert samples.in_range(x) is x
    assert samples.widened(x, 10, 0) is x
    far = samples.in_range(x + 1e5)
    np.testing.assert_allclose(
        np.linalg.norm(far[0] - far[60]) / np.linalg.norm(far[3] - far[110]),
        np.linalg.norm(x[0] - x[60]) / np.linalg.norm(x[3] - x[110]),
        rtol=1e-2,
    )
    np.testing.assert_allclose(np.square(far).sum(axis=1).mean(), 1, rtol=1e-5)


def test_few_samples_take_one_thread_and_many_all(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    with samples.fewer_threads(24, 2_000) as threads:
        assert threads == 1
    with samples.fewer_threads(2_000, 2_000) as threads:
        assert threads == 3
    seen = []
    monkeypatch.setattr(reducers, "_reduced", lambda x, *rest: (seen.append(rest[-1]), x[:, :2])[1])
    reducers.reduce(blobs()[0], "tsne", seed=0)
    reducers.reduce(np.tile(blobs()[0], (20, 1)), "tsne", seed=0)
    assert seen == [1, 3]


def test_a_library_s_own_failure_is_one_sentence(monkeypatch):
    def fail(*_):
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    monkeypatch.setattr(reducers, "_open_tsne", fail)
    monkeypatch.setattr(reducers, "_tsne_of_scikit_learn", fail)
    with pytest.raises(RunError, match="t-SNE failed: Eigenvalues did not converge"):
        reducers.reduce(blobs()[0], "tsne", seed=0)


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
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name != "openTSNE" or None)
    with pytest.raises(InputError, match="UMAP needs at least 4 images, not 3"):
        reducers.check_reducer("umap", 3)
    reducers.check_reducer("tsne", 20_000)
    with pytest.raises(InputError, match=r"tsne\]'.* at most 20,000 images with limit"):
        reducers.check_reducer("tsne", 20_001)
