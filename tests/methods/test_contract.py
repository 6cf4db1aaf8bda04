"""Promises every registered method keeps."""

import dataclasses
import os
import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust.core.errors import InputError
from jaxclust.core.types import Batch, Compute, DataSpec, Method, Prediction, TrainState
from jaxclust.images.normalisation import measure, normalise
from jaxclust.methods.registry import METHODS
from jaxclust.training import loop, placement, starting
from jaxclust.training.fitted import Fitted
from tests.methods import small
from tests.trees import assert_same

N, K = 60, 3
# Methods that cluster in one go have no train step; bottom-up merging draws nothing.
ONE_GO = {"gmm", "spectral", "agglomerative", "ac_pic", "sec", "graph_nmf", "nmf", "cnn_cm"}
DRAWS_NOTHING = {"agglomerative", "ac_pic"}
OF_FEATURES = {"temi", "turtle"}
# The same steps and networks as another method's, with other numbers in them.
LIKE_ANOTHER = {
    "ccnn_baseline1", "ccnn_baseline3", "dac_star", "dae", "idec", "ae_kmeans",
    "denoising_ae_kmeans", "decnn_kmeans", "jule_rc",
}  # fmt: skip
# Methods of a family are one `build` with other settings; .ci/run asks for one of each on the
# oldest Python.
NAMES = sorted(METHODS if os.environ.get("JAXCLUST_ALL_CHECKS") else METHODS.keys() - LIKE_ANOTHER)
if os.environ.get("JAXCLUST_FAMILIES"):
    NAMES = sorted({entry.make: name for name, entry in reversed(METHODS.items())}.values())
# Of functions, in a printed program.
ADDRESS = re.compile(r"0x[0-9a-f]+")


class Case(NamedTuple):
    """A method fitted to small images."""

    method: Method
    data: placement.Data
    state: TrainState  # in the last phase
    traced: dict[str, int]  # how often the fit traced each phase's step
    predict: Callable[..., Prediction]  # compiled


def small_config(name):
    config = METHODS[name].config("best")
    wanted = {"epochs": 2, "pretrain_epochs": 1, "batch_size": 20, "k_m": 16, "n_m": 16}
    wanted |= {"heads": 2, "hidden_width": 8, "bottleneck": 4, "neighbours": 5, "inner_steps": 2}
    wanted |= {
        "draw_size": 20,
        "inner_passes": 1,
        "augments": 2,
        "reducer": "pca",
        "start_epochs": 1,
    }
    wanted |= {"windows": 200, "rounds": 1, "filters": 4, "groups": 2, "group_filters": 2}
    wanted["iterations"] = min(getattr(config, "iterations", 0), 1)
    known = {field.name for field in dataclasses.fields(config)}
    return dataclasses.replace(config, **{k: v for k, v in wanted.items() if k in known})


def counting(phase, counts):
    """The phase, counting how often its step is traced."""
    if phase.step is None:
        return phase

    def step(state, batch):
        counts[phase.name] = counts.get(phase.name, 0) + 1
        return phase.step(state, batch)

    return phase._replace(step=step, epochs=2)


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    pictures, _ = small.images(N)
    if request.param in OF_FEATURES:
        pictures = pictures.reshape(N, -1).astype(np.float32)
    data = placement.put(pictures, measure(pictures))
    spec = placement.spec_of(data, K)
    method, counts = METHODS[request.param].build(small_config(request.param), spec, Compute()), {}
    method = method.replace(phases=tuple(counting(phase, counts) for phase in method.phases))
    state = loop.fit(method, data, seed=0).state
    return Case(method, data, state, dict(counts), jax.jit(method.predict))


@pytest.fixture
def stepping(case, request):
    """The case of a method with a train step."""
    if request.node.callspec.params["case"] in ONE_GO:
        with pytest.raises(AttributeError, match="in one go"):
            _ = case.method.step
        pytest.skip("clusters in one go")
    return case


def batch_of(data, rows):
    rows = np.asarray(rows, np.int32)
    return Batch(normalise(data.images[rows], data.normalisation), rows)


def batch_for(method, data, state):
    """A batch of the method's last phase, with what is gathered for it."""
    batch = batch_of(data, range(20))
    phase = [phase for phase in method.phases if phase.step is not None][-1]
    if phase.batches.extra is None:
        return batch
    extra = phase.batches.extra(state, batch.rows)
    return batch._replace(extra=normalise(data.images[extra.rows], data.normalisation))


def test_the_refusal_of_features_names_the_methods_that_take_them():
    with pytest.raises(InputError) as refused:
        _ = DataSpec(N, (8,), K).image_shape
    named = set(re.findall(r"[a-z_]+", str(refused.value).split(";")[1]))
    taking = {name for name, entry in METHODS.items() if entry.takes(8)}
    assert taking - ONE_GO - {"minibatch_kmeans"} <= named
    assert not named & (METHODS.keys() - taking)


def test_state_is_arrays(case):
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(case.state))


def test_trained_parameters_are_arrays_by_name(case):
    kept = (case.method, case.state, case.data.normalisation, np.dtype(np.uint8), (N, 8, 8, 1))
    named = Fitted(*kept, seconds={}, images_per_second=0.0).parameters()
    assert all(isinstance(value, np.ndarray) for value in named.values())
    trained = jax.tree.leaves((case.state.params, case.state.model_state))
    assert sorted(value.shape for value in named.values()) == sorted(x.shape for x in trained)


def test_step_keeps_the_state_s_shape(stepping):
    method, data, state, *_ = stepping
    batch = batch_for(method, data, state)
    after, info = jax.eval_shape(method.step, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    shapes = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), state, after)
    assert all(jax.tree.leaves(shapes))
    assert info.loss.shape == ()
    assert all(value.shape == () for value in info.watch.values())
    # Of the whole step the compiler keeps what the counter depends on.
    counter = jax.jit(lambda state, batch: method.step(state, batch)[0].step)
    assert int(counter(state, batch)) == int(state.step) + 1


def test_step_is_pure(stepping):
    """Traced anew it is the same program: nothing outside its arguments enters it."""
    method, data, state, *_ = stepping
    batch = batch_for(method, data, state)
    first, second = (
        jax.make_jaxpr(lambda state, batch: method.step(state, batch))(state, batch)
        for _ in range(2)
    )
    assert ADDRESS.sub("", str(first)) == ADDRESS.sub("", str(second))
    for one, other in zip(first.consts, second.consts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_predictions(case):
    _, data, state, _, predict = case
    images = batch_of(data, range(N)).images
    prediction = predict(state, images)
    assert prediction.assignments.shape == (N,)
    assert prediction.assignments.dtype == jnp.int32
    assert set(np.asarray(prediction.assignments)) <= set(range(K))
    assert prediction.probabilities.shape == (N, K)
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert prediction.features.shape[0] == N
    assert any(
        np.array_equal(reading, prediction.assignments) for reading in prediction.readings.values()
    )


def test_predictions_do_not_depend_on_the_batch(case):
    _, data, state, _, predict = case
    images = batch_of(data, range(N)).images
    whole = predict(state, images)
    part = predict(state, images[10:30])
    np.testing.assert_array_equal(part.assignments, whole.assignments[10:30])
    np.testing.assert_allclose(part.features, whole.features[10:30], atol=1e-4)
    order = np.random.default_rng(0).permutation(N)
    np.testing.assert_array_equal(
        predict(state, images[order]).assignments, whole.assignments[order]
    )


def test_resuming_template_has_the_states_shapes(case):
    method, data, state, *_ = case
    template = starting.template(method, data, len(method.phases) - 1)
    assert jax.tree.structure(template) == jax.tree.structure(state)
    for expected, leaf in zip(jax.tree.leaves(template), jax.tree.leaves(state), strict=True):
        assert (expected.shape, expected.dtype) == (leaf.shape, leaf.dtype)


def test_same_seed_same_run(case, request):
    method, data, state, _, predict = case
    assert_same(loop.fit(method, data, seed=0).state, state)
    if request.node.callspec.params["case"] in DRAWS_NOTHING:
        return
    images = batch_of(data, range(N)).images
    own = predict(state, images)
    # Two seeds of a method that is sure may number the clusters alike, by chance or by order.
    others = (predict(loop.fit(method, data, seed=s).state, images) for s in (1, 2, 3))
    assert any(
        not np.array_equal(other.probabilities, own.probabilities)
        or not np.array_equal(other.features, own.features)
        for other in others
    )


def test_step_is_traced_once(stepping):
    phases = [phase for phase in stepping.method.phases if phase.step]
    # A phase that can be over may be so before its first step.
    sure = {phase.name for phase in phases if phase.until is None}
    assert sure <= set(stepping.traced) <= {phase.name for phase in phases}
    assert set(stepping.traced.values()) == {1}
