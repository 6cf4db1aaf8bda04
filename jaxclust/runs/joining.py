"""Joining the processes that a cluster's scheduler started."""

from dataclasses import replace

from jaxclust.core import processes
from jaxclust.runs.options import Options


def joined(options: Options) -> Options:
    """The options with this process's number, once the others are joined; see `distributed`.

    Raises:
        InputError: there is no scheduler, or another way to join is given too.
    """
    if not options.distributed:
        return options
    count, index = processes.join_as_told(
        options.distributed, options.coordinator, options.num_processes, options.process_id
    )
    return replace(options, distributed=False, num_processes=count, process_id=index)
