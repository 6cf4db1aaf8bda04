"""Checkpoints: the state and the position in the data, written completely or not at all."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxclust.core.errors import InputError, first_line
from jaxclust.core.types import TrainState
from jaxclust.training import stored
from jaxclust.training.hooks import Moment
from jaxclust.training.orbax_quietly import number_of, quietly
from jaxclust.training.starting import Position

_KEEP = 2
# A checkpoint is numbered by its phase and step: more steps than any phase takes.
_PHASE = 10**12
# What orbax writes besides the values: its own descriptions, and some for every array.
_BESIDE, _BESIDE_EACH = 2**15, 2**10


class Checkpoints:
    """The checkpoints of one run, newest last.

    Orbax writes each into a temporary folder and renames it, so that a killed
    process leaves either a whole checkpoint or none.

    Args:
        folder: where they are; created when the first is saved.
        every: seconds between two; 0 saves after every chunk.
    """

    def __init__(self, folder: Path, every: float) -> None:
        self.folder, self.every = folder.absolute(), every
        self.saved_at = time.monotonic()
        self._manager: Any = None

    def manager(self) -> Any:
        """Orbax's manager, imported and opened when first needed."""
        if self._manager is None:
            import orbax.checkpoint as ocp

            options = ocp.CheckpointManagerOptions(
                max_to_keep=_KEEP, enable_async_checkpointing=False
            )
            if jax.process_count() > 1:
                # One process of a run saves and restores; the others take no part in it.
                me = jax.process_index()
                options.multiprocessing_options = ocp.options.MultiprocessingOptions(
                    primary_host=me, active_processes={me}
                )
                # Orbax creates it only if all processes take part.
                self.folder.mkdir(parents=True, exist_ok=True)
                options.create = False
            handlers = {
                "state": ocp.StandardCheckpointHandler(),
                "position": ocp.JsonCheckpointHandler(),
            }
            with quietly():
                self._manager = ocp.CheckpointManager(
                    self.folder, options=options, item_handlers=handlers
                )
        return self._manager

    def at(self, moment: Moment, now: bool) -> None:
        """:meth:`save`, as a hook of `training.fit`."""
        self.save(moment.borrowed, moment.position, now)

    def due(self, now: bool = False) -> bool:
        """Whether it is time to save."""
        return now or time.monotonic() - self.saved_at >= self.every

    def save(self, state: TrainState, position: Position, now: bool = False) -> None:
        """Save the state (of arrays and keys, typed or raw) if `now` or if one is due.

        Raises:
            OSError: it cannot be written; earlier ones are kept.
        """
        if not self.due(now):
            return
        import orbax.checkpoint as ocp

        serial = position.phase * _PHASE + position.step
        if serial in self.manager().all_steps():
            return
        # NumPy arrays: their placement on devices is not part of a checkpoint.
        leaves = jax.device_get(stored.leaves_of(state))
        at = {
            "phase": position.phase,
            "step": position.step,
            "seconds": list(position.seconds),
            "begun": position.begun,
            "written_by": stored.written_by(state),
        }
        content = ocp.args.Composite(
            state=ocp.args.StandardSave(leaves), position=ocp.args.JsonSave(at)
        )
        try:
            self._check_room(leaves)
            with quietly():
                self.manager().save(serial, args=content)
        except Exception as error:  # tensorstore has no error type of its own
            number = number_of(error)
            if number is None:
                raise
            raise OSError(number, os.strerror(number), str(self.folder)) from error
        self.saved_at = time.monotonic()

    def _check_room(self, leaves: dict[str, Any]) -> None:
        """OSError if the disk is full: orbax's threads would keep running after a failed write."""
        size = sum(leaf.nbytes + _BESIDE_EACH for leaf in leaves.values()) + _BESIDE
        trial = self.folder.parent / f".checkpoint.{os.getpid()}.jaxclust-tmp"
        try:
            with trial.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        finally:
            trial.unlink(missing_ok=True)

    def restore(self, template: Callable[[int], TrainState]) -> tuple[TrainState, Position] | None:
        """The newest checkpoint, or None if there is none.

        Args:
            template: shapes and dtypes of the state inside a phase.

        Raises:
            InputError: it is from another run or version, or was written with other settings of JAX
                (the message names what differs); or it cannot be read.
        """
        if not self.folder.is_dir():
            return None
        serial = self.manager().latest_step()
        if serial is None:
            return None
        path = self.folder / str(serial)
        position, written_by = self._position(serial, path)
        expected = template(position.phase)
        found = self._read(path, lambda: dict(self.manager().item_metadata(serial)["state"]))
        stored.check_same(found, written_by, expected, path)
        restored = self._read(path, lambda: self._values(serial, expected))
        return stored.state_of(restored, expected), position

    def _position(self, serial: int, path: Path) -> tuple[Position, dict[str, Any]]:
        """Where the run stood, and what wrote the checkpoint (empty for early versions)."""
        import orbax.checkpoint as ocp

        def read() -> tuple[Position, dict[str, Any]]:
            found = self.manager().restore(
                serial, args=ocp.args.Composite(position=ocp.args.JsonRestore())
            )["position"]
            phase, step, begun = int(found["phase"]), int(found["step"]), bool(found["begun"])
            seconds = tuple(map(float, found["seconds"]))
            return Position(phase, step, seconds, begun), found.get("written_by", {})

        return self._read(path, read)

    def _values(self, serial: int, expected: TrainState) -> dict[str, Any]:
        import orbax.checkpoint as ocp

        shapes = ocp.args.StandardRestore(stored.shapes_of(expected))
        return self.manager().restore(serial, args=ocp.args.Composite(state=shapes))["state"]

    def _read(self, path: Path, read: Callable[[], Any]) -> Any:
        """The result of `read`; InputError for any error in it."""
        try:
            with quietly():
                return read()
        except MemoryError:
            raise
        except Exception as error:  # orbax and tensorstore raise many kinds
            raise InputError(self._unreadable(path, error)) from error

    def _unreadable(self, path: Path, error: Exception) -> str:
        """What to say about a checkpoint that cannot be read; never to delete it."""
        told = f"the checkpoint {path} cannot be read ({type(error).__name__}: {first_line(error)})"
        if isinstance(error, PermissionError) or "PERMISSION_DENIED" in str(error):
            return f"{told}; make it readable"
        earlier = [step for step in self.manager().all_steps() if str(step) != path.name]
        cure = "start over with another ‹out›"
        if earlier:
            cure = f"move it elsewhere to continue from {max(earlier)}"
        return f"{told}: its files are damaged or missing; restore a copy of it, or {cure}"

    def close(self) -> None:
        """Release orbax's threads."""
        if self._manager is not None:
            with quietly():
                self._manager.close()
            self._manager = None
