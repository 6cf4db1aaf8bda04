"""What does splitting a step over devices cost where there is nothing to split?

    python benchmarks/parallel.py --method dac

The compiled loop over train steps of a method's preset `best`, by jit and by pmap on one
device, on the same random images: what `jaxclust run --devices` adds to a step apart from
the exchange between devices. Both programs are in one process and are timed in turn.
"""

import argparse
from dataclasses import replace
from typing import Any

import jax
import measuring
import numpy as np

from jaxclust.core.types import Compute, DataSpec
from jaxclust.images.normalisation import measure
from jaxclust.methods.registry import METHODS
from jaxclust.training import parallel, placement, starting
from jaxclust.training.feed import epoch_rows
from jaxclust.training.prediction import predictor
from jaxclust.training.programs import chunk_program

K = 10


def loop(options: argparse.Namespace, images: np.ndarray, group: parallel.Group | None) -> Any:
    """A function that takes `--steps` steps of the method's last phase that has any."""
    registered = METHODS[options.method]
    config = replace(registered.config("best"), batch_size=options.batch)
    spec = DataSpec(len(images), images.shape[1:], K)
    compute = Compute() if group is None else Compute(axis_name=parallel.AXIS)
    method = registered.build(config, spec, compute)
    phase = next(phase for phase in method.phases[::-1] if phase.step is not None)
    data = placement.put(images, measure(images), group)
    state = starting.init(method, data, 0)
    if phase.first is not None:
        features = predictor(method, data)(state).features
        state = jax.jit(phase.first.update)(state, features)
        state = state if group is None else group.replicate(state)
    rows = epoch_rows(0, 0, 0, len(images), phase.batches.size)
    shared = rows
    if group is not None:
        shared = group.copies(rows) if phase.batches.split == "inner" else group.shares(rows)
    assert phase.step is not None
    program = chunk_program(phase.step, phase.batches, data.normalisation, group)

    def run() -> None:
        nonlocal state
        # The state is donated, so that each call goes on where the last one stopped.
        state, *_ = program(state, data.images, shared, shared, np.int32(0), options.steps)
        jax.block_until_ready(state)

    return run


def main() -> None:
    """Measure, print a table, write benchmarks/results/."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", choices=["ccnn", "dac", "idec", "ics"], default="dac")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--side-length", type=int, default=28, help="pixels")
    parser.add_argument("--steps", type=int, default=5, help="in a call")
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    options.steps = np.int32(options.steps)
    side = options.side_length
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2000, side, side, 1), dtype=np.uint8)
    group = parallel.Group((jax.local_devices()[0],))
    runs = {"jit": loop(options, images, None), "pmap, one device": loop(options, images, group)}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        measuring.timed(run, 1)
    for _ in range(options.repeats):
        for name, run in runs.items():
            seconds[name] += [one / options.steps for one in measuring.timed(run, 1)[-1:]]
    rows = {name: measuring.spread(values) for name, values in seconds.items()}
    alone, mapped = (row["median_ms"] for row in rows.values())
    result = {
        "benchmark": "parallel",
        "method": options.method,
        "batch": options.batch,
        "side_length": side,
        "step": rows,
        "step_time_ratio": round(mapped / alone, 3),
        "machine": measuring.machine(["jax", "jaxlib", "flax", "optax"]),
    }
    print(measuring.table(rows))
    print(f"pmap on one device / jit, time of a step: {result['step_time_ratio']}")
    device = "cpu" if result["machine"]["device"] == "cpu" else "accelerator"
    name = f"parallel-{options.method}-b{options.batch}-{device}"
    print(f"written: {measuring.write(name, result)}")


if __name__ == "__main__":
    main()
