"""`jaxclust export`: a finished run's pictures by cluster."""

from collections.abc import Sequence

from jaxclust.cli.arguments import Parser, data_dir, path
from jaxclust.report import by_cluster
from jaxclust.report.thumbnails import drawing
from jaxclust.runs import tensorboard
from jaxclust.runs.finished import images_of, read_finished

_ABOUT = """\
Lay a finished run's pictures out in a folder for each cluster, and its features for
TensorBoard's projector in FOLDER/projector. assignments.csv and embeddings.npz of the run
itself open in pandas and NumPy.
"""


def main(arguments: Sequence[str]) -> int:
    """`jaxclust export`: links or copies by cluster."""
    parser = Parser("export", _ABOUT)
    parser.add_argument("run", type=path, metavar="RUN_DIR", help="a finished run's folder")
    parser.add_argument("--to", type=path, metavar="FOLDER", required=True, help="must be empty")
    parser.add_argument(
        "--copy", action="store_true", help="copy picture files; default: symbolic links"
    )
    data_dir(parser)
    given = parser.parse_args(arguments)
    by_cluster.check_empty(given.to)
    run = read_finished(given.run)
    image_set = images_of(run, given.data_dir)
    count = by_cluster.lay_out(run, image_set, given.to, "copy" if given.copy else "link")
    tensorboard.write_projector(run, drawing(image_set), given.to / "projector")
    print(f"{count} pictures of {len(set(run.clusters.tolist()))} clusters in {given.to}")
    return 0
