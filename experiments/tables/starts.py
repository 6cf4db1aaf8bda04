"""Which label-free criterion chooses the best of several starts.

    python -m experiments.tables.starts --data-dir DATA_DIR [--methods ccnn … --datasets digits …]

Every method runs from eight seeds with preset `best`. After every epoch of its clustering the
criteria of jaxclust.clustering.criteria are taken, along with ACC, which is only looked at
afterwards. For every criterion, taken after a quarter, half and all of the epochs, the table gives
its rank correlation with the final ACC, and the mean final ACC of the best of four starts, over all
70 ways to draw four of eight. `combined` is the mean rank of several. mnist_test is cut to 3,000
images.

Results: starts.md and .json in experiments/results/. Runs are kept, one file per seed, and not
repeated.
"""

import argparse
import json
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.stats import spearmanr

from experiments.tables.grid import RESULTS, Row
from jaxclust import metrics
from jaxclust.clustering import criteria
from jaxclust.core import settings
from jaxclust.data import catalogue
from jaxclust.methods import registry
from jaxclust.runs.prepare import versions
from jaxclust.training.assemble import assemble
from jaxclust.training.contest import CRITERION, better_half
from jaxclust.training.evidence import Witness
from jaxclust.training.hooks import Calls, Hook, Hooks, Moment
from jaxclust.training.loop import fit

NAME = "starts"
METHODS = ("ccnn", "dac", "ics", "dec", "derc_r")
DATASETS = {"digits": None, "usps": None, "mnist_test": 3000}
SEEDS = range(8)
SHARES = (0.25, 0.5, 1.0)
DRAWN = 4
COMBINED = {
    "combined: loss, confidence": ("loss", "confidence"),
    "combined: views, silhouette": ("views", "silhouette"),
    "combined: views, silhouette, loss": ("views", "silhouette", "loss"),
    "combined: views, stability, evenness": ("views", "stability", "evenness"),
    "combined: views, stability, evenness, silhouette": (
        "views",
        "stability",
        "evenness",
        "silhouette",
    ),
    "combined: all": ("loss", "confidence", "evenness", "stability", "silhouette", "views"),
}


class Watched(Hook):
    """Criteria and scores after every epoch."""

    def __init__(self, witness: Witness, labels: np.ndarray) -> None:
        self.witness, self.labels = witness, labels[witness.rows]
        self.moments: list[dict[str, Any]] = []
        self.assignments: list[np.ndarray] = []

    def on_epoch(self, moment: Moment) -> None:
        found = self.witness.evidence(moment)
        scored = metrics.score(self.labels, found.assignments)
        at = {"phase": moment.phase, "epoch": moment.epoch}
        self.moments.append({**at, **found.criteria, "acc": scored["acc"], "nmi": scored["nmi"]})
        self.assignments.append(found.assignments.astype(np.uint8))


def run(method: str, dataset: str, seeds: list[int], options: argparse.Namespace) -> None:
    """One file for each seed that has none."""
    limit = DATASETS.get(dataset)
    path = options.paths.get(dataset, dataset)
    found = catalogue.load(path, options.data_dir, limit=limit)
    assert found.labels is not None
    registered = registry.find(method)
    config = settings.changed(registered.config("best"), starts=1)
    built, data = assemble(registered, config, found.images, found.n_classes or 10)
    for seed in seeds:
        file = options.runs / f"{method}-{dataset}-{seed}.npz"
        if file.is_file():
            continue
        witness = Witness(built, data)
        watched = Watched(witness, found.labels)
        clock = time.perf_counter()
        fit(built, data, seed=seed, hooks=Hooks([Calls(on_chunk=witness.on_chunk), watched]))
        said = {
            "moments": watched.moments,
            "seconds": round(time.perf_counter() - clock, 1),
            "n_images": len(found.ids),
            "device": jax.devices()[0].device_kind,
            "versions": versions(),
        }
        options.runs.mkdir(parents=True, exist_ok=True)
        text = np.frombuffer(json.dumps(said).encode(), np.uint8)
        np.savez_compressed(file, said=text, assignments=np.stack(watched.assignments))
        last = watched.moments[-1]
        print(method, dataset, seed, f"{last['acc']:.4f}", said["seconds"], flush=True)


def kept(method: str, dataset: str, runs: Path) -> dict[int, tuple[dict[str, Any], np.ndarray]]:
    """What each seed's file says."""
    found = {}
    for seed in SEEDS:
        file = runs / f"{method}-{dataset}-{seed}.npz"
        if file.is_file():
            with np.load(file, allow_pickle=False) as arrays:
                found[seed] = json.loads(arrays["said"].tobytes()), arrays["assignments"]
    return found


def columns(found: dict[int, tuple[dict[str, Any], np.ndarray]], share: float) -> dict[str, Any]:
    """Each criterion's value of every start, after a share of the epochs."""
    rows, assignments = [], []
    for said, assigned in found.values():
        at = round(share * (len(said["moments"]) - 1))
        rows.append(said["moments"][at])
        assignments.append(assigned[at])
    names = [n for n in rows[0] if n not in {"phase", "epoch", "acc", "nmi"}]
    values = {n: [row[n] for row in rows] for n in names if all(n in row for row in rows)}
    values["consensus"] = criteria.consensus(assignments)
    for name, parts in COMBINED.items():
        if all(part in values for part in parts):
            values[name] = criteria.mean_ranks([values[part] for part in parts])
    return values


def halved(found: dict[int, tuple[dict[str, Any], np.ndarray]]) -> list[float]:
    """Final ACC of what `--starts 4` chooses, for every way to draw four of the starts."""
    accs = {seed: said["moments"][-1]["acc"] for seed, (said, _) in found.items()}
    chosen = []
    for drawn in combinations(found, DRAWN):
        left = list(drawn)
        for share in (0.5, 1.0):
            values = columns({seed: found[seed] for seed in left}, share)
            scores = criteria.mean_ranks([values[name] for name in CRITERION])
            left = better_half(left, scores)
        chosen.append(accs[left[0]])
    return chosen


def judged(method: str, dataset: str, runs: Path) -> Row | None:
    """What each criterion is worth, on the seeds available."""
    found = kept(method, dataset, runs)
    if len(found) < DRAWN + 1:
        return None
    accs = np.array([said["moments"][-1]["acc"] for said, _ in found.values()])
    first = next(iter(found.values()))[0]
    rows: Row = {
        "method": method,
        "dataset": dataset,
        "n_images": first["n_images"],
        "seeds": list(found),
        "acc": accs.tolist(),
        "nmi": [said["moments"][-1]["nmi"] for said, _ in found.values()],
        "seconds": [said["seconds"] for said, _ in found.values()],
        "device": first["device"],
        "versions": first["versions"],
        "criteria": [],
    }
    chosen = halved(found)
    rows["halved"] = {"acc": float(np.mean(chosen)), "std": float(np.std(chosen))}
    for share in SHARES:
        for name, values in columns(found, share).items():
            values = np.asarray(values)
            best = [
                accs[list(some)][np.argmax(values[list(some)])]
                for some in combinations(range(len(accs)), DRAWN)
            ]
            rank: Any = spearmanr(values, accs)[0] if len(set(values)) > 1 else 0.0
            judgement = {"share": share, "criterion": name, "rank_correlation": float(rank)}
            judgement |= {"best_of_four": float(np.mean(best)), "std": float(np.std(best))}
            rows["criteria"].append(judgement)
    return rows


def page(rows: list[Row]) -> str:
    """The table: rows criteria and shares, columns methods and sets."""
    heads = [f"{row['method']}, {row['dataset']}" for row in rows]
    lines = [f"| criterion | of the epochs | mean gain | {' | '.join(heads)} |"]
    lines.append("| --- " * (len(rows) + 3) + "|")
    means = [100 * np.mean(row["acc"]) for row in rows]
    spreads = [100 * np.std(row["acc"]) for row in rows]
    none = [f"{mean:.1f} ± {std:.1f}" for mean, std in zip(means, spreads, strict=True)]
    lines.append(f"| none | | 0 | {' | '.join(none)} |")
    chosen = [100 * row["halved"]["acc"] for row in rows]
    kept = [f"{c:.1f} ± {100 * r['halved']['std']:.1f}" for c, r in zip(chosen, rows, strict=True)]
    gain = np.mean(np.subtract(chosen, means))
    lines.append(f"| **`--starts 4`** | 0.5 and 1 | {gain:.2f} | {' | '.join(kept)} |")
    names = list(dict.fromkeys((c["criterion"], c["share"]) for r in rows for c in r["criteria"]))
    for name, share in names:
        cells, gains = [], []
        for row, mean in zip(rows, means, strict=True):
            same = [c for c in row["criteria"] if (c["criterion"], c["share"]) == (name, share)]
            if not same:
                cells.append("–")
                continue
            best = 100 * same[0]["best_of_four"]
            gains.append(best - mean)
            cells.append(f"{best:.1f} ({same[0]['rank_correlation']:.2f})")
        lines.append(f"| {name} | {share:g} | {np.mean(gains):.2f} | {' | '.join(cells)} |")
    devices = ", ".join(sorted({row["device"] for row in rows}))
    count = ", ".join(sorted({str(len(row["seeds"])) for row in rows}))
    return (
        "# Several starts: what each label-free criterion is worth\n\nFinal ACC in percent of the "
        "start with the best criterion of four drawn, mean over all ways to draw them, and in "
        "brackets the criterion's rank correlation with the final ACC. First row: mean ± standard "
        f"deviation of the starts ({count} seeds a column). Second row: what `--starts 4` chooses, "
        f"by the mean rank of {', '.join(CRITERION)}. mnist_test has 3,000 images here. "
        f"Written by `python -m experiments.tables.{NAME} --data-dir DATA_DIR`. Devices: "
        f"{devices}. Versions and each start's figures are in the .json beside this file.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def main() -> int:
    """Run what is missing, then write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=catalogue.default_data_dir())
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--runs", type=Path, default=Path("runs") / NAME)
    parser.add_argument("--collect", action="store_true", help="run nothing")
    parser.add_argument(
        "--paths", nargs="*", default=[], metavar="NAME=PATH", help="a set read from a .npz file"
    )
    options = parser.parse_args()
    options.paths = {
        name: f"npz:{path}" for name, path in (one.split("=", 1) for one in options.paths)
    }
    for method in () if options.collect else options.methods:
        for dataset in options.datasets:
            run(method, dataset, options.seeds, options)
    found = (judged(m, d, options.runs) for m in METHODS for d in DATASETS)
    rows = [row for row in found if row is not None]
    if not rows:
        return 0
    (RESULTS / f"{NAME}.json").write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / f"{NAME}.md").write_text(page(rows))
    print(page(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
