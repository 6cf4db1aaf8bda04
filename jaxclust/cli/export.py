"""`jaxclust export`: a finished run's images by cluster, and in other programs' formats."""

from collections.abc import Sequence
from pathlib import Path

from jaxclust.cli.arguments import Parser, data_dir, images, path, say
from jaxclust.core.errors import InputError
from jaxclust.report import by_cluster, exports, projector
from jaxclust.report.pictures import Pictures
from jaxclust.report.thumbnails import drawing
from jaxclust.runs.finished import FinishedRun, images_of, read_finished
from jaxclust.runs.writable import check_can_write

_ABOUT = """\
Export a finished or edited run to FOLDER. The formats (--as, several may be given):

  folders       one folder per cluster, and features for TensorBoard's projector (the default)
  parquet       clusters.parquet: id, cluster, name, confidence, embedding
  coco          annotations.json with image-level labels, and images
  label_studio  tasks.json with predictions, config.xml, and images
  fiftyone      FiftyOne's image classification format: labels.json and data

The run's own assignments.csv and embeddings.npz can be opened with pandas and NumPy.
"""
_OF_PICTURES = ("coco", "label_studio", "fiftyone")
_FORMATS = ("folders", "parquet", *_OF_PICTURES)


def main(arguments: Sequence[str]) -> int:
    """`jaxclust export`: write the formats asked for."""
    given = _parser().parse_args(arguments)
    by_cluster.check_empty(given.to)
    check_can_write(given.to)
    if "parquet" in given.formats:
        exports.check_parquet()
    run = read_finished(given.run)
    if given.formats == ["parquet"]:  # needs no images
        exports.write_parquet(run, given.to)
        return _said(run, "features", given.to)
    image_set = images_of(run, given.data_dir, given.images)
    draw = drawing(image_set)
    wanted = [name for name in given.formats if name in _OF_PICTURES]
    if draw is None and wanted:
        raise InputError(f"--as {wanted[0]} needs images, and this run has features alone")
    pictures = None if draw is None else Pictures(image_set, "copy" if given.copy else "link")
    if "folders" in given.formats:
        if pictures is not None:
            by_cluster.lay_out(run, pictures, given.to)
        projector.write_projector(run, draw, given.to / "projector")
    if "parquet" in given.formats:
        exports.write_parquet(run, given.to)
    if pictures is not None:
        _annotations(run, pictures, given.to, wanted, given.url_prefix)
    return _said(run, "features" if draw is None else "images", given.to)


def _parser() -> Parser:
    parser = Parser("export", _ABOUT)
    parser.add_argument("run", type=path, metavar="RUN_DIR", help="a finished run's folder")
    parser.add_argument("--to", type=path, metavar="FOLDER", required=True, help="must be empty")
    parser.add_argument(
        "--as", dest="formats", nargs="+", choices=_FORMATS, default=["folders"], metavar="FORMAT"
    )
    parser.add_argument(
        "--copy", action="store_true", help="copy image files; default: symbolic links"
    )
    parser.add_argument(
        "--url-prefix",
        default=exports.LOCAL_FILES,
        metavar="URL",
        help="of image addresses for Label Studio; default %(default)s",
    )
    images(parser)
    data_dir(parser)
    return parser


def _annotations(
    run: FinishedRun, pictures: Pictures, folder: Path, wanted: Sequence[str], prefix: str
) -> None:
    """The formats of annotation tools."""
    if "coco" in wanted:
        exports.write_coco(run, pictures, folder)
    if "label_studio" in wanted:
        exports.write_label_studio(run, pictures, folder, prefix)
    if "fiftyone" in wanted:
        exports.write_fiftyone(run, pictures, folder)


def _said(run: FinishedRun, what: str, folder: Path) -> int:
    clusters = len(set(run.clusters.tolist()))
    say(f"{len(run.ids)} {what} of {clusters} clusters in {folder}")
    return 0
