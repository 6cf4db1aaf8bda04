"""Compares recorded settings with the current ones."""

from pathlib import Path
from typing import Any

from jaxclust.core.errors import InputError

# What may differ between a run and its continuation.
_FREE = {"versions", "device", "command", "data_dir", "source", "streamed", "spaces"}


def check_same(old: dict[str, Any], new: dict[str, Any], path: Path) -> None:
    """Refuse to resume a run with other settings, or on other images.

    Args:
        old: the run's record.
        new: the record as it would be written now.
        path: where the old one is.

    Raises:
        InputError: names every setting that differs, or says that the images do.
    """
    changed = _changed(old, new)
    of_images = {name for name in changed if name.startswith("data.")}
    if of_images and "options.n_clusters" not in changed:
        # A number that nobody gave follows from the images.
        of_images |= {name for name in changed if name.startswith(("n_clusters", "cluster_count."))}
    settings = [text for name, text in changed.items() if name not in of_images]
    if settings:
        raise InputError(
            f"‹resume› with changed settings ({'; '.join(settings)}); give the settings of "
            f"{path} or start anew with another ‹out›"
        )
    if changed:
        counts = [tree["data"].get("n_images") for tree in (old, new)]
        number = "" if counts[0] == counts[1] else f" ({counts[0]} then, {counts[1]} now)"
        # The last bits of features depend on the device, and on a CPU on the number of cores.
        again = (
            ", or were encoded again on another device or number of cores, which rounds differently"
            if "encoder" in new["data"] and not number
            else ""
        )
        raise InputError(
            f"‹resume› on other images: those of {new['options']['dataset']} have changed since "
            f"the run was begun{number}{again}; bring the old ones back or start anew with "
            "another ‹out›"
        )


def _changed(old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
    """'name: old -> new' of every setting that differs, by name."""
    flat_old, flat_new = (
        flatten({name: value for name, value in tree.items() if name not in _FREE})
        for tree in (old, new)
    )
    return {
        name: f"{name}: {flat_old.get(name)} -> {flat_new.get(name)}"
        for name in sorted(flat_old.keys() | flat_new.keys())
        if flat_old.get(name) != flat_new.get(name)
    }


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested settings by their dotted names, in order."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
