"""Features in files: vectors instead of images, as `jaxclust embed` and others write them."""

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxclust.core.errors import InputError, first_line
from jaxclust.core.unpacking import refuse_bomb
from jaxclust.data.image_set import ImageSet
from jaxclust.data.names import CODE, Names
from jaxclust.data.npz import check_labels

_WANTED = "[n, d] with a row for each image is expected"


class Columns(NamedTuple):
    """What a file of features holds."""

    features: np.ndarray  # [n, d]
    ids: Any = None  # n names or numbers
    labels: np.ndarray | None = None


def read_features(path: Path) -> ImageSet:
    """Read features from a `.npy`, `.npz` or `.parquet` file.

    Args:
        path: `.npy` with an array [n, d]; `.npz` with `features` and optional `ids` and `labels`;
            Parquet with columns `id` and `embedding` and an optional `label`.

    Returns:
        A set whose `images` are the features, float32 [n, d].

    Raises:
        InputError: no such file, another format, a damaged file, or arrays of the wrong kind.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}; give features:PATH of a .npy, .npz or .parquet")
    kind = path.suffix.lower()
    if kind not in _READERS:
        raise InputError(f"{path} is not a file of features; give .npy, .npz or .parquet")
    try:
        found = _READERS[kind](path)
    except InputError:
        raise
    except Exception as error:  # zip, header, pickle and Arrow errors of every kind
        raise InputError(f"{path} cannot be read as {kind} ({first_line(error)})") from error
    features = check_features(found.features, str(path))
    labels, names = check_labels(found.labels, len(features), str(path))
    classes = None if labels is None else int(np.unique(labels[labels >= 0]).size)
    ids = _ids(found.ids, len(features), path)
    return replace(ImageSet(path.stem, features, labels, ids, classes), class_names=names)


def _npy(path: Path) -> Columns:
    return Columns(np.load(path, allow_pickle=False))


def _npz(path: Path) -> Columns:
    refuse_bomb(path)
    with np.load(path, allow_pickle=False) as arrays:
        if "features" not in arrays:
            raise InputError(
                f"{path} has no array `features` (it has {', '.join(arrays) or 'none'})"
            )
        return Columns(arrays["features"], arrays.get("ids"), arrays.get("labels"))


def parquet_module(path: Path) -> Any:
    """pyarrow's module for Parquet.

    Raises:
        InputError: pyarrow is not installed.
    """
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise InputError(
            f"reading {path} needs pyarrow: pip install 'jaxclust[features]', or write the "
            "features as .npz"
        ) from error
    return parquet


def parquet_file(path: Path) -> Any:
    """A Parquet file that has the columns of features.

    Raises:
        InputError: it has not.
    """
    file = parquet_module(path).ParquetFile(path)
    there = set(file.schema_arrow.names)
    missing = {"id", "embedding"} - there
    if missing:
        raise InputError(
            f"{path} has no column {' and no '.join(sorted(missing))} (it has "
            f"{', '.join(sorted(there)) or 'none'})"
        )
    return file


def _parquet(path: Path) -> Columns:
    file = parquet_file(path)
    there = file.schema_arrow.names
    wanted = ["id", "embedding", *(["label"] if "label" in there else [])]
    table = file.read(columns=wanted)
    rows = table["embedding"].combine_chunks()
    labels = _labels(table["label"]) if "label" in there else None
    return Columns(embeddings(rows, path), table["id"].to_pylist(), labels)


def _labels(column: Any) -> np.ndarray:
    """A column of numbers or names; missing values are unknown."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):  # of which NumPy would get the numbers
        column = column.cast(column.type.value_type)
    found = column.to_numpy()
    if found.dtype == object:
        return np.asarray(["" if one is None else str(one) for one in found])
    return found


def embeddings(rows: Any, path: Path) -> np.ndarray:
    """A column of lists, all of one length, as an array [n, d]."""
    import pyarrow as pa

    lists = pa.types.is_list(rows.type) or pa.types.is_large_list(rows.type)
    if not (lists or pa.types.is_fixed_size_list(rows.type)):
        raise InputError(
            f"column embedding of {path} is {rows.type}; lists of numbers are expected"
        )
    if rows.null_count:
        raise InputError(f"column embedding of {path} has {rows.null_count} empty rows; drop those")
    flat = rows.flatten()
    width = len(flat) // max(1, len(rows))
    if lists and len(rows) and set(np.unique(rows.value_lengths())) != {width}:
        raise InputError(f"the rows of column embedding of {path} differ in length; {_WANTED}")
    return flat.to_numpy(zero_copy_only=False).reshape(len(rows), width)


_READERS: dict[str, Callable[[Path], Columns]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".parquet": _parquet,
}


def check_features(features: np.ndarray, where: str) -> np.ndarray:
    """Features as float32 [n, d].

    Args:
        features: as read.
        where: for the error.

    Raises:
        InputError: wrong rank or type, no values, or values that are not finite.
    """
    if features.ndim != 2 or 0 in features.shape:
        hint = "; give images as npz:PATH" if features.ndim == 4 else ""
        raise InputError(f"features in {where} have shape {features.shape}; {_WANTED}{hint}")
    if features.dtype.kind not in "iufb":
        raise InputError(f"features in {where} have dtype {features.dtype}; numbers are expected")
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if bad.size:
        raise InputError(
            f"features in {where} contain NaN or Inf in {bad.size} rows, first in row {bad[0]}; "
            "drop those"
        )
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(features, np.float32)
    if not np.isfinite(narrow).all():
        raise InputError(f"features in {where} exceed float32's range; scale them down")
    return narrow


def _ids(found: Any, n: int, path: Path) -> Names:
    """Names of the rows; their numbers where the file has none."""
    if found is None:
        return Names(str(i) for i in range(n))
    found = np.asarray(found, dtype=object) if isinstance(found, list) else found
    if found.shape != (n,):
        raise InputError(f"ids in {path} have shape {found.shape}; one for each of {n} is expected")
    if any(one is None for one in found):
        raise InputError(f"ids in {path} are missing in some rows; give every row one")
    names = (one.decode(*CODE) if isinstance(one, bytes) else str(one) for one in found)
    try:
        return Names(names)
    except UnicodeEncodeError as error:
        raise InputError(
            f"the id {error.object!a} in {path} is not text that can be written; rename it"
        ) from error


# Rows per row group of a Parquet file.
_GROUP = 8192


def check_writable_kind(path: Path) -> None:
    """InputError for a kind of file that cannot be written, in general or on this machine."""
    kind = path.suffix.lower()
    if kind not in {".npz", ".parquet"}:
        raise InputError(f"{path} is not a file of features; give .npz or .parquet")
    if kind == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError(
            f"writing {path} needs pyarrow: pip install 'jaxclust[features]', or give .npz"
        )


def write_features(
    path: Path, found: ImageSet, about: dict[str, str], metadata: Sequence[str | None] = ()
) -> None:
    """Write features, names and, where known, labels so that :func:`read_features` reads them.

    The file appears whole or not at all.

    Args:
        path: `.npz` or `.parquet`; an existing file is replaced.
        found: a set of features; unknown labels are -1 in npz, missing in Parquet.
        about: how they were made, kept in a Parquet file's metadata.
        metadata: what else is known of each image, as JSON; a Parquet file's column `json`.
    """
    new = path.with_name(f".{path.name}.tmp")
    try:
        if path.suffix.lower() == ".npz":
            arrays: dict[str, Any] = {"features": found.images, "ids": np.asarray(list(found.ids))}
            if found.labels is not None:
                arrays["labels"] = found.labels
            with new.open("wb") as file:
                np.savez(file, **arrays)
        else:
            _write_parquet(new, found, about, metadata)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def parquet_texts(names: Iterable[str]) -> list[str]:
    """Names as Parquet's text, which is UTF-8; file names need not be."""
    return [name.encode("utf-8", "backslashreplace").decode() for name in names]


def _write_parquet(
    path: Path, found: ImageSet, about: dict[str, str], metadata: Sequence[str | None]
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    n, width = found.images.shape
    columns = [("id", pa.string()), ("embedding", pa.list_(pa.float32(), width))]
    if found.labels is not None:
        columns.append(("label", pa.int64()))
    if any(one is not None for one in metadata):
        columns.append(("json", pa.string()))
    schema = pa.schema(columns, metadata=about)
    names = parquet_texts(found.ids)
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, n, _GROUP):
            rows = slice(start, start + _GROUP)
            values = pa.array(np.ascontiguousarray(found.images[rows]).ravel())
            arrays = [
                pa.array(names[rows], pa.string()),
                pa.FixedSizeListArray.from_arrays(values, width),
            ]
            if found.labels is not None:
                labels = found.labels[rows]
                arrays.append(pa.array(labels, pa.int64(), mask=labels < 0))
            if "json" in schema.names:
                arrays.append(pa.array(metadata[rows], pa.string()))
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
