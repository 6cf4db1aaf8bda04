"""Several processes that share a run: joining them, telling them apart, losing one."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxclust.core import rendezvous
from jaxclust.core.errors import InputError, RunError, first_line

# Seconds that processes wait for each other at the start.
_PATIENCE = 120


# Seconds without a sign of life after which a process counts as lost.
_SILENCE = 40


def several() -> bool:
    """Whether more than one process shares the run."""
    return jax.process_count() > 1


def first() -> bool:
    """Whether this is the first process, which writes for all."""
    return jax.process_index() == 0


def share_of_process() -> slice:
    """This process's share of many things that all processes know."""
    return slice(jax.process_index(), None, jax.process_count())


def largest_of_processes(values: np.ndarray) -> np.ndarray:
    """The element-wise maximum of all processes' arrays, on all processes."""
    if jax.process_count() == 1:
        return values
    return np.asarray(multihost_utils.process_allgather(values)).max(axis=0)


_RESUME = "the last checkpoint is kept: start all of them again with --resume"
# Of commands that go on by themselves.
AGAIN = "start all of them again with the same command"
# Names in the errors of the libraries through which devices communicate.
_TRANSPORTS = ("Gloo", "NCCL", "coordination service", "CoordinationService")


@contextmanager
def telling_lost_processes(advice: str = _RESUME) -> Iterator[None]:
    """Say what to do when an exchange between processes breaks.

    Args:
        advice: what the user can do.

    When silent processes count as lost, JAX ends this one and names their numbers ("tasks"), so
    this waits long enough for that.

    Raises:
        RunError: JAX named none.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        broken = any(name in str(error) for name in _TRANSPORTS)
        # An InputError is a ValueError too, and may mean that there is no device to count.
        if isinstance(error, InputError) or not broken or jax.process_count() == 1:
            raise
        said = (
            f"another of the run's {jax.process_count()} processes no longer answers "
            f"({first_line(error)}); {advice}"
        )
        print(f"jaxclust: {said}; which one it was follows", file=sys.stderr, flush=True)
        time.sleep(2 * _SILENCE)
        raise RunError(said) from error


def leave(status: int) -> None:
    """End a process that failed while others may wait for it, without waiting for them."""
    if status and jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def check_platform() -> None:
    """Make JAX look for its devices, before anything else asks it to.

    Raises:
        InputError: there are none of the kind that JAX_PLATFORMS asks for.
    """
    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        # The latter if JAX knows the kind but finds no plugin for it.
        asked = jax.config.jax_platforms or os.environ.get("JAX_PLATFORMS", "")
        said = first_line(error).split(" (set JAX_PLATFORMS")[0]
        why = f" ({said})" if isinstance(error, RuntimeError) else ""
        raise InputError(
            f"JAX finds no device for JAX_PLATFORMS={asked}{why}; unset it, or set it to cpu"
        ) from error


def join(coordinator: str | None, processes: int, process: int) -> None:
    """Make this process one of several that share a run; call it before JAX is used.

    Args:
        coordinator: HOST:PORT where the first process listens; None: it is alone.
        processes: how many there are.
        process: the index of this one.

    Raises:
        InputError: the three do not fit together, or the others cannot be reached.
    """
    if coordinator is None and jax.distributed.is_initialized():
        return
    if coordinator is None:
        if processes != 1 or process != 0:
            raise InputError("several processes need ‹coordinator›, the HOST:PORT of the first")
        return
    if not 0 <= process < processes:
        raise InputError(
            f"‹process_id› must lie between 0 and ‹num_processes› - 1 ({processes - 1}), not "
            f"{process}"
        )
    if jax.distributed.is_initialized():
        return
    rendezvous.meet(coordinator, processes, process, _PATIENCE)
    try:
        _initialize(coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"process {process} of {processes} cannot join the others at {coordinator} "
            f"({first_line(error)}); check ‹coordinator› and that all are started"
        ) from error


def join_as_told(
    distributed: bool, coordinator: str | None, processes: int, process: int
) -> tuple[int, int]:
    """Join the others in the way that a command was told to; see :func:`join`.

    Args:
        distributed: a scheduler started and numbered the processes.
        coordinator: as for :func:`join`.
        processes: as for :func:`join`.
        process: as for :func:`join`.

    Returns:
        (number of processes, index of this one).

    Raises:
        InputError: two ways at once, or one that does not work.
    """
    if not distributed:
        join(coordinator, processes, process)
        return processes, process
    if coordinator is not None or processes != 1:
        raise InputError(
            "‹distributed› and ‹coordinator› are two ways to join processes; give one of them"
        )
    return join_cluster()


def join_cluster() -> tuple[int, int]:
    """Join the processes that a cluster's scheduler started; call it before JAX is used.

    JAX reads who is who from what Slurm, Open MPI or Kubernetes tell each process.

    Returns:
        (number of processes, index of this one).

    Raises:
        InputError: no scheduler has started this process, or the others cannot be reached.
    """
    if not jax.distributed.is_initialized():
        try:
            _initialize()
        except (ValueError, RuntimeError) as error:
            raise InputError(
                "‹distributed› is for processes started by Slurm (srun), Open MPI (mpirun) or "
                f"Kubernetes, and JAX cannot join them here ({first_line(error)}); else give "
                "‹coordinator›, ‹num_processes› and ‹process_id›"
            ) from error
    return jax.process_count(), jax.process_index()


def _initialize(*who: Any) -> None:
    # Orbax would ask this service at every checkpoint, with numbers too large for it.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        *who, initialization_timeout=_PATIENCE, heartbeat_timeout_seconds=_SILENCE
    )
