"""VaDE's bound beside numerical integrals, its loss written out, its first mixture."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.special import softmax

from jaxclust import losses, metrics
from jaxclust.core.types import Batch, DataSpec, first_state
from jaxclust.methods import vade
from jaxclust.methods.parts import likelihood, value_range
from jaxclust.training import loop
from jaxclust.training.prediction import predictor
from tests.methods import small

WEIGHTS, MEANS, SPREADS = np.array([0.3, 0.7]), np.array([-1.0, 1.5]), np.array([0.6, 1.2])
PRIOR = jax.tree.map(
    jnp.float32,
    {
        "logits": np.log(WEIGHTS),
        "means": MEANS[:, None],
        "log_variances": 2 * np.log(SPREADS)[:, None],
    },
)


def densities(z):
    """Of both components, weighted."""
    return WEIGHTS * stats.norm.pdf(z, MEANS, SPREADS)


def integral(function):
    return quad(function, -12, 12, limit=400, points=[-1, 0, 1.5])[0]


def test_the_mixture_s_density_integrates_to_one():
    def density(z):
        return float(jnp.exp(losses.mixture_log_density(jnp.full((1, 1), z), **PRIOR)).sum())

    assert integral(density) == pytest.approx(1, abs=1e-4)
    found = jnp.exp(losses.mixture_log_density(jnp.array([[0.4], [-2.0]]), **PRIOR))
    np.testing.assert_allclose(found, [densities(0.4), densities(-2.0)], rtol=1e-5)


@pytest.mark.parametrize(("mean", "spread", "z"), [(0.2, 0.5, 0.4), (-1.4, 1.1, -2.0), (3, 0.2, 3)])
def test_the_divergence_is_an_integral(mean, spread, z):
    """Of log q(z, c | x) - log p(z, c) over q, its assignment that of the sample (Eqs. 8, 12)."""
    gamma = densities(z) / densities(z).sum()

    def integrand(z):
        q = stats.norm.pdf(z, mean, spread)
        inner = np.log(gamma) - np.log(WEIGHTS) - stats.norm.logpdf(z, MEANS, SPREADS)
        return q * (stats.norm.logpdf(z, mean, spread) + (gamma * inner).sum())

    found = losses.mixture_divergence(
        jnp.full((1, 1), mean, jnp.float32),
        jnp.full((1, 1), 2 * np.log(spread), jnp.float32),
        jnp.full((1, 1), z, jnp.float32),
        **PRIOR,
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
    prior = float(jnp.mean(losses.mixture_divergence(*same, column, **PRIOR)))
    # What the loss leaves out is a constant.
    bound = -error - prior - 0.5 * np.log(2 * np.pi * variance)
    assert evidence - 1 < bound < evidence + 0.01


# At its usual learning rate the first steps may join two clusters of so few images.
SMALL = vade.Config(pretrain_epochs=40, epochs=5, batch_size=30, latent_width=3, learning_rate=3e-4)
SPEC = DataSpec(120, (8, 8, 1), 3)


@pytest.fixture(scope="module")
def begun():
    method = vade.build(SMALL, SPEC)
    return method, loop.fit(method, small.data(), seed=0)


def by_hand(layers, names, x):
    """Dense layers in double precision, with ReLU between them."""
    for i, name in enumerate(names):
        x = x @ layers[name]["kernel"] + layers[name]["bias"]
        x = np.maximum(x, 0) if i + 1 < len(names) else x
    return x


@pytest.mark.parametrize("decoder", ["bernoulli", "gaussian"])
def test_the_loss_is_a_second_reading_s(begun, decoder):
    """In double precision, with posteriors so narrow that a sample is its mean."""
    _, fitted = begun
    method = vade.build(dataclasses.replace(SMALL, decoder=decoder), SPEC)
    network = dict(fitted.state.params["network"])
    network["to_log_variance"] = jax.tree.map(jnp.zeros_like, network["to_log_variance"])
    network["to_log_variance"]["bias"] -= 20
    state = fitted.state.replace(params={**fitted.state.params, "network": network})
    batch = small.batch(20)
    _, info = jax.jit(method.step)(state, batch)
    total = float(info.watch["reconstruction"]) + float(info.watch["prior"])
    assert float(info.loss) == pytest.approx(total, rel=1e-6)
    found = jax.jit(method.predict)(state, batch.images)

    layers, prior = jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float64), (network, state.params["prior"])
    )
    x = np.asarray(batch.images, np.float64).reshape(20, -1)
    mean = by_hand(layers, ["down_0", "down_1", "down_2", "to_latent"], x)
    variances, shares = np.exp(prior["log_variances"]), softmax(prior["logits"])
    densities = stats.norm.pdf(mean[:, None], prior["means"], np.sqrt(variances)).prod(axis=2)
    gamma = shares * densities / (shares * densities).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.features, mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.probabilities, gamma, atol=2e-3)

    decoded = by_hand(layers, ["up_0", "up_1", "up_2", "to_pixels"], mean)
    if decoder == "bernoulli":
        stored = small.images()[0].astype(np.float64)
        low, high = ((end - stored.mean()) / stored.std() for end in (stored.min(), stored.max()))
        p, white = 1 / (1 + np.exp(-decoded)), (x - low) / (high - low)
        # Some values lie outside the stored images' range; they count as its ends.
        assert white.min() < 0
        white = np.clip(white, 0, 1)
        error = -(white * np.log(p) + (1 - white) * np.log(1 - p)).sum(axis=1)
    else:
        error = 5 * np.square(decoded - x).sum(axis=1)
    narrow = np.exp(-20)
    energy = np.log(variances) + (np.square(mean[:, None] - prior["means"]) + narrow) / variances
    apart = (gamma * (energy.sum(axis=2) / 2 + np.log(gamma / shares))).sum(axis=1)
    apart -= 0.5 * mean.shape[1] * (1 - 20)
    np.testing.assert_allclose(info.watch["reconstruction"], error.mean(), rtol=1e-3)
    np.testing.assert_allclose(info.watch["prior"], apart.mean(), rtol=1e-3)
    np.testing.assert_allclose(info.loss, (error + apart).mean(), rtol=1e-3)


def test_pictures_are_decoded_within_their_range_and_features_are_not():
    ranges = value_range.Range(jnp.array([-1.0, 0.0]), jnp.array([2.0, 5.0]))
    decoded = jnp.array([[[[-40.0, 40.0]]], [[[0.0, 0.0]]]])
    of_images = likelihood.Likelihood.of("auto", 0.1, DataSpec(9, (1, 1, 2), 3))
    np.testing.assert_allclose(
        of_images.mean(decoded, ranges).reshape(2, 2), [[-1, 5], [0, 2.5]], atol=1e-6
    )
    of_features = likelihood.Likelihood.of("auto", 0.1, DataSpec(9, (2,), 3))
    np.testing.assert_array_equal(of_features.mean(decoded, ranges), decoded)
    asked = likelihood.Likelihood.of("gaussian", 0.1, DataSpec(9, (1, 1, 2), 3))
    np.testing.assert_array_equal(asked.mean(decoded, ranges), decoded)


def test_the_range_is_that_of_each_channel():
    images = jnp.array([[1.0, 7.0, 2.0, 9.0], [0.0, 8.0, 3.0, 7.5]])  # two pixels of two channels
    state = first_state(jax.random.key(0), (), 2, model_state=value_range.unknown(2))
    found = value_range.LOOK.update(state, images).model_state
    np.testing.assert_array_equal(found.low, [0, 7])
    np.testing.assert_array_equal(found.size, [3, 2])


def test_a_few_thousand_images_tell_the_range_and_features_need_none():
    first = likelihood.Likelihood(bernoulli=True, variance=0.1).first()
    assert first is not None
    assert first.rows == 4096
    assert likelihood.Likelihood(bernoulli=False, variance=0.1).first() is None


def test_the_range_is_taken_without_pre_training_too():
    method = vade.build(dataclasses.replace(SMALL, pretrain_epochs=0, epochs=0), SPEC)
    found = loop.fit(method, small.data(), seed=0).state.model_state
    pictures = small.images()[0].astype(np.float64)
    np.testing.assert_allclose(found.size, np.ptp(pictures) / pictures.std(), rtol=1e-5)


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
