"""What a k-means of shards keeps on disk to continue after a kill."""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxclust.core.errors import InputError, first_line
from jaxclust.runs.many.tree_growing import Level
from jaxclust.runs.writable import write_file

_STATE, _RECORD = "state.npz", "kmeans.json"


class State(NamedTuple):
    """How far it has come; the same in every process."""

    rows: np.ndarray  # int64 [shards]: how many rows each has; -1: skipped
    grown: tuple[Level, ...]  # from the root on
    growing: Level | None = None  # the level under work, once it has its first centroids


def write_state(folder: Path, state: State) -> None:
    """Replace the state on disk."""
    arrays: dict[str, Any] = {"rows": state.rows, "grown": np.int64(len(state.grown))}
    levels = [*state.grown, *([] if state.growing is None else [state.growing])]
    for i, level in enumerate(levels):
        arrays |= {f"{i}_{name}": value for name, value in level._asdict().items()}
    file = io.BytesIO()
    np.savez(file, **arrays)
    write_file(folder / _STATE, file.getvalue())


def read_state(folder: Path) -> State | None:
    """The state on disk; None: there is none.

    Raises:
        InputError: it is damaged.
    """
    path = folder / _STATE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            count = sum(name.endswith("_wanted") for name in arrays)
            levels = tuple(
                Level(**{name: arrays[f"{i}_{name}"] for name in Level._fields})
                for i in range(count)
            )
            done = int(arrays["grown"])
            rows = arrays["rows"]
    except Exception as error:  # zip, header and key errors of every kind
        raise InputError(
            f"{path} cannot be read ({first_line(error)}); remove {folder} and start again"
        ) from error
    levels = tuple(level._replace(iteration=int(level.iteration)) for level in levels)
    return State(rows, levels[:done], levels[done] if count > done else None)


# What the command line calls a setting that is not an option.
_CALLED = {"source": "SHARDS", "processes": "number of processes"}


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Note what a folder is for, once work begins there.

    Args:
        folder: created if it is missing.
        record: the command's settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / _RECORD, json.dumps(record, indent=1).encode())


def check_record(folder: Path, record: dict[str, Any]) -> None:
    """Refuse a folder that holds something else.

    Args:
        folder: need not exist.
        record: the command's settings.

    Raises:
        InputError: the folder has other settings' results, or other files.
    """
    path = folder / _RECORD
    if path.is_file():
        try:
            known = json.loads(path.read_text("utf-8"))
        except ValueError:
            known = {}
        other = sorted(name for name in record if known.get(name) != record[name])
        if other:
            names = ", ".join(_CALLED.get(name, f"‹{name}›") for name in other)
            raise InputError(
                f"{folder} holds a k-means with another {names}; give another folder, or the same "
                "options to continue"
            )
        return
    there = folder.iterdir() if folder.is_dir() else ()
    # Of killed processes: locks and rows.
    if any(not one.name.startswith((".lock", ".rows")) for one in there):
        raise InputError(f"{folder} is not empty and holds no k-means; give another folder")
