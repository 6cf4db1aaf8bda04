import itertools

import numpy as np
import pytest

from jaxclust import metrics


def test_accuracy_against_every_permutation():
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels, assignments = rng.integers(0, 4, 30), rng.integers(0, 4, 30)
        best = max(
            np.mean(np.array(permutation)[assignments] == labels)
            for permutation in itertools.permutations(range(4))
        )
        assert metrics.accuracy(labels, assignments) == pytest.approx(best)


def test_accuracy_with_other_numbers_of_clusters():
    assert metrics.accuracy([0, 0, 1, 1], [0, 1, 2, 2]) == 0.75
    assert metrics.accuracy([0, 1, 2, 3], [0, 0, 0, 0]) == 0.25
    assert metrics.accuracy([7, 7, 9], [100, 100, -3]) == 1


def test_nmi_against_its_definition():
    rng = np.random.default_rng(1)
    labels, assignments = rng.integers(0, 5, 200), rng.integers(0, 3, 200)
    joint = metrics.contingency(labels, assignments) / 200
    rows, columns = joint.sum(1), joint.sum(0)
    information = np.sum(joint * np.log(joint / np.outer(rows, columns)))
    h_rows, h_columns = (-np.sum(p * np.log(p)) for p in (rows, columns))
    assert metrics.nmi(labels, assignments) == pytest.approx(
        information / np.sqrt(h_rows * h_columns)
    )
    assert metrics.nmi(labels, assignments, "arithmetic") == pytest.approx(
        2 * information / (h_rows + h_columns)
    )


def test_scores_do_not_depend_on_names():
    rng = np.random.default_rng(2)
    labels, assignments = rng.integers(0, 4, 50), rng.integers(0, 4, 50)
    renamed = np.array([2, 0, 3, 1])[assignments]
    assert metrics.score(labels, assignments) == pytest.approx(metrics.score(labels, renamed))
    assert set(metrics.score(labels, labels).values()) == {1.0}


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="equally long"):
        metrics.accuracy([0, 1], [0])


def test_labels_below_zero_are_not_known():
    labels, assignments = np.array([0, 0, 1, 1, -1, -1]), np.array([1, 1, 0, 0, 1, 2])
    assert metrics.score(labels, assignments) == metrics.score(labels[:4], assignments[:4])
    assert metrics.contingency(labels, assignments).sum() == 4
    with pytest.raises(ValueError, match="none of the labels is known"):
        metrics.accuracy(np.array([-1, -1]), np.array([0, 1]))
    # Of names and of clusters nothing is left out.
    assert metrics.accuracy(np.array(["a", "b"]), np.array([-1, 0])) == 1
