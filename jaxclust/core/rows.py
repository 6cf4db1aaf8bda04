"""Rows of a data set, by number."""

import numpy as np


def evenly_spread(n: int, count: int) -> np.ndarray:
    """Rows int [count] of n, spread evenly over their order; all of them if there are fewer."""
    count = min(count, n)
    return np.arange(count) * n // count
