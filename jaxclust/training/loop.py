"""The training loop every method runs through.

Steps run in compiled chunks of about a second: a loop over rows of an index
table, the data already on the device (feed.py). Only between chunks does the host look: at
non-finite losses, the clock, Ctrl-C and checkpoints. A chunk's length is chosen
by the clock and changes no number, because a step depends on the state and on its
row of the table alone.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxclust.core import device
from jaxclust.core.errors import RunError, Stopped
from jaxclust.core.rows import evenly_spread
from jaxclust.core.types import Method, StepInfo, TrainState
from jaxclust.training.feed import Data, Feed, epoch_rows, put, spec_of
from jaxclust.training.programs import CAPACITY, chunk_program, prediction_program, predictor
from jaxclust.training.starting import Position, Seeds, all_of, init, restored, template
from jaxclust.training.warm_start import WarmStart

__all__ = [
    "Data",
    "Fitted",
    "Hooks",
    "Position",
    "Progress",
    "chunk_program",
    "epoch_rows",
    "fit",
    "init",
    "prediction_program",
    "predictor",
    "put",
    "restored",
    "spec_of",
    "template",
]

_CHUNK_SECONDS = 1.0


class Progress(NamedTuple):
    """What a chunk reports to the host."""

    phase: str
    epoch: float  # epochs of the phase done
    epochs: int
    # `step` (counted over the run), `epoch` (of the phase), `loss` and the watch; of several
    # seeds run together, the last two hold a value each
    steps: list[dict[str, Any]]
    images_per_second: float
    seconds_left: float  # of the phase


class Hooks(NamedTuple):
    """What the host does between chunks; every one is optional."""

    on_chunk: Callable[[Progress], None] | None = None
    # (state, phase, epoch done), of phases that are scored; epoch 0 is after `begin`
    on_epoch: Callable[[TrainState, str, int], None] | None = None
    save: Callable[[TrainState, Position, bool], None] | None = None  # (…, due now?)
    stop: Callable[[], bool] | None = None  # asked between chunks
    on_phase: Callable[[TrainState, str], None] | None = None  # (state, phase that is over)


class Fitted(NamedTuple):
    """A finished run."""

    state: TrainState
    seconds: dict[str, float]  # by phase
    images_per_second: float  # over all steps of the last phase that has any


def fit(
    method: Method,
    data: Data,
    *,
    seed: Seeds,
    hooks: Hooks = Hooks(),  # noqa: B008  (an empty NamedTuple, immutable)
    resume: tuple[TrainState, Position] | None = None,
    start: WarmStart | None = None,
) -> Fitted:
    """Run a method's phases in order.

    Args:
        method: see :class:`jaxclust.core.types.Method`.
        data: see :func:`put`.
        seed: all randomness; the same seed gives the same state, bit for bit, on
            the same machine and backend, interrupted and resumed or not. Several, of a
            method that is :func:`together.together` of them, run as one program; what the
            steps report then has an axis of seeds.
        hooks: what happens between chunks.
        resume: a saved state and position to go on from.
        start: what another run's pre-training ended with; the method's own is left out. Of
            no use to a run that goes on.

    Raises:
        InputError: `start` does not fit the method.
        RunError: a loss was not finite.
        Stopped: `hooks.stop` answered True.
    """
    if resume is None:
        resume = init(method, data, seed, start), Position(0, 0, ())
        if start is not None:
            resume = resume[0], Position(1, 0, (0.0,))
            if hooks.on_phase:
                hooks.on_phase(resume[0], method.phases[0].name)
    state, position = resume
    speed = 0.0
    for index, phase in enumerate(method.phases):
        if index < position.phase:
            continue
        before = position.seconds[index] if index < len(position.seconds) else 0.0
        runner = _PhaseRun(method, data, index, seed, hooks, before, position.seconds[:index])
        begun = index == position.phase and position.begun
        if phase.begin is not None:
            if not begun:
                state = runner.begin(state)
                if hooks.save and phase.on_host:  # it may have taken minutes
                    hooks.save(state, runner.position(0), True)
            if hooks.on_epoch and not (begun and position.step):
                hooks.on_epoch(state, phase.name, 0)
        if runner.total:
            state = runner.steps(state, position.step)
            speed = runner.speed
        position = Position(index + 1, 0, (*position.seconds[:index], runner.seconds()))
        if hooks.on_phase:
            hooks.on_phase(state, phase.name)
        if index + 1 == len(method.phases) and hooks.save:
            hooks.save(state, Position(index, runner.total, position.seconds, True), True)
    names = [phase.name for phase in method.phases]
    return Fitted(state, dict(zip(names, position.seconds, strict=True)), speed)


class _PhaseRun:
    """One phase on the host: its clock, its chunks, what happens between them."""

    def __init__(
        self,
        method: Method,
        data: Data,
        index: int,
        seed: Seeds,
        hooks: Hooks,
        seconds_before: float,
        seconds_earlier: tuple[float, ...],
    ) -> None:
        self.method, self.data, self.index = method, data, index
        self.seeds = all_of(seed)
        self.hooks, self.earlier = hooks, seconds_earlier
        self.phase = method.phases[index]
        self.n = data.images.shape[0]
        self.batch = min(self.phase.batch_size, self.n)
        self.per_epoch = -(-self.n // self.batch) * self.phase.repeats
        self.total = self.phase.epochs * self.per_epoch
        self.started = time.perf_counter() - seconds_before
        self.predict = predictor(method, data)
        self.step_seconds = 0.0
        self.busy_seconds, self.busy_steps = 0.0, 0

    def seconds(self) -> float:
        return time.perf_counter() - self.started

    @property
    def speed(self) -> float:
        """Images of the set done with a second, inside chunks, compilation left out."""
        done = self.batch * self.busy_steps / self.phase.repeats
        return done / self.busy_seconds if self.busy_seconds else 0.0

    def position(self, step: int) -> Position:
        return Position(self.index, step, (*self.earlier, self.seconds()), True)

    def begin(self, state: TrainState) -> TrainState:
        assert self.phase.begin is not None
        return self.between(self.phase.begin)(state)

    def between(
        self, function: Callable[[TrainState, Any], TrainState]
    ) -> Callable[[TrainState], TrainState]:
        """A `begin` or `refresh`, given the features of the images it wants to see.

        Of several processes the first computes it; the others are told.
        """
        on_host, group = self.phase.on_host, self.data.group
        compute = function if on_host else device.jit(function)
        rows = None if self.phase.sample is None else evenly_spread(self.n, self.phase.sample)

        def run(state: TrainState) -> TrainState:
            features = self.predict(state, fields=("features",), rows=rows).features
            features = features if on_host else jnp.asarray(features)
            if group is None:
                after = compute(state, features)
                return jax.device_put(after) if on_host else after
            like = state if on_host else jax.eval_shape(function, state, features)
            return group.replicate(group.told(lambda: compute(state, features), like))

        return run

    def steps(self, state: TrainState, done: int) -> TrainState:
        group = self.data.group
        refresh = None if self.phase.refresh is None else self.between(self.phase.refresh)
        compiled = False

        def rows_of(epoch: int) -> np.ndarray:
            tables = [
                epoch_rows(seed, self.index, epoch, self.n, self.batch) for seed in self.seeds
            ]
            return np.hstack(tables)

        with Feed(self.data, self.phase, self.batch * len(self.seeds), rows_of) as feed:
            normalisation, sharded = self.data.normalisation, feed.sharded
            program = chunk_program(self.phase, normalisation, group, sharded=sharded)
            while done < self.total:
                epoch, start = divmod(done, self.per_epoch)
                if done and not start and self.phase.finished and self.phase.finished(state):
                    break
                length = 1
                if self.step_seconds:
                    length = max(1, min(CAPACITY, int(_CHUNK_SECONDS / self.step_seconds)))
                if group is not None:
                    # Every process must run the same chunk, whatever its clock says.
                    length = group.agree(length)
                clock = time.perf_counter()
                given, stop = feed.chunk(epoch, start, min(start + length, self.per_epoch))
                state, reports, finite = program(state, *given)
                del given  # a block is let go before the next one
                reports, finite = jax.device_get((reports, finite))
                elapsed = time.perf_counter() - clock
                if compiled:
                    self.step_seconds = elapsed / (stop - start)
                    self.busy_seconds += elapsed
                    self.busy_steps += stop - start
                compiled = True
                self._check_finite(reports.loss[: stop - start], bool(finite), done)
                done = epoch * self.per_epoch + stop
                due = stop == self.per_epoch and (epoch + 1) % self.phase.refresh_every == 0
                if due and refresh is not None:
                    state = refresh(state)
                self._report(state, reports, stop - start, done)
                if stop == self.per_epoch and self.hooks.on_epoch and self.phase.scored:
                    self.hooks.on_epoch(state, self.phase.name, epoch + 1)
                stopping = bool(self.hooks.stop and self.hooks.stop())
                if group is not None:
                    stopping = group.any(stopping)
                if self.hooks.save:
                    self.hooks.save(state, self.position(done), stopping)
                if stopping:
                    raise Stopped
        return state

    def _check_finite(self, losses: np.ndarray, finite: bool, done: int) -> None:
        bad = np.argwhere(~np.isfinite(losses))
        if finite and not len(bad):
            return
        what, step = "the state is no longer finite", done + len(losses)
        if len(bad):
            what, step = f"the loss became {losses[tuple(bad[0])]}", done + int(bad[0][0]) + 1
            if losses.ndim == 2:
                what += f" with seed {self.seeds[bad[0][1]]}"
        raise RunError(
            f"{what} at step {step} of phase '{self.phase.name}'; the last checkpoint is kept: "
            "lower the learning rate and start again"
        )

    def _report(self, state: TrainState, reports: StepInfo, count: int, done: int) -> None:
        if not self.hooks.on_chunk:
            return
        last = int(state.step)
        steps = [
            {
                "step": last - count + 1 + i,
                "epoch": round((done - count + 1 + i) / self.per_epoch, 4),
                "loss": _told(reports.loss[i]),
                **{name: _told(values[i]) for name, values in reports.watch.items()},
            }
            for i in range(count)
        ]
        left = (self.total - done) * self.step_seconds
        epoch = done / self.per_epoch
        self.hooks.on_chunk(
            Progress(self.phase.name, epoch, self.phase.epochs, steps, self.speed, left)
        )


def _told(value: Any) -> Any:
    """A number, or one a seed."""
    return np.asarray(value).tolist()
