"""How fast is k-means on the device, against scikit-learn and faiss?

    python benchmarks/kmeans.py                        # N = 1,000,000 for two of three
    python benchmarks/kmeans.py --n 100000 --d 128 --k 256

Three things: one mini-batch step (MiniBatchKMeans.partial_fit), the assignment of all
rows (faiss' flat index), and Lloyd's iterations on `--lloyd-n` rows from the same
seeds (KMeans, n_init=1), to the same number of iterations. Data: a mixture of k
Gaussians (`--spread` times as wide as their centres lie apart), float32. Both sides must reach the
same assignments except for near-ties, and the same inertia to 1e-3.

scikit-learn and faiss-cpu run on the CPU: on another device there is no ratio, and `--sides jax`
measures only this side.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import measuring
import numpy as np


def mixture(options: argparse.Namespace) -> np.ndarray:
    """Rows float32 [n, d], drawn in blocks so that float64 never holds them all."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(options.k, options.d)).astype(np.float32)
    x = np.empty((options.n, options.d), np.float32)
    for start in range(0, options.n, 50_000):
        part = x[start : start + 50_000]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
        part *= options.spread
        part += centres[rng.integers(0, options.k, len(part))]
    return x


def jax_side(options: argparse.Namespace) -> dict[str, Any]:
    """The project's k-means."""
    import jax
    import jax.numpy as jnp

    from jaxclust.clustering import kmeans
    from jaxclust.core import device

    given = np.load(f"{options.exchange}/x.npy", mmap_mode="r")
    x, seeds = jnp.asarray(given), jnp.asarray(given[: options.k])
    batches = options.n // options.batch

    def step(x: jax.Array, state: kmeans.KMeansState, i: jax.Array) -> kmeans.KMeansState:
        start = (i % batches) * options.batch
        part = jax.lax.dynamic_slice_in_dim(x, start, options.batch)
        assignments, _ = kmeans.assign(part, state.centroids)
        return kmeans.update(state, part, assignments)

    many = device.jit(
        lambda x, state: jax.lax.fori_loop(0, options.steps, lambda i, s: step(x, s, i), state)
    )
    state = kmeans.KMeansState(seeds, jnp.ones(options.k))
    minibatch = measuring.timed(lambda: jax.block_until_ready(many(x, state)), options.repeats)
    assign = device.jit(kmeans.assign)
    assignment = measuring.timed(lambda: jax.block_until_ready(assign(x, seeds)), options.repeats)
    labels, _ = assign(x, seeds)
    part = x[: options.lloyd_n]
    lloyd = device.jit(lambda x, c: kmeans.lloyd(x, c, options.iterations, tol=0))
    full = measuring.timed(lambda: jax.block_until_ready(lloyd(part, seeds)), options.repeats)
    _, distances = assign(part, lloyd(part, seeds))
    np.save(f"{options.exchange}/labels.npy", np.asarray(labels))
    return {
        "minibatch": [seconds / options.steps for seconds in minibatch],
        "assignment": assignment,
        "lloyd": full,
        "inertia": float(jnp.sum(distances)),
        "device": jax.devices()[0].device_kind,
        "rates": measuring.jax_rates(),
    }


def sklearn_side(options: argparse.Namespace) -> dict[str, Any]:
    """scikit-learn's MiniBatchKMeans.partial_fit and KMeans."""
    import sklearn.cluster

    cluster: Any = sklearn.cluster

    x = np.load(f"{options.exchange}/x.npy", mmap_mode="r")
    seeds = np.array(x[: options.k])
    small = cluster.MiniBatchKMeans(options.k, init=seeds, n_init=1, batch_size=options.batch)
    batches = [
        np.array(x[i * options.batch : (i + 1) * options.batch]) for i in range(options.steps)
    ]

    def partial() -> None:
        for batch in batches:
            small.partial_fit(batch)

    minibatch = measuring.timed(partial, options.repeats)
    part = np.array(x[: options.lloyd_n])
    lloyd = cluster.KMeans(options.k, init=seeds, n_init=1, max_iter=options.iterations, tol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it stopped before convergence
        full = measuring.timed(lambda: lloyd.fit(part), options.repeats)
    return {
        "minibatch": [seconds / options.steps for seconds in minibatch],
        "lloyd": full,
        "inertia": float(lloyd.inertia_),
        "device": "cpu",
    }


def faiss_side(options: argparse.Namespace) -> dict[str, Any]:
    """faiss' exact search for the nearest of k centroids."""
    import faiss

    x = np.load(f"{options.exchange}/x.npy")
    index = faiss.IndexFlatL2(options.d)
    index.add(np.array(x[: options.k]))
    assignment = measuring.timed(lambda: index.search(x, 1), options.repeats)
    labels = index.search(x, 1)[1][:, 0]
    ours = np.load(f"{options.exchange}/labels.npy")
    return {
        "assignment": assignment,
        "same_labels": float(np.mean(labels == ours)),
        "device": "cpu",
    }


def check_same_work(sides: dict[str, list[dict[str, Any]]]) -> None:
    """Refuse to compare sides that did not do the same, or not on the same device."""
    measuring.check_same_device({name: reports[0] for name, reports in sides.items()})
    agreement = min((r["same_labels"] for r in sides.get("faiss", [])), default=1.0)
    if agreement < 0.9999:
        raise SystemExit(f"faiss and jaxclust agree on {agreement:.2%} of the labels only")
    inertia = {name: r[0]["inertia"] for name, r in sides.items() if "inertia" in r[0]}
    if max(inertia.values()) / min(inertia.values()) > 1 + 1e-3:
        raise SystemExit(f"different inertia after the same iterations: {inertia}")


# What is timed: its row, its key, the side it is compared with.
_TIMED = (
    ("mini-batch step", "minibatch", "sklearn", "scikit-learn"),
    ("assignment", "assignment", "faiss", "faiss"),
    ("Lloyd", "lloyd", "sklearn", "scikit-learn"),
)


def report(options: argparse.Namespace, sides: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians and ratios."""
    check_same_work(sides)
    rows: dict[str, dict[str, float]] = {}
    ratios: dict[str, float] = {}

    def row(side: str, what: str) -> dict[str, float]:
        return measuring.spread([s for r in sides[side] for s in r[what]])

    for what, key, other, name in _TIMED:
        ours = rows[f"{what}, jaxclust"] = row("jax", key)
        if other in sides:
            theirs = rows[f"{what}, {name}"] = row(other, key)
            ratios[f"{what} / {name}"] = round(theirs["median_ms"] / ours["median_ms"], 2)
    first = sides["jax"][0]
    rates = {
        name: statistics.median(r["rates"][name] for r in sides["jax"]) for name in first["rates"]
    }
    products = 2 * options.d * options.k / rates["product_gflops"] / 1e6
    return {
        "benchmark": "kmeans",
        "n": options.n,
        "d": options.d,
        "k": options.k,
        "batch": options.batch,
        "lloyd_n": options.lloyd_n,
        "lloyd_iterations": options.iterations,
        "spread": options.spread,
        "times": rows,
        "throughput_ratios": ratios,
        "inertia": {name: r[0]["inertia"] for name, r in sides.items() if "inertia" in r[0]},
        "limit": {
            **rates,
            "products_of_a_minibatch_step_ms": round(products * options.batch, 2),
            "products_of_the_assignment_ms": round(products * options.n, 1),
        },
        "machine": {
            **measuring.machine(["jax", "jaxlib", "scikit-learn", "faiss-cpu", "numpy"]),
            "device": first["device"],
        },
    }


SIDES = {"jax": jax_side, "faiss": faiss_side, "sklearn": sklearn_side}


def main() -> None:
    """Measure, print a table, write benchmarks/results/."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=10, help="mini-batch steps a measurement")
    parser.add_argument("--lloyd-n", type=int, help="default: a tenth of n")
    parser.add_argument("--iterations", type=int, default=20, help="Lloyd's, at most")
    parser.add_argument("--spread", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=3, help="measurements a turn")
    parser.add_argument("--rounds", type=int, default=2, help="turns of every side")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--exchange", help=argparse.SUPPRESS)
    measuring.sided(parser, list(SIDES))
    options = parser.parse_args()
    options.lloyd_n = options.lloyd_n or max(options.n // 10, options.k)
    if options.side:
        print(json.dumps(SIDES[options.side](options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "x.npy", mixture(options))
        passed = [*sys.argv[1:], "--exchange", folder]
        sides = measuring.alternate(__file__, options.sides, passed, options.rounds)
    result = report(options, sides)
    print(measuring.table(result["times"]))
    for name, ratio in result["throughput_ratios"].items():
        print(f"{name}: {ratio}")
    print(f"limit: {result['limit']}; cpus: {os.cpu_count()}")
    size = f"n{options.n}-d{options.d}-k{options.k}-spread{options.spread:g}"
    name = f"kmeans-{size}-{measuring.kind_of(result['machine']['device'])}"
    print(f"written: {measuring.write(name, result)}")


if __name__ == "__main__":
    main()
