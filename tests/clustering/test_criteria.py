"""Label-free criteria against their definitions, one image after the other."""

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from jaxclust.clustering import criteria

RNG = np.random.default_rng(0)


def test_confidence_is_the_mean_of_the_largest_probabilities():
    assert criteria.confidence([[0.9, 0.1], [0.3, 0.7]]) == pytest.approx(0.8)


def test_evenness_is_one_for_even_clusters_and_zero_for_a_single_one():
    assert criteria.evenness([0, 1, 2, 0, 1, 2], 3) == pytest.approx(1)
    assert criteria.evenness([1, 1, 1], 3) == 0
    p = np.array([5, 3, 2]) / 10
    expected = -(p * np.log(p)).sum() / np.log(4)
    assert criteria.evenness([0] * 5 + [1] * 3 + [3] * 2, 4) == pytest.approx(expected)


def test_silhouette_against_a_loop():
    features, assignments = RNG.normal(size=(40, 3)), RNG.integers(0, 4, 40)
    features[assignments == 2] += 5
    means = {c: features[assignments == c].mean(axis=0) for c in set(assignments)}
    values = []
    for x, c in zip(features, assignments, strict=True):
        a = np.linalg.norm(x - means[c])
        b = min(np.linalg.norm(x - mean) for other, mean in means.items() if other != c)
        values.append((b - a) / max(a, b))
    assert criteria.silhouette(features, assignments) == pytest.approx(np.mean(values))
    # Which numbers clusters have, and whether some are empty, does not matter.
    found = criteria.silhouette(features, assignments * 7)
    assert found == pytest.approx(np.mean(values))


def test_silhouette_of_what_has_none():
    assert criteria.silhouette(np.ones((5, 2)), np.zeros(5, int)) == 0
    assert criteria.silhouette(np.ones((4, 2)), [0, 0, 1, 1]) == 0


def test_silhouette_is_higher_the_farther_clusters_lie_apart():
    kinds = np.arange(60) % 3
    noise = RNG.normal(size=(60, 3))
    found = [criteria.silhouette(noise + gap * np.eye(3)[kinds], kinds) for gap in (1, 4, 20)]
    assert found == sorted(found)
    assert found[-1] > 0.85


def test_agreement_counts_equal_clusters():
    assert criteria.agreement([0, 1, 2, 2], [0, 1, 1, 2]) == 0.75


def test_consensus_is_the_mean_nmi_with_the_others():
    found = [RNG.integers(0, 3, 50) for _ in range(3)]

    def nmi(i, j):
        return normalized_mutual_info_score(found[i], found[j], average_method="geometric")

    expected = [
        (nmi(0, 1) + nmi(0, 2)) / 2,
        (nmi(1, 0) + nmi(1, 2)) / 2,
        (nmi(2, 0) + nmi(2, 1)) / 2,
    ]
    np.testing.assert_allclose(criteria.consensus(found), expected)
    assert criteria.consensus(found[:1]) == [1.0]


def test_ranks_are_averaged_and_ties_decide_nothing():
    columns = [[3.0, 1.0, 2.0], [0.5, 0.5, 0.5], [10.0, 20.0, 30.0]]
    np.testing.assert_allclose(criteria.mean_ranks(columns), [1.0, 2 / 3, 4 / 3])
