"""Does a k-means of shards say the same in two processes as in one, and in how much memory?

    python benchmarks/kmeans_shards.py                            # 10^6 rows of 256, k = 10,000
    python benchmarks/kmeans_shards.py --n 20000 --d 32 --k 200 --centres 200 --spread 0.3 --flat

Rows of a mixture of Gaussians are written as Parquet shards. From the same first centroids, one
update in one process and in two; then a tree of two levels, of at most a hundred iterations each,
in one process and in two. Printed and written to benchmarks/results/: the largest difference of
the updated centroids, relative to the largest value; the share of labels that differ, and how much
farther those rows are from the other's centroid; the two inertias; seconds and each process's peak
memory. Both use the same cores, so the seconds say nothing about two machines. With `--flat`, a
flat run's inertia stands beside a tree's and a refined tree's (seed 0, one process).
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import measuring
import numpy as np


def write_shards(options: argparse.Namespace, folder: Path) -> None:
    """Rows float32 [n, d] around `--centres` points, in `--shards` Parquet files."""
    import pyarrow as pa
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(options.centres, options.d)).astype(np.float32)
    for shard, count in enumerate(
        np.diff(np.linspace(0, options.n, options.shards + 1, dtype=int))
    ):
        rows = rng.standard_normal((count, options.d), dtype=np.float32) * options.spread
        rows += centres[rng.integers(0, options.centres, count)]
        columns = [
            pa.array([f"{shard}-{i}" for i in range(count)]),
            pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), options.d),
        ]
        table = pa.Table.from_arrays(columns, names=["id", "embedding"])
        parquet.write_table(table, folder / f"part-{shard:05d}.parquet", row_group_size=16_384)
        if shard == 0:
            np.save(folder / "first.npy", rows[: options.k])


def clustered(folder: Path, name: str, processes: int, *arguments: str) -> dict[str, Any]:
    """Run the command in so many processes; returns its summary."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    command = [
        sys.executable, "-m", "jaxclust", "kmeans", f"{folder}/part-*.parquet",
        f"--out={folder / name}", "--quiet", *arguments,
    ]  # fmt: skip
    together = ["--coordinator", address, "--num-processes", str(processes), "--process-id"]
    started = [
        subprocess.Popen([*command, *([] if processes == 1 else [*together, str(i)])])
        for i in range(processes)
    ]
    codes = [process.wait() for process in started]
    if any(codes):
        sys.exit(f"{name} failed")
    return json.loads((folder / name / "summary.json").read_text())


def labels(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(clusters, distances) of all rows, in order."""
    from pyarrow import parquet

    tables = [parquet.read_table(p) for p in sorted((folder / name / "assignments").iterdir())]
    return tuple(  # type: ignore[return-value]
        np.concatenate([table[column].to_numpy() for table in tables])
        for column in ("cluster", "distance")
    )


def one_update(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Both sides' centroids and labels after one update from the same centroids."""
    given = [
        f"--n-clusters={options.k}",
        f"--centroids={folder / 'first.npy'}",
        "--max-iterations=1",
    ]
    sides = [clustered(folder, f"update{p}", p, *given) for p in (1, 2)]
    alone, both = (np.load(folder / f"update{p}" / "centroids.npy") for p in (1, 2))
    (one, near), (two, other) = (labels(folder, f"update{p}") for p in (1, 2))
    differ = one != two
    farther = np.abs(near - other)[differ] / near[differ]
    return {
        "centroids_relative_difference": float(np.abs(alone - both).max() / np.abs(alone).max()),
        "labels_that_differ": float(differ.mean()),
        "and_are_farther_by": float(farther.max(initial=0)),
        "seconds": [side["seconds"] for side in sides],
        "peak_rss_mb": [side["peak_rss_mb"] for side in sides],
    }


def converged(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Both sides' inertias of a tree."""
    given = [f"--n-clusters={options.k}", "--levels=2"]
    one, two = (clustered(folder, f"tree{p}", p, *given) for p in (1, 2))
    return {
        "inertia": [one["inertia"], two["inertia"]],
        "inertia_relative_difference": abs(one["inertia"] / two["inertia"] - 1),
        "iterations": [one["iterations"], two["iterations"]],
        "seconds": [one["seconds"], two["seconds"]],
        "peak_rss_mb": [one["peak_rss_mb"], two["peak_rss_mb"]],
    }


def depths(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """The inertia of a flat run, of a tree, and of a tree that is refined; one process."""
    kinds = {
        "flat": ["--levels=1"],
        "two levels": ["--levels=2"],
        "two levels, 5 refinements": ["--levels=2", "--refine=5"],
    }
    return {
        name: clustered(folder, f"depth{i}", 1, f"--n-clusters={options.k}", *given)["inertia"]
        for i, (name, given) in enumerate(kinds.items())
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--d", type=int, default=256)
    parser.add_argument("--k", type=int, default=10_000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--centres", type=int, default=20_000)
    parser.add_argument("--spread", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, help="for shards and results; default temporary")
    parser.add_argument(
        "--flat", action="store_true", help="compare a flat run, a tree and a refined tree too"
    )
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place)
        write_shards(options, folder)
        sizes = {name: getattr(options, name) for name in ("n", "d", "k", "shards")}
        found = {**sizes, "update": one_update(folder, options)}
        found["tree"] = converged(folder, options)
        if options.flat:
            found["inertia_by_depth"] = depths(folder, options)
    found["machine"] = measuring.machine(["jax", "jaxlib", "numpy", "pyarrow"])
    print(json.dumps(found, indent=1))
    measuring.write(f"kmeans_shards-n{options.n}-d{options.d}-k{options.k}-cpu", found)


if __name__ == "__main__":
    main()
