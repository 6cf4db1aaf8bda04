"""The shape of images that are given as rows of values."""

import math
import warnings


def image_shape(width: int) -> tuple[int, int, int]:
    """Height, width and channels of images flattened to rows of `width` values.

    Square grey or square coloured images where the number allows, else images of one
    row, with a warning.
    """
    for channels in (1, 3):
        side = math.isqrt(width // channels)
        if side * side * channels == width:
            return side, side, channels
    warnings.warn(
        f"rows of {width} values are not square images and are taken as images of one row; give "
        "image_shape=(height, width, channels), images [n, h, w, c], or features=True for an "
        "encoder's features",
        stacklevel=4,
    )
    return 1, width, 1
