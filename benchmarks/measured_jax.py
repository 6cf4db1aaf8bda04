"""JAX's side of train_step.py: compiles a subject of steps_jax.py and times it when asked."""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array
from measuring import jax_rates, serve, timed
from steps_jax import SUBJECTS, Subject

from jaxclust.core import device
from jaxclust.core.types import PyTree


def looped(step: Callable[[PyTree], tuple[PyTree, Array]], steps: int) -> Callable[[PyTree], Any]:
    """Many steps as one compiled program."""

    def run(carry: PyTree) -> Any:
        return jax.lax.scan(lambda c, _: step(c), carry, length=steps)

    return device.jit(run)


def exact_loss(subject: Subject) -> float:
    """The first loss with full float32 products, which tensor cores would otherwise round."""
    with jax.default_matmul_precision("highest"):
        exact: Any = device.jit(lambda carry: subject.step(carry)[1])
        return float(exact(subject.carry))


def measure(options: argparse.Namespace) -> None:
    """JAX's side: writes what the other starts from, compiles, waits to be asked."""
    subject = SUBJECTS[options.subject](options)
    arrays: Any = {name: np.asarray(value) for name, value in subject.exchange.items()}
    np.savez(options.exchange, **arrays)
    one: Any = device.jit(subject.step)
    carry = subject.carry
    programs: dict[str, tuple[Callable[[Any], Any], int]] = {
        "alone": (one, 1),
        "in_scan": (looped(subject.step, options.steps), options.steps),
        "passes_in_scan": (looped(subject.passes, options.steps), options.steps),
    }
    clock = time.perf_counter()
    jax.block_until_ready(programs["in_scan"][0](carry))
    first_call = time.perf_counter() - clock
    cost: Any = one.lower(carry).compile().cost_analysis() or {}
    report = {
        "loss": exact_loss(subject),
        "first_call_seconds": round(first_call, 2),
        "gflop": cost.get("flops", 0) / 1e9,
        "gbytes": cost.get("bytes accessed", 0) / 1e9,
        "rates": jax_rates(),
        "device": jax.devices()[0].device_kind,
        "version": jax.__version__,
    }
    for run, _ in programs.values():
        jax.block_until_ready(run(carry))

    def turn() -> dict[str, Any]:
        seconds: dict[str, Any] = {name: [] for name in programs}
        # In turns here too: the ratios are what counts.
        for _ in range(options.repeats):
            for name, (run, steps) in programs.items():
                taken = timed(lambda run=run: jax.block_until_ready(run(carry)), 1)
                seconds[name] += [each / steps for each in taken]
        return seconds

    serve(report, turn)
