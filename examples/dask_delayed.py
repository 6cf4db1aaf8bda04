"""Label images with Dask: a finished run's model on every worker.

    pip install dask
    python examples/dask_delayed.py RUN_DIR IMAGES.npz

A `jaxclust.Predictor` pickles as arrays and settings, so workers need not see the run's folder.
"""

import argparse
from pathlib import Path

import numpy as np

import jaxclust as jc


def label(run: Path, images: np.ndarray, batch: int = 500) -> list[int]:
    """The cluster of each image, in the images' order.

    Args:
        run: a finished run's folder.
        images: like the run's, [n, h, w, c].
        batch: images per task.
    """
    import dask

    predictor = dask.delayed(jc.Predictor(run))
    tasks = [predictor({"image": images[i : i + batch]}) for i in range(0, len(images), batch)]
    found = dask.compute(*tasks, scheduler="threads", num_workers=1)
    return np.concatenate([one["cluster"] for one in found]).tolist()


def main() -> None:
    """Print how many images each cluster got."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument("images", type=Path, metavar="IMAGES.npz")
    given = parser.parse_args()
    with np.load(given.images) as arrays:
        print(np.bincount(label(given.run, arrays["images"])).tolist())


if __name__ == "__main__":
    main()
