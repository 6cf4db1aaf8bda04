"""How fast is a train step: alone, many in one compiled loop, and compared with PyTorch?

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
large). The sides run in turn, each in its own process, so that their thread pools do not interfere.

On a GPU, PyTorch's side runs there too, or no ratio is printed. Both sides may use TF32 in
products and convolutions of float32, as JAX does by default; the first losses are compared
without. "reduce-overhead" is torch.compile's mode that replays CUDA graphs. The clock is read
when the device is done.
"""

import argparse
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


def side(options: argparse.Namespace) -> None:
    """One side, which waits to be asked; imported here, so that neither loads the other."""
    if options.side == "jax":
        import measured_jax

        return measured_jax.measure(options)
    import steps_torch

    return steps_torch.measure(options)


def check_losses(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Both sides must compute the same thing."""
    for name in ("loss", "compiled_loss"):
        tolerance = max(1e-4, 1e-5 * abs(ours["loss"]))
        if name in theirs and abs(ours["loss"] - theirs[name]) > tolerance:
            raise SystemExit(f"the sides differ: loss {ours['loss']} and {theirs[name]} ({name})")


def report(options: argparse.Namespace, sides: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Medians, ratios of throughput, and the machine's limit."""
    ours, theirs = sides["jax"], sides.get("torch", {"seconds": {}})
    figures = {
        "jax, one step a call": ours["seconds"]["alone"],
        "jax, steps in a scan": ours["seconds"]["in_scan"],
        "jax, passes alone, in a scan": ours["seconds"]["passes_in_scan"],
        **{f"torch, {mode}": seconds for mode, seconds in theirs["seconds"].items()},
    }
    rows = {name: measuring.spread(seconds) for name, seconds in figures.items()}
    median = {name: row["median_ms"] for name, row in rows.items()}
    alone, scanned, passes = list(median.values())[:3]
    rates = ours["rates"]
    ratios = {"in a scan / alone": alone / scanned, "step time / passes": scanned / passes}
    for mode in theirs["seconds"]:
        ratios[f"in a scan / torch, {mode}"] = median[f"torch, {mode}"] / scanned
    by_product = ours["gflop"] / rates["product_gflops"] * 1e3
    by_copy = ours["gbytes"] / rates["copy_gb_per_second"] * 1e3
    return {
        "benchmark": "train_step",
        "subject": options.subject,
        "shape": options.shape,
        "batch": options.batch,
        "precision": options.precision,
        "loss": {name: side["loss"] for name, side in sides.items()},
        "step": rows,
        "throughput_ratios": {name: round(value, 3) for name, value in ratios.items()},
        "torch_failed": theirs.get("failed", {}),
        "images_per_second_in_a_scan": round(options.batch / scanned * 1e3, 1),
        "first_call_seconds": ours["first_call_seconds"],
        "limit": {
            **rates,
            "gflop_a_step": round(ours["gflop"], 2),
            "gbytes_a_step": round(ours["gbytes"], 3),
            "products_ms": round(by_product, 2),
            "bytes_ms": round(by_copy, 2),
        },
        "machine": {
            **measuring.machine(["jax", "jaxlib", "flax", "optax", "torch", "numpy"]),
            "device": ours["device"],
        },
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
    parser.add_argument("--steps", type=int, default=5, help="steps a measurement")
    parser.add_argument(
        "--compile-seconds", type=int, default=0, help="limit for PyTorch's compiler; 0: none"
    )
    measuring.beside_torch_options(parser)
    options = parser.parse_args()
    options.shape = options.shape or SHAPES[options.subject]
    options.batch = options.batch or BATCHES.get(options.subject, 256)
    if options.side:
        side(options)
        return
    sides = measuring.beside_torch(__file__, options)
    if options.torch and options.precision == "float32":
        check_losses(sides["jax"], sides["torch"])
    result = report(options, sides)
    print(measuring.table(result["step"]))
    for name, ratio in result["throughput_ratios"].items():
        print(f"{name}: {ratio}")
    print(f"limit: {result['limit']}")
    size = "x".join(str(side) for side in options.shape)
    device = measuring.kind_of(result["machine"]["device"])
    name = f"train_step-{options.subject}-{size}-b{options.batch}-{options.precision}-{device}"
    print(f"written: {measuring.write(name, result)}")


if __name__ == "__main__":
    main()
