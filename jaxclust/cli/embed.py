"""`jaxclust embed`: features of images by a pre-trained encoder."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxclust.cli.arguments import Parser, data_dir, join_processes, say, several_processes, strict
from jaxclust.core import device, exchange, processes
from jaxclust.core.errors import InputError
from jaxclust.core.visible import visible
from jaxclust.data import catalogue
from jaxclust.data.features import check_writable_kind, parquet_module, write_features
from jaxclust.data.kept import compiled_dir
from jaxclust.data.shards import is_pattern, make_folder
from jaxclust.models.encoders import frozen
from jaxclust.models.encoders.frozen import Frozen
from jaxclust.runs import embedding
from jaxclust.runs.shard_work import embedding_mark, embedding_work
from jaxclust.runs.sharded import found_by_first, over_shards
from jaxclust.runs.writable import check_file

_ABOUT = """\
Encode images with a pre-trained encoder and write their features to FILE: .npz with `features`,
`ids` and, if known, `labels`, or .parquet with columns `id`, `embedding` and `label`. Cluster them
with `jaxclust run --dataset features:FILE`. If the command was killed, run it again to continue;
features are cached in JAXCLUST_CACHE_DIR, where `jaxclust run --encoder` finds them, too.

If SOURCE is a pattern of tars ('train/*.tar', 'train/{00000..00127}.tar', URLs with the extra
`remote`), quoted, FILE is a folder or URL that gets a Parquet shard for each tar; tars are laid out
as WebDataset's (KEY.jpg, KEY.cls, KEY.json), and a KEY becomes an id. Several processes share the
shards. Of any other SOURCE, each encodes a part of the images and writes it into the folder FILE.
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
        "--out",
        metavar="FILE",
        required=True,
        help=".npz or .parquet, overwritten; for shards and several processes a folder",
    )
    parser.add_argument(
        "--labels-from-folders", action="store_true", help="use sub-folders as labels"
    )
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    strict(parser)
    data_dir(parser)
    several_processes(parser)
    return parser


def main(arguments: Sequence[str]) -> int:
    """`jaxclust embed`: decode, encode, write."""
    given = _parser().parse_args(arguments)
    if given.source.startswith("features:"):
        raise InputError(f"{given.source} already holds features; give images")
    sharded = is_pattern(given.source)
    alone = not given.distributed and given.num_processes == 1
    out = given.out if "://" in given.out else str(Path(given.out).expanduser())
    if not sharded and alone:
        check_writable_kind(Path(out))
        check_file(Path(out))
    else:
        parquet_module(Path(out))
    if not sharded and not alone and "://" in out:
        raise InputError(f"‹out› must be a folder on a disk for several processes, not {out}")
    join_processes(given)
    processes.check_platform()
    device.compile_once(compiled_dir())
    encoder = frozen.load(given.encoder, given.precision)
    with processes.telling_lost_processes(processes.AGAIN):
        if sharded:
            return _shards(given, out, encoder)
        return _set(given, Path(out), encoder)


def _shards(given: argparse.Namespace, out: str, encoder: Frozen) -> int:
    """Features of the images of every shard."""
    done = over_shards(
        found_by_first(given.source),
        out,
        embedding_work(encoder),
        embedding_mark(encoder),
        strict=given.strict,
        quiet=given.quiet,
    )
    if processes.first():
        kept = f", {done.kept:,} were there already" if done.kept else ""
        say(f"{done.rows:,} features by {encoder.name} in {done.shards:,} shards in {out}{kept}")
    return 0


def _set(given: argparse.Namespace, out: Path, encoder: Frozen) -> int:
    """Features of a set's images: of all, or of this process's part."""
    images = catalogue.load(
        catalogue.named(given.source),
        given.data_dir or catalogue.default_data_dir(),
        labels_from_folders=given.labels_from_folders,
        view=embedding.view_of(encoder),
    )
    if processes.first():
        for name, reason in images.skipped:
            print(f"skipped {visible(name)}: {visible(reason)}", file=sys.stderr)
    if processes.several():
        part = processes.share_of_process()
        count = part.step
        images = images.take(np.array_split(np.arange(len(images.ids)), count)[part.start])
        exchange.agreed(lambda: make_folder(str(out)))
        out = out / f"part-{part.start:05d}-of-{count:05d}.parquet"
    found = embedding.encoded(images, encoder, embedding.telling(given.quiet))
    about = {"encoder": encoder.name, "encoder_digest": encoder.digest}
    write_features(out, found, about)
    n, width = found.images.shape
    say(f"{n:,} features of {width} values by {encoder.name} in {out}")
    return 0
