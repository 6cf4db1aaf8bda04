"""One run: a method on a data set, from files in to a finished run directory."""

import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from jaxclust import device, parallel, train
from jaxclust.assemble import assemble, check_n_clusters
from jaxclust.base import Precision, Prediction, TrainState, centroids_of
from jaxclust.checkpoint import Checkpoints
from jaxclust.clustering import health
from jaxclust.data import sources
from jaxclust.errors import InputError, first_line
from jaxclust.methods import registry
from jaxclust.report import tensorboard
from jaxclust.report.progress import Reporter
from jaxclust.report.run_dir import RunDirectory
from jaxclust.report.scoring import Evaluator, write_assignments


@dataclass(frozen=True)
class Options:
    """What every run has, whatever its method."""

    dataset: str = "digits"
    """A name that `jaxclust datasets` lists, npz:PATH or folder:PATH."""
    method: str = "ccnn"
    """The method; its own settings are listed below."""
    preset: str = "best"
    """Where the method's settings start from: best, paper or a preset of its own."""
    n_clusters: int | None = None
    """Default: the data set's number of classes."""
    seed: int = 0
    """All randomness; the same seed repeats the run bit for bit on CPU."""
    seeds: int = 1
    """As many runs, from --seed on; the summary has their means and standard deviations."""
    data_dir: Path | None = None
    """Where prepared sets lie; default JAXCLUST_DATA_DIR or ~/tensorflow_datasets."""
    image_size: int | None = None
    """Resize the shorter side to this and cut out the central square."""
    limit: int | None = None
    """Use this many images, spread evenly over the set's order."""
    in_memory: float = 4.0
    """Gigabytes of a folder's pictures, decoded and of --image-size, that are held in memory;
    of larger folders they are read anew whenever they are needed."""
    labels_from_folders: bool = False
    """Take the sub-folders of folder:PATH as labels to score against."""
    imbalance: float | None = None
    """Keep this share of class 0, all of the last class, linear between."""
    out: Path | None = None
    """Run directory; default runs/METHOD-DATASET-SEED."""
    resume: bool = False
    """Go on where a killed run stopped."""
    overwrite: bool = False
    """Replace what an earlier run left in the run directory."""
    checkpoint_every: float = 60.0
    """Seconds of training between checkpoints; 0: after every chunk of steps."""
    evaluate_every: int = 5
    """Epochs between full passes that log cluster health and, with labels, scores."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    precision: Precision = "float32"
    """Of the networks' passes; parameters, statistics and losses stay float32."""
    devices: int | None = None
    """Local devices that share every batch; default: as many as can do so evenly."""
    coordinator: str | None = None
    """HOST:PORT of the first of several processes that share a run."""
    num_processes: int = 1
    """How many there are; each is started with the same options but --process-id."""
    process_id: int = 0
    """This one's place among them; the first writes the run directory."""
    deterministic: bool = False
    """On GPU, only kernels that repeat bit for bit; slower. CPU always repeats."""
    report: bool = True
    """Write report.html, a page with the clusters' pictures, a map and curves."""
    tensorboard: bool = False
    """Write TensorBoard's event files beside metrics.jsonl."""
    quiet: bool = False
    """Print nothing but the summary."""
    json: bool = False
    """Print the summary as one JSON line."""


def execute(options: Options, config: Any, command: str = "") -> dict[str, Any]:
    """Run a method on a data set and write its run directory.

    Args:
        options: what to run on and where to write.
        config: the method's own settings.
        command: how to repeat it, for the record; default: this process's.

    Returns:
        The summary, as written to summary.json.

    Raises:
        InputError: refused before anything was written.
        RunError: stopped while running, the last checkpoint kept.
        train.Stopped: interrupted, a checkpoint written.
    """
    parallel.join(options.coordinator, options.num_processes, options.process_id)
    with device.deterministic(options.deterministic), parallel.telling_lost_processes():
        return _execute(options, config, command or shlex.join(sys.argv))


def _execute(options: Options, config: Any, command: str) -> dict[str, Any]:
    registered = registry.find(options.method)
    _check_numbers(options, config)
    if options.tensorboard:
        tensorboard.check_available()
    clock = time.perf_counter()
    image_set = _load(options)
    n_clusters = _n_clusters(options, image_set)
    method, data = assemble(
        registered,
        config,
        image_set.images,
        n_clusters,
        precision=options.precision,
        devices=options.devices,
    )
    group = data.group
    loading = time.perf_counter() - clock

    record = {
        "options": as_recorded(options),
        "config": plain(asdict(config)),
        "n_clusters": n_clusters,
        "data": {
            "n_images": len(image_set.ids),
            "shape": list(image_set.images.shape[1:]),
            "dtype": str(image_set.images.dtype),
            "sha256": image_set.fingerprint(),
            "normalisation": data.normalisation.as_json(),
        },
        "streamed": data.streamed,
        "versions": versions(),
        "device": {**device.describe(), "device_count": 1 if group is None else group.size},
        "data_dir": str(options.data_dir or sources.default_data_dir()),
        "command": command,
    }
    directory = RunDirectory(options.out or default_out(options))
    # Of several processes the first alone writes.
    writes = group is None or group.process == 0
    if writes:
        directory.check(record, resume=options.resume, overwrite=options.overwrite)
        if options.resume:
            _say_devices(directory, record["device"]["device_count"])
    predict = train.predictor(method, data)
    quiet = options.quiet or not writes
    reporter = Reporter(
        directory if writes else None,
        options.log_every,
        quiet=quiet,
        events=options.tensorboard,
    )
    labels, every = image_set.labels, options.evaluate_every
    evaluator = Evaluator(predict, labels, n_clusters, reporter, every)
    with closing(Checkpoints(directory.checkpoints, options.checkpoint_every)) as checkpoints:
        resume = None
        if options.resume:
            resume = train.restored(method, data, checkpoints.restore)
        if writes:
            directory.open(record, overwrite=options.overwrite)
            directory.cut_metrics(int(resume[0].step) if resume else -1)
        with _interrupts() as interrupted, reporter:
            hooks = train.Hooks(
                on_chunk=reporter.chunk,
                on_epoch=evaluator.epoch,
                save=checkpoints.save if writes else None,
                stop=interrupted,
            )
            fitted = train.fit(method, data, seed=options.seed, hooks=hooks, resume=resume)

    clock = time.perf_counter()
    prediction = predict(fitted.state)
    if writes:
        _write_clustering(directory, image_set, prediction, fitted.state)
    evaluation = time.perf_counter() - clock

    sizes = np.bincount(prediction.assignments, minlength=n_clusters)
    complaint = health.complaint(sizes)
    if complaint and not quiet:
        print(f"warning: {complaint}", file=sys.stderr)
    summary = {
        "method": options.method,
        "dataset": options.dataset,
        "preset": options.preset,
        "seed": options.seed,
        "n_images": len(image_set.ids),
        "n_clusters": n_clusters,
        **evaluator.scores(prediction),
        "clusters_found": int((sizes > 0).sum()),
        "warnings": [complaint] if complaint else [],
        "n_skipped": len(image_set.skipped),
        "seconds": {
            "load": round(loading, 2),
            **{name: round(value, 2) for name, value in fitted.seconds.items()},
            "predict": round(evaluation, 2),
        },
        "images_per_second": round(fitted.images_per_second, 1),
        **device.peak_memory_mb(),
        **record["device"],
        "versions": record["versions"],
        "out": str(directory.path),
    }
    if writes:
        directory.write_json("summary.json", summary)
    if writes and options.report:
        _report(directory, record, summary, image_set, prediction, fitted.state)
    return summary


def _report(
    directory: RunDirectory,
    record: dict[str, Any],
    summary: dict[str, Any],
    image_set: sources.ImageSet,
    prediction: Prediction,
    state: TrainState,
) -> None:
    """Write report.html; the run is finished whether that works or not."""
    from jaxclust.report import page
    from jaxclust.report.finished import FinishedRun, flat_map

    clusters = np.asarray(prediction.assignments)
    finished = FinishedRun(
        directory.path,
        record,
        summary,
        image_set.ids,
        clusters,
        np.asarray(prediction.probabilities)[np.arange(len(clusters)), clusters],
        image_set.labels,
        np.asarray(prediction.features),
        flat_map(getattr(state.cluster, "embedding", None)),
        centroids_of(state),
        image_set.skipped,
    )
    try:
        page.write(finished, image_set)
    except Exception as error:
        print(
            f"warning: report.html could not be written ({first_line(error)}); try jaxclust report "
            f"{directory.path}",
            file=sys.stderr,
        )


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
    "devices",
    "coordinator",
    "num_processes",
    "process_id",
)


def as_recorded(options: Options) -> dict[str, Any]:
    """The options that make a run what it is, as config.json holds them."""
    return {name: value for name, value in plain(asdict(options)).items() if name not in _FREE}


def _say_devices(directory: RunDirectory, now: int) -> None:
    """Warn that a run goes on with another number of devices."""
    if not (directory.path / "config.json").is_file():
        return
    before = directory.read_config().get("device", {}).get("device_count", now)
    if before != now:
        print(
            f"note: the run was begun on {before} devices and goes on with {now}; it computes "
            "the same up to rounding, no longer bit for bit",
            file=sys.stderr,
        )


def _write_clustering(
    directory: RunDirectory,
    image_set: sources.ImageSet,
    prediction: Prediction,
    state: TrainState,
) -> None:
    """assignments.csv and embeddings.npz."""
    found = state.cluster
    write_assignments(directory, image_set, prediction, getattr(found, "noise", None))
    arrays: dict[str, Any] = {
        "features": prediction.features,
        "probabilities": prediction.probabilities,
    }
    centroids = centroids_of(state)
    if centroids is not None:
        arrays["centroids"] = np.asarray(centroids)
    if hasattr(found, "embedding"):
        arrays["map"] = np.asarray(found.embedding)
    directory.write_arrays("embeddings.npz", **arrays)


def default_out(options: Options) -> Path:
    """runs/METHOD-DATASET-SEED, path characters in the data set's name replaced."""
    dataset = options.dataset
    if ":" in dataset:
        kind, path = dataset.split(":", 1)
        dataset = f"{kind}_{Path(path).stem}"
    return Path("runs") / f"{options.method}-{dataset}-{options.seed}"


def versions() -> dict[str, str | None]:
    """Versions of this package and of what its numbers depend on."""
    found: dict[str, str | None] = {"python": sys.version.split()[0]}
    for name in ("jaxclust", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


# Lowest and highest value of options and of every method's settings by these names.
_BOUNDS = {
    "seed": (0, 2**31 - 1),
    "seeds": (1, 10_000),
    "image_size": (1, 2**14),
    "in_memory": (0, math.inf),
    "evaluate_every": (1, math.inf),
    "log_every": (1, math.inf),
    "checkpoint_every": (0, math.inf),
    "epochs": (0, math.inf),
    "pretrain_epochs": (0, math.inf),
    "batch_size": (1, math.inf),
    "feature_width": (1, math.inf),
    "restarts": (1, math.inf),
    "max_iterations": (1, math.inf),
    "max_count": (1, math.inf),
    "dropout": (0, 0.99),
    "zoom": (0, 0.99),
}


def _check_numbers(*settings: Any) -> None:
    for holder in settings:
        for name, value in vars(holder).items():
            if is_dataclass(value):
                _check_numbers(value)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            option = f"--{name.replace('_', '-')}"
            if not math.isfinite(value):
                raise InputError(f"{option} must be a finite number, not {value}")
            low, high = _BOUNDS.get(name, (-math.inf, math.inf))
            if value < low:
                raise InputError(f"{option} must be at least {low}, not {value}")
            if value > high:
                raise InputError(f"{option} must be at most {high}, not {value}")


def _load(options: Options) -> sources.ImageSet:
    return sources.load(
        options.dataset,
        options.data_dir or sources.default_data_dir(),
        image_size=options.image_size,
        labels_from_folders=options.labels_from_folders,
        limit=options.limit,
        imbalance=options.imbalance,
        seed=options.seed,
        in_memory=int(options.in_memory * 1e9),
    )


def _n_clusters(options: Options, image_set: sources.ImageSet) -> int:
    k = options.n_clusters
    if k is None:
        k = image_set.n_classes
    if k is None:
        raise InputError(
            f"{options.dataset} does not tell how many clusters to look for; give --n-clusters"
        )
    check_n_clusters(k, len(image_set.ids))
    return k


@contextmanager
def _interrupts() -> Iterator[Any]:
    """Ctrl-C as a question between chunks; the second one interrupts at once."""
    asked = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            signal.default_int_handler(signum, frame)
        asked = True

    try:
        old = signal.signal(signal.SIGINT, handle)
    except ValueError:  # not the main thread: whoever owns it handles Ctrl-C
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, old)


def plain(value: Any) -> Any:
    """Settings as JSON knows them."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return os.fspath(value) if isinstance(value, Path) else value
