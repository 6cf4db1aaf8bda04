"""TensorBoard's event files and projector, without TensorFlow."""

import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.runs.finished import FinishedRun
from jaxclust.report.text import shown
from jaxclust.report.thumbnails import Draw, sprite

# The projector shows no more pictures, and a sprite no larger than this.
_SPRITE, _SIDE = 8192, 48


def check_available() -> None:
    """InputError where tensorboard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("event files need tensorboard; pip install 'jaxclust[tensorboard]'")


class Events:
    """An event file of scalars in a run's directory.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.writer = EventFileWriter(str(folder))
        self.begun = False

    def add(self, row: Mapping[str, Any]) -> None:
        """Every number of a line of metrics.jsonl, under its phase's name."""
        from tensorboard.compat.proto import event_pb2, summary_pb2

        # Generated modules, whose classes no type checker sees.
        event: Any = event_pb2
        summary: Any = summary_pb2
        phase, step = row.get("phase", "run"), int(row["step"])
        values = [
            summary.Summary.Value(tag=f"{phase}/{name}", simple_value=value)
            for name, value in row.items()
            if isinstance(value, int | float) and name != "step"
        ]
        if not self.begun:
            # What a run that was killed wrote of these steps is then passed over.
            start = event.SessionLog(status=event.SessionLog.START)
            self.writer.add_event(event.Event(step=step, wall_time=time.time(), session_log=start))
            self.begun = True
        told = summary.Summary(value=values)
        self.writer.add_event(event.Event(step=step, wall_time=time.time(), summary=told))

    def close(self) -> None:
        """Write what is held back."""
        self.writer.close()


def write_projector(run: FinishedRun, draw: Draw | None, folder: Path) -> None:
    """Features, names and pictures of a run's images for `tensorboard --logdir FOLDER`.

    Args:
        run: the finished run.
        draw: its pictures; None: points without.
        folder: made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    n = len(run.ids)
    features = run.features.reshape(n, -1)
    lines = ("\t".join(f"{value:.6g}" for value in row) for row in features)
    (folder / "features.tsv").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    columns = {"id": [shown(name) for name in run.ids], "cluster": run.clusters}
    columns["confidence"] = [f"{value:.4g}" for value in run.confidence]
    if run.labels is not None:
        columns["label"] = run.labels
    rows = zip(*columns.values(), strict=True)
    table = [tuple(columns), *rows]
    text = "".join("\t".join(map(str, row)) + "\n" for row in table)
    (folder / "metadata.tsv").write_text(text, "utf-8")
    pictures = ""
    side = min(_SIDE, int(_SPRITE / np.ceil(np.sqrt(n))))
    if draw is not None and side >= 4:
        sprite(draw, np.arange(n), side).save(folder / "sprite.png")
        pictures = (
            f'  sprite {{ image_path: "sprite.png" single_image_dim: {side} '
            f"single_image_dim: {side} }}\n"
        )
    (folder / "projector_config.pbtxt").write_text(
        'embeddings {\n  tensor_name: "features"\n  tensor_path: "features.tsv"\n'
        f'  metadata_path: "metadata.tsv"\n{pictures}}}\n',
        "utf-8",
    )
