"""DEPICT's step, targets and start, read a second time in NumPy."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from jaxclust import metrics
from jaxclust.core.errors import InputError
from jaxclust.core.types import Batch, DataSpec
from jaxclust.methods import depict
from jaxclust.methods.parts.value_range import Range
from jaxclust.models.denoising import DenoisingAutoencoder, Repaired
from jaxclust.models.layers import Dense
from jaxclust.training import loop
from jaxclust.training.prediction import predictor
from tests.methods import small
from tests.trees import assert_same

N, SIDE, WIDTH, K = 60, 3, 4, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, SIDE, SIDE, 1)).astype(np.float32)
SPEC = DataSpec(N, (SIDE, SIDE, 1), K)


class Linear(nn.Module):
    """A linear latent; noised, the images are halved."""

    def setup(self):
        self.encoder, self.decoder = Dense(WIDTH), Dense(SIDE * SIDE)

    def encode(self, x, train):
        del train
        return self.encoder(x.reshape(x.shape[0], -1))

    def __call__(self, x, train):
        z = self.encode(x / 2 if train else x, train)
        return Repaired(z, jnp.mean(jnp.square(self.decoder(z) - x.reshape(len(x), -1)), axis=1))


def begun(**changes):
    config = dataclasses.replace(depict.Config(latent_width=WIDTH, batch_size=10), **changes)
    method = depict.build(config, SPEC, network=Linear())
    state = method.init(jax.random.key(0), jnp.asarray(X[:2]))
    head = {"kernel": RNG.normal(size=(WIDTH, K)), "bias": RNG.normal(size=K)}
    head = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), head)
    targets = RNG.dirichlet(np.ones(K), N).astype(np.float32)
    cluster = depict.ClusterState(jnp.asarray(targets), jnp.ones(()))
    ranges = Range(jnp.full(1, -1.5), jnp.full(1, 3.0))
    params = {**state.params, "head": head}
    return method, state.replace(params=params, cluster=cluster, model_state=ranges)


def by_hand(params, x):
    layers = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    encoder, decoder = layers["network"]["encoder"], layers["network"]["decoder"]
    z = x @ encoder["kernel"] + encoder["bias"]
    logits = z @ layers["head"]["kernel"] + layers["head"]["bias"]
    return z, logits, z @ decoder["kernel"] + decoder["bias"]


def test_the_step_is_a_second_reading_s():
    """Noised images answer for the clean ones' targets, and what they lack is repaired."""
    method, state = begun(reconstruction_weight=0.7)
    rows = np.arange(30, 40)
    _, info = jax.jit(method.step)(state, Batch(jnp.asarray(X[rows]), jnp.asarray(rows)))
    x = X[rows].reshape(10, -1).astype(np.float64) / 1.5  # from -1.5 to 1.5
    _, logits, decoded = by_hand(state.params, x / 2)
    entropy = -(np.asarray(state.cluster.targets)[rows] * log_softmax(logits, axis=1)).sum(axis=1)
    error = np.square(decoded - x).mean()
    np.testing.assert_allclose(info.watch["clustering_loss"], entropy.mean(), rtol=1e-4)
    np.testing.assert_allclose(info.watch["reconstruction"], error, rtol=1e-4)
    np.testing.assert_allclose(info.loss, entropy.mean() + 0.7 * error, rtol=1e-4)


def test_the_first_clusters_are_learnt_faster():
    """Adam's first update is the learning rate times the gradient's sign."""
    method, state = begun(learning_rate=3e-3, cluster_learning_rate=1e-4)
    batch = Batch(jnp.asarray(X[:10]), jnp.arange(10))
    for phase, rate in zip(method.phases[1:], (3e-3, 1e-4), strict=True):
        after, _ = jax.jit(phase.step)(state, batch)
        moved = after.params["head"]["kernel"] - state.params["head"]["kernel"]
        np.testing.assert_allclose(np.abs(moved), rate, rtol=0.02)


@pytest.mark.parametrize(("form", "power", "balance"), [("root", 1, 0.5), ("square", 2, 1)])
def test_targets_in_both_forms(form, power, balance):
    method, state = begun(targets=form)
    z, logits, _ = by_hand(state.params, X.reshape(N, -1))
    q = softmax(logits, axis=1)
    weighed = q**power / q.sum(axis=0) ** balance
    expected = weighed / weighed.sum(axis=1, keepdims=True)
    after = method.phases[-1].between.update(state, jnp.asarray(z, jnp.float32))
    np.testing.assert_allclose(after.cluster.targets, expected, rtol=1e-3, atol=1e-6)
    moved = np.square(expected - np.asarray(state.cluster.targets)).mean()
    np.testing.assert_allclose(after.cluster.moved, moved, rtol=1e-3)
    again = method.phases[-1].between.update(after, jnp.asarray(z, jnp.float32))
    assert method.phases[-1].until(again)
    assert not method.phases[-1].until(after)


@pytest.mark.parametrize("start", ["kmeans", "ac_pic"])
def test_the_head_begins_with_the_first_clusters_directions(start):
    method, state = begun(start=start)
    kinds = np.arange(N) % K
    latents = (5 * np.eye(K, WIDTH)[kinds] + 0.1 * RNG.normal(size=(N, WIDTH))).astype(np.float32)
    after = method.phases[1].first.update(state, latents)
    found = np.argmax(after.cluster.targets, axis=1)
    assert metrics.accuracy(kinds, found) == 1
    np.testing.assert_array_equal(np.sort(after.cluster.targets, axis=1)[:, :-1], 0)
    for c in range(K):
        mean = latents[found == c].mean(axis=0)
        direction = after.params["head"]["kernel"][:, c]
        np.testing.assert_allclose(direction, mean / np.linalg.norm(mean), rtol=1e-4)


@pytest.mark.parametrize(("share", "smallest"), [(0.0, 2), (0.2, 19)])
def test_outliers_are_no_first_clusters(share, smallest):
    method, state = begun(outlier_share=share, start="ac_pic")
    rng = np.random.default_rng(0)
    latents = 3 * np.eye(K, WIDTH)[np.arange(N) % K] + 0.5 * rng.normal(size=(N, WIDTH))
    latents[:2] = [[-9, -9, 0, 0], [-9.1, -9, 0, 0]]
    after = method.phases[1].first.update(state, latents.astype(np.float32))
    assert after.cluster.targets.sum(axis=0).min() == smallest


@pytest.mark.parametrize(("preset", "ends"), [("best", True), ("faces", False)])
def test_targets_that_stand_still_end_training_but_of_faces(preset, ends):
    """On CMU-PIE they stand still for an epoch now and then, long before clusters part."""
    last = depict.build(depict.PRESETS[preset], DataSpec(N, (8, 8, 1), K)).phases[-1]
    _, state = begun()
    still = state.replace(cluster=state.cluster._replace(moved=jnp.zeros(())))
    assert bool(last.until(still)) == ends


def test_the_published_presets_have_no_rule_for_outliers():
    shares = {name: preset.outlier_share for name, preset in depict.PRESETS.items()}
    assert shares == {"best": 0.1, "faces": 0.1, "paper": 0, "reference": 0}


def test_every_layer_is_repaired_towards_the_clean_one():
    """The error, layer by layer, by the network's own maps; without noise at inference."""
    network = DenoisingAutoencoder((7, 6, 2), 3, widths=(4, 5))
    x = jnp.asarray(RNG.uniform(-1, 1, (3, 7, 6, 2)), jnp.float32)
    variables = network.init(jax.random.key(0), x, train=False)
    seen = network.apply(variables, x, train=False)
    clean = network.apply(variables, x, False, method="maps")
    decoded = network.apply(variables, seen.latent, method="decode")
    assert [part.shape for part in decoded] == [part.shape for part in clean]
    assert np.abs(decoded[0]).max() < 1
    expected = sum(
        weight * np.square(np.asarray(a) - np.asarray(b)).reshape(3, -1).mean(axis=1)
        for weight, a, b in zip((1, 0.1, 0.1), decoded, clean, strict=True)
    )
    np.testing.assert_allclose(seen.errors, expected, rtol=1e-5)
    np.testing.assert_array_equal(
        seen.latent, network.apply(variables, x, train=False, method="encode")
    )
    noised = network.apply(variables, x, train=True, rngs={"dropout": jax.random.key(1)})
    assert np.abs(noised.latent - seen.latent).max() > 1e-3


def test_the_network_sees_the_published_codes_values():
    """There images have values between -1 and 1: (pixels - 127.5) / 127.5."""
    pixels = RNG.integers(0, 256, (N, SIDE, SIDE, 1)).astype(np.float64)
    pixels[0, 0], pixels[1, 0] = 0, 255
    theirs = (pixels - 127.5) / 127.5
    x = jnp.asarray((pixels - pixels.mean()) / pixels.std(), jnp.float32)
    method = depict.build(depict.Config(latent_width=WIDTH), SPEC, network=Linear())
    pretraining = method.phases[0]
    state = method.init(jax.random.key(0), x)
    state = pretraining.first.update(state, x.reshape(N, -1))
    prediction = method.predict(state, x)
    z, _, _ = by_hand(state.params, theirs.reshape(N, -1))
    np.testing.assert_allclose(prediction.features, z, rtol=1e-3, atol=1e-5)
    # With all parameters zero nothing is repaired, and an image's error is its mean square.
    nothing = state.replace(params=jax.tree.map(jnp.zeros_like, state.params))
    after, info = jax.jit(pretraining.step)(nothing, Batch(x, jnp.arange(N)))
    np.testing.assert_allclose(info.loss, np.square(theirs).mean(), rtol=1e-5)
    assert_same(after.model_state, state.model_state)


def test_it_finds_bars():
    pictures, kinds = small.images(120)
    config = depict.Config(pretrain_epochs=20, start_epochs=5, epochs=5, batch_size=20)
    method = depict.build(config, DataSpec(120, (8, 8, 1), 3))
    data = small.data(120)
    state = loop.fit(method, data, seed=0).state
    assert len(pictures) == 120
    found = predictor(method, data)(state).assignments
    assert metrics.accuracy(kinds, found) > 0.95


def test_features_are_refused():
    with pytest.raises(InputError, match="needs images"):
        depict.build(depict.Config(), DataSpec(N, (9,), K))
