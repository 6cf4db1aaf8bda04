"""Factors along a neighbour graph, against dense matrices."""

import numpy as np
import pytest
from scipy import linalg

from jaxclust import metrics
from jaxclust.clustering.host import graph_factors
from jaxclust.clustering.host.graph_merging import neighbour_graph
from jaxclust.core.errors import RunError

RNG = np.random.default_rng(0)
KINDS = np.arange(60) % 3
X = np.abs(4 * np.eye(3, 6)[KINDS] + RNG.normal(size=(60, 6)))


def watched(monkeypatch):
    """What k-means is asked to cluster."""
    seen = []
    monkeypatch.setattr(
        graph_factors, "_clustered", lambda rows, k, seed: seen.append(rows) or np.zeros(len(rows))
    )
    return seen


@pytest.mark.parametrize(("fit", "ridge"), [(1.0, 1.0), (0.01, 0.5), (30.0, 2.0)])
def test_the_embedding_is_that_of_the_dense_eigenproblem(monkeypatch, fit, ridge):
    seen = watched(monkeypatch)
    graph_factors.spectral_embedded(X, 3, 0, count=6, fit=fit, ridge=ridge)
    weights = neighbour_graph(X, 6).weights.toarray()
    weights = np.maximum(weights, weights.T)
    root = np.diag(weights.sum(axis=1) ** -0.5)
    laplacian = np.eye(60) - root @ weights @ root
    centring = np.eye(60) - 1 / 60
    x = centring @ X
    projection = x @ np.linalg.inv(x.T @ x + ridge * np.eye(6)) @ x.T
    dense = laplacian + fit * (centring - projection)
    _, vectors = linalg.eigh(dense, subset_by_index=[0, 2])
    ours, _ = np.linalg.qr(seen[0])
    # The same space, whatever basis of it.
    np.testing.assert_allclose(np.linalg.svd(ours.T @ vectors)[1], 1, atol=1e-6)


def test_updates_of_the_factors_are_those_of_dense_matrices(monkeypatch):
    """V before U, and lengths that are weighed before and after them, as in the authors' code."""
    seen = watched(monkeypatch)
    graph_factors.graph_nmf(X, 3, 5, count=4, weight=2.0, iterations=3)
    graph = neighbour_graph(X, 4).weights.toarray() > 0
    edges = (graph | graph.T).astype(float)
    degrees = np.diag(edges.sum(axis=1))
    rng = np.random.default_rng(5)
    v, u = rng.random((60, 3)), rng.random((6, 3))
    lengths = np.sqrt(np.diag(u.T @ u))
    u, v = u / lengths, v * lengths
    for _ in range(3):
        v = v * (X @ u + 2 * edges @ v) / (v @ u.T @ u + 2 * degrees @ v)
        u = u * (X.T @ v) / (u @ v.T @ v)
    v = v * np.sqrt(np.diag(u.T @ u))
    expected = v / np.linalg.norm(v, axis=1, keepdims=True)
    np.testing.assert_allclose(seen[0], expected, rtol=1e-6)


def test_the_updates_never_raise_the_objective(monkeypatch):
    """|x - V U^T|^2 + weight tr(V^T L V), at the factors' own scale."""
    graph = neighbour_graph(X, 4).weights.toarray() > 0
    edges = (graph | graph.T).astype(float)
    laplacian = np.diag(edges.sum(axis=1)) - edges
    rng = np.random.default_rng(1)
    v, u = rng.random((60, 3)), rng.random((6, 3))
    before = np.inf
    for _ in range(20):
        v = v * (X @ u + 2 * edges @ v) / (v @ u.T @ u + 2 * np.diag(laplacian)[:, None] * v)
        u = u * (X.T @ v) / (u @ v.T @ v)
        now = np.square(X - v @ u.T).sum() + 2 * np.trace(v.T @ laplacian @ v)
        assert now <= before * (1 + 1e-9)
        before = now


@pytest.mark.parametrize("method", [graph_factors.graph_nmf, graph_factors.spectral_embedded])
def test_blobs_few_samples_and_bad_ones(method):
    found = method(X / np.linalg.norm(X, axis=1, keepdims=True), 3, 0)
    assert metrics.accuracy(KINDS, found) > 0.9
    assert found.dtype == np.int32
    np.testing.assert_array_equal(method(X[:3], 3, 0), [0, 1, 2])
    np.testing.assert_array_equal(method(X, 3, 4), method(X, 3, 4))
    with pytest.raises(RunError, match="finite"):
        method(np.full((9, 2), np.nan), 2, 0)
