"""How many images per second does a frozen encoder process, compared with PyTorch's?

    python benchmarks/embed.py
    python benchmarks/embed.py --encoder efficientnet_lite0 --batch 32
    python benchmarks/embed.py --precision bfloat16 --batch 512 --no-torch

Images of the encoder's size, uint8, already in the device's memory: normalised, passed through the
network, averaged over positions, as `jaxclust embed` does. PyTorch's side is the network of the
package efficientnet_lite_pytorch with the same weights, channels_last, in inference mode, eager and
compiled; it starts from normalised values. Both must give the same features: to 1e-3 of the largest
in float32 without TF32. Decoding is left out: on many cores it is the limit.
"""

import argparse
from pathlib import Path
from typing import Any

import measuring
import numpy as np


def jax_side(options: argparse.Namespace) -> None:
    """The encoder of `jaxclust embed`."""
    import jax

    from jaxclust.core import device
    from jaxclust.models.encoders import frozen

    device.compile_once(None)
    encoder = frozen.load(options.encoder, options.precision)
    shape = (options.batch, encoder.side, encoder.side, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with jax.default_matmul_precision("highest"):
        # What is compared is in float32, whatever is timed.
        exact: Any = device.jit(frozen.load(options.encoder).apply)
        features = np.asarray(exact(encoder.variables, images[:4]))
    np.savez(options.exchange, images=images, features=features)
    held, run = jax.device_put(images), device.jit(encoder.apply)

    def encode() -> None:
        jax.block_until_ready(run(encoder.variables, held))

    measuring.timed(encode, 1)
    report = {"device": jax.devices()[0].device_kind, "version": jax.__version__}
    measuring.serve(report, lambda: {"jaxclust": measuring.timed(encode, options.repeats)})


def torch_side(options: argparse.Namespace) -> None:
    """The package's network."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    from jaxclust.models.encoders import frozen

    torch.set_num_threads(options.threads)
    cuda = torch.cuda.is_available()
    place = torch.device("cuda" if cuda else "cpu")
    name = options.encoder.replace("_", "-")
    network: Any = EfficientNet.from_pretrained(
        name, weights_path=str(frozen.weights_of(options.encoder))
    )
    network = network.eval().to(place, memory_format=torch.channels_last)
    with np.load(options.exchange) as arrays:
        given, features = torch.from_numpy(arrays["images"]), arrays["features"]
    # The package's own pre-processing, as the library's normalisation says it too.
    values = given.to(place).permute(0, 3, 1, 2).float().sub(127.0).div(128.0)
    values = values.contiguous(memory_format=torch.channels_last)
    low = options.precision == "bfloat16"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def pooled(x: torch.Tensor) -> torch.Tensor:
        return network.extract_features(x).float().mean(dim=(2, 3))

    with torch.inference_mode():
        found = pooled(values[:4]).cpu().numpy()
    if np.abs(found - features).max() > 1e-3 * np.abs(features).max():
        raise SystemExit(f"the sides differ by {np.abs(found - features).max():.2g}")
    if low:
        network, values = network.to(torch.bfloat16), values.to(torch.bfloat16)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    modes: dict[str, Any] = {"torch, eager": pooled}
    if options.compile:
        modes["torch, compiled"] = torch.compile(pooled)

    def encode(run: Any) -> None:
        with torch.inference_mode():
            run(values)
        if cuda:
            torch.cuda.synchronize()

    for run in modes.values():
        encode(run)
    report = {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "version": torch.__version__,
    }
    measuring.serve(
        report,
        lambda: {
            name: measuring.timed(lambda run=run: encode(run), options.repeats)
            for name, run in modes.items()
        },
    )


SIDES = {"jax": jax_side, "torch": torch_side}


def main() -> None:
    """Measure, print a table, write benchmarks/results/."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="efficientnet_lite2")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    measuring.beside_torch_options(parser)
    options = parser.parse_args()
    if options.side:
        SIDES[options.side](options)
        return
    sides = measuring.beside_torch(__file__, options)
    seconds = {what: each for side in sides.values() for what, each in side["seconds"].items()}
    rows = {what: measuring.spread(each) for what, each in seconds.items()}
    ours = rows["jaxclust"]["median_ms"]
    result = {
        "benchmark": "embed",
        "encoder": options.encoder,
        "batch": options.batch,
        "precision": options.precision,
        "times": rows,
        "images_per_second": {
            what: round(1e3 * options.batch / row["median_ms"], 1) for what, row in rows.items()
        },
        "throughput_ratios": {
            what: round(row["median_ms"] / ours, 3)
            for what, row in rows.items()
            if what != "jaxclust"
        },
        "machine": {
            **measuring.machine(["jax", "jaxlib", "flax", "torch", "numpy"]),
            "device": sides["jax"]["device"],
        },
    }
    print(measuring.table(rows))
    print(f"images a second: {result['images_per_second']}")
    print(f"jaxclust's throughput beside: {result['throughput_ratios']}")
    kind = measuring.kind_of(sides["jax"]["device"])
    stem = Path(options.encoder).stem
    name = f"embed-{stem}-b{options.batch}-{options.precision}-{kind}"
    print(f"written: {measuring.write(name, result)}")


if __name__ == "__main__":
    main()
