"""Keeps the starts of a run on disk, so that a killed run continues in the middle of any of them.

`starts/0`, `starts/1`, … in the run directory each hold a start's metrics.jsonl, its checkpoints
until it is dropped, and what it was judged by: `round-N.json` and `round-N.npz`.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np

from jaxclust import metrics
from jaxclust.core.errors import InputError
from jaxclust.core.types import TrainState
from jaxclust.runs.directory import STARTS, RunDirectory
from jaxclust.runs.prepare import Prepared
from jaxclust.runs.progress import Reporter
from jaxclust.training import warm_start
from jaxclust.training.checkpoints import Checkpoints
from jaxclust.training.contest import Bench, Round, Verdict
from jaxclust.training.evidence import Evidence, rows_of
from jaxclust.training.hooks import Calls, Hook, Moment
from jaxclust.training.starting import Position, restored


class Waiting(Bench):
    """Holds the starts of a run between their stretches of training.

    Args:
        ready: the run, its directory open.
        reporter: shows and logs.
        predict: of the run; see :func:`prediction.predictor`.
        checkpoints: the run's own, for the chosen start.
        stack: closes the starts' checkpoints.
        keep_pretrained: (run directory, moment), called when a phase is over.
    """

    def __init__(
        self,
        ready: Prepared,
        reporter: Reporter,
        predict: Any,
        checkpoints: Checkpoints,
        stack: ExitStack,
        keep_pretrained: Callable[[RunDirectory, Moment], None],
    ) -> None:
        super().__init__()
        self.ready, self.reporter, self.predict = ready, reporter, predict
        self.own, self.stack, self.keep_pretrained = checkpoints, stack, keep_pretrained
        self.opened: dict[int, Checkpoints] = {}

    def folder(self, start: int) -> RunDirectory:
        """The folder of one of the starts."""
        return RunDirectory(self.ready.directory.path / STARTS / str(start))

    def checkpoints(self, start: int) -> Checkpoints:
        if start not in self.opened:
            every = self.ready.options.checkpoint_every
            self.opened[start] = Checkpoints(self.folder(start).checkpoints, every)
            self.stack.callback(self.opened[start].close)
        return self.opened[start]

    def hooks(self, start: int, step: int, savable: Callable[[Moment], bool]) -> Sequence[Hook]:
        folder, checkpoints = self.folder(start), self.checkpoints(start)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.cut_metrics(step)
        self.reporter.write_to(folder, f"start {start + 1} of {self.ready.method.starts}: ")

        def save(moment: Moment, now: bool) -> None:
            if savable(moment):
                checkpoints.at(moment, now)

        call = Calls(
            on_chunk=self.reporter.chunk,
            on_epoch=self.ready.evaluator(self.reporter, self.predict).epoch,
            on_save=save,
            on_phase=partial(self.keep_pretrained, folder),
        )
        return (call,)

    def resumed(self, start: int) -> tuple[TrainState, Position] | None:
        return restored(self.ready.method, self.ready.data, self.checkpoints(start).restore)

    def verdict(self, number: int, start: int) -> Verdict | None:
        path = self.folder(start).path / f"round-{number}.json"
        if not path.is_file():
            return None
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
                evidence = Evidence(said["criteria"], arrays["assignments"])
            at = (int(said["phase"]), int(said["epoch"]))
            return Verdict(start, int(said["seed"]), at, evidence)
        except Exception as error:  # damaged zip and npy files raise many kinds
            raise InputError(
                f"{path} cannot be read ({error}); restore a copy of it, or start over with "
                "another ‹out›"
            ) from error

    def keep(self, number: int, verdict: Verdict, state: TrainState, position: Position) -> None:
        folder = self.folder(verdict.start)
        # The verdict first: after a kill between the two, a start is trained again from an earlier
        # checkpoint to the same end. A checkpoint past the moment of judging could not be judged
        # there.
        folder.write_arrays(f"round-{number}.npz", assignments=verdict.evidence.assignments)
        phase, epoch = verdict.at
        said = {"seed": verdict.seed, "phase": phase, "epoch": epoch}
        folder.write_json(f"round-{number}.json", {**said, "criteria": verdict.evidence.criteria})
        self.checkpoints(verdict.start).save(state, position, now=True)

    def drop(self, start: int) -> None:
        """Remove its checkpoints; keep what it was judged by."""
        super().drop(start)
        if start in self.opened:
            self.opened.pop(start).close()
        shutil.rmtree(self.folder(start).checkpoints, ignore_errors=True)

    def chosen(self, start: int) -> tuple[TrainState, Position] | None:
        """The run's checkpoint, metrics and pre-training become those of the chosen start."""
        folder, directory = self.folder(start), self.ready.directory
        self.reporter.write_to(directory, "")
        at = self.resumed(start)
        folder.cut_metrics(int(at[0].step) if at else -1)
        if at:
            self.own.save(*at, now=True)  # what `jaxclust predict` reads
        for name in ("metrics.jsonl", warm_start.FILE):
            if (folder.path / name).is_file():
                directory.write_bytes(name, (folder.path / name).read_bytes())
        return at


def told(
    rounds: Sequence[Round], labels: np.ndarray | None, count: int
) -> list[dict[str, Any]] | None:
    """What the summary says about each start; None for a run with one.

    Args:
        rounds: of the run.
        labels: of all images, to score the starts after the choice; None if there are none.
        count: of images.
    """
    if not rounds:
        return None
    starts: dict[int, dict[str, Any]] = {}
    for number, one in enumerate(rounds):
        for verdict, score in zip(one.verdicts, one.scores, strict=True):
            start = starts.setdefault(
                verdict.start, {"start": verdict.start, "seed": verdict.seed, "rounds": []}
            )
            criteria = {name: round(v, 6) for name, v in verdict.evidence.criteria.items()}
            at = {"round": number + 1, "epoch": verdict.at[1], "score": score, **criteria}
            start["rounds"].append(at)
            start["chosen"] = verdict.start == rounds[-1].kept[0]
    last = {verdict.start: verdict for one in rounds for verdict in one.verdicts}
    return [{**starts[n], **_scored(last[n], labels, count)} for n in sorted(starts)]


def _scored(verdict: Verdict, labels: np.ndarray | None, count: int) -> dict[str, Any]:
    """ACC and NMI of a start when it was last judged, on the images that were looked at."""
    if labels is None or not np.any(labels >= 0):
        return {"acc": None, "nmi": None}
    scored = metrics.score(labels[rows_of(count)], verdict.evidence.assignments)
    return {"acc": scored["acc"], "nmi": scored["nmi"]}
