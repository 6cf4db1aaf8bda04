"""Processes that cannot meet are refused in words, and soon."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxclust.core import rendezvous
from jaxclust.core.errors import InputError


def free_port():
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize(
    "address",
    ["localhost", "localhost:", ":80", "localhost:0", "localhost:70000", "localhost:0x1f", "::",
     "garbage::", "http://localhost:80", "user@host:80", "a b:80", "", "[::1]", "1:2:3"],
)  # fmt: skip
def test_what_is_no_host_and_port_is_refused(address):
    for process in (0, 1):
        with pytest.raises(InputError, match="must be HOST:PORT"):
            rendezvous.meet(address, 2, process, patience=60)


def test_an_unknown_host_is_refused():
    with pytest.raises(InputError, match=r"the host nowhere\.invalid cannot be found"):
        rendezvous.meet("nowhere.invalid:8476", 2, 1, patience=60)


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on port {port}"):
            rendezvous.meet(f"localhost:{port}", 2, 0, patience=60)


def test_an_address_that_leads_elsewhere_is_refused(monkeypatch):
    elsewhere = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", free_port()))]
    monkeypatch.setattr(rendezvous.socket, "getaddrinfo", lambda *_, **__: elsewhere)
    with pytest.raises(InputError, match="does not lead to this machine"):
        rendezvous.meet(f"node7:{free_port()}", 2, 0, patience=60)


def test_those_who_do_not_come_are_named():
    address = f"localhost:{free_port()}"
    with pytest.raises(InputError, match=r"have not called at coordinator: 1, 2;"):
        rendezvous.meet(address, 3, 0, patience=0)
    with pytest.raises(InputError, match="no first process"):
        rendezvous.meet(address, 3, 1, patience=0)


@pytest.mark.parametrize("count", [2, 5])
def test_all_go_on_together_and_the_port_is_free_again(count):
    port = free_port()
    with ThreadPoolExecutor(count) as pool:
        # The first comes last.
        calls = [
            pool.submit(rendezvous.meet, f"localhost:{port}", count, process, 600)
            for process in reversed(range(count))
        ]
        for call in calls:
            call.result()
    socket.create_server(("localhost", port)).close()


def test_one_of_another_run_is_refused():
    port = free_port()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(rendezvous.meet, f"localhost:{port}", 2, 0, 600)
        with pytest.raises(InputError, match="is not the first process of this run"):
            rendezvous.meet(f"localhost:{port}", 3, 2, 600)
        rendezvous.meet(f"localhost:{port}", 2, 1, 600)
        first.result()
