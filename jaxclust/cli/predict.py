"""`jaxclust predict`: labels for new images."""

import csv
import io
import sys
from collections.abc import Sequence

from jaxclust.cli.arguments import Parser, data_dir, gigabytes, path
from jaxclust.runs.labelling import predict as label
from jaxclust.runs.options import Options

_ABOUT = """\
Label new images as a finished run would have: index, id, cluster and confidence of each,
as CSV.
"""


def main(arguments: Sequence[str]) -> int:
    """`jaxclust predict`: labels for new images."""
    parser = Parser("predict", _ABOUT)
    parser.add_argument("run", type=path, metavar="RUN_DIR", help="a finished run's folder")
    parser.add_argument(
        "images", metavar="IMAGES", help="a folder, a picture, an npz file, or what --dataset takes"
    )
    parser.add_argument("--out", type=path, metavar="FILE", help="default: print")
    parser.add_argument(
        "--in-memory",
        type=gigabytes,
        metavar="GB",
        default=Options.in_memory,
        help="of decoded pictures; more are read when needed; default %(default)g",
    )
    data_dir(parser)
    given = parser.parse_args(arguments)
    wanted = ("assignments", "probabilities")
    image_set, prediction = label(
        given.run, given.images, given.data_dir, in_memory=given.in_memory, fields=wanted
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("index", "id", "cluster", "confidence"))
    for i, (name, cluster) in enumerate(zip(image_set.ids, prediction.assignments, strict=True)):
        writer.writerow((i, name, cluster, f"{prediction.probabilities[i, cluster]:.6g}"))
    for name, reason in image_set.skipped:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    if given.out is None:
        print(text.getvalue(), end="")
    else:
        given.out.write_text(text.getvalue(), "utf-8", "surrogateescape")
    return 0
