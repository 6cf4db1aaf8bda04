"""Small images, many in a file: the sheets a page cuts its images out of."""

import base64
import io
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxclust.data.catalogue import ImageSet
from jaxclust.data.streaming import Streamed

# Side in pixels and WebP quality, best first.
_STEPS = ((96, 80), (72, 75), (56, 70), (48, 65), (40, 60), (32, 55), (24, 45), (16, 35), (12, 25))
_A_SHEET, _COLUMNS, _TRIED = 2500, 50, 400

# rows int [b] and a side -> uint8 [b, side, side, 3]
Draw = Callable[[np.ndarray, int], np.ndarray]


def drawing(image_set: ImageSet | None) -> Draw | None:
    """A function that draws the images of rows: as the run saw them, or larger from their files.

    None for a set of features, or if there is no set.
    """
    images = None if image_set is None else pictures_of(image_set)
    if image_set is None or images is None:
        return None
    height, width = images.shape[1:3]
    low, high = value_range(images)
    places = image_set.places
    # An encoder may have seen them squeezed.
    seen_otherwise = image_set.pictures is not None
    if places is not None:
        places = places.read_by(places.rules._replace(whole=False, resampling="bilinear"))

    def draw(rows: np.ndarray, side: int) -> np.ndarray:
        if places is not None and (seen_otherwise or side > min(height, width)):
            return Streamed(places.take(rows), image_set.ids.take(rows), side, 3)[:]
        return squares(images[np.asarray(rows)], side, low, high)

    return draw


def pictures_of(image_set: ImageSet) -> Any:
    """The images to show; None for features."""
    if image_set.pictures is not None:
        # The original array, before resizing for an encoder.
        return getattr(image_set.pictures, "images", image_set.pictures)
    return image_set.images if len(image_set.images.shape) == 4 else None


def largest_side(image_set: ImageSet, wanted: int) -> int:
    """Side beyond which images have nothing more to show."""
    if image_set.places is not None:
        return wanted
    return min(wanted, *pictures_of(image_set).shape[1:3])


class Sheets(NamedTuple):
    """Images in rows of `columns`, `a_sheet` on each sheet, the last one not full."""

    side: int  # of an image, in pixels
    columns: int
    a_sheet: int
    uris: list[str]  # `data:` addresses of WebP images


def value_range(images: Any) -> tuple[float, float]:
    """The values shown as black and white: minimum and maximum; for bytes, 0 and 255."""
    if images.dtype == np.uint8:
        return 0.0, 255.0
    return float(images.min()), float(images.max())


def as_bytes(images: np.ndarray, low: float, high: float) -> np.ndarray:
    """Images of any shape as uint8; for floats, `low` becomes black and `high` white."""
    if images.dtype == np.uint8:
        return images
    scaled = (images - low) * (255 / max(high - low, 1e-12))
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def colours(images: np.ndarray) -> np.ndarray:
    """The channels shown of images [..., c]: the first three, or of fewer the first."""
    return images[..., : 1 if images.shape[-1] < 3 else 3]


def squares(images: Any, side: int, low: float = 0.0, high: float = 255.0) -> np.ndarray:
    """Images [b, h, w, c] as uint8 [b, side, side, 3], cut to the central square.

    Args:
        images: uint8, or floats between `low` and `high`.
        side: of the result; nothing is enlarged beyond it.
        low: what becomes black.
        high: what becomes white.
    """
    images = as_bytes(images, low, high)
    h, w = images.shape[1:3]
    edge = min(h, w)
    top, left = (h - edge) // 2, (w - edge) // 2
    cut = images[:, top : top + edge, left : left + edge]
    cut = colours(cut)
    cut = np.broadcast_to(cut, (*cut.shape[:3], 3)) if cut.shape[3] == 1 else cut
    if edge == side:
        return np.ascontiguousarray(cut)
    smooth = Image.Resampling.BOX if edge > side else Image.Resampling.NEAREST
    return (
        np.stack([np.asarray(Image.fromarray(one).resize((side, side), smooth)) for one in cut])
        if len(cut)
        else np.zeros((0, side, side, 3), np.uint8)
    )


def sheets(draw: Draw, rows: np.ndarray, budget: int, largest: int) -> Sheets:
    """Images of the given rows on sheets that fit a budget, as large as it allows.

    Args:
        draw: draws images.
        rows: which, int [n], in the order they will be cut out.
        budget: bytes the sheets' addresses may take together.
        largest: the largest side allowed.
    """
    side, quality = _STEPS[-1]
    tried = rows[:: max(1, len(rows) // _TRIED)][:_TRIED]
    for step_side, quality in _STEPS:
        side = min(step_side, largest)
        sample = _webp(_laid_out(draw(tried, side)), quality)
        if len(sample) * 4 / 3 * len(rows) <= budget * max(len(tried), 1):
            break
    uris = []
    for start in range(0, len(rows), _A_SHEET):
        content = _webp(_laid_out(draw(rows[start : start + _A_SHEET], side)), quality)
        uris.append("data:image/webp;base64," + base64.b64encode(content).decode())
    return Sheets(side, _COLUMNS, _A_SHEET, uris)


def sprite(draw: Draw, rows: np.ndarray, side: int) -> Image.Image:
    """All images on one square sheet, row by row, as TensorBoard's projector wants it."""
    return Image.fromarray(_laid_out(draw(rows, side), math.ceil(math.sqrt(len(rows)))))


def _laid_out(shown: np.ndarray, most: int = _COLUMNS) -> np.ndarray:
    """uint8 [b, s, s, 3] -> one image with at most `most` in a row."""
    b, side = shown.shape[:2]
    columns = min(most, max(b, 1))
    lines = max(1, math.ceil(b / columns))
    whole = np.zeros((lines * columns, side, side, 3), np.uint8)
    whole[:b] = shown
    grid = whole.reshape(lines, columns, side, side, 3).swapaxes(1, 2)
    return grid.reshape(lines * side, columns * side, 3)


def _webp(image: np.ndarray, quality: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "WEBP", quality=quality, method=4)
    return content.getvalue()


def place(sheets_: Sheets, i: int, count: int) -> tuple[int, int, int]:
    """Sheet, x and y in pixels of image i of `count`."""
    sheet, at = divmod(i, sheets_.a_sheet)
    columns = min(sheets_.columns, max(1, count - sheet * sheets_.a_sheet))
    return sheet, at % columns * sheets_.side, at // columns * sheets_.side


def chosen(order: Sequence[int], count: int) -> list[int]:
    """The first and the last `count` of an order, none twice."""
    return list(order) if len(order) <= 2 * count else [*order[:count], *order[-count:]]
