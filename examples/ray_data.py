"""Label images with Ray Data: an actor per device, each with a finished run's model.

    pip install 'ray[data]'
    python examples/ray_data.py RUN_DIR IMAGES.npz

Ray reads, batches, spreads and retries; `jaxclust.Predictor` labels a batch.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import jaxclust as jc


def label(run: Path, images: np.ndarray, actors: int = 1) -> list[dict[str, Any]]:
    """Cluster and confidence of each image, in the images' order.

    Args:
        run: a finished run's folder, on a disk that the workers see.
        images: like the run's, [n, h, w, c].
        actors: how many; with GPUs give each one (`num_gpus=1`).
    """
    import ray

    ray.init(ignore_reinit_error=True, include_dashboard=False, log_to_driver=False)
    rows = [{"row": i, "image": image} for i, image in enumerate(images)]
    labelled = ray.data.from_items(rows).map_batches(
        jc.Predictor, fn_constructor_args=(str(run),), batch_size=500, concurrency=actors
    )
    found = sorted(labelled.take_all(), key=lambda row: row["row"])
    ray.shutdown()
    return found


def main() -> None:
    """Print how many images each cluster got."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument("images", type=Path, metavar="IMAGES.npz")
    parser.add_argument("--actors", type=int, default=1)
    given = parser.parse_args()
    with np.load(given.images) as arrays:
        found = label(given.run, arrays["images"], given.actors)
    print(np.bincount([row["cluster"] for row in found]).tolist())


if __name__ == "__main__":
    main()
