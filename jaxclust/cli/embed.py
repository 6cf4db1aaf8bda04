"""`jaxclust embed`: features of images by a pre-trained encoder."""

import sys
from collections.abc import Sequence

from jaxclust.cli.arguments import Parser, data_dir, path, say
from jaxclust.core import device, processes
from jaxclust.core.errors import InputError
from jaxclust.core.visible import visible
from jaxclust.data import catalogue
from jaxclust.data.features import check_writable_kind, write_features
from jaxclust.data.kept import compiled_dir
from jaxclust.models.encoders import frozen
from jaxclust.runs import embedding
from jaxclust.runs.writable import check_file

_ABOUT = """\
Encode images with a pre-trained encoder and write their features to FILE: .npz with `features`,
`ids` and, if known, `labels`, or .parquet with columns `id`, `embedding` and `label`. Cluster them
with `jaxclust run --dataset features:FILE`. If the command was killed, run it again to continue;
features are cached in JAXCLUST_CACHE_DIR, where `jaxclust run --encoder` finds them, too.
"""


def _parser() -> Parser:
    parser = Parser("embed", _ABOUT)
    parser.add_argument("source", metavar="SOURCE", help="a folder, a tar, or what --dataset takes")
    parser.add_argument(
        "--encoder",
        required=True,
        help=f"{', '.join(frozen.PACKAGES)} (extra photos), a weights file, clip_openai:FILE, "
        "openclip:FILE, heads=N:FILE (a transformer with N heads) or onnx:FILE",
    )
    parser.add_argument(
        "--out", type=path, metavar="FILE", required=True, help=".npz or .parquet; overwritten"
    )
    parser.add_argument(
        "--labels-from-folders", action="store_true", help="use sub-folders as labels"
    )
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    data_dir(parser)
    return parser


def main(arguments: Sequence[str]) -> int:
    """`jaxclust embed`: decode, encode, write."""
    given = _parser().parse_args(arguments)
    if given.source.startswith("features:"):
        raise InputError(f"{given.source} already holds features; give images")
    check_writable_kind(given.out)
    check_file(given.out)
    processes.check_platform()
    device.compile_once(compiled_dir())
    encoder = frozen.load(given.encoder, given.precision)
    images = catalogue.load(
        catalogue.named(given.source),
        given.data_dir or catalogue.default_data_dir(),
        labels_from_folders=given.labels_from_folders,
        view=embedding.view_of(encoder),
    )
    for name, reason in images.skipped:
        print(f"skipped {visible(name)}: {visible(reason)}", file=sys.stderr)
    found = embedding.encoded(images, encoder, embedding.telling(given.quiet))
    about = {"encoder": encoder.name, "encoder_digest": encoder.digest}
    write_features(given.out, found, about)
    n, width = found.images.shape
    say(f"{n:,} features of {width} values by {encoder.name} in {given.out}")
    return 0
