"""How long does t-SNE take on as many latents as MNIST has images?

    python benchmarks/tsne.py [--n 70000] [--reducer tsne]

Latents like DERC's: ten Gaussian clusters in ten dimensions. What is timed is DERC's own stage,
`embedding.reduce`, which says how far it is every 50 iterations; `tsne` is openTSNE where it is
installed, `tsne_exact` the exact one in JAX, for accelerators. Also printed: how many of a sample's
ten nearest neighbours the map keeps, over 1,000 samples.
"""

import argparse
import logging
import time

import jax
import measuring
import numpy as np
from sklearn.neighbors import NearestNeighbors

from jaxclust.clustering.host import reducers

CLUSTERS, DIMENSIONS, NEIGHBOURS, ASKED = 10, 10, 10, 1000


def latents(n: int) -> np.ndarray:
    """float32 [n, DIMENSIONS]."""
    rng = np.random.default_rng(0)
    centres = 4 * rng.normal(size=(CLUSTERS, DIMENSIONS))
    return (centres[np.arange(n) % CLUSTERS] + rng.normal(size=(n, DIMENSIONS))).astype(np.float32)


def kept_neighbours(x: np.ndarray, y: np.ndarray) -> float:
    """Mean share of nearest neighbours in x that are nearest in y too."""
    asked = np.random.default_rng(1).choice(len(x), min(ASKED, len(x)), replace=False)

    def near(points: np.ndarray) -> np.ndarray:
        search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(points)
        return search.kneighbors(points[asked], return_distance=False)[:, 1:]

    pairs = zip(near(x), near(y), strict=True)
    return float(np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in pairs]))


def main() -> None:
    """Measure, print, write benchmarks/results/."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=70_000)
    parser.add_argument("--reducer", choices=["tsne", "tsne_exact"], default="tsne")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    reducers.progress.setLevel(logging.INFO)
    x = latents(options.n)
    started = time.perf_counter()
    y = reducers.reduce(x, options.reducer, seed=0)
    seconds = time.perf_counter() - started
    report = {
        "benchmark": "tsne",
        "reducer": options.reducer,
        "n": options.n,
        "seconds": round(seconds, 1),
        "kept_neighbours": round(kept_neighbours(x, y), 3),
        "machine": measuring.machine(["jax", "openTSNE", "scikit-learn", "numpy"]),
    }
    print(report)
    name = f"{options.reducer}-n{options.n}-{jax.default_backend()}"
    print(f"written: {measuring.write(name, report)}")


if __name__ == "__main__":
    main()
