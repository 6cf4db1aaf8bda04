"""Scores of a clustering with more or fewer clusters than were asked for."""

import numpy as np
import pytest

from jaxclust.core.types import Prediction
from jaxclust.runs.scoring import scores


def predicted(assignments):
    assignments = np.asarray(assignments, np.int32)
    n = len(assignments)
    return Prediction(assignments, np.ones((n, 1)), np.ones((n, 1)), {"own": assignments})


@pytest.mark.parametrize(
    ("assignments", "empty", "largest"),
    [([0, 0, 1, 2], 0, 0.5), ([0, 0, 0, 2], 1, 0.75), ([0, 1, 5, 5, 5, 4, 3, 2], 0, 3 / 8)],
)
def test_every_cluster_found_counts(assignments, empty, largest):
    """Three are asked for; those that density finds may be more."""
    found = scores(predicted(assignments), None, 3)
    assert found["empty_clusters"] == empty
    assert found["largest_share"] == pytest.approx(largest)
    shares = np.bincount(assignments) / len(assignments)
    shares = shares[shares > 0]
    clusters = max(3, max(assignments) + 1)
    entropy = -(shares * np.log(shares)).sum() / np.log(clusters)
    assert found["assignment_entropy"] == pytest.approx(entropy, rel=1e-5)
