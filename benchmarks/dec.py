"""How long does an epoch of DEC or IDEC take, compared with ClustPy's?

    python benchmarks/dec.py --method dec
    python benchmarks/dec.py --method idec --n 10000 --side-length 28

Both sides train the dense network 500-500-2000-10 on the same random images in batches
of 256 by Adam. An epoch is measured as the difference between clustering for 1 + `--epochs` epochs
and for one, so that loading, pre-training, k-means and compilation cancel out. jaxclust's includes
the pass over all images that computes the targets; ClustPy takes them from each batch. The sides
run in turn, each in its own process.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from typing import Any

import measuring
import numpy as np

K = 10


def images(options: argparse.Namespace) -> np.ndarray:
    """K blurred kinds of noise, float32 [n, side, side, 1]."""
    rng = np.random.default_rng(0)
    side = options.side_length
    kinds = rng.normal(size=(K, side, side, 1))
    rows = np.arange(options.n) % K
    return (kinds[rows] + rng.normal(size=(options.n, side, side, 1))).astype(np.float32)


def jaxclust_epochs(options: argparse.Namespace) -> list[float]:
    """Seconds of each epoch but the first, which compiles."""
    from dataclasses import replace

    from jaxclust.core.types import Compute
    from jaxclust.images.normalisation import measure
    from jaxclust.methods.registry import METHODS
    from jaxclust.training import loop, placement
    from jaxclust.training.hooks import Calls

    registered = METHODS[options.method]
    config = replace(
        registered.config("paper"), epochs=options.epochs + 1, pretrain_epochs=1, tolerance=0.0
    )
    pictures = images(options)
    data = placement.put(pictures, measure(pictures))
    method = registered.build(config, placement.spec_of(data, K), Compute())
    ends: list[float] = []
    hooks = Calls(on_epoch=lambda *_: ends.append(time.perf_counter()))
    loop.fit(method, data, seed=0, hooks=hooks)
    # The first entry is the start of clustering, the second the end of its first epoch.
    return np.diff(ends[1:]).tolist()


def clustpy_epochs(options: argparse.Namespace) -> list[float]:
    """Seconds per epoch, one figure: only whole fits can be timed."""
    import torch
    from clustpy.deep import DEC, IDEC

    torch.set_num_threads(options.threads)
    x = images(options).reshape(options.n, -1)
    kind: Any = {"dec": DEC, "idec": IDEC}[options.method]

    def seconds(epochs: int) -> float:
        estimator = kind(
            K, batch_size=256, pretrain_epochs=1, clustering_epochs=epochs, random_state=0
        )
        start = time.perf_counter()
        # Its progress bar would stand in the figures' place.
        with contextlib.redirect_stdout(sys.stderr):
            estimator.fit(x)
        return time.perf_counter() - start

    seconds(1)
    return [(seconds(1 + options.epochs) - seconds(1)) / options.epochs]


def main() -> None:
    """Measure, print a table, write benchmarks/results/."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", choices=["dec", "idec"], default="dec")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--side-length", type=int, default=28, help="pixels")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5, help="turns of both sides")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="PyTorch's")
    measuring.sided(parser, ["jaxclust", "clustpy"])
    options = parser.parse_args()
    if options.side:
        measured = {"jaxclust": jaxclust_epochs, "clustpy": clustpy_epochs}[options.side]
        print(json.dumps({"epochs": measured(options)}))
        return
    sides = measuring.alternate(__file__, ["jaxclust", "clustpy"], sys.argv[1:], options.rounds)
    epochs = {name: [s for r in reports for s in r["epochs"]] for name, reports in sides.items()}
    rows = {f"{options.method}, {name}": measuring.spread(times) for name, times in epochs.items()}
    ours, theirs = (row["median_ms"] for row in rows.values())
    result = {
        "benchmark": "dec",
        "method": options.method,
        "n": options.n,
        "side_length": options.side_length,
        "epoch": rows,
        "throughput_ratio": round(theirs / ours, 3),
        "machine": measuring.machine(["jax", "jaxlib", "flax", "optax", "torch", "clustpy"]),
    }
    print(measuring.table(rows))
    print(f"jaxclust / clustpy: {result['throughput_ratio']}")
    device = "cpu" if result["machine"]["device"] == "cpu" else "accelerator"
    print(f"written: {measuring.write(f'dec-{options.method}-n{options.n}-{device}', result)}")


if __name__ == "__main__":
    main()
