"""Images and labels from an npz file, and what may be such."""

import zipfile
from pathlib import Path

import numpy as np

from jaxclust.core.errors import InputError, first_line

# Pictures do not compress a hundredfold; a file this dense and large is no data set.
_BOMB_BYTES, _BOMB_RATIO = 2**30, 100


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """`images` [n, h, w, c] and, where present, `labels` [n] of an npz file.

    Raises:
        InputError: no such file, not an npz, or arrays of the wrong kind.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}; give npz:PATH with an array `images`")
    try:
        _refuse_bomb(path)
        with np.load(path, allow_pickle=False) as arrays:
            if "images" not in arrays:
                raise InputError(
                    f"{path} has no array `images` (it has {', '.join(arrays) or 'none'})"
                )
            images = arrays["images"]
            labels = arrays.get("labels")
    except InputError:
        raise
    except Exception as error:  # zip, header and pickle errors of every kind
        raise InputError(
            f"{path} cannot be read as npz ({first_line(error)}); write it with numpy.savez"
        ) from error
    return check_images(images, str(path)), check_labels(labels, images.shape[0], str(path))


def _refuse_bomb(path: Path) -> None:
    """InputError for a small file that claims to unpack to gigabytes."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > _BOMB_BYTES and size > _BOMB_RATIO * path.stat().st_size:
        raise InputError(
            f"{path} claims to unpack to {size / 2**30:.0f} GiB, more than is safe; write it with "
            "numpy.savez"
        )


def check_images(images: np.ndarray, where: str) -> np.ndarray:
    """Images as uint8 or float32 [n, h, w, c]; InputError for what cannot be one."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise InputError(
            f"images in {where} have shape {images.shape}; [n, h, w] or [n, h, w, c] is expected"
        )
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise InputError(
            f"images in {where} have dtype {images.dtype}; uint8 or a floating type is expected"
        )
    if not np.isfinite(images).all():
        raise InputError(f"images in {where} contain NaN or Inf; clean or drop those images")
    with np.errstate(over="ignore"):
        images = images.astype(np.float32)
    if not np.isfinite(images).all():
        raise InputError(f"images in {where} exceed float32's range; scale them down")
    return images


def check_labels(labels: np.ndarray | None, n: int, where: str) -> np.ndarray | None:
    """Labels as int64 [n]; InputError for what cannot be one."""
    if labels is None:
        return None
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"labels in {where} are {labels.dtype} {labels.shape}; integers ({n},) are expected"
        )
    return labels.astype(np.int64)
