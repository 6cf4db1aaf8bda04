"""How much memory does a run take as the number of images grows?

    python benchmarks/memory.py --n 10000 100000 1000000 [--streamed]

Every size is a whole `jaxclust run` of CCNN in its own process, on synthetic
images (bars on noise): loading, one epoch of training, the final pass over all images, the
run directory and its page. They are held in memory from an npz file or, with --streamed,
decoded when needed out of a tar laid out as Places-Train's. Printed: the process' peak memory, the
device's if it counts it, and the growth per image between sizes, with and without the image's own
bytes; for streamed sets also the images per second of reading alone, beside those of training.
"""

import argparse
import io
import itertools
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from PIL import Image

from jaxclust.data import catalogue

# Different pictures in the tar; reading and decoding does not know them again.
_DIFFERENT = 999
# Pictures that reading alone is timed on.
_TIMED, _BLOCK = 20_000, 4096


def images(n: int, side: int) -> np.ndarray:
    """n uint8 images: a bar on the left, in the middle or on the right, and noise."""
    rng = np.random.default_rng(0)
    found = rng.integers(0, 60, (n, side, side, 1), dtype=np.uint8)
    third = side // 3
    for kind in range(3):
        found[kind::3, :, kind * third : (kind + 1) * third] += 150
    return found


def write_archive(path: Path, n: int, side: int) -> None:
    """n JPEGs in a tar of Places-Train's layout."""
    encoded = []
    for image in images(min(n, _DIFFERENT), side):
        content = io.BytesIO()
        Image.fromarray(image[..., 0]).save(content, "JPEG")
        encoded.append(content.getvalue())
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w") as archive:
        remembered: Any = archive
        for i in range(n):
            content = encoded[i % len(encoded)]
            member = tarfile.TarInfo(f"data_256/{'abc'[i % 3]}/kind/{i:08d}.jpg")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            remembered.members.clear()


def reading_speed(data_dir: Path, side: int) -> float:
    """Images a second of the input path alone, in blocks."""
    found = catalogue.load("places_train", data_dir, image_size=side, in_memory=0).images
    count = min(_TIMED, len(found))
    started = time.perf_counter()
    for start in range(0, count, _BLOCK):
        _ = found[start : min(start + _BLOCK, count)]
    return count / (time.perf_counter() - started)


def run(n: int, options: argparse.Namespace) -> dict[str, Any]:
    """The summary of one run on n images."""
    side = options.side_length
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        call = [sys.executable, "-m", "jaxclust", "run", f"--method={options.method}"]
        if options.streamed:
            entry = catalogue.CATALOGUE["places_train"]
            write_archive(Path(folder) / entry.file, n, side)
            call += ["--dataset=places_train", f"--data-dir={folder}", "--in-memory=0"]
            call += [f"--image-size={side}"]
        else:
            np.savez(Path(folder) / "images.npz", images=images(n, side))
            call += [f"--dataset=npz:{folder}/images.npz"]
        call += ["--n-clusters=3", f"--out={folder}/run"]
        call += ["--quiet", "--json", "--evaluate-every=1000", *options.options]
        process = subprocess.Popen(call, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"the run on {n} images failed; see above")
        summary = json.loads(said.splitlines()[-1])
        # Of the whole process; the summary's is that before the page is made.
        summary["peak_rss_mb"] = round(usage.ru_maxrss / 1024, 1)
        if options.streamed:
            summary["reading_alone"] = round(reading_speed(Path(folder), side), 1)
    return summary


def main() -> None:
    """Measure, print a table, write benchmarks/results/."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--streamed", action="store_true", help="out of a tar, when needed")
    parser.add_argument("--scratch", help="where the images are written; default: as Python's")
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
                "reading_alone": summary.get("reading_alone"),
            }
        )
        print(rows[-1], flush=True)
    stored = 0 if options.streamed else options.side_length**2
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
    kind = "-streamed" if options.streamed else ""
    name = f"memory{kind}-{options.method}-{report['machine']['device']}".replace(" ", "_")
    print(f"written: {measuring.write(name, report)}")


if __name__ == "__main__":
    main()
