"""Joining the processes that a cluster's scheduler started."""

from dataclasses import replace

from jaxclust.core import processes
from jaxclust.core.errors import InputError
from jaxclust.runs.options import Options


def joined(options: Options) -> Options:
    """The options with this process's number, once the others are joined; see `distributed`.

    Raises:
        InputError: there is no scheduler, or another way to join is given too.
    """
    if not options.distributed:
        return options
    if options.coordinator is not None or options.num_processes != 1:
        raise InputError(
            "‹distributed› and ‹coordinator› are two ways to join processes; give one of them"
        )
    count, index = processes.join_cluster()
    return replace(options, distributed=False, num_processes=count, process_id=index)
