"""Whole training steps read a second time, from the papers, in NumPy.

The readings share no code with the library: losses are loops over images, gradients are
differences of those losses in double precision. Networks are linear, so that both sides can be
followed by hand, and draws are forced by batches that leave no choice.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust.core.types import Batch, DataSpec
from jaxclust.images.augment import Affine, Augmentation
from jaxclust.methods import ccnn, dec, derc, ics
from jaxclust.models.autoencoder import Coded
from jaxclust.models.layers import Dense

SIDE, WIDTH = 3, 2


class LinearAutoencoder(nn.Module):
    """z = x A + a, x' = z B + b."""

    def setup(self):
        self.encoder, self.decoder = Dense(WIDTH), Dense(SIDE * SIDE)

    def encode(self, x, train):
        del train
        return self.encoder(x.reshape(x.shape[0], -1))

    def __call__(self, x, train):
        z = self.encode(x, train)
        return Coded(z, self.decoder(z).reshape(x.shape))


class Flat(nn.Module):
    """Images as rows."""

    @nn.compact
    def __call__(self, x, train):
        del train
        return x.reshape(x.shape[0], -1)


def images(n):
    return np.random.default_rng(n).normal(size=(n, SIDE, SIDE, 1)).astype(np.float32)


def slopes(loss, tree):
    """The loss's gradient at a tree of arrays, by central differences."""
    leaves, structure = jax.tree.flatten(jax.tree.map(lambda leaf: np.array(leaf, float), tree))
    found = []
    for leaf in leaves:
        slope = np.zeros_like(leaf)
        for place in np.ndindex(leaf.shape):
            kept, values = leaf[place], []
            for move in (1e-6, -1e-6):
                leaf[place] = kept + move
                values.append(loss(jax.tree.unflatten(structure, leaves)))
            leaf[place] = kept
            slope[place] = (values[0] - values[1]) / 2e-6
        found.append(slope)
    return jax.tree.unflatten(structure, found)


def compare(step, state, batch, loss, trained):
    """Loss, gradient's norm and the first step of Adam, which goes by the gradient's sign."""
    after, info = jax.jit(step)(state, batch)
    tree = {name: state.params[name] for name in trained}
    expected = slopes(loss, tree)
    np.testing.assert_allclose(info.loss, loss(jax.tree.map(np.asarray, tree)), rtol=2e-5)
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(expected)))
    np.testing.assert_allclose(info.watch["gradient_norm"], norm, rtol=1e-3)
    moved = jax.tree.map(lambda new, old: np.asarray(new - old), after.params, state.params)
    rate = max(np.abs(leaf).max() for leaf in jax.tree.leaves(moved))
    for name in trained:
        pairs = zip(jax.tree.leaves(moved[name]), jax.tree.leaves(expected[name]), strict=True)
        for change, slope in pairs:
            sure = np.abs(slope) > 1e-3
            np.testing.assert_allclose(change[sure], -rate * np.sign(slope[sure]), rtol=1e-2)
    return after


def coded(network, x):
    """(z, x') of one image, rows of values."""
    z = x @ network["encoder"]["kernel"] + network["encoder"]["bias"]
    return z, z @ network["decoder"]["kernel"] + network["decoder"]["bias"]


def soft_assignment(z, centroids):
    """Xie et al. 2016, Eq. 1."""
    near = np.array([1 / (1 + np.sum((z - c) ** 2)) for c in centroids])
    return near / near.sum()


def of_dec(module, config, n, targets):
    """A step of DEC's family, its state with known centroids and targets, and a batch of all."""
    method = module.build(config, DataSpec(n, (SIDE, SIDE, 1), 2), network=LinearAutoencoder())
    x = images(n)
    state = method.init(jax.random.key(1), jnp.asarray(x))
    centroids = jnp.array([[0.5, -0.2], [-0.4, 0.8]])
    state = state.replace(
        params={**state.params, "centroids": centroids},
        cluster=state.cluster._replace(targets=jnp.asarray(targets, jnp.float32)),
    )
    return method.step, state, Batch(jnp.asarray(x), jnp.arange(n)), x.reshape(n, -1).astype(float)


def divergence(targets, qs):
    """Mean of KL(p || q) over images, Xie et al. 2016, Eq. 2."""
    return np.mean([np.sum(p * np.log(p / q)) for p, q in zip(targets, qs, strict=True)])


def test_idec_s_step():
    """Guo et al. 2017, Eq. 8: a tenth of DEC's loss beside the reconstruction."""
    targets = np.random.default_rng(0).dirichlet([2, 2], 5)
    config = dec.Config(
        batch_size=5, latent_width=WIDTH, clustering_weight=0.1, reconstruction_weight=1.0
    )
    step, state, batch, x = of_dec(dec, config, 5, targets)

    def loss(params):
        codes = [coded(params["network"], one) for one in x]
        qs = [soft_assignment(z, params["centroids"]) for z, _ in codes]
        error = np.mean([np.mean((again - one) ** 2) for (_, again), one in zip(codes, x)])  # noqa: B905
        return 0.1 * divergence(targets, qs) + error

    compare(step, state, batch, loss, ("network", "centroids"))


def test_ics_s_step():
    """Das et al. 2019, Eq. 7, of two images: each is the other's only negative."""
    targets = np.array([[0.7, 0.3], [0.4, 0.6]])
    config = ics.Config(
        batch_size=2,
        latent_width=WIDTH,
        views=Augmentation(),  # so that a view of an image is the image
        margin=50.0,  # so that the triplet counts
        triplet_weight=0.3,
        entropy_weight=0.2,
    )
    step, state, batch, x = of_dec(ics, config, 2, targets)

    def loss(params):
        codes = [coded(params["network"], one) for one in x]
        qs = np.array([soft_assignment(z, params["centroids"]) for z, _ in codes])
        error = np.mean([np.sum((again - one) ** 2) for (_, again), one in zip(codes, x)])  # noqa: B905
        (first, _), (second, _) = codes
        apart = np.sum((first - second) ** 2)
        triplet = np.mean([max(0, 0 - apart + 50.0), max(0, 0 - apart + 50.0)])
        sure = np.mean([-np.sum(q * np.log(q)) for q in qs])
        mean = qs.mean(axis=0)
        entropy = sure + np.sum(mean * np.log(mean))
        return error + 0.8 * divergence(targets, qs) + 0.2 * entropy + 0.3 * triplet

    compare(step, state, batch, loss, ("network", "centroids"))


@pytest.mark.parametrize("hinge", [True, False])
def test_derc_s_step(hinge):
    """Yan et al. 2020, Eq. 8, of three images: two of a class, whose triplets are forced."""
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    config = derc.Config(
        batch_size=3, latent_width=WIDTH, iterations=1, epochs=1, margin=3.0, hinge=hinge
    )
    spec = DataSpec(3, (SIDE, SIDE, 1), 2)
    method = derc.build(config, spec, network=LinearAutoencoder())
    x = images(3)
    state = method.init(jax.random.key(1), jnp.asarray(x))
    cluster = state.cluster._replace(probabilities=jnp.asarray(p, jnp.float32))
    state, flat = state.replace(cluster=cluster), x.reshape(3, -1).astype(float)

    def loss(params):
        codes = [coded(params["network"], one) for one in flat]
        z = [latent for latent, _ in codes]
        triplets = []
        for i, j, k in ((0, 1, 2), (1, 0, 2)):  # the third has no partner
            weight = 1 - abs(p[i, 0] - p[j, 0])
            value = weight * np.sum((z[i] - z[j]) ** 2) - np.sum((z[i] - z[k]) ** 2)
            triplets.append(max(0, value + 3.0) if hinge else value)
        error = np.mean([np.sum((again - one) ** 2) for (_, again), one in zip(codes, flat)])  # noqa: B905
        return 0.7 * np.mean(triplets) + 0.3 * error

    batch = Batch(jnp.asarray(x), jnp.arange(3))
    compare(method.step, state, batch, loss, ("network",))


def test_ccnn_s_step():
    """Hsu & Lin 2017: assign, fine-tune on all (Eq. 1), move centroids by old features (Eq. 14)."""
    n, k = 6, 2
    config = ccnn.Config(
        init="random", batch_size=n, k_m=n, n_m=n, feature_width=WIDTH, views=Affine(), max_count=50
    )
    method = ccnn.build(config, DataSpec(n, (SIDE, SIDE, 1), k), body=Flat())
    x = images(n)
    state = method.init(jax.random.key(1), jnp.asarray(x))
    centroids, counts = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([3.0, 50.0])
    means = state.cluster.kmeans._replace(
        centroids=jnp.asarray(centroids, jnp.float32), counts=jnp.asarray(counts, jnp.float32)
    )
    state = state.replace(cluster=state.cluster._replace(kmeans=means))
    flat = x.reshape(n, -1).astype(float)

    def features(network):
        codes = flat @ network["feature"]["kernel"] + network["feature"]["bias"]
        return codes / np.linalg.norm(codes, axis=1, keepdims=True)

    network = jax.tree.map(lambda leaf: np.array(leaf, float), state.params["network"])
    h = features(network)
    assigned = [int(np.argmin([np.sum((one - c) ** 2) for c in centroids])) for one in h]
    assert set(assigned) == {0, 1}

    def loss(params):
        own = params["network"]
        logits = features(own) @ own["output"]["kernel"] + own["output"]["bias"]
        outputs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        targets = np.eye(k)[assigned]
        return np.mean([0.5 * np.sum((y - t) ** 2) for y, t in zip(outputs, targets)])  # noqa: B905

    batch = Batch(jnp.asarray(x), jnp.arange(n))
    after = compare(method.step, state, batch, loss, ("network",))
    # Eqs. 11 and 12, one sample after the other, with the features from before the update.
    for one, c in zip(h, assigned, strict=True):
        counts[c] += 1
        centroids[c] += (one - centroids[c]) / counts[c]
    np.testing.assert_allclose(after.cluster.kmeans.centroids, centroids, atol=1e-5)
    np.testing.assert_allclose(after.cluster.kmeans.counts, np.minimum(counts, 50))
