"""How much memory does a run take as the number of images grows?

    python benchmarks/memory.py --n 10000 100000 1000000

Every size is a whole `jaxclust run` of CCNN in a process of its own, on synthetic
images (bars on noise) written as an npz file: loading, one epoch of training, the
final pass over all images and the run directory. Printed: the process' peak memory,
the device's where it counts it, and the growth an image between sizes, with and
without the image's own bytes.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import measuring
import numpy as np


def write_images(path: Path, n: int, side: int) -> None:
    """n uint8 images: a bar on the left, in the middle or on the right, and noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (n, side, side, 1), dtype=np.uint8)
    third = side // 3
    for kind in range(3):
        images[kind::3, :, kind * third : (kind + 1) * third] += 150
    np.savez(path, images=images)


def run(n: int, options: argparse.Namespace) -> dict[str, Any]:
    """The summary of one run on n images."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npz"
        write_images(path, n, options.side_length)
        call = [sys.executable, "-m", "jaxclust", "run", f"--method={options.method}"]
        call += [f"--dataset=npz:{path}", "--n-clusters=3", f"--out={folder}/run"]
        call += ["--quiet", "--json", "--evaluate-every=1000", *options.options]
        done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, print a table, write benchmarks/results/."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--side-length", type=int, default=8, help="pixels")
    parser.add_argument("--method", default="ccnn")
    parser.add_argument(
        "options",
        nargs="*",
        default=["--epochs=1", "--init=random", "--batch-size=1000"],
        help="further options of the run, after --",
    )
    options = parser.parse_args()
    rows = []
    for n in options.n:
        summary = run(n, options)
        rows.append(
            {
                "n": n,
                "peak_rss_mb": summary["peak_rss_mb"],
                "peak_device_mb": summary["peak_device_mb"],
                "seconds": summary["seconds"],
                "images_per_second": summary["images_per_second"],
            }
        )
        print(rows[-1], flush=True)
    stored = options.side_length**2
    growth = []
    for before, after in itertools.pairwise(rows):
        megabytes = after["peak_rss_mb"] - before["peak_rss_mb"]
        bytes_an_image = megabytes * 2**20 / (after["n"] - before["n"])
        growth.append(
            {
                "from": before["n"],
                "to": after["n"],
                "bytes_an_image": round(bytes_an_image, 1),
                "without_the_stored_image": round(bytes_an_image - stored, 1),
            }
        )
        print(growth[-1])
    report = {
        "benchmark": "memory",
        "method": options.method,
        "options": options.options,
        "bytes_of_a_stored_image": stored,
        "runs": rows,
        "growth": growth,
        "machine": measuring.machine(["jax", "jaxlib", "numpy"]),
    }
    name = f"memory-{options.method}-{report['machine']['device']}".replace(" ", "_")
    print(f"written: {measuring.write(name, report)}")


if __name__ == "__main__":
    main()
