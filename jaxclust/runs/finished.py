"""A finished run, read back from its directory."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxclust.core.errors import InputError, first_line
from jaxclust.data import catalogue
from jaxclust.data.places import MAX_MEGAPIXELS, View
from jaxclust.runs.csv_tables import read_rows
from jaxclust.runs.directory import RunDirectory
from jaxclust.runs.embedding import mark_of

NAMES = "clusters.csv"  # of an edited run


@dataclass(frozen=True)
class FinishedRun:
    """What a run of n images left behind."""

    path: Path
    config: dict[str, Any]
    summary: dict[str, Any]
    ids: Sequence[str]  # n
    clusters: np.ndarray  # int [n]
    confidence: np.ndarray  # float [n]
    labels: np.ndarray | None  # int [n]
    features: np.ndarray  # float [n, d]
    map: np.ndarray | None  # float [n, 2], if the method makes one
    skipped: tuple[tuple[str, str], ...]  # file and reason
    outlier: np.ndarray | None = None  # float [n]; like `duplicates`, for runs on features
    duplicates: tuple[tuple[int, ...], ...] = ()  # rows of near-duplicates
    names: tuple[str, ...] = ()  # of the clusters of an edited run; empty: none given

    @property
    def n_clusters(self) -> int:
        """The number of clusters asked for."""
        return self.config["n_clusters"]

    def name(self, cluster: int) -> str:
        """What a cluster is called."""
        given = self.names[cluster] if cluster < len(self.names) else ""
        return given or f"cluster {cluster}"

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; lines cut off by a kill are left out."""
        path = self.path / "metrics.jsonl"
        rows = []
        for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows


def flat_map(found: Any) -> np.ndarray | None:
    """The first two dimensions [n, 2] of a run's map; None if there is none to draw."""
    if found is None or np.ndim(found) != 2 or np.shape(found)[1] < 2:
        return None
    return np.asarray(found)[:, :2]


def check_finished(path: Path) -> dict[str, Any]:
    """A run's config.json; InputError unless the folder holds a single finished run."""
    if not (path / "config.json").is_file():
        raise InputError(f"{path} is not a run directory: it has no config.json")
    record = RunDirectory(path).read_config()
    if not (path / "summary.json").is_file():
        raise InputError(f"the run in {path} is not finished; continue it with ‹resume› first")
    if "data" not in record:
        first = min((one.name for one in path.glob("seed-*")), default="seed-0")
        raise InputError(f"{path} holds runs of several seeds; give one of them: {path / first}")
    return record


def read_finished(path: Path) -> FinishedRun:
    """Read a finished run.

    Raises:
        InputError: no finished run, or its files are damaged.
    """
    config = check_finished(path)
    try:
        summary = json.loads((path / "summary.json").read_text("utf-8"))
        rows = read_rows(path / "assignments.csv")
        stored = _arrays(path / "embeddings.npz")
        features, chosen = stored["features"], [int(row["cluster"]) for row in rows]
        certainty = [float(row["confidence"]) for row in rows]
        labels = [int(row["label"]) for row in rows] if rows and "label" in rows[0] else None
        if len(features) != len(rows):
            raise ValueError(f"{len(rows)} assignments, {len(features)} features")
        skipped = read_rows(path / "skipped.csv") if (path / "skipped.csv").is_file() else []
        scored = rows and "outlier" in rows[0]
        outlier = np.asarray([float(row["outlier"]) for row in rows]) if scored else None
        duplicates = _duplicates(path / "duplicates.csv", len(rows))
        named = read_rows(path / NAMES) if (path / NAMES).is_file() else []
    except Exception as error:  # zip, zlib, CSV and JSON errors of every kind
        raise InputError(
            f"the run in {path} is damaged ({first_line(error)}); run it again with ‹overwrite›"
        ) from error
    return FinishedRun(
        path,
        config,
        summary,
        tuple(row["id"] for row in rows),
        np.asarray(chosen, np.int64),
        np.asarray(certainty, np.float32),
        None if labels is None else np.asarray(labels, np.int64),
        features,
        flat_map(stored.get("map")),
        tuple((row["file"], row["reason"]) for row in skipped),
        outlier,
        duplicates,
        tuple(row["name"] for row in named),
    )


def _duplicates(path: Path, n: int) -> tuple[tuple[int, ...], ...]:
    groups: dict[int, list[int]] = {}
    for row in read_rows(path) if path.is_file() else []:
        index = int(row["index"])
        if not 0 <= index < n:
            raise ValueError(f"duplicates.csv names image {index} of {n}")
        groups.setdefault(int(row["group"]), []).append(index)
    return tuple(tuple(group) for group in groups.values())


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in ("features", "map") if name in arrays}


def images_of(
    run: FinishedRun, data_dir: Path | None = None, images: Path | None = None
) -> catalogue.ImageSet:
    """The images a run clustered, loaded again.

    Args:
        run: the finished run.
        data_dir: where prepared sets are now; None: where the run found them.
        images: where its image folder or npz file is now; None: where it was.

    Returns:
        The images, under the name that the run used for them.

    Raises:
        InputError: they are no longer there, or no longer the same.
    """
    options = run.config["options"]
    place = data_dir or Path(run.config["data_dir"])
    encoder = run.config["data"].get("encoder")
    image_set = catalogue.load(
        _source(run.config, images),
        place,
        image_size=options["image_size"],
        labels_from_folders=options["labels_from_folders"],
        limit=options["limit"],
        imbalance=options["imbalance"],
        seed=options["seed"],
        in_memory=0 if run.config.get("streamed") else None,
        max_megapixels=options.get("max_megapixels", MAX_MEGAPIXELS),
        ranges=run.config["data"].get("value_ranges"),
        view=None if encoder is None else View(*encoder["view"]),
        scales=run.config["data"].get("scales", ()),
    )
    if encoder is not None:
        image_set = _with_features_of(run, image_set, encoder["digest"])
    if image_set.ids != run.ids or image_set.fingerprint() != run.config["data"]["sha256"]:
        raise InputError(
            f"the images of {options['dataset']} are no longer those the run in {run.path} saw"
        )
    return replace(image_set, name=options["dataset"])


def _with_features_of(
    run: FinishedRun, image_set: catalogue.ImageSet, digest: str
) -> catalogue.ImageSet:
    """The features stored in the run, so that the images are not encoded again."""
    mark, pictures = mark_of(image_set, digest), image_set.images
    return replace(image_set, images=run.features, pictures=pictures, mark=mark)


def _source(config: dict[str, Any], images: Path | None) -> str:
    """The data set to load: the recorded one, or its new location."""
    # Early versions recorded the path as it was given.
    recorded = config.get("source", config["options"]["dataset"])
    if images is None:
        return recorded
    kind, colon, path = recorded.partition(":")
    if not colon or (kind == "features" and "," in path and not Path(path).exists()):
        raise InputError(
            f"‹images› is for runs on one folder or file, but this run used {recorded}; give "
            "‹data_dir› if it has moved"
        )
    if kind != "folder" and images.is_dir():
        images = images / Path(path).name
    return f"{kind}:{images}"
