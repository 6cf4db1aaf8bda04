"""The options of every run, whatever its method."""

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from jaxclust.core.settings import setting
from jaxclust.core.types import Precision
from jaxclust.data.places import MAX_MEGAPIXELS

MOST_GIGABYTES = 1e6


@dataclass(frozen=True)
class Options:
    """The options of every run, whatever its method."""

    dataset: str = "digits"
    """A name that `jaxclust datasets` lists, npz:PATH, folder:PATH, tar:PATH or features:PATH; for
    features of the same images by several encoders, features:A,B."""
    method: str = "ccnn"
    """The method; its own settings are listed below. Default: derc_r where features are clustered
    (features:PATH, an encoder's, a folder of photographs), else ccnn."""
    preset: str = "best"
    """The method's starting settings: best, paper or a preset of its own."""
    encoder: str | None = None
    """The encoder that makes the features to cluster: efficientnet_lite0, 1 or 2 (extra photos), a
    weights file (for CLIP, clip_openai:FILE or openclip:FILE; for a transformer with an unusual
    number of heads, heads=N:FILE), or onnx:FILE. Its weights stay fixed. Features are cached in
    JAXCLUST_CACHE_DIR, so that a second run on the same images starts at once. Default:
    efficientnet_lite2 for folder: and npz: images of 64 pixels or more, if the extra is installed
    and the method takes features. none: no encoder."""
    n_clusters: int | str | None = None
    """A number; auto, to search for it; or a range to search, such as 5:40. Default: the data
    set's number of classes, else auto. auto and ranges need features: an encoder's, features:PATH
    or a classical method's."""
    seed: int = setting(0, least=0, most=2**31 - 1)
    """Seed of all randomness; the same seed repeats the run bit for bit on CPU."""
    seeds: int = setting(1, least=1, most=10_000)
    """Number of runs, with seeds from --seed on; the summary has means and standard deviations."""
    seeds_together: Literal["auto", "yes", "no"] = "auto"
    """Run all seeds as one program: faster on accelerators, where auto does so for methods that
    never leave the device and have no convolution; slower on CPU. Results then differ from those of
    single runs by rounding."""
    data_dir: Path | None = None
    """Where prepared data sets are; default JAXCLUST_DATA_DIR or ~/tensorflow_datasets."""
    image_size: int | None = setting(None, least=1, most=2**14)
    """Resize the shorter side to this and cut out the central square."""
    limit: int | None = setting(None, least=1)
    """Use this many images, spread evenly over the set's order."""
    in_memory: float = setting(4.0, least=0, most=MOST_GIGABYTES)
    """Gigabytes of a folder's images, decoded at --image-size, to hold in memory; the images of
    larger folders are read again whenever they are needed."""
    max_megapixels: float = setting(MAX_MEGAPIXELS, least=1e-6, most=1e6)
    """Image files that claim more pixels than this, in millions, are skipped: decoding them may
    exhaust memory."""
    labels_from_folders: bool = False
    """Use the sub-folders of folder:PATH or tar:PATH as labels to score against. Their number is
    then the number of clusters, unless --n-clusters gives another."""
    imbalance: float | None = None
    """Make classes imbalanced: keep this fraction of class 0, rising linearly to all of the
    last."""
    pretrained: Path | None = None
    """A run with the same network: start from its pre-trained autoencoder (its pretrained.npz)
    instead of pre-training. With the same --seed and pre-training settings, nothing else
    changes."""
    duplicate_distance: float = setting(0.05, least=0, most=2)
    """For features: cosine distance up to which images are near-duplicates (duplicates.csv)."""
    out: Path | None = None
    """Run directory; default runs/METHOD-DATASET-SEED."""
    resume: bool = False
    """Continue where a killed run stopped."""
    overwrite: bool = False
    """Replace what an earlier run left in the run directory."""
    checkpoint_every: float = setting(60.0, least=0)
    """Seconds of training between checkpoints; 0: after every chunk of steps."""
    evaluate_every: int = setting(5, least=1)
    """Epochs between full passes that log cluster health and, with labels, scores."""
    log_every: int = setting(10, least=1)
    """Steps between lines of metrics.jsonl."""
    precision: Precision = "float32"
    """Precision of the networks' passes; parameters, statistics and losses stay float32."""
    devices: int | None = None
    """Local devices that share every batch; default: as many as can share it evenly."""
    distributed: bool = False
    """One of several processes that Slurm, Open MPI or Kubernetes started and numbered."""
    coordinator: str | None = None
    """HOST:PORT of the first process, if several share a run."""
    num_processes: int = 1
    """Number of processes; start each with the same options except --process-id."""
    process_id: int = 0
    """Index of this process, from 0; process 0 writes the run directory."""
    compilation_cache: bool = True
    """On accelerators, keep compiled programs in ~/.cache/jaxclust (JAXCLUST_CACHE_DIR), so that
    the next run of the same method starts at once."""
    deterministic: bool = False
    """On GPU, use only kernels that repeat bit for bit; slower. CPU always repeats."""
    report: bool = True
    """Write report.html, a page with the clusters' images, a map and curves."""
    tensorboard: bool = False
    """Write TensorBoard's event files beside metrics.jsonl."""
    quiet: bool = False
    """Print nothing but the summary."""
    json: bool = False
    """Print the summary as one JSON line."""


# Options that a run and its continuation need not share.
_FREE = (
    "out",
    "resume",
    "overwrite",
    "checkpoint_every",
    "report",
    "tensorboard",
    "quiet",
    "json",
    "data_dir",
    "in_memory",
    "seeds",
    "seeds_together",
    "devices",
    "compilation_cache",
    "duplicate_distance",
    "distributed",
    "coordinator",
    "num_processes",
    "process_id",
)


def as_recorded(options: Options) -> dict[str, Any]:
    """The options that define a run, as stored in config.json."""
    return {name: value for name, value in plain(asdict(options)).items() if name not in _FREE}


def absolute(dataset: str) -> str:
    """A data set's name, with its path, if it has one, made absolute.

    >>> absolute("digits")
    'digits'
    >>> absolute("folder:/photos/../images")
    'folder:/images'
    """
    kind, colon, path = dataset.partition(":")
    if not colon:
        return dataset
    several = kind == "features" and not Path(path).expanduser().is_file()
    paths = path.split(",") if several else [path]
    whole = (one if "://" in one else str(Path(one).expanduser().resolve()) for one in paths)
    return f"{kind}:{','.join(whole)}"


def default_out(options: Options) -> Path:
    """runs/METHOD-DATASET-SEED, path characters in the data set's name replaced."""
    dataset = options.dataset
    if ":" in dataset:
        kind, path = dataset.split(":", 1)
        stem = re.sub(r"[*?\[\]{}]+", "_", Path(path).stem).strip("_")
        dataset = f"{kind}_{stem or Path(path).parent.name}"
    return Path("runs") / f"{options.method}-{dataset}-{options.seed}"


def plain(value: Any) -> Any:
    """Settings as JSON types."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return os.fspath(value) if isinstance(value, Path) else value
