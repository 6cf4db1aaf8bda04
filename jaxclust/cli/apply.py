"""`jaxclust apply`: a finished run with the edits made in its page."""

import sys
from collections.abc import Sequence

from jaxclust.cli import export
from jaxclust.cli.arguments import Parser, data_dir, images, path, say
from jaxclust.core.errors import InputError
from jaxclust.core.processes import check_platform
from jaxclust.core.visible import visible
from jaxclust.report import page
from jaxclust.runs import edited, edits
from jaxclust.runs.finished import images_of, read_finished
from jaxclust.runs.writable import check_can_write

_ABOUT = """\
Apply the edits that were saved in a run's page: renamed, merged and split clusters, moved
pictures, noise. The result is a run directory of its own, with new assignments and page, which
`jaxclust export` and `jaxclust table` take. The original stays as it is.
"""


def main(arguments: Sequence[str]) -> int:
    """`jaxclust apply`: write the edited run and print its folder."""
    given = _parser().parse_args(arguments)
    run = read_finished(given.run)
    out = given.out or run.path.with_name(f"{run.path.name}-edited")
    edited.check_out(out, run)
    check_can_write(out)
    listed = edits.read(given.edits, run)
    result = edits.applied(run, listed)
    check_platform()
    image_set = None
    try:
        image_set = images_of(run, given.data_dir, given.images)
    except InputError as error:
        if given.images is not None:
            raise
        why = visible(" ".join(error.on_command_line().split()))
        print(f"warning: a page without images: {why}", file=sys.stderr)
    export.check(image_set, given.formats)
    edited.write(run, result, listed, out)
    changed = read_finished(out)
    page.write(changed, image_set)
    if given.formats:
        export.write(changed, image_set, out / "exports", given.formats)
    say(f"{len(listed)} edits applied; {len(result.names)} clusters in {out}")
    return 0


def _parser() -> Parser:
    parser = Parser("apply", _ABOUT)
    parser.add_argument("run", type=path, metavar="RUN_DIR", help="a finished run's folder")
    parser.add_argument("edits", type=path, metavar="EDITS.json", help="saved in the run's page")
    parser.add_argument(
        "--out", type=path, metavar="FOLDER", help="must be empty; default: RUN_DIR-edited"
    )
    parser.add_argument(
        "--as",
        dest="formats",
        nargs="+",
        choices=export.FORMATS,
        default=[],
        metavar="FORMAT",
        help="also export the edited run to FOLDER/exports, as jaxclust export does",
    )
    images(parser)
    data_dir(parser)
    return parser
