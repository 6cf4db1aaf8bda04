"""`jaxclust export`: a finished run's images by cluster, and in other programs' formats."""

from collections.abc import Sequence
from pathlib import Path

from jaxclust.cli.arguments import Parser, data_dir, images, path, say
from jaxclust.core.errors import InputError
from jaxclust.data.catalogue import ImageSet
from jaxclust.report import by_cluster, exports, projector
from jaxclust.report.pictures import Pictures
from jaxclust.report.thumbnails import drawing, pictures_of
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
FORMATS = ("folders", "parquet", *_OF_PICTURES)


def main(arguments: Sequence[str]) -> int:
    """`jaxclust export`: write the formats asked for."""
    given = _parser().parse_args(arguments)
    by_cluster.check_empty(given.to)
    check_can_write(given.to)
    run, image_set = read_finished(given.run), None
    if given.formats != ["parquet"]:  # which needs no images
        image_set = images_of(run, given.data_dir, given.images)
    check(image_set, given.formats)
    options = {"copy": given.copy, "prefix": given.url_prefix}
    shown = write(run, image_set, given.to, given.formats, **options)
    clusters = len(set(run.clusters.tolist()))
    what = "images" if shown else "features"
    say(f"{len(run.ids)} {what} of {clusters} clusters in {given.to}")
    return 0


def write(
    run: FinishedRun,
    image_set: ImageSet | None,
    folder: Path,
    wanted: Sequence[str],
    *,
    copy: bool = False,
    prefix: str = exports.LOCAL_FILES,
) -> bool:
    """Write formats of a run -> whether it has images, or features alone.

    Args:
        run: a finished or edited one.
        image_set: its images; None: there are none to write.
        folder: an empty one, or none yet.
        wanted: of :data:`FORMATS`; see :func:`check`.
        copy: image files instead of linking them.
        prefix: of image addresses for Label Studio.
    """
    draw = drawing(image_set)
    pictures = None if draw is None or image_set is None else _pictures(image_set, copy)
    if "folders" in wanted:
        if pictures is not None:
            by_cluster.lay_out(run, pictures, folder)
        projector.write_projector(run, draw, folder / "projector")
    if "parquet" in wanted:
        exports.write_parquet(run, folder)
    if pictures is not None:
        _annotations(run, pictures, folder, wanted, prefix)
    return pictures is not None


def check(image_set: ImageSet | None, wanted: Sequence[str]) -> None:
    """InputError for a format that needs images, without any, or whose library is missing."""
    if "parquet" in wanted:
        exports.check_parquet()
    of_pictures = [name for name in wanted if name in _OF_PICTURES]
    if of_pictures and (image_set is None or pictures_of(image_set) is None):
        raise InputError(f"--as {of_pictures[0]} needs images, and there are none")


def _pictures(image_set: ImageSet, copy: bool) -> Pictures:
    return Pictures(image_set, "copy" if copy else "link")


def _parser() -> Parser:
    parser = Parser("export", _ABOUT)
    parser.add_argument("run", type=path, metavar="RUN_DIR", help="a finished run's folder")
    parser.add_argument("--to", type=path, metavar="FOLDER", required=True, help="must be empty")
    parser.add_argument(
        "--as", dest="formats", nargs="+", choices=FORMATS, default=["folders"], metavar="FORMAT"
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
