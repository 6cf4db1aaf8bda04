import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust.clustering import health


def test_an_even_clustering_has_nothing_to_complain_of():
    assert health.complaint(np.array([10, 12, 9])) is None
    assert health.complaint(np.array([1000, 11, 990])) is None


def test_empty_and_tiny_clusters_are_named():
    assert "2 of 4 clusters hold images;" in (health.complaint(np.array([50, 0, 60, 0])) or "")
    said = health.complaint(jnp.array([5000, 0, 5000, 3])) or ""
    assert "3 of 4 clusters hold images, 1 of them less than a hundredth" in said
    assert said.endswith("ask for fewer clusters, or take another seed or method")


@pytest.mark.parametrize("n", [7, 100, 1_800_000])
def test_shares_of_many_samples_sum_to_one(n):
    assignments = np.random.default_rng(0).integers(0, 10, n) ** 2 // 10
    found = jax.jit(health.shares, static_argnums=1)(jnp.asarray(assignments), 12)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, np.bincount(assignments, minlength=12) / n, rtol=1e-6)
    assert abs(float(np.asarray(found, np.float64).sum()) - 1) < 1e-6


def test_shares_are_mapped_over_runs():
    several = jnp.asarray([[0, 0, 1, 3], [2, 2, 2, 2]])
    found = jax.vmap(lambda one: health.shares(one, 4))(several)
    np.testing.assert_array_equal(found, [[0.5, 0.25, 0, 0.25], [0, 0, 1, 0]])


def test_running_usage_forgets_a_cluster_without_samples():
    usage = jnp.full(4, 0.25)
    for _ in range(10):
        usage = health.update_usage(usage, jnp.arange(80) % 3)
    found = health.cluster_health(usage)
    assert int(found["empty_clusters"]) == 1
    np.testing.assert_allclose(usage.sum(), 1, rtol=1e-5)


def test_one_cluster_has_no_entropy():
    """An edited run may have a single cluster left: the logarithm of one is no divisor."""
    assert health.cluster_health(jnp.ones(1))["assignment_entropy"] == 0
