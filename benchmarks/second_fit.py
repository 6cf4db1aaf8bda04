"""What does a second fit of the same method cost? Seconds and compilations of both.

    python benchmarks/second_fit.py

CCNN and DERC, preset `best` with one epoch a phase, on scikit-learn's digits: a fit and a
prediction of all images, twice. What is compiled belongs to the method, so that the second
compiles nothing.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import measuring

import jaxclust as jc
from jaxclust.data import catalogue
from jaxclust.methods.registry import METHODS

_COMPILED = "/jax/core/compile/backend_compile_duration"


def main() -> None:
    """Measure, print, write benchmarks/results/."""
    counts: list[float] = []

    def listen(event: str, duration_secs: float, **kwargs: Any) -> None:
        del kwargs
        if event == _COMPILED:
            counts.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    images = catalogue.load("digits", Path()).images
    rows = []
    for name in ("ccnn", "derc"):
        config = replace(METHODS[name].config("best"), epochs=1, pretrain_epochs=1)
        method = METHODS[name].build(config, jc.spec_of(images, 10))
        for which in ("first", "second"):
            counts.clear()
            clock = time.perf_counter()
            jc.fit(method, images, seed=0).predict(images)
            seconds = round(time.perf_counter() - clock, 2)
            rows.append({"method": name, "fit": which, "seconds": seconds})
            rows[-1]["compilations"] = len(counts)
            print(f"{name}, {which} fit: {seconds} s, {len(counts)} compilations")
    machine = measuring.machine(["jax", "jaxlib", "flax", "optax", "numpy"])
    print(f"written: {measuring.write('second_fit-cpu', {'rows': rows, 'machine': machine})}")


if __name__ == "__main__":
    main()
