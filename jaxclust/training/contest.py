"""The starts of a run compared: what each looks like, and which half continues."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxclust.clustering import criteria
from jaxclust.core.types import Method, TrainState
from jaxclust.training import loop
from jaxclust.training.evidence import Evidence, Witness
from jaxclust.training.hooks import Calls, Hook, Moment, Progress, lasting
from jaxclust.training.placement import Data
from jaxclust.training.starting import Position
from jaxclust.training.warm_start import PHASE, WarmStart, capture

# Criteria that starts are ranked by; the ranks are averaged.
CRITERION = ("views", "evenness", "silhouette")

At = tuple[int, int]  # a phase's index, and epochs of it done


class Verdict(NamedTuple):
    """A start as it was when it was judged."""

    start: int  # its number; 0 has the run's own seed
    seed: int
    at: At
    evidence: Evidence


class Round(NamedTuple):
    """The starts that were compared, and those that continued."""

    verdicts: list[Verdict]
    scores: list[float]  # one per verdict; higher is better
    kept: list[int]  # numbers of starts, best first


class Reached(Exception):
    """A stretch of training is over; nothing went wrong."""


class Bench:
    """Holds starts between their stretches of training, in memory.

    A run keeps them in its directory instead (`runs.waiting`), to continue after a kill.
    """

    def __init__(self) -> None:
        self.states: dict[int, tuple[TrainState, Position]] = {}
        self.pretrained: dict[int, WarmStart] = {}

    def hooks(self, start: int, step: int, savable: Callable[[Moment], bool]) -> Sequence[Hook]:
        """The hooks for a stretch of a start.

        Args:
            start: its number.
            step: steps taken before the stretch; -1 for a start that begins.
            savable: whether a stretch that continues from a moment gathers the same evidence.
        """
        del step, savable

        def keep(moment: Moment) -> None:
            if moment.phase == PHASE:
                self.pretrained[start] = capture(moment.borrowed)

        return (Calls(on_phase=keep),)

    def resumed(self, start: int) -> tuple[TrainState, Position] | None:
        """Where a start stands; None before it has begun."""
        return self.states.get(start)

    def verdict(self, number: int, start: int) -> Verdict | None:
        """The verdict on a start in a round; None if it is still to be judged."""
        del number, start
        return None

    def keep(self, number: int, verdict: Verdict, state: TrainState, position: Position) -> None:
        """Keep a start that has been judged in a round.

        Args:
            number: of the round.
            verdict: of the start.
            state: as it was judged; it may be kept.
            position: to continue from.
        """
        del number
        self.states[verdict.start] = state, position

    def drop(self, start: int) -> None:
        """Drop a start that is not trained further."""
        self.states.pop(start, None)
        self.pretrained.pop(start, None)

    def chosen(self, start: int) -> tuple[TrainState, Position] | None:
        """What the one remaining start continues from."""
        return self.resumed(start)


def seeds_of(seed: int, count: int) -> list[int]:
    """The seed of each start; the first has the run's own.

    The others are drawn, so that the starts of neighbouring seeds differ.
    """
    others = [np.random.SeedSequence([seed, i]).generate_state(1)[0] for i in range(1, count)]
    return [seed, *(int(value) % 2**31 for value in others)]


def moments(method: Method) -> list[At]:
    """When a run can be judged: after each epoch and first refit whose predictions count."""
    found = []
    for index, phase in enumerate(method.phases):
        if phase.pretrains:
            continue
        if phase.first is not None:
            found.append((index, 0))
        if phase.step is not None and phase.scored == "always":
            found += [(index, epoch + 1) for epoch in range(phase.epochs)]
    return found


def stops(method: Method) -> list[At]:
    """The moment of each round: after equal parts of the clustering epochs, the last at the end.

    How starts look early says little about how they end, and how they look at the end says
    most (experiments/results/README.md).
    """
    known = moments(method)
    epochs = [0 if phase.pretrains else phase.epochs for phase in method.phases]
    done = [sum(epochs[:index]) + epoch for index, epoch in known]
    count = int(np.ceil(np.log2(method.starts)))
    wanted = [done[-1] * (i + 1) / count for i in range(count - 1)]
    found = [next(at for at, d in zip(known, done, strict=True) if d >= w) for w in wanted]
    return [*found, known[-1]]


def ranked(verdicts: Sequence[Verdict], names: Sequence[str] = CRITERION) -> list[float]:
    """How good each start looks compared with the others: mean ranks of their shared criteria."""
    found = [verdict.evidence.criteria for verdict in verdicts]
    shared = [name for name in names if all(name in one for one in found)]
    return criteria.mean_ranks([[one[name] for one in found] for name in shared])


def better_half(starts: Sequence[int], scores: Sequence[float]) -> list[int]:
    """The half of the starts (rounded up) with the higher scores, best first."""
    # Ties go to the first start: the order does not depend on anything else.
    order = sorted(range(len(starts)), key=lambda i: (-scores[i], starts[i]))
    return [starts[i] for i in order[: -(-len(starts) // 2)]]


class Contest:
    """The starts of one run."""

    def __init__(
        self,
        method: Method,
        data: Data,
        seed: int,
        start: WarmStart | None,
        bench: Bench,
        hook: Hook,
    ) -> None:
        self.method, self.data, self.start, self.bench = method, data, start, bench
        self.seeds = seeds_of(seed, method.starts)
        self.speeds: dict[int, float] = {}  # images per second in each start's last chunk
        # The bench decides where a start is saved.
        self.own = Calls(
            hook.on_chunk, hook.on_epoch, None, hook.on_phase, hook.ends_phase, hook.interrupts
        )

    def rounds(self) -> list[Round]:
        """Halve the starts until one is left."""
        left, before, rounds = list(range(len(self.seeds))), {}, []
        for number, at in enumerate(stops(self.method)):
            verdicts = [self.verdict(number, at, one, before.get(one)) for one in left]
            scores = ranked(verdicts)
            kept = better_half(left, scores)
            rounds.append(Round(verdicts, scores, kept))
            for one in set(left) - set(kept):
                self.bench.drop(one)
            before = {verdict.start: verdict for verdict in verdicts}
            left = kept
        return rounds

    def verdict(self, number: int, at: At, start: int, before: Verdict | None) -> Verdict:
        """Train a start until a moment, and judge it there."""
        known = self.bench.verdict(number, start)
        if known is not None:
            return known
        resume = self.bench.resumed(start)
        stretch = Stretch(self.method, self.data, at, before)
        step = int(resume[0].step) if resume else -1
        hooks = [*self.bench.hooks(start, step, stretch.savable), self.own, stretch]
        try:
            fitted = loop.fit(
                self.method,
                self.data,
                seed=self.seeds[start],
                hooks=hooks,
                resume=resume,
                start=None if resume else self.start,
            )
        except Reached:
            pass
        else:
            stretch.ended(fitted.state, before)
        self.speeds[start] = stretch.speed or self.speeds.get(start, 0.0)
        assert stretch.evidence is not None
        found = Verdict(start, self.seeds[start], stretch.here, stretch.evidence)
        state, position = stretch.kept or resume or (None, None)
        assert state is not None
        assert position is not None
        self.bench.keep(number, found, state, position)
        return found


class Stretch(Hook):
    """Training until a moment, and the evidence there."""

    def __init__(self, method: Method, data: Data, at: At, before: Verdict | None) -> None:
        known = moments(method)
        self.at, self.here = at, at
        place = known.index(at)
        self.previous: At = known[place - 1] if place else (-1, 0)
        self.witness = Witness(method, data)
        if before is not None and before.at == self.previous:
            self.witness.before = before.evidence.assignments
        self.position: Position | None = None
        self.phase, self.speed = "", 0.0
        self.kept: tuple[TrainState, Position] | None = None
        self.evidence: Evidence | None = None

    def savable(self, moment: Moment) -> bool:
        """Whether the evidence is still ahead."""
        return (moment.position.phase, moment.epoch) < self.previous

    def on_chunk(self, progress: Progress) -> None:
        self.speed = progress.images_per_second or self.speed
        self.witness.on_chunk(progress)

    def on_epoch(self, moment: Moment) -> None:
        here = (moment.position.phase, moment.epoch)
        self.here, self.position, self.phase = here, moment.position, moment.phase
        if here == self.previous:
            self.witness.glance(moment.borrowed)
        elif here >= self.at:
            self.evidence = self.witness.evidence(moment)
            self.kept = moment.state, moment.position
            raise Reached

    def ended(self, state: TrainState, before: Verdict | None) -> None:
        """The run ended before the moment, having nothing left to do."""
        if self.position is None:  # it had ended earlier
            assert before is not None
            self.here, self.evidence = before.at, before.evidence
            return
        moment = Moment(state, self.position, self.phase, self.here[1])
        self.evidence, self.kept = self.witness.evidence(moment), (lasting(state), self.position)
