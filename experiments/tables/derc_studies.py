"""DERC's other experiments: Tables V and VI, Fig. 4 and Sec. V.F of Yan et al. 2020.

    python -m experiments.tables.derc_studies --data-dir DATA_DIR [--datasets usps …]

Published (ACC, MNIST-test), Table V: alpha 0.1 / 0.3 / 0.5 / 0.7 / 0.9 gives 96.60 / 96.76 /
96.76 / 98.25 / 96.71. Table VI (USPS): 95.75 without retraining, up to 98.90 after five
rounds. Fig. 4 (MNIST-test): latents of 10 to 128 values do about equally well. Sec. V.F: a run
whose pre-training ends at a large reconstruction error clusters badly, so that of several runs
the one with the smallest can be chosen without labels.

A run of five rounds scores every round, which gives Table VI; its rows list the seeds'
last pre-training errors too, for Sec. V.F.

Time on two CPU cores: USPS 3 to 6 minutes a run, MNIST-test 3 to 20. Larger sets:
`jaxclust run --method=derc --dataset=mnist --alpha=…`, hours a run. Results:
derc_studies.md and .json in experiments/results/; how a table is run: grid.py.
"""

import json
import statistics
import sys
from pathlib import Path

from experiments.tables.grid import Cell, Row, Table, logged, main

ALPHAS = (0.1, 0.3, 0.5, 0.7, 0.9)
WIDTHS = (10, 32, 64, 100, 128)
ROUNDS = 5
# Those of digits were run with the epochs of the larger sets, which are few steps there.
# All were run with random views in pre-training, which preset best had then.
VIEWS = ["--rotation=15", "--shift=0.1", "--zoom=0.15", "--shear=0.2"]
EPOCHS = {"digits": ["--pretrain-epochs=30", "--epochs=10"]}


def cells(dataset: str) -> list[Cell]:
    """The kinds of run on a data set; the presets' alpha is 0.7, best's rounds five."""
    epochs = EPOCHS.get(dataset, [])
    rounds = Cell(
        f"rounds-{dataset}",
        f"{ROUNDS} rounds",
        dataset,
        ["--method=derc", *VIEWS, f"--iterations={ROUNDS}", *epochs],
    )
    alphas = [
        Cell(
            f"alpha{value:g}-{dataset}",
            f"alpha {value:g}",
            dataset,
            ["--method=derc", *VIEWS, f"--alpha={value:g}", "--iterations=1", *epochs],
            pretrained=rounds.name,
        )
        for value in ALPHAS
    ]
    widths = [
        Cell(
            f"width{value}-{dataset}",
            f"latent of {value}",
            dataset,
            ["--method=derc", *VIEWS, f"--latent-width={value}", "--iterations=1", *epochs],
            # The presets' width on sets of ten classes.
            pretrained=rounds.name if value == 10 else None,
        )
        for value in WIDTHS
    ]
    return [rounds, *alphas, *widths]


def pretraining_error(folder: Path) -> float:
    """Mean reconstruction error over pre-training's last logged epoch, wherever it was run."""
    config = json.loads((folder / "config.json").read_text())
    if elsewhere := config["options"].get("pretrained"):
        return pretraining_error(Path(elsewhere))
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [row for line in lines if (row := json.loads(line)).get("phase") == "pretrain"]
    steps = [row for row in rows if "loss" in row]
    last = max(row["epoch"] for row in steps)
    return statistics.mean(row["loss"] for row in steps if row["epoch"] > last - 1)


def by_round(row: Row, folders: list[Path]) -> list[Row]:
    """One row per round of a run of several; every row gets its runs' pre-training errors."""
    row["pretraining_error"] = [pretraining_error(folder) for folder in folders]
    if not row["name"].startswith("rounds"):
        return []
    scored = [[one for one in logged(folder) if one["epoch"] == 0] for folder in folders]
    listed = []
    for done in range(min(map(len, scored))):
        scores = [one[done] for one in scored]
        listed.append(
            {
                "name": f"round{done}-{row['dataset']}",
                "of": row["name"],
                "title": f"after {done} rounds",
                "dataset": row["dataset"],
                "command": f"{row['command']} (the scores of its metrics.jsonl)",
                "seeds": row["seeds"],
                "nmi": [one["nmi"] for one in scores],
                "acc": [one["acc"] for one in scores],
            }
        )
    return listed


TABLE = Table(
    "derc_studies",
    "DERC: weights, rounds, width",
    [cell for dataset in ("digits", "usps", "mnist_test") for cell in cells(dataset)],
    derive=by_round,
    columns=["pretraining_error"],
)

if __name__ == "__main__":
    sys.exit(main(TABLE, __doc__ or ""))
