"""What happens between chunks of steps: logging, checkpoints, stopping early, custom hooks."""

import logging
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxclust.core.types import TrainState
from jaxclust.training.starting import Position

log = logging.getLogger("jaxclust.progress")


class Progress(NamedTuple):
    """What a chunk reports to the host."""

    phase: str
    epoch: float  # epochs of the phase done
    epochs: int
    # `step` (counted over the run), `epoch` (of the phase), `loss` and the watch; with several
    # seeds run together, the last two hold a value per seed
    steps: list[dict[str, Any]]
    images_per_second: float
    seconds_left: float  # of the phase


class Moment:
    """Where training stands between two chunks."""

    def __init__(self, state: TrainState, position: Position, phase: str, epoch: int) -> None:
        self.borrowed = state  # valid until the hook returns: the next chunk reuses its memory
        self.position = position  # with the state, what `fit(resume=…)` continues from
        self.phase = phase
        self.epoch = epoch  # of the phase; 0: after its first refit

    @cached_property
    def state(self) -> TrainState:
        """A lasting copy of the state."""
        return lasting(self.borrowed)


def lasting(state: TrainState) -> TrainState:
    """A copy of a state, whose memory training cannot reuse."""
    return jax.tree.map(jnp.copy, state)


class Hook:
    """What `fit` calls between chunks of steps; every method is optional."""

    def on_chunk(self, progress: Progress) -> None:
        """After every chunk of about a second."""

    def on_epoch(self, moment: Moment) -> None:
        """After an epoch that is scored; epoch 0 is after its first refit."""

    def on_save(self, moment: Moment, now: bool) -> None:
        """When the run may be saved: after every chunk; `now`: it must be saved."""

    def on_phase(self, moment: Moment) -> None:
        """When a phase is over."""

    def ends_phase(self) -> bool:
        """Asked after every epoch: should the phase end?"""
        return False

    def interrupts(self) -> bool:
        """Asked after every chunk: should the run save its state and end here, with `Stopped`?"""
        return False


class Hooks(Hook):
    """Several hooks as one, in order."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self.hooks = tuple(hooks)

    def on_chunk(self, progress: Progress) -> None:
        for hook in self.hooks:
            hook.on_chunk(progress)

    def on_epoch(self, moment: Moment) -> None:
        for hook in self.hooks:
            hook.on_epoch(moment)

    def on_save(self, moment: Moment, now: bool) -> None:
        for hook in self.hooks:
            hook.on_save(moment, now)

    def on_phase(self, moment: Moment) -> None:
        for hook in self.hooks:
            hook.on_phase(moment)

    def ends_phase(self) -> bool:
        answers = [hook.ends_phase() for hook in self.hooks]  # all are asked
        return any(answers)

    def interrupts(self) -> bool:
        answers = [hook.interrupts() for hook in self.hooks]
        return any(answers)


class Calls(Hook):
    """Your own functions as a hook.

    Args:
        on_chunk: called with a :class:`Progress`.
        on_epoch: with a :class:`Moment`.
        on_save: with a :class:`Moment` and whether it must be saved now.
        on_phase: with a :class:`Moment`.
        ends_phase: returns whether the phase should end.
        interrupts: returns whether to end here.
    """

    def __init__(
        self,
        on_chunk: Callable[[Progress], Any] | None = None,
        on_epoch: Callable[[Moment], Any] | None = None,
        on_save: Callable[[Moment, bool], Any] | None = None,
        on_phase: Callable[[Moment], Any] | None = None,
        ends_phase: Callable[[], bool] | None = None,
        interrupts: Callable[[], bool] | None = None,
    ) -> None:
        given = {
            "on_chunk": on_chunk,
            "on_epoch": on_epoch,
            "on_save": on_save,
            "on_phase": on_phase,
            "ends_phase": ends_phase,
            "interrupts": interrupts,
        }
        for name, function in given.items():
            if function is not None:
                setattr(self, name, function)


class Log(Hook):
    """Logs one line per chunk with Python's `logging`, to the logger `jaxclust.progress`."""

    def on_chunk(self, progress: Progress) -> None:
        log.info(
            "%s, epoch %.1f of %d: loss %s, %.0f images a second, %.0f s left",
            progress.phase,
            progress.epoch,
            progress.epochs,
            progress.steps[-1]["loss"],
            progress.images_per_second,
            progress.seconds_left,
        )


class EarlyStop(Hook):
    """Ends a phase once a watched number has not fallen for some epochs.

    Args:
        patience: epochs without a new lowest mean.
        watch: a number that steps report: `loss` or a term of it.
        least: a decrease must be larger than this to count.
    """

    def __init__(self, patience: int = 5, watch: str = "loss", least: float = 0.0) -> None:
        self.patience, self.watch, self.least = patience, watch, least
        self._phase = ""
        self._forget("")

    def _forget(self, phase: str) -> None:
        self._phase, self._sums = phase, {}
        self._best, self._since = math.inf, 0

    def on_chunk(self, progress: Progress) -> None:
        if progress.phase != self._phase:
            self._forget(progress.phase)
        for step in progress.steps:
            total, count = self._sums.get(math.ceil(step["epoch"]), (0.0, 0))
            self._sums[math.ceil(step["epoch"])] = (total + float(step[self.watch]), count + 1)

    def ends_phase(self) -> bool:
        for epoch in sorted(self._sums):
            total, count = self._sums.pop(epoch)
            mean = total / count
            better = mean < self._best - self.least
            self._best, self._since = (mean, 0) if better else (self._best, self._since + 1)
        return self._since >= self.patience


class Checkpoint(Hook):
    """Saves a run that a later `fit` may resume.

    Args:
        folder: where checkpoints are; the newest two are kept.
        every: seconds between two; 0: after every chunk of steps.

    >>> hook = Checkpoint("checkpoints")
    >>> # fit(method, images, seed=0, hooks=[hook], resume=hook.newest(method, images))
    """

    def __init__(self, folder: Path | str, every: float = 60.0) -> None:
        from jaxclust.training.checkpoints import Checkpoints

        self.checkpoints = Checkpoints(Path(folder), every)

    def on_save(self, moment: Moment, now: bool) -> None:
        self.checkpoints.save(moment.borrowed, moment.position, now)

    def newest(self, method: Any, images: Any) -> "tuple[TrainState, Position] | None":
        """What to resume: the newest checkpoint's state and position; None if there is none.

        Raises:
            InputError: the checkpoint is damaged, or another method's.
        """
        from jaxclust.training.placement import placed
        from jaxclust.training.starting import restored

        return restored(method, placed(method, images), self.checkpoints.restore)
