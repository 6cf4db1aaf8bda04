import dataclasses
import functools

import jax
import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from jaxclust import metrics
from jaxclust.core.errors import InputError, option
from jaxclust.core.types import DataSpec
from jaxclust.images.normalisation import measure, normalise
from jaxclust.methods import ac_pic
from jaxclust.methods.registry import METHODS
from jaxclust.training import loop, placement
from jaxclust.training.prediction import predictor
from tests.clustering import outlying

CLASSICAL = ["gmm", "spectral", "agglomerative", "nmf"]


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1)[:600].astype(np.uint8)
    return placement.put(images, measure(images)), labels[:600]


def fitted(name, data, **changes):
    config = dataclasses.replace(METHODS[name].config("best"), **changes)
    method = METHODS[name].build(config, placement.spec_of(data, 10))
    state = loop.fit(method, data, seed=0).state
    return method, state, predictor(method, data)(state)


@pytest.fixture(scope="module")
def with_defaults(digits):
    """`fitted` with the settings of preset best, once a method."""
    return functools.cache(lambda name: fitted(name, digits[0]))


def pixels(data):
    return np.asarray(normalise(data.images, data.normalisation)).reshape(len(data.images), -1)


def test_agglomerative_labels_are_scikit_learns(digits, with_defaults):
    data, _ = digits
    _, _, prediction = with_defaults("agglomerative")
    expected = AgglomerativeClustering(10).fit_predict(pixels(data))
    np.testing.assert_array_equal(prediction.assignments, expected)


def test_gmm_is_as_likely_as_scikit_learns(digits):
    data, _ = digits
    _, state, _ = fitted("gmm", data, components=8, restarts=2, covariance="diag")
    x = pixels(data)
    projected = PCA(8, random_state=0).fit_transform(x)
    reference = GaussianMixture(10, covariance_type="diag", n_init=2, random_state=0)
    best = reference.fit(projected).score(projected)
    model = state.cluster.mixture
    ours = (x - np.asarray(state.cluster.mean)) @ np.asarray(state.cluster.basis)
    offsets = (ours[:, None] - np.asarray(model.means)) / 1
    scaled = np.einsum("nkd,kde->nke", offsets, np.asarray(model.factors))
    logs = (
        np.log(np.asarray(model.weights))
        + np.log(np.diagonal(np.asarray(model.factors), axis1=1, axis2=2)).sum(axis=1)
        - 0.5 * np.square(scaled).sum(axis=2)
        - 4 * np.log(2 * np.pi)
    )
    assert np.logaddexp.reduce(logs, axis=1).mean() > best - 0.3


@pytest.mark.parametrize(("name", "least"), [("gmm", 0.5), ("spectral", 0.7), ("nmf", 0.3)])
def test_digits_are_grouped(digits, with_defaults, name, least):
    _, labels = digits
    _, _, prediction = with_defaults(name)
    assert metrics.score(labels, prediction.assignments)["acc"] > least


@pytest.mark.parametrize("name", CLASSICAL)
def test_new_images_like_old_ones_get_their_labels(digits, with_defaults, name):
    data, _ = digits
    method, state, prediction = with_defaults(name)
    rng = np.random.default_rng(0)
    images = np.asarray(normalise(data.images[:50], data.normalisation))
    new = images + rng.normal(scale=1e-3, size=images.shape).astype(np.float32)
    found = jax.jit(method.predict)(state, new)
    assert np.mean(found.assignments == prediction.assignments[:50]) > 0.95


@pytest.mark.parametrize(("name", "n"), [("agglomerative", 30_001), ("spectral", 100_001)])
def test_sets_that_cannot_fit_are_refused_with_what_to_do(name, n):
    with pytest.raises(InputError, match=r"limit .* or use minibatch_kmeans"):
        METHODS[name].build(METHODS[name].config("best"), DataSpec(n, (8, 8, 1), 10))


@pytest.mark.parametrize(
    ("name", "changes"), [("gmm", {"components": 0}), ("spectral", {"neighbours": 1})]
)
def test_settings_without_sense_are_refused(name, changes):
    config = dataclasses.replace(METHODS[name].config("best"), **changes)
    with pytest.raises(InputError) as refused:
        METHODS[name].build(config, DataSpec(100, (8, 8, 1), 10))
    assert option(next(iter(changes))) in refused.value.on_command_line()


def test_minibatch_kmeans_takes_no_full_pass_and_comes_near_it(digits):
    data, _ = digits
    _, start, _ = fitted("minibatch_kmeans", data, epochs=0)
    # Seeds are images, and none has absorbed any yet.
    assert float(start.cluster.counts.sum()) == 0
    rows = {row.tobytes() for row in pixels(data).astype(np.float32)}
    assert {row.tobytes() for row in np.asarray(start.cluster.centroids)} <= rows
    x = pixels(data)

    def inertia(state):
        centroids = np.asarray(state.cluster.centroids)
        return np.square(x[:, None] - centroids).sum(axis=2).min(axis=1).sum()

    full = inertia(fitted("kmeans", data)[1])
    batched = inertia(fitted("minibatch_kmeans", data, batch_size=100)[1])
    assert full <= batched < 1.1 * full < inertia(start)


@pytest.mark.parametrize(("share", "smallest"), [(0.0, 2), (0.2, 20)])
def test_ac_pic_sets_outliers_apart(share, smallest):
    rows = outlying.blobs()[0].astype(np.float32)
    config = ac_pic.Config(outlier_share=share, unit_length=False, neighbours=12)
    method, data = ac_pic.build(config, DataSpec(62, (3,), 3)), placement.put(rows, measure(rows))
    found = predictor(method, data)(loop.fit(method, data, seed=0).state).assignments
    assert np.bincount(found).min() == smallest


def test_the_published_ac_pic_has_no_rule_for_outliers():
    shares = {name: preset.outlier_share for name, preset in ac_pic.PRESETS.items()}
    assert shares == {"best": 0.1, "paper": 0}
