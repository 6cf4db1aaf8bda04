"""Samples with outliers, shared by the tests of bottom-up merging."""

import numpy as np


def blobs(apart: float = 2.5) -> tuple[np.ndarray, np.ndarray]:
    """Three blobs of 20 and, last, two samples far from them: float64 [62, 3], kinds int [60].

    Args:
        apart: distance of a blob's centre from zero; its deviation is 0.6.
    """
    rng, kinds = np.random.default_rng(0), np.arange(60) % 3
    x = apart * np.eye(3)[kinds] + 0.6 * rng.normal(size=(60, 3))
    return np.concatenate([x, [[-9, -9, 0], [-9.1, -9, 0]]]), kinds
