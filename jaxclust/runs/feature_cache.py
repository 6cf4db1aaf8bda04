"""The cache of features, held below a limit: those unused for longest make room for new ones."""

import math
import os
import shutil
from contextlib import suppress
from pathlib import Path

from jaxclust.core.errors import InputError
from jaxclust.data.kept import cache_dir
from jaxclust.runs.lock import locked

VARIABLE = "JAXCLUST_CACHE_GB"
_USUAL = 20.0  # GB: four million photographs by EfficientNet-Lite


def features_dir() -> Path:
    """Where features are kept, one folder for each set of images and encoder."""
    return cache_dir() / "features"


def limit() -> int:
    """Bytes that kept features may take, from JAXCLUST_CACHE_GB.

    Raises:
        InputError: it is not a number from zero.
    """
    given = os.environ.get(VARIABLE, "").strip() or str(_USUAL)
    try:
        found = float(given)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise InputError(f"{VARIABLE} is '{given}'; it must be a number of GB, such as 20 or 0.5")
    return int(found * 1e9)


def make_room(wanted: Path, needed: int, within: int) -> None:
    """Remove features unused for longest until wanted ones fit into the limit.

    What another process is using stays. Best effort: so does what cannot be removed.

    Args:
        wanted: folder of the features that are used now, or will be; it stays.
        needed: bytes that they take.
        within: bytes that all may take.
    """
    others = []
    with suppress(OSError):
        for folder in wanted.parent.iterdir():
            # Locking a folder to use it has set its time.
            with suppress(OSError):
                others.append((folder.stat().st_mtime, _size(folder), folder))
    others = sorted(other for other in others if other[2] != wanted)
    excess = sum(size for _, size, _ in others) + needed - within
    for _, size, folder in others:
        if excess <= 0:
            return
        with suppress(OSError, InputError), locked(folder):
            shutil.rmtree(folder)
            excess -= size


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
