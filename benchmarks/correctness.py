"""Does an accelerator compute what the CPU does? One step of every phase of every method.

    python benchmarks/correctness.py
    python benchmarks/correctness.py --methods dac ics

Preset `best` with one start, on one batch of images, one epoch per phase. From the same seed, each
side draws the same views and triplets, since random numbers are the same on all devices. The first
reported loss and gradient norm of each phase and the labels at the end are compared, once with full
float32 products ("exact": the bound is 1e-3 of the value) and once with JAX's default, TF32 on
tensor cores (5e-2). A phase starts where the one before ended, so that differences add up. Each
side has its own process, with two methods at once, and a method's row is written as soon as it is
known.
"""

import argparse
import json
import subprocess
from collections.abc import Sequence
from typing import Any

import measuring
from second_fit import pictures, short

METHODS = ["ccnn", "dac", "ics", "derc", "dec", "idec", "vade"]
BOUNDS = {"exact": 1e-3, "default": 5e-2}
N = 256
AT_ONCE = 2  # methods, of three sides each


def one_side(name: str, precision: str) -> dict[str, Any]:
    """What one step of each phase reports, and the labels."""
    import jax

    import jaxclust as jc
    from jaxclust.core import device
    from jaxclust.methods.registry import METHODS as KNOWN
    from jaxclust.training.hooks import Calls, Progress

    device.compile_once(None)
    images = pictures(28, N)
    config = short(KNOWN[name].config("best"))
    method = KNOWN[name].build(config, jc.spec_of(images, 10))
    reported: dict[str, dict[str, float]] = {}

    def chunk(progress: Progress) -> None:
        for step in progress.steps:
            kept = {k: float(step[k]) for k in ("loss", "gradient_norm") if k in step}
            reported.setdefault(progress.phase, kept)

    with jax.default_matmul_precision("highest" if precision == "exact" else "default"):
        fitted = jc.fit(method, images, seed=0, hooks=Calls(on_chunk=chunk))
        labels = fitted.predict(images)
    return {
        "device": jax.devices()[0].device_kind,
        "phases": reported,
        "labels": [int(label) for label in labels],
    }


def compared(cpu: dict[str, Any], other: dict[str, Any], bound: float) -> dict[str, Any]:
    """The largest relative difference of each phase's numbers, and the labels that agree."""
    differences = {
        f"{phase} {name}": abs(other["phases"][phase][name] - value) / max(abs(value), 1e-6)
        for phase, values in cpu["phases"].items()
        for name, value in values.items()
    }
    same = sum(a == b for a, b in zip(cpu["labels"], other["labels"], strict=True))
    return {
        "relative_differences": {name: float(f"{d:.2g}") for name, d in differences.items()},
        "same_labels": round(same / len(cpu["labels"]), 4),
        "within_bound": max(differences.values()) <= bound,
    }


def started(names: Sequence[str]) -> dict[tuple[str, str], subprocess.Popen]:
    """The sides of some methods, started; "cpu" among the precisions is the CPU's."""
    # None may take the whole device's memory.
    shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    begun: dict[tuple[str, str], subprocess.Popen] = {}
    for name in names:
        # The CPU's own arithmetic is float32 either way.
        begun[name, "cpu"] = measuring.start_side(
            __file__, f"{name} exact", **shared, JAX_PLATFORMS="cpu"
        )
        for precision in BOUNDS:
            begun[name, precision] = measuring.start_side(__file__, f"{name} {precision}", **shared)
    return begun


def judged(begun: dict[tuple[str, str], subprocess.Popen]) -> tuple[list[dict[str, Any]], str]:
    """A row for every side that is compared with the CPU's, and the device."""
    said = {one: measuring.answer(process, one[0]) for one, process in begun.items()}
    rows, device = [], ""
    for (name, precision), other in said.items():
        if precision == "cpu":
            continue
        device = other["device"]
        row = compared(said[name, "cpu"], other, BOUNDS[precision])
        rows.append({"method": name, "precision": precision, **row})
        worst = max(row["relative_differences"].items(), key=lambda item: item[1])
        bound = "within" if row["within_bound"] else "OUTSIDE"
        print(f"{name}, {precision}: {worst[0]} differs by {worst[1]:.1e}, {bound} the bound")
    return rows, device


def main() -> None:
    """Compare, print, write benchmarks/results/."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(one_side(*options.side.split())))
        return
    rows: list[dict[str, Any]] = []
    for i in range(0, len(options.methods), AT_ONCE):
        begun = started(options.methods[i : i + AT_ONCE])
        try:
            more, device = judged(begun)
        finally:
            for process in begun.values():
                process.kill()
        rows += more
        result = {"benchmark": "correctness", "bounds": BOUNDS, "rows": rows, "device": device}
        kind = measuring.kind_of(device)
        print(f"written: {measuring.write(f'correctness-{kind}', result)}", flush=True)


if __name__ == "__main__":
    main()
