"""VaDE's bound beside numerical integrals, its loss written out, its first mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from jaxclust import metrics
from jaxclust.core.types import Batch, DataSpec
from jaxclust.methods import vade
from jaxclust.training import loop
from jaxclust.training.prediction import predictor
from tests.methods import small

WEIGHTS, MEANS, SPREADS = np.array([0.3, 0.7]), np.array([-1.0, 1.5]), np.array([0.6, 1.2])
PRIOR = jax.tree.map(
    jnp.float32,
    {
        "weights": np.log(WEIGHTS),
        "means": MEANS[:, None],
        "log_variance": 2 * np.log(SPREADS)[:, None],
    },
)


def densities(z):
    """Of both components, weighted."""
    return WEIGHTS * stats.norm.pdf(z, MEANS, SPREADS)


def integral(function):
    return quad(function, -12, 12, limit=400, points=[-1, 0, 1.5])[0]


def test_the_mixture_s_density_integrates_to_one():
    def density(z):
        return float(jnp.exp(vade.joint(jnp.full((1, 1), z, jnp.float32), PRIOR)).sum())

    assert integral(density) == pytest.approx(1, abs=1e-4)
    found = jnp.exp(vade.joint(jnp.array([[0.4], [-2.0]]), PRIOR))
    np.testing.assert_allclose(found, [densities(0.4), densities(-2.0)], rtol=1e-5)


@pytest.mark.parametrize(("mean", "spread", "z"), [(0.2, 0.5, 0.4), (-1.4, 1.1, -2.0), (3, 0.2, 3)])
def test_the_divergence_is_an_integral(mean, spread, z):
    """Of log q(z, c | x) - log p(z, c) over q, its assignment that of the sample (Eqs. 8, 12)."""
    gamma = densities(z) / densities(z).sum()

    def integrand(z):
        q = stats.norm.pdf(z, mean, spread)
        inner = np.log(gamma) - np.log(WEIGHTS) - stats.norm.logpdf(z, MEANS, SPREADS)
        return q * (stats.norm.logpdf(z, mean, spread) + (gamma * inner).sum())

    found = vade.divergence(
        jnp.full((1, 1), mean, jnp.float32),
        jnp.full((1, 1), 2 * np.log(spread), jnp.float32),
        jnp.full((1, 1), z, jnp.float32),
        PRIOR,
    )
    assert float(found[0]) == pytest.approx(integral(integrand), rel=1e-4)

    def against_the_mixture(z):
        q = stats.norm.pdf(z, mean, spread)
        return q * (stats.norm.logpdf(z, mean, spread) - np.log(densities(z).sum()))

    # It bounds the divergence of the latent alone.
    assert float(found[0]) >= integral(against_the_mixture) - 1e-5


def test_the_bound_lies_under_the_evidence():
    """A linear decoder of one value, whose evidence an integral gives."""
    x, slope, variance = 0.8, 0.9, 0.1
    evidence = np.log(
        integral(lambda z: densities(z).sum() * stats.norm.pdf(x, slope * z, variance**0.5))
    )
    mean, spread = 0.7, 0.35
    z = np.random.default_rng(0).normal(mean, spread, 40_000)
    error = np.square(x - slope * z).mean() / (2 * variance)
    column = jnp.asarray(z[:, None], jnp.float32)
    same = jnp.full_like(column, mean), jnp.full_like(column, 2 * np.log(spread))
    prior = float(jnp.mean(vade.divergence(*same, column, PRIOR)))
    # What the loss leaves out is a constant.
    bound = -error - prior - 0.5 * np.log(2 * np.pi * variance)
    assert evidence - 1 < bound < evidence + 0.01


@pytest.fixture(scope="module")
def begun():
    # At its usual learning rate the first steps may join two clusters of so few images.
    config = vade.Config(
        pretrain_epochs=40, epochs=5, batch_size=30, latent_width=3, learning_rate=3e-4
    )
    method = vade.build(config, DataSpec(120, (8, 8, 1), 3))
    return method, loop.fit(method, small.data(), seed=0)


def test_the_loss_is_a_second_reading_s(begun):
    """In double precision; the sample is found from what the step reports of it."""
    method, fitted = begun
    batch = small.batch(20)
    _, info = jax.jit(method.step)(fitted.state, batch)
    total = float(info.watch["reconstruction"]) + float(info.watch["prior"])
    assert float(info.loss) == pytest.approx(total, rel=1e-6)
    # The same step without noise: the sample is the mean, and all is known.
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), fitted.state.params)
    network, prior = weights["network"], weights["prior"]
    x = np.asarray(batch.images, np.float64).reshape(20, -1)
    for i in range(3):
        layer = network[f"down_{i}"]
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
    mean = x @ network["to_latent"]["kernel"] + network["to_latent"]["bias"]
    squares = np.square(mean[:, None] - prior["means"]) / np.exp(prior["log_variance"])
    log_p = -0.5 * (squares + prior["log_variance"] + np.log(2 * np.pi)).sum(axis=2)
    log_p += prior["weights"] - np.log(np.exp(prior["weights"]).sum())
    gamma = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    gamma /= gamma.sum(axis=1, keepdims=True)
    found = jax.jit(method.predict)(fitted.state, batch.images)
    np.testing.assert_allclose(found.features, mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.probabilities, gamma, atol=2e-3)


def test_a_step_is_keyed_and_its_noise_moves_the_loss(begun):
    method, fitted = begun
    step, batch = jax.jit(method.step), small.batch(20)
    losses = [float(step(fitted.state, batch)[1].loss) for _ in range(2)]
    assert losses[0] == losses[1]
    later = fitted.state.replace(step=fitted.state.step + 1)
    assert float(step(later, batch)[1].loss) != losses[0]
    assert isinstance(batch, Batch)


def test_kinds_of_picture_are_told_apart(begun):
    method, fitted = begun
    found = predictor(method, small.data())(fitted.state).assignments
    assert metrics.accuracy(small.images()[1], np.asarray(found)) > 0.95
