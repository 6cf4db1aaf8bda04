"""JULE's triplets and mergings, read a second time."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust import metrics
from jaxclust.clustering.host.graph_merging import nearest_pairs, neighbour_graph
from jaxclust.core.errors import InputError
from jaxclust.core.types import Batch, DataSpec
from jaxclust.losses import batch_triplet
from jaxclust.methods import jule
from jaxclust.methods.registry import METHODS
from jaxclust.models.layers import Dense
from jaxclust.models.unit_embedding import UnitEmbedding
from jaxclust.training import loop
from jaxclust.training.prediction import predictor
from tests.clustering import outlying
from tests.methods import small

N, K = 120, 3
RNG = np.random.default_rng(0)


class Linear(nn.Module):
    """Three values linear in the pixels, of unit length."""

    @nn.compact
    def __call__(self, x, train):
        del train
        z = Dense(3)(x.reshape(x.shape[0], -1))
        return z / jnp.sqrt(jnp.sum(jnp.square(z), axis=1, keepdims=True))


def triplets_by_hand(z, labels, margin):
    means = []
    for i in range(len(z)):
        for j in range(i + 1, len(z)):
            others = [k for k in range(len(z)) if labels[k] != labels[i]]
            if labels[i] == labels[j] and others:
                near = np.square(z[i] - z[j]).sum()
                far = [np.square(z[i] - z[k]).sum() for k in others]
                means.append(np.mean([max(0, near - one + margin) for one in far]))
    return np.mean(means) if means else 0.0


@pytest.mark.parametrize("kinds", [1, 2, 4, 9])
def test_triplets_against_loops(kinds):
    z, labels = RNG.normal(size=(9, 3)), np.arange(9) % kinds
    with jax.enable_x64(True):
        found = batch_triplet(jnp.asarray(z), jnp.asarray(labels), 0.3)
    np.testing.assert_allclose(found, triplets_by_hand(z, labels, 0.3), rtol=1e-10)


@pytest.mark.parametrize("dampening", [0.9, 0.0])
def test_the_step_is_a_second_reading_s(dampening):
    """Triplets of the present clusters; momentum, weight decay and a rate that falls.

    The published code leaves momentum's `dampening` to Torch's optim.sgd, where it is the momentum:
    buffer = 0.9 buffer + 0.1 gradient.
    """
    assert jule.PRESETS["best"].dampening == jule.PRESETS["faces"].dampening == 0.9
    config = dataclasses.replace(jule.Config(), dampening=dampening)
    method = jule.build(config, DataSpec(40, (8, 8, 1), K), network=Linear(), width=3)
    pictures = RNG.normal(size=(40, 8, 8, 1)).astype(np.float32)
    state = method.init(jax.random.key(0), jnp.asarray(pictures[:2]))
    labels = np.arange(40) % 5
    cluster = state.cluster._replace(labels=jnp.asarray(labels, jnp.int32))
    state = state.replace(cluster=cluster)
    rows = np.arange(10, 22)
    batch = Batch(jnp.asarray(pictures[rows]), jnp.asarray(rows))
    once, info = jax.jit(method.step)(state, batch)

    def loss(params):
        layer = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["Dense_0"])
        z = pictures[rows].reshape(12, -1) @ layer["kernel"] + layer["bias"]
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        return triplets_by_hand(z, labels[rows], 0.2)

    np.testing.assert_allclose(info.loss, loss(state.params), rtol=1e-4)
    bias = state.params["Dense_0"]["bias"]
    slopes = []
    for params, start in ((state.params, bias), (once.params, once.params["Dense_0"]["bias"])):
        slope = np.zeros(3)
        for d in range(3):
            moved = [
                loss({"Dense_0": {**params["Dense_0"], "bias": np.asarray(start, float) + step}})
                for step in (1e-6 * np.eye(3)[d], -1e-6 * np.eye(3)[d])
            ]
            slope[d] = (moved[0] - moved[1]) / 2e-6
        slopes.append(slope + 5e-5 * np.asarray(start))
    taken = 1 - dampening
    first = np.asarray(bias) - 0.01 * taken * slopes[0]
    np.testing.assert_allclose(once.params["Dense_0"]["bias"], first, rtol=1e-3, atol=1e-7)
    twice, _ = jax.jit(method.step)(once, batch)
    second = first - 0.01 * (1 + 1e-4) ** -0.75 * taken * (0.9 * slopes[0] + slopes[1])
    np.testing.assert_allclose(twice.params["Dense_0"]["bias"], second, rtol=1e-3, atol=1e-7)


def test_a_share_of_the_clusters_is_merged_at_a_time():
    config = dataclasses.replace(jule.Config(), unrolling=0.5)
    method = jule.build(config, DataSpec(N, (8, 8, 1), K), network=Linear(), width=3)
    state = method.init(jax.random.key(0), jnp.zeros((2, 8, 8, 1)))
    labels = np.arange(N) % 40
    features = RNG.normal(size=(40, 3))[labels] + 0.01 * RNG.normal(size=(N, 3))
    state = state.replace(cluster=state.cluster._replace(labels=jnp.asarray(labels, jnp.int32)))
    left, merge = [], method.phases[1].first.update
    for _ in range(6):
        state = merge(state, features.astype(np.float32))
        left.append(len(np.unique(state.cluster.labels)))
        assert len(np.unique(state.cluster.cut)) == K
        # What was one cluster stays one.
        pairs = {*zip(labels.tolist(), np.asarray(state.cluster.labels).tolist(), strict=True)}
        assert len(pairs) == 40
    assert left == [20, 10, 5, 3, 3, 3]


@pytest.mark.parametrize(("share", "smallest"), [(0.2, 20), (0.0, 2)])
def test_outliers_are_no_clusters_in_the_end(share, smallest):
    x = outlying.blobs()[0].astype(np.float32)
    config = dataclasses.replace(jule.Config(), outlier_share=share, neighbours=12, unrolling=0.3)
    method = jule.build(config, DataSpec(62, (8, 8, 1), K), network=Linear(), width=3)
    state = method.init(jax.random.key(0), jnp.zeros((2, 8, 8, 1)))
    labels = jnp.asarray(nearest_pairs(neighbour_graph(x, 12).nearest), jnp.int32)
    state = state.replace(cluster=state.cluster._replace(labels=labels))
    # Until then they stay clusters of their own, which are trained on.
    some = method.phases[1].first.update(state, x).cluster
    assert K < int(some.left) < len(np.unique(labels))
    assert np.bincount(some.labels).min() == 2
    assert np.bincount(some.cut).min() == smallest
    merged = method.phases[-1].first.update(state, x)
    assert np.bincount(merged.cluster.cut).min() == smallest
    np.testing.assert_array_equal(merged.cluster.labels, merged.cluster.cut)


def test_published_presets_have_no_rule_for_outliers():
    shares = {name: preset.outlier_share for name, preset in jule.PRESETS.items()}
    assert shares == {"best": 0.1, "paper": 0, "reference": 0, "faces": 0}


@pytest.mark.parametrize(("n", "unrolling"), [(120, 0.9), (120, 0.2), (10, 0.5), (3, 0.9)])
def test_there_are_enough_periods(n, unrolling):
    config = dataclasses.replace(jule.Config(), unrolling=unrolling)
    count = jule.periods(config, DataSpec(n, (8, 8, 1), K))
    left = n // 2
    for _ in range(count):
        assert left > K
        left -= min(int(np.ceil(left * unrolling)), left - K)
    assert left <= K or count == 0


@pytest.mark.parametrize("name", ["jule", "jule_rc"])
def test_it_finds_bars_and_keeps_their_labels(name):
    _, kinds = small.images(N)
    config = dataclasses.replace(METHODS[name].config("best"), epochs=3, batch_size=20)
    method, data = METHODS[name].build(config, DataSpec(N, (8, 8, 1), K)), small.data(N)
    state = loop.fit(method, data, seed=0).state
    found = predictor(method, data)(state).assignments
    assert metrics.accuracy(kinds, found) > 0.95
    np.testing.assert_array_equal(found, state.cluster.cut)


def test_what_is_merged_down_to_k_is_not_trained_on():
    """As published: the wrong ones of the last mergings would be learned."""
    config = dataclasses.replace(jule.Config(), epochs=1, batch_size=20, unrolling=1.0)
    method = jule.build(config, DataSpec(N, (8, 8, 1), K), network=Linear(), width=3)
    state = loop.fit(method, small.data(N), seed=0).state
    assert len(method.phases) == 3
    assert int(state.step) == N // 20  # one epoch on the first clusters alone
    assert int(state.cluster.left) == K


@pytest.mark.parametrize(("side", "blocks"), [(28, 2), (32, 2), (16, 1), (8, 1), (3, 1)])
def test_as_many_blocks_as_the_image_has_room_for(side, blocks):
    width = {28: 3200, 32: 1250, 16: 1800}.get(side)  # of the published networks' last maps
    network, x = UnitEmbedding(6), jnp.ones((2, side, side, 1))
    variables = network.init(jax.random.key(0), x, train=False)
    assert sum(name.startswith("Conv") for name in variables["params"]) == blocks
    assert width is None or variables["params"]["Dense_0"]["kernel"].shape[0] == width
    found, _ = network.apply(variables, x + jnp.arange(2.0)[:, None, None, None], train=True,
                             mutable=["batch_stats"])  # fmt: skip
    np.testing.assert_allclose(jnp.sum(jnp.square(found), axis=1), 1, rtol=1e-4)


def test_what_cannot_be_merged_is_refused():
    with pytest.raises(InputError, match="are more than jule merges one by one"):
        jule.build(jule.Config(), DataSpec(100_001, (8, 8, 1), K))
    with pytest.raises(InputError, match="needs images"):
        jule.build(jule.Config(), DataSpec(N, (9,), K))
