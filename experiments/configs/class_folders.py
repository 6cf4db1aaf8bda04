"""A folder of links to the pictures of a few classes of a folder of class folders."""

from pathlib import Path


def linked_classes(source: Path, target: Path, count: int) -> Path:
    """Link the pictures of the first `count` classes of `source` below `target`.

    Args:
        source: a folder with a sub-folder a class.
        target: made where it is missing; links that are there already stay.
        count: of the classes, in the order of their names.

    Returns:
        `target`.
    """
    classes = sorted(path for path in source.iterdir() if path.is_dir())
    for picture in (path for folder in classes[:count] for path in folder.rglob("*.*")):
        link = target / picture.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(picture.absolute())
    return target
