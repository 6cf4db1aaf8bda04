"""Photographs: an encoder's frozen features, clustered by every method that takes them.

    pip install -e '.[photos]'
    export JAXCLUST_PHOTOGRAPHS=FOLDER
    python -m experiments.tables.photographs

FOLDER has a sub-folder of photographs a class. The figures kept are of the 5,000 labelled training
photographs of STL-10 (Coates et al. 2011), 96 pixels, ten classes, as JPEG of quality 90; its
folder's name is theirs here. Target (NMI / ACC): 88 / 93, 90 / 94 where it can be had. What the
README's folder command reached before there were encoders, on other photographs: 21 / 17.

No setting was picked by these labels. The weights were trained on ImageNet's, whose classes hold
STL-10's ten: features of photographs of other kinds are worth less.

Time on two CPU cores: five minutes to encode, once; then one to ten a run. Results: photographs.md
and .json in experiments/results/; how a table is run: grid.py.
"""

import os
import sys
from pathlib import Path

from experiments.tables.class_folders import relink
from experiments.tables.grid import Cell, Table, main

ENCODERS = {"lite2": "efficientnet_lite2", "lite0": "efficientnet_lite0"}
METHODS = {
    "derc_r": ("map and mixture (DERC-R)", ["--method=derc_r", "--starts=1"]),
    "derc_r4": ("map and mixture, best of four starts", ["--method=derc_r"]),
    "derc_r-hdbscan": (
        "map and HDBSCAN, k not given",
        ["--method=derc_r", "--starts=1", "--clusterer=hdbscan"],
    ),
    "turtle": ("TURTLE", ["--method=turtle"]),
    "temi": ("TEMI", ["--method=temi"]),
    "kmeans": ("k-means", ["--method=kmeans"]),
    "spectral": ("spectral", ["--method=spectral"]),
}


def cells(folder: Path, n_clusters: int) -> list[Cell]:
    """Every method on every encoder's features."""
    common = ["--labels-from-folders", f"--n-clusters={n_clusters}"]
    return [
        Cell(
            f"{name}-{short}-{folder.name}",
            f"{title}, {encoder}",
            f"folder:{folder}",
            [*options, f"--encoder={encoder}", *common],
        )
        for short, encoder in ENCODERS.items()
        for name, (title, options) in METHODS.items()
    ]


if __name__ == "__main__":
    given = os.environ.get("JAXCLUST_PHOTOGRAPHS")
    if not given:
        raise SystemExit("set JAXCLUST_PHOTOGRAPHS to a folder with a sub-folder a class")
    source = Path(given).expanduser()
    # A link, so that results name no place of this machine's.
    link = Path("runs") / source.name
    relink(link, source)
    classes = sum(path.is_dir() for path in source.iterdir())
    table = Table("photographs", "Photographs by frozen features", cells(link, classes))
    sys.exit(main(table, __doc__ or ""))
