"""A vision transformer's position tables, on a different grid from the trained one."""

import numpy as np


def resampled(
    table: np.ndarray, grid: int, *, antialias: bool, scale: float | None = None
) -> np.ndarray:
    """A position table [m * m, d] on another grid, bicubically as in PyTorch: [grid^2, d].

    Args:
        table: of a square of positions.
        grid: positions per side of the result.
        antialias: PyTorch's two ways differ in kernel (Keys' -0.5 with, -0.75 without) and at
            the edges.
        scale: how much larger the result is taken to be; default grid / m.
    """
    m = round(len(table) ** 0.5)
    if m == grid and scale is None:
        return table
    rows = _bicubic(m, grid, antialias, scale or grid / m)
    square = table.reshape(m, m, -1).astype(np.float64)
    found = np.einsum("ij,kl,jld->ikd", rows, rows, square)
    return found.reshape(grid * grid, -1).astype(np.float32)


def _bicubic(m: int, n: int, antialias: bool, scale: float) -> np.ndarray:
    """Weights [n, m] of m values in n; see :func:`resampled`."""
    a = -0.5 if antialias else -0.75
    stretch = max(1.0, 1 / scale) if antialias else 1.0

    def kernel(t: np.ndarray) -> np.ndarray:
        t = np.abs(t)
        near = (a + 2) * t**3 - (a + 3) * t**2 + 1
        far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
        return np.where(t < 1, near, np.where(t < 2, far, 0.0))

    weights = np.zeros((n, m))
    for i in range(n):
        centre = (i + 0.5) / scale - 0.5
        if antialias:
            weights[i] = kernel((np.arange(m) - centre) / stretch)
            weights[i] /= weights[i].sum()
        else:
            for j in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
                weights[i, min(max(j, 0), m - 1)] += kernel(np.asarray(j - centre))
    return weights
