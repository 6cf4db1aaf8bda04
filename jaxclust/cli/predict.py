"""`jaxclust predict`: labels for new images."""

import sys
from collections.abc import Iterator, Sequence

from jaxclust.cli.arguments import Parser, data_dir, gigabytes, path
from jaxclust.core import device, processes
from jaxclust.core.visible import visible
from jaxclust.data.kept import compiled_dir
from jaxclust.runs import csv_tables
from jaxclust.runs.labelling import Labelled
from jaxclust.runs.labelling import predict as label
from jaxclust.runs.options import Options
from jaxclust.runs.writable import check_file, write_file

_ABOUT = """\
Label new images with a finished run: index, id, cluster and confidence of each, as CSV.
"""
_HEADER = ("index", "id", "cluster", "confidence")


def main(arguments: Sequence[str]) -> int:
    """`jaxclust predict`: labels for new images."""
    parser = Parser("predict", _ABOUT)
    parser.add_argument("run", type=path, metavar="RUN_DIR", help="a finished run's folder")
    parser.add_argument(
        "images",
        metavar="IMAGES",
        help="a folder, an image, an npz file, a file of features, or what --dataset takes",
    )
    parser.add_argument("--out", type=path, metavar="FILE", help="default: print")
    parser.add_argument(
        "--in-memory",
        type=gigabytes,
        metavar="GB",
        default=Options.in_memory,
        help="memory for decoded images; larger sets are read when needed; default %(default)g",
    )
    data_dir(parser)
    given = parser.parse_args(arguments)
    if given.out is not None:
        check_file(given.out)
    processes.check_platform()
    device.compile_once(compiled_dir())
    wanted = ("assignments", "probabilities")
    labelled = label(
        given.run, given.images, given.data_dir, in_memory=given.in_memory, fields=wanted
    )
    for name, reason in labelled.image_set.skipped:
        print(f"skipped {visible(name)}: {visible(reason)}", file=sys.stderr)
    if given.out is None:
        shown = sys.stdout.isatty()
        print(csv_tables.as_text(_HEADER, _rows(labelled, shown=shown)), end="")
    else:
        text = csv_tables.as_text(_HEADER, _rows(labelled, shown=False))
        write_file(given.out, text.encode("utf-8", csv_tables.ERRORS))
    return 0


def _rows(labelled: Labelled, *, shown: bool) -> Iterator[tuple]:
    """One row per image; `shown` on a terminal, with control characters in names escaped."""
    image_set, prediction = labelled
    for i, (name, cluster) in enumerate(zip(image_set.ids, prediction.assignments, strict=True)):
        confidence = float(f"{prediction.probabilities[i, cluster]:.6g}")
        yield i, visible(name) if shown else name, int(cluster), confidence
