"""One run: a method on a data set, from files in to a finished run directory."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from types import FrameType
from typing import Any

import numpy as np

from jaxclust.clustering import health
from jaxclust.core import device, processes
from jaxclust.core.errors import first_line
from jaxclust.core.types import Prediction
from jaxclust.data import catalogue
from jaxclust.runs.directory import RunDirectory
from jaxclust.runs.options import Options
from jaxclust.runs.prepare import Prepared, prepare
from jaxclust.runs.scoring import SCORED, Evaluator, confidence, scores, write_assignments
from jaxclust.runs.spilled import opened
from jaxclust.training import warm_start
from jaxclust.training.fitted import Fitted
from jaxclust.training.hooks import Calls, Moment
from jaxclust.training.loop import fit
from jaxclust.training.prediction import predictor
from jaxclust.training.starting import restored


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
        Stopped: interrupted, a checkpoint written.
    """
    processes.join(options.coordinator, options.num_processes, options.process_id)
    with device.deterministic(options.deterministic), processes.telling_lost_processes():
        return carry_out(prepare(options, config, command))


def carry_out(ready: Prepared) -> dict[str, Any]:
    """Fit, predict and write; the summary. Raises what :func:`execute` does."""
    options, method, data = ready.options, ready.method, ready.data
    directory = ready.directory
    predict = predictor(method, data)
    reporter, labels = ready.reporter(), ready.image_set.labels
    evaluator = Evaluator(predict, labels, ready.n_clusters, reporter, options.evaluate_every)
    with closing(ready.checkpoints()) as checkpoints:
        resume = None
        if options.resume:
            resume = restored(method, data, checkpoints.restore)
        if ready.writes:
            directory.open(ready.record, overwrite=options.overwrite)
            directory.cut_metrics(int(resume[0].step) if resume else -1)
        with interrupts() as interrupted, reporter:
            hook = Calls(
                on_chunk=reporter.chunk,
                on_epoch=evaluator.epoch,
                on_save=checkpoints.at if ready.writes else None,
                on_phase=partial(keep_pretrained, ready),
                interrupts=interrupted,
            )
            fitted = fit(
                method, data, seed=options.seed, hooks=hook, resume=resume, start=ready.pretrained
            )
    clock = time.perf_counter()
    with ready.room() as room:
        fields = Prediction._fields if ready.writes else SCORED
        prediction = opened(predict(fitted.state, fields=fields, room=room))
        return finish(ready, fitted, prediction, time.perf_counter() - clock)


def keep_pretrained(ready: Prepared, moment: Moment) -> None:
    """What pre-training ended with, for other runs' --pretrained."""
    if moment.phase in ready.pretraining and ready.writes:
        kept = warm_start.arrays(moment.borrowed)
        ready.directory.write_arrays(warm_start.FILE, compress=False, **kept)


def finish(
    ready: Prepared, fitted: Fitted, prediction: Prediction, predicting: float
) -> dict[str, Any]:
    """Write what a fitted run leaves behind; its summary.

    Args:
        ready: the run, its directory open.
        fitted: its state and times.
        prediction: of all its images.
        predicting: seconds that took.
    """
    options, directory, image_set = ready.options, ready.directory, ready.image_set
    clock = time.perf_counter()
    if ready.writes:
        _write_clustering(directory, image_set, prediction, fitted)
    evaluation = predicting + time.perf_counter() - clock
    sizes = np.bincount(prediction.assignments, minlength=ready.n_clusters)
    complaint = health.complaint(sizes)
    if complaint and not ready.quiet:
        print(f"warning: {complaint}", file=sys.stderr)
    summary = {
        "method": options.method,
        "dataset": options.dataset,
        "preset": options.preset,
        "seed": options.seed,
        "n_images": len(image_set.ids),
        "n_clusters": ready.n_clusters,
        **scores(prediction, image_set.labels, ready.n_clusters),
        "clusters_found": int((sizes > 0).sum()),
        "warnings": [complaint] if complaint else [],
        "n_skipped": len(image_set.skipped),
        "passed_over": image_set.passed_over(),
        "seconds": {
            "load": round(ready.loading, 2),
            **{name: round(value, 2) for name, value in fitted.seconds.items()},
            "predict": round(evaluation, 2),
        },
        "images_per_second": round(fitted.images_per_second, 1),
        **device.peak_memory_mb(),
        **ready.record["device"],
        "versions": ready.record["versions"],
        "out": str(directory.path),
    }
    if ready.writes:
        directory.write_json("summary.json", summary)
    if ready.writes and options.report:
        _report(ready, summary, prediction, fitted)
    return summary


def _report(
    ready: Prepared, summary: dict[str, Any], prediction: Prediction, fitted: Fitted
) -> None:
    """Write report.html; the run is finished whether that works or not."""
    from jaxclust.report import page
    from jaxclust.runs.finished import FinishedRun, flat_map

    directory, image_set = ready.directory, ready.image_set
    finished = FinishedRun(
        directory.path,
        ready.record,
        summary,
        image_set.ids,
        np.asarray(prediction.assignments),
        confidence(prediction),
        image_set.labels,
        np.asarray(prediction.features),
        flat_map(fitted.method.artifacts(fitted.state).get("map")),
        image_set.skipped,
    )
    try:
        written = page.write(finished, image_set)
        if not ready.quiet:
            print(f"see {written}", file=sys.stderr)
    except Exception as error:
        print(
            f"warning: report.html could not be written ({first_line(error)}); try jaxclust report "
            f"{directory.path}",
            file=sys.stderr,
        )


def _write_clustering(
    directory: RunDirectory,
    image_set: catalogue.ImageSet,
    prediction: Prediction,
    fitted: Fitted,
) -> None:
    """assignments.csv and embeddings.npz."""
    kept = {n: np.asarray(v) for n, v in fitted.method.artifacts(fitted.state).items()}
    write_assignments(directory, image_set, prediction, kept.pop("noise", None))
    found = {"features": prediction.features, "probabilities": prediction.probabilities}
    arrays: dict[str, Any] = {**found, **kept}
    directory.write_arrays("embeddings.npz", **arrays)


@contextmanager
def interrupts() -> Iterator[Any]:
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
