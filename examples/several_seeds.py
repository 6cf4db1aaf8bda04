"""The same method from several seeds: how much a result owes to chance.

    python examples/several_seeds.py --seeds 3

From the command line: `jaxclust run --method dec --dataset digits --seeds 3 --starts 1`. With
more starts each run would choose the best of them, without labels.
"""

import argparse
import statistics

from sklearn.base import clone

from jaxclust import DEC, metrics
from jaxclust.data import catalogue


def main() -> None:
    """Fit once per seed; print each score, their mean and spread, and how far the runs agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--preset", choices=("best", "paper"), default="best")
    parser.add_argument("--epochs", type=int, help="default: the preset's")
    parser.add_argument("--limit", type=int, default=1797)
    given = parser.parse_args()
    digits = catalogue.load("digits", catalogue.default_data_dir(), limit=given.limit)
    template = DEC(n_clusters=10, preset=given.preset, epochs=given.epochs, starts=1)
    runs = [
        clone(template).set_params(random_state=seed).fit_predict(digits.images)
        for seed in range(given.seeds)
    ]
    scores = [metrics.accuracy(digits.labels, run) for run in runs]
    for seed, score in enumerate(scores):
        print(f"seed {seed}: ACC {score:.3f}")
    if len(scores) > 1:
        print(f"mean {statistics.mean(scores):.3f} ± {statistics.stdev(scores):.3f}")
        print(f"NMI of the first two runs' clusters: {metrics.nmi(runs[0], runs[1]):.3f}")


if __name__ == "__main__":
    main()
