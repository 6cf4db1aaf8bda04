"""Several starts, one chosen without labels."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxclust as jc
from jaxclust.core.keys import host_arrays
from jaxclust.training import contest, loop
from tests.methods import small


def method(count, **changes):
    built = small.method(epochs=3, **changes)
    return dataclasses.replace(built, starts=count)


def leaves(state):
    return jax.tree.leaves(host_arrays(state))


def same(one, other):
    pairs = zip(leaves(one.state), leaves(other.state), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_the_chosen_start_is_the_run_from_its_seed_alone():
    data = small.data()
    # Enough epochs for a phase of more than one chunk, whose first one's speed is not known.
    fitted = jc.fit(method(4), data, seed=5)
    assert [len(one.verdicts) for one in fitted.rounds] == [4, 2]
    assert [len(one.kept) for one in fitted.rounds] == [2, 1]
    assert fitted.rounds[0].verdicts[0].seed == 5
    [chosen] = fitted.rounds[-1].kept
    seed = contest.seeds_of(5, 4)[chosen]
    alone = loop.fit(method(1), data, seed=seed)
    assert same(fitted, alone)
    assert fitted.pretrained is not None
    assert fitted.seconds.keys() == alone.seconds.keys() | {"other_starts"}
    assert fitted.seconds["other_starts"] > 0
    assert fitted.images_per_second > 0
    for name, value in alone.pretrained.arrays.items():
        np.testing.assert_array_equal(fitted.pretrained.arrays[name], value)
    assert not same(fitted, loop.fit(method(1), data, seed=contest.seeds_of(5, 4)[chosen - 1]))


def test_the_better_half_goes_on_and_the_first_of_equals(monkeypatch):
    wished = {0: 0.0, 1: 2.0, 2: 2.0, 3: 1.0, 4: 5.0}
    ranked = lambda verdicts: [wished[one.start] for one in verdicts]  # noqa: E731
    monkeypatch.setattr(contest, "ranked", ranked)
    fitted = jc.fit(method(5, init="random"), small.data(), seed=0)
    assert [one.kept for one in fitted.rounds] == [[4, 1, 2], [4, 1], [4]]


def test_rounds_end_after_equal_parts_of_the_clustering_epochs():
    built = small.method(epochs=12)
    assert [phase.name for phase in built.phases] == ["pretrain", "cluster"]
    assert contest.stops(dataclasses.replace(built, starts=2)) == [(1, 12)]
    assert contest.stops(dataclasses.replace(built, starts=4)) == [(1, 6), (1, 12)]
    assert contest.stops(dataclasses.replace(built, starts=5)) == [(1, 4), (1, 8), (1, 12)]


def test_derc_is_judged_where_it_clusters():
    config = jc.methods.derc.Config(iterations=4, epochs=2, pretrain_epochs=1, starts=4)
    built = jc.methods.derc.build(config, jc.DataSpec(60, (8, 8, 1), 3))
    # Latents move away from their clustering while retraining.
    assert contest.stops(built) == [(3, 0), (5, 0)]
    without = jc.methods.derc.build(dataclasses.replace(config, iterations=0), built.recipe.spec)
    assert contest.stops(without) == [(1, 0), (1, 0)]


def test_a_start_with_nothing_left_to_do_is_still_judged():
    """DEC stops where assignments no longer change, which may be before a round's end."""
    config = jc.methods.dec.Config(
        epochs=40, pretrain_epochs=1, batch_size=30, tolerance=1.0, starts=4, network="sparse"
    )
    data = small.data(60)
    fitted = jc.fit(jc.methods.dec.build(config, jc.spec_of(data, n_clusters=3)), data, seed=1)
    assert [len(one.verdicts) for one in fitted.rounds] == [4, 2]
    [chosen] = fitted.rounds[-1].kept
    single = jc.methods.dec.build(
        dataclasses.replace(config, starts=1), jc.spec_of(data, n_clusters=3)
    )
    assert same(fitted, loop.fit(single, data, seed=contest.seeds_of(1, 4)[chosen]))


def test_starts_are_judged_on_features_too():
    features = np.random.default_rng(0).normal(size=(90, 6)).astype(np.float32)
    features[::2] += 3
    config = jc.methods.dec.Config(
        epochs=3, pretrain_epochs=1, batch_size=30, tolerance=0.0, starts=2, network="sparse"
    )
    fitted = jc.fit(jc.methods.dec.build(config, jc.DataSpec(90, (6,), 2)), features, seed=0)
    names = {"views", "silhouette", "confidence", "evenness", "stability", "loss"}
    assert all(set(one.evidence.criteria) == names for one in fitted.rounds[0].verdicts)


def test_neighbouring_seeds_have_other_starts():
    found = [seed for run in range(20) for seed in contest.seeds_of(run, 8)]
    assert len(set(found)) == len(found)
    assert contest.seeds_of(3, 8)[:4] == contest.seeds_of(3, 4)


def test_a_hook_interrupts_in_the_middle_of_a_start():
    asked = []
    hook = jc.training.hooks.Calls(interrupts=lambda: bool(asked.append(0)) or len(asked) > 3)
    with pytest.raises(jc.core.errors.Stopped):
        jc.fit(method(2), small.data(), seed=0, hooks=[hook])
    assert len(asked) == 4


def test_one_of_several_starts_is_not_resumed():
    fitted = jc.fit(method(1), small.data(), seed=0)
    position = jc.training.starting.Position(1, 0, (0.0,))
    with pytest.raises(jc.core.errors.InputError, match="set starts 1 and give its seed"):
        jc.fit(method(2), small.data(), resume=(fitted.state, position))


def test_hooks_see_every_start():
    seen = []
    hook = jc.training.hooks.Calls(on_epoch=lambda moment: seen.append(moment.epoch))
    jc.fit(method(2), small.data(), seed=0, hooks=[hook])
    assert seen == [0, 1, 2, 3] * 2
