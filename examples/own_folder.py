"""Cluster a folder of images and print which image is in which group.

    python examples/own_folder.py FOLDER --n-clusters 12

The same from the command line, with a page to look at:
`jaxclust run --method ccnn --dataset folder:FOLDER --image-size 28 --n-clusters 12`.
"""

import argparse
from pathlib import Path

from jaxclust import CCNN
from jaxclust.data import catalogue


def main() -> None:
    """Read, cluster, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n-clusters", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=28)
    parser.add_argument("--epochs", type=int, help="default: the preset's 20")
    parser.add_argument("--starts", type=int, help="default: the preset's 4")
    given = parser.parse_args()
    images = catalogue.load(
        f"folder:{given.folder}", catalogue.default_data_dir(), image_size=given.image_size
    )
    model = CCNN(
        n_clusters=given.n_clusters, epochs=given.epochs, starts=given.starts, verbose=True
    )
    clusters = model.fit_predict(images.images)
    sure = model.predict_proba(images.images).max(axis=1)
    for cluster in range(given.n_clusters):
        members = [i for i in range(len(clusters)) if clusters[i] == cluster]
        members.sort(key=lambda i: -sure[i])
        names = ", ".join(images.ids[i] for i in members[:3])
        print(f"cluster {cluster}: {len(members)} images, the surest {names or 'none'}")


if __name__ == "__main__":
    main()
