"""DEC's, ICS's and DERC's losses against loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxclust import losses


def assignments(seed=0, n=7, k=4):
    return np.asarray(jax.nn.softmax(2 * jax.random.normal(jax.random.key(seed), (n, k))))


def latents(seed, n=6, d=3):
    return np.asarray(jax.random.normal(jax.random.key(seed), (n, d)))


def check_gradient(loss, x, rtol=1e-4):
    """Autodiff against central differences, in float64."""
    with jax.enable_x64(True):
        x = np.asarray(x, np.float64)
        gradient = np.asarray(jax.grad(loss)(jnp.asarray(x)))
        for index in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[index] = 1e-6
            slope = (loss(jnp.asarray(x + step)) - loss(jnp.asarray(x - step))) / 2e-6
            np.testing.assert_allclose(gradient[index], slope, rtol=rtol, atol=1e-7)


def targets_by_loop(q):
    p = np.zeros_like(q, dtype=np.float64)
    for i in range(q.shape[0]):
        for j in range(q.shape[1]):
            p[i, j] = q[i, j] ** 2 / sum(q[:, j])
        p[i] /= sum(p[i])
    return p


@pytest.mark.parametrize(("power", "balance"), [(2.0, 1.0), (1.0, 0.5), (3.0, 1.0), (1.0, 0.0)])
def test_targets_of_other_powers_against_a_loop(power, balance):
    q = np.random.default_rng(1).dirichlet(np.ones(4), 7)
    with jax.enable_x64(True):
        p = losses.target_distribution(jnp.asarray(q), power, balance)
    for i in range(7):
        row = [q[i, j] ** power / sum(q[:, j]) ** balance for j in range(4)]
        np.testing.assert_allclose(p[i], np.array(row) / sum(row), rtol=1e-10)


def test_target_distribution_against_a_loop():
    q = assignments()
    p = losses.target_distribution(jnp.asarray(q))
    np.testing.assert_allclose(p, targets_by_loop(q), rtol=1e-5)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    # A cluster nobody has any share of takes none.
    q = jnp.array([[0.25, 0.75, 0.0], [0.5, 0.5, 0.0]])
    np.testing.assert_array_equal(losses.target_distribution(q)[:, 2], 0)


def test_kl_against_a_loop_and_zero_at_equality():
    p, q = assignments(1), assignments(2)
    expected = np.mean([sum(a * np.log(a / b)) for a, b in zip(p, q, strict=True)])
    found = losses.kl_divergence(jnp.asarray(p), jnp.asarray(q))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert float(losses.kl_divergence(jnp.asarray(q), jnp.asarray(q))) == pytest.approx(0, abs=1e-6)
    check_gradient(lambda q: losses.kl_divergence(jnp.asarray(p, q.dtype), q), q)
    # Targets are fixed.
    gradient = jax.grad(lambda p: losses.kl_divergence(p, jnp.asarray(q)))(jnp.asarray(p))
    np.testing.assert_array_equal(gradient, 0)


def entropy_by_loop(q):
    def h(row):
        return -sum(value * np.log(value) for value in row if value > 0)

    return np.mean([h(row) for row in q]) - h(q.mean(axis=0))


def test_assignment_entropy_against_a_loop():
    q = assignments(3)
    found = losses.assignment_entropy(jnp.asarray(q))
    np.testing.assert_allclose(found, entropy_by_loop(q), rtol=1e-4)
    check_gradient(losses.assignment_entropy, q)


def test_assignment_entropy_is_least_exactly_where_sure_and_even():
    sure_and_even = jnp.tile(jnp.eye(4), (3, 1))
    least = float(losses.assignment_entropy(sure_and_even))
    assert least == pytest.approx(-np.log(4), abs=1e-5)
    sure_and_uneven = jnp.eye(4)[jnp.array([0, 0, 0, 1, 2, 3])]
    unsure_and_even = jnp.full((12, 4), 0.25)
    for q in (sure_and_uneven, unsure_and_even, 0.9 * sure_and_even + 0.025):
        assert float(losses.assignment_entropy(q)) > least + 0.01


def test_triplet_separation_against_a_loop_and_zero_when_separated():
    a, p, n = (latents(seed) for seed in (1, 2, 3))
    terms = [
        max(0, np.square(x - y).sum() - np.square(x - z).sum() + 0.3)
        for x, y, z in zip(a, p, n, strict=True)
    ]
    assert 0 < sum(value > 0 for value in terms) < len(terms)
    found = losses.triplet_separation(*map(jnp.asarray, (a, p, n)), margin=0.3)
    np.testing.assert_allclose(found, np.mean(terms), rtol=1e-5)
    assert float(losses.triplet_separation(a, a + 0.01, a + 5, 0.3)) == 0
    check_gradient(lambda z: losses.triplet_separation(z, jnp.asarray(p), jnp.asarray(n), 0.3), a)


@pytest.mark.parametrize("margin", [None, 1.0])
def test_weighted_triplet_against_a_loop(margin):
    z, same, other = (latents(seed) for seed in (4, 5, 6))
    difference = np.linspace(0, 1, 6)
    mask = np.array([1, 1, 0, 1, 1, 0], bool)
    terms = []
    for i in np.flatnonzero(mask):
        near = (1 - difference[i]) * np.square(z[i] - same[i]).sum()
        value = near - np.square(z[i] - other[i]).sum()
        terms.append(value if margin is None else max(0, value + margin))

    def loss(z):
        return losses.weighted_triplet(z, same, other, difference, mask, margin)

    np.testing.assert_allclose(loss(jnp.asarray(z)), np.mean(terms), rtol=1e-5)
    check_gradient(loss, z)
    assert float(losses.weighted_triplet(z, same, other, difference, 0 * mask, margin)) == 0


FINITE = {"allow_nan": False, "allow_infinity": False, "width": 32}
VALUES = st.floats(-1e6, 1e6, **FINITE)


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.float32, (3, 5, 2), elements=VALUES))
def test_triplets_are_finite(z):
    a, b, c = map(jnp.asarray, z)
    one = jnp.ones(5)
    for loss in (
        lambda a: losses.triplet_separation(a, b, c, 0.3),
        lambda a: losses.weighted_triplet(a, b, c, 0.5 * one, one, None),
        lambda a: losses.weighted_triplet(a, a, a, one, one, 1.0),
    ):
        assert np.isfinite(loss(a))
        assert np.isfinite(jax.grad(loss)(a)).all()


ONE_HOT = np.eye(4, dtype=np.float32)[[0, 0, 1, 1, 0]]


@pytest.mark.parametrize(
    "q",
    [ONE_HOT, np.full((5, 4), 0.25, np.float32), np.array([[1, 1e-38, 0, 0]] * 5, np.float32)],
    ids=["one-hot, two empty", "even", "denormal"],
)
def test_losses_of_assignments_are_finite_at_their_edges(q):
    q = jnp.asarray(q)
    p = losses.target_distribution(q)
    assert np.isfinite(p).all()
    for loss in (losses.assignment_entropy, lambda q: losses.kl_divergence(p, q)):
        assert np.isfinite(loss(q))
        assert np.isfinite(jax.grad(loss)(q)).all()


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.float32, (6, 2), elements=VALUES), st.booleans())
def test_the_whole_clustering_loss_is_finite(z, same):
    """Through distances of any size, and where samples and centroids coincide."""

    def loss(z):
        centroids = z[:2] if same else jnp.array([[0.0, 0.0], [1.0, -1.0]])
        distances = jnp.sum(jnp.square(z[:, None] - centroids[None]), axis=2)
        q = losses.student_t_assignment(distances)
        p = losses.target_distribution(q)
        return losses.kl_divergence(p, q) + losses.assignment_entropy(q)

    assert np.isfinite(loss(jnp.asarray(z)))
    assert np.isfinite(jax.grad(loss)(jnp.asarray(z))).all()


def test_losses_work_under_jit_and_vmap():
    q = jnp.stack([jnp.asarray(assignments(seed)) for seed in range(3)])
    together = jax.jit(jax.vmap(losses.assignment_entropy))(q)
    apart = [losses.assignment_entropy(one) for one in q]
    np.testing.assert_allclose(together, apart, rtol=1e-6)
