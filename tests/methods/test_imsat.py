"""IMSAT's step and its radii, read a second time in NumPy, and on blobs."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr, softmax
from scipy.stats import entropy

from jaxclust import metrics
from jaxclust.core.types import Batch, DataSpec
from jaxclust.images.normalisation import measure, normalise
from jaxclust.methods import imsat
from jaxclust.methods.registry import METHODS
from jaxclust.models.layers import Dense
from jaxclust.models.perceptron import Classified
from jaxclust.training import loop, placement
from jaxclust.training.prediction import predictor

N, D, K = 90, 6, 3
RNG = np.random.default_rng(0)
KINDS = np.arange(N) % K
BLOBS = (3 * np.eye(K)[KINDS] @ RNG.normal(size=(K, D)) + RNG.normal(size=(N, D))).astype("float32")
SPEC = DataSpec(N, (D,), K)


class Linear(nn.Module):
    """Logits linear in the values."""

    @nn.compact
    def __call__(self, x, train):
        del train
        return Classified(Dense(K)(x), x)


def test_the_step_is_a_second_reading_s():
    config = dataclasses.replace(imsat.Config(), batch_size=10, reach=0.5)
    method = imsat.build(config, SPEC, network=Linear())
    state = method.init(jax.random.key(0), jnp.asarray(BLOBS[:2]))
    radius = np.linspace(0.2, 0.9, N).astype(np.float32)
    state = state.replace(cluster=imsat.ClusterState(jnp.asarray(radius)))
    rows = np.arange(20, 30)
    _, info = jax.jit(method.step)(state, Batch(jnp.asarray(BLOBS[rows]), jnp.asarray(rows)))
    layer = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params["Dense_0"])

    def q(x):
        return softmax(x @ layer["kernel"] + layer["bias"], axis=1)

    x, p = BLOBS[rows].astype(np.float64), q(BLOBS[rows])
    # The same random directions, keyed by each image's place in the batch.
    key = imsat.keys.of(state, "directions")
    noise = np.stack([
        jax.random.normal(jax.random.fold_in(key, place), (D,)) for place in range(10)
    ]).astype(np.float64)  # fmt: skip
    first = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    slope = (q(x + 0.5 * first) - p) @ layer["kernel"].T
    worst = slope / np.linalg.norm(slope, axis=1, keepdims=True)
    changed = rel_entr(p, q(x + radius[rows, None] * worst)).sum(axis=1).mean()
    entropies = entropy(p, axis=1).mean() - 4 * entropy(p.mean(axis=0))
    np.testing.assert_allclose(info.watch["divergence"], changed, rtol=1e-3)
    np.testing.assert_allclose(info.watch["entropies"], entropies, rtol=1e-4)
    np.testing.assert_allclose(info.loss, changed + 0.1 * entropies, rtol=1e-4)


def test_an_image_moves_by_a_share_of_its_tenth_neighbours_distance():
    pictures = RNG.integers(0, 256, (40, 4, 4, 1)).astype(np.uint8)
    data = placement.put(pictures, measure(pictures))
    config = dataclasses.replace(imsat.Config(), epochs=0)
    method = imsat.build(config, DataSpec(40, (4, 4, 1), K))
    state = loop.fit(method, data, seed=0).state
    x = np.asarray(normalise(pictures, data.normalisation)).reshape(40, -1)
    distances = np.sort(np.linalg.norm(x[:, None] - x[None], axis=2), axis=1)
    np.testing.assert_allclose(state.cluster.radius, 0.25 * distances[:, 10], rtol=1e-4)


def test_the_network_starts_as_the_published_code_s():
    """Chainer 1.21's Linear(wscale=w): He's deviation by the root of w / 2."""
    spec = DataSpec(1000, (28, 28, 1), 10)
    state = imsat.build(imsat.Config(), spec).init(jax.random.key(0), jnp.zeros((2, 28, 28, 1)))
    for name, fan_in, wscale in (
        ("Dense_0", 784, 0.1),
        ("Dense_1", 1200, 0.1),
        ("Dense_2", 1200, 1e-4),
    ):
        deviation = np.sqrt(wscale / 2) * np.sqrt(2 / fan_in)
        assert np.std(state.params[name]["kernel"]) == pytest.approx(deviation, rel=0.02)


def test_it_finds_blobs():
    config = dataclasses.replace(METHODS["imsat"].config("best"), epochs=40, widths=(32,))
    config = dataclasses.replace(config, batch_size=30, reach=1.0)
    data = placement.put(BLOBS, measure(BLOBS))
    method = imsat.build(config, SPEC)
    fitted = loop.fit(method, data, seed=0)
    found = predictor(method, data)(fitted.state).assignments
    assert metrics.accuracy(KINDS, found) > 0.95


def test_small_sets_get_as_many_steps():
    epochs = [imsat.build(imsat.Config(), DataSpec(n, (D,), K)).phases[0].epochs
              for n in (1000, 10_000, 70_000)]  # fmt: skip
    assert epochs == [500, 50, 50]
    assert imsat.build(imsat.PRESETS["paper"], SPEC).phases[0].epochs == 50
