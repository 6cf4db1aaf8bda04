import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from jaxclust import metrics
from jaxclust.core.errors import InputError, option
from jaxclust.core.types import Batch, DataSpec
from jaxclust.images.augment import Affine, Augmentation
from jaxclust.images.normalisation import measure, normalise
from jaxclust.losses import pairwise
from jaxclust.methods import dac, registry
from jaxclust.models.allconvnet import NETWORKS, AllConvNet, cifar_network_1, map_side
from jaxclust.training import loop, placement, programs, starting
from jaxclust.training.hooks import Calls
from jaxclust.training.prediction import predictor
from tests.methods import small
from tests.trees import assert_same

N, M, K = 60, 20, 3


class Linear(nn.Module):
    """Logits linear in the pixels: small enough to follow by hand."""

    @nn.compact
    def __call__(self, x, train):
        scale = self.variable("batch_stats", "seen", lambda: jnp.zeros(()))
        if train:
            scale.value = scale.value + 1
        return nn.Dense(K)(x.reshape(x.shape[0], -1))


def build(network=None, **changes):
    wanted = {"epochs": 2, "draw_size": M, "batch_size": 8, "inner_passes": 2}
    config = dataclasses.replace(dac.Config(), **{**wanted, **changes})
    return dac.build(config, DataSpec(N, (8, 8, 1), K), network=network or Linear())


def start(method, seed=0):
    data = small.data(N)
    return data, starting.init(method, data, seed)


def test_targets_are_fixed_for_a_draw_and_come_from_its_first_network():
    method = build(views_per_batch=2)
    repeats = 2 * 3 * 2  # passes, batches of 8 in 20, views
    assert method.phases[0].batches.repeats == repeats
    _, state = start(method)
    step = jax.jit(method.step)
    draws = [small.batch(M, seed) for seed in (1, 2)]
    for draw in draws:
        logits = Linear().apply({"params": state.params, **state.model_state}, draw.images, False)
        for _ in range(repeats):
            state, _ = step(state, draw)
            np.testing.assert_allclose(
                state.cluster.draw, pairwise.restrain(logits), rtol=1e-4, atol=1e-6
            )
    assert int(state.step) == 2 * repeats
    # Every update is a pass of the network in training mode; targets are none.
    assert float(state.model_state["batch_stats"]["seen"]) == 2 * repeats


@pytest.mark.parametrize("loss", ["bce", "squared_error"])
@pytest.mark.parametrize("self_label", ["softmax", "label_features"])
def test_an_update_on_the_whole_draw_is_the_plain_gradient_step(loss, self_label):
    """One batch a draw and no views: the order of the batch is all that is drawn."""
    method = build(
        draw_size=8,
        batch_size=8,
        loss=loss,
        self_label=self_label,
        self_label_weight=3.0,
        upper=(0.9, 0.8),
        lower=(0.7, 0.8),
        views=Augmentation(),
    )
    _, state = start(method)
    x = small.batch(8).images.reshape(8, -1)

    def naive(params):
        z = x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"][None]
        f = jnp.exp(z) / jnp.linalg.norm(jnp.exp(z), axis=1, keepdims=True)
        known = jax.lax.stop_gradient(f)
        total, count = 0.0, 0
        for i in range(8):
            for j in range(8):
                similarity, fixed = jnp.dot(f[i], f[j]), jnp.dot(known[i], known[j])
                if 0.7 <= fixed < 0.9:
                    continue
                r = float(fixed >= 0.9)
                g = jnp.clip(similarity, 1e-7, 1 - 1e-7)
                bce = -r * jnp.log(g) - (1 - r) * jnp.log(1 - g)
                total += bce if loss == "bce" else (r - similarity) ** 2
                count += 1
        p, q = (f, known) if self_label == "label_features" else (jax.nn.softmax(z),) * 2
        p, q = jnp.clip(p, 1e-7, 1 - 1e-7), jax.lax.stop_gradient(q)
        auxiliary = -jnp.mean(q * jnp.log(p) + (1 - q) * jnp.log(1 - p))
        return total / count + 3 * auxiliary

    value, gradients = jax.value_and_grad(naive)(state.params)
    rmsprop = optax.rmsprop(1e-3, decay=0.9, eps=1e-8, eps_in_sqrt=False)
    updates, _ = rmsprop.update(gradients, rmsprop.init(state.params))
    expected = optax.apply_updates(state.params, updates)
    after, info = jax.jit(method.step)(state, small.batch(8))
    np.testing.assert_allclose(info.loss, value, rtol=1e-4)
    # RMSprop's first step is about the gradient's sign; where that is sure, all agrees.
    for mine, theirs, gradient in zip(
        jax.tree.leaves(after.params),
        jax.tree.leaves(expected),
        jax.tree.leaves(gradients),
        strict=True,
    ):
        sure = np.abs(gradient) > 1e-4
        np.testing.assert_allclose(mine[sure], theirs[sure], atol=1e-5)


@pytest.mark.parametrize(("last_batch", "sizes"), [("filled", [7, 7, 7]), ("short", [7, 7, 6])])
def test_every_pass_visits_the_whole_draw(last_batch, sizes):
    """Images that are one-hot in the pixels: a kernel row moves when its image is seen."""
    method = build(views=Augmentation(), inner_passes=1, batch_size=7, last_batch=last_batch)
    _, state = start(method)
    images = jnp.zeros((M, 64)).at[jnp.arange(M), jnp.arange(M)].set(1).reshape(M, 8, 8, 1)
    step, before = jax.jit(method.step), state.params["Dense_0"]["kernel"]
    seen = []
    for _ in range(3):
        state, _ = step(state, Batch(images, jnp.arange(M)))
        now = state.params["Dense_0"]["kernel"]
        seen.append(np.flatnonzero(np.abs(now - before).sum(axis=1) > 0))
        before = now
    # RMSprop keeps no momentum: only images of the batch move their rows.
    assert [len(rows) for rows in seen] == sizes
    assert set(np.concatenate(seen)) == set(range(M))


def test_a_last_batch_can_be_left_out():
    method = build(inner_passes=2, batch_size=7, last_batch="dropped")
    assert method.phases[0].batches.repeats == 2 * (M // 7)
    assert method.phases[0].batches.shared == (7,)


class Centred(nn.Module):
    """Logits linear in pixels whose mean over the batch is taken away: its statistics."""

    @nn.compact
    def __call__(self, x, train):
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(K)(x - x.mean(axis=0, keepdims=True) if train else x)


@pytest.mark.parametrize("target_batch", [None, 8, 10, 20])
def test_targets_are_computed_in_batches_with_statistics_of_their_own(target_batch):
    method = build(Centred(), target_batch=target_batch)
    _, state = start(method)
    draw = small.batch(M)
    after, _ = jax.jit(method.step)(state, draw)
    size = target_batch or M
    parts = [draw.images[i : i + size] for i in range(0, M, size)]
    logits = [Centred().apply({"params": state.params}, part, True) for part in parts]
    expected = pairwise.restrain(jnp.concatenate(logits))
    np.testing.assert_allclose(after.cluster.draw, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("size", "parts"), [(17, ((0, 8), (8, 17))), (9, ((0, 9),))])
def test_a_single_image_left_over_is_never_a_batch(size, parts):
    """Batch norm makes it a constant: its targets would be even, its update would teach nothing."""
    config = dataclasses.replace(dac.Config(), draw_size=size, batch_size=8, target_batch=8)
    method = dac.build(config, DataSpec(N, (8, 8, 1), K), network=Centred())
    batches = method.phases[0].batches
    assert (batches.repeats, batches.shared) == (5 * (size // 8), (8,))
    _, state = start(method)
    draw = small.batch(size, 1)
    after, _ = jax.jit(method.step)(state, draw)
    logits = [
        Centred().apply({"params": state.params}, draw.images[first:last], True)
        for first, last in parts
    ]
    expected = pairwise.restrain(jnp.concatenate(logits))
    np.testing.assert_allclose(after.cluster.draw, expected, rtol=1e-4, atol=1e-6)


class Forgetful(nn.Module):
    """A network that draws in training mode."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dropout(0.5, deterministic=not train)(x.reshape(x.shape[0], -1))
        return nn.Dense(K)(x)


def test_a_network_with_dropout_gives_targets_by_batch_statistics():
    method = build(Forgetful(), target_batch=None)
    _, state = start(method)
    _, info = jax.jit(method.step)(state, small.batch(M, 1))
    assert np.isfinite(info.loss)


def test_an_untrained_network_does_not_take_all_images_for_alike():
    """By running statistics it does: on the digits 95 % of all pairs and more."""
    digits = load_digits().images[:200, ..., None].astype(np.uint8)
    data = placement.put(digits, measure(digits))
    method = dac.build(dac.PRESETS["paper"], placement.spec_of(data, 10))
    state = starting.init(method, data, 0)
    images = normalise(data.images, data.normalisation)
    _, info = jax.jit(method.step)(state, Batch(images, np.arange(200, dtype=np.int32)))
    assert float(info.watch["similar_pairs"]) < 0.2


@pytest.mark.parametrize("draws", ["fixed", "shuffled"])
def test_fixed_draws_are_every_epochs(draws):
    """The label features of a draw stay as they are where nothing is learned."""
    method = build(draws=draws, learning_rate=1e-30, target_batch=None, target_statistics="running")
    data, _ = start(method)
    seen = []
    step = method.step

    def watched(state, batch):
        after, info = step(state, batch)
        return after, info._replace(watch={"rows": jnp.sort(batch.rows)})

    phase = method.phases[0]._replace(step=watched)
    hooks = Calls(on_chunk=lambda progress: seen.extend(row["rows"] for row in progress.steps))
    loop.fit(method.replace(phases=(phase,)), data, seed=0, hooks=hooks)
    first, second = np.split(np.array(seen), 2)
    assert set(first.ravel()) == set(second.ravel()) == set(range(N))
    assert np.array_equal(first, second) == (draws == "fixed")


def test_reference_is_what_the_published_code_does():
    """The facts of the published code, as numbers, beside the presets."""
    config = dac.PRESETS["reference"]
    assert (config.draws, config.last_batch, config.target_batch) == ("fixed", "short", 32)
    views = config.views
    assert (views.affine.resampling, views.affine.zoom_per_axis) == ("nearest", True)
    assert (views.value_factor, views.clip_shift, views.flip) == (0.975, True, False)
    # 0.05 of values between 0 and 1, of which MNIST's deviate by 0.3081.
    assert views.channel_shift == pytest.approx(0.05 / 0.3081, rel=1e-3)
    for name, preset in dac.PRESETS.items():
        if name.startswith("reference_"):
            assert preset.views.flip
            assert preset.views.affine.resampling == "nearest"
            assert (preset.draws, preset.last_batch) == ("shuffled", "dropped")
    # Their passes have 31 whole batches of 32; each is seen in two views.
    cifar = dac.build(dac.PRESETS["reference_cifar10"], DataSpec(60_000, (32, 32, 3), 10))
    assert cifar.phases[0].batches.repeats == 10 * 31 * 2
    method = dac.build(config, DataSpec(70_000, (28, 28, 1), 10))
    batches = method.phases[0].batches
    assert (batches.size, batches.repeats, batches.shared) == (1000, 5 * 8, (128, 104))


def test_thresholds_move_by_epoch_and_the_optimiser_restarts():
    method = build(epochs=3, upper=(0.9, 0.5), restart_optimiser=True)
    data, _ = start(method)
    rows = []
    hooks = Calls(on_chunk=lambda progress: rows.extend(progress.steps))
    fitted = loop.fit(method, data, seed=0, hooks=hooks)
    per_epoch = 3 * method.phases[0].batches.repeats
    assert int(fitted.state.step) == 3 * per_epoch == len(rows)
    uppers = np.array([row["upper"] for row in rows]).reshape(3, per_epoch)
    np.testing.assert_allclose(uppers, np.repeat([[0.9], [0.7], [0.5]], per_epoch, 1), atol=1e-6)
    assert rows[per_epoch - 1]["epoch"] == 1


@pytest.mark.parametrize(("n", "epochs"), [(1797, 40), (10_000, 40), (70_000, 8), (700_000, 1)])
def test_large_sets_get_fewer_epochs(n, epochs):
    """On MNIST's 70,000 forty of them are 22,400 updates, in which clusters merged again."""
    best = dac.build(dac.PRESETS["best"], DataSpec(n, (28, 28, 1), 10))
    assert best.phases[0].epochs == epochs
    asked = dataclasses.replace(dac.PRESETS["best"], epochs=40)
    assert dac.build(asked, DataSpec(n, (28, 28, 1), 10)).phases[0].epochs == 40


def test_the_papers_schedule_ends_where_the_thresholds_cross():
    config = dac.PRESETS["paper"]
    phases = dac.build(config, DataSpec(N, (8, 8, 1), K), network=Linear()).phases
    assert phases[0].epochs == 46
    star = registry.find("dac_star").config("paper")
    phases = dac.build(star, DataSpec(N, (8, 8, 1), K), network=Linear()).phases
    assert phases[0].epochs == 46


def test_all_published_networks_and_sizes_take_a_step():
    for shape in ((8, 8, 1), (16, 16, 1), (28, 28, 1), (32, 32, 3), (64, 64, 3), (96, 96, 3)):
        method = dac.build(dac.Config(draw_size=4, batch_size=4), DataSpec(4, shape, K))
        images = jax.ShapeDtypeStruct((4, *shape), jnp.float32)
        state = jax.eval_shape(method.init, jax.random.key(0), images)
        batch = Batch(images, jax.ShapeDtypeStruct((4,), jnp.int32))
        after, info = jax.eval_shape(method.step, state, batch)
        assert info.loss.shape == ()
        assert jax.tree.structure(after) == jax.tree.structure(state)


def test_the_first_cifar_network_sees_larger_images_to_their_edge():
    """Not the 28 pixels alone that it sees of its own 32."""
    network = AllConvNet(K, ((8, 8), (8, 8)), averaged=4)
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 1))
    variables = network.init(jax.random.key(1), images, train=False)
    slopes = jax.grad(lambda x: jnp.sum(network.apply(variables, x, train=False) ** 2))(images)
    assert np.any(np.asarray(slopes)[:, 40:, 40:])
    assert (map_side(network, 32), map_side(network, 64)) == (5, 13)
    # The twelfth row of maps sees pixels 44 to 59; the thirteenth is left out.
    assert not np.any(np.asarray(slopes)[:, 60:])


def test_presets_name_the_published_networks():
    spec = DataSpec(100, (96, 96, 3), K)
    blocks = {
        name: dac.published_network(dac.PRESETS[name], spec).blocks
        for name in ("reference_cifar10", "reference_cifar100", "reference_imagenet")
    }
    assert [len(block) for block in blocks["reference_cifar100"]] == [2, 2]
    assert [len(block) for block in blocks["reference_imagenet"]] == [3, 3, 3]
    dog = dac.published_network(dac.PRESETS["reference_dog"], spec)
    assert (tuple(dog.windows), dog.pool) == ((5, 3), 4)
    # ReLU on the output, but not for images of 32x32.
    rectified = {name for name, make in NETWORKS.items() if make(K).rectify_output}
    assert rectified == {"mnist", "stl", "dog"}


def test_the_first_network_for_cifar_leaves_out_an_edge():
    """Its maps are of 5x5 and its pool is of 4x4."""
    network = cifar_network_1(K)
    images = jnp.zeros((2, 32, 32, 3))
    variables = network.init(jax.random.key(0), images, train=False)
    edge, corner = images.at[:, 28:, 28:].set(1), images.at[:, :8, :8].set(1)
    plain, at_edge, at_corner = (
        network.apply(variables, x, train=False) for x in (images, edge, corner)
    )
    np.testing.assert_array_equal(at_edge, plain)
    assert np.abs(at_corner - plain).max() > 0
    with pytest.raises(InputError, match="too small for network stl; use auto"):
        dac.published_network(dac.Config(network="stl"), DataSpec(100, (28, 28, 1), K))


def test_entries_are_counted_in_four_intervals():
    entries = jnp.array([[0.0, 0.05, 0.1, 0.3], [0.5, 0.89, 0.9, 1.0]])
    shares = dac.spread_of(entries)
    assert list(shares) == [
        "entries_0_to_0.1",
        "entries_0.1_to_0.5",
        "entries_0.5_to_0.9",
        "entries_0.9_to_1",
    ]
    np.testing.assert_allclose(list(shares.values()), 0.25)


def test_bars_are_told_apart():
    """With thresholds as loose as the default's, 120 images merge into two clusters."""
    _, kinds = small.images(120)
    data = small.data(120)
    views = Augmentation(Affine(shift=0.05))
    config = dac.Config(
        epochs=10, draw_size=60, batch_size=30, inner_passes=5, upper=(0.95, 0.7), views=views
    )
    method = dac.build(config, placement.spec_of(data, K))
    state = loop.fit(method, data, seed=0).state
    assignments = predictor(method, data)(state).assignments
    assert metrics.accuracy(kinds, assignments) > 0.9


@pytest.mark.parametrize(
    "changes",
    [
        {"draw_size": 0},
        {"learning_rate": 0.0},
        {"lambda_rate": -1.0},
        {"lower": (0.95, 0.5)},
    ],
)
def test_contradictions_are_refused(changes):
    with pytest.raises(InputError) as refused:
        build(**changes)
    assert option(next(iter(changes))) in refused.value.on_command_line()


def equations(jaxpr, depth=0):
    """All equations, each with how many loops it lies in."""
    for equation in jaxpr.eqns:
        yield equation, depth
        inner = depth + (equation.primitive.name == "while")
        for part in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(part):
                yield from equations(getattr(part, "jaxpr", part), inner)


def is_jaxpr(part):
    return hasattr(part, "eqns") or hasattr(part, "jaxpr")


def test_a_draws_images_are_gathered_once_for_all_its_steps():
    """Each of its tens of steps needs a small part of them."""
    method, data = build(batch_size=5), small.data(N)
    phase = method.phases[0]
    program = programs.chunk_program(phase.step, phase.batches, data.normalisation)
    state = jax.eval_shape(method.init, jax.random.key(0), jnp.zeros((2, 8, 8, 1)))
    index, rows = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((N // M, M), jnp.int32)
    jaxpr = program.trace(state, data.images, rows, rows, index, index).jaxpr
    depths: dict[int, set[int]] = {}
    for equation, depth in equations(jaxpr.jaxpr):
        shape = equation.outvars[0].aval.shape
        if equation.primitive.name == "gather" and shape[1:] == (8, 8, 1):
            depths.setdefault(shape[0], set()).add(depth)
    # The draw's in the loop over draws, an update's share of them in the one over its steps.
    assert depths == {M: {1}, 5: {2}}


def test_chunks_that_begin_and_end_within_a_draw_change_no_bit(monkeypatch):
    method = build()
    long = loop.fit(method, small.data(N), seed=0).state
    monkeypatch.setattr(loop._PhaseRun, "length", lambda _: 5)
    assert_same(loop.fit(method, small.data(N), seed=0).state, long)
