import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust.clustering import health
from jaxclust.clustering.drift import rollback
from jaxclust.clustering.selection import (
    Samples,
    empty_buffer,
    nearest,
    nearest_balanced,
    push,
    rank_in_cluster,
)


def test_buffer_against_a_python_list_over_100_batches():
    """The top-k_m rule with lists: sort, extend, clear when full."""
    rng = np.random.default_rng(0)
    batch, k_m, n_m = 12, 3, 9
    buffer = empty_buffer(n_m, (2, 2, 1), 4)
    expected, fills = [], 0

    @jax.jit
    def add(buffer, images, features, assignments, distances):
        chosen = nearest(distances, k_m)
        everything = Samples(images, features, assignments, distances)
        buffer = push(buffer, jax.tree.map(lambda leaf: leaf[chosen], everything))
        full = buffer.size == n_m
        return buffer, buffer._replace(size=jnp.where(full, 0, buffer.size))

    for _ in range(100):
        images = rng.normal(size=(batch, 2, 2, 1)).astype("f")
        features = rng.normal(size=(batch, 4)).astype("f")
        assignments = rng.integers(0, 5, batch).astype("i4")
        distances = rng.integers(0, 6, batch).astype("f")  # with ties
        order = sorted(range(batch), key=lambda i: (distances[i], i))[:k_m]
        expected += [(images[i], features[i], assignments[i]) for i in order]
        pushed, buffer = add(buffer, images, features, assignments, distances)
        assert int(pushed.size) == len(expected)
        for i, (image, feature, assignment) in enumerate(expected):
            np.testing.assert_array_equal(pushed.samples.images[i], image)
            np.testing.assert_array_equal(pushed.samples.features[i], feature)
            assert int(pushed.samples.assignments[i]) == assignment
        if len(expected) == n_m:
            expected, fills = [], fills + 1
        assert int(buffer.size) == len(expected)
    assert fills == 33


@pytest.mark.parametrize("seed", range(10))
def test_ranks_and_balanced_choice_against_loops(seed):
    rng = np.random.default_rng(seed)
    assignments, distances = rng.integers(0, 4, 20), rng.integers(0, 9, 20).astype("f")
    ranks = [
        sum(
            assignments[j] == assignments[i] and (distances[j], j) < (distances[i], i)
            for j in range(20)
        )
        for i in range(20)
    ]
    np.testing.assert_array_equal(rank_in_cluster(assignments, distances), ranks)
    order = sorted(range(20), key=lambda i: (ranks[i], distances[i], i))
    np.testing.assert_array_equal(nearest_balanced(assignments, distances, 11), order[:11])


def test_balanced_choice_keeps_every_cluster():
    assignments = jnp.array([0] * 17 + [1, 1, 2])
    distances = jnp.concatenate([jnp.zeros(17), jnp.ones(3)])
    assert set(np.asarray(assignments[nearest_balanced(assignments, distances, 4)])) == {0, 1, 2}
    assert set(np.asarray(assignments[nearest(distances, 4)])) == {0}


def test_a_buffer_has_float32_whatever_jax_defaults_to():
    with jax.enable_x64(True):
        buffer = empty_buffer(4, (2, 2, 1), 3)
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves(buffer)}
    assert kinds == {"float32", "int32"}


def test_rollback_undoes_an_update_and_leaves_other_layers():
    params = {"feature": {"w": jnp.array([1.0, 2.0])}, "output": {"w": jnp.array([3.0])}}
    updates = {"feature": {"w": jnp.array([0.5, -1.0])}, "output": {"w": jnp.array([0.25])}}
    after = jax.tree.map(jnp.add, params, updates)
    whole = rollback(after, updates)
    jax.tree.map(np.testing.assert_array_equal, whole, params)
    with pytest.raises(ValueError, match=r"no layer named \[.featur.\]"):
        rollback(after, updates, layers=("featur",))
    one = rollback(after, updates, layers=("feature",))
    np.testing.assert_array_equal(one["feature"]["w"], params["feature"]["w"])
    np.testing.assert_array_equal(one["output"]["w"], after["output"]["w"])


def test_health_of_even_and_collapsed_clusterings():
    even = health.cluster_health(health.shares(jnp.arange(20) % 4, 4))
    assert int(even["empty_clusters"]) == 0
    assert float(even["assignment_entropy"]) == pytest.approx(1)
    assert float(even["largest_share"]) == pytest.approx(0.25)
    collapsed = health.cluster_health(health.shares(jnp.zeros(20, int), 4))
    assert int(collapsed["empty_clusters"]) == 3
    assert float(collapsed["assignment_entropy"]) == pytest.approx(0, abs=1e-6)
    assert float(health.churn(jnp.array([0, 1, 2, 3]), jnp.array([0, 1, 3, 2]))) == 0.5


def test_usage_survives_small_batches_and_sees_dead_clusters():
    rng = np.random.default_rng(0)
    usage = jnp.full(50, 0.02)
    for _ in range(400):
        usage = health.update_usage(usage, jnp.asarray(rng.integers(0, 50, 10)))
    assert int(health.cluster_health(usage)["empty_clusters"]) == 0
    for _ in range(400):
        usage = health.update_usage(usage, jnp.asarray(rng.integers(0, 45, 10)))
    assert int(health.cluster_health(usage)["empty_clusters"]) == 5
