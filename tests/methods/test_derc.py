import dataclasses
import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import make_blobs

import jaxclust as jc
from jaxclust import metrics
from jaxclust.cli import main
from jaxclust.clustering.host import mixture
from jaxclust.core.errors import InputError, option
from jaxclust.core.types import DataSpec
from jaxclust.images.normalisation import measure, normalise
from jaxclust.methods import dec, derc
from jaxclust.methods.derc import derc_config, derc_map
from jaxclust.methods.registry import METHODS
from jaxclust.models.autoencoder import StridedAutoencoder
from jaxclust.training import loop, placement, starting
from jaxclust.training.prediction import predictor
from tests.methods import small

N, K = 60, 3
NETWORK = StridedAutoencoder((8, 8, 1), 4, (4, 8), (1, 2))


def build(**changes):
    wanted = {"epochs": 2, "pretrain_epochs": 5, "batch_size": 20, "latent_width": 4}
    wanted |= {"restarts": 2, "reducer": "pca", "iterations": 1}
    config = dataclasses.replace(derc.Config(), **{**wanted, **changes})
    return derc.build(config, DataSpec(N, (8, 8, 1), K), network=NETWORK)


def test_the_latent_is_as_wide_as_there_are_clusters_but_ten_at_least():
    assert derc_config.of_data(derc.Config(), DataSpec(N, (8, 8, 1), K)).latent_width == 10
    assert derc_config.of_data(derc.Config(), DataSpec(N, (8, 8, 1), 12)).latent_width == 12


def test_preset_paper_has_one_start_with_and_without_retraining():
    assert {METHODS[name].config("paper").starts for name in ("derc", "derc_r")} == {1}
    assert METHODS["derc_r"].config("best").starts == 4
    assert {METHODS["derc_r"].config(name).iterations for name in ("best", "paper")} == {0}


def test_triplets_join_one_class_and_part_two():
    classes = jnp.array([0, 0, 0, 1, 1, 2, 2, 2])
    valid = jnp.array([True] * 5 + [True, False, False])
    seen = set()
    for seed in range(40):
        same, other, exists = derc.choose_triplets(jax.random.key(seed), classes, valid)
        # Class 2 has one valid sample left: no partner, no triplet.
        np.testing.assert_array_equal(exists, [True] * 5 + [False] * 3)
        for i in np.flatnonzero(exists):
            assert same[i] != i
            assert classes[same[i]] == classes[i]
            assert classes[other[i]] != classes[i]
            assert valid[same[i]]
            assert valid[other[i]]
            seen.add((int(i), int(same[i]), int(other[i])))
    # Every triplet there is comes up: 3·2·3 of class 0 and 2·1·4 of class 1.
    assert len(seen) == 18 + 8
    one = derc.choose_triplets(jax.random.key(0), jnp.zeros(4, int), jnp.ones(4, bool))
    assert not np.any(one[2])


def test_the_loss_is_eq_8():
    method = build()
    data = small.data(N)
    state = starting.init(method, data, 0)
    state = method.phases[1].first.update(state, predictor(method, data)(state).features)
    _, info = jax.jit(method.step)(jax.device_put(state), small.batch(20))
    expected = 0.7 * info.watch["triplet"] + 0.3 * info.watch["reconstruction"]
    np.testing.assert_allclose(info.loss, expected, rtol=1e-5)
    assert float(info.watch["triplets"]) > 0.9


def test_phases_follow_algorithm_1():
    names = [phase.name for phase in build(iterations=3).phases]
    assert names == ["pretrain", "retrain1", "retrain2", "retrain3", "cluster"]
    assert METHODS["derc_r"].config("best").iterations == 0
    config = dataclasses.replace(derc.Config(), iterations=0)
    method = derc.build(config, DataSpec(N, (28, 28, 1), 12))
    assert [phase.name for phase in method.phases] == ["pretrain", "cluster"]
    shapes = jax.eval_shape(method.init, jax.random.key(0), jnp.zeros((2, 28, 28, 1)))
    assert shapes.cluster.latents.shape == (N, 12)


@pytest.mark.parametrize("clusterer", ["gmm", "kmeans"])
def test_bars_are_told_apart_and_every_image_has_its_own_cluster(clusterer):
    _, kinds = small.images(N)
    data = small.data(N)
    method = build(clusterer=clusterer, epochs=4, pretrain_epochs=15)
    state = loop.fit(method, data, seed=0).state
    prediction = predictor(method, data)(state)
    np.testing.assert_array_equal(
        prediction.assignments, np.asarray(state.cluster.probabilities).argmax(axis=1)
    )
    np.testing.assert_allclose(prediction.features, state.cluster.latents, atol=1e-5)
    assert metrics.accuracy(kinds, prediction.assignments) > 0.9


def test_retraining_parts_the_clusters():
    """The ratio of distances within clusters to those between them falls."""
    data = small.data(N)

    def ratio(iterations):
        method = build(iterations=iterations, epochs=10, pretrain_epochs=5)
        cluster = loop.fit(method, data, seed=0).state.cluster
        z, p = np.asarray(cluster.latents), np.asarray(cluster.probabilities)
        distances = np.linalg.norm(z[:, None] - z[None], axis=2)
        same = p.argmax(axis=1)[:, None] == p.argmax(axis=1)[None]
        return distances[same].mean() / distances[~same].mean()

    assert ratio(2) < 0.8 * ratio(0)


@pytest.mark.parametrize(
    ("clusterer", "changes"),
    [("dbscan", {"eps": 5.0}), ("hdbscan", {"min_cluster_size": 20})],
)
def test_density_finds_its_own_number_and_noise_names_the_nearest_cluster(
    clusterer, changes, caplog
):
    rng = np.random.default_rng(0)
    blobs = [rng.normal(c, 0.1, (40, 2)) for c in ([0, 0], [6, 0], [0, 6], [6, 6])]
    # HDBSCAN takes a single stray into the nearest cluster, and leaves out what is thin in itself.
    strays = [[3.0, 1.0]] if clusterer == "dbscan" else [[3 + 2 * i, -9.0 - i**2] for i in range(4)]
    x = np.concatenate([*blobs, strays]).astype(np.float32)
    config = derc.Config(clusterer=clusterer, min_samples=5, **changes)
    how = derc_map.Settings(*(getattr(config, name) for name in derc_map.Settings._fields))
    with caplog.at_level(logging.INFO, "jaxclust.progress"):
        p, noise = derc_map.cluster_map(how, x, 3, seed=0)
    count = len(strays)
    assert f"4 clusters and {count} images in none (n_clusters 3 is not used)" in caplog.text
    np.testing.assert_array_equal(np.flatnonzero(noise), 160 + np.arange(count))
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-4)
    labels = p.argmax(axis=1)
    assert len(set(labels[:160])) == 4
    assert labels[160] in (labels[0], labels[40])
    assert p[160].max() < 0.01 < 0.99 < p[0].max()


def test_features_are_mapped_and_clustered_as_they_are():
    """The map and mixture alone, which is what DERC does of an encoder's features."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(3), 20)
    x = (6 * np.eye(8)[kinds] + rng.normal(size=(60, 8))).astype(np.float32)
    spec = DataSpec(60, (8,), 3)
    method = METHODS["derc_r"].build(METHODS["derc_r"].config("best"), spec)
    assert [phase.name for phase in method.phases] == ["cluster"]
    data = placement.put(x, measure(x))
    state = loop.fit(method, data, seed=0).state
    assert not jax.tree.leaves(state.params)
    prediction = predictor(method, data)(state)
    np.testing.assert_allclose(prediction.features, normalise(x, data.normalisation), atol=1e-6)
    assert metrics.accuracy(kinds, prediction.assignments) == 1
    # The same as its parts in a row, by hand.
    on_map = np.asarray(state.cluster.embedding)
    expected = mixture.posteriors(on_map, mixture.fit(on_map, 3, 0, restarts=20))
    assert metrics.accuracy(expected.argmax(axis=1), prediction.assignments) == 1


def test_what_is_trained_of_features():
    spec = DataSpec(60, (8,), 3)
    retrained = derc.build(dataclasses.replace(derc.Config(), iterations=1), spec)
    assert [phase.name for phase in retrained.phases] == ["pretrain", "retrain1", "cluster"]
    with pytest.raises(InputError, match="there is nothing to retrain"):
        derc.build(derc.Config(network="none"), spec)
    # Images without a network: their pixels.
    config = dataclasses.replace(derc.Config(), network="none", iterations=0)
    method = derc.build(config, DataSpec(N, (8, 8, 1), K))
    shapes = jax.eval_shape(method.init, jax.random.key(0), jnp.zeros((2, 8, 8, 1)))
    assert shapes.cluster.latents.shape == (N, 64)


@pytest.mark.parametrize(
    "changes", [{"alpha": 1.5}, {"iterations": -1}, {"eps": 0.0}, {"min_samples": 0}]
)
def test_settings_without_sense_are_refused(changes):
    with pytest.raises(InputError) as refused:
        build(**changes)
    assert option(next(iter(changes))) in refused.value.on_command_line()


@pytest.mark.parametrize(
    ("n", "pretraining", "retraining"), [(70_000, 30, 10), (2856, 84, 30), (1797, 125, 44)]
)
def test_small_sets_are_seen_more_often(n, pretraining, retraining):
    """1000 and 350 steps of 256 images at least, but what is asked for is done."""
    spec = DataSpec(n, (16, 16, 1), 10)
    method = derc.build(derc.Config(reducer="pca"), spec)
    assert [phase.epochs for phase in method.phases[:2]] == [pretraining, retraining]
    asked = derc.build(derc.Config(pretrain_epochs=3, epochs=0, reducer="pca"), spec)
    assert [phase.epochs for phase in asked.phases[:2]] == [3, 0]
    # Its ablations start from the same pre-training.
    alone = dec.build(dec.PRESETS["dae"]["best"], spec)
    assert alone.phases[0].epochs == pretraining


def test_beyond_the_most_a_sample_is_mapped_and_the_rest_placed(monkeypatch, tmp_path):
    """Blobs of which a third is mapped: all are told apart, and a run says what was mapped."""
    monkeypatch.setattr(derc, "MOST_MAPPED", 40)
    monkeypatch.chdir(tmp_path)
    x, kinds = make_blobs(120, n_features=8, centers=3, random_state=2)
    x = x.astype(np.float32)
    config = derc.Config(iterations=0, network="none")
    method = derc.build(config, jc.spec_of(x, n_clusters=3))
    fitted = jc.fit(method, x, seed=0)
    cluster = fitted.state.cluster
    rows = np.asarray(cluster.rows)
    assert rows.shape == (40,)
    assert np.all(np.diff(rows) > 0)
    features = jc.predict(fitted, x).features
    np.testing.assert_allclose(cluster.latents, features[rows])
    assert np.asarray(cluster.embedding).shape == (120, 2)
    found = fitted.predict(x)
    assert metrics.accuracy(kinds, found) == 1
    np.testing.assert_array_equal(found, np.asarray(cluster.probabilities).argmax(axis=1))
    # Each that was not mapped lies at the mean of its ten nearest that were.
    other = np.setdiff1d(np.arange(120), rows)[0]
    near = np.argsort(np.square(features[rows] - features[other]).sum(axis=1))[:10]
    mean = np.asarray(cluster.embedding)[rows][near].mean(axis=0)
    np.testing.assert_allclose(np.asarray(cluster.embedding)[other], mean, rtol=1e-4, atol=1e-4)
    np.savez("blobs.npz", features=x)
    call = ["run", "--method=derc_r", "--starts=1", "--dataset=features:blobs.npz"]
    assert main([*call, "--n-clusters=3", "--quiet", "--out=run"]) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["map_fitted_on"] == 40
    assert "own map; 120 images" in (tmp_path / "run" / "report.html").read_text("utf-8")
