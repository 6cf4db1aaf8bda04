"""DCN: its step read a second time in NumPy, the whole on small images."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust import metrics
from jaxclust.clustering.kmeans import KMeansState
from jaxclust.core.types import Batch, DataSpec
from jaxclust.methods import dcn
from jaxclust.models.autoencoder import Coded
from jaxclust.models.layers import Dense
from jaxclust.training import loop
from jaxclust.training.prediction import predictor
from tests.methods import small

N, SIDE, WIDTH, K = 30, 3, 4, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, SIDE, SIDE, 1)).astype(np.float32)


class Linear(nn.Module):
    """One linear layer each way."""

    def setup(self):
        self.encoder, self.decoder = Dense(WIDTH), Dense(SIDE * SIDE)

    def encode(self, x, train):
        del train
        return self.encoder(x.reshape(len(x), -1))

    def __call__(self, x, train):
        z = self.encode(x, train)
        return Coded(z, self.decoder(z).reshape(x.shape))


def begun():
    config = dcn.Config(latent_width=WIDTH, batch_size=10, clustering_weight=0.7)
    method = dcn.build(config, DataSpec(N, (SIDE, SIDE, 1), K), network=Linear())
    state = method.init(jax.random.key(0), jnp.asarray(X[:2]))
    centroids = jnp.asarray(RNG.normal(size=(K, WIDTH)), jnp.float32)
    assignments = jnp.asarray(RNG.integers(0, K, N), jnp.int32)
    cluster = dcn.ClusterState(KMeansState(centroids, jnp.full(K, 100.0)), assignments)
    return method, state.replace(cluster=cluster)


def double(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def test_the_loss_is_a_second_reading_s():
    """Distances to the centroids given before, and a value's mean squared error."""
    method, state = begun()
    rows = np.arange(20, 30)
    after, info = jax.jit(method.step)(state, Batch(jnp.asarray(X[rows]), jnp.asarray(rows)))
    weights, x = double(state.params["network"]), X[rows].reshape(10, -1).astype(np.float64)
    z = x @ weights["encoder"]["kernel"] + weights["encoder"]["bias"]
    decoded = z @ weights["decoder"]["kernel"] + weights["decoder"]["bias"]
    own = double(state.cluster.kmeans.centroids)[np.asarray(state.cluster.assignments)[rows]]
    distance = np.square(z - own).sum(axis=1).mean()
    error = np.square(decoded - x).mean()
    np.testing.assert_allclose(info.watch["clustering_loss"], distance, rtol=1e-5)
    np.testing.assert_allclose(info.watch["reconstruction"], error, rtol=1e-5)
    np.testing.assert_allclose(info.loss, 0.7 * distance + error, rtol=1e-5)
    # Adam's first step has the sign of the slope, here of the encoder's bias.
    slope = 1.4 * (z - own).mean(axis=0)
    slope += 2 * ((decoded - x) @ weights["decoder"]["kernel"].T).mean(axis=0) / x.shape[1]
    moved = double(after.params["network"]["encoder"]["bias"]) - weights["encoder"]["bias"]
    np.testing.assert_allclose(moved, -1e-3 * np.sign(slope), rtol=1e-2)


def test_assignments_and_centroids_follow_image_by_image():
    """Of the new network's latents; each moves its centroid by one over those seen (Eq. 8)."""
    method, state = begun()
    rows = np.arange(10)
    after, _ = jax.jit(method.step)(state, Batch(jnp.asarray(X[rows]), jnp.asarray(rows)))
    weights, x = double(after.params["network"]), X[rows].reshape(10, -1).astype(np.float64)
    z = x @ weights["encoder"]["kernel"] + weights["encoder"]["bias"]
    centroids = double(state.cluster.kmeans.centroids)
    nearest = np.square(z[:, None] - centroids[None]).sum(axis=2).argmin(axis=1)
    counts = np.full(K, 100)
    for one, cluster in zip(z, nearest, strict=True):
        counts[cluster] += 1
        centroids[cluster] -= (centroids[cluster] - one) / counts[cluster]
    np.testing.assert_allclose(after.cluster.kmeans.centroids, centroids, rtol=1e-4)
    np.testing.assert_array_equal(after.cluster.kmeans.counts, counts)
    expected = np.asarray(state.cluster.assignments).copy()
    expected[rows] = nearest
    np.testing.assert_array_equal(after.cluster.assignments, expected)


@pytest.mark.parametrize("features", [False, True])
def test_kinds_of_picture_are_told_apart(features):
    data = small.data()
    shape = data.images.shape[1:]
    if features:
        pictures = small.images()[0].reshape(120, -1).astype(np.float32)
        data = small.placement.put(pictures, small.measure(pictures))
        shape = pictures.shape[1:]
    config = dcn.Config(latent_width=3, batch_size=20, pretrain_epochs=10, epochs=2)
    method = dcn.build(config, DataSpec(120, shape, 3))
    fitted = loop.fit(method, data, seed=0)
    found = predictor(method, data)(fitted.state).assignments
    assert metrics.accuracy(small.images()[1], np.asarray(found)) > 0.95
