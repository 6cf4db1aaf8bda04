"""Data parallelism: one program on several devices, of one process or of several.

Every device holds the same state and the same images and computes its share of each
batch; inside the step, the devices exchange what they must know about each other's shares, over the
named mapped axis (collectives.py). The state is therefore one pytree of replicated arrays, never
one per device, and saving or predicting needs no special case.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxclust.core import device, keys
from jaxclust.core.errors import InputError
from jaxclust.core.types import Method

AXIS = "devices"

Tree = TypeVar("Tree")


class Group(NamedTuple):
    """The devices that a run splits its batches over."""

    local: tuple[Any, ...]  # of this process
    processes: int = 1
    process: int = 0  # the index of this one

    @property
    def size(self) -> int:
        """Devices of all processes."""
        return len(self.local) * self.processes

    def pmap(
        self, function: Callable, in_axes: Sequence[int | None], donate: Sequence[int] = ()
    ) -> Callable:
        """`function` on every device, compiled; its results are the same on all of them.

        Args:
            function: may use collectives over :data:`AXIS`.
            in_axes: 0 for an argument with one row per local device, None for one that each device
                gets whole.
            donate: arguments whose memory the results may reuse.
        """
        options: dict[str, Any] = {"in_axes": tuple(in_axes), "out_axes": None}
        if self.processes > 1:
            # With several processes, arguments are this process's part; only pmap itself, not a jit
            # around it, puts the parts together.
            everyone = tuple(
                d for p in range(self.processes) for d in _of_process(p)[: len(self.local)]
            )
            return jax.pmap(
                function, AXIS, **options, devices=everyone, donate_argnums=tuple(donate)
            )
        mapped = jax.pmap(function, AXIS, **options, devices=self.local)
        return device.jit(mapped, donate_argnums=tuple(donate))

    def replicate(self, tree: Tree) -> Tree:
        """Every leaf whole on each local device."""
        mesh = Mesh(np.asarray(self.local), (AXIS,))
        return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))

    def spread(self, parts: np.ndarray) -> Any:
        """Each local device's own part: [local, …], a row on each.

        pmap uses what is there already as it is, with several processes too.
        """
        mesh = Mesh(np.asarray(self.local), (AXIS,))
        return jax.device_put(parts, NamedSharding(mesh, PartitionSpec(AXIS)))

    def shares(self, rows: np.ndarray) -> np.ndarray:
        """The local devices' equal parts of the last axis: [..., b] -> [local, ..., b / size].

        Device d of all has the columns from d * b / size on, as `collectives.positions` says.
        """
        parts = np.stack(np.split(rows, self.size, axis=-1))
        first = self.process * len(self.local)
        return parts[first : first + len(self.local)]

    def copies(self, rows: np.ndarray) -> np.ndarray:
        """The whole table for each local device: [..., b] -> [local, ..., b]."""
        return np.broadcast_to(rows, (len(self.local), *rows.shape))

    def agree(self, number: int) -> int:
        """The first process's number, on all processes."""
        return number if self.processes == 1 else int(self.told(lambda: number, np.int32(0)))

    def any(self, flag: bool) -> bool:
        """Whether the flag is true on any process; the same answer on all."""
        if self.processes == 1:
            return flag
        return bool(np.any(multihost_utils.process_allgather(np.bool_(flag))))

    def told(self, compute: Callable[[], Tree], like: Tree) -> Tree:
        """What the first process computes, on all processes; the others wait.

        Args:
            compute: called by the first process alone.
            like: a tree of the result's shapes and dtypes.
        """
        if self.processes == 1:
            return compute()
        if self.process == 0:
            mine = keys.host_arrays(compute())
        else:
            mine = jax.tree.map(lambda leaf: np.zeros(*keys.data_shape(leaf)), like)
        return keys.typed(multihost_utils.broadcast_one_to_all(mine), like)


def _of_process(process: int) -> list[Any]:
    return [one for one in jax.devices() if one.process_index == process]


def shared_counts(method: Method, n_images: int) -> list[int]:
    """Numbers of rows that devices must be able to share evenly, for all phases with steps."""
    counts = []
    for phase in method.phases:
        if phase.step is not None and phase.epochs:
            if phase.batches.split == "batch":
                counts.append(min(phase.batches.size, n_images))
            counts += phase.batches.shared
    return counts


def choose(method: Method, n_images: int, wanted: int | None) -> Group | None:
    """The devices a run uses; None: one, without sharing.

    Args:
        method: built for one device.
        n_images: size of the set.
        wanted: this many local devices, or an error; None: as many as share its batches evenly.

    Raises:
        InputError: there are not that many, or they cannot share the batches.
    """
    available, processes = jax.local_device_count(), jax.process_count()
    counts = shared_counts(method, n_images)

    def uneven(devices: int) -> list[int]:
        return [count for count in counts if count % (devices * processes)]

    if wanted is None:
        even = [d for d in range(1, available + 1) if not uneven(d)]
        wanted = max(even) if counts and even else 1
    _check_available(wanted, available)
    total = wanted * processes
    if total > 1 and not counts:
        raise InputError(
            "this method takes no training steps that devices could share; run it on one"
        )
    if bad := uneven(wanted):
        even = [d for d in range(1, wanted) if not uneven(d)]
        instead = f"‹devices› {max(even)} or " if even else ""
        raise InputError(
            f"an update's {bad[0]} images cannot be shared evenly by {total} devices; give "
            f"{instead}batches that are a multiple of {total} (‹batch_size›, for ccnn ‹n_m›)"
        )
    if total == 1:
        return None
    return Group(tuple(jax.local_devices()[:wanted]), processes, jax.process_index())


def _check_available(wanted: int, available: int) -> None:
    if 1 <= wanted <= available:
        return
    more = f"XLA_FLAGS=--xla_force_host_platform_device_count={wanted}"
    on_cpu = jax.default_backend() == "cpu" and wanted > 1
    raise InputError(
        f"‹devices› must lie between 1 and {available}, not {wanted}"
        + (f"; for more on CPU set {more}" if on_cpu else "")
    )
