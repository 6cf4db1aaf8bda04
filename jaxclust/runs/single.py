"""One run: a method on a data set, from input files to a finished run directory."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import numpy as np

from jaxclust.clustering import health
from jaxclust.clustering.host.cluster_count import Curve
from jaxclust.clustering.host.cross_validation import cross_validated
from jaxclust.clustering.host.likeness import Likeness, complaint_of, likeness
from jaxclust.core import device, processes
from jaxclust.core import interrupts as ctrl_c
from jaxclust.core.errors import Stopped
from jaxclust.core.types import Prediction
from jaxclust.data import catalogue
from jaxclust.runs.directory import RunDirectory
from jaxclust.runs.finished import FinishedRun, flat_map
from jaxclust.runs.joining import joined
from jaxclust.runs.options import Options
from jaxclust.runs.prepare import After, Prepared, prepare
from jaxclust.runs.progress import Reporter
from jaxclust.runs.scoring import (
    SCORED,
    confidence,
    scores,
    write_assignments,
    write_duplicates,
)
from jaxclust.runs.spilled import opened
from jaxclust.runs.waiting import Waiting, told
from jaxclust.runs.warned import heard
from jaxclust.training import warm_start
from jaxclust.training.checkpoints import Checkpoints
from jaxclust.training.fitted import Fitted
from jaxclust.training.hooks import Calls, Moment
from jaxclust.training.prediction import predictor
from jaxclust.training.starting import restored
from jaxclust.training.starts import fit

# Ctrl-C is checked for between chunks.
interrupts = ctrl_c.asking


def execute(
    options: Options, config: Any, command: str = "", after: After | None = None
) -> dict[str, Any]:
    """Run a method on a data set and write its run directory.

    Args:
        options: what to run on and where to write.
        config: the method's own settings.
        command: how to repeat the run, for the record; default: this process's command.
        after: called with the finished run and its images.

    Returns:
        The summary, as written to summary.json.

    Raises:
        InputError: refused before anything was written.
        RunError: stopped while running, the last checkpoint kept.
        Stopped: interrupted, a checkpoint written.
    """
    options = joined(options)
    processes.join(options.coordinator, options.num_processes, options.process_id)
    with device.deterministic(options.deterministic), processes.telling_lost_processes():
        return carry_out(prepare(options, config, command, after))


def carry_out(ready: Prepared) -> dict[str, Any]:
    """Fit, predict and write; returns the summary. Raises what :func:`execute` does."""
    with ExitStack() as held:
        if ready.writes:
            held.enter_context(ready.directory.locked())
            # Again, now that nobody else can change what lies there.
            ready.check()
            held.enter_context(ctrl_c.advising("continue with --resume"))
        complaints = held.enter_context(heard())
        fitted, predict = _fitted(ready)
        held.enter_context(ctrl_c.cleaning_up())
        clock = time.perf_counter()
        with ready.room() as room:
            fields = Prediction._fields if ready.writes else SCORED
            prediction = opened(predict(fitted.state, fields=fields, room=room))
            predicting = time.perf_counter() - clock
            return finish(ready, fitted, prediction, predicting, complaints)


def _fitted(ready: Prepared) -> tuple[Fitted, Any]:
    """The trained run, and its predictor."""
    predict = predictor(ready.method, ready.data)
    with ExitStack() as stack:
        resume, single = None, ready.method.starts == 1
        checkpoints = stack.enter_context(closing(ready.checkpoints()))
        if ready.options.resume and single:
            resume = restored(ready.method, ready.data, checkpoints.restore)
        if ready.writes:
            ready.directory.open(ready.record, overwrite=ready.options.overwrite)
            ready.directory.cut_metrics(int(resume[0].step) if resume else -1)
        interrupted = stack.enter_context(interrupts())
        reporter = stack.enter_context(ready.reporter())
        keep, bench = partial(keep_pretrained, ready), None
        hook = Calls(interrupts=interrupted)
        if single:
            hook = _hook(ready, reporter, predict, checkpoints, interrupted)
        else:
            bench = Waiting(ready, reporter, predict, checkpoints, stack, keep)
        seed, start = ready.options.seed, ready.pretrained
        given = (ready.method, ready.data)
        fitted = fit(*given, seed=seed, hooks=hook, resume=resume, start=start, bench=bench)
        if interrupted():
            # Ctrl-C came where nothing checks for it: in the last chunk, or a method without any.
            raise Stopped
    return fitted, predict


def _hook(
    ready: Prepared,
    reporter: Reporter,
    predict: Any,
    checkpoints: Checkpoints,
    interrupted: Callable[[], bool],
) -> Calls:
    """What happens between the chunks of a run with one start."""
    return Calls(
        on_chunk=reporter.chunk,
        on_epoch=ready.evaluator(reporter, predict).epoch,
        on_save=checkpoints.at if ready.writes else None,
        on_phase=partial(keep_pretrained, ready, ready.directory),
        interrupts=interrupted,
    )


def keep_pretrained(ready: Prepared, directory: RunDirectory, moment: Moment) -> None:
    """Write the result of pre-training to a folder of the run, for other runs' --pretrained."""
    if moment.phase in ready.pretraining and ready.writes:
        kept = warm_start.arrays(moment.borrowed)
        directory.write_arrays(warm_start.FILE, compress=False, **kept)


def finish(
    ready: Prepared,
    fitted: Fitted,
    prediction: Prediction,
    predicting: float,
    complaints: list[str] | None = None,
) -> dict[str, Any]:
    """Write what a fitted run leaves behind; returns its summary.

    Args:
        ready: the run, its directory open.
        fitted: its state and times.
        prediction: of all its images.
        predicting: seconds that the prediction took.
        complaints: warnings from libraries during the run.
    """
    clock, alike = time.perf_counter(), None
    artifacts = fitted.method.artifacts(fitted.state)
    if ready.writes:
        alike = _likeness(ready)
        _write_clustering(ready.directory, ready.image_set, prediction, artifacts, alike)
    predicting += time.perf_counter() - clock
    sizes = np.bincount(prediction.assignments, minlength=ready.expected)
    complaint, unlooked = health.complaint(sizes), complaint_of(ready.image_set.images)
    counted = ready.record.get("cluster_count")
    unsure = None if counted is None else Curve(**counted).complaint()
    warnings = [*filter(None, (complaint, unsure, unlooked)), *(complaints or [])]
    if not ready.quiet:
        for text in warnings:
            print(f"warning: {text}", file=sys.stderr)
    summary = _summary(ready, fitted, prediction, predicting, warnings)
    summary |= _found(ready, artifacts, alike) | _learned(ready, fitted, prediction)
    if ready.writes:
        ready.directory.write_json("summary.json", summary)
        if ready.after is not None:
            run = _left_behind(ready, summary, prediction, artifacts.get("map"), alike)
            ready.after(run, ready.image_set)
    return summary


def _likeness(ready: Prepared) -> Likeness | None:
    """Near-duplicates and outliers among given features; None for images."""
    images = ready.image_set.images
    if len(images.shape) != 2:
        return None
    return likeness(images, ready.options.duplicate_distance)


def _found(ready: Prepared, artifacts: dict[str, Any], alike: Likeness | None) -> dict[str, Any]:
    """The part of the summary that only runs on features have."""
    found, mapped = {}, artifacts.get("mapped")
    if mapped is not None and mapped < len(ready.image_set.ids):
        found["map_fitted_on"] = int(mapped)
    if alike is not None:
        found["near_duplicates"] = sum(len(group) for group in alike.groups)
    return found


def _learned(ready: Prepared, fitted: Fitted, prediction: Prediction) -> dict[str, Any]:
    """How well a linear classifier learns the clusters, for methods that are judged that way."""
    if not fitted.method.learned_from_features:
        return {}
    found = cross_validated(ready.image_set.images, prediction.assignments)
    return {"cross_validated": None if found is None else round(found, 4)}


def _count(record: dict[str, Any]) -> dict[str, Any]:
    """If the number of clusters was searched for: the other numbers that might be right."""
    found = record.get("cluster_count")
    names = ("chosen", "next_best", "hdbscan")
    return {} if found is None else {"cluster_count": {name: found[name] for name in names}}


def _summary(
    ready: Prepared,
    fitted: Fitted,
    prediction: Prediction,
    predicting: float,
    warnings: list[str],
) -> dict[str, Any]:
    """summary.json; `predicting` is what predicting and writing the clusters took."""
    options, image_set = ready.options, ready.image_set
    return {
        "method": options.method,
        "dataset": options.dataset,
        "preset": options.preset,
        "seed": options.seed,
        "n_images": len(image_set.ids),
        "n_clusters": ready.n_clusters,
        **_count(ready.record),
        **scores(prediction, image_set.labels, ready.expected),
        "starts": told(fitted.rounds, image_set.labels, len(image_set.ids)),
        "clusters_found": len(np.unique(prediction.assignments)),
        "finds_number": ready.method.finds_number,
        "warnings": warnings,
        "n_skipped": len(image_set.skipped),
        "passed_over": image_set.passed_over(),
        "seconds": {
            "load": round(ready.loading, 2),
            **{name: round(value, 2) for name, value in fitted.seconds.items()},
            "predict": round(predicting, 2),
        },
        "images_per_second": round(fitted.images_per_second, 1),
        **device.peak_memory_mb(),
        **ready.record["device"],
        "versions": ready.record["versions"],
        "out": str(ready.directory.path),
    }


def _left_behind(
    ready: Prepared,
    summary: dict[str, Any],
    prediction: Prediction,
    drawn: Any,
    alike: Likeness | None,
) -> FinishedRun:
    """The finished run, without reading it back."""
    image_set = ready.image_set
    return FinishedRun(
        ready.directory.path,
        ready.record,
        summary,
        image_set.ids,
        np.asarray(prediction.assignments),
        confidence(prediction),
        image_set.labels,
        np.asarray(prediction.features),
        flat_map(drawn),
        image_set.skipped,
        None if alike is None else alike.outlier,
        () if alike is None else tuple(tuple(group.tolist()) for group in alike.groups),
    )


def _write_clustering(
    directory: RunDirectory,
    image_set: catalogue.ImageSet,
    prediction: Prediction,
    artifacts: dict[str, Any],
    alike: Likeness | None,
) -> None:
    """Write assignments.csv, embeddings.npz and, for features, duplicates.csv."""
    kept = {n: np.asarray(v) for n, v in artifacts.items() if n != "mapped"}
    outlier = None if alike is None else alike.outlier
    write_assignments(directory, image_set, prediction, kept.pop("noise", None), outlier)
    if alike is not None:
        write_duplicates(directory, image_set, alike.groups)
    found = {"features": prediction.features, "probabilities": prediction.probabilities}
    arrays: dict[str, Any] = {**found, **kept}
    directory.write_arrays("embeddings.npz", **arrays)
