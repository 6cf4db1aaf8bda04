"""The cache: what was computed from a user's files, and what was learned by checking them."""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np


def cache_dir() -> Path:
    """JAXCLUST_CACHE_DIR or ~/.cache/jaxclust."""
    return Path(os.environ.get("JAXCLUST_CACHE_DIR") or "~/.cache/jaxclust").expanduser()


def compiled_dir() -> Path:
    """Where programs compiled for accelerators are kept."""
    return cache_dir() / "compiled"


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """An npz file; best effort: a full or read-only disk only means the work is done again."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def mark_of_files(about: str, paths: Iterable[Path]) -> str | None:
    """Identifies these files as they are now; None if one cannot be accessed.

    Args:
        about: what else the work on them depends on.
        paths: of the files.
    """
    found = hashlib.sha256(about.encode())
    try:
        for path in paths:
            asked = path.stat()
            mark = f"{path}\0{asked.st_size} {asked.st_mtime_ns} {asked.st_ctime_ns}\n"
            found.update(mark.encode("utf-8", "surrogateescape"))
    except OSError:
        return None
    return found.hexdigest()[:32]


def looked(mark: str) -> tuple[np.ndarray, dict[str, tuple[float, float]]] | None:
    """What :func:`note_looked` kept under a mark."""
    try:
        with np.load(cache_dir() / "looked" / f"{mark}.npz", allow_pickle=False) as kept:
            ranges = json.loads(str(kept["ranges"]))
            return kept["told"], {kind: (low, high) for kind, (low, high) in ranges.items()}
    except Exception:  # nothing there, or a damaged file
        return None


def note_looked(mark: str, told: np.ndarray, ranges: dict[str, tuple[float, float]]) -> None:
    """Keep what checking files found: a number per file, and the ranges of their greys."""
    arrays = {"told": told, "ranges": np.asarray(json.dumps(ranges))}
    write_arrays(cache_dir() / "looked" / f"{mark}.npz", **arrays)
