"""`jaxclust kmeans`: k-means of features in shards, on one machine or many."""

from collections.abc import Sequence
from pathlib import Path

from jaxclust.cli.arguments import Parser, join_processes, path, say, several_processes, strict
from jaxclust.core import device, processes
from jaxclust.core.errors import InputError
from jaxclust.data.features import parquet_module
from jaxclust.data.kept import compiled_dir
from jaxclust.runs.many import tree_run
from jaxclust.runs.many.tree_settings import Settings

_ABOUT = """\
Cluster features in Parquet shards (columns `id` and `embedding`) by k-means, without holding them
in memory. SHARDS is a pattern, quoted: 'features/*.parquet', 'features/{00000..00127}.parquet', or
URLs with the extra `remote`. DIR gets centroids.npy (float32 [k, d]), assignments/ (a Parquet shard
with `id`, `cluster` and `distance` for each shard read), summary.json and skipped.csv. If the
command was killed, run it again to continue. Many clusters are found as a tree of two or three
levels; several processes, each with its own shards, share the work.
"""


def _parser() -> Parser:
    parser = Parser("kmeans", _ABOUT)
    parser.add_argument("source", metavar="SHARDS", help="a pattern, quoted")
    parser.add_argument("--n-clusters", type=int, required=True, metavar="K")
    parser.add_argument("--out", type=path, required=True, metavar="DIR")
    parser.add_argument(
        "--levels",
        type=int,
        metavar="L",
        help="levels of the tree, 1 to 3; default 1 up to 2,048 clusters, 2 beyond",
    )
    _fitting(parser)
    parser.add_argument(
        "--scratch",
        type=path,
        metavar="DIR",
        help="a folder on this machine's disk for a copy of its rows, removed at the end; default: "
        "in --out",
    )
    strict(parser)
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    several_processes(parser)
    return parser


def _fitting(parser: Parser) -> None:
    """Add the options of the k-means itself."""
    parser.add_argument("--seed", type=int, default=0, help="of the first centroids; default 0")
    parser.add_argument(
        "--max-iterations", type=int, default=100, metavar="N", help="at each level; default 100"
    )
    parser.add_argument(
        "--tol",
        type=float,
        default=1e-4,
        help="stop once the centroids' summed squared shift is at most this share of the mean "
        "variance of the columns; default 1e-4",
    )
    parser.add_argument(
        "--refine",
        type=int,
        default=0,
        metavar="N",
        help="iterations over all clusters at once after the last level, each as costly as k "
        "distances a row; default 0",
    )
    parser.add_argument(
        "--centroids", metavar="FILE.npy", help="start from these, float32 [k, d], in one level"
    )


def main(arguments: Sequence[str]) -> int:
    """`jaxclust kmeans`: read, cluster, write."""
    given = _parser().parse_args(arguments)
    for option, place in (("out", given.out), ("scratch", given.scratch)):
        if place is not None and ":/" in str(place):
            raise InputError(f"‹{option}› must be a folder on a disk, not {place}")
    parquet_module(given.out)
    join_processes(given)
    processes.check_platform()
    device.compile_once(compiled_dir())
    settings = Settings(
        given.source,
        given.n_clusters,
        given.levels,
        given.seed,
        given.max_iterations,
        given.tol,
        given.refine,
        given.centroids,
    )
    with processes.telling_lost_processes(processes.AGAIN):
        summary = tree_run.execute(
            settings,
            Path(given.out),
            scratch=given.scratch,
            strict=given.strict,
            quiet=given.quiet,
        )
    if processes.first():
        peaks = ", ".join(f"{peak:,.0f}" for peak in summary["peak_rss_mb"])
        say(
            f"{summary['n_clusters']:,} clusters of {summary['n_rows']:,} rows in {given.out}, "
            f"inertia {summary['inertia']:.6g}, {summary['seconds']:,.0f} s, peak memory of each "
            f"process {peaks} MB"
        )
        for where in summary["skipped"]:
            say(f"skipped {where}; see skipped.csv")
    return 0
