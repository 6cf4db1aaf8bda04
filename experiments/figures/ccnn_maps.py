"""Where in a picture a cluster is seen: Fig. 5 of Hsu & Lin 2017.

    python -m experiments.figures.ccnn_maps RUN_DIR --to PICTURE

RUN_DIR is a finished run of CCNN from a weights file, on a folder of pictures. Its feature is the
mean of the network's last map over all positions, and an image belongs to the centroid most like
it, so that the map's product with that centroid says how much each position adds (Zhou et al.
2016). The paper draws Conv8's maps averaged, in which motorcycles can be located. Of each of some
clusters the most certain pictures are drawn, with the map laid over them.

Time: seconds. The picture holds the set's own pictures, so that their terms are its.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.figures import figures
from jaxclust.core import device
from jaxclust.images.normalisation import normalise
from jaxclust.methods.ccnn.ccnn_config import weights_file
from jaxclust.models.encoders import pretrained
from jaxclust.runs.finished import images_of, read_finished
from jaxclust.runs.labelling import reopen

CLUSTERS, PICTURES = 6, 5


def response(maps: np.ndarray, centroid: np.ndarray) -> np.ndarray:
    """How like the centroid each position is, from 0 to 1: [n, h, w, c], [c] -> [n, h, w]."""
    product = np.maximum(maps @ centroid, 0)
    return product / np.maximum(product.max(axis=(1, 2), keepdims=True), 1e-12)


def main() -> int:
    """Read the run, draw the pictures and what lights up in them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--to", type=Path, required=True, help="a .png or .jpg file")
    options = parser.parse_args()
    plt = figures.pyplot()
    finished, run = read_finished(options.run), reopen(options.run)
    file = weights_file(run.config) if run.record["options"]["method"].startswith("ccnn") else None
    if file is None:
        raise SystemExit(f"{options.run} is no run of CCNN from a weights file (--init)")
    images = images_of(finished).images
    surest = np.argsort(-finished.confidence, kind="stable")
    weights = pretrained.load(file)
    network = weights.network()
    of_network: Any = run.state.model_state["network"]
    variables = {
        "params": run.state.params["network"]["body"]["backbone"],
        **{name: part["body"]["backbone"] for name, part in of_network.items()},
    }
    last_map = device.jit(lambda v, x: network.apply(v, x, train=False))
    centroids = np.asarray(run.method.artifacts(run.state)["centroids"])
    figure, grid = plt.subplots(
        CLUSTERS, PICTURES, figsize=(2 * PICTURES, 2 * CLUSTERS), layout="constrained"
    )
    for axis in grid.flat:
        axis.axis("off")
    for cluster, axes in enumerate(grid[: len(centroids)]):
        chosen = surest[finished.clusters[surest] == cluster][:PICTURES]
        if not len(chosen):
            continue
        pictures = images[chosen]
        side = (weights.backbone.side,) * 2
        values = normalise(jnp.asarray(pictures), run.normalisation)
        values = jax.image.resize(values, (len(chosen), *side, values.shape[3]), "bilinear")
        lit = response(np.asarray(last_map(variables, values)), centroids[cluster])
        for axis, picture, light in zip(axes, pictures, lit, strict=False):
            height, width = picture.shape[:2]
            shown = np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture
            axis.imshow(shown)
            axis.imshow(
                light, cmap="jet", alpha=0.4, interpolation="bilinear", vmin=0, vmax=1,
                extent=(0, width, height, 0),
            )  # fmt: skip
    figure.suptitle("What makes a picture its cluster's; a row a cluster")
    figure.savefig(options.to, dpi=80)
    plt.close(figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
