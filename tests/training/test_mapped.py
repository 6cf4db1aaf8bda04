"""Seeds run as one program end where each ends alone."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxclust.core.types import Compute
from jaxclust.data import catalogue
from jaxclust.images.augment import Affine
from jaxclust.images.normalisation import measure
from jaxclust.methods.registry import METHODS
from jaxclust.training import loop, placement
from jaxclust.training.hooks import Calls
from jaxclust.training.mapped import can_share, convolves, of_seed, prediction_of_seed, together
from jaxclust.training.prediction import predictor
from tests.methods import small
from tests.trees import assert_same

# Of seed 3 two restarts of k-means tie, and rounding picks the one or the other.
SEEDS = (5, 6)
N, K = 60, 3


def build(name, pictures=None, **changes):
    registered = METHODS[name]
    config = registered.config("best")
    wanted = {"starts": 1, "epochs": 2, "pretrain_epochs": 1, "batch_size": 20, "k_m": 16}
    wanted |= {"n_m": 16, "widths": (16,), "heads": 2, "hidden_width": 8, "bottleneck": 4}
    wanted |= {"draw_size": 30, "inner_passes": 2, "augments": 2, **changes}
    wanted |= {"cluster_augmented": False, "pretrain_augmented": False}
    if isinstance(getattr(config, "views", None), Affine):
        # Of the nearest pixel a rounding error can make another one.
        wanted["views"] = dataclasses.replace(config.views, resampling="bilinear")
    known = {field.name for field in dataclasses.fields(config)}
    config = dataclasses.replace(config, **{k: v for k, v in wanted.items() if k in known})
    if pictures is None:
        pictures, _ = small.images(N)
    if name == "temi":  # it looks up other images in each step
        pictures = pictures.reshape(N, -1).astype(np.float32)
    data = placement.put(pictures, measure(pictures))
    return registered.build(config, placement.spec_of(data, K), Compute()), data


@pytest.mark.parametrize("name", ["ccnn", "minibatch_kmeans", "imsat", "temi"])
def test_each_seed_ends_as_it_does_alone(name):
    method, data = build(name)
    assert can_share(method)
    many = together(method, SEEDS)
    fitted = loop.fit(many, data, seed=SEEDS)
    predicted = predictor(many, data)(fitted.state)
    assert predicted.assignments.shape == (N, len(SEEDS))
    for i, seed in enumerate(SEEDS):
        alone = loop.fit(method, data, seed=seed).state
        state = of_seed(fitted.state, i)
        assert jax.tree.structure(state) == jax.tree.structure(alone)
        assert_same(state.key, alone.key)
        expected = predictor(method, data)(alone)
        found = prediction_of_seed(predicted, i)
        np.testing.assert_allclose(found.features, expected.features, atol=2e-2, rtol=2e-2)
        assert np.mean(found.assignments != expected.assignments) <= 0.05
    one, other = (prediction_of_seed(predicted, i) for i in range(2))
    assert not np.array_equal(one.probabilities, other.probabilities)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ccnn", True), ("dac", True), ("dec", False), ("idec", False), ("minibatch_kmeans", False)],
)
def test_which_methods_convolve(name, expected):
    method, data = build(name)
    assert convolves(method, data) == expected


def test_the_first_step_is_that_of_each_alone():
    method, data = build("dac")
    many = together(method, SEEDS)
    seen = {}

    def keep(name):
        return lambda progress: seen.setdefault(name, progress.steps[0])

    loop.fit(many, data, seed=SEEDS, hooks=Calls(on_chunk=keep("many")))
    for i, seed in enumerate(SEEDS):
        loop.fit(method, data, seed=seed, hooks=Calls(on_chunk=keep(seed)))
        for name, value in seen[seed].items():
            told = seen["many"][name]
            told = told[i] if isinstance(told, list) else told
            assert told == pytest.approx(value, rel=2e-4, abs=1e-5), name


def test_a_seed_that_has_finished_waits_for_the_others():
    """DEC stops when few assignments change: each seed at its own time."""
    digits = catalogue.load("digits", Path())
    # Three kinds that k-means tells apart: where restarts tie, rounding picks the one or the other.
    pictures = digits.images[np.isin(digits.labels, (3, 8, 9))][:150]
    method, data = build("dec", pictures, epochs=12, tolerance=0.02)
    seeds = (3, 1)
    alone = [loop.fit(method, data, seed=seed).state for seed in seeds]
    early, late = (int(state.step) for state in alone)
    assert early < late, "no seed finishes before another"
    fitted = loop.fit(together(method, seeds), data, seed=seeds)
    assert int(fitted.state.step) == late
    for i, state in enumerate(alone):
        pairs = zip(
            jax.tree.leaves(of_seed(fitted.state, i).params),
            jax.tree.leaves(state.params),
            strict=True,
        )
        apart = np.concatenate([np.abs(np.asarray(a) - b).ravel() for a, b in pairs])
        # Rounding leaves 2e-5, an epoch more 6e-4.
        assert apart.mean() < 2e-4


def test_what_runs_on_the_host_is_not_shared():
    assert not can_share(build("derc", reducer="pca")[0])
    assert not can_share(build("spectral")[0])
