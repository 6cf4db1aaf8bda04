"""Sets in shards: many files under one pattern, on this machine or at URLs."""

import glob
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import jax

from jaxclust.core.errors import OUT_OF_ROOM, InputError, RunError, first_line

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
# Numbered shards that one pattern may name.
_MOST = 10_000_000


class Shard(NamedTuple):
    """One file of a set, which may be missing."""

    where: str  # its path or URL
    name: str  # its file name without the ending, which names what is made of it


class Skipped(NamedTuple):
    """A shard that was passed over, and why."""

    where: str
    reason: str


def is_pattern(source: str) -> bool:
    """Whether a source names shards: a URL, or a path with wildcards or a range.

    Something that is there by that very name is not a pattern, nor is a data set's `folder:PATH`.
    """
    if "://" in source:
        return True
    if source.startswith(("folder:", "npz:", "tar:", "features:")):
        return False
    return any(sign in source for sign in "*?[{") and not Path(source).expanduser().exists()


def listed(pattern: str) -> list[Shard]:
    """The shards of a pattern, in the order of their names.

    Args:
        pattern: a path or URL with wildcards (`features/*.parquet`) or a range of numbers
            (`train-{00000..00127}.tar`). A range names its shards whether or not they are there;
            wildcards name those that are.

    Raises:
        InputError: none is there, two have the same name, or the URL's kind needs a package.
    """
    if "://" in pattern:
        _remote(pattern)  # a kind that needs a package is refused, not passed over
    numbered = _numbered(pattern)
    ranged = len(numbered) > 1
    found = [one for each in numbered for one in _matching(each, ranged)]
    if not found:
        raise InputError(f"no shards match {pattern}; check the pattern, and quote it in a shell")
    shards = [Shard(where, PurePosixPath(_path_of(where)).stem) for where in sorted(found)]
    twice = next((name for name, n in Counter(s.name for s in shards).items() if n > 1), None)
    if twice is not None:
        raise InputError(
            f"several shards of {pattern} are named {twice}, so their results would share a "
            "file; rename them"
        )
    return shards


def _numbered(pattern: str) -> list[str]:
    """A pattern with its ranges of numbers written out."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match[1], match[2]
    if not 0 <= int(last) - int(first) < _MOST:
        raise InputError(f"the range {match[0]} of {pattern} is empty or too long")
    rest = _numbered(pattern[match.end() :])
    return [
        f"{pattern[: match.start()]}{number:0{len(first)}d}{end}"
        for number in range(int(first), int(last) + 1)
        for end in rest
    ]


def _path_of(where: str) -> str:
    """A path, or a URL's without what follows a question mark."""
    return where.partition("?")[0] if "://" in where else where


def _matching(pattern: str, ranged: bool) -> list[str]:
    """The files of a pattern with wildcards; a plain name is taken as it is.

    Beside a range, and in the name of a file that is there, brackets and ? are letters.
    """
    signs = "*" if ranged or pattern.startswith(("http://", "https://")) else "*?["
    wild = any(sign in pattern for sign in signs) and not there(pattern)
    if "://" in pattern:
        files, path = _remote(pattern)
        return [files.unstrip_protocol(one) for one in files.glob(path)] if wild else [pattern]
    path = Path(pattern).expanduser()
    if not wild:
        return [str(path)]
    # Path.glob takes no absolute pattern.
    found = glob.glob(str(path), recursive=True)  # noqa: PTH207
    return [one for one in found if Path(one).is_file()]


def _remote(url: str) -> tuple[Any, str]:
    """(the file system of a URL, the path in it)."""
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        raise InputError(f"{url} needs fsspec: pip install 'jaxclust[remote]'") from error
    try:
        return url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(f"{url} cannot be opened: {first_line(error)}") from error


@contextmanager
def local(where: str) -> Iterator[Path]:
    """A shard as a file on this machine; one at a URL is copied, and the copy removed after.

    Raises:
        OSError: it is missing or cannot be read.
    """
    if "://" not in where:
        yield Path(where)
        return
    files, path = _remote(where)
    with tempfile.TemporaryDirectory(prefix="jaxclust-") as folder:
        copy = Path(folder) / PurePosixPath(path).name
        files.get_file(path, str(copy))
        yield copy


def joined(folder: str, name: str) -> str:
    """The path or URL of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def make_folder(folder: str) -> None:
    """Create a folder, at a URL too, unless it is there.

    Raises:
        InputError: it cannot be created.
    """
    try:
        if "://" in folder:
            files, path = _remote(folder)
            files.makedirs(path, exist_ok=True)
        else:
            Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder} ({first_line(error)})") from error


def is_damage(error: Exception) -> bool:
    """Whether an error may be a shard's own; a full disk, a lack of memory and the like are not."""
    if isinstance(error, MemoryError | ImportError | RunError | jax.errors.JaxRuntimeError):
        return False
    return getattr(error, "errno", None) not in OUT_OF_ROOM


def remove(where: str) -> None:
    """Remove a file that is there, at a URL too."""
    if "://" in where:
        files, path = _remote(where)
        files.rm_file(path)
    else:
        Path(where).unlink()


def there(where: str) -> bool:
    """Whether there is a file."""
    if "://" not in where:
        return Path(where).is_file()
    files, path = _remote(where)
    return bool(files.isfile(path))


@contextmanager
def opened(where: str) -> Iterator[Any]:
    """A file for reading bytes of it, at a URL too, without copying the whole.

    Raises:
        OSError: it is missing or cannot be read.
    """
    if "://" in where:
        files, path = _remote(where)
        with files.open(path, "rb") as file:
            yield file
    else:
        with Path(where).open("rb") as file:
            yield file


def write(where: str, fill: Callable[[Path], None]) -> None:
    """Write a file, at a URL too, that appears whole or not at all (at a URL: if its store can).

    Args:
        where: its path or URL; an existing file is replaced.
        fill: writes it to the path it is given.
    """
    if "://" in where:
        files, path = _remote(where)
        with tempfile.TemporaryDirectory(prefix="jaxclust-") as folder:
            new = Path(folder) / PurePosixPath(path).name
            fill(new)
            files.put_file(str(new), path)
        return
    target = Path(where)
    new = target.with_name(f".{target.name}.tmp")
    try:
        fill(new)
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
