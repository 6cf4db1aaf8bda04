"""Checks that a place can be written to, before work starts."""

import os
from pathlib import Path

from jaxclust.core.errors import OUT_OF_ROOM as OUT_OF_ROOM
from jaxclust.core.errors import InputError


def check_can_write(path: Path, *, parents: bool = True) -> None:
    """Refuse a file or folder that cannot be created, or an existing one that is read-only.

    Args:
        path: of what will be written.
        parents: missing folders above it will be created.

    Raises:
        InputError: names the folder at fault.
    """
    if path.exists():
        _check_access(path, path)
        return
    above = path.absolute().parent
    if not parents and not above.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {above}")
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise InputError(f"cannot write {path}: {above} is not a folder")
    _check_access(above, path)


def _check_access(place: Path, path: Path) -> None:
    needed = os.W_OK | os.X_OK if place.is_dir() else os.W_OK
    if not os.access(place, needed):
        raise InputError(f"cannot write {path}: {place} is read-only")


def check_file(path: Path) -> None:
    """:func:`check_can_write` for a file in a folder that must exist."""
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; give a file's name")
    check_can_write(path, parents=False)


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file, or keep the old one; a pipe or device is written to directly."""
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path = path.resolve()  # writes the target of a link; the link stays
    temporary = path.with_name(f".{path.name}.{os.getpid()}.jaxclust-tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
