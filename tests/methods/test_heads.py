"""TEMI and TURTLE against second readings in NumPy, and on blobs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf, softmax

from jaxclust import losses, metrics
from jaxclust.clustering.neighbours import nearest
from jaxclust.core.errors import InputError
from jaxclust.core.types import Batch, DataSpec
from jaxclust.images.normalisation import measure
from jaxclust.methods import temi, turtle
from jaxclust.training import loop, placement
from jaxclust.training.prediction import predictor

RNG = np.random.default_rng(0)
N, D, K = 90, 12, 3
KINDS = np.repeat(np.arange(K), N // K)
BLOBS = (5 * np.eye(D)[KINDS] + RNG.normal(size=(N, D))).astype(np.float32)
SPEC = DataSpec(N, (D,), K)


def test_neighbours_are_those_of_a_sorted_table():
    x = RNG.normal(size=(700, 5)).astype(np.float32)
    found = nearest(jnp.asarray(x), 7).rows
    assert found.shape == (700, 7)
    assert found.dtype == jnp.int32
    unit = x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -np.inf)
    best = np.take_along_axis(alike, np.asarray(found), axis=1)
    np.testing.assert_allclose(best, -np.sort(-alike, axis=1)[:, :7], atol=1e-6)
    assert not (np.asarray(found) == np.arange(700)[:, None]).any()


def test_information_is_the_sum_written_out():
    q, p = (softmax(RNG.normal(size=(8, 4)), axis=1) for _ in range(2))
    shares, weights = softmax(RNG.normal(size=4)), RNG.random(8)
    expected = 0.0
    for i in range(8):
        inner = sum((q[i, c] * p[i, c]) ** 0.6 / shares[c] for c in range(4))
        expected -= weights[i] * np.log(inner) / 8
    given = (jnp.float32(a) for a in (q, p, shares, weights))
    np.testing.assert_allclose(losses.neighbour_information(*given), expected, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_information_has_finite_slopes_at_the_corners(value):
    q = jnp.full((2, 2), value)
    slope = jax.grad(
        lambda q: losses.neighbour_information(q, q, jnp.array([1.0, 0.0]), jnp.ones(2))
    )(q)
    assert np.isfinite(slope).all()


def head_by_hand(params, h, x):
    """A head's clusters in NumPy."""
    p = {name: np.asarray(leaf, np.float64)[h] for name, leaf in params.items()}
    hidden = x @ p["hidden"] + p["hidden_bias"]
    hidden = hidden * 0.5 * (1 + erf(hidden / np.sqrt(2)))
    middle = hidden @ p["middle"] + p["middle_bias"]
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    last = p["last"] / np.linalg.norm(p["last"], axis=0)
    return softmax(middle @ last * p["scale"] / 0.1, axis=1)


def test_temis_step_is_a_second_reading_s():
    """Loss, weights, running shares, the teacher's step and the best head."""
    config = dataclasses.replace(
        temi.Config(), heads=2, hidden_width=6, bottleneck=4, batch_size=10, warmup_epochs=0
    )
    method = temi.build(config, SPEC)
    state = method.init(jax.random.key(0), jnp.asarray(BLOBS[:2]))
    # A teacher of its own, as after some steps.
    teacher = jax.tree.map(lambda leaf: 1.3 * leaf + 0.01, state.params)
    state = state.replace(cluster=state.cluster._replace(teacher=teacher))
    x, other = BLOBS[:10], BLOBS[10:20]
    after, info = jax.jit(method.step)(state, Batch(x, jnp.arange(10), other))
    q, q_other, p, p_other = (
        np.stack([head_by_hand(params, h, part.astype(np.float64)) for h in range(2)])
        for params in (state.params, teacher)
        for part in (x, other)
    )
    weights = (p * p_other).sum(axis=2).mean(axis=0)
    shares = 0.9 / K + 0.1 * np.concatenate([p, p_other], axis=1).mean(axis=1)

    def side(q, p):
        inner = ((q * p) ** 0.6 / shares[:, None]).sum(axis=2)
        return -(weights * np.log(inner)).mean(axis=1)

    expected = (side(q, p_other) + side(q_other, p)) / 2
    np.testing.assert_allclose(info.loss, expected.mean(), rtol=1e-4)
    np.testing.assert_allclose(after.model_state.shares, shares, rtol=1e-4)
    np.testing.assert_allclose(after.model_state.losses, 0.05 * expected, rtol=1e-4)
    for name, leaf in after.cluster.teacher.items():
        np.testing.assert_allclose(
            leaf, 0.996 * teacher[name] + 0.004 * after.params[name], rtol=1e-6
        )
    # The last layer waits for the second epoch, but for the weights' decay.
    moved = np.abs(after.params["last"] - state.params["last"]).max()
    assert moved < 1e-7 < np.abs(after.params["middle"] - state.params["middle"]).max()
    np.testing.assert_array_equal(after.params["scale"], state.params["scale"])
    best = int(np.argmin(expected))
    found = method.predict(after, jnp.asarray(x)).probabilities
    by_hand = head_by_hand(after.cluster.teacher, best, x.astype(np.float64))
    np.testing.assert_allclose(found, by_hand, atol=1e-5)


def adam_by_hand(slope, x, steps, rate):
    m = v = 0.0
    for t in range(1, steps + 1):
        g = slope(x)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return x


def test_turtles_step_is_a_second_reading_s():
    config = dataclasses.replace(turtle.Config(), batch_size=30)
    spec = DataSpec(30, (D,), K)
    method = turtle.build(config, spec)
    state = method.init(jax.random.key(1), jnp.asarray(BLOBS[:2]))
    x = BLOBS[::3].astype(np.float64)
    key = turtle.keys.of(state, "classifier")
    first = turtle._uniform(key, D, K)

    def flat(parts):
        return np.concatenate([np.asarray(parts["weight"]).ravel(), np.asarray(parts["bias"])])

    def logits(z):
        return x @ z[: D * K].reshape(D, K) + z[D * K :]

    params = {name: np.asarray(leaf, np.float64) for name, leaf in state.params.items()}
    unit = params["direction"] / np.linalg.norm(params["direction"], axis=0)
    labels = softmax(x @ (unit * params["scale"]) + params["bias"], axis=1)

    def slope(z):
        error = (softmax(logits(z), axis=1) - labels) / len(x)
        return np.concatenate([(x.T @ error).ravel(), error.sum(axis=0)])

    learned = adam_by_hand(slope, flat(first).astype(np.float64), 10, 1e-3)
    found = logits(learned)
    error = -(labels * (found - np.log(np.exp(found).sum(axis=1, keepdims=True)))).sum(axis=1)
    mean = labels.mean(axis=0)
    entropy = -(mean * np.log(mean)).sum()
    after, info = jax.jit(method.step)(state, Batch(jnp.float32(x), jnp.arange(30)))
    np.testing.assert_allclose(info.watch["error"], error.mean(), rtol=1e-4)
    np.testing.assert_allclose(info.watch["label_entropy"], entropy, rtol=1e-5)
    np.testing.assert_allclose(info.loss, error.mean() - 10 * entropy, rtol=1e-5)

    # The slope by differences, the classifier held.
    def value(bias):
        named = softmax(x @ (unit * params["scale"]) + bias, axis=1)
        wrong = -(named * (found - np.log(np.exp(found).sum(axis=1, keepdims=True)))).sum(axis=1)
        share = named.mean(axis=0)
        return wrong.mean() + 10 * (share * np.log(share)).sum()

    by_difference = np.array(
        [(value(params["bias"] + e) - value(params["bias"] - e)) / 2e-6 for e in 1e-6 * np.eye(K)]
    )
    moved = np.asarray(after.params["bias"] - state.params["bias"])
    np.testing.assert_allclose(moved, -1e-3 * np.sign(by_difference), rtol=1e-3)

    # A class that no image is likely to be of has a share of exactly zero.
    never = {**state.params, "bias": state.params["bias"].at[0].set(-1e4)}
    after, _ = jax.jit(method.step)(
        state.replace(params=never), Batch(jnp.float32(x), jnp.arange(30))
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))


def test_turtle_of_several_spaces_is_a_second_reading_s():
    """Names are the mean of the spaces' layers, errors and entropies add up."""
    config = turtle.Config(batch_size=30, inner_steps=3, spaces=(2, D - 2))
    method = turtle.build(config, DataSpec(30, (D,), K))
    state = method.init(jax.random.key(1), jnp.asarray(BLOBS[:2]))
    xs = np.split(BLOBS[::3].astype(np.float64), [2], axis=1)
    names = []
    for i, x in enumerate(xs):
        layer = {name: np.asarray(leaf) for name, leaf in state.params[f"space{i}"].items()}
        unit = layer["direction"] / np.linalg.norm(layer["direction"], axis=0)
        names.append(softmax(x @ (unit * layer["scale"]) + layer["bias"], axis=1))
    labels = sum(names) / 2
    error = entropy = 0.0
    for i, x in enumerate(xs):
        key = turtle.keys.of(state, "classifier" if i == 0 else "classifier1")
        learned = turtle.classifier(config, key, jnp.float32(x), jnp.float32(labels))
        found = x @ np.asarray(learned["weight"]) + np.asarray(learned["bias"])
        logs = found - np.log(np.exp(found).sum(axis=1, keepdims=True))
        error -= (labels * logs).sum(axis=1).mean()
        mean = names[i].mean(axis=0)
        entropy -= (mean * np.log(mean)).sum()
    batch = Batch(jnp.asarray(BLOBS[::3]), jnp.arange(30))
    after, info = jax.jit(method.step)(state, batch)
    np.testing.assert_allclose(info.watch["error"], error, rtol=1e-4)
    np.testing.assert_allclose(info.watch["label_entropy"], entropy, rtol=1e-4)
    assert all(
        not np.array_equal(state.params[name]["direction"], after.params[name]["direction"])
        for name in ("space0", "space1")
    )
    shown = method.predict(state, jnp.asarray(BLOBS[::3])).probabilities
    np.testing.assert_allclose(shown, labels, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="must add up to the"):
        turtle.build(turtle.Config(spaces=(2, D)), DataSpec(30, (D,), K))


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        (temi, {"epochs": 30, "heads": 3, "hidden_width": 16, "bottleneck": 8, "neighbours": 10,
                "batch_size": 30, "warmup_epochs": 2, "learning_rate": 3e-3}),
        (turtle, {"steps": 600, "learning_rate": 1e-2}),
    ],
    ids=["temi", "turtle"],
)  # fmt: skip
def test_blobs_are_told_apart(method, changes):
    built = method.build(dataclasses.replace(method.Config(), **changes), SPEC)
    data = placement.put(BLOBS, measure(BLOBS))
    fitted = loop.fit(built, data, seed=0)
    prediction = predictor(built, data)(fitted.state)
    assert metrics.accuracy(KINDS, prediction.assignments) > 0.98


@pytest.mark.parametrize("method", [temi, turtle])
def test_images_are_refused(method):
    with pytest.raises(InputError, match="needs features"):
        method.build(method.Config(), DataSpec(N, (8, 8, 1), K))


def test_a_set_of_one_batch_takes_its_steps_in_a_row():
    phase = turtle.build(turtle.Config(), SPEC).phases[0]
    assert (phase.batches.repeats, phase.epochs) == (100, 60)
    phase = turtle.build(turtle.Config(), DataSpec(25_000, (D,), K)).phases[0]
    assert (phase.batches.repeats, phase.epochs) == (1, 2000)
    phase = turtle.build(turtle.Config(epochs=7), SPEC).phases[0]
    assert phase.epochs == 7


def test_temi_takes_as_many_steps_on_a_small_set():
    """A hundred passes over 500 images are 200 steps, after which its heads know little."""
    spec = DataSpec(500, (D,), K)
    assert temi.build(temi.Config(), spec).phases[0].epochs == 1000
    assert temi.build(temi.PRESETS["paper"], spec).phases[0].epochs == 100
    assert temi.build(temi.Config(), DataSpec(5000, (D,), K)).phases[0].epochs == 100


@pytest.mark.parametrize(
    ("n", "k", "given", "expected"),
    [(500, 10, None, 25), (5000, 10, None, 50), (6, 5, None, 1), (500, 10, 40, 40), (9, 3, 40, 8)],
)
def test_temis_neighbours_are_fewer_than_half_a_cluster(n, k, given, expected):
    config = dataclasses.replace(temi.Config(), neighbours=given)
    state = temi.build(config, DataSpec(n, (D,), k)).init(jax.random.key(0), jnp.zeros((2, D)))
    assert state.cluster.neighbours.shape == (n, expected)


def test_temis_warm_up_is_a_fifth_of_its_passes():
    """AdamW's first step is of the rate itself: how far a weight moves at one says it."""

    def moved(config: temi.Config) -> float:
        method = temi.build(config, SPEC)
        state = method.init(jax.random.key(0), jnp.asarray(BLOBS[:2]))
        x = jnp.asarray(BLOBS[:30])
        batch = Batch(x, jnp.arange(30), x)
        for _ in range(3):
            before, (state, _) = state, jax.jit(method.step)(state, batch)
        change = jnp.abs(state.params["hidden_bias"] - before.params["hidden_bias"])
        return float(change.max())

    short = dataclasses.replace(temi.Config(), batch_size=30, heads=1, hidden_width=6, bottleneck=4)
    steps = N // 30 * 2  # of ten passes' warm-up
    whole = moved(dataclasses.replace(short, epochs=10, warmup_epochs=0))
    assert moved(dataclasses.replace(short, epochs=10)) == pytest.approx(2 / steps * whole, rel=0.2)
