"""`jaxclust report`: a finished run as a page."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from jaxclust.cli.arguments import Parser, data_dir, images, path, say
from jaxclust.core.errors import InputError
from jaxclust.core.processes import check_platform
from jaxclust.core.visible import visible
from jaxclust.report import page
from jaxclust.report.planar_map import MapOf
from jaxclust.runs.directory import RunDirectory
from jaxclust.runs.finished import images_of, read_finished
from jaxclust.runs.writable import check_can_write

_ABOUT = """\
Write a finished run's report.html again: clusters with their images, a map, curves, labels
against clusters, settings. The images are loaded from where the run found them, or from
the location given by --images.
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
    images(parser)
    data_dir(parser)
    given = parser.parse_args(arguments)
    run = read_finished(given.run)
    check_can_write(given.run)
    check_platform()
    with RunDirectory(given.run).locked():
        image_set = None
        try:
            image_set = images_of(run, given.data_dir, given.images)
        except InputError as error:
            if given.images is not None:
                raise
            if _has_images(given.run / "report.html"):
                said = "report.html is left unchanged, since it has images"
            else:
                said = "a page without images"
            why = visible(" ".join(error.on_command_line().split()))
            print(f"warning: {said}: {why}; give their location with --images", file=sys.stderr)
            if _has_images(given.run / "report.html"):
                say(str(given.run / "report.html"))
                return 0
        say(str(page.write(run, image_set, given.map)))
    return 0


def _has_images(written: Path) -> bool:
    """Whether a page shows images."""
    return written.is_file() and b"data:image/" in written.read_bytes()
