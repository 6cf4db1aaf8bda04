"""TensorBoard's event files, without TensorFlow."""

import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxclust.core.errors import InputError


def check_available() -> None:
    """InputError if tensorboard is not installed."""
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

        # Generated modules: type checkers do not see their classes.
        event: Any = event_pb2
        summary: Any = summary_pb2
        phase, step = row.get("phase", "run"), int(row["step"])
        values = [
            summary.Summary.Value(tag=f"{phase}/{name}", simple_value=value)
            for name, value in row.items()
            if isinstance(value, int | float) and name != "step"
        ]
        if not self.begun:
            # TensorBoard then ignores what a killed run wrote for these steps.
            start = event.SessionLog(status=event.SessionLog.START)
            self.writer.add_event(event.Event(step=step, wall_time=time.time(), session_log=start))
            self.begun = True
        told = summary.Summary(value=values)
        self.writer.add_event(event.Event(step=step, wall_time=time.time(), summary=told))

    def close(self) -> None:
        """Write what is still buffered, and close the file."""
        self.writer.close()
