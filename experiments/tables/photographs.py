"""Photographs: an encoder's frozen features, clustered by every method that takes them.

    pip install -e '.[photos]'
    export JAXCLUST_STL10=FOLDER JAXCLUST_TINY_IMAGENET=FOLDER
    python -m experiments.tables.photographs

Each FOLDER has a sub-folder of photographs a class. The figures kept are of the 5,000 labelled
training photographs of STL-10 (Coates et al. 2011), 96 pixels, ten classes, as JPEG of quality 90,
and of Tiny-ImageNet's validation photographs, 64 pixels, fifty a class: its first 10, 50 and 200
classes. A set whose FOLDER is not given is left as it was recorded.

Target on STL-10, k given (NMI / ACC): 88 / 93, 90 / 94 where it can be had; the better of TEMI and
TURTLE 91 / 96. What the README's folder command reached before there were encoders, on other
photographs: 21 / 17. Rows "auto" are told no number of clusters; the one chosen is in a column.

Labels score and nothing else. The weights were trained on ImageNet's, whose classes hold those of
both sets: features of photographs of other kinds are worth less.

Time on two CPU cores: two minutes to encode 5,000, once for each encoder; then less than a minute
a run, TURTLE one to five, TEMI ten on STL-10. Results: photographs.md and .json in
experiments/results/; how a table is run: grid.py.
"""

import json
import os
import sys
from pathlib import Path

from experiments.tables.class_folders import linked_classes, relink
from experiments.tables.grid import Cell, Row, Table, main

ENCODERS = {"lite2": "efficientnet_lite2", "lite0": "efficientnet_lite0"}
METHODS = {
    "kmeans": ("k-means", ["--method=kmeans"]),
    "derc_r": ("map and mixture (DERC-R)", ["--method=derc_r", "--starts=1"]),
    "spectral": ("spectral", ["--method=spectral"]),
    "derc_r-auto": (
        "map and mixture, auto",
        ["--method=derc_r", "--starts=1", "--n-clusters=auto"],
    ),
    "derc_r-hdbscan": (
        "map and HDBSCAN, k not used",
        ["--method=derc_r", "--starts=1", "--clusterer=hdbscan"],
    ),
    "turtle": ("TURTLE", ["--method=turtle"]),
    "turtle_1000": ("TURTLE, batches of 1000", ["--method=turtle", "--batch-size=1000"]),
    "temi": ("TEMI", ["--method=temi"]),
}
# Name, classes, and the variable that says where the photographs lie.
SETS = (
    ("stl10_train_photos", 10, "JAXCLUST_STL10"),
    ("tiny_imagenet_10", 10, "JAXCLUST_TINY_IMAGENET"),
    ("tiny_imagenet_50", 50, "JAXCLUST_TINY_IMAGENET"),
    ("tiny_imagenet_200", 200, "JAXCLUST_TINY_IMAGENET"),
)
# Hours on a CPU for another encoder's.
_LARGE, _SLOW = "tiny_imagenet_200", ("turtle", "turtle_1000", "temi")


def cells(name: str, n_clusters: int) -> list[Cell]:
    """Every method on every encoder's features of a set."""
    listed = []
    for short, encoder in ENCODERS.items():
        for method, (title, options) in METHODS.items():
            if name == _LARGE and method in _SLOW and short != "lite2":
                continue
            given = [*options, f"--encoder={encoder}", "--labels-from-folders"]
            if not any(word.startswith("--n-clusters") for word in options):
                given.append(f"--n-clusters={n_clusters}")
            title = f"{title}, {encoder}"
            # A link, so that results name no place of this machine's.
            listed.append(Cell(f"{method}-{short}-{name}", title, f"folder:runs/{name}", given))
    return listed


def numbers_found(row: Row, folders: list[Path]) -> list[Row]:
    """The number of clusters each run looked for or found, as a column."""
    if "auto" in row["name"] or "hdbscan" in row["name"]:
        summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
        row["clusters"] = [one["clusters_found"] for one in summaries]
    return []


def linked() -> None:
    """Links in runs/ to the photographs that the environment names."""
    for name, classes, variable in SETS:
        if not os.environ.get(variable):
            continue
        source = Path(os.environ[variable]).expanduser()
        if sum(path.is_dir() for path in source.iterdir()) == classes:
            relink(Path("runs") / name, source)
        else:
            linked_classes(source, Path("runs") / name, classes)


TABLE = Table(
    "photographs",
    "Photographs by frozen features",
    [cell for name, classes, _ in SETS for cell in cells(name, classes)],
    derive=numbers_found,
    columns=("clusters",),
)

if __name__ == "__main__":
    linked()
    sys.exit(main(TABLE, __doc__ or ""))
