"""`jaxclust report`: a finished run as a page."""

import sys
from collections.abc import Sequence
from typing import get_args

from jaxclust.cli.arguments import Parser, data_dir, path
from jaxclust.core.errors import InputError
from jaxclust.report import page
from jaxclust.report.planar_map import MapOf
from jaxclust.runs.finished import images_of, read_finished

_ABOUT = """\
Write a finished run's report.html anew: clusters with their pictures, a map, curves, labels
against clusters, settings. The images are loaded again from where the run had them.
"""


def main(arguments: Sequence[str]) -> int:
    """`jaxclust report`: write report.html and print its path."""
    parser = Parser("report", _ABOUT)
    parser.add_argument("run", type=path, metavar="RUN_DIR", help="a finished run's folder")
    parser.add_argument(
        "--map",
        choices=get_args(MapOf),
        default="auto",
        help="how the map is made; auto: the run's own, else t-SNE of up to 3,000 images, else pca",
    )
    data_dir(parser)
    given = parser.parse_args(arguments)
    run = read_finished(given.run)
    try:
        image_set = images_of(run, given.data_dir)
    except InputError as error:
        print(f"warning: a page without pictures: {error}", file=sys.stderr)
        image_set = None
    print(page.write(run, image_set, given.map))
    return 0
