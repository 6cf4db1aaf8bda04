"""Checkpoints: the state and the position in the data, written as a whole or not at all."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxclust.core.errors import InputError
from jaxclust.core.keys import data_shape, host_arrays, typed
from jaxclust.core.types import TrainState
from jaxclust.training.hooks import Moment
from jaxclust.training.starting import Position

_KEEP = 2
# A checkpoint is numbered by its phase and step: more steps than any phase takes.
_PHASE = 10**12


class Checkpoints:
    """The checkpoints of one run, newest last.

    Orbax writes each into a temporary folder and renames it, so that a killed
    process leaves either a whole checkpoint or none.

    Args:
        folder: where they lie; made when the first is saved.
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

            logging.getLogger("absl").setLevel(logging.ERROR)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=_KEEP, enable_async_checkpointing=False
            )
            if jax.process_count() > 1:
                # One process of a run saves and restores; the others take no part in it.
                me = jax.process_index()
                options.multiprocessing_options = ocp.options.MultiprocessingOptions(
                    primary_host=me, active_processes={me}
                )
                # Which orbax makes only where all processes take part.
                self.folder.mkdir(parents=True, exist_ok=True)
                options.create = False
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        return self._manager

    def at(self, moment: Moment, now: bool) -> None:
        """:meth:`save`, as a hook of `training.fit`."""
        self.save(moment.borrowed, moment.position, now)

    def due(self, now: bool = False) -> bool:
        """Whether it is time to save."""
        return now or time.monotonic() - self.saved_at >= self.every

    def save(self, state: TrainState, position: Position, now: bool = False) -> None:
        """Save if `now` or if one is due."""
        if not self.due(now):
            return
        import orbax.checkpoint as ocp

        serial = position.phase * _PHASE + position.step
        if serial in self.manager().all_steps():
            return
        self.manager().save(
            serial,
            args=ocp.args.Composite(
                # NumPy arrays: where they lay on devices is not part of a checkpoint.
                state=ocp.args.StandardSave(_as_dict(host_arrays(state))),
                position=ocp.args.JsonSave(
                    {
                        "phase": position.phase,
                        "step": position.step,
                        "seconds": list(position.seconds),
                        "begun": position.begun,
                    }
                ),
            ),
        )
        self.saved_at = time.monotonic()

    def restore(self, template: Callable[[int], TrainState]) -> tuple[TrainState, Position] | None:
        """The newest checkpoint, or None where there is none.

        Args:
            template: shapes of the state inside a phase.

        Raises:
            InputError: the checkpoint is damaged, or another run's.
        """
        if not self.folder.is_dir():
            return None
        import orbax.checkpoint as ocp

        serial = self.manager().latest_step()
        if serial is None:
            return None
        try:
            found = self.manager().restore(
                serial, args=ocp.args.Composite(position=ocp.args.JsonRestore())
            )["position"]
            position = Position(
                int(found["phase"]),
                int(found["step"]),
                tuple(found["seconds"]),
                bool(found["begun"]),
            )
            expected = template(position.phase)
            plain = jax.tree.map(lambda x: jax.ShapeDtypeStruct(*data_shape(x)), expected)
            restored = self.manager().restore(
                serial, args=ocp.args.Composite(state=ocp.args.StandardRestore(_as_dict(plain)))
            )["state"]
            _check_shapes(restored, _as_dict(plain))
        except Exception as error:  # orbax and tensorstore raise many kinds
            reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else ""
            raise InputError(
                f"the checkpoint {self.folder / str(serial)} is damaged or of another run "
                f"({type(error).__name__}: {reason}); remove that folder to go on from the one "
                "before, or start anew with --overwrite"
            ) from error
        leaves = jax.tree.leaves(restored)
        found = jax.tree.unflatten(jax.tree.structure(expected), leaves)
        return typed(found, expected), position

    def close(self) -> None:
        """Release orbax's threads."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None


def _as_dict(state: TrainState) -> dict[str, Any]:
    """The leaves under flat, ordered names: independent of the classes around them."""
    leaves, _ = jax.tree.flatten_with_path(state)
    return {f"{i:04d}{jax.tree_util.keystr(path)}": leaf for i, (path, leaf) in enumerate(leaves)}


def _check_shapes(restored: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, leaf in expected.items():
        found = restored[name]
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise ValueError(f"{name} is {found.dtype}{found.shape}, not {leaf.dtype}{leaf.shape}")
