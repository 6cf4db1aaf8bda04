"""CCNN from a pre-trained network: Table II of Hsu & Lin 2017 on a smaller set, and Figs. 6, 7.

    export JAXCLUST_CLASS_FOLDERS=FOLDER JAXCLUST_WEIGHTS=FILE
    python -m experiments.tables.ccnn_pretrained

FOLDER has one sub-folder of pictures per class (ILSVRC's validation set laid out so, or
Tiny-ImageNet's, whose pictures have 64 pixels); the pictures of its first CLASSES classes are
clustered. FILE: see --init.

Published (NMI, AlexNet): ILSVRC-Val pre-trained proposed 37.5, Baselines I 18.1, II 23.1, III
29.3, from a random network 31.4; Places-Val 30.7, 15.3, 17.7, 20.1 and 21.9. So the order expected
is proposed > III > II > I. Fig. 6: NMI is best at k_m = 1 of 50. Fig. 7: NMI rises for ten epochs.

Preset paper stands the paper's adaptation layers on the weights' network; rows without them take
its averaged last map, as preset best does.

Table III, run time and memory: the seconds and peak memory of each row. Time on two CPU cores,
MobileNet, 10 classes of 50: the frozen baselines half a minute and 4, a trained run 2 to 10.
Results: ccnn_pretrained.md and .json, ccnn_epochs.png and ccnn_k_m.png in experiments/results/; how
a table is run: grid.py.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from experiments.figures import figures
from experiments.tables.class_folders import linked_classes, relink
from experiments.tables.grid import RESULTS, Cell, Row, Table, logged, main, recorded

CLASSES = 10
K_M = (1, 5, 25, 50)
# Those of Fig. 7, for preset best too.
EPOCHS = "--epochs=10"


def cells(dataset: str, weights: str) -> list[Cell]:
    """The kinds of run; all but one start from the weights."""
    common = ["--labels-from-folders", f"--n-clusters={CLASSES}"]
    start = [*common, "--image-size=224", f"--init={weights}"]
    scored = [*start, "--evaluate-every=1"]
    paper, averaged = ["--preset=paper", *scored], "--adaptation-widths=None"
    # Fig. 4's network, as Fig. 1's takes minutes an epoch.
    chance = [*common, "--image-size=32", "--network=lenet", "--init=random", "--evaluate-every=1"]
    kinds = {
        "baseline3": ("Baseline-III, best", ["--method=ccnn_baseline3", *start]),
        "baseline2": ("Baseline-II, best", ["--method=ccnn_baseline2", *start]),
        "baseline1": ("Baseline-I, best", ["--method=ccnn_baseline1", *scored, EPOCHS]),
        "ccnn": ("CCNN, best", ["--method=ccnn", *scored, EPOCHS]),
        "ccnn-random": (
            "CCNN, best, random small network",
            ["--method=ccnn", *chance, EPOCHS],
        ),
        "baseline1-paper": (
            "Baseline-I, paper, averaged map",
            ["--method=ccnn_baseline1", *paper, averaged],
        ),
        "ccnn-paper": ("CCNN, paper, averaged map", ["--method=ccnn", *paper, averaged]),
        "ccnn-paper-layers": ("CCNN, paper", ["--method=ccnn", *paper]),
    }
    for number, name in enumerate(("I", "II", "III"), start=1):
        options = [f"--method=ccnn_baseline{number}", *paper]
        kinds[f"baseline{number}-paper-layers"] = (f"Baseline-{name}, paper", options)
    for k_m in K_M:
        options = ["--method=ccnn", *paper, averaged, f"--k-m={k_m}"]
        kinds[f"ccnn-paper-km{k_m}"] = (f"CCNN, paper, averaged map, k_m {k_m}", options)
    return [
        Cell(f"{name}-classes{CLASSES}", title, dataset, options)
        for name, (title, options) in kinds.items()
    ]


def by_epoch(row: Row, folders: list[Path]) -> list[Row]:
    """Add what each run logged after its epochs, for Fig. 7, and its memory, for Table III."""
    row["nmi_by_epoch"] = [[one["nmi"] for one in logged(folder)] for folder in folders]
    summaries = [folder / "summary.json" for folder in folders]
    row["peak_rss_mb"] = [
        json.loads(path.read_text())["peak_rss_mb"] if path.is_file() else None
        for path in summaries
    ]
    return []


def draw(rows: Mapping[str, Row]) -> None:
    """Figs. 6 and 7, as far as there are runs for them."""
    curves = {}
    for row in rows.values():
        by_seed = row.get("nmi_by_epoch") or []
        if len(by_seed) and min(map(len, by_seed)) > 1:
            epochs = range(min(map(len, by_seed)))
            curves[row["title"]] = {i: [of_seed[i] for of_seed in by_seed] for i in epochs}
    wanted = (
        "CCNN, best",
        "Baseline-I, best",
        "CCNN, best, random small network",
        "CCNN, paper, averaged map",
        "Baseline-I, paper, averaged map",
    )
    curves = {title: curves[title] for title in wanted if title in curves}
    title = f"{CLASSES} classes of 50 pictures"
    if curves:
        path = RESULTS / "ccnn_epochs.png"
        figures.curves(path, curves, x="epoch", y="NMI in percent", title=title)
    sweep = {}
    for k_m in (*K_M, 10):
        name = "ccnn-paper" if k_m == 10 else f"ccnn-paper-km{k_m}"
        row = rows.get(f"{name}-classes{CLASSES}")
        if row is not None:
            sweep[float(k_m)] = row["nmi"]
    if len(sweep) > 1:
        path = RESULTS / "ccnn_k_m.png"
        figures.curves(
            path,
            {"CCNN, paper, averaged map": sweep},
            x="k_m of 50",
            y="NMI in percent",
            title=title,
        )


if __name__ == "__main__":
    source, weights = (os.environ.get(f"JAXCLUST_{name}") for name in ("CLASS_FOLDERS", "WEIGHTS"))
    if source is None or weights is None:
        sys.exit("set JAXCLUST_CLASS_FOLDERS and JAXCLUST_WEIGHTS, as this file's docstring says")
    runs = Path("runs")
    folder = linked_classes(Path(source), runs / "ccnn_pretrained-classes", CLASSES)
    # A link, so that the recorded commands name no machine's path.
    link = runs / Path(weights).name
    relink(link, Path(weights))
    table = Table(
        "ccnn_pretrained",
        "CCNN from a pre-trained network",
        cells(f"folder:{folder}", str(link)),
        derive=by_epoch,
        columns=["peak_rss_mb"],
    )
    status = main(table, __doc__ or "")
    draw(recorded(table))
    sys.exit(status)
