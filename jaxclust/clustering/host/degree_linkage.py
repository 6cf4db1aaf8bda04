"""Bottom-up merging by graph degrees (Zhang, Wang, Zhao & Tang 2012), as JULE has it.

The affinity of two clusters is what the edges from one carry into the other and back. JULE (Yang,
Parikh & Batra 2016, Sec. 3.3) merges where it stands out from those of the next nearest clusters.
"""

from collections import defaultdict

import numpy as np

from jaxclust.clustering.host import samples
from jaxclust.clustering.host.graph_merging import Graph, nearest_by_mean, neighbour_graph
from jaxclust.clustering.host.outliers import by_first_sample, set_apart

# From this many clusters on, the next nearest count too.
_MANY = 100


def degree_linkage(
    x: np.ndarray,
    clusters: np.ndarray,
    down_to: int,
    count: int = 20,
    local: int = 5,
    graph: Graph | None = None,
    join_above: float = np.inf,
    outlier_share: float = 0.0,
) -> np.ndarray:
    """Merge clusters until `down_to` are left.

    The affinity of a and b is `1_a^T W_ab W_ba 1_a / |a|^2 + 1_b^T W_ba W_ab 1_b / |b|^2`, W the
    weights of the nearest-neighbour graph. The paper has no rule for a cluster without affinity to
    any other. With over 20 k clusters, k wanted in the end, its code first merges such a one with
    the nearest mean; here that is also done where no pair has any affinity.

    Args:
        x: samples, float [n, d].
        clusters: initial clusters, int [n].
        down_to: number of clusters left; at least 1.
        count: neighbours of each sample (K_s).
        local: number of nearest clusters that a pair's affinity should stand out from (K_c).
        graph: the samples' :func:`neighbour_graph`, if available.
        join_above: with more clusters, those without affinity are merged first.
        outlier_share: see :func:`graph_merging.path_integral`.

    Returns:
        assignments, int32 [n], in the order of the clusters' first samples.

    Raises:
        RunError: samples that are not finite.
    """
    samples.check_finite(x, "features")
    first = np.unique(clusters, return_inverse=True)[1]
    if first.max() + 1 > down_to:
        linking = _Linking(np.asarray(x), first, graph or neighbour_graph(x, count), local)
        first = linking.down_to(down_to, join_above, outlier_share)
    return by_first_sample(first)


class _Linking:
    """Clusters, what the graph carries between them, and how much each pair stands out."""

    def __init__(self, x: np.ndarray, clusters: np.ndarray, graph: Graph, local: int) -> None:
        from scipy.sparse import csr_array

        self.x, self.first, self.of, self.local = x, clusters, clusters.copy(), local
        k = int(clusters.max()) + 1
        self.alive = set(range(k))
        # Pairs that were merged; merge i makes what `numbers` calls k + i.
        self.merges, self.numbers = list[tuple[int, int]](), list(range(k))
        self.sizes = np.bincount(clusters).astype(np.float64)
        self.sums = np.zeros((k, x.shape[1]))
        np.add.at(self.sums, clusters, x)
        weights = graph.weights
        member = csr_array((np.ones(len(x)), (clusters, np.arange(len(x)))), shape=(k, len(x)))
        # What each cluster's edges carry to every sample, and what every sample's carry to it.
        self.out, self.back = _rows(member @ weights), _rows(member @ weights.T)
        # c -> {d: 1_c^T W_cd W_dc 1_c}, and for each d the c that have it.
        self.carried: list[dict[int, float]] = [{} for _ in range(k)]
        self.into: list[set[int]] = [set() for _ in range(k)]
        for c in range(k):
            self._carry(c)
        self.scores = np.array([self._score(c)[0] for c in range(k)])

    def down_to(self, k: int, join_above: float, outlier_share: float) -> np.ndarray:
        """Merge until k clusters are left, outliers set apart; int [n]."""
        if len(self.alive) > join_above:
            self.join_isolated(k)
        while len(self.alive) > k:
            self.merge(*self.best())
        apart = set_apart(self.x, self.first, self.merges, k, outlier_share)
        return self.of if apart is None else apart

    def best(self) -> tuple[int, int]:
        """The cluster whose best affinity stands out most, and the other of the pair."""
        a = int(np.argmax(self.scores))
        if self.scores[a] > 0:
            return a, self._score(a)[1]
        a = min(self.alive, key=lambda c: (self.sizes[c], c))
        return a, self._nearest(a)

    def join_isolated(self, down_to: int) -> None:
        """Merge every cluster without affinity with the one whose mean is nearest."""
        for c in sorted(self.alive):
            isolated = not self.carried[c] and not self.into[c]
            if c in self.alive and isolated and len(self.alive) > down_to:
                self.merge(c, self._nearest(c))

    def _nearest(self, c: int) -> int:
        """The other cluster whose mean is nearest."""
        return nearest_by_mean(c, self.alive - {c}, lambda d: self.sums[d] / self.sizes[d])

    def merge(self, a: int, b: int) -> None:
        """Make one cluster of two, under the larger one's number."""
        if self.sizes[a] < self.sizes[b]:
            a, b = b, a
        self.merges.append((self.numbers[a], self.numbers[b]))
        self.numbers[a] = len(self.numbers) + len(self.merges) - 1
        touched = {*self.carried[a], *self.carried[b], *self.into[a], *self.into[b]} - {a, b}
        for flow in (self.out, self.back):
            for sample, weight in flow[b].items():
                flow[a][sample] += weight
            flow[b].clear()
        self.of[self.of == b] = a
        self.alive.remove(b)
        self.sizes[a] += self.sizes[b]
        self.sums[a] += self.sums[b]
        self.scores[b] = -np.inf
        for c in (a, b):
            for d in self.carried[c]:
                self.into[d].discard(c)
            self.carried[c] = {}
        # What others carry into the two adds up.
        for d in self.into[b] - {a}:
            self.carried[d][a] = self.carried[d].get(a, 0.0) + self.carried[d].pop(b)
            self.into[a].add(d)
        self.into[a] -= {a, b}
        self.into[b] = set()
        self._carry(a)
        for c in (touched | {*self.carried[a], a}) & self.alive:
            self.scores[c] = self._score(c)[0]

    def _carry(self, c: int) -> None:
        """What the cluster carries into every other one and back."""
        out, back, found = self.out[c], self.back[c], defaultdict(float)
        for sample in out.keys() & back.keys():
            found[int(self.of[sample])] += out[sample] * back[sample]
        found.pop(c, None)
        self.carried[c] = dict(found)
        for d in found:
            self.into[d].add(c)

    def _score(self, c: int) -> tuple[float, int]:
        """How far the best affinity of a cluster stands out, and whose it is."""
        affinities = [
            (
                self.carried[c].get(d, 0.0) / self.sizes[c] ** 2
                + self.carried[d].get(c, 0.0) / self.sizes[d] ** 2,
                -d,
            )
            for d in {*self.carried[c], *self.into[c]}
        ]
        if not affinities:
            return 0.0, -1
        affinities.sort(reverse=True)
        best, other = affinities[0]
        if len(self.alive) > _MANY and self.local > 1:
            # Clusters beyond those that are linked have no affinity.
            near = [value for value, _ in affinities[1 : self.local]]
            near += [0.0] * (self.local - 1 - len(near))
            best += sum(best - value for value in near) / (self.local - 1)
        return best, -other


def _rows(matrix: object) -> list[defaultdict[int, float]]:
    """A sparse matrix's rows by column."""
    found = matrix.tocsr()  # pyright: ignore[reportAttributeAccessIssue]
    parts = zip(found.indptr[:-1], found.indptr[1:], strict=True)
    return [
        defaultdict(
            float,
            zip(found.indices[i:j].tolist(), found.data[i:j].tolist(), strict=True),
        )
        for i, j in parts
    ]
