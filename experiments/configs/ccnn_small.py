"""CCNN on small images: Table IV of Hsu & Lin 2017 and two more sets.

    python experiments/configs/ccnn_small.py --data-dir DATA_DIR [--datasets digits …]

Published (NMI): MNIST-test 0.916, k-means 0.528. The published code feeds true
labels as pseudo-labels, so its figure is no unsupervised result; USPS and digits
are not in the paper. Target here: NMI 0.94 on MNIST-test, 0.93 on USPS.

Every cell is a run of `jaxclust run` whose folder lies under --runs; finished ones
are skipped and killed ones resumed, so the command can be repeated until all is
done. Seeds that ccnn_small.json already holds are not run again (`--again` runs all).
`--collect` only gathers what is finished. Results: ccnn_small.md and .json in
experiments/results/.
Time on two CPU cores: digits 1 minute a run, USPS 5, MNIST-test 15.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from jaxclust.cli import main as jaxclust

RESULTS = Path(__file__).parent.parent / "results"
DATASETS = ("digits", "usps", "mnist_test")
SEEDS = (0, 1, 2)


def cells(datasets: list[str]) -> list[tuple[str, list[str]]]:
    """(name, options) of every kind of run; the seed is added to both."""
    listed = []
    for dataset in datasets:
        listed.append((f"kmeans-{dataset}", ["--method=kmeans", f"--dataset={dataset}"]))
        for preset in ("best", "paper"):
            for compensation in ("rollback", "none"):
                options = ["--method=ccnn", f"--dataset={dataset}", f"--preset={preset}"]
                options += [f"--compensation={compensation}"]
                listed.append((f"{preset}-{dataset}-{compensation}", options))
    return listed


def initial_features(folder: Path) -> dict[str, float] | None:
    """k-means' scores before training, which preset best logs as epoch 0."""
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["epoch"] == 0:
            return {"nmi": row["nmi_centroid"], "acc": row["acc_centroid"]}
    return None


def spread(values: list[float]) -> str:
    """Mean ± sample standard deviation, in percent."""
    mean = 100 * statistics.mean(values)
    return (
        f"{mean:.1f} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"
    )


def recorded() -> dict[str, dict[str, Any]]:
    """The rows of earlier calls, by name."""
    path = RESULTS / "ccnn_small.json"
    return {row["name"]: row for row in json.loads(path.read_text())} if path.is_file() else {}


def merge(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """A row with the seeds of both; of a seed in both, the new figures."""
    if old is None:
        return new
    merged = {**old, **new}
    kept = [i for i, seed in enumerate(old["seeds"]) if seed not in new["seeds"]]
    order = sorted([*(old["seeds"][i] for i in kept), *new["seeds"]])
    for name, values in new.items():
        if isinstance(values, list):
            by_seed = dict(zip(new["seeds"], values, strict=True))
            by_seed |= {old["seeds"][i]: old[name][i] for i in kept}
            merged[name] = [by_seed[seed] for seed in order]
    return merged


def finished(name: str, options: list[str], runs: Path) -> list[dict[str, Any]]:
    """The row of a kind of run from its finished seeds, and that of its initial features."""
    folders = [runs / f"{name}-{seed}" for seed in SEEDS]
    done = [folder for folder in folders if (folder / "summary.json").is_file()]
    if not done:
        return []
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in done]
    first = summaries[0]
    row = {
        "name": name,
        "dataset": first["dataset"],
        "command": " ".join(["jaxclust run", *options, "--seed SEED"]),
        "seeds": [summary["seed"] for summary in summaries],
        "n_images": first["n_images"],
        "nmi": [summary["nmi"] for summary in summaries],
        "acc": [summary["acc"] for summary in summaries],
        "ari": [summary["ari"] for summary in summaries],
        "empty_clusters": [summary["empty_clusters"] for summary in summaries],
        "seconds": [round(sum(summary["seconds"].values())) for summary in summaries],
        "device": first["device"],
        "versions": first["versions"],
    }
    for reading in ("centroid", "output"):
        if f"nmi_{reading}" in first:
            row[f"nmi_{reading}"] = [summary[f"nmi_{reading}"] for summary in summaries]
    rows = [row]
    if name.startswith("best") and name.endswith("rollback"):
        initial = {
            seed: scores
            for seed, folder in zip(row["seeds"], done, strict=True)
            if (scores := initial_features(folder))
        }
        if initial:
            rows.append(
                {
                    "name": f"initial-{first['dataset']}",
                    "dataset": first["dataset"],
                    "command": f"{row['command']} (its epoch 0 in metrics.jsonl)",
                    "seeds": list(initial),
                    "nmi": [scores["nmi"] for scores in initial.values()],
                    "acc": [scores["acc"] for scores in initial.values()],
                }
            )
    return rows


def collect(runs: Path) -> list[dict[str, Any]]:
    """A row for every kind of run that has a seed, recorded earlier or finished now."""
    rows = recorded()
    order = []
    for name, options in cells(list(DATASETS)):
        order += [name] + [f"initial-{name.split('-')[1]}"] * name.endswith("rollback")
        for row in finished(name, options, runs):
            rows[row["name"]] = merge(rows.get(row["name"]), row)
    return [rows[name] for name in dict.fromkeys(order) if name in rows]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    titles = {
        "kmeans": "k-means on pixels",
        "initial": "k-means on best's initial features",
        "best": "CCNN, best",
        "paper": "CCNN, paper",
    }
    lines = ["| data set | run | NMI | ACC | seeds | empty clusters | seconds a run |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        title = titles[row["name"].split("-")[0]]
        if row["name"].endswith("none"):
            title += ", no compensation"
        empty = ", ".join(str(count) for count in row.get("empty_clusters", [])) or "–"
        seconds = ", ".join(str(value) for value in row.get("seconds", [])) or "–"
        seeds = ", ".join(str(seed) for seed in row["seeds"])
        lines.append(
            f"| {row['dataset']} | {title} | {spread(row['nmi'])} | {spread(row['acc'])} | "
            f"{seeds} | {empty} | {seconds} |"
        )
    return "\n".join(lines) + "\n"


def page(rows: list[dict[str, Any]]) -> str:
    """The table with what was run to get it."""
    commands = "\n".join(f"- {row['name']}: `{row['command']}`" for row in rows)
    first = rows[0]
    versions = ", ".join(f"{name} {value}" for name, value in first["versions"].items())
    return (
        "# CCNN on small images\n\n"
        "Percent, mean ± standard deviation over seeds; NMI is the geometric one. Written by "
        "`python experiments/configs/ccnn_small.py --data-dir DATA_DIR`, which goes on where it "
        "stopped and fills in missing seeds and rows. What it says: README.md beside this file."
        f"\n\n{table(rows)}\nDevice: {first['device']}, 2 cores. Versions: {versions}.\n\n"
        f"{commands}\n"
    )


def main() -> int:
    """Run what is missing, then collect."""
    parser = argparse.ArgumentParser(description="CCNN on small images.")
    parser.add_argument("--data-dir")
    parser.add_argument("--runs", type=Path, default=Path("runs/ccnn_small"))
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--collect", action="store_true", help="run nothing")
    parser.add_argument("--again", action="store_true", help="run recorded seeds too")
    options = parser.parse_args()
    place = [f"--data-dir={options.data_dir}"] if options.data_dir else []
    known = {} if options.again else recorded()
    for seed in [] if options.collect else options.seeds:
        for name, arguments in cells(options.datasets):
            folder = options.runs / f"{name}-{seed}"
            if name in known and seed in known[name]["seeds"]:
                continue
            if (folder / "summary.json").is_file():
                continue
            given = [*arguments, *place, f"--seed={seed}", f"--out={folder}", "--resume"]
            status = jaxclust(["run", *given, "--quiet"])
            if status:
                return status
    rows = collect(options.runs)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ccnn_small.json").write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "ccnn_small.md").write_text(page(rows))
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
