"""Agreement of a clustering with known classes: ACC, NMI, ARI. For evaluation only.

Labels below 0 stand for unknown classes: those samples do not count.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike


def known(labels: ArrayLike, assignments: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The known labels [m] (0 or more, or not numbers) and their assignments [m].

    Args:
        labels: [n], true classes.
        assignments: int [n], clusters.

    Raises:
        ValueError: none is known.
    """
    labels, assignments = np.asarray(labels), np.asarray(assignments)
    if labels.dtype.kind not in "if" or labels.shape != assignments.shape or (labels >= 0).all():
        return labels, assignments
    if not (labels >= 0).any():
        raise ValueError("none of the labels is known: all are below 0")
    return labels[labels >= 0], assignments[labels >= 0]


def contingency(labels: ArrayLike, assignments: ArrayLike) -> np.ndarray:
    """Counts int64 [classes, clusters] of every pair of (distinct) label and cluster."""
    labels, assignments = np.asarray(labels).ravel(), np.asarray(assignments).ravel()
    if labels.shape != assignments.shape or not labels.size:
        raise ValueError(
            f"labels {labels.shape} and assignments {assignments.shape} must be equally "
            "long and not empty"
        )
    labels, assignments = known(labels, assignments)
    rows, row = np.unique(labels, return_inverse=True)
    columns, column = np.unique(assignments, return_inverse=True)
    table = np.zeros((rows.size, columns.size), np.int64)
    np.add.at(table, (row, column), 1)
    return table


def accuracy(labels: ArrayLike, assignments: ArrayLike) -> float:
    """ACC: fraction of samples right under the best one-to-one map of clusters to classes.

    The map is found by the Hungarian method; surplus clusters or classes stay
    unmatched.

    Args:
        labels: int [n], true classes.
        assignments: int [n], clusters.

    Returns:
        float in (0, 1].
    """
    from scipy.optimize import linear_sum_assignment

    table = contingency(labels, assignments)
    row, column = linear_sum_assignment(table, maximize=True)
    return float(table[row, column].sum() / table.sum())


def nmi(
    labels: ArrayLike,
    assignments: ArrayLike,
    average: Literal["geometric", "arithmetic"] = "geometric",
) -> float:
    """Normalised mutual information, I / sqrt(H H) (Hsu & Lin 2017, Eq. 15).

    Args:
        labels: int [n], true classes.
        assignments: int [n], clusters.
        average: 'geometric' (CCNN's) or 'arithmetic' (DAC's and scikit-learn's
            default) mean of the two entropies.

    Returns:
        float in [0, 1].
    """
    from sklearn.metrics import normalized_mutual_info_score

    labels, assignments = known(labels, assignments)
    return float(normalized_mutual_info_score(labels, assignments, average_method=average))


def adjusted_rand(labels: ArrayLike, assignments: ArrayLike) -> float:
    """Adjusted Rand index of labels int [n] and assignments int [n]; 0 is chance."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(*known(labels, assignments)))


SCORES = ("nmi", "nmi_arithmetic", "ari", "acc")
"""Names of what :func:`score` gives."""


def score(labels: ArrayLike, assignments: ArrayLike) -> dict[str, float]:
    """All of them: `nmi` (geometric), `nmi_arithmetic`, `ari`, `acc`."""
    values = (
        nmi(labels, assignments),
        nmi(labels, assignments, "arithmetic"),
        adjusted_rand(labels, assignments),
        accuracy(labels, assignments),
    )
    return dict(zip(SCORES, values, strict=True))
