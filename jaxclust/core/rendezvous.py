"""Processes meet at an address before JAX does.

JAX ends a process with an abort and a stack trace if the others do not come, or if the address is
wrong. So the first process itself waits at the same port until all others have called; then it
releases them and the port.
"""

import contextlib
import re
import select
import socket
import time

from jaxclust.core.errors import InputError

_ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:/\[\]@]+)):(?P<port>\d{1,5})"
)
# Seconds for one attempt, and between two.
_ATTEMPT, _PAUSE = 3.0, 0.2
# What a process says when it calls, and what it hears when all have.
_HELLO, _GO, _NO = "jaxclust {process} of {processes}\n", b"go\n", b"no\n"


def meet(address: str, processes: int, process: int, patience: float) -> None:
    """Wait until all processes of a run have called at an address.

    Args:
        address: HOST:PORT of the first, with HOST in brackets if it is an IPv6 address.
        processes: how many there are.
        process: the index of this one.
        patience: seconds to wait for the others.

    Raises:
        InputError: not HOST:PORT, an unknown host, a port in use, a host that is not the first
            process's machine, or others that do not come.
    """
    host, port = parsed(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "no such name"
        raise InputError(
            f"‹coordinator› {address}: the host {host} cannot be found ({why})"
        ) from None
    places = [place[4] for place in found]
    last = time.monotonic() + patience
    if process:
        hello = _HELLO.format(process=process, processes=processes).encode()
        _call(address, places, hello, last)
        return
    try:
        server = _listening(port)
    except OSError as error:
        raise InputError(
            f"‹coordinator› {address}: the first process cannot listen on port {port} "
            f"({error.strerror}); give another port"
        ) from None
    with server, contextlib.ExitStack() as calls:
        _check_own(server, address, places)
        _gather(server, calls, processes, last)


def parsed(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT; InputError for anything else."""
    match = _ADDRESS.fullmatch(address)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise InputError(
            "‹coordinator› must be HOST:PORT with a port from 1 to 65535, such as node1:8476, not "
            f"'{address}'"
        )
    return match["six"] or match["host"], int(match["port"])


def _listening(port: int) -> socket.socket:
    """A socket that listens on all of this machine's addresses."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _check_own(server: socket.socket, address: str, places: list) -> None:
    """Call this process itself; InputError if the address does not lead to it."""
    for place in places:
        with contextlib.suppress(OSError), socket.create_connection(place[:2], _ATTEMPT) as call:
            mine = call.getsockname()[1]
            while select.select([server], [], [], _ATTEMPT)[0]:
                answered, caller = server.accept()
                answered.close()  # another process calls again
                if caller[1] == mine:
                    return
    raise InputError(
        f"‹coordinator› {address} does not lead to this machine, where the first process "
        "(‹process_id› 0) listens; give this machine's name or address"
    )


def _gather(
    server: socket.socket, calls: contextlib.ExitStack, processes: int, last: float
) -> None:
    """Wait until all others have called; then tell them to continue."""
    here: dict[int, socket.socket] = {}
    while len(here) < processes - 1:
        for process, call in list(here.items()):
            if _hung_up(call):
                del here[process]
        if time.monotonic() > last:
            missing = ", ".join(str(i) for i in range(1, processes) if i not in here)
            raise InputError(
                f"some of the run's {processes} processes have not called at ‹coordinator›: "
                f"{missing}; start all of them, each with its ‹process_id›"
            )
        if not select.select([server], [], [], _PAUSE)[0]:
            continue
        call = calls.enter_context(server.accept()[0])
        call.settimeout(_ATTEMPT)
        process = _named(call, processes)
        if process is not None and process not in here:
            here[process] = call
        else:
            with contextlib.suppress(OSError):
                call.sendall(_NO)
    for call in here.values():
        with contextlib.suppress(OSError):
            call.sendall(_GO)


def _named(call: socket.socket, processes: int) -> int | None:
    """Which process calls; None if it is not one of this run's."""
    try:
        said = call.recv(100).decode("ascii", "replace")
    except OSError:
        return None
    others = range(1, processes)
    return next((i for i in others if said == _HELLO.format(process=i, processes=processes)), None)


def _hung_up(call: socket.socket) -> bool:
    """Whether a process that called has ended since."""
    return bool(select.select([call], [], [], 0)[0])


def _call(address: str, places: list, hello: bytes, last: float) -> None:
    """Call the first process, which may be started later, and wait for its answer."""
    while time.monotonic() < last:
        heard = next(filter(None, (_answer(place, hello, last) for place in places)), b"")
        if heard == _GO:
            return
        if heard:  # empty: nobody is there yet, or the call was dropped
            raise InputError(
                f"‹coordinator› {address}: what listens there is not the first process of this "
                "run, or already has a process with this ‹process_id›; check ‹coordinator›, "
                "‹num_processes› and ‹process_id›"
            )
        time.sleep(_PAUSE)
    raise InputError(
        f"‹coordinator› {address}: no first process (‹process_id› 0) waiting for this one was "
        "found there in time; start all of them, and check host and port"
    )


def _answer(place: tuple, hello: bytes, last: float) -> bytes:
    """The answer from a place; empty if nobody listens or answers."""
    with contextlib.suppress(OSError), socket.create_connection(place[:2], _ATTEMPT) as call:
        call.sendall(hello)
        call.settimeout(max(1.0, last - time.monotonic()))
        return call.recv(len(_GO))
    return b""
