import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust.clustering import kmeans
from jaxclust.core.errors import InputError
from jaxclust.core.types import Batch, Compute, DataSpec
from jaxclust.methods import ccnn, registry
from jaxclust.methods.ccnn import ccnn_config, ccnn_network
from jaxclust.models.encoders import pretrained
from jaxclust.models.heads import SalientHead
from jaxclust.training import loop, starting
from jaxclust.training.prediction import predictor
from tests.methods import small
from tests.models.resnet import resnet_arrays


def run(steps=4, seed=0, **changes):
    """Centroids and state after some steps on fixed batches."""
    method = small.method(init="random", **changes)
    state = small.begun(method, seed)
    step = jax.jit(method.step)
    for i in range(steps):
        state, info = step(state, small.batch(seed=i))
    return state, info


@pytest.mark.parametrize("centroid_update", ["minibatch", "finetune"])
@pytest.mark.parametrize("n_m", [5, 10])
def test_explicit_rollback_equals_the_fast_path(centroid_update, n_m):
    settings = {"centroid_update": centroid_update, "n_m": n_m, "learning_rate": 1e-2}
    fast, _ = run(**settings, rollback_path="fast")
    explicit, _ = run(**settings, rollback_path="explicit")
    difference = jnp.abs(fast.cluster.kmeans.centroids - explicit.cluster.kmeans.centroids)
    assert float(difference.max()) <= 1e-5 * float(jnp.abs(fast.cluster.kmeans.centroids).max())


def test_compensation_differs_from_baseline_1():
    settings = {"learning_rate": 1e-2, "n_m": 5}
    with_it, _ = run(steps=2, **settings)
    without, _ = run(steps=2, **settings, compensation="none")
    layer, _ = run(steps=2, **settings, rollback_scope="feature_layer")
    centroids = [state.cluster.kmeans.centroids for state in (with_it, without, layer)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert float(jnp.abs(centroids[a] - centroids[b]).max()) > 1e-4


def test_rolled_back_features_are_those_before_the_update():
    """Eq. 13 on the whole network, statistics included, against the features themselves."""
    method = small.method(
        init="random", n_m=5, learning_rate=1e-2, rollback_path="explicit",
        centroid_update="minibatch", max_count=None, initial_kmeans=False,
    )  # fmt: skip
    state, batch = small.begun(method), small.batch()
    before = method.predict(state, batch.images)
    after, _ = jax.jit(method.step)(state, batch)
    expected = kmeans.update(state.cluster.kmeans, before.features, before.readings["centroid"])
    limit = 1e-5 * float(jnp.abs(before.features).max())
    np.testing.assert_allclose(
        after.cluster.kmeans.centroids, expected.centroids, atol=limit, rtol=0
    )
    moved = method.predict(after, batch.images).features
    assert float(jnp.abs(moved - before.features).max()) > 100 * limit


def test_table_1_trains_only_on_a_full_buffer():
    method = small.method("paper", init="random", k_m=5, n_m=15)
    state = small.begun(method)
    step = jax.jit(method.step)
    for i in range(1, 7):
        old = state
        state, info = step(state, small.batch(seed=i))
        changed = any(
            not np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves(old.params), jax.tree.leaves(state.params), strict=True)
        )
        moved = not np.array_equal(old.cluster.kmeans.centroids, state.cluster.kmeans.centroids)
        assert bool(info.watch["fine_tuned"]) == changed == moved == (i % 3 == 0)
        assert int(state.cluster.buffer.size) == 5 * (i % 3)
    # Counts start at 0 and grow by the samples fine-tuned on.
    assert float(jnp.sum(state.cluster.kmeans.counts)) == 30


def test_paper_seeds_are_features_of_images():
    method = small.method("paper", init="random")
    state = starting.init(method, small.data(), 0)
    features = predictor(method, small.data())(state).features
    begun = jax.jit(method.phases[-1].first.update)(state, features)
    for centroid in np.asarray(begun.cluster.kmeans.centroids):
        assert np.abs(features - centroid).max(axis=1).min() == 0
    np.testing.assert_array_equal(begun.cluster.kmeans.counts, 0)


def test_output_layer_starts_from_the_first_pseudo_labels():
    method = small.method()
    state = starting.init(method, small.data(), 0)
    state = jax.jit(method.phases[-1].first.update)(
        state, predictor(method, small.data())(state).features
    )
    readings = predictor(method, small.data())(state).readings
    assert np.mean(readings["output"] == readings["centroid"]) > 0.95


def test_normalised_features_have_unit_length():
    features = small.method().predict(small.begun(small.method()), small.batch().images).features
    np.testing.assert_allclose(jnp.linalg.norm(features, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["ccnn_baseline2", "ccnn_baseline3"])
def test_frozen_baselines_train_nothing_after_pretraining(name):
    changes = registry.find(name).changes
    method = small.method(**changes)
    before = small.begun(method)
    fitted = loop.fit(small.method(**changes, init="random"), small.data(), seed=0)
    fresh = small.begun(small.method(**changes, init="random"))
    jax.tree.map(np.testing.assert_array_equal, fitted.state.params, fresh.params)
    assert before.cluster.kmeans.centroids.shape == (3, 3)


def test_backbone_features_for_frozen_baselines():
    method = small.method(learning="kmeans", features="backbone", labels="centroid")
    state = small.begun(method)
    assert method.predict(state, small.batch().images).features.shape == (20, 8)


def test_a_foreign_backbone_stands_in():
    class Mean(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.Dense(4)(jnp.mean(x, axis=(1, 2)))

    config = dataclasses.replace(ccnn.Config(), init="random", batch_size=10, k_m=5, n_m=5)
    method = ccnn.build(config, DataSpec(20, (8, 8, 1), 3), body=Mean())
    state = small.begun(method)
    state, info = jax.jit(method.step)(state, small.batch(10))
    assert np.isfinite(info.loss)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k_m": 0}, "k_m must be at least 1"),
        ({"k_m": 21, "n_m": 21}, "k_m must lie"),
        ({"k_m": 5, "n_m": 12}, "multiple of k_m"),
        ({"features": "backbone"}, "frozen baselines"),
    ],
)
def test_contradictory_settings_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        small.method(**changes)


def test_settings_shrink_with_the_data():
    config = ccnn_config.fit_to_batch(ccnn.PRESETS["paper"], 25)
    assert (config.batch_size, config.k_m, config.n_m) == (25, 5, 25)


def test_small_clear_set_is_clustered():
    method = small.method(epochs=8, pretrain_epochs=8, batch_size=40, k_m=30, n_m=30)
    fitted = loop.fit(method, small.data(), seed=0)
    from jaxclust import metrics

    prediction = predictor(method, small.data())(fitted.state)
    assert metrics.accuracy(small.images()[1], prediction.assignments) > 0.95


def test_large_images_are_resized_to_alexnets_input():
    body, side = ccnn.network_body(ccnn.Config(), DataSpec(10, (64, 64, 3), 5))
    assert side == 224
    assert body.head.widths == (6144, 2048, 5)
    assert ccnn.network_body(ccnn.Config(), DataSpec(10, (63, 80, 3), 5))[1] is None


@pytest.fixture
def resnet(tmp_path):
    """A weights file of a small ResNet."""
    path = tmp_path / "weights.npz"
    np.savez(path, **resnet_arrays(np.random.default_rng(0)))
    return path


def test_a_weights_file_gives_the_network_and_its_features(resnet):
    config = dataclasses.replace(
        ccnn.PRESETS["best"], init=str(resnet), batch_size=6, k_m=4, n_m=4, epochs=1
    )
    method = ccnn.build(config, DataSpec(12, (16, 16, 3), 3))
    assert [phase.name for phase in method.phases] == ["cluster"]
    assert method.normalisation.mean == pytest.approx((123.675, 116.28, 103.53))
    images = jax.random.normal(jax.random.key(0), (12, 16, 16, 3))
    state = jax.jit(method.init)(jax.random.key(1), images[:2])
    backbone = state.params["network"]["body"]["backbone"]
    kernel = np.load(resnet)["layer4.0.conv2.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(backbone["layer4.0.conv2"]["kernel"], kernel)
    assert "feature" not in state.params["network"]

    found = pretrained.load(resnet)
    variables = {
        "params": backbone,
        "batch_stats": state.model_state["network"]["batch_stats"]["body"]["backbone"],
    }
    large = jax.image.resize(images, (12, 224, 224, 3), "bilinear")
    network = found.network()
    maps = jax.jit(lambda v, x: network.apply(v, x, train=False))(variables, large)
    pooled = maps.mean(axis=(1, 2))
    pooled /= jnp.linalg.norm(pooled, axis=1, keepdims=True)
    features = jax.jit(method.predict)(state, images).features
    np.testing.assert_allclose(features, pooled, atol=1e-4)

    begun = method.phases[0].first.update(state, features)
    after, info = jax.jit(method.step)(begun, Batch(images[:6], jnp.arange(6)))
    assert np.isfinite(float(info.loss))
    moved = after.params["network"]["body"]["backbone"]["layer4.0.conv2"]["kernel"] - kernel
    # Adam's first step is the learning rate, whose default is smaller from weights.
    assert 1e-6 < float(jnp.abs(moved).max()) <= 1.01e-5


def test_the_papers_adaptation_layers_stand_on_a_weights_file(resnet):
    """Sec. III.A: the remaining layers are put on the pre-trained convolutions."""
    settings = {"init": str(resnet), "batch_size": 6, "k_m": 6, "n_m": 6, "epochs": 1}
    config = dataclasses.replace(
        ccnn.PRESETS["paper"],
        **settings,
        adaptation_widths=(5, 4),
        output="softmax",
        rectify_features=False,
    )
    method = ccnn.build(config, DataSpec(12, (16, 16, 3), 3))
    images = jax.random.normal(jax.random.key(0), (12, 16, 16, 3))
    state = jax.jit(method.init)(jax.random.key(1), images[:2])
    params, stats = state.params["network"], state.model_state["network"]["batch_stats"]
    kernel = np.load(resnet)["layer4.0.conv2.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(params["body"]["backbone"]["layer4.0.conv2"]["kernel"], kernel)

    network, head = pretrained.load(resnet).network(), SalientHead((5, 4, 3))

    def by_hand(images):
        x = jax.image.resize(images, (12, 224, 224, 3), "bilinear")
        for module, name in ((network, "backbone"), (head, "head")):
            own = {"params": params["body"][name], "batch_stats": stats["body"][name]}
            x = module.apply(own, x, train=False)
        return x @ params["feature"]["kernel"] + params["feature"]["bias"][None]

    expected = jax.jit(by_hand)(images)
    assert expected.shape == (12, 3)
    found = jax.jit(method.predict)(state, images).features
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * float(abs(expected).max()))
    begun = method.phases[0].first.update(state, found)
    after, _ = jax.jit(method.step)(begun, Batch(images[:6], jnp.arange(6)))
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), after.params["network"]["body"], params["body"]
    )
    assert moved["head"]["Conv_0"]["kernel"] and moved["backbone"]["layer4.0.conv2"]["kernel"]


def test_the_paper_has_its_own_head_on_any_weights(resnet):
    """Fig. 1's widths, where `best` takes the averaged map; nothing of that size is made."""
    found = {}
    for name, preset in ccnn.PRESETS.items():
        method = ccnn.build(
            dataclasses.replace(preset, init=str(resnet)), DataSpec(500, (16, 16, 3), 10)
        )
        state = jax.eval_shape(method.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
        body = state.params["network"]["body"]
        found[name] = [body["head"][f"Conv_{i}"]["kernel"].shape for i in range(len(body) * 3 - 3)]
    assert found == {"best": [], "paper": [(3, 3, 512, 6144), (3, 3, 6144, 2048), (3, 3, 2048, 10)]}


@pytest.mark.parametrize("frozen", [True, False])
def test_a_weights_files_statistics_can_stay(resnet, frozen):
    config = dataclasses.replace(
        ccnn.PRESETS["best"], init=str(resnet), frozen_statistics=frozen, batch_size=4, k_m=2,
        n_m=2, learning_rate=0.1,
    )  # fmt: skip
    method = ccnn.build(config, DataSpec(4, (16, 16, 3), 2))
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    state = jax.jit(method.init)(jax.random.key(1), images)
    after, _ = jax.jit(method.step)(state, Batch(images, jnp.arange(4)))
    before, now = (s.model_state["network"]["batch_stats"] for s in (state, after))
    same = jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), before, now))
    assert all(same) if frozen else not any(same)


def test_a_feature_layer_to_roll_back_must_be_there(resnet):
    settings = {"init": str(resnet), "rollback_scope": "feature_layer"}
    with pytest.raises(InputError, match="only with a feature_width or"):
        ccnn_config.check(ccnn.Config(**settings))
    ccnn_config.check(ccnn.Config(**settings, feature_width=4))
    ccnn_config.check(ccnn.Config(**settings, adaptation_widths=(4, 3)))
    with pytest.raises(InputError, match="adaptation_widths must each be at least 1, not 4 0"):
        ccnn_config.check(ccnn.Config(adaptation_widths=(4, 0)))


def test_initial_clusters_count_with_and_without_a_cap():
    """Otherwise the first mini-batch would overwrite them."""
    for cap in (None, 5.0):
        state = small.begun(small.method(init="random", max_count=cap))
        sizes = np.asarray(state.cluster.kmeans.counts)
        if cap is None:
            assert sizes.sum() == len(small.data().images)
        else:
            assert sizes.max() == cap


def test_reconstruction_has_no_dropout():
    """Only fine-tuning has: there the same images give other outputs with another key."""
    spec = DataSpec(8, (64, 64, 3), 3)
    networks = ccnn_network.networks_for(ccnn.Config(dropout=0.9), spec, Compute(), None, None)
    assert networks.side == 224
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    network, plain = (
        one._replace(apply=functools.partial(one.apply, train=True))
        for one in (networks.network, networks.without_dropout)
    )
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    drops = [
        "random_bits" in str(jax.make_jaxpr(one.apply)(variables, images, key=jax.random.key(1)))
        for one in (network, plain)
    ]
    assert drops == [True, False]


def test_weights_and_a_network_exclude_each_other(resnet):
    config = dataclasses.replace(ccnn.PRESETS["best"], init=str(resnet), network="lenet")
    with pytest.raises(InputError, match="brings its own network"):
        ccnn.build(config, DataSpec(12, (16, 16, 3), 3))
    config = dataclasses.replace(config, init="autoencodr", network="auto")
    with pytest.raises(InputError, match="no weights file autoencodr; --init takes"):
        ccnn.build(config, DataSpec(12, (16, 16, 3), 3))


def test_training_is_seeded_on_a_sample_and_clustering_in_one_go_sees_all():
    assert small.method().phases[-1].first.rows == 100_000
    assert small.method(learning="kmeans").phases[-1].first.rows is None
