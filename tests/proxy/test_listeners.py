from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway_proxy.listeners import HTTP, Listeners, PortUnavailable, key_of
from portway_proxy.snapshot import Listener, Origin

ORIGIN = Origin("Service", "db", "postgres", "spec.ports[0]")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def listener(port: int) -> Listener:
    return Listener(port, "db/postgres:5432", ORIGIN)


def connects(port: int, address: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((address, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    opened = Listeners("127.0.0.1", 3)
    yield opened
    opened.close()


def test_every_worker_has_a_socket_of_its_own_on_the_one_port(listeners: Listeners) -> None:
    port = listeners.open(HTTP, 0)
    sockets = [listeners.of_worker(slot)[HTTP] for slot in range(3)]
    assert {sock.getsockname() for sock in sockets} == {("127.0.0.1", port)}
    assert len({sock.fileno() for sock in sockets}) == 3
    assert all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for sock in sockets)
    assert connects(port)


def test_a_connection_waits_in_the_backlog_while_nobody_accepts(listeners: Listeners) -> None:
    port = listeners.open(HTTP, 0)
    clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(30)]
    for client in clients:
        client.sendall(b"x")
    accepted = 0
    for slot in range(3):
        while True:
            try:
                listeners.of_worker(slot)[HTTP].accept()[0].close()
            except BlockingIOError:
                break
            accepted += 1
    assert accepted == 30
    for client in clients:
        client.close()


def test_ports_are_opened_as_they_are_wanted_and_closed_only_when_told(listeners: Listeners) -> None:
    first, second = free_port(), free_port()
    listeners.want([listener(first)])
    listeners.want([listener(second)])
    assert connects(first)
    assert connects(second)
    listeners.drop_unwanted()
    assert not connects(first)
    assert connects(second)
    assert list(listeners.of_worker(0)) == [f"tcp/{second}"]


def test_a_socket_that_stays_wanted_stays_the_same(listeners: Listeners) -> None:
    port = free_port()
    listeners.want([listener(port)])
    before = listeners.of_worker(1)
    listeners.want([listener(port), listener(free_port())])
    listeners.drop_unwanted()
    assert listeners.of_worker(1)[f"tcp/{port}"] is before[f"tcp/{port}"]


def test_the_http_port_is_never_dropped(listeners: Listeners) -> None:
    port = listeners.open(HTTP, 0)
    listeners.want([])
    listeners.drop_unwanted()
    assert connects(port)


def test_a_port_that_is_taken_is_a_problem_of_itself_alone_and_is_tried_again(listeners: Listeners) -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        listeners.want([listener(taken), listener(free)])
        [problem] = listeners.problems
        assert problem.code == "port_unavailable"
        assert problem.origin == ORIGIN
        assert f"Port {taken} of 127.0.0.1 cannot be opened: another program" in problem.found
        assert connects(free)
    listeners.want([listener(taken), listener(free)])
    assert listeners.problems == ()
    assert connects(taken)


def test_a_problem_is_logged_once_not_at_every_call(listeners: Listeners, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        for _ in range(3):
            listeners.want([listener(other.getsockname()[1])])
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_port_of_another_proxy_of_the_same_user_is_not_shared(listeners: Listeners) -> None:
    port = listeners.open(HTTP, 0)
    second = Listeners("127.0.0.1", 2)
    with pytest.raises(PortUnavailable, match=f"Port {port} of 127.0.0.1"):
        second.open(HTTP, port)
    second.close()


def test_a_layer_4_listener_never_shares_our_own_http_port(listeners: Listeners) -> None:
    port = listeners.open(HTTP, 0)
    listeners.want([listener(port)])
    assert [problem.code for problem in listeners.problems] == ["port_unavailable"]
    assert list(listeners.of_worker(0)) == [HTTP]


@pytest.mark.parametrize("port", [65536, 1 << 40])
def test_a_port_beyond_the_last_is_a_problem(listeners: Listeners, port: int) -> None:
    listeners.want([listener(port)])
    assert "ports end at 65535" in listeners.problems[0].found


def test_a_malformed_address_is_said_to_be_malformed() -> None:
    with pytest.raises(PortUnavailable, match="the address is malformed"):
        Listeners("300.1.1.1", 1).open(HTTP, 0)


@pytest.mark.parametrize("address", ["::1", "::"])
def test_ipv6_addresses_work(address: str) -> None:
    listeners = Listeners(address, 2)
    port = listeners.open(HTTP, 0)
    assert connects(port, "::1")
    listeners.close()
    assert not connects(port, "::1")


def test_a_failure_leaves_no_descriptor_open(listeners: Listeners) -> None:
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    with socket.create_server(("127.0.0.1", 0)) as other:
        listeners.want([listener(other.getsockname()[1])])
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


def test_a_key_names_transport_and_port() -> None:
    assert key_of(listener(5432)) == "tcp/5432"
