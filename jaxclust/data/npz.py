"""Images and labels from an npz file, and checks of them."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxclust.core.errors import InputError, first_line
from jaxclust.core.unpacking import refuse_bomb
from jaxclust.data.image_set import ImageSet, rows_of
from jaxclust.data.wide_greys import Ranges, Spread, range_of, to_bytes

# Images have at most this many channels; used to recognise the layout.
_CHANNELS = 4
# Bytes of integers that are converted to eight bits at a time.
_BLOCK = 2**26
# Labels that mean that the class is unknown.
_UNKNOWN = ("", "-1", "nan", "None")


def read_npz(path: Path, ranges: Ranges | None = None) -> ImageSet:
    """`images` [n, h, w, c] and, where present, `labels` [n] of an npz file.

    Args:
        path: of the file.
        ranges: of integers, by dtype; see :func:`eight_bits`.

    Raises:
        InputError: no such file, not an npz, or arrays of the wrong kind.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}; give npz:PATH with an array `images`")
    try:
        images, labels = _arrays(path)
    except InputError:
        raise
    except Exception as error:  # zip, header and pickle errors of every kind
        raise InputError(
            f"{path} cannot be read as npz ({first_line(error)}); write it with numpy.savez"
        ) from error
    images = check_images(images, str(path))
    images, used = eight_bits(images, ranges or {})
    known, names = check_labels(labels, images.shape[0], str(path))
    found = None if known is None else int(np.unique(known[known >= 0]).size)
    image_set = rows_of(path.stem, images, known, found)
    return replace(image_set, class_names=names, ranges=used)


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    refuse_bomb(path)
    with np.load(path, allow_pickle=False) as arrays:
        if "images" not in arrays:
            raise InputError(f"{path} has no array `images` (it has {', '.join(arrays) or 'none'})")
        return arrays["images"], arrays.get("labels")


def shape_of_bytes(path: Path) -> tuple[int, ...] | None:
    """The shape of an npz file's `images` if they are uint8, else None; reads only the header."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("images.npy") as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0
            shape, _, dtype = (
                read(member) if version == (1, 0) else np.lib.format.read_array_header_2_0(member)
            )
    except Exception:  # reported when the images are read
        return None
    return shape if dtype == np.uint8 else None


def check_images(images: np.ndarray, where: str) -> np.ndarray:
    """Images as integers, bool or float32 [n, h, w, c]; InputError for anything else."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise InputError(
            f"images in {where} have shape {images.shape}; [n, h, w] or [n, h, w, c] is expected"
        )
    _refuse_channels_first(images.shape, where)
    if images.dtype == np.bool_ or np.issubdtype(images.dtype, np.integer):
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise InputError(
            f"images in {where} have dtype {images.dtype}; integers or a floating type are expected"
        )
    if not np.isfinite(images).all():
        raise InputError(f"images in {where} contain NaN or Inf; clean or drop those images")
    with np.errstate(over="ignore"):
        images = images.astype(np.float32)
    if not np.isfinite(images).all():
        raise InputError(f"images in {where} exceed float32's range; scale them down")
    return images


def _refuse_channels_first(shape: tuple[int, ...], where: str) -> None:
    """InputError for [n, c, h, w], which looks like images hardly any pixels high."""
    _, channels, height, width = shape
    if channels <= _CHANNELS < min(height, width):
        raise InputError(
            f"images in {where} have shape {shape}, their {channels} channel"
            f"{'s' * (channels > 1)} first; [n, h, w, c] is expected: store "
            "images.transpose(0, 2, 3, 1)"
        )


def eight_bits(images: np.ndarray, ranges: Ranges) -> tuple[np.ndarray, dict]:
    """Integers as uint8, by one range for all; uint8 and floats stay as they are.

    Args:
        images: [n, h, w, c], integers, bool or float32.
        ranges: by dtype; for a missing one, that of :func:`wide_greys.range_of` is used.

    Returns:
        The images, and the range used, under the dtype's name; empty for none.
    """
    kind = images.dtype.name
    if images.dtype == np.uint8 or np.issubdtype(images.dtype, np.floating):
        return images, {}
    block = max(1, _BLOCK // images[0].nbytes)
    starts = range(0, len(images), block)
    limits = ranges.get(kind)
    if limits is None:
        limits = (0.0, 1.0) if images.dtype == np.bool_ else _range(images, starts)
    out = np.empty(images.shape, np.uint8)
    for start in starts:
        out[start : start + block] = to_bytes(images[start : start + block], limits)
    return out, {kind: limits}


def _range(images: np.ndarray, starts: range) -> tuple[float, float]:
    """The range of integers, looked at block by block."""
    counts = np.zeros(2**16, np.int64)
    for start in starts:
        spread = Spread.of(images[start : start + starts.step])
        counts[spread.bins] += spread.counts
    bins = np.flatnonzero(counts)
    whole = Spread(float(images.min()), float(images.max()), bins.astype(np.uint16), counts[bins])
    return range_of(whole, integers=True)


def check_labels(
    labels: np.ndarray | None, n: int, where: str
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels as int64 [n], -1 where not known, and the names of 0, 1, … where they have any.

    Integers stay as they are, negative ones mean unknown; floats must be whole, NaN means unknown.
    Strings are names, numbered in sorted order; an empty one means unknown.

    Raises:
        InputError: labels of another shape or kind.
    """
    if labels is None:
        return None, ()
    names: tuple[str, ...] = ()
    expected = f"a whole number or a name for each of the {n} images is expected"
    if labels.ndim == 2 and labels.shape[0] == n and labels.shape[1] > 1:
        expected += "; for one-hot rows, store labels.argmax(1)"
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    fits = labels.shape == (n,)
    if fits and labels.dtype.kind in "US":
        labels, names = _numbered(labels)
    elif fits and labels.dtype.kind == "f":
        labels = np.where(np.isnan(labels), -1, labels)
        fits = bool((labels == np.round(labels)).all())
    elif labels.dtype.kind not in "iub":
        fits = False
    if not fits or (labels.size and not _fits_int64(labels)):
        raise InputError(f"labels in {where} are {labels.dtype} {labels.shape}; {expected}")
    found = np.maximum(labels.astype(np.int64), -1)
    # Where none is known there is nothing to score against.
    return (found, names) if (found >= 0).any() else (None, ())


def _numbered(labels: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Names as numbers in sorted order, and the names."""
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    known = ~np.isin(labels, _UNKNOWN)
    names, numbers = np.unique(labels[known], return_inverse=True)
    found = np.full(labels.shape, -1, np.int64)
    found[known] = numbers
    return found, tuple(str(name) for name in names)


def _fits_int64(labels: np.ndarray) -> bool:
    return bool((labels < 2**63).all()) if labels.dtype.kind in "uf" else True
