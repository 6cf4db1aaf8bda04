"""What a run needs before its first step: settings checked, data loaded, method built."""

import shlex
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from jaxclust.core import device, processes, settings
from jaxclust.core.types import Method
from jaxclust.data import catalogue
from jaxclust.data.kept import compiled_dir
from jaxclust.methods import registry
from jaxclust.runs import events, inputs
from jaxclust.runs.directory import RunDirectory
from jaxclust.runs.finished import FinishedRun
from jaxclust.runs.options import (
    Options,
    absolute,
    as_recorded,
    default_out,
    plain,
)
from jaxclust.runs.progress import Reporter
from jaxclust.runs.scoring import Evaluator
from jaxclust.training import starting, warm_start
from jaxclust.training.assemble import assemble
from jaxclust.training.checkpoints import Checkpoints
from jaxclust.training.placement import Data
from jaxclust.training.prediction import Room, held

# Called with a finished run and its images.
After = Callable[[FinishedRun, catalogue.ImageSet], None]


class Prepared(NamedTuple):
    """A run that is ready to start; nothing is written yet."""

    options: Options
    record: dict[str, Any]  # config.json
    image_set: catalogue.ImageSet
    method: Method
    data: Data
    directory: RunDirectory
    loading: float  # seconds
    pretrained: warm_start.WarmStart | None  # replaces pre-training
    after: After | None = None  # called with the finished run

    @property
    def writes(self) -> bool:
        """Whether this process writes; of several, only the first does."""
        return self.data.group is None or self.data.group.process == 0

    @property
    def n_clusters(self) -> int:
        """The number of clusters asked for."""
        return self.record["n_clusters"]

    @property
    def expected(self) -> int:
        """The number of clusters that should hold images; 0 where the method finds its own."""
        return 0 if self.method.finds_number else self.n_clusters

    @property
    def pretraining(self) -> set[str]:
        """Names of the phases whose final state is kept for other runs."""
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

    def evaluator(self, reporter: Reporter, predict: Any) -> Evaluator:
        """What scores the run between epochs."""
        labels, every = self.image_set.labels, self.options.evaluate_every
        return Evaluator(predict, labels, self.expected, reporter, every)

    def room(self) -> AbstractContextManager[Room]:
        """Where the last prediction goes: to disk, for sets too large for memory."""
        if self.data.streamed and self.writes:
            return self.directory.spilling()
        return nullcontext(held)

    def check(self) -> None:
        """InputError if its directory must not be written to; changes nothing."""
        if not self.writes:
            return
        options = self.options
        self.directory.check(self.record, resume=options.resume, overwrite=options.overwrite)
        if options.resume:
            _say_devices(self.directory, self.record["device"]["device_count"])

    def checkpoints(self) -> Checkpoints:
        """The checkpoints in its directory."""
        return Checkpoints(self.directory.checkpoints, self.options.checkpoint_every)


def prepare(
    options: Options, config: Any, command: str = "", after: After | None = None
) -> Prepared:
    """Load the data, build the method, and check that the directory may be written to.

    Args:
        options: what to run on and where to write.
        config: the method's own settings.
        command: how to repeat the run, for the record; default: this process's command.
        after: called with the finished run and its images.

    Raises:
        InputError: something does not fit; nothing was written.
    """
    settings.check(options, config)
    processes.check_platform()
    device.compile_once(compiled_dir() if options.compilation_cache else None)
    if options.tensorboard:
        events.check_available()
    directory = RunDirectory(options.out or default_out(options))
    if options.process_id == 0:
        directory.check(None, resume=options.resume, overwrite=options.overwrite)
    clock = time.perf_counter()
    found = inputs.find(options, config, _begun(options, directory))
    image_set, config = found.image_set, found.config
    method, data = assemble(
        registry.find(options.method),
        config,
        image_set.images,
        found.n_clusters,
        precision=options.precision,
        devices=options.devices,
    )
    pretrained = _pretrained(options, method, data)
    loading = time.perf_counter() - clock
    record = _record(options, config, command, found, data)
    place = (directory, loading, pretrained, after)
    ready = Prepared(options, record, image_set, method, data, *place)
    ready.check()
    return ready


def _begun(options: Options, directory: RunDirectory) -> dict[str, Any]:
    """The record of the run to resume; empty for a new one."""
    if not options.resume or not (directory.path / "config.json").is_file():
        return {}
    return directory.read_config()


def _pretrained(options: Options, method: Method, data: Data) -> warm_start.WarmStart | None:
    """The result of another run's pre-training, if asked for; InputError if it does not fit."""
    if options.pretrained is None:
        return None
    found = warm_start.load(options.pretrained)
    found.check(method, starting.template(method, data, -1))
    return found


def _record(
    options: Options,
    config: Any,
    command: str,
    found: inputs.Found,
    data: Data,
) -> dict[str, Any]:
    """What config.json holds: all that repeating the run needs, and what its numbers depend on."""
    place = options.data_dir or catalogue.default_data_dir()
    image_set, curve = found.image_set, found.curve
    return {
        "options": as_recorded(options),
        "config": plain(asdict(config)),
        "n_clusters": found.n_clusters,
        **({} if curve is None else {"cluster_count": curve.as_json()}),
        "data": {
            "n_images": len(image_set.ids),
            "shape": list(image_set.images.shape[1:]),
            "dtype": str(image_set.images.dtype),
            "sha256": image_set.fingerprint(),
            "normalisation": data.normalisation.as_json(),
            "value_ranges": {kind: list(pair) for kind, pair in image_set.ranges.items()},
            **({} if image_set.encoder is None else {"encoder": image_set.encoder}),
            **({"scales": list(image_set.scales)} if image_set.scales else {}),
        },
        # Widths of the features of several encoders.
        **({"spaces": list(image_set.spaces)} if image_set.scales else {}),
        "streamed": data.streamed,
        "versions": versions(),
        "device": {
            **device.describe(),
            "device_count": 1 if data.group is None else data.group.size,
        },
        # Absolute, so that the run can be read later from any working directory.
        "source": absolute(options.dataset),
        "data_dir": str(place.expanduser().resolve()),
        "command": command or shlex.join(sys.argv),
    }


def _say_devices(directory: RunDirectory, now: int) -> None:
    """Warn if a run is resumed with another number of devices."""
    if not (directory.path / "config.json").is_file():
        return
    before = directory.read_config().get("device", {}).get("device_count", now)
    if before != now:
        print(
            f"note: the run was begun on {before} devices and continues with {now}; it computes "
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
