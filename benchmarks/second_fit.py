"""What does the first step of a method cost, and a second fit? Seconds and compilations.

    python benchmarks/second_fit.py
    python benchmarks/second_fit.py --methods dac ics derc --size 28

Preset `best` with one start and one epoch a phase: a fit and a prediction of all images, twice.
"First step" is the time until the first chunk of a phase's steps is done, including compilation,
minus what earlier phases took. Compiled programs belong to the method, so the second fit compiles
nothing. Each method has its own process, which keeps no compiled programs.
"""

import argparse
import json
import sys
import time
from dataclasses import fields, replace
from typing import Any

import measuring
import numpy as np

_COMPILED = "/jax/core/compile/backend_compile_duration"
# Of every method the settings it has; the map is none of what is compiled.
_SHORT = {
    "epochs": 1,
    "pretrain_epochs": 1,
    "starts": 1,
    "iterations": 1,
    "reducer": "pca",
    "tolerance": 0.0,
}


def short(config: Any) -> Any:
    """The settings with one epoch a phase."""
    known = {field.name for field in fields(config)}
    return replace(config, **{name: value for name, value in _SHORT.items() if name in known})


def pictures(size: int, n: int) -> np.ndarray:
    """Ten blurred kinds of noise, uint8 [n, size, size, 1]."""
    rng = np.random.default_rng(0)
    kinds = rng.normal(128, 40, (10, size, size, 1))
    noisy = kinds[np.arange(n) % 10] + rng.normal(0, 40, (n, size, size, 1))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def fits(name: str, images: np.ndarray) -> dict[str, Any]:
    """Two fits of one method."""
    import jax

    import jaxclust as jc
    from jaxclust.core import device
    from jaxclust.methods.registry import METHODS
    from jaxclust.training.hooks import Calls, Moment, Progress

    compiled: list[float] = []

    def listen(event: str, duration_secs: float, **kwargs: Any) -> None:
        del kwargs
        if event == _COMPILED:
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    device.compile_once(None)
    method = METHODS[name].build(short(METHODS[name].config("best")), jc.spec_of(images, 10))
    row: dict[str, Any] = {"method": name, "device": jax.devices()[0].device_kind}
    for which in ("first", "second"):
        compiled.clear()
        firsts: list[float] = []
        begun = [time.perf_counter()]

        def chunk(_: Progress, firsts: list[float] = firsts, begun: list[float] = begun) -> None:
            if len(firsts) < len(begun):
                firsts.append(round(time.perf_counter() - begun[-1], 2))

        def phase(_: Moment, begun: list[float] = begun) -> None:
            begun.append(time.perf_counter())

        clock = time.perf_counter()
        jc.fit(method, images, seed=0, hooks=Calls(on_chunk=chunk, on_phase=phase)).predict(images)
        row[which] = {
            "seconds": round(time.perf_counter() - clock, 2),
            "first_steps": firsts,
            "compilations": len(compiled),
            "compiling_seconds": round(sum(compiled), 2),
        }
    return row


def main() -> None:
    """Measure, print, write benchmarks/results/."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", default=["ccnn", "derc"])
    parser.add_argument("--size", type=int, default=8, help="pixels a side")
    parser.add_argument("--n", type=int, default=1800)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(fits(options.side, pictures(options.size, options.n))))
        return
    rows = []
    for name in options.methods:
        rows.append(measuring.run_side(__file__, name, sys.argv[1:]))
        for which in ("first", "second"):
            row = rows[-1][which]
            print(
                f"{name}, {which} fit: {row['seconds']} s, first steps {row['first_steps']}, "
                f"{row['compilations']} compilations in {row['compiling_seconds']} s",
                flush=True,
            )
    machine = measuring.machine(["jax", "jaxlib", "flax", "optax", "numpy"])
    kind = measuring.kind_of(rows[0]["device"])
    name = f"second_fit-{'_'.join(options.methods)}-{options.size}-{kind}"
    print(f"written: {measuring.write(name, {'rows': rows, 'machine': machine})}")


if __name__ == "__main__":
    main()
