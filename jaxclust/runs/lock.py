"""A lock: only one process at a time writes a run directory."""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxclust.core.errors import InputError

# Ends like temporary files: a killed run leaves it behind, which does no harm.
NAME = ".lock.jaxclust-tmp"
# Errors of file systems that have no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class Busy(InputError):
    """Another process is writing there."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; the folder is created if missing.

    The kernel releases the lock when the process that holds it ends, for whatever reason, so that
    no lock has to be cleared away. If the file system has no locks, the process that the file names
    holds it as long as that process lives.

    Args:
        folder: the run directory.

    Raises:
        InputError: another process is writing there, or nothing can be written there.
    """
    path = folder / NAME
    try:
        descriptor = _taken(path)
    except OSError as error:
        raise InputError(
            f"cannot write to {folder} ({error.strerror}); give another folder"
        ) from error
    try:
        yield
    finally:
        # While still locked: a process that waits for this file will see that it is gone. If the
        # folder was removed meanwhile, the file there is another process's.
        if _still_there(descriptor, path):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def check_free(folder: Path) -> None:
    """InputError if another process is writing; changes nothing.

    Args:
        folder: the run directory, which need not exist.
    """
    path = folder / NAME
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return  # no lock, or nothing can be written there
    try:
        holder = _read(descriptor)
        if holder.get("pid") != os.getpid() or holder.get("host") != socket.gethostname():
            _lock(descriptor, path)
    finally:
        os.close(descriptor)


def _taken(path: Path) -> int:
    """The open lock file, locked and naming this process."""
    while True:
        # Again in every turn: whoever held the lock may have removed the folder.
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor, path, patience=1.0)
            if not _still_there(descriptor, path):
                os.close(descriptor)
                continue
            me = {"pid": os.getpid(), "host": socket.gethostname()}
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(me).encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _lock(descriptor: int, path: Path, patience: float = 0.0) -> None:
    """Lock an open file; InputError names the process that holds it.

    Args:
        descriptor: the open file.
        path: its name.
        patience: seconds to wait, since others take the lock briefly to check it.
    """
    try:
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if patience <= 0:
                    raise
                patience -= 0.05
                time.sleep(0.05)
    except OSError as error:
        holder = _read(descriptor)
        if error.errno in _NO_LOCKS and not _alive(holder):
            return None
        if error.errno not in _NO_LOCKS | {errno.EWOULDBLOCK, errno.EACCES}:
            raise
        host = holder.get("host")
        where = f" on {host}" if host and host != socket.gethostname() else ""
        raise Busy(
            f"process {holder.get('pid', 'unknown')}{where} is writing to {path.parent}; wait for "
            "it, end it, or give another folder"
        ) from None


def _still_there(descriptor: int, path: Path) -> bool:
    """Whether the locked file still has its name."""
    try:
        there, mine = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def _read(descriptor: int) -> dict[str, Any]:
    """What the holder wrote; empty if it has not yet."""
    try:
        found = json.loads(os.pread(descriptor, 1000, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _alive(holder: dict[str, Any]) -> bool:
    """Whether a holder still runs; one on another machine is assumed to."""
    if not isinstance(holder.get("pid"), int) or holder["pid"] == os.getpid():
        return False
    if holder.get("host") != socket.gethostname():
        return True
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
