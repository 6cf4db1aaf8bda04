"""What a running fit shows and logs: a bar on a terminal, plain lines elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from jaxclust.core.visible import visible
from jaxclust.runs.directory import RunDirectory
from jaxclust.runs.events import Events
from jaxclust.training import hooks

# Stages on the host report their progress here.
_messages = logging.getLogger("jaxclust.progress")
_messages.setLevel(logging.INFO)
# A reporter shows these; the root logger's handlers would repeat them, or show them unasked.
_messages.propagate = False
_messages.addHandler(logging.NullHandler())


class _Listener(logging.Handler):
    """Passes messages from running stages on to a reporter."""

    def __init__(self, reporter: "Reporter") -> None:
        super().__init__()
        self.reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self.reporter.say(record.getMessage())


class Reporter:
    """Turns a fit's chunks into metrics.jsonl and progress on stderr.

    Args:
        directory: the open run directory; None writes nothing.
        log_every: steps between two lines of metrics.jsonl; an epoch's last step is
            always logged.
        quiet: show nothing.
        events: write TensorBoard's event files beside metrics.jsonl.
    """

    def __init__(
        self, directory: RunDirectory | None, log_every: int, *, quiet: bool, events: bool = False
    ) -> None:
        self.directory, self.log_every, self.quiet = directory, log_every, quiet
        self.wants_events = events and directory is not None
        self.home, self.label = directory, ""
        self.events: Events | None = None
        self.bar: Progress | None = None
        self.tasks: dict[str, Any] = {}
        self.last_line = (0.0, "", -1)

    def __enter__(self) -> "Reporter":
        if not self.quiet and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description:10}"),
                BarColumn(),
                TextColumn("epoch {task.completed:.1f}/{task.total:.0f}  {task.fields[text]}"),
            )
            bar = Progress(*columns, console=Console(stderr=True))
            bar.start()
            self.bar = bar
        self.listener = _Listener(self)
        _messages.addHandler(self.listener)
        return self

    def __exit__(self, *_: object) -> None:
        _messages.removeHandler(self.listener)
        if self.bar is not None:
            self.bar.stop()
        if self.events is not None:
            self.events.close()

    def write_to(self, directory: RunDirectory, label: str) -> None:
        """Log to another folder from now on, such as that of one of several starts.

        Args:
            directory: the folder.
            label: put before what is shown.
        """
        if self.home is not None:
            self.directory = directory
        self.label = label

    def chunk(self, progress: hooks.Progress) -> None:
        """Log the chunk's steps that are due and show where the run stands."""
        speed = progress.images_per_second
        common: dict[str, Any] = {"phase": progress.phase}
        if speed:  # unknown in a phase's first chunk, which compiles
            common["images_per_second"] = round(speed, 1)
        self._log(
            {**step, **common}
            for step in progress.steps
            if step["step"] % self.log_every == 0 or step["epoch"].is_integer()
        )
        if self.quiet:
            return
        text = f"loss {progress.steps[-1]['loss']:.4g}"
        if speed:
            text += f"  {speed:,.0f} images/s  {_duration(progress.seconds_left)} left"
        if self.bar is not None:
            name = f"{self.label}{progress.phase}"
            if name not in self.tasks:
                self.tasks[name] = self.bar.add_task(name, total=progress.epochs, text="")
            self.bar.update(self.tasks[name], completed=progress.epoch, text=text)
        else:
            self._line(progress, text)

    def _log(self, rows: Iterable[dict[str, Any]]) -> None:
        if self.directory is None:
            return
        rows = list(rows)
        self.directory.append_metrics(rows)
        if self.directory is not self.home:
            return
        if self.wants_events and self.events is None:
            self.events = Events(self.directory.path)
        if self.events is not None:
            for row in rows:
                self.events.add(row)

    def _line(self, progress: hooks.Progress, text: str) -> None:
        """Print at most one line every five seconds, and one when a phase ends."""
        now, whole = time.monotonic(), int(progress.epoch)
        ended = progress.epoch == progress.epochs
        if not ended and (
            now - self.last_line[0] < 5 or self.last_line[1:] == (progress.phase, whole)
        ):
            return
        self.last_line = (now, progress.phase, whole)
        print(
            f"{self.label}{progress.phase} epoch {progress.epoch:.4g}/{progress.epochs}  {text}",
            file=sys.stderr,
            flush=True,
        )

    def say(self, text: str) -> None:
        """Show a message about what happens between steps."""
        if self.quiet:
            return
        text = visible(text)
        if self.bar is not None:
            self.bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def evaluated(self, row: dict[str, Any]) -> None:
        """Log a full pass; scores that do not exist are left out."""
        row = {name: value for name, value in row.items() if value is not None}
        self._log([row])
        shown = ("nmi", "ari", "acc", "empty_clusters", "churn")
        text = "  ".join(f"{name} {row[name]:.4g}" for name in shown if name in row)
        self.say(f"{self.label}{row['phase']} epoch {row['epoch']}  {text}")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"
