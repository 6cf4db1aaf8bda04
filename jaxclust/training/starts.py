"""Several starts of a method, one of them chosen without labels and trained to its end.

How a run ends depends on its start more than on most settings. So the starts train for part of the
epochs, the half that looks better continues, and at the end one is chosen (successive halving;
Jamieson & Talwalkar 2016). Which half looks better is decided without labels
(:mod:`training.evidence`). The chosen start equals, bit for bit, a run with its seed alone.
"""

import time
from collections.abc import Sequence
from typing import Any

from jaxclust.core.errors import InputError
from jaxclust.core.types import Method, TrainState
from jaxclust.training import loop
from jaxclust.training.contest import Bench, Contest, moments
from jaxclust.training.fitted import Fitted
from jaxclust.training.hooks import Hook, Hooks
from jaxclust.training.placement import Data, placed
from jaxclust.training.starting import Position, Seeds, all_of
from jaxclust.training.warm_start import WarmStart


def fit(
    method: Method,
    images: Any,
    *,
    seed: Seeds = 0,
    hooks: Sequence[Hook] | Hook = (),
    resume: tuple[TrainState, Position] | None = None,
    start: WarmStart | None = None,
    bench: Bench | None = None,
) -> Fitted:
    """Run a method's phases in order, from the best of `method.starts` starts.

    With one start it is :func:`loop.fit`. With more, `Fitted.rounds` says how one was chosen.

    Args:
        method: it keeps its compiled programs, so a second fit compiles nothing.
        images: uint8 or float [n, h, w, c], features [n, d], or another `types.Source`.
        seed: of all randomness; see :func:`loop.fit`.
        hooks: see :mod:`hooks`; with several starts, called in each of them, except `on_save`.
        resume: a saved state and position to continue from, for a method with one start.
        start: another run's pre-training, instead of the method's own; all starts share it.
        bench: what holds waiting starts; None: memory.

    Raises:
        InputError, RunError, Stopped: as for :func:`loop.fit`.
    """
    data = placed(method, images)
    if method.starts == 1 or not moments(method):
        return loop.fit(method, data, seed=seed, hooks=hooks, resume=resume, start=start)
    _check(data, seed, resume)
    hook = hooks if isinstance(hooks, Hook) else Hooks(hooks)
    return _best(Contest(method, data, all_of(seed)[0], start, bench or Bench(), hook), hook)


def _best(contest: Contest, hook: Hook) -> Fitted:
    """Train the start that wins a contest to its end."""
    clock, bench = time.perf_counter(), contest.bench
    rounds = contest.rounds()
    spent = time.perf_counter() - clock
    chosen = rounds[-1].kept[0]
    left, seed = bench.chosen(chosen), contest.seeds[chosen]
    fitted = loop.fit(contest.method, contest.data, seed=seed, hooks=hook, resume=left)
    others = max(0.0, spent - sum(fitted.seconds.values()))
    return fitted._replace(
        rounds=tuple(rounds),
        pretrained=fitted.pretrained or bench.pretrained.get(chosen),
        seconds={**fitted.seconds, "other_starts": others},
        images_per_second=fitted.images_per_second or contest.speeds.get(chosen, 0.0),
    )


def _check(data: Data, seed: Seeds, resume: Any) -> None:
    """InputError for what several starts cannot have."""
    if len(all_of(seed)) > 1:
        raise InputError("several seeds in one program take one start each; set ‹starts› 1")
    if data.group is not None and data.group.processes > 1:
        raise InputError("‹starts› works in one process only; set ‹starts› 1")
    if resume is not None:
        raise InputError(
            "to resume one of several starts, run it on its own: set ‹starts› 1 and give its ‹seed›"
        )
