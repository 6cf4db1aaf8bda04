"""Parquet shards of features (`id`, `embedding`), read and written block by block."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.data import shards
from jaxclust.data.features import (
    check_features,
    embeddings,
    parquet_file,
    parquet_module,
    parquet_texts,
)

# Rows per row group of what is written.
_GROUP = 65_536
# In the metadata of what is written: by what, and what was passed over.
_MARK, _SKIPPED = "jaxclust_made_by", "jaxclust_skipped"


def feature_blocks(path: Path, rows: int) -> Iterator[np.ndarray]:
    """The features of a Parquet shard, float32 [at most `rows`, d], in order.

    Raises:
        InputError: it lacks a column, or its values are not features.
        OSError: it is missing or damaged (pyarrow's errors are of this kind or ValueError).
    """
    for batch in parquet_file(path).iter_batches(rows, columns=["embedding"]):
        yield check_features(embeddings(batch["embedding"], path), str(path))


def all_ids(path: Path) -> Any:
    """The ids of a Parquet shard, as one Arrow array of their own type."""
    return parquet_file(path).read(columns=["id"])["id"].combine_chunks()


def id_blocks(path: Path, rows: int) -> Iterator[Any]:
    """The ids of a Parquet shard, as Arrow arrays of at most `rows`, in order."""
    for batch in parquet_file(path).iter_batches(rows, columns=["id"]):
        yield batch["id"]


def release_memory() -> None:
    """Give back the memory that Arrow holds ready for more reading."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


class Made(NamedTuple):
    """What a Parquet file's metadata says of its making; see :func:`marked`."""

    mark: str  # what wrote it; empty: something else
    skipped: list[list[str]]  # what its writer passed over, and why


def made(where: str) -> Made | None:
    """How a Parquet file was made; only its end is read. None: it is damaged.

    Args:
        where: path or URL.
    """
    import pyarrow as pa

    with shards.opened(where) as file:
        try:
            found = parquet_module(Path(where)).ParquetFile(file).schema_arrow.metadata or {}
        except (pa.ArrowException, OSError):
            return None
    return Made(
        found.get(_MARK.encode(), b"").decode(),
        json.loads(found.get(_SKIPPED.encode(), b"[]")),
    )


def marked(mark: str, skipped: Sequence[Sequence[str]]) -> dict[str, str]:
    """Metadata that :func:`made` reads."""
    return {_MARK: mark, _SKIPPED: json.dumps(list(map(list, skipped)))}


def write_labels(
    path: Path,
    ids: Any,
    clusters: np.ndarray,
    confidence: np.ndarray,
    about: dict[str, str],
) -> None:
    """Write a shard of labels: columns `id`, `cluster` and `confidence`.

    Args:
        path: Parquet.
        ids: n of them, as an Arrow array or a list of text.
        clusters: int32 [n].
        confidence: float32 [n].
        about: see :func:`marked`.
    """
    import pyarrow as pa

    if isinstance(ids, list):
        ids = pa.array(parquet_texts(ids), pa.string())
    fields = [("id", ids.type), ("cluster", pa.int32()), ("confidence", pa.float32())]
    schema = pa.schema(fields, metadata=about)
    table = pa.Table.from_arrays([ids, pa.array(clusters), pa.array(confidence)], schema=schema)
    parquet_module(path).write_table(table, path, compression="zstd")


def write_assignments(path: Path, shard: Path, labels: np.ndarray, distances: np.ndarray) -> None:
    """Write each row's cluster beside the id that it has in its shard of features.

    Args:
        path: Parquet with columns `id` (as in the shard), `cluster` and `distance`.
        shard: the features.
        labels: int32 [n].
        distances: float32 [n]: to the cluster's centroid.

    Raises:
        InputError: the shard no longer has n rows.
    """
    import pyarrow as pa

    parquet = parquet_module(path)
    source = parquet_file(shard)
    if source.metadata.num_rows != len(labels):
        raise InputError(f"{shard} has changed since it was read; start again in another folder")
    kind = source.schema_arrow.field("id").type
    columns = [("id", kind), ("cluster", pa.int32()), ("distance", pa.float32())]
    schema = pa.schema(columns)
    start = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for ids in id_blocks(shard, _GROUP):
            rows = slice(start, start + len(ids))
            arrays = [ids, pa.array(labels[rows]), pa.array(distances[rows])]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            start += len(ids)
