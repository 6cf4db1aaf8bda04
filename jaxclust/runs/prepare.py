"""What a run needs before its first step: settings checked, data loaded, method built."""

import shlex
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from jaxclust.core import device, settings
from jaxclust.core.errors import InputError
from jaxclust.core.types import Method
from jaxclust.data import catalogue
from jaxclust.methods import registry
from jaxclust.runs import tensorboard
from jaxclust.runs.directory import RunDirectory
from jaxclust.runs.options import Options, as_recorded, default_out, plain
from jaxclust.runs.progress import Reporter
from jaxclust.training import starting, warm_start
from jaxclust.training.assemble import assemble, check_n_clusters
from jaxclust.training.checkpoints import Checkpoints
from jaxclust.training.placement import Data
from jaxclust.training.prediction import Room, held


class Prepared(NamedTuple):
    """A run that may start; nothing is written yet."""

    options: Options
    record: dict[str, Any]  # config.json
    image_set: catalogue.ImageSet
    method: Method
    data: Data
    directory: RunDirectory
    loading: float  # seconds
    pretrained: warm_start.WarmStart | None  # in pre-training's place

    @property
    def writes(self) -> bool:
        """Of several processes the first alone writes."""
        return self.data.group is None or self.data.group.process == 0

    @property
    def n_clusters(self) -> int:
        """Asked for."""
        return self.record["n_clusters"]

    @property
    def pretraining(self) -> set[str]:
        """Names of the phases whose end is kept for other runs."""
        return {phase.name for phase in self.method.phases if phase.pretrains}

    @property
    def quiet(self) -> bool:
        """Whether nothing is shown."""
        return self.options.quiet or not self.writes

    def reporter(self) -> Reporter:
        """What shows and logs the run."""
        return Reporter(
            self.directory if self.writes else None,
            self.options.log_every,
            quiet=self.quiet,
            events=self.options.tensorboard,
        )

    def room(self) -> AbstractContextManager[Room]:
        """Where the last prediction goes: of sets too large for memory to disk."""
        if self.data.streamed and self.writes:
            return self.directory.spilling()
        return nullcontext(held)

    def checkpoints(self) -> Checkpoints:
        """Those of its directory."""
        return Checkpoints(self.directory.checkpoints, self.options.checkpoint_every)


def prepare(options: Options, config: Any, command: str = "") -> Prepared:
    """Load the data, build the method, and check that the directory may be written to.

    Raises:
        InputError: something does not fit; nothing was written.
    """
    registered = registry.find(options.method)
    settings.check(options, config)
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
    pretrained = None if options.pretrained is None else warm_start.load(options.pretrained)
    if pretrained is not None:
        pretrained.check(method, starting.template(method, data, -1))
    loading = time.perf_counter() - clock
    group = data.group
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
            "value_ranges": {kind: list(pair) for kind, pair in image_set.ranges.items()},
        },
        "streamed": data.streamed,
        "versions": versions(),
        "device": {**device.describe(), "device_count": 1 if group is None else group.size},
        "data_dir": str(options.data_dir or catalogue.default_data_dir()),
        "command": command or shlex.join(sys.argv),
    }
    directory = RunDirectory(options.out or default_out(options))
    ready = Prepared(options, record, image_set, method, data, directory, loading, pretrained)
    if ready.writes:
        directory.check(record, resume=options.resume, overwrite=options.overwrite)
        if options.resume:
            _say_devices(directory, record["device"]["device_count"])
    return ready


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


def versions() -> dict[str, str | None]:
    """Versions of this package and of what its numbers depend on."""
    found: dict[str, str | None] = {"python": sys.version.split()[0]}
    for name in ("jaxclust", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _load(options: Options) -> catalogue.ImageSet:
    return catalogue.load(
        options.dataset,
        options.data_dir or catalogue.default_data_dir(),
        image_size=options.image_size,
        labels_from_folders=options.labels_from_folders,
        limit=options.limit,
        imbalance=options.imbalance,
        seed=options.seed,
        in_memory=int(options.in_memory * 1e9),
        max_megapixels=options.max_megapixels,
    )


def _n_clusters(options: Options, image_set: catalogue.ImageSet) -> int:
    k = options.n_clusters
    if k is None:
        k = image_set.n_classes
    if k is None:
        raise InputError(
            f"{options.dataset} does not tell how many clusters to look for; give --n-clusters"
        )
    check_n_clusters(k, len(image_set.ids))
    return k
