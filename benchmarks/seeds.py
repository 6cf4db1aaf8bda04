"""Four seeds as one program, or one after the other: which is faster?

    python benchmarks/seeds.py --method dec
    python benchmarks/seeds.py --method ccnn --n 2000

Images per second in the last phase's second epoch, all seeds together, without compilation. Mapped
over seeds, a dense layer is a batched matrix product; a convolution with weights of its own for
each seed is a grouped convolution.
"""

import argparse
import time
from dataclasses import replace

import jax
import measuring
from second_fit import pictures, short

import jaxclust as jc
from jaxclust.core import device
from jaxclust.images.normalisation import measure
from jaxclust.methods.registry import METHODS
from jaxclust.training.hooks import Calls, Moment
from jaxclust.training.loop import fit
from jaxclust.training.mapped import together
from jaxclust.training.placement import put

EPOCHS = 3


def main() -> None:
    """Measure, print, write benchmarks/results/."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", default="dec")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--n", type=int, default=5120)
    parser.add_argument("--size", type=int, default=28, help="pixels a side")
    options = parser.parse_args()
    device.compile_once(None)
    images = pictures(options.size, options.n)
    data = put(images, measure(images))
    config = replace(short(METHODS[options.method].config("best")), epochs=EPOCHS)
    method = METHODS[options.method].build(config, jc.spec_of(images, 10))

    def timing(kept: list[float]) -> Calls:
        marks: list[float] = []

        def epoch(moment: Moment) -> None:
            jax.block_until_ready(moment.borrowed.params)
            marks.append(time.perf_counter())
            if moment.epoch == EPOCHS:
                kept.append(marks[-1] - marks[-2])

        return Calls(on_epoch=epoch)

    seconds: dict[str, list[float]] = {}
    for _ in range(2):  # once to compile
        seconds = {"in_turn": [], "together": []}
        for seed in range(options.seeds):
            fit(method, data, seed=seed, hooks=timing(seconds["in_turn"]))
    mapped = together(method, list(range(options.seeds)))
    fit(mapped, data, seed=list(range(options.seeds)), hooks=timing(seconds["together"]))
    turn, one = sum(seconds["in_turn"]), sum(seconds["together"])
    result = {
        "benchmark": "seeds",
        "method": options.method,
        "seeds": options.seeds,
        "n": options.n,
        "epoch_seconds_in_turn": round(turn, 4),
        "epoch_seconds_together": round(one, 4),
        "together_of_in_turn": round(one / turn, 3),
        "machine": measuring.machine(["jax", "jaxlib", "flax", "numpy"]),
    }
    print(f"{options.method}: in turn {turn:.3f} s an epoch, together {one:.3f} s")
    kind = measuring.kind_of(result["machine"]["device"])
    print(f"written: {measuring.write(f'seeds-{options.method}-{kind}', result)}")


if __name__ == "__main__":
    main()
