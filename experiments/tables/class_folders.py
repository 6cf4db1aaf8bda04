"""Links to folders of class folders, or to the pictures of a few of their classes."""

from pathlib import Path


def linked_classes(source: Path, target: Path, count: int, first: int = 0) -> Path:
    """Link the pictures of `count` classes of `source` below `target`.

    Args:
        source: a folder with one sub-folder per class.
        target: made where it is missing; links that are there already stay.
        count: of the classes, in the order of their names.
        first: of them, counted from 0.

    Returns:
        `target`.
    """
    classes = sorted(path for path in source.iterdir() if path.is_dir())
    for picture in (
        path for folder in classes[first : first + count] for path in folder.rglob("*.*")
    ):
        relink(target / picture.relative_to(source), picture)
    return target


def relink(link: Path, file: Path) -> None:
    """Make `link` point to `file`, replacing any link that was there."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() and link.readlink() != file.absolute():
        link.unlink()
    if not link.is_symlink():
        link.symlink_to(file.absolute())
