import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust.core import device
from jaxclust.core.errors import RunError, Stopped
from jaxclust.core.types import Batch, Batches, DataSpec, Phase, Refit, StepInfo
from jaxclust.images.normalisation import normalise
from jaxclust.methods import dec, derc
from jaxclust.models.autoencoder import DenseAutoencoder
from jaxclust.training import feed, loop, programs, starting
from jaxclust.training.hooks import Calls
from jaxclust.training.prediction import predictor
from tests.methods import small
from tests.trees import assert_close, assert_same


@pytest.mark.parametrize(("n", "batch"), [(10, 5), (11, 5), (3, 5), (7, 7)])
def test_an_epoch_shows_every_image_in_full_batches(n, batch):
    rows = feed.epoch_rows(0, 1, 2, n, batch)
    assert rows.shape[1] == batch
    assert set(rows.ravel()) == set(range(n))
    assert rows.shape[0] == -(-n // batch)
    np.testing.assert_array_equal(rows, feed.epoch_rows(0, 1, 2, n, batch))
    if n > 5:
        assert not np.array_equal(rows, feed.epoch_rows(0, 1, 3, n, batch))


def test_chunk_length_changes_no_bit(monkeypatch):
    method, data = small.method(), small.data()
    long = loop.fit(method, data, seed=0).state
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 0.0)
    assert_same(loop.fit(method, data, seed=0).state, long)


def test_chunk_equals_single_steps():
    method, data = small.method(init="random"), small.data()
    state = small.begun(method)
    rows = feed.epoch_rows(0, 0, 0, 120, 20)
    program = programs.chunk_program(
        method.phases[-1].step, method.phases[-1].batches, data.normalisation
    )
    single = jax.jit(method.step)
    expected, losses = state, []
    for row in rows[1:4]:
        images = normalise(data.images[row], data.normalisation)
        expected, info = single(expected, Batch(images, row))
        losses.append(float(info.loss))
    state, infos, finite = program(jax.tree.map(jnp.copy, state), data.images, rows, rows, 1, 4)
    assert bool(finite)
    np.testing.assert_allclose(infos.loss[:3], losses, rtol=1e-4)
    assert_close(state, expected, rtol=1e-7, atol=1e-3)


def dec_method():
    """Ends its phase early: everything is settled after two epochs."""
    config = dec.Config(epochs=4, pretrain_epochs=1, batch_size=20, latent_width=4, tolerance=1.0)
    network = DenseAutoencoder((8, 8, 1), 4, (16,))
    config = dataclasses.replace(config, refresh_every=2)
    return dec.build(config, DataSpec(120, (8, 8, 1), 3), network=network)


def derc_method():
    """Has two phases that begin on the host, and one that is nothing else."""
    config = derc.Config(epochs=1, iterations=2, pretrain_epochs=1, batch_size=40, reducer="pca")
    config = dataclasses.replace(config, latent_width=4, restarts=1)
    network = DenseAutoencoder((8, 8, 1), 4, (16,))
    return derc.build(config, DataSpec(120, (8, 8, 1), 3), network=network)


@pytest.mark.parametrize("build", [small.method, dec_method, derc_method])
def test_resuming_anywhere_gives_the_same_state(build):
    method, data = build(), small.data()
    saved = []

    def save(moment, now):
        saved.append((moment.state, moment.position))

    whole = loop.fit(method, data, seed=0, hooks=Calls(on_save=save)).state
    assert len(saved) >= 6
    for state, position in saved[:: max(1, len(saved) // 6)]:
        expected = starting.template(method, data, position.phase)
        assert jax.tree.map(jnp.shape, expected) == jax.tree.map(jnp.shape, state)
        assert_same(loop.fit(method, data, seed=0, resume=(state, position)).state, whole)


def test_a_phase_that_is_finished_takes_no_more_steps():
    method, data = dec_method(), small.data()
    state = loop.fit(method, data, seed=0).state
    assert int(state.step) == 6 * (1 + 2)


def test_phases_that_are_not_scored_are_so_after_their_beginning_only():
    method, data = derc_method(), small.data()
    seen = []
    hooks = Calls(on_epoch=lambda moment: seen.append((moment.phase, moment.epoch)))
    loop.fit(method, data, seed=0, hooks=hooks)
    assert seen == [("retrain1", 0), ("retrain2", 0), ("cluster", 0)]


def test_a_phase_that_is_never_scored_is_not_so_after_its_first_refit():
    method, data = derc_method(), small.data()
    quiet = tuple(
        phase._replace(scored="never") if phase.name == "retrain1" else phase
        for phase in method.phases
    )
    seen = []
    hooks = Calls(on_epoch=lambda moment: seen.append(moment.phase))
    loop.fit(method.replace(phases=quiet), data, seed=0, hooks=hooks)
    assert seen == ["retrain2", "cluster"]


def test_stop_saves_first():
    saved = []
    hooks = Calls(
        on_save=lambda moment, now: saved.append((moment.position, now)),
        interrupts=lambda: len(saved) >= 1,
    )
    with pytest.raises(Stopped):
        loop.fit(small.method(), small.data(), seed=0, hooks=hooks)
    assert [now for _, now in saved] == [False, True]


def test_a_loss_that_is_not_finite_stops_the_run():
    method, data = small.method(), small.data()

    def step(state, batch):
        loss = jnp.where(state.step == 7, jnp.nan, 1.0)
        return state.replace(step=state.step + 1), StepInfo(loss, {})

    saved = []
    bad = method.replace(phases=(Phase("bad", step, 4, Batches(20)),))
    hooks = Calls(on_save=lambda moment, now: saved.append(moment.position.step))
    with pytest.raises(RunError, match=r"nan at step 8 of phase 'bad'"):
        loop.fit(bad, data, seed=0, hooks=hooks)
    assert max(saved) <= 7


def test_a_state_that_is_not_finite_is_never_saved():
    """A last update may ruin parameters whose loss was still fine."""
    method, data = small.method(), small.data()

    def step(state, batch):
        ruined = jax.tree.map(lambda leaf: leaf * jnp.inf, state.params)
        params = jax.tree.map(
            lambda new, old: jnp.where(state.step == 4, new, old), ruined, state.params
        )
        return state.replace(step=state.step + 1, params=params), StepInfo(jnp.ones(()), {})

    saved = []
    bad = method.replace(phases=(Phase("bad", step, 4, Batches(20)),))
    hooks = Calls(on_save=lambda moment, now: saved.append(moment.position.step))
    with pytest.raises(RunError, match="no longer finite"):
        loop.fit(bad, data, seed=0, hooks=hooks)
    assert max(saved, default=0) < 5


def test_a_phase_without_steps_begins_only_once():
    """`begin` refits the output layer, so running it twice would change it."""
    method, data, saved = small.method(epochs=0), small.data(), []
    hooks = Calls(on_save=lambda moment, now: saved.append((moment.state, moment.position)))
    whole = loop.fit(method, data, seed=0, hooks=hooks).state
    state, position = saved[-1]
    assert position.begun
    assert_same(loop.fit(method, data, seed=0, resume=(state, position)).state, whole)


@pytest.mark.parametrize(("every", "calls"), [(1, 4), (2, 2), (3, 1)])
def test_refresh_runs_after_the_epochs_it_is_due(every, calls):
    method, data = small.method(init="random", epochs=4), small.data()
    seen = []

    def refresh(state, features):
        jax.debug.callback(lambda: seen.append(features.shape))
        return state

    phase = method.phases[-1]._replace(between=Refit(refresh), every=every)
    loop.fit(method.replace(phases=(phase,)), data, seed=0)
    jax.effects_barrier()
    assert seen == [(120, 3)] * calls


def test_prediction_in_blocks_equals_one_pass(monkeypatch):
    method, data = small.method(), small.data(50)
    state = starting.init(method, data, 0)
    whole = predictor(method, data)(state)
    monkeypatch.setattr("jaxclust.training.prediction.BLOCK", 16)
    blocks = predictor(method, data)(state)
    assert blocks.features.shape == (50, 3)
    np.testing.assert_allclose(blocks.features, whole.features, atol=1e-5)


def test_parts_of_a_prediction_are_those_parts(monkeypatch):
    method, data = small.method(), small.data(50)
    state = starting.init(method, data, 0)
    monkeypatch.setattr("jaxclust.training.prediction.BLOCK", 16)
    predict = predictor(method, data)
    whole = predict(state)
    rows = np.array([3, 3, 49, 0, *range(20, 40)])
    part = predict(state, fields=("features", "readings"), rows=rows)
    assert part.assignments is None and part.probabilities is None
    np.testing.assert_allclose(part.features, whole.features[rows], atol=1e-5)
    for name, reading in whole.readings.items():
        np.testing.assert_array_equal(part.readings[name], reading[rows])


def test_a_phase_may_begin_from_a_sample():
    method, data = small.method(init="random"), small.data()
    seen = []

    def begin(state, features):
        seen.append(np.asarray(features))
        return state

    phase = method.phases[-1]._replace(first=Refit(begin, "host", 50), epochs=1)
    built = method.replace(phases=(phase,))
    loop.fit(built, data, seed=0)
    features = predictor(method, data)(starting.init(built, data, 0)).features
    # Every second or third of the 120.
    expected = features[np.arange(50) * 120 // 50]
    np.testing.assert_allclose(seen[0], expected, atol=1e-5)
    whole = method.replace(phases=(phase._replace(first=Refit(begin, "host", 120)),))
    loop.fit(whole, data, seed=0)
    assert seen[1].shape == features.shape


def test_a_state_of_a_sample_is_restored_into():
    """Its template has the sample's size where the phase's state has."""
    method, data = small.method(init="random"), small.data()

    def begin(state, features):
        return state.replace(cluster=features)

    phase = method.phases[-1]._replace(first=Refit(begin, rows=50))
    found = starting.template(method.replace(phases=(phase,)), data, 0)
    assert found.cluster.shape == (50, 3)


def test_compiler_options_yield_to_the_users_flags(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    assert device.compiler_options("cpu")
    assert not device.compiler_options("gpu")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=-reduce")
    assert not device.compiler_options("cpu")
