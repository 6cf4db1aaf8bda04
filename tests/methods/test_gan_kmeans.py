"""k-means on a discriminator's layers: its step read a second time, its features, the whole."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_expit

from jaxclust import metrics
from jaxclust.core.errors import InputError
from jaxclust.core.types import Batch, DataSpec, Network
from jaxclust.methods import gan_kmeans
from jaxclust.methods.parts.gradient import Context
from jaxclust.models.adversaries import Adversaries, Judged
from jaxclust.models.layers import Dense, grid_max
from jaxclust.training import loop
from jaxclust.training.prediction import predictor
from tests.methods import small

N, SIDE, NOISE, K = 40, 3, 4, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, SIDE, SIDE, 1)).astype(np.float32)


class Linear(nn.Module):
    """Both networks one linear layer each."""

    def setup(self):
        self.judging, self.drawing = Dense(1), Dense(SIDE * SIDE)

    def judge(self, x, train):
        del train
        return Judged(self.judging(x.reshape(len(x), -1))[:, 0], (x,))

    def generate(self, noise, train):
        del train
        return self.drawing(noise).reshape(-1, SIDE, SIDE, 1)

    def features(self, x, train):
        return self.judge(x, train).maps[0].reshape(len(x), -1)

    def __call__(self, x, train):
        return self.judge(x, train), self.generate(jnp.zeros((len(x), NOISE)), train)


@pytest.fixture
def linear(monkeypatch):
    monkeypatch.setattr(gan_kmeans, "Adversaries", lambda *_: Linear())
    config = gan_kmeans.Config(latent_width=NOISE, batch_size=10, learning_rate=1e-3)
    return gan_kmeans.build(config, DataSpec(N, (SIDE, SIDE, 1), K))


def test_the_step_is_a_second_reading_s(linear):
    """Each network's first Adam step has the sign of its own loss's slope, by differences."""
    state = linear.init(jax.random.key(0), jnp.asarray(X[:2]))
    batch = Batch(jnp.asarray(X[:10]), jnp.arange(10))
    after, info = jax.jit(linear.step)(state, batch)
    noise = noise_of(linear.init.__self__, state, batch)
    assert -1 <= noise.min() < -0.5
    assert 0.5 < noise.max() <= 1
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params["network"])

    def losses(judging, drawing):
        made = noise @ drawing["kernel"] + drawing["bias"]
        real, generated = (
            x.reshape(10, -1) @ judging["kernel"][:, 0] + judging["bias"][0]
            for x in (X[:10].astype(np.float64), made)
        )
        return (
            -(log_expit(real).mean() + log_expit(-generated).mean()),
            -log_expit(generated).mean(),
        )

    discriminator, generator = losses(weights["judging"], weights["drawing"])
    np.testing.assert_allclose(info.watch["discriminator"], discriminator, rtol=1e-5)
    np.testing.assert_allclose(info.watch["generator"], generator, rtol=1e-5)
    np.testing.assert_allclose(info.loss, discriminator + generator, rtol=1e-5)
    for which, name in enumerate(("judging", "drawing")):
        kernel = weights[name]["kernel"]
        slope = np.zeros_like(kernel)
        for at in np.ndindex(kernel.shape):
            ends = []
            for change in (1e-5, -1e-5):
                moved = kernel.copy()
                moved[at] += change
                changed = {**weights, name: {**weights[name], "kernel": moved}}
                ends.append(losses(changed["judging"], changed["drawing"])[which])
            slope[at] = (ends[0] - ends[1]) / 2e-5
        step = np.asarray(after.params["network"][name]["kernel"], np.float64) - kernel
        clear = np.abs(slope) > 1e-4
        assert clear.mean() > 0.8
        np.testing.assert_allclose(step[clear], -1e-3 * np.sign(slope[clear]), rtol=1e-2)


def noise_of(gan, state, batch):
    """What a step's images are generated from, seen by a generator that returns it."""
    seen = dataclasses.replace(gan, generate=Network(None, lambda _, z, train: (z, {})))
    at = Context(state, batch, jnp.arange(10), state.key)
    return np.asarray(seen.drawn({}, at)[0], np.float64)


def test_features_are_the_maps_maxima_in_a_grid():
    module = Adversaries((28, 20, 1), width=2)
    x = jnp.asarray(RNG.normal(size=(3, 28, 20, 1)), jnp.float32)
    variables = module.init(jax.random.key(1), x, train=False)
    (judged, made), features = (
        module.apply(variables, x, train=False, method=how) for how in (None, "features")
    )
    assert made.shape == x.shape
    assert [y.shape[1:] for y in judged.maps] == [(14, 10, 2), (7, 5, 4), (4, 3, 8)]
    expected = []
    for y in judged.maps:
        rows, columns = (
            [slice(i * side // 4, -(-(i + 1) * side // 4)) for i in range(4)]
            if side > 4
            else [slice(i, i + 1) for i in range(side)]
            for side in y.shape[1:3]
        )
        parts = [[np.asarray(y)[:, r, c].max(axis=(1, 2)) for c in columns] for r in rows]
        expected.append(np.transpose(parts, (2, 0, 1, 3)).reshape(3, -1))
    np.testing.assert_array_equal(features, np.hstack(expected))
    assert features.shape == (3, 16 * 2 + 16 * 4 + 12 * 8)


def test_a_grid_of_a_map_no_larger_is_the_map():
    x = jnp.arange(12.0).reshape(1, 3, 4, 1)
    np.testing.assert_array_equal(grid_max(x, 4), x)


def test_statistics_of_batch_norm_are_of_real_images():
    """What the generator draws moves none of the discriminator's."""
    spec = DataSpec(N, (8, 8, 1), K)
    method = gan_kmeans.build(gan_kmeans.Config(width=2, batch_size=10), spec)
    images = jnp.asarray(RNG.normal(size=(10, 8, 8, 1)), jnp.float32)
    state = method.init(jax.random.key(0), images[:2])
    after, _ = jax.jit(method.step)(state, Batch(images, jnp.arange(10)))
    module = Adversaries((8, 8, 1), width=2)
    variables = {"params": state.params["network"], **state.model_state}
    _, seen = module.apply(variables, images, train=True, method="judge", mutable=["batch_stats"])
    for name, statistics in seen["batch_stats"].items():
        if name.startswith("down"):
            found = after.model_state["batch_stats"][name]
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, statistics
            )


def test_kinds_of_picture_are_told_apart():
    data = small.data()
    config = gan_kmeans.Config(width=8, batch_size=20, pretrain_epochs=5)
    method = gan_kmeans.build(config, DataSpec(120, (8, 8, 1), 3))
    fitted = loop.fit(method, data, seed=0)
    found = predictor(method, data)(fitted.state).assignments
    assert metrics.accuracy(small.images()[1], np.asarray(found)) > 0.95


def test_features_are_refused():
    with pytest.raises(InputError, match="needs images"):
        gan_kmeans.build(gan_kmeans.Config(), DataSpec(N, (5,), K))
