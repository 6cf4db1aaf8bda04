"""One image from its file: opened, turned upright, brought to eight bits and to size."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxclust.core.errors import first_line
from jaxclust.data.formats import START, formats, kind_by_content, told
from jaxclust.data.metadata import with_zero_black, without_metadata
from jaxclust.data.places import Rules
from jaxclust.data.resizing import resize_and_crop, resize_whole
from jaxclust.data.wide_greys import Spread, to_bytes

_GREY = {"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F"}
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# TIFF tags and their values.
_PHOTOMETRIC, _WHITE_IS_ZERO, _SUBFILE, _REDUCED = 262, 0, 254, 1
# Images of more pixels than this are decoded one at a time, JPEGs at a reduced size.
_LARGE = 32_000_000
_one_large = threading.Semaphore()


_TOO_LARGE = "more pixels than is safe to decode; shrink it or raise max_megapixels"


class Unreadable(Exception):
    """Why an image is not read, in words for the user."""


class Seen(NamedTuple):
    """An image; or, for wide greys whose range is not known yet, what to find it from."""

    channels: int  # 1 or 3
    pages: int  # in its file
    array: np.ndarray | None  # uint8 [h, w, channels]
    kind: str = ""  # of wide greys
    spread: Spread | None = None


def look_at(place: Any, size: int | None, margin: float, rules: Rules) -> Seen:
    """Decode an image, as far as that can be done without knowing the others.

    Args:
        place: see :class:`places.Place`.
        size: see :func:`resizing.resize_and_crop`; None: as it is.
        margin: see there.
        rules: the rules of its set.

    Raises:
        Unreadable: it has too many pixels, or values that are not numbers.
        Exception: whatever Pillow raises on a damaged file.
    """
    try:
        return _decoded(place.file(), size, margin, rules)
    except Unreadable:
        raise
    except Image.DecompressionBombError as error:
        raise Unreadable(_TOO_LARGE) from error
    except Exception as error:
        content = place.content()
        bare = without_metadata(content)
        if bare is not None:
            # If it fails again, the metadata were not to blame: report the first error.
            with suppress(Exception):
                return _decoded(io.BytesIO(bare), size, margin, rules)
        if (righted := with_zero_black(content)) is not None:
            with suppress(Exception):
                found = _decoded(io.BytesIO(righted), size, margin, rules, inverted=True)
                if found.kind:
                    return found
        if isinstance(error, UnidentifiedImageError):
            raise Unreadable(_unknown(content[:START])) from error
        raise


def read(place: Any, size: int | None, margin: float, rules: Rules) -> np.ndarray:
    """An image uint8 [h, w, 1 or 3] of a set whose ranges are known; see :func:`look_at`."""
    found = look_at(place, size, margin, rules).array
    if found is None:
        raise Unreadable("it holds wide greys now, for which no range is known")
    return found


def _unknown(start: bytes) -> str:
    """What to say about a file that is in none of the formats."""
    kind = kind_by_content(start)
    if kind and kind != "image":
        return told(kind)
    return "not an image in a supported format" if start else "an empty file"


def _decoded(
    file: Path | io.BytesIO,
    size: int | None,
    margin: float,
    rules: Rules,
    inverted: bool = False,
) -> Seen:
    """The image of an open or closed file; `inverted`: its wide greys are inverted."""
    margin = margin if rules.margin is None else rules.margin
    name = "" if isinstance(file, io.BytesIO) else file.name
    with Image.open(file, formats=formats(name)) as opened:
        pixels = opened.width * opened.height
        if pixels > rules.max_megapixels * 1e6:
            raise Unreadable(f"it has {pixels / 1e6:,.4g} megapixels, {_TOO_LARGE}")
        if pixels <= _LARGE:
            return _finished(opened, size, margin, rules, inverted)
        with _one_large:
            if size is not None:
                # JPEGs only: decoded at a half to an eighth of the size, still twice what is
                # needed.
                scale = 2 * margin * size / min(opened.size)
                opened.draft(None, (int(scale * opened.width), int(scale * opened.height)))
            return _finished(opened, size, margin, rules, inverted)


def _finished(opened: Any, size: int | None, margin: float, rules: Rules, inverted: bool) -> Seen:
    """The image of an opened file."""
    if opened.format == "TIFF":
        # Pillow would read all tags after the pixels, and fail on unreadable ones.
        opened.load_end = lambda: None
    pages = _pages(opened)
    opened.load()
    if opened.format == "TIFF":
        inverted |= opened.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    image = _upright(opened)
    channels = 1 if image.mode in _GREY else 3
    if kind := _wide_kind(image.mode):
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise Unreadable("some of its values are not finite (NaN or Inf)")
        if kind not in rules.ranges:
            return Seen(channels, pages, None, kind, Spread.of(values))
        grey = to_bytes(values, rules.ranges[kind])
        # Pillow corrects inversion for eight bits only.
        image = Image.fromarray(255 - grey if inverted else grey)
    image = _opaque(image).convert("L" if channels == 1 else "RGB")
    if size is not None and rules.whole:
        image = resize_whole(image, size, rules.resampling)
    elif size is not None:
        image = resize_and_crop(image, size, margin, rules.resampling)
    array = np.asarray(image)
    return Seen(channels, pages, array[..., None] if array.ndim == 2 else array, kind)


def _wide_kind(mode: str) -> str:
    """See :data:`wide_greys.KINDS`; empty for images of eight bits."""
    if mode.startswith("I;16"):
        return "16-bit"
    return {"I": "32-bit", "F": "float"}.get(mode, "")


def _opaque(image: Image.Image) -> Image.Image:
    """Transparent areas made white, as they look in a viewer."""
    if "transparency" not in image.info and image.mode not in {"RGBA", "LA", "PA"}:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _upright(opened: Any) -> Image.Image:
    """The image turned as its EXIF data says, if that can be read."""
    try:
        tags: Any = opened.tag_v2 if opened.format == "TIFF" else opened.getexif()
        found = tags.get(_ORIENTATION)
    except Exception:  # damaged metadata raise errors of every kind
        return opened
    found = found[0] if isinstance(found, tuple) and found else found
    turn = _TURNS.get(found) if isinstance(found, int) else None
    return opened if turn is None else opened.transpose(turn)


def _pages(opened: Any) -> int:
    """How many images a TIFF holds; smaller copies do not count."""
    if opened.format != "TIFF":
        return 1
    found = 1
    try:
        for i in range(1, opened.n_frames):
            opened.seek(i)
            found += not opened.tag_v2.get(_SUBFILE, 0) & _REDUCED
    except Exception:  # a broken chain of pages; the first is there
        pass
    finally:
        opened.seek(0)
    return found


_quiet_lock, _quiet_holders = threading.Lock(), []


@contextmanager
def undisturbed(rules: Rules) -> Iterator[None]:
    """While images are read: no warnings about odd files, and Pillow's limit is the rules'.

    Both are process-wide, so the first user sets them and the last one restores them.
    """
    with _quiet_lock:
        if not _quiet_holders:
            caught = warnings.catch_warnings()
            caught.__enter__()
            _quiet_holders.append((caught, Image.MAX_IMAGE_PIXELS))
            warnings.simplefilter("ignore")
        _quiet_holders.append(rules)
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and rules.max_megapixels * 1e6 > 2 * limit:
            Image.MAX_IMAGE_PIXELS = int(rules.max_megapixels * 1e6)
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_holders.pop()
            if len(_quiet_holders) == 1:
                caught, Image.MAX_IMAGE_PIXELS = _quiet_holders.pop()
                caught.__exit__(None, None, None)


def reason_of(error: Exception) -> str:
    """Why an image cannot be read, on one line."""
    return " ".join(str(error).split()) or first_line(error)
