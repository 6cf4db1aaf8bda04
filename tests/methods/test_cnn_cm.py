"""CNN-CM: its network, its windows, the whole."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust import metrics
from jaxclust.core.errors import InputError
from jaxclust.core.types import DataSpec
from jaxclust.methods import cnn_cm
from jaxclust.training import loop
from jaxclust.training.prediction import predictor
from tests.methods import small

CONFIG = cnn_cm.Config(windows=300, filters=6, groups=3, group_filters=2, connected=2)
SPEC = DataSpec(120, (8, 8, 1), 3)


@pytest.fixture(scope="module")
def fitted():
    method = cnn_cm.build(CONFIG, SPEC)
    return method, loop.fit(method, small.data(), seed=0)


def test_kinds_of_picture_are_told_apart(fitted):
    method, run = fitted
    found = predictor(method, small.data())(run.state).assignments
    assert metrics.accuracy(small.images()[1], np.asarray(found)) > 0.95


def test_a_group_s_filters_see_its_maps_alone(fitted):
    """Of six maps below every group sees two, the same for all its filters."""
    kernel = np.asarray(fitted[1].state.params["second"]["kernel"])
    assert kernel.shape == (3, 3, 6, 6)
    connected = (kernel != 0).all(axis=(0, 1))
    assert (connected == (kernel != 0).any(axis=(0, 1))).all()
    assert (connected.sum(axis=0) == 2).all()
    np.testing.assert_array_equal(connected[:, ::2], connected[:, 1::2])


def test_features_are_the_layers_written_out(fitted):
    method, run = fitted
    images = jnp.asarray(np.random.default_rng(1).normal(size=(4, 8, 8, 1)), jnp.float32)
    x = np.asarray(images, np.float64)
    for name in ("first", "second"):
        weights = {k: np.asarray(v, np.float64) for k, v in run.state.params[name].items()}
        padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        height, width = x.shape[1:3]
        answers = np.zeros((4, height, width, weights["bias"].size))
        for i in range(3):
            for j in range(3):
                seen = padded[:, i : i + height, j : j + width]
                answers += seen @ weights["kernel"][i, j]
        answers = np.maximum(answers + weights["bias"], 0)
        x = answers.reshape(4, height // 2, 2, width // 2, 2, -1).max(axis=(2, 4))
    found = jax.jit(method.predict)(run.state, images).features
    np.testing.assert_allclose(found, x.reshape(4, -1), rtol=1e-3, atol=1e-3)


def test_windows_are_of_the_images():
    """Every window lies in an image, and all images and places have some."""
    images = np.arange(5 * 8 * 8, dtype=np.float32).reshape(5, 8, 8, 1)
    built = cnn_cm.build(CONFIG, SPEC).init.__self__
    windows = np.asarray(built.windows(jax.random.key(0), jnp.asarray(images), lambda x: x))
    assert windows.shape == (300, 8, 8, 1)
    cut = cnn_cm._CNNCM(cnn_cm.Config(windows=300, window=6), SPEC)
    windows = np.asarray(cut.windows(jax.random.key(0), jnp.asarray(images), lambda x: x))
    corners = windows[:, 0, 0, 0].astype(int)
    rows, tops, lefts = corners // 64, corners // 8 % 8, corners % 8
    for window, row, top, left in zip(windows, rows, tops, lefts, strict=True):
        np.testing.assert_array_equal(window, images[row, top : top + 6, left : left + 6])
    assert len(set(zip(rows, tops, lefts, strict=True))) == 5 * 3 * 3


def test_small_images_have_small_filters():
    """Filters of images under 16 pixels are of 3 at most."""
    state = jax.eval_shape(
        cnn_cm.build(CONFIG, SPEC).init, jax.random.key(0), jnp.zeros((2, 8, 8, 1))
    )
    assert state.params["first"]["kernel"].shape[:2] == (3, 3)
    large = cnn_cm.build(CONFIG, SPEC._replace(shape=(28, 28, 3)))
    state = jax.eval_shape(large.init, jax.random.key(0), jnp.zeros((2, 28, 28, 3)))
    assert state.params["first"]["kernel"].shape == (5, 5, 3, 6)


def test_filters_that_do_not_fit_the_second_layer_are_refused():
    for shape, changes, side in (((16, 16, 1), {"side": 9}, 9), ((4, 9, 3), {}, 3)):
        config = dataclasses.replace(cnn_cm.Config(), **changes)
        with pytest.raises(InputError, match=f"filters of side {side} do not fit"):
            cnn_cm.build(config, DataSpec(40, shape, 3))
    cnn_cm.build(dataclasses.replace(CONFIG, side=8), DataSpec(40, (16, 16, 1), 3))


def test_large_images_are_fewer():
    """Images that windows are drawn from, while they take less than a gigabyte."""
    for shape, rows in (((28, 28, 1), 10_000), ((224, 224, 3), 1783)):
        first = cnn_cm.build(CONFIG, DataSpec(40_000, shape, 3)).phases[0].first
        assert first.rows == rows


def test_features_are_refused():
    with pytest.raises(InputError, match="needs images"):
        cnn_cm.build(CONFIG, DataSpec(40, (5,), 3))
