"""Photographs: an encoder's frozen features, clustered by every method that takes them.

    pip install -e '.[photos]'
    export JAXCLUST_STL10=FOLDER JAXCLUST_TINY_IMAGENET=FOLDER
    python -m experiments.tables.photographs

Each FOLDER has one sub-folder of photographs per class. The figures kept are of the 5,000 labelled
training photographs of STL-10 (Coates et al. 2011), 96 pixels, ten classes, as JPEG of quality 90,
and of Tiny-ImageNet's validation photographs, 64 pixels, fifty a class: its first 10, 50 and 200
classes. A set whose FOLDER is not given is left as it was recorded. Tiny-ImageNet's classes 51 to
60, 101 to 120 and 151 to 200 were held back: nothing but the rule of "auto" was chosen by looking
at them. There the folder command's method is set beside k-means, spectral and Ward's tree in the
same map; it should be within two points of the best. What "auto" finds there is a column, too.

Target on STL-10, k given (NMI / ACC): 88 / 93, 90 / 94 where it can be had; the better of TEMI and
TURTLE 91 / 96. What the README's folder command reached before there were encoders, on other
photographs: 21 / 17. Rows "auto" are told no number of clusters; the one chosen is in a column.

Labels are used for scoring only. The weights were trained on ImageNet, whose classes include those
of both sets: features of photographs of other kinds are worth less.

Time on two CPU cores: two minutes to encode 5,000, once for each encoder; then less than a minute
a run, TURTLE one to five, TEMI ten on STL-10. Results: photographs.md and .json in
experiments/results/; how a table is run: grid.py.
"""

import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

from sklearn.cluster import AgglomerativeClustering

from experiments.tables.class_folders import linked_classes, relink
from experiments.tables.grid import Cell, Row, Table, main
from jaxclust import metrics
from jaxclust.runs.finished import read_finished

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


class Photographs(NamedTuple):
    """A set: classes of a folder."""

    name: str
    variable: str  # that says where the photographs lie
    classes: int
    first: int = 0  # of them
    held_back: bool = False  # nothing was chosen by it


_TINY = "JAXCLUST_TINY_IMAGENET"
SETS = (
    Photographs("stl10_train_photos", "JAXCLUST_STL10", 10),
    *(Photographs(f"tiny_imagenet_{count}", _TINY, count) for count in (10, 50, 200)),
    *(
        Photographs(f"tiny_imagenet_{first + 1}_{first + count}", _TINY, count, first, True)
        for first, count in ((50, 10), (100, 20), (150, 50))
    ),
)
_COMPARED = ("kmeans", "derc_r", "spectral", "derc_r-auto")  # on sets held back
# Hours on a CPU for another encoder's.
_LARGE, _SLOW = "tiny_imagenet_200", ("turtle", "turtle_1000", "temi")


def cells(of: Photographs) -> list[Cell]:
    """Every method on every encoder's features of a set."""
    listed, name = [], of.name
    for short, encoder in ENCODERS.items():
        for method, (title, options) in METHODS.items():
            if name == _LARGE and method in _SLOW and short != "lite2":
                continue
            if of.held_back and method not in _COMPARED:
                continue
            given = [*options, f"--encoder={encoder}", "--labels-from-folders"]
            if not any(word.startswith("--n-clusters") for word in options):
                given.append(f"--n-clusters={of.classes}")
            title = f"{title}, {encoder}"
            # A link, so that results name no path of this machine.
            listed.append(Cell(f"{method}-{short}-{name}", title, f"folder:runs/{name}", given))
    return listed


def wards(row: Row, folders: list[Path]) -> Row:
    """Ward's tree in the runs' maps, cut at the same number of clusters."""
    scores: dict[str, list[float]] = {"nmi": [], "acc": []}
    for folder in folders:
        run = read_finished(folder)
        if run.map is None or run.labels is None:
            raise ValueError(f"{folder} has no map or no labels")
        found = AgglomerativeClustering(run.n_clusters, linkage="ward").fit_predict(run.map)
        scores["nmi"].append(metrics.nmi(run.labels, found))
        scores["acc"].append(metrics.accuracy(run.labels, found))
    kept = {name: row[name] for name in ("dataset", "seeds", "n_images", "device", "versions")}
    about = {"name": row["name"].replace("derc_r", "ward"), "of": row["name"]}
    about["title"] = row["title"].replace("mixture (DERC-R)", "Ward's tree")
    return {**about, **kept, "command": f"{row['command']} (Ward's tree in its map)", **scores}


def derived(row: Row, folders: list[Path]) -> list[Row]:
    """The number of clusters each run looked for or found, as a column; of sets held back Ward's
    tree in the same maps."""
    if "auto" in row["name"] or "hdbscan" in row["name"]:
        summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
        row["clusters"] = [one["clusters_found"] for one in summaries]
        return []
    held_back = {f"folder:runs/{one.name}" for one in SETS if one.held_back}
    if row["dataset"] in held_back and row["name"].startswith("derc_r-"):
        return [wards(row, folders)]
    return []


def linked() -> None:
    """Links in runs/ to the photographs that the environment names."""
    for one in SETS:
        if not os.environ.get(one.variable):
            continue
        source = Path(os.environ[one.variable]).expanduser()
        if sum(path.is_dir() for path in source.iterdir()) == one.classes:
            relink(Path("runs") / one.name, source)
        else:
            linked_classes(source, Path("runs") / one.name, one.classes, one.first)


TABLE = Table(
    "photographs",
    "Photographs by frozen features",
    [cell for one in SETS for cell in cells(one)],
    derive=derived,
    columns=("clusters",),
)

if __name__ == "__main__":
    linked()
    sys.exit(main(TABLE, __doc__ or ""))
