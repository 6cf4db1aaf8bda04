"""The run directory: every file written to a temporary name and renamed."""

import io
import json
import math
import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.runs import csv_tables, lock
from jaxclust.runs.recorded import check_same
from jaxclust.runs.spilled import Spilled, whole_file
from jaxclust.runs.writable import OUT_OF_ROOM, check_can_write
from jaxclust.training import warm_start
from jaxclust.training.prediction import Room

_CONFIG = "config.json"
_FILES = (
    "metrics.jsonl",
    "assignments.csv",
    "duplicates.csv",
    "embeddings.npz",
    warm_start.FILE,
    "summary.json",
    "skipped.csv",
    "report.html",
)
_CHECKPOINTS = "checkpoints"
STARTS = "starts"  # of a run that chooses among several
_TEMPORARY = ".jaxclust-tmp"
# In a folder that holds the runs of several seeds.
_OF_SEED = re.compile(r"seed-\d+|assignments-\d+\.csv")


def _is_temporary(path: Path) -> bool:
    """Whether a killed run may have left this half-written; true for its lock, too."""
    return path.name.endswith(_TEMPORARY)


def _is_left_over(path: Path) -> bool:
    """Whether this is a temporary file but not the lock; stale if we hold the lock."""
    return _is_temporary(path) and path.name != lock.NAME


class RunDirectory:
    """A run's folder.

    Use :meth:`open` to start or continue one; nothing is touched before that.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoints(self) -> Path:
        """Orbax's folder."""
        return self.path / _CHECKPOINTS

    def check(self, config: dict[str, Any] | None, *, resume: bool, overwrite: bool) -> None:
        """Refuse a folder that must not be written to; changes nothing.

        Args:
            config: the run's settings, as they would be written; None: not known yet.
            resume: continue the run that is there.
            overwrite: replace the run that is there.

        Raises:
            InputError: the folder holds something else, a run with other settings, or one that
                another process is writing.
        """
        if resume and overwrite:
            raise InputError("‹resume› and ‹overwrite› exclude each other; give one")
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; give ‹out› a folder")
        check_can_write(self.path)
        for folder in (self.path, *self._of_seeds()):
            lock.check_free(folder)
        if not self.path.is_dir() or all(_is_temporary(path) for path in self.path.iterdir()):
            return
        if not resume and not overwrite:
            raise InputError(
                f"{self.path} is not empty; continue with ‹resume›, replace it with ‹overwrite›, "
                "or give another ‹out›"
            )
        if not (self.path / _CONFIG).is_file():
            raise InputError(
                f"{self.path} holds files but no config.json, so it is not a run directory; give "
                "another ‹out›"
            )
        old = self.read_config()
        if resume and config is not None:
            check_same(old, config, self.path / _CONFIG)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only writer within the context; the folder is created if missing.

        Raises:
            InputError: another process is writing there, or nothing can be written there.
        """
        with lock.locked(self.path):
            yield

    def open(self, config: dict[str, Any], *, overwrite: bool) -> None:
        """Make the folder, clear it of an old run if `overwrite`, write config.json.

        Hold the folder's lock: only then are temporary files certain to be a dead process's.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for path in filter(_is_left_over, list(self.path.iterdir())):
                path.unlink(missing_ok=True)
            if overwrite:
                for folder in self._of_seeds():
                    RunDirectory(folder)._remove()
                self._clear()
            # Last, and atomically: a folder is never left without it.
            if overwrite or not (self.path / _CONFIG).is_file():
                self.write_json(_CONFIG, config)
        except OSError as error:
            if error.errno in OUT_OF_ROOM:
                raise
            raise InputError(
                f"cannot write to {self.path} ({error.strerror}); give another ‹out›"
            ) from error

    def _of_seeds(self) -> list[Path]:
        """The folders in this one that hold the runs of several seeds."""
        found = (path for path in self.path.glob("seed-*") if _OF_SEED.fullmatch(path.name))
        return sorted(path for path in found if (path / _CONFIG).is_file())

    def _clear(self) -> None:
        """Remove what a run writes, except config.json."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        for start in (self.path / STARTS).glob("[0-9]*"):
            shutil.rmtree(start, ignore_errors=True)
        with suppress(OSError):  # there is none, or it holds other files
            (self.path / STARTS).rmdir()
        for name in _FILES:
            (self.path / name).unlink(missing_ok=True)
        for path in list(self.path.iterdir()):
            of_seed = _OF_SEED.fullmatch(path.name) and path.is_file()
            events = path.name.startswith("events.out.tfevents.")
            if of_seed or events or _is_left_over(path):
                path.unlink()

    def _remove(self) -> None:
        """Remove a run; if the folder has other files, remove only what the run wrote."""
        self._clear()
        if [path.name for path in self.path.iterdir()] == [_CONFIG]:
            (self.path / _CONFIG).unlink()
            self.path.rmdir()

    def read_config(self) -> dict[str, Any]:
        """config.json as written; InputError if it is damaged or not a run's."""
        path = self.path / _CONFIG
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}); give another ‹out›") from error
        if not isinstance(config, dict) or not {"options", "config", "versions"} <= config.keys():
            raise InputError(
                f"{path} is not a run's, so {self.path} is not a run directory; give another ‹out›"
            )
        return config

    def write_text(self, name: str, text: str) -> None:
        """Write a whole file; on failure the old one stays."""
        # File names need not be UTF-8; their bytes are written back unchanged.
        self.write_bytes(name, text.encode("utf-8", csv_tables.ERRORS))

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a whole file; on failure the old one stays."""
        with self.writing(name) as file:
            file.write(content)

    @contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """A binary file to write piece by piece; it gets its name once it is complete."""
        temporary = self.path / f".{name}.{os.getpid()}{_TEMPORARY}"
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path / name)
        except OSError as error:
            if error.filename is None and error.errno is not None:
                # An error while writing does not name the file.
                error.filename = str(self.path / name)
            raise
        finally:
            temporary.unlink(missing_ok=True)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file; NaN is refused, since JSON has none."""
        self.write_text(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def write_table(self, name: str, header: Sequence[str], rows: Iterable[Sequence]) -> None:
        """A CSV file; see :func:`csv_tables.write_rows`."""
        with self.writing(name) as file:
            text = io.TextIOWrapper(file, "utf-8", csv_tables.ERRORS, newline="")
            csv_tables.write_rows(text, header, rows)
            text.flush()
            text.detach()

    def write_arrays(self, name: str, *, compress: bool = True, **arrays: np.ndarray) -> None:
        """An npz file; weights, which hardly shrink, need not be compressed."""
        kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
        with self.writing(name) as file, zipfile.ZipFile(file, "w", kind) as archive:
            for key, array in arrays.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    if (path := whole_file(array)) is not None:
                        with path.open("rb") as spilled:
                            shutil.copyfileobj(spilled, member)
                    else:
                        np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)

    @contextmanager
    def spilling(self) -> Iterator[Room]:
        """Room on disk, within the context, for arrays with more than one value per image."""
        made = []

        def room(name: str, shape: tuple[int, ...], dtype: np.dtype) -> Any:
            if len(shape) < 2:
                return np.empty(shape, dtype)
            made.append(self.path / f".{name}-{len(made)}.{os.getpid()}{_TEMPORARY}")
            return Spilled(made[-1], shape, dtype)

        try:
            yield room
        finally:
            for path in made:
                path.unlink(missing_ok=True)

    def append_metrics(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append lines to metrics.jsonl, readable during the run.

        A number that is not finite, which JSON does not know, becomes null.
        """

        def known(value: Any) -> Any:
            return None if isinstance(value, float) and not math.isfinite(value) else value

        with (self.path / "metrics.jsonl").open("a") as file:
            for row in rows:
                line = {name: known(value) for name, value in row.items()}
                file.write(json.dumps(line, allow_nan=False) + "\n")

    def cut_metrics(self, step: int) -> None:
        """Drop the lines logged after `step`: a resumed run writes them again."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
                # A phase's epoch 0 is evaluated again if the phase begins again.
                if row["step"] < step or (row["step"] == step and row["epoch"] > 0):
                    kept.append(line + "\n")
            except (ValueError, KeyError):
                continue  # cut off by the kill
        self.write_text("metrics.jsonl", "".join(kept))
