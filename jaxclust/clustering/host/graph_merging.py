"""Bottom-up merging of a graph of nearest neighbours; its memory grows with the edges.

Agglomerative clustering by path integrals (Zhang, Zhao & Wang 2013, "Agglomerative clustering via
maximum incremental path integral"): two clusters are merged where most short paths that leave
one through the other come back.
"""

import heapq
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxclust.clustering import neighbours
from jaxclust.clustering.host import samples
from jaxclust.clustering.host.outliers import by_first_sample, set_apart
from jaxclust.core import device

# A sample whose nearest neighbour weighs less is connected to nothing.
_LEAST_WEIGHT = 1e-5
# Paths are counted until those of one more step add less than this fraction.
_PRECISION, _LONGEST = 1e-13, 1000


class Graph(NamedTuple):
    """Samples and their nearest neighbours."""

    weights: Any  # scipy CSR [n, n]: of the edges from each sample to its neighbours
    nearest: np.ndarray  # int [n]: each sample's nearest other


def neighbour_graph(x: np.ndarray, count: int, scale: float = 1.0) -> Graph:
    """Edges from each of x[n, d] to its nearest others, weighing exp(-distance^2 / sigma^2).

    sigma^2 is the mean squared length of the edges times a scale, doubled until every sample has an
    edge with some weight (Zhang et al. 2013, Sec. 3).

    Args:
        x: samples, float [n, d], n of 2 or more.
        count: neighbours of each; with fewer samples, all others.
        scale: a of the paper.
    """
    from scipy.sparse import csr_array

    x = np.asarray(x, np.float32)
    n, count = len(x), min(count, len(x) - 1)
    find = device.jit(neighbours.nearest_others, static_argnums=1)
    rows = np.asarray(find(jnp.asarray(x), count))
    squares = np.stack(
        [np.square(x[rows[:, i]] - x).sum(axis=1, dtype=np.float64) for i in range(count)], axis=1
    )
    order = np.argsort(squares, axis=1, kind="stable")
    rows, squares = (np.take_along_axis(a, order, axis=1) for a in (rows, squares))
    width = max(scale * squares.mean(), np.finfo(np.float64).tiny)
    while (np.exp(-squares[:, 0] / width) < _LEAST_WEIGHT).any():
        width *= 2
    starts = np.arange(0, n * count + 1, count)
    weights = csr_array((np.exp(-squares / width).ravel(), rows.ravel(), starts), shape=(n, n))
    return Graph(weights, rows[:, 0])


def nearest_pairs(nearest: np.ndarray) -> np.ndarray:
    """Clusters int [n] of samples that are joined to their nearest ones, int [n]."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(nearest)
    joined = coo_array((np.ones(n), (np.arange(n), nearest)), shape=(n, n))
    return connected_components(joined, directed=False)[1]


def path_integral(
    x: np.ndarray,
    k: int,
    count: int = 20,
    scale: float = 1.0,
    z: float = 0.01,
    outlier_share: float = 0.0,
) -> np.ndarray:
    """Clusters of x[n, d] by path integrals (Zhang et al. 2013).

    The paper has no rule for when no path joins any two of the clusters that are left: then the
    smallest is merged with the one whose mean is nearest.

    Args:
        x: samples, float [n, d].
        k: clusters; with so few samples or first clusters, there may be fewer.
        count: neighbours of each sample.
        scale: a of :func:`neighbour_graph`.
        z: factor by which each further step discounts a path, in (0, 1).
        outlier_share: clusters of fewer samples than this fraction of n / k are outliers. The last
            merges are undone until k others are left, and each outlier joins the one whose mean is
            nearest; if there never were k, nothing changes. Not in the paper; 0: no outliers.

    Returns:
        assignments, int32 [n].

    Raises:
        RunError: samples that are not finite.
    """
    samples.check_finite(x, "images")
    if len(x) <= k:
        return np.arange(len(x), dtype=np.int32)
    graph = neighbour_graph(x, count, scale)
    merging = _Merging(np.asarray(x), graph, z)
    merging.down_to(k)
    apart = set_apart(merging.x, merging.first, merging.merges, k, outlier_share)
    return by_first_sample(merging.assignments() if apart is None else apart)


def transitions(weights: Any) -> Any:
    """Transitions of a walk that stays in place with weight one: CSR [n, n], rows sum to one."""
    from scipy.sparse import csr_array, diags_array, eye_array

    whole = weights + eye_array(weights.shape[0])
    return csr_array(diags_array(1 / whole.sum(axis=1)) @ whole)


def nearest_by_mean(of: int, among: Iterable[int], mean: Callable[[int], np.ndarray]) -> int:
    """The cluster whose mean is nearest, for one that the graph joins to none."""
    own = mean(of)
    return min(among, key=lambda c: (float(np.square(mean(c) - own).sum()), c))


class _Merging:
    """Clusters that are merged two by two; their numbers are never reused."""

    def __init__(self, x: np.ndarray, graph: Graph, z: float) -> None:
        self.x, self.z, self.walk = x, z, transitions(graph.weights)
        first = nearest_pairs(graph.nearest)
        order = np.argsort(first, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(first))[:-1])
        self.first, self.merges = first, list[tuple[int, int]]()
        self.members: dict[int, np.ndarray] = dict(enumerate(parts))
        self.sums = {c: x[rows].sum(axis=0, dtype=np.float64) for c, rows in self.members.items()}
        self.integrals = {c: self._integral(rows) for c, rows in self.members.items()}
        self.joined: dict[int, set[int]] = {c: set() for c in self.members}
        edges = graph.weights.tocoo()
        for a, b in {*zip(first[edges.row].tolist(), first[edges.col].tolist(), strict=True)}:
            if a != b:
                self.joined[a].add(b)
                self.joined[b].add(a)
        self.heap: list[tuple[float, int, int]] = []
        for a, others in self.joined.items():
            for b in sorted(others):
                if a < b:
                    self._push(a, b)
        self.next = len(self.members)

    def down_to(self, k: int) -> None:
        """Merge until k clusters are left."""
        while len(self.members) > k:
            self._merge(*(self._best() or self._nearest()))

    def assignments(self) -> np.ndarray:
        """Each sample's cluster, int32 [n]."""
        found = np.empty(len(self.x), np.int32)
        for c, rows in self.members.items():
            found[rows] = c
        return found

    def _paths(self, rows: np.ndarray, source: np.ndarray) -> np.ndarray:
        """sum over l of (zP)^l source, of the walk P within some samples: [m, c] -> [m, c]."""
        inner = self.z * self.walk[rows][:, rows]
        total = term = source
        for _ in range(_LONGEST):
            term = inner @ term
            total = total + term
            if term.max(initial=0) <= _PRECISION * total.max(initial=0):
                break
        return total

    def _integral(self, rows: np.ndarray) -> np.ndarray:
        """For each sample, all paths from it within the cluster: float [m]."""
        return self._paths(rows, np.ones((len(rows), 1)))[:, 0]

    def _affinity(self, a: int, b: int) -> float:
        """What the paths of each cluster gain from the other (Eq. 9)."""
        one, two = len(self.members[a]), len(self.members[b])
        rows = np.concatenate([self.members[a], self.members[b]])
        alone = np.zeros((one + two, 2))
        alone[:one, 0], alone[one:, 1] = self.integrals[a], self.integrals[b]
        # What leaves for the other cluster; summed directly, the gain is not a difference of
        # numbers that are nearly the same.
        left = self.z * (self.walk[rows][:, rows] @ alone)
        left[:one, 0] = left[one:, 1] = 0
        gained = self._paths(rows, left)
        return gained[:one, 0].sum() / one**2 + gained[one:, 1].sum() / two**2

    def _push(self, a: int, b: int) -> None:
        affinity = self._affinity(a, b)
        if affinity > 0:
            heapq.heappush(self.heap, (-affinity, a, b))

    def _best(self) -> tuple[int, int] | None:
        """The two clusters with the largest affinity; None if no paths join any."""
        while self.heap:
            _, a, b = heapq.heappop(self.heap)
            if a in self.members and b in self.members:
                return a, b
        return None

    def _nearest(self) -> tuple[int, int]:
        """The smallest cluster and the one whose mean is nearest."""
        a = min(self.members, key=lambda c: (len(self.members[c]), c))
        others = [c for c in self.members if c != a]
        return a, nearest_by_mean(a, others, lambda c: self.sums[c] / len(self.members[c]))

    def _merge(self, a: int, b: int) -> None:
        new, self.next = self.next, self.next + 1
        self.merges.append((a, b))
        rows = np.concatenate([self.members.pop(a), self.members.pop(b)])
        self.members[new], self.integrals[new] = rows, self._integral(rows)
        self.sums[new] = self.sums.pop(a) + self.sums.pop(b)
        del self.integrals[a], self.integrals[b]
        self.joined[new] = (self.joined.pop(a) | self.joined.pop(b)) - {a, b}
        for other in sorted(self.joined[new]):
            self.joined[other] -= {a, b}
            self.joined[other].add(new)
            self._push(other, new)
