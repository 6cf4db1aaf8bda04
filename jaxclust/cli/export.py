"""`jaxclust export`: a finished run's images by cluster."""

from collections.abc import Sequence

from jaxclust.cli.arguments import Parser, data_dir, images, path, say
from jaxclust.report import by_cluster, projector
from jaxclust.report.thumbnails import drawing
from jaxclust.runs.finished import images_of, read_finished
from jaxclust.runs.writable import check_can_write

_ABOUT = """\
Put a finished run's images into one folder per cluster, and its features into FOLDER/projector
for TensorBoard's projector. The run's own assignments.csv and embeddings.npz can be opened
with pandas and NumPy.
"""


def main(arguments: Sequence[str]) -> int:
    """`jaxclust export`: links or copies by cluster."""
    parser = Parser("export", _ABOUT)
    parser.add_argument("run", type=path, metavar="RUN_DIR", help="a finished run's folder")
    parser.add_argument("--to", type=path, metavar="FOLDER", required=True, help="must be empty")
    parser.add_argument(
        "--copy", action="store_true", help="copy image files; default: symbolic links"
    )
    images(parser)
    data_dir(parser)
    given = parser.parse_args(arguments)
    by_cluster.check_empty(given.to)
    check_can_write(given.to)
    run = read_finished(given.run)
    image_set = images_of(run, given.data_dir, given.images)
    draw, said = drawing(image_set), "features"
    if draw is not None:
        by_cluster.lay_out(run, image_set, given.to, "copy" if given.copy else "link")
        said = "images"
    projector.write_projector(run, draw, given.to / "projector")
    clusters = len(set(run.clusters.tolist()))
    say(f"{len(run.ids)} {said} of {clusters} clusters in {given.to}")
    return 0
