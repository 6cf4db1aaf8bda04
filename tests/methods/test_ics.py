import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust import losses, metrics
from jaxclust.core.errors import InputError, option
from jaxclust.core.types import DataSpec
from jaxclust.images.augment import Augmentation
from jaxclust.methods import ics
from jaxclust.models.autoencoder import PooledAutoencoder
from jaxclust.training import loop, starting
from jaxclust.training.prediction import predictor
from tests.methods import small

N, K = 60, 3
NETWORK = PooledAutoencoder((8, 8, 1), 4, (4, 8))


def build(**changes):
    wanted = {"epochs": 2, "pretrain_epochs": 1, "batch_size": 20, "latent_width": 4}
    config = dataclasses.replace(ics.Config(), **{**wanted, "augments": 3, **changes})
    return ics.build(config, DataSpec(N, (8, 8, 1), K), network=NETWORK)


def latents(n=30):
    return jax.random.normal(jax.random.key(0), (n, 2))


def distances_of(z):
    z = np.asarray(z)
    return np.linalg.norm(z[:, None] - z[None], axis=2)


def chosen(radius, tries, seed=0):
    z = latents()
    rows = jnp.arange(30)
    return np.asarray(
        ics.choose_negatives(jax.random.key(seed), z, z, jnp.full(30, radius), rows, tries)
    )


def test_a_negative_is_never_the_anchor_and_lies_outside_its_views():
    distances = distances_of(latents())
    negatives = chosen(radius=1.0, tries=500)
    assert not np.any(negatives == np.arange(30))
    # In 500 draws of 29 every image comes up, so wherever one lies outside, one is found.
    assert np.all(distances[np.arange(30), negatives] > 1.0)


def test_the_farthest_draw_stands_in_where_none_lies_outside():
    distances = distances_of(latents())
    np.testing.assert_array_equal(chosen(radius=1e6, tries=500), distances.argmax(axis=1))


def test_negatives_are_drawn_at_random_and_by_position():
    counts = np.bincount(
        np.concatenate([chosen(radius=0.0, tries=1, seed=seed) for seed in range(200)]),
        minlength=30,
    )
    # 6000 draws over 30 images: 200 each, give or take.
    assert counts.min() > 120
    assert counts.max() < 280
    z = latents()
    some = ics.choose_negatives(jax.random.key(0), z[5:9], z, jnp.zeros(4), jnp.arange(5, 9), 4)
    np.testing.assert_array_equal(some, chosen(radius=0.0, tries=4)[5:9])


TERMS = {
    "clustering_weight": "clustering_loss",
    "reconstruction_weight": "reconstruction",
    "entropy_weight": "entropy",
    "triplet_weight": "triplet",
}


@pytest.fixture(scope="module")
def begun():
    method = build()
    data = small.data(N)
    state = starting.init(method, data, 0)
    features = jnp.asarray(predictor(method, data)(state).features)
    return jax.jit(method.phases[-1].first.update)(state, features)


@pytest.mark.parametrize("off", [None, "reconstruction_weight", "entropy_weight", "triplet_weight"])
def test_the_loss_is_eq_7_and_each_term_can_be_left_out(begun, off):
    weights = {"clustering_weight": 0.8, "reconstruction_weight": 1.0}
    weights |= {"entropy_weight": 0.01, "triplet_weight": 0.1}
    if off:
        weights[off] = 0.0
    method = build(**weights)
    _, info = jax.jit(method.step)(begun, small.batch(20))
    logged = {name for name in TERMS.values() if name in info.watch}
    assert logged == set(TERMS.values()) - ({TERMS[off]} if off else set())
    total = sum(weight * info.watch[TERMS[name]] for name, weight in weights.items() if weight)
    np.testing.assert_allclose(info.loss, total, rtol=1e-4)


def test_entropy_and_statistics_are_those_of_the_batch(begun):
    """Not those of the triplets' views."""
    batch = small.batch(20)
    after, info = jax.jit(build().step)(begun, batch)
    variables = {"params": begun.params["network"], **begun.model_state}
    coded, stats = NETWORK.apply(variables, batch.images, train=True, mutable=["batch_stats"])
    for found, expected in zip(*map(jax.tree.leaves, (after.model_state, stats)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    offsets = coded.latent[:, None] - begun.params["centroids"][None]
    q = losses.student_t_assignment(jnp.sum(jnp.square(offsets), axis=2))
    np.testing.assert_allclose(info.watch["entropy"], losses.assignment_entropy(q), atol=1e-4)


def test_views_keep_their_share_of_the_statistics_where_views_are_clustered(begun):
    """Then there are two passes in training mode, of the view and of the positive."""
    batch, shown = small.batch(20), {}
    for name, clustered in (("views", True), ("plain", False)):
        method = build(cluster_augmented=clustered, views=Augmentation())
        after, _ = jax.jit(method.step)(begun, batch)
        shown[name] = jax.tree.leaves(after.model_state)[0]
    before = np.asarray(jax.tree.leaves(begun.model_state)[0])
    once, twice = np.asarray(shown["plain"]) - before, np.asarray(shown["views"]) - before
    # The views are the images themselves, and a pass keeps nine tenths.
    np.testing.assert_allclose(twice, 1.9 * once, rtol=1e-3, atol=1e-5)


def test_small_sets_are_pretrained_for_as_many_steps_as_large_ones_need():
    def pretraining(n):
        method = ics.build(ics.PRESETS["best"], DataSpec(n, (28, 28, 1), 10))
        phase = method.phases[0]
        return phase.epochs, phase.epochs * math.ceil(n / phase.batches.size)

    epochs, steps = pretraining(1797)
    assert epochs > 50
    assert 7500 <= steps < 7500 + 8
    assert pretraining(70_000)[0] == 50
    config = dataclasses.replace(ics.PRESETS["best"], pretrain_steps=10_000)
    longer = ics.build(config, DataSpec(2560, (28, 28, 1), 10))
    assert longer.phases[0].epochs == 1000


def test_features_have_no_views_for_triplets():
    config = dataclasses.replace(ics.Config(), network="dense")
    with pytest.raises(InputError, match="needs images"):
        ics.build(config, DataSpec(N, (8,), K))
    ics.build(dataclasses.replace(config, triplet_weight=0.0), DataSpec(N, (8,), K))


def test_bars_are_told_apart():
    _, kinds = small.images(N)
    data = small.data(N)
    method = build(epochs=8, pretrain_epochs=10)
    state = loop.fit(method, data, seed=0).state
    assignments = predictor(method, data)(state).assignments
    assert metrics.accuracy(kinds, assignments) > 0.9


@pytest.mark.parametrize("changes", [{"triplet_weight": -1.0}, {"augments": 0}, {"margin": -0.1}])
def test_settings_without_sense_are_refused(changes):
    with pytest.raises(InputError) as refused:
        build(**changes)
    assert option(next(iter(changes))) in refused.value.on_command_line()
