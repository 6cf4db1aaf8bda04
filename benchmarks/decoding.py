"""How many photographs per second are decoded from a shard, as `jaxclust embed` does?

    python benchmarks/decoding.py --photographs FOLDER

Photographs of a folder are enlarged to `--width` pixels, written as JPEG of quality 90 into a tar
as WebDataset lays it out, and read back at an encoder's size by all cores, without an encoder.
Enlarged photographs have less detail than taken ones and are decoded a little faster.
"""

import argparse
import io
import os
import statistics
import tarfile
import tempfile
from pathlib import Path

import measuring
from PIL import Image


def write_shard(photographs: Path, path: Path, count: int, width: int) -> int:
    """Write the tar; returns the mean bytes of a photograph."""
    found = sorted(p for p in photographs.rglob("*") if p.suffix.lower() in {".jpg", ".png"})
    step, total = max(1, len(found) // count), 0
    with tarfile.open(path, "w") as tar:
        for i, photograph in enumerate(found[::step][:count]):
            with Image.open(photograph) as image:
                large = image.convert("RGB").resize(
                    (width, width * 3 // 4), Image.Resampling.BICUBIC
                )
            file = io.BytesIO()
            large.save(file, "JPEG", quality=90)
            member = tarfile.TarInfo(f"{i:06d}.jpg")
            member.size = file.tell()
            total += member.size
            file.seek(0)
            tar.addfile(member, file)
    return total // min(count, len(found))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--side", type=int, default=260, help="of the encoder")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    from jaxclust.data import webdataset
    from jaxclust.data.places import Reading, View

    reading = Reading().seen_by(View(options.side))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.tar"
        size = write_shard(options.photographs, path, options.count, options.width)
        shard = webdataset.read_shard(path)

        def decode() -> None:
            for _ in webdataset.samples(shard, reading, 3):
                pass

        seconds = measuring.timed(decode, options.repeats)
    rate = len(shard) / statistics.median(seconds)
    found = {
        "benchmark": "decoding",
        "photographs": len(shard),
        "pixels": [options.width, options.width * 3 // 4],
        "bytes_each": size,
        "side": options.side,
        "times": measuring.spread(seconds),
        "images_per_second": round(rate, 1),
        "images_per_second_and_core": round(rate / (os.cpu_count() or 1), 1),
        "machine": measuring.machine(["jax", "numpy", "pillow"]),
    }
    print(f"{rate:,.0f} photographs a second of {size:,} bytes, by {os.cpu_count()} cores")
    path = measuring.write(f"decoding-w{options.width}-s{options.side}-cpu", found)
    print(path)


if __name__ == "__main__":
    main()
