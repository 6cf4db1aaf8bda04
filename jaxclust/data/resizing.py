"""Brings images to one size and number of channels, on the host."""

from typing import Literal

import numpy as np
from PIL import Image

Resampling = Literal["bilinear", "bicubic"]
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# Weights of red, green and blue in a grey value (ITU-R 601), as in Pillow.
_LUMINANCE = (0.299, 0.587, 0.114)
# Images up to this many times longer than wide are resized whole; the cut-out is square.
_LONG = 2


def resize_and_crop(
    image: Image.Image, size: int, margin: float = 1.0, resampling: Resampling = "bilinear"
) -> Image.Image:
    """The image's shorter side resized to `margin * size`, then the central square cut out.

    A margin of 8/7 is ImageNet's usual 256 for 224. Memory depends on `size`, not on how long
    and thin an image is.
    """
    image = _less_long(image)
    width, height = image.size
    scale = round(size * margin) / min(width, height)
    resized = image.resize(
        (max(size, round(width * scale)), max(size, round(height * scale))),
        _FILTERS[resampling],
    )
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    return resized.crop((left, top, left + size, top + size))


def resize_whole(image: Image.Image, size: int, resampling: Resampling = "bilinear") -> Image.Image:
    """The whole image as a square; its aspect ratio is not kept."""
    return image.resize((size, size), _FILTERS[resampling])


def _less_long(image: Image.Image) -> Image.Image:
    """The image, without its ends if it is so long that a resized copy would be mostly ends."""
    width, height = image.size
    most = _LONG * min(width, height)
    if max(width, height) <= most:
        return image
    wide, high = min(width, most), min(height, most)
    left, top = (width - wide) // 2, (height - high) // 2
    return image.crop((left, top, left + wide, top + high))


def resize_array(
    images: np.ndarray,
    size: int,
    resampling: Resampling = "bilinear",
    *,
    whole: bool = False,
    margin: float = 1.0,
) -> np.ndarray:
    """Images [n, h, w, c], uint8 or float32 -> [n, size, size, c].

    Args:
        images: to resize.
        size: side of the result.
        resampling: by which filter.
        whole: :func:`resize_whole` instead of :func:`resize_and_crop`.
        margin: see there.
    """
    if images.shape[1:3] == (size, size) and (whole or margin == 1):
        return images
    out = np.empty((images.shape[0], size, size, images.shape[3]), images.dtype)
    for i, image in enumerate(images):
        for channel in range(images.shape[3]):
            plane = Image.fromarray(image[..., channel])
            if whole:
                sized = resize_whole(plane, size, resampling)
            else:
                sized = resize_and_crop(plane, size, margin, resampling)
            out[i, ..., channel] = np.asarray(sized)
    return out


class Resized:
    """Images of an array, resized and converted to colour on demand.

    Args:
        images: uint8 [n, h, w, 1 or 3].
        size: side of the results.
        resampling: by which filter.
        whole: see :func:`resize_array`.
        margin: see there.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        images: np.ndarray,
        size: int,
        resampling: Resampling,
        *,
        whole: bool,
        margin: float = 1.0,
    ) -> None:
        self.images, self.size = images, size
        self.resampling: Resampling = resampling
        self.whole, self.margin = whole, margin

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Like an array's."""
        return (len(self.images), self.size, self.size, 3)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """uint8 [b, size, size, 3] of a slice or of rows int [b]."""
        coloured = with_channels(self.images[rows], 3)
        return resize_array(
            coloured, self.size, self.resampling, whole=self.whole, margin=self.margin
        )


def with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Images [n, h, w, c] with 1 or 3 channels: grey repeated, or colours' luminance."""
    if images.shape[3] == channels:
        return images
    if images.shape[3] == 1:
        return np.repeat(images, channels, axis=3)
    if (images.shape[3], channels) != (3, 1):
        return images
    grey = images @ np.array(_LUMINANCE, np.float32)
    grey = np.round(grey) if images.dtype == np.uint8 else grey
    return grey[..., None].astype(images.dtype)
