"""Clusters of few samples in a bottom-up clustering, which stand for no kind of their own."""

import numpy as np


def by_first_sample(clusters: np.ndarray) -> np.ndarray:
    """The same clusters int [n], numbered by their first samples: int32 [n]."""
    _, begins, found = np.unique(clusters, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(begins))[found].astype(np.int32)


def set_apart(
    x: np.ndarray, first: np.ndarray, merges: list[tuple[int, int]], k: int, share: float
) -> np.ndarray | None:
    """Undo the last merges until k clusters are large enough; the others' samples join them.

    A few samples that are far from all others are merged last. By then two kinds may have become
    one.

    Args:
        x: samples, float [n, d].
        first: the clusters before all merges, int [n], 0 to m - 1.
        merges: pairs of clusters, in order; merge i makes cluster m + i.
        k: clusters wanted.
        share: clusters of fewer samples than this fraction of the mean, n / k, are outliers.

    Returns:
        clusters, int [n], as of the last merge after which k of them are no outliers; each
        outlier's samples are in the one whose mean is nearest. None if there is no such merge.
    """
    sizes = np.bincount(first).tolist()
    m, least = len(sizes), float(share * len(x) / k)
    stop = _merges_kept(sizes, merges, k, least)
    if stop is None:
        return None
    merged_into = np.arange(m + stop)
    for i in reversed(range(stop)):
        merged_into[list(merges[i])] = merged_into[m + i]
    clusters = np.unique(merged_into[first], return_inverse=True)[1]
    counts = np.bincount(clusters)
    sums = np.zeros((len(counts), x.shape[1]))
    np.add.at(sums, clusters, x)
    means, kept = sums / counts[:, None], np.flatnonzero(counts >= least)
    joins = np.arange(len(counts))
    for c in np.flatnonzero(counts < least):
        joins[c] = kept[np.square(means[kept] - means[c]).sum(axis=1).argmin()]
    return joins[clusters]


def _merges_kept(
    sizes: list[int], merges: list[tuple[int, int]], k: int, least: float
) -> int | None:
    """The most merges, from the first, after which k clusters have `least` samples."""
    sizes, large = list(sizes), sum(size >= least for size in sizes)
    kept = 0 if large == k else None
    for i, (a, b) in enumerate(merges):
        sizes.append(sizes[a] + sizes[b])
        large += (sizes[-1] >= least) - (sizes[a] >= least) - (sizes[b] >= least)
        if large == k:
            kept = i + 1
    return kept
