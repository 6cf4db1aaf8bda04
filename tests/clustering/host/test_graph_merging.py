"""Agglomeration on a neighbour graph against dense matrices and every pair of clusters."""

import numpy as np
import pytest

from jaxclust import metrics
from jaxclust.clustering.host import graph_merging
from jaxclust.core.errors import RunError
from tests.clustering import outlying

RNG = np.random.default_rng(0)


def blobs(n=60, k=4, d=5, apart=6.0):
    kinds = np.arange(n) % k
    return (apart * RNG.normal(size=(k, d))[kinds] + RNG.normal(size=(n, d))), kinds


def walk_by_hand(x, count, scale=1.0):
    n = len(x)
    squares = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    near = np.argsort(squares, axis=1)[:, :count]
    width = scale * np.mean([squares[i, near[i]].mean() for i in range(n)])
    while any(np.exp(-squares[i, near[i, 0]] / width) < 1e-5 for i in range(n)):
        width *= 2
    weights = np.eye(n)
    for i in range(n):
        weights[i, near[i]] = np.exp(-squares[i, near[i]] / width)
    return weights / weights.sum(axis=1, keepdims=True), near[:, 0]


def joined_by_hand(nearest):
    label = list(range(len(nearest)))
    for i, j in enumerate(nearest):
        label = [label[i] if one == label[j] else one for one in label]
    return [[i for i, one in enumerate(label) if one == name] for name in dict.fromkeys(label)]


def integral(walk, z, rows, of):
    """1_of^T (I - zP)^-1 1_of / |of|^2, within some rows."""
    inner = np.linalg.inv(np.eye(len(rows)) - z * walk[np.ix_(rows, rows)])
    ones = np.isin(rows, of).astype(float)
    return ones @ inner @ ones / len(of) ** 2


def merged_by_hand(x, k, count, z):
    """Every pair, every time, by inverses; None where no pair gains anything any more."""
    walk, nearest = walk_by_hand(x, count)
    clusters = joined_by_hand(nearest)
    while len(clusters) > k:
        best, pair = 1e-12, None
        for a in range(len(clusters)):
            for b in range(a):
                both = [*clusters[a], *clusters[b]]
                gain = sum(
                    integral(walk, z, both, one) - integral(walk, z, one, one)
                    for one in (clusters[a], clusters[b])
                )
                if gain > best:
                    best, pair = gain, (a, b)
        if pair is None:
            return None
        a, b = pair
        clusters[b] = [*clusters[b], *clusters.pop(a)]
    found = np.empty(len(x), int)
    for i, rows in enumerate(clusters):
        found[rows] = i
    return found


@pytest.mark.parametrize(("k", "z", "apart"), [(4, 0.01, 6.0), (3, 0.01, 1.0), (5, 0.3, 2.0)])
def test_merges_are_those_of_every_pair_by_dense_inverses(k, z, apart):
    x, _ = blobs(apart=apart)
    expected = merged_by_hand(x, k, 8, z)
    assert expected is not None
    found = graph_merging.path_integral(x, k, count=8, z=z)
    assert metrics.accuracy(expected, found) == 1
    assert len(np.unique(found)) == k


def test_the_graph_is_that_of_all_distances():
    x, _ = blobs()
    walk, nearest = walk_by_hand(x, 7, scale=0.5)
    graph = graph_merging.neighbour_graph(x, 7, scale=0.5)
    np.testing.assert_array_equal(graph.nearest, nearest)
    found = graph_merging.transitions(graph.weights).toarray()
    np.testing.assert_allclose(found, walk, rtol=1e-4, atol=1e-7)


def test_a_lone_sample_gets_an_edge_that_weighs_something():
    x = np.concatenate([RNG.normal(size=(30, 3)), [[500.0, 0, 0]]])
    graph = graph_merging.neighbour_graph(x, 5)
    assert graph.weights.toarray()[30].max() >= 1e-5


def test_what_no_path_joins_is_merged_by_means():
    """Four groups without an edge between them, of which two lie near each other."""
    places = np.array([[0.0, 0], [100, 0], [103, 0], [0, 100]])
    kinds = np.repeat(np.arange(4), [9, 7, 5, 9])
    x = places[kinds] + 0.1 * RNG.normal(size=(30, 2))
    found = graph_merging.path_integral(x, 3, count=4)
    assert metrics.accuracy(np.array([0, 1, 1, 2])[kinds], found) == 1


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_as_few_samples_as_clusters(n):
    found = graph_merging.path_integral(RNG.normal(size=(n, 2)), 3)
    assert found.shape == (n,)
    assert len(set(found)) == min(n, 3) or n == 4


def test_samples_that_are_all_alike():
    assert set(graph_merging.path_integral(np.ones((12, 3)), 2, count=3)) <= {0, 1}


def test_bad_samples_are_refused():
    with pytest.raises(RunError, match="finite"):
        graph_merging.path_integral(np.full((9, 2), np.nan), 2)


def test_outliers_are_no_clusters():
    """Two samples far away take a place, and two blobs share one, unless so few are outliers."""
    far, kinds = outlying.blobs()
    x = far[:60]
    merged = graph_merging.path_integral(far, 3, 12)
    assert np.bincount(merged).min() == 2
    spared = graph_merging.path_integral(far, 3, 12, outlier_share=0.2)
    assert metrics.accuracy(kinds, spared[:60]) == 1
    means = [far[:60][spared[:60] == c].mean(axis=0) for c in range(3)]
    assert set(spared[60:]) == {np.linalg.norm(means - far[60], axis=1).argmin()}
    # Where the clusters are large enough nothing changes, nor where never so many are.
    for share in (0.2, 2.5):
        np.testing.assert_array_equal(
            graph_merging.path_integral(x, 3, 12, outlier_share=share),
            graph_merging.path_integral(x, 3, 12),
        )
