import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxclust.losses import reconstruction_error, sum_of_squared_errors
from jaxclust.losses.dec import student_t_assignment


def outputs(seed=0, shape=(6, 4)):
    return jax.random.normal(jax.random.key(seed), shape)


def sse_by_loop(y, labels):
    total = 0.0
    for row, label in zip(y, labels, strict=True):
        for j, value in enumerate(row):
            total += 0.5 * (value - (1.0 if j == label else 0.0)) ** 2
    return total / len(y)


def test_sse_against_a_loop():
    y, labels = np.asarray(outputs(), np.float64), np.array([0, 3, 2, 1, 1, 0])
    np.testing.assert_allclose(sum_of_squared_errors(y, labels), sse_by_loop(y, labels), rtol=1e-6)


def test_sse_gradient_against_finite_differences():
    labels = jnp.array([0, 3, 2, 1, 1, 0])
    with jax.enable_x64(True):
        y = np.asarray(outputs(), np.float64)
        gradient = jax.grad(sum_of_squared_errors)(jnp.asarray(y), labels)
    for index in np.ndindex(y.shape):
        step = np.zeros_like(y)
        step[index] = 1e-6
        slope = (sse_by_loop(y + step, labels) - sse_by_loop(y - step, labels)) / 2e-6
        np.testing.assert_allclose(gradient[index], slope, atol=1e-8)


def test_sse_gradient_is_equation_3():
    labels = jnp.array([0, 3, 2, 1, 1, 0])
    expected = (outputs() - jax.nn.one_hot(labels, 4)) / 6
    np.testing.assert_allclose(
        jax.grad(sum_of_squared_errors)(outputs(), labels), expected, rtol=1e-5
    )


def test_sse_weights_leave_samples_out():
    labels = jnp.array([0, 3, 2, 1, 1, 0])
    weights = jnp.array([1.0, 1, 0, 0, 1, 0])
    kept = jnp.array([0, 1, 4])
    np.testing.assert_allclose(
        sum_of_squared_errors(outputs(), labels, weights),
        sum_of_squared_errors(outputs()[kept], labels[kept]),
        rtol=1e-6,
    )
    assert float(sum_of_squared_errors(outputs(), labels, jnp.zeros(6))) == 0


def test_sse_ignores_order():
    labels, order = jnp.array([0, 3, 2, 1, 1, 0]), jnp.array([3, 1, 5, 0, 2, 4])
    np.testing.assert_allclose(
        sum_of_squared_errors(outputs()[order], labels[order]),
        sum_of_squared_errors(outputs(), labels),
        rtol=1e-6,
    )


def test_reconstruction_is_summed_over_pixels_and_averaged_over_images():
    images = np.asarray(outputs(1, (3, 2, 2, 1)))
    decoded = np.asarray(outputs(2, (3, 2, 2, 1)))
    expected = np.mean([np.sum((a - b) ** 2) for a, b in zip(decoded, images, strict=True)])
    np.testing.assert_allclose(reconstruction_error(decoded, images), expected, rtol=1e-6)
    np.testing.assert_allclose(
        reconstruction_error(decoded, images, per_pixel=True), expected / 4, rtol=1e-6
    )


def test_student_t_against_a_loop():
    distances = np.square(np.asarray(outputs(3, (5, 3)), np.float64))
    kernel = 1 / (1 + distances)
    expected = kernel / kernel.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(student_t_assignment(distances), expected, rtol=1e-5)


finite = hnp.arrays(np.float32, (3, 4), elements=st.floats(-1e6, 1e6, width=32))


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: sum_of_squared_errors(x, jnp.array([0, 1, 2])),
        lambda x: reconstruction_error(x, jnp.zeros_like(x)),
        lambda x: jnp.sum(student_t_assignment(jnp.square(x))),
    ],
    ids=["sse", "reconstruction", "student_t"],
)
@settings(max_examples=25, deadline=None)
@given(x=finite)
def test_losses_and_gradients_are_finite(loss, x):
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(x))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
