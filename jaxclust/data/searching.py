"""The image files below a folder, and what is skipped and why."""

import os
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from jaxclust.core.errors import InputError
from jaxclust.data.formats import START, kind_by_content, kind_by_name, told
from jaxclust.data.names import Names

# Folders and files that systems and programs use internally: previews, bins, versions.
_SYSTEM_FOLDERS = {
    "__macosx", ".thumbnails", ".thumbs", ".thumb", ".sharedthumbnails", "@eadir", ".@__thumb",
    "@recycle", "#recycle", "#snapshot", "@sharebin", "@tmp", "$recycle.bin", "recycler",
    "system volume information", "lost+found", ".appledouble", ".spotlight-v100", ".fseventsd",
    ".temporaryitems", ".documentrevisions-v100", ".trashes", ".xvpics", ".picasaoriginals",
    ".dtrash", ".comments", ".git", ".svn", ".hg", ".cache", ".ipynb_checkpoints", "__pycache__",
}  # fmt: skip
_SYSTEM_FILES = {
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", ".ds_store", ".directory",
    ".localized", ".picasa.ini", "icon\r", ".nomedia",
}  # fmt: skip


@dataclass
class Listing:
    """What is below a folder."""

    images: Names = field(default_factory=Names)  # paths below the folder
    passed_over: list[tuple[str, str]] = field(default_factory=list)  # path and reason
    others: Counter[str] = field(default_factory=Counter)  # non-image files, by extension

    def told_others(self) -> str:
        """In words, as `3 files that are not images (.csv, .txt)`; empty for none."""
        if not self.others:
            return ""
        count, ends = sum(self.others.values()), sorted(self.others)
        shown = ", ".join(ends[:5]) + (", …" if len(ends) > 5 else "")
        said = "1 file that is not an image" if count == 1 else f"{count} files that are not images"
        return f"{said} ({shown})"


def image_files(root: Path) -> Listing:
    """Search a folder and its sub-folders, including links to folders, each folder once.

    Args:
        root: an existing folder.

    Returns:
        Paths in order, folder by folder. Unreadable folders, broken links and images of unsupported
        formats are skipped and named; files that systems use internally are ignored.

    Raises:
        InputError: the folder itself cannot be read.
    """
    found = Listing()
    known = {_identity(str(root)): ""}
    links: list[str] = []
    _search(root, [""], found, known, links)
    # If both a folder and a link to it are found, its images have the folder's own path.
    while links:
        later: list[str] = []
        for link in sorted(links):
            _follow(root, link, found, known, later)
        links = later
    found.images = found.images.take(found.images.order_of_paths())
    found.passed_over.sort()
    return found


def _follow(
    root: Path, link: str, found: Listing, known: dict[tuple[int, int], str], links: list[str]
) -> None:
    """Search the target of a link to a folder, unless it was already reached."""
    try:
        identity = _identity(_path(root, link))
    except OSError as error:
        found.passed_over.append((f"{link}/", _told(error)))
        return
    if identity not in known:
        known[identity] = link
        _search(root, [link], found, known, links)
    elif not _is_around(known[identity], link):
        there = known[identity]
        found.passed_over.append((f"{link}/", f"a link to {there}, which is already included"))


def _search(
    root: Path,
    waiting: list[str],
    found: Listing,
    known: dict[tuple[int, int], str],
    links: list[str],
) -> None:
    """Search folders and those in them; links to folders are added to `links`."""
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(_path(root, folder)) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise InputError(
                    f"{root} cannot be read ({_told(error)}); give a readable folder"
                ) from error
            found.passed_over.append((f"{folder}/", _told(error)))
            continue
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if not _is_folder(entry):
                _note(entry, name, found)
            elif is_systems(entry.name):
                continue
            elif entry.is_symlink():
                links.append(name)
            else:
                if identity := _identity_of(entry):
                    known.setdefault(identity, name)
                waiting.append(name)


def is_systems(folder: str) -> bool:
    """Whether a folder of this name is one that systems use internally."""
    return folder.lower() in _SYSTEM_FOLDERS or folder.lower().startswith(".trash")


def none_found(where: Path, found: Listing, what: str) -> InputError:
    """The error for a listing without images; `what` it is of: a folder, a tar."""
    passed = [f"{name}: {reason}" for name, reason in found.passed_over[:1]]
    there = "; ".join(filter(None, [*passed, found.told_others()]))
    return InputError(
        f"no image in {where}{f' ({there})' if there else ''}; give a {what} with JPEG, PNG, WebP "
        "or other images"
    )


def _note(entry: os.DirEntry[str], name: str, found: Listing) -> None:
    """Add a folder's file to the right list."""

    def problem() -> str:
        try:
            regular = stat.S_ISREG(entry.stat().st_mode)
        except FileNotFoundError:
            return "a broken link"
        except OSError as error:
            return _told(error)
        return "" if regular else "not a file but a device, socket or pipe"

    def start() -> bytes:
        with Path(entry.path).open("rb") as file:
            return file.read(START)

    note(found, name, start, problem)


def note(
    found: Listing, name: str, start: Callable[[], bytes], problem: Callable[[], str] = lambda: ""
) -> None:
    """Add a file to the right list, by its name, or by its content if the name says nothing.

    Args:
        found: a listing; files that systems use internally are not added to it.
        name: the file's path, parted by slashes.
        start: reads its first bytes.
        problem: why it cannot be read; empty if it can.
    """
    base = name.rpartition("/")[2]
    if base.lower() in _SYSTEM_FILES or base.startswith("._"):
        return
    kind = kind_by_name(base)
    if kind == "none":
        found.others[PurePath(base).suffix.lower()] += 1
        return
    reason = problem()
    if reason and kind is None:
        return
    # Phones' images often keep that name after conversion.
    if not reason and kind in {None, "HEIC"}:
        try:
            kind = kind_by_content(start()) or kind
        except OSError as error:
            reason = _told(error)
    if kind == "image" and not reason:
        found.images.append(name)
    elif kind is None and not reason:
        found.others[PurePath(base).suffix.lower() or "without an extension"] += 1
    else:
        found.passed_over.append((name, reason or told(kind or "")))


def _path(root: Path, below: str) -> str:
    return str(root / below) if below else str(root)


def _identity(path: str) -> tuple[int, int]:
    """Identifies a folder, whatever its path."""
    found = Path(path).stat()
    return found.st_dev, found.st_ino


def _identity_of(entry: os.DirEntry[str]) -> tuple[int, int] | None:
    try:
        return _identity(entry.path)
    except OSError:
        return None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, or one that may not be followed
        return False


def _is_around(folder: str, path: str) -> bool:
    """Whether a path lies below a folder, both below the root."""
    return not folder or path.startswith(f"{folder}/")


def _told(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
