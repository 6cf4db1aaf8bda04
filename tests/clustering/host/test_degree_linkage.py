"""Graph degree linkage against dense matrices and every pair of clusters."""

import numpy as np
import pytest

from jaxclust import metrics
from jaxclust.clustering.host import degree_linkage as module
from jaxclust.clustering.host.degree_linkage import degree_linkage
from jaxclust.clustering.host.graph_merging import nearest_pairs, neighbour_graph
from tests.clustering import outlying

RNG = np.random.default_rng(0)


def blobs(n, k, apart):
    kinds = np.arange(n) % k
    return apart * RNG.normal(size=(k, 4))[kinds] + RNG.normal(size=(n, 4)), kinds


def merged_by_hand(x, clusters, down_to, count, local, many):
    weights = neighbour_graph(x, count).weights.toarray()
    groups = [list(np.flatnonzero(clusters == c)) for c in np.unique(clusters)]

    def affinity(a, b):
        there, back = weights[np.ix_(a, b)], weights[np.ix_(b, a)]
        return (there @ back).sum() / len(a) ** 2 + (back @ there).sum() / len(b) ** 2

    while len(groups) > down_to:
        table = np.array([[affinity(a, b) if a is not b else 0 for b in groups] for a in groups])
        order = -np.sort(-table, axis=1)
        scores = order[:, 0].copy()
        if len(groups) > many:
            near = order[:, 1:local]
            scores += (order[:, :1] - near).sum(axis=1) / (local - 1)
        a = int(scores.argmax())
        assert scores[a] > 0
        b = int(table[a].argmax())
        groups[min(a, b)] = groups[a] + groups[b]
        groups.pop(max(a, b))
    found = np.empty(len(x), int)
    for i, rows in enumerate(groups):
        found[rows] = i
    return found


@pytest.mark.parametrize("many", [100, 4])
@pytest.mark.parametrize("apart", [1.0, 4.0])
def test_merges_are_those_of_every_pair_by_dense_matrices(monkeypatch, many, apart):
    monkeypatch.setattr(module, "_MANY", many)
    x, _ = blobs(70, 5, apart)
    first = nearest_pairs(neighbour_graph(x, 10).nearest)
    for down_to in (first.max() - 3, 8, 5):
        expected = merged_by_hand(x, first, down_to, 10, 5, many)
        found = degree_linkage(x, first, down_to, 10)
        assert metrics.accuracy(expected, found) == 1
        assert len(np.unique(found)) == down_to


def test_going_on_from_where_it_stopped_is_the_same():
    x, _ = blobs(60, 4, 3.0)
    first = np.arange(60)
    whole = degree_linkage(x, first, 6, 8)
    halfway = degree_linkage(x, first, 20, 8)
    assert metrics.accuracy(whole, degree_linkage(x, halfway, 6, 8)) == 1


def test_groups_that_nothing_links_are_merged_by_their_means():
    places = np.array([[0.0, 0], [100, 0], [103, 0], [0, 100]])
    kinds = np.repeat(np.arange(4), [9, 7, 5, 9])
    x = places[kinds] + 0.1 * RNG.normal(size=(30, 2))
    found = degree_linkage(x, kinds, 3, count=3)
    assert metrics.accuracy(np.array([0, 1, 1, 2])[kinds], found) == 1


def joined_by_hand(x, clusters, count):
    """Each cluster that no path of two edges leaves and re-enters goes to the nearest mean."""
    weights = neighbour_graph(x, count).weights.toarray()
    found = clusters.copy()
    for c in np.unique(clusters):
        inside, outside = found == c, found != c
        there = weights[np.ix_(inside, outside)] @ weights[np.ix_(outside, inside)]
        if not there.any():
            names = [d for d in np.unique(found) if d != c]
            far = [np.linalg.norm(x[found == d].mean(0) - x[inside].mean(0)) for d in names]
            found[inside] = names[int(np.argmin(far))]
    return found


def test_with_many_clusters_outliers_are_merged_first():
    rng, kinds = np.random.default_rng(1), np.arange(80) % 3
    x = 1.5 * rng.normal(size=(3, 4))[kinds] + rng.normal(size=(80, 4))
    # Two pairs far from all else, which overlaps.
    for kind, rows in ((0, (0, 3)), (1, (1, 4))):
        centre = x[kinds == kind].mean(axis=0)
        beyond = centre + 15 * centre / np.linalg.norm(centre)
        x[list(rows)] = beyond + 0.01 * rng.normal(size=(2, 4))
    first = nearest_pairs(neighbour_graph(x, 8).nearest)
    many = first.max()
    expected = degree_linkage(x, joined_by_hand(x, first, 8), 3, 8)
    found = degree_linkage(x, first, 3, 8, join_above=many)
    assert metrics.accuracy(expected, found) == 1
    assert min(np.bincount(found)) > 2
    # As the paper has it, each pair stays a cluster.
    assert min(np.bincount(degree_linkage(x, first, 3, 8))) == 2
    assert min(np.bincount(degree_linkage(x, first, 3, 8, join_above=many + 1))) == 2


def test_outliers_are_no_clusters():
    """Merges taken back by hand until three clusters are large enough."""
    far, kinds = outlying.blobs()
    x = far[:60]
    first = nearest_pairs(neighbour_graph(far, 12).nearest)
    merged = degree_linkage(far, first, 3, 12)
    assert np.bincount(merged).min() == 2
    before = degree_linkage(far, first, 4, 12)
    sizes = np.bincount(before)
    assert sum(sizes >= 4) == 3
    means = np.stack([far[before == c].mean(axis=0) for c in range(4)])
    small, large = int(sizes.argmin()), np.flatnonzero(sizes >= 4)
    expected = before.copy()
    gaps = np.linalg.norm(means[large] - means[small], axis=1)
    expected[before == small] = large[gaps.argmin()]
    spared = degree_linkage(far, first, 3, 12, outlier_share=0.2)
    assert metrics.accuracy(expected, spared) == 1
    assert metrics.accuracy(kinds, spared[:60]) > 0.9
    # Where the clusters are large enough nothing changes, nor where never so many are.
    near = nearest_pairs(neighbour_graph(x, 12).nearest)
    for share in (0.2, 2.5):
        np.testing.assert_array_equal(
            degree_linkage(x, near, 3, 12, outlier_share=share), degree_linkage(x, near, 3, 12)
        )


def test_the_very_first_merge_may_be_the_one_taken_back():
    far, kinds = outlying.blobs(apart=1.5)
    first = np.append(kinds, [3, 3])
    assert np.bincount(degree_linkage(far, first, 3, 12)).min() == 2
    spared = degree_linkage(far, first, 3, 12, outlier_share=0.2)
    np.testing.assert_array_equal(spared[:60], kinds)


def test_numbers_follow_the_first_samples():
    x, _ = blobs(30, 3, 8.0)
    found = degree_linkage(x, np.arange(30)[::-1], 3, 5)
    assert list(dict.fromkeys(found.tolist())) == [0, 1, 2]
