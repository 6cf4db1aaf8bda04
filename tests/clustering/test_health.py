import jax.numpy as jnp
import numpy as np

from jaxclust.clustering import health


def test_an_even_clustering_has_nothing_to_complain_of():
    assert health.complaint(np.array([10, 12, 9])) is None
    assert health.complaint(np.array([1000, 11, 990])) is None


def test_empty_and_tiny_clusters_are_named():
    assert "2 of 4 clusters hold images;" in (health.complaint(np.array([50, 0, 60, 0])) or "")
    said = health.complaint(jnp.array([5000, 0, 5000, 3])) or ""
    assert "3 of 4 clusters hold images, 1 of them less than a hundredth" in said
    assert "--n-clusters" in said


def test_running_usage_forgets_a_cluster_without_samples():
    usage = health.even_usage(4)
    for _ in range(10):
        usage = health.update_usage(usage, jnp.arange(80) % 3)
    found = health.cluster_health(usage)
    assert int(found["empty_clusters"]) == 1
    np.testing.assert_allclose(usage.sum(), 1, rtol=1e-5)
