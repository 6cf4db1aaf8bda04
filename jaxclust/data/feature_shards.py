"""Parquet shards of features (`id`, `embedding`), read and written block by block."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.data import shards
from jaxclust.data.features import check_features, embeddings, parquet_module

# Rows per row group of what is written.
_GROUP = 65_536
# In the metadata of what is written: by what.
_MARK = "jaxclust_made_by"


def feature_blocks(path: Path, rows: int) -> Iterator[np.ndarray]:
    """The features of a Parquet shard, float32 [at most `rows`, d], in order.

    Raises:
        InputError: it lacks a column, or its values are not features.
        OSError: it is missing or damaged (pyarrow's errors are of this kind or ValueError).
    """
    for batch in opened(path).iter_batches(rows, columns=["embedding"]):
        yield check_features(embeddings(batch["embedding"], path), str(path))


def id_blocks(path: Path, rows: int) -> Iterator[Any]:
    """The ids of a Parquet shard, as Arrow arrays of at most `rows`, in order."""
    for batch in opened(path).iter_batches(rows, columns=["id"]):
        yield batch["id"]


def release_memory() -> None:
    """Give back the memory that Arrow holds ready for more reading."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def opened(path: Path) -> Any:
    """A Parquet file that has the columns of a shard of features.

    Raises:
        InputError: it has not.
    """
    file = parquet_module(path).ParquetFile(path)
    missing = {"id", "embedding"} - set(file.schema_arrow.names)
    if missing:
        raise InputError(f"{path} has no column {' and no '.join(sorted(missing))}")
    return file


def made_by(where: str) -> str | None:
    """The mark in a Parquet file's metadata, by which its writer knows it; see :func:`marked`.

    Args:
        where: path or URL; only the end of the file is read.
    """
    try:
        with shards.opened(where) as file:
            found = parquet_module(Path(where)).ParquetFile(file).schema_arrow.metadata or {}
    except (OSError, ValueError):
        return None
    return found.get(_MARK.encode(), b"").decode() or None


def marked(mark: str) -> dict[str, str]:
    """Metadata that :func:`made_by` reads."""
    return {_MARK: mark}


def write_labels(
    path: Path, ids: Sequence[str], clusters: np.ndarray, confidence: np.ndarray, mark: str
) -> None:
    """Write a shard of labels: columns `id`, `cluster` and `confidence`.

    Args:
        path: Parquet.
        ids: n of them.
        clusters: int32 [n].
        confidence: float32 [n].
        mark: see :func:`made_by`.
    """
    import pyarrow as pa

    fields = [("id", pa.string()), ("cluster", pa.int32()), ("confidence", pa.float32())]
    schema = pa.schema(fields, metadata=marked(mark))
    arrays = [pa.array(list(ids), pa.string()), pa.array(clusters), pa.array(confidence)]
    table = pa.Table.from_arrays(arrays, schema=schema)
    parquet_module(path).write_table(table, path, compression="zstd")


def write_assignments(
    path: Path, shard: Path, labels: np.ndarray, distances: np.ndarray, about: dict[str, str]
) -> None:
    """Write each row's cluster beside the id that it has in its shard of features.

    Args:
        path: Parquet with columns `id` (as in the shard), `cluster` and `distance`.
        shard: the features.
        labels: int32 [n].
        distances: float32 [n]: to the cluster's centroid.
        about: how they were made, kept in the file's metadata.

    Raises:
        InputError: the shard no longer has n rows.
    """
    import pyarrow as pa

    parquet = parquet_module(path)
    source = opened(shard)
    if source.metadata.num_rows != len(labels):
        raise InputError(f"{shard} has changed since it was read; start again in another folder")
    kind = source.schema_arrow.field("id").type
    columns = [("id", kind), ("cluster", pa.int32()), ("distance", pa.float32())]
    schema = pa.schema(columns, metadata=about)
    start = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for ids in id_blocks(shard, _GROUP):
            rows = slice(start, start + len(ids))
            arrays = [ids, pa.array(labels[rows]), pa.array(distances[rows])]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            start += len(ids)
