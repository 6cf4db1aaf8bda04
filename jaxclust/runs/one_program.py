"""Runs that differ only in their seed, as one program, each with its own run directory."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

from jaxclust.runs import single as run
from jaxclust.runs.directory import RunDirectory
from jaxclust.runs.options import Options, as_recorded, default_out
from jaxclust.runs.prepare import Prepared
from jaxclust.runs.scoring import SCORED, Evaluator
from jaxclust.training.hooks import Hook, Moment, Progress
from jaxclust.training.loop import fit
from jaxclust.training.mapped import of_seed, prediction_of_seed, together
from jaxclust.training.prediction import predictor

# Options of a command for several seeds that differ for one of its runs.
_OF_SEVERAL = {"--seeds", "--seed", "--out", "--seeds-together", "--resume", "--overwrite"}


def command_of(single: Options, command: str) -> str:
    """The command that repeats one of the runs alone."""
    words, kept = iter(shlex.split(command)), []
    for word in words:
        name = word.split("=", 1)[0].replace("_", "-")
        if name not in _OF_SEVERAL:
            kept.append(word)
        elif "=" not in word and name not in {"--resume", "--overwrite"}:
            next(words, None)
    return shlex.join([*kept, f"--seed={single.seed}"]) if kept else ""


class _SeedsHook(Hook):
    """What happens between chunks of several runs that are one program.

    Args:
        runs: prepared as if each were alone.
        predict: for all seeds, see :func:`prediction.predictor`.
        stack: closes what is opened here.
        interrupted: asked after every chunk.
    """

    def __init__(
        self, runs: list[Prepared], predict: Any, stack: ExitStack, interrupted: Callable[[], bool]
    ) -> None:
        self.runs, self.predict, self.interrupts = runs, predict, interrupted  # pyright: ignore[reportIncompatibleMethodOverride]
        self.every, labels = runs[0].options.evaluate_every, runs[0].image_set.labels
        self.reporters, self.evaluators, self.checkpoints = [], [], []
        for i, one in enumerate(runs):
            # One of them is shown; all are logged.
            shown = one if i == 0 else one._replace(options=replace(one.options, quiet=True))
            reporter = stack.enter_context(shown.reporter())
            self.reporters.append(reporter)
            self.evaluators.append(Evaluator(None, labels, one.n_clusters, reporter, self.every))
            self.checkpoints.append(stack.enter_context(closing(one.checkpoints())))

    def on_chunk(self, progress: Progress) -> None:
        for i, reporter in enumerate(self.reporters):
            steps = [
                {name: v[i] if isinstance(v, list) else v for name, v in step.items()}
                for step in progress.steps
            ]
            reporter.chunk(progress._replace(steps=steps))

    def on_epoch(self, moment: Moment) -> None:
        if moment.epoch % self.every:
            return
        prediction = self.predict(moment.borrowed, fields=SCORED)
        step = int(moment.borrowed.step)
        for i, evaluator in enumerate(self.evaluators):
            evaluator.judge(prediction_of_seed(prediction, i), step, moment.phase, moment.epoch)

    def on_save(self, moment: Moment, now: bool) -> None:
        # All are saved together, so one clock is enough.
        if not self.checkpoints[0].due(now):
            return
        seconds = tuple(value / len(self.runs) for value in moment.position.seconds)
        for i, one in enumerate(self.checkpoints):
            position = moment.position._replace(seconds=seconds)
            one.save(of_seed(moment.borrowed, i), position, True)

    def on_phase(self, moment: Moment) -> None:
        for i, one in enumerate(self.runs):
            alone = of_seed(moment.borrowed, i)
            own = Moment(alone, moment.position, moment.phase, moment.epoch)
            run.keep_pretrained(one, one.directory, own)


def _as_if_alone(first: Prepared, singles: list[Options], command: str) -> list[Prepared]:
    """Each of the runs, prepared like the first; refused if its folder is taken."""
    record = first.record
    runs = [
        first._replace(
            options=single,
            record={
                **record,
                "options": as_recorded(single),
                "command": command_of(single, command) or record["command"],
            },
            directory=RunDirectory(single.out or default_out(single)),
            loading=first.loading / len(singles),
        )
        for single in singles
    ]
    for one in runs:
        one.directory.check(one.record, resume=False, overwrite=one.options.overwrite)
    return runs


def as_one_program(
    first: Prepared, singles: list[Options], command: str
) -> Iterator[dict[str, Any]]:
    """Run all as one program; yields their summaries."""
    seeds, count = [single.seed for single in singles], len(singles)
    runs = _as_if_alone(first, singles, command)
    method, data = together(first.method, seeds), first.data
    predict = predictor(method, data)
    with ExitStack() as stack:
        interrupted = stack.enter_context(run.interrupts())
        hook = _SeedsHook(runs, predict, stack, interrupted)
        for one in runs:
            one.directory.open(one.record, overwrite=one.options.overwrite)
            one.directory.cut_metrics(-1)
        fitted = fit(method, data, seed=seeds, hooks=hook)
    clock = time.perf_counter()
    prediction = predict(fitted.state)
    predicting = (time.perf_counter() - clock) / count
    seconds = {name: value / count for name, value in fitted.seconds.items()}
    for i, one in enumerate(runs):
        alone = fitted._replace(
            state=of_seed(fitted.state, i),
            seconds=seconds,
            images_per_second=count * fitted.images_per_second,
        )
        yield run.finish(one, alone, prediction_of_seed(prediction, i), predicting)
