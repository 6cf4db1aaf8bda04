"""How well a linear classifier learns clusters from some images and predicts the others'."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxclust.core.rows import evenly_spread

# Of larger sets, this many images are used.
MOST = 2000
_FOLDS = 10


def cross_validated(x: Any, assignments: ArrayLike) -> float | None:
    """Ten-fold cross-validation of a logistic regression on clusters, in place of labels.

    Clusters that follow what the features hold are learned easily; random ones are not. It compares
    clusterings of the same images with different numbers of clusters, encoders or seeds (Gadetsky
    et al. 2024, Sec. 4); at most 2,000 images are used.

    Args:
        x: features, float [n, d], an array or a `types.Source`.
        assignments: int [n].

    Returns:
        Fraction in [0, 1] of the images whose cluster a classifier trained on the other folds
        predicts; None for a single cluster or fewer than 20 images.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold

    rows = evenly_spread(len(np.asarray(assignments)), MOST)
    values = np.asarray(x[rows], np.float64)
    names = np.asarray(assignments)[rows]
    if len(rows) < 2 * _FOLDS or len(np.unique(names)) < 2:
        return None
    # One scale for all values, so that distances keep their proportions.
    values -= values.mean(axis=0)
    values /= max(float(values.std()), 1e-12)
    found = np.empty_like(names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for known, new in KFold(_FOLDS, shuffle=True, random_state=0).split(values):
            if len(np.unique(names[known])) == 1:  # the others' few images are all in this fold
                found[new] = names[known][0]
                continue
            classifier = LogisticRegression(max_iter=100).fit(values[known], names[known])
            found[new] = classifier.predict(values[new])
    return float(np.mean(found == names))
