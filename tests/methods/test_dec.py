import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust import losses, metrics
from jaxclust.clustering import kmeans
from jaxclust.clustering.distances import squared_distances
from jaxclust.core.errors import InputError, option
from jaxclust.core.types import Batch, DataSpec
from jaxclust.images.augment import Augmentation
from jaxclust.methods import dec
from jaxclust.methods.registry import METHODS
from jaxclust.models.autoencoder import DenseAutoencoder
from jaxclust.training import loop, starting
from jaxclust.training.prediction import predictor
from tests.methods import small

N, K = 60, 3
NETWORK = DenseAutoencoder((8, 8, 1), 4, (16,))


def build(preset="dec", **changes):
    wanted = {"epochs": 2, "pretrain_epochs": 2, "batch_size": 20, "latent_width": 4}
    wanted |= {"cluster_augmented": False, "pretrain_augmented": False}
    config = dataclasses.replace(dec.PRESETS[preset]["best"], **{**wanted, **changes})
    return dec.build(config, DataSpec(N, (8, 8, 1), K), network=NETWORK)


def begun(method):
    """(data, latents, state at the start of clustering)."""
    data = small.data(N)
    state = starting.init(method, data, 0)
    latents = jnp.asarray(predictor(method, data)(state).features)
    return data, latents, jax.jit(method.phases[-1].first.update)(state, latents)


def test_clustering_begins_with_kmeans_and_targets_of_the_whole_set():
    _, latents, state = begun(build())
    centroids = state.params["centroids"]
    distances = np.square(np.asarray(latents)[:, None] - np.asarray(centroids)).sum(axis=2)
    nearest = distances.argmin(axis=1)
    for j in range(K):
        np.testing.assert_allclose(
            centroids[j], np.asarray(latents)[nearest == j].mean(axis=0), atol=1e-3
        )
    q = losses.student_t_assignment(jnp.asarray(distances))
    np.testing.assert_allclose(
        state.cluster.targets, losses.target_distribution(q), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_array_equal(state.cluster.assignments, nearest)


@pytest.mark.parametrize("preset", ["dec", "idec"])
def test_the_loss_is_the_weighted_sum_of_its_terms(preset):
    method = build(preset)
    _, _, state = begun(method)
    batch = small.batch(20)
    after, info = jax.jit(method.step)(state, batch)
    variables = {"params": state.params["network"]}
    latent = NETWORK.apply(variables, batch.images, train=True, method="encode")
    distances = squared_distances(latent, state.params["centroids"])
    q = losses.student_t_assignment(distances)
    clustering = losses.kl_divergence(state.cluster.targets[:20], q)
    np.testing.assert_allclose(info.watch["clustering_loss"], clustering, rtol=1e-4)
    if preset == "dec":
        np.testing.assert_allclose(info.loss, clustering, rtol=1e-4)
    else:
        coded = NETWORK.apply(variables, batch.images, train=True)
        error = jnp.mean(jnp.square(coded.decoded - batch.images))
        np.testing.assert_allclose(info.watch["reconstruction"], error, rtol=1e-4)
        np.testing.assert_allclose(info.loss, 0.1 * clustering + error, rtol=1e-4)
    same = jax.tree.map(np.array_equal, state.params["network"], after.params["network"])
    # DEC has no use for the decoder any more, and both train centroids and encoder.
    if preset == "dec":
        assert set(same) == {"down_0", "to_latent"}
    else:
        assert not same["to_pixels"]["kernel"]
    assert not same["to_latent"]["kernel"]
    assert not np.array_equal(state.params["centroids"], after.params["centroids"])


def test_views_are_clustered_towards_the_targets_of_the_plain_images():
    """Mirrored or not is all that these views can be, so each loss is one of two."""
    method = build("idec", cluster_augmented=True, views=Augmentation(flip=True))
    plain = build("idec")
    _, _, state = begun(method)
    step, plain_step = jax.jit(method.step), jax.jit(plain.step)
    mirrored = []
    for row in range(12):
        image = small.batch(20).images[row : row + 1]
        batches = [Batch(shown, jnp.array([row])) for shown in (image, image[:, :, ::-1])]
        given = state.replace(step=jnp.asarray(row))
        loss = float(step(given, batches[0])[1].loss)
        either = [float(plain_step(given, batch)[1].loss) for batch in batches]
        assert min(abs(loss - one) for one in either) < 1e-5 * abs(loss)
        mirrored.append(abs(loss - either[1]) < abs(loss - either[0]))
    assert 0 < sum(mirrored) < 12


def test_targets_are_refreshed_from_new_latents():
    method = build(refresh_every=2)
    assert method.phases[-1].every == 2
    _, latents, state = begun(method)
    moved = latents + jax.random.normal(jax.random.key(0), latents.shape)
    after = jax.jit(method.phases[-1].between.update)(state, moved)
    assert not np.array_equal(after.cluster.targets, state.cluster.targets)
    labels = np.asarray(kmeans.assign(moved, state.params["centroids"])[0])
    churn = np.mean(labels != np.asarray(state.cluster.assignments))
    assert float(after.cluster.changed) == pytest.approx(churn)


@pytest.mark.parametrize(("tolerance", "epochs"), [(1.0, 1), (0.0, 5)])
def test_it_stops_once_assignments_hardly_change(tolerance, epochs):
    method = build(epochs=5, tolerance=tolerance, pretrain_epochs=1)
    state = loop.fit(method, small.data(N), seed=0).state
    steps_an_epoch = 3
    assert int(state.step) == steps_an_epoch * (1 + epochs)


def test_bars_are_told_apart():
    _, kinds = small.images(N)
    data = small.data(N)
    scores = {}
    for preset in ("dec", "idec", "ae_kmeans", "denoising_ae_kmeans"):
        changes = {"epochs": 0} if preset.endswith("kmeans") else {"epochs": 10}
        method = build(preset, pretrain_epochs=30, **changes)
        state = loop.fit(method, data, seed=0).state
        prediction = predictor(method, data)(state)
        scores[preset] = metrics.accuracy(kinds, prediction.assignments)
    assert min(scores.values()) > 0.9, scores


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate": 0.0}, {"noise": -1.0}, {"refresh_every": 0}, {"latent_width": 0}],
)
def test_settings_without_sense_are_refused(changes):
    with pytest.raises(InputError) as refused:
        dec.build(dataclasses.replace(dec.Config(), **changes), DataSpec(N, (8, 8, 1), K))
    assert option(next(iter(changes))) in refused.value.on_command_line()


def test_images_too_small_for_unpadded_convolutions_are_refused():
    config = METHODS["dae"].config("best")
    config = dataclasses.replace(config, network="strided_valid")
    with pytest.raises(InputError, match="37 pixels or more"):
        dec.build(config, DataSpec(N, (28, 28, 1), K))


def test_noise_is_on_the_input_only():
    """The target of pre-training is the view without the noise."""
    from jaxclust.images.augment import Affine
    from jaxclust.methods.parts.pretraining import reconstruction_phase
    from jaxclust.models.autoencoder import Coded

    images = jnp.zeros((4, 8, 8, 1))
    method = build()
    state = starting.init(method, small.data(N), 0)

    def copying(params, model_state, seen, key):
        return Coded(seen.reshape(4, -1), seen), model_state

    import optax

    phase = reconstruction_phase(
        copying, optax.adam(1e-3), epochs=1, batch_size=4, ranges=Affine(), noise=0.5
    )
    _, info = jax.jit(phase.step)(state, Batch(images, jnp.arange(4)))
    # What is copied is the noise: 64 values of variance a quarter.
    assert float(info.loss) == pytest.approx(16, rel=0.3)


def test_features_have_no_views():
    spec = DataSpec(60, (12,), 3)
    config = dec.PRESETS["dec"]["best"]
    assert config.cluster_augmented
    assert config.pretrain_augmented
    method = dec.build(dataclasses.replace(config, batch_size=20), spec)
    features = jax.ShapeDtypeStruct((20, 12), jnp.float32)
    state = jax.eval_shape(method.init, jax.random.key(0), features)
    batch = Batch(features, jax.ShapeDtypeStruct((20,), jnp.int32))
    for phase in method.phases:
        jax.eval_shape(phase.step, state, batch)


@pytest.mark.parametrize(("n", "epochs"), [(1000, 1500), (60_000, 30)])
def test_small_sets_are_pretrained_for_as_many_steps(n, epochs):
    method = dec.build(dec.PRESETS["dec"]["best"], DataSpec(n, (16, 16, 1), 10))
    assert method.phases[0].epochs == epochs


@pytest.mark.parametrize("preset", ["best", "paper"])
def test_dbc_never_ends_before_its_targets_are_sharpest(preset):
    method = dec.build(dec.PRESETS["dbc"][preset], DataSpec(60, (8, 8, 1), 3))
    state = jax.eval_shape(method.init, jax.random.key(0), jnp.zeros((2, 8, 8, 1)))
    settled = state.cluster._replace(changed=jnp.zeros(()))
    assert not method.phases[1].until(state.replace(cluster=settled))


def test_dbcs_targets_are_sharper_and_sharper():
    """The power runs evenly from the first to the last over the phase's steps."""
    config = dataclasses.replace(
        dec.Config(), power=(2.0, 4.0), epochs=4, pretrain_epochs=2, batch_size=20, latent_width=4
    )
    network = DenseAutoencoder((8, 8, 1), 4, (16,))
    method = dec.build(config, DataSpec(60, (8, 8, 1), 3), network=network)
    state = method.init(jax.random.key(0), jnp.zeros((2, 8, 8, 1)))
    latents = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    state = method.phases[1].first.update(state.replace(step=jnp.int32(6)), jnp.asarray(latents))
    centroids = np.asarray(state.params["centroids"], np.float64)
    q = 1 / (1 + np.square(latents[:, None] - centroids[None]).sum(axis=2))
    q /= q.sum(axis=1, keepdims=True)
    for step, power in ((6, 2.0), (12, 3.0), (18, 4.0), (30, 4.0)):
        after = method.phases[1].between.update(state.replace(step=jnp.int32(step)), latents)
        weighed = q**power / q.sum(axis=0)
        expected = weighed / weighed.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(after.cluster.targets, expected, rtol=1e-3, atol=1e-6)
