"""How fast is a train step: alone, many in one compiled loop, and beside PyTorch?

    python benchmarks/train_step.py --subject ccnn
    python benchmarks/train_step.py --subject dac_mnist --batch 128

`ccnn` is the whole step of preset `best` without random views: a pass in inference
mode, assignment, the choice of trusted samples, the network's training pass and its
gradients, Adam, the centroid update. `dac` is an update of the preset's without random
views: training pass, pair selection and loss, gradients, RMSprop; the pass that fixes a
draw's targets, once in 40 updates, is left out. `dec`, `idec`, `ics` and `derc` are a
step of their last phase without random views, ICS with the passes over ten views an
image that its negatives need. The other subjects are bare networks, a training pass
with gradients and optimiser: DAC's for MNIST and the second for CIFAR-10, and ICS's
shallow autoencoder. "passes" are the network passes and the update that the step cannot
do without.

PyTorch's side does the same with its own layers (channels_last, oneDNN) and starts from
the same weights; both must report the same first loss to 1e-4 (1e-5 of it, if it is
large). Each side runs in a process of its own, in turns, so that their thread pools do
not meet.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from typing import Any

import measuring

SHAPES = {
    "ccnn": [28, 28, 1],
    "dac": [28, 28, 1],
    "dac_mnist": [28, 28, 1],
    "dac_cifar2": [32, 32, 3],
    "ics_shallow": [28, 28, 1],
    "dec": [28, 28, 1],
    "idec": [28, 28, 1],
    "ics": [28, 28, 1],
    "derc": [28, 28, 1],
}
# 256 where nothing is said.
BATCHES = {"ccnn": 200, "dac": 128, "dac_mnist": 128, "dac_cifar2": 128}


def side(options: argparse.Namespace) -> dict[str, Any]:
    """One side's figures; imported here, so that neither loads the other."""
    if options.side == "jax":
        import steps_jax

        return steps_jax.measure(options)
    import steps_torch

    return steps_torch.measure(options)


def check_losses(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Both sides must compute the same thing."""
    for name in ("loss", "compiled_loss"):
        tolerance = max(1e-4, 1e-5 * abs(ours["loss"]))
        if name in theirs and abs(ours["loss"] - theirs[name]) > tolerance:
            raise SystemExit(f"the sides differ: loss {ours['loss']} and {theirs[name]} ({name})")


def report(options: argparse.Namespace, sides: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians, ratios of throughput, and the machine's limit."""
    figures = {
        "jax, one step a call": [s for r in sides["jax"] for s in r["alone"]],
        "jax, steps in a scan": [s for r in sides["jax"] for s in r["in_scan"]],
        "jax, passes alone, in a scan": [s for r in sides["jax"] for s in r["passes_in_scan"]],
        "torch, eager": [s for r in sides.get("torch", []) for s in r["eager"]],
        "torch, compiled": [s for r in sides.get("torch", []) for s in r.get("compiled", [])],
    }
    rows = {name: measuring.spread(seconds) for name, seconds in figures.items() if seconds}
    median = {name: row["median_ms"] for name, row in rows.items()}
    alone, scanned, passes = list(median.values())[:3]
    first = sides["jax"][0]
    rates = {
        name: statistics.median(r["rates"][name] for r in sides["jax"]) for name in first["rates"]
    }
    ratios = {"in a scan / alone": alone / scanned, "step time / passes": scanned / passes}
    for name in ("torch, eager", "torch, compiled"):
        if name in median:
            ratios[f"in a scan / {name}"] = median[name] / scanned
    by_product = first["gflop"] / rates["product_gflops"] * 1e3
    by_copy = first["gbytes"] / rates["copy_gb_per_second"] * 1e3
    return {
        "benchmark": "train_step",
        "subject": options.subject,
        "shape": options.shape,
        "batch": options.batch,
        "precision": options.precision,
        "loss": {name: reports[0]["loss"] for name, reports in sides.items()},
        "step": rows,
        "throughput_ratios": {name: round(value, 3) for name, value in ratios.items()},
        "images_per_second_in_a_scan": round(options.batch / scanned * 1e3, 1),
        "limit": {
            **rates,
            "gflop_a_step": round(first["gflop"], 2),
            "gbytes_a_step": round(first["gbytes"], 3),
            "products_ms": round(by_product, 2),
            "bytes_ms": round(by_copy, 2),
        },
        "machine": measuring.machine(["jax", "jaxlib", "flax", "optax", "torch", "numpy"]),
    }


def main() -> None:
    """Measure, print a table, write benchmarks/results/."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subject", choices=list(SHAPES), default="ccnn")
    parser.add_argument("--shape", type=int, nargs=3, help="height width channels")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--steps", type=int, default=5, help="steps in the compiled loop")
    parser.add_argument("--repeats", type=int, default=5, help="measurements a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of both sides")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="PyTorch's")
    parser.add_argument("--no-torch", dest="torch", action="store_false")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--exchange", help=argparse.SUPPRESS)
    measuring.sided(parser, ["jax", "torch"])
    options = parser.parse_args()
    options.shape = options.shape or SHAPES[options.subject]
    options.batch = options.batch or BATCHES.get(options.subject, 256)
    if options.side:
        print(json.dumps(side(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        passed = [*sys.argv[1:], "--exchange", f"{folder}/exchange.npz"]
        names = ["jax", "torch"] if options.torch else ["jax"]
        sides = measuring.alternate(__file__, names, passed, options.rounds)
    if options.torch and options.precision == "float32":
        check_losses(sides["jax"][0], sides["torch"][0])
    result = report(options, sides)
    print(measuring.table(result["step"]))
    for name, ratio in result["throughput_ratios"].items():
        print(f"{name}: {ratio}")
    print(f"limit: {result['limit']}")
    size = "x".join(str(side) for side in options.shape)
    device = "cpu" if result["machine"]["device"] == "cpu" else "accelerator"
    name = f"train_step-{options.subject}-{size}-b{options.batch}-{options.precision}-{device}"
    print(f"written: {measuring.write(name, result)}")


if __name__ == "__main__":
    main()
