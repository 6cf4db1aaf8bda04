"""The training loop every method runs through.

Steps run in compiled chunks of about a second: a loop over rows of an index table, with the data
already on the device (feed.py). The host acts only between chunks: on non-finite losses, the clock,
Ctrl-C and checkpoints. The clock determines a chunk's length, which changes no result, because a
step depends only on the state and on its row of the table.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxclust.core.errors import InputError, RunError, Stopped
from jaxclust.core.rows import evenly_spread
from jaxclust.core.types import Method, Phase, Refit, StepInfo, TrainState
from jaxclust.training.clock import Clock
from jaxclust.training.feed import Feed, epoch_rows
from jaxclust.training.fitted import Fitted
from jaxclust.training.hooks import Hook, Hooks, Moment, Progress, lasting
from jaxclust.training.placement import Data, placed
from jaxclust.training.prediction import of_images, predictor
from jaxclust.training.programs import CAPACITY, chunk_of, refit_of
from jaxclust.training.starting import Position, Seeds, all_of, init
from jaxclust.training.warm_start import WarmStart, capture

_CHUNK_SECONDS = 1.0


def fit(
    method: Method,
    images: Any,
    *,
    seed: Seeds = 0,
    hooks: Sequence[Hook] | Hook = (),
    resume: tuple[TrainState, Position] | None = None,
    start: WarmStart | None = None,
) -> Fitted:
    """Run a method's phases in order.

    Args:
        method: it keeps its compiled programs, so a second fit compiles nothing.
        images: uint8 or float [n, h, w, c], features [n, d], another `types.Source`, or
            what :func:`placement.put` made of one.
        seed: of all randomness; the same seed gives the same state, bit for bit, on the same
            machine and backend, interrupted and resumed or not. Several seeds, with a method made
            by :func:`mapped.together` for them, run as one program.
        hooks: what happens between chunks, see :mod:`hooks`.
        resume: a saved state and position to continue from; the state is not changed.
        start: the result of another run's pre-training (`Fitted.pretrained`, or
            :func:`warm_start.load`), instead of the method's own.

    Raises:
        InputError: the images cannot be used, or `start` does not fit the method.
        RunError: a loss was not finite.
        Stopped: a hook interrupts.
    """
    data = placed(method, images)
    _check_sizes(method, data)
    hook = hooks if isinstance(hooks, Hook) else Hooks(hooks)
    run = _Run(method, data, all_of(seed), hook)
    if resume is not None:
        state, position = lasting(resume[0]), resume[1]
    else:
        state, position = init(method, data, seed, start), Position(0, 0, ())
        if start is not None:
            position = Position(1, 0, (0.0,))
            run.over(state, position, method.phases[0])
    return run.phases(state, position)


def _check_sizes(method: Method, data: Data) -> None:
    found = data.images.shape[0]
    if method.recipe is not None and method.recipe.spec.n_images != found:
        raise InputError(
            f"the method was built for {method.recipe.spec.n_images} images, not {found}; build it "
            "with spec_of(images, n_clusters)"
        )
    if data.streamed and any(phase.batches.extra is not None for phase in method.phases):
        raise InputError("this method looks up more images in each step; hold the set in memory")


class _Run:
    """A fit on the host: its phases one after the other."""

    def __init__(self, method: Method, data: Data, seeds: tuple[int, ...], hook: Hook) -> None:
        self.method, self.data, self.seeds, self.hook = method, data, seeds, hook
        self.pretrained: WarmStart | None = None

    def phases(self, state: TrainState, position: Position) -> Fitted:
        """Run all phases from a position on."""
        speed, phases = 0.0, self.method.phases
        for index in range(position.phase, len(phases)):
            runner = _PhaseRun(self, index, position)
            state = runner.begin(state, position)
            if runner.total:
                state = runner.steps(state, position.step)
                speed = runner.speed
            seconds = (*position.seconds[:index], runner.seconds())
            position = Position(index + 1, 0, seconds)
            self.over(state, position, phases[index])
            if index + 1 == len(phases):
                last = Position(index, runner.total, seconds, True)
                self.hook.on_save(Moment(state, last, phases[index].name, 0), True)
        names = [phase.name for phase in phases]
        times = dict(zip(names, position.seconds, strict=True))
        return Fitted(
            self.method,
            state,
            self.data.normalisation,
            np.dtype(self.data.images.dtype),
            tuple(self.data.images.shape),
            times,
            speed,
            self.pretrained,
        )

    def over(self, state: TrainState, position: Position, phase: Phase) -> None:
        """A phase is over."""
        if phase.pretrains and len(self.seeds) == 1:
            self.pretrained = capture(state)
        self.hook.on_phase(Moment(state, position, phase.name, phase.epochs))


class _PhaseRun:
    """One phase on the host: its clock, its chunks, what happens between them."""

    def __init__(self, run: _Run, index: int, position: Position) -> None:
        self.run, self.index = run, index
        self.method, self.data, self.hook = run.method, run.data, run.hook
        self.phase = run.method.phases[index]
        self.n = run.data.images.shape[0]
        self.batch = min(self.phase.batches.size, self.n)
        self.per_epoch = -(-self.n // self.batch) * self.phase.batches.repeats
        self.total = self.phase.epochs * self.per_epoch
        before = position.seconds[index] if index < len(position.seconds) else 0.0
        self.earlier, self.started = position.seconds[:index], time.perf_counter() - before
        self.predict = predictor(self.method, self.data)
        self.clock = Clock()

    def seconds(self) -> float:
        return time.perf_counter() - self.started

    @property
    def speed(self) -> float:
        """Images of the set finished per second, inside chunks, without compilation."""
        return self.clock.rate * self.batch / self.phase.batches.repeats

    def moment(self, state: TrainState, done: int) -> Moment:
        position = Position(self.index, done, (*self.earlier, self.seconds()), True)
        return Moment(state, position, self.phase.name, done // self.per_epoch)

    def begin(self, state: TrainState, position: Position) -> TrainState:
        """The phase's first refit, unless the position is past it."""
        first, begun = self.phase.first, position.phase == self.index and position.begun
        if first is None:
            return state
        if not begun:
            state = self.refit(first, state)
            if first.on == "host":  # it may have taken minutes
                self.hook.on_save(self.moment(state, 0), True)
        if self.phase.scored != "never" and not (begun and position.step):
            self.hook.on_epoch(self.moment(state, 0))
        return state

    def refit(self, refit: Refit, state: TrainState) -> TrainState:
        """The state refitted to the features of the images the refit wants to see.

        With several processes, the first computes it and sends it to the others.
        """
        on_host, group = refit.on == "host", self.data.group
        rows = None if refit.rows is None else evenly_spread(self.n, refit.rows)
        predict = self.predict
        if refit.sees == "images":
            predict = predictor(of_images(self.method), self.data)
        features = predict(state, fields=("features",), rows=rows).features
        features = features if on_host else jnp.asarray(features)
        compute = refit_of(self.method, refit)
        if group is None:
            after = compute(state, features)
            return jax.device_put(after) if on_host else after
        like = state if on_host else jax.eval_shape(refit.update, state, features)
        return group.replicate(group.told(lambda: compute(state, features), like))

    def rows_of(self, epoch: int) -> np.ndarray:
        """Rows of an epoch's batches, those of all seeds side by side."""
        epoch = 0 if self.phase.batches.order == "fixed" else epoch
        tables = [
            epoch_rows(seed, self.index, epoch, self.n, self.batch) for seed in self.run.seeds
        ]
        return np.hstack(tables)

    def steps(self, state: TrainState, done: int) -> TrainState:
        """Run all steps from a given one on."""
        size = self.batch * len(self.run.seeds)
        with Feed(self.data, self.phase, size, self.rows_of) as feed:
            program = chunk_of(self.method, self.phase, self.data, sharded=feed.sharded)
            while done < self.total:
                fresh = not done % self.per_epoch
                if fresh and self.phase.until and self.phase.until(state):
                    break
                state, done, enough = self.chunk(program, feed, state, done)
                if enough:
                    break
        return state

    def chunk(
        self, program: Callable, feed: Feed, state: TrainState, done: int
    ) -> tuple[TrainState, int, bool]:
        """A chunk of steps and what follows it: (state, steps done, whether that is enough)."""
        epoch, start = divmod(done, self.per_epoch)
        stop = min(start + self.length(), self.per_epoch)
        with self.clock:
            given, stop = feed.chunk(epoch, start, stop)
            state, reports, finite = program(state, *given)
            del given  # a block is freed before the next one
            reports, finite = jax.device_get((reports, finite))
        count = stop - start
        self.clock.count(count)
        self._check_finite(reports.loss[:count], bool(finite), done)
        done = epoch * self.per_epoch + stop
        over = stop == self.per_epoch
        if over and self.phase.between and (epoch + 1) % self.phase.every == 0:
            state = self.refit(self.phase.between, state)
        self._report(state, reports, count, done)
        return state, done, self._after(state, done, over)

    def length(self) -> int:
        """Steps of the next chunk."""
        each, group = self.clock.each, self.data.group
        length = max(1, min(CAPACITY, int(_CHUNK_SECONDS / each))) if each else 1
        # Every process must run the same chunk, whatever its clock says.
        return length if group is None else group.agree(length)

    def _after(self, state: TrainState, done: int, over: bool) -> bool:
        """Run the hooks after a chunk; returns whether the phase should end."""
        moment, hook = self.moment(state, done), self.hook
        if over and self.phase.scored == "always":
            hook.on_epoch(moment)
        stopping, enough = hook.interrupts(), over and hook.ends_phase()
        if self.data.group is not None:
            stopping, enough = map(self.data.group.any, (stopping, enough))
        hook.on_save(moment, stopping)
        if stopping:
            raise Stopped
        return enough

    def _check_finite(self, losses: np.ndarray, finite: bool, done: int) -> None:
        bad = np.argwhere(~np.isfinite(losses))
        if finite and not len(bad):
            return
        what, step = "the state is no longer finite", done + len(losses)
        if len(bad):
            what, step = f"the loss became {losses[tuple(bad[0])]}", done + int(bad[0][0]) + 1
            if losses.ndim == 2:
                what += f" with seed {self.run.seeds[bad[0][1]]}"
        raise RunError(
            f"{what} at step {step} of phase '{self.phase.name}'; the last checkpoint is kept: "
            "lower the learning rate and start again"
        )

    def _report(self, state: TrainState, reports: StepInfo, count: int, done: int) -> None:
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
        left = (self.total - done) * self.clock.each
        epoch = done / self.per_epoch
        self.hook.on_chunk(
            Progress(self.phase.name, epoch, self.phase.epochs, steps, self.speed, left)
        )


def _told(value: Any) -> Any:
    """A number, or one per seed."""
    return np.asarray(value).tolist()
