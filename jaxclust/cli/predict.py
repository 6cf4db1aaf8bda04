"""`jaxclust predict`: labels for new images."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxclust.cli.arguments import (
    Parser,
    data_dir,
    gigabytes,
    join_processes,
    path,
    say,
    several_processes,
    strict,
)
from jaxclust.core import device, processes
from jaxclust.core.errors import InputError
from jaxclust.core.visible import visible
from jaxclust.data.features import parquet_module
from jaxclust.data.kept import compiled_dir
from jaxclust.data.shards import is_pattern
from jaxclust.runs import csv_tables
from jaxclust.runs.labelling import Labelled
from jaxclust.runs.labelling import predict as label
from jaxclust.runs.options import Options
from jaxclust.runs.predictor import Predictor
from jaxclust.runs.shard_work import labelling_mark, labelling_work
from jaxclust.runs.sharded import found_by_first, over_shards
from jaxclust.runs.writable import check_file, write_file

_ABOUT = """\
Label new images with a finished run: index, id, cluster and confidence of each, as CSV.

If IMAGES is a pattern of shards, quoted ('train/*.tar', 'features/{00000..00127}.parquet', URLs
with the extra `remote`), FILE is a folder or URL that gets a Parquet shard with id, cluster and
confidence for each. If the command was killed, run it again to continue.
"""
_HEADER = ("index", "id", "cluster", "confidence")


def _parser() -> Parser:
    parser = Parser("predict", _ABOUT)
    parser.add_argument("run", type=path, metavar="RUN_DIR", help="a finished run's folder")
    parser.add_argument(
        "images",
        metavar="IMAGES",
        help="a folder, an image, an npz file, a file of features, or what --dataset takes",
    )
    parser.add_argument("--out", metavar="FILE", help="default: print; for shards a folder")
    parser.add_argument(
        "--in-memory",
        type=gigabytes,
        metavar="GB",
        default=Options.in_memory,
        help="memory for decoded images; larger sets are read when needed; default %(default)g",
    )
    strict(parser)
    data_dir(parser)
    several_processes(parser)
    return parser


def main(arguments: Sequence[str]) -> int:
    """`jaxclust predict`: labels for new images."""
    given = _parser().parse_args(arguments)
    sharded = is_pattern(given.images)
    if sharded and given.out is None:
        raise InputError("labels of shards need ‹out›, a folder")
    if not sharded and (given.distributed or given.num_processes > 1):
        raise InputError(
            f"{given.images} is one set, which one process labels; give a pattern of shards, or "
            "leave out ‹num_processes› and ‹distributed›"
        )
    out = None if given.out is None else Path(given.out).expanduser()
    if sharded:
        parquet_module(given.run)
    elif out is not None:
        check_file(out)
    join_processes(given)
    processes.check_platform()
    device.compile_once(compiled_dir())
    return _shards(given) if sharded else _set(given, out)


def _shards(given: argparse.Namespace) -> int:
    """Labels of the images or features of every shard."""
    out = given.out if "://" in given.out else str(Path(given.out).expanduser())
    predictor, mark = Predictor(given.run), labelling_mark(given.run)
    with processes.telling_lost_processes(processes.AGAIN):
        done = over_shards(
            found_by_first(given.images),
            out,
            labelling_work(predictor, mark),
            mark,
            strict=given.strict,
            quiet=False,
        )
    if processes.first():
        kept = f", {done.kept:,} were there already" if done.kept else ""
        say(f"{done.rows:,} labels in {done.shards:,} shards in {out}{kept}")
    return 0


def _set(given: argparse.Namespace, out: Path | None) -> int:
    """Labels of one set, as CSV."""
    wanted = ("assignments", "probabilities")
    labelled = label(
        given.run, given.images, given.data_dir, in_memory=given.in_memory, fields=wanted
    )
    for name, reason in labelled.image_set.skipped:
        print(f"skipped {visible(name)}: {visible(reason)}", file=sys.stderr)
    if out is None:
        shown = sys.stdout.isatty()
        print(csv_tables.as_text(_HEADER, _rows(labelled, shown=shown)), end="")
    else:
        text = csv_tables.as_text(_HEADER, _rows(labelled, shown=False))
        write_file(out, text.encode("utf-8", csv_tables.ERRORS))
    return 0


def _rows(labelled: Labelled, *, shown: bool) -> Iterator[tuple]:
    """One row per image; `shown` on a terminal, with control characters in names escaped."""
    image_set, prediction = labelled
    for i, (name, cluster) in enumerate(zip(image_set.ids, prediction.assignments, strict=True)):
        confidence = float(f"{prediction.probabilities[i, cluster]:.6g}")
        yield i, visible(name) if shown else name, int(cluster), confidence
