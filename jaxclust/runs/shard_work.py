"""What is done with each shard: encoding its images, or labelling its images or features."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.data import webdataset
from jaxclust.data.feature_shards import all_ids, feature_blocks, marked, write_labels
from jaxclust.data.features import write_features
from jaxclust.data.image_set import ImageSet
from jaxclust.data.names import Names
from jaxclust.data.places import Reading
from jaxclust.models.encoders.frozen import Frozen
from jaxclust.runs.embedding import Encoding, view_of
from jaxclust.runs.predictor import Predictor
from jaxclust.runs.sharded import Work

# Features that are labelled at a time.
_ROWS = 16_384


def embedding_mark(encoder: Frozen) -> str:
    """Identifies the shards that :func:`embedding_work` writes with an encoder."""
    return f"embed {encoder.digest} {tuple(view_of(encoder))}"


def embedding_work(encoder: Frozen) -> Work:
    """Write the features of a tar's images, with ids, labels and metadata if it has them."""
    encoding, mark = Encoding(encoder), embedding_mark(encoder)
    reading = Reading().seen_by(view_of(encoder))

    def work(source: Path, target: Path) -> tuple[int, list[tuple[str, str]]]:
        shard = webdataset.read_shard(source)
        ids, metadata = [], []
        labels, features = [np.zeros(0, np.int64)], [np.zeros((0, encoder.width), np.float32)]
        for part in webdataset.samples(shard, reading, 3):
            ids += part.ids
            labels.append(part.labels)
            metadata += part.metadata
            if part.ids:
                features.append(encoding.of(part.images))
            shard.skipped.extend(part.skipped)
        known = np.concatenate(labels)
        found = ImageSet(
            source.stem,
            np.concatenate(features),
            known if (known >= 0).any() else None,
            Names(ids),
            None,
        )
        about = {"encoder": encoder.name, **marked(mark, shard.skipped)}
        write_features(target, found, about, metadata)
        return len(ids), shard.skipped

    return work


def labelling_mark(run: Path) -> str:
    """Identifies the shards that :func:`labelling_work` writes with a run."""
    record = json.loads((run / "config.json").read_text("utf-8"))
    known = json.dumps(record, sort_keys=True).encode()
    return f"predict {hashlib.sha256(known).hexdigest()[:32]}"


def labelling_work(predictor: Predictor, mark: str) -> Work:
    """Write the clusters of a tar's images, or of a Parquet file's features."""

    def of_images(source: Path, target: Path) -> tuple[int, list[tuple[str, str]]]:
        shard = webdataset.read_shard(source)
        ids, found = [], []
        for part in webdataset.samples(shard, predictor.reading, predictor.channels):
            ids += part.ids
            if part.ids:
                found.append(predictor.of_files(part.images))
            shard.skipped.extend(part.skipped)
        return _write(target, ids, found, marked(mark, shard.skipped)), shard.skipped

    def of_features(source: Path, target: Path) -> tuple[int, list[tuple[str, str]]]:
        ids = all_ids(source)
        found = [predictor({"features": rows}) for rows in feature_blocks(source, _ROWS)]
        return _write(target, ids, found, marked(mark, [])), []

    def work(source: Path, target: Path) -> tuple[int, list[tuple[str, str]]]:
        kinds = {".tar": of_images, ".parquet": of_features}
        if source.suffix.lower() not in kinds:
            raise InputError(f"{source} is not a shard; give .tar with images or .parquet")
        return kinds[source.suffix.lower()](source, target)

    return work


def _write(
    target: Path, ids: Any, found: list[dict[str, np.ndarray]], about: dict[str, str]
) -> int:
    clusters = np.concatenate([np.zeros(0, np.int32), *(block["cluster"] for block in found)])
    confidence = [np.zeros(0, np.float32), *(block["confidence"] for block in found)]
    write_labels(target, ids, clusters, np.concatenate(confidence), about)
    return len(ids)
