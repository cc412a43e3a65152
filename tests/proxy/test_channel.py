from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias

import pytest

from portway_proxy import channel
from portway_proxy.channel import (
    ANSWERS,
    COMMANDS,
    QUEUE,
    Answer,
    Applied,
    Apply,
    Channel,
    Command,
    Configure,
    Ready,
    Report,
    Sockets,
    pair,
    store,
    take_first,
    take_stored,
)
from portway_proxy.settings import ProxySettings

Taken: TypeAlias = tuple[Command | Answer, list[int]]


class Ends:
    """Both ends of a channel and what came out of them; None marks the end."""

    def __init__(self) -> None:
        near, far = pair()
        loop = asyncio.get_running_loop()
        self.at_worker: asyncio.Queue[Taken | None] = asyncio.Queue()
        self.at_supervisor: asyncio.Queue[Taken | None] = asyncio.Queue()
        self.far_sock = far
        self.supervisor: Channel[Answer] = Channel(
            loop,
            near,
            ANSWERS,
            lambda message, fds: self.at_supervisor.put_nowait((message, fds)),
            lambda: self.at_supervisor.put_nowait(None),
        )
        self.worker: Channel[Command] = Channel(
            loop,
            far,
            COMMANDS,
            lambda message, fds: self.at_worker.put_nowait((message, fds)),
            lambda: self.at_worker.put_nowait(None),
        )


async def take(queue: asyncio.Queue[Taken | None]) -> Taken | None:
    async with asyncio.timeout(5):
        return await queue.get()


def open_fds() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    before = open_fds()
    both = Ends()
    yield both
    both.supervisor.close()
    both.worker.close()
    assert open_fds() == before


async def test_messages_arrive_whole_and_in_order(ends: Ends) -> None:
    for number in range(50):
        ends.supervisor.send(Report(number))
    ends.worker.send(Ready())
    ends.worker.send(Applied(7))
    assert [await take(ends.at_worker) for _ in range(50)] == [(Report(number), []) for number in range(50)]
    assert await take(ends.at_supervisor) == (Ready(), [])
    assert await take(ends.at_supervisor) == (Applied(7), [])


async def test_a_listening_socket_passes_through(ends: Ends) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ends.supervisor.send(Sockets(("http",)), [listening.fileno()])
        taken = await take(ends.at_worker)
        assert taken is not None
        message, fds = taken
        assert message == Sockets(("http",))
        assert not os.get_inheritable(fds[0])
        with socket.socket(fileno=fds[0]) as same:
            assert same.getsockname() == listening.getsockname()


async def test_a_stored_payload_is_read_by_every_receiver(ends: Ends) -> None:
    data = os.urandom(3_000_000)
    fd = store(data)
    ends.supervisor.send(Apply(1), [fd])
    ends.supervisor.send(Apply(2), [fd])
    os.close(fd)
    for generation in (1, 2):
        taken = await take(ends.at_worker)
        assert taken is not None
        assert taken[0] == Apply(generation)
        assert take_stored(taken[1][0]) == data


async def test_what_does_not_fit_waits_with_its_descriptors_and_arrives_later(ends: Ends) -> None:
    loop = asyncio.get_running_loop()
    loop.remove_reader(ends.far_sock.fileno())
    fd = store(b"payload")
    for number in range(QUEUE):
        ends.supervisor.send(Apply(number), [fd])
    os.close(fd)
    loop.add_reader(ends.far_sock.fileno(), ends.worker._readable)
    for number in range(QUEUE):
        taken = await take(ends.at_worker)
        assert taken is not None
        assert taken[0] == Apply(number)
        assert take_stored(taken[1][0]) == b"payload"


async def test_a_peer_that_reads_nothing_is_given_up(ends: Ends) -> None:
    asyncio.get_running_loop().remove_reader(ends.far_sock.fileno())
    fd = store(b"payload")
    for number in range(QUEUE + 2000):
        ends.supervisor.send(Apply(number), [fd])
    os.close(fd)
    assert await take(ends.at_supervisor) is None
    assert ends.supervisor.closed


async def test_the_end_is_told_when_the_peer_closes(ends: Ends) -> None:
    ends.worker.send(Ready())
    ends.worker.close()
    assert await take(ends.at_supervisor) == (Ready(), [])
    assert await take(ends.at_supervisor) is None
    ends.supervisor.send(Report(1))  # harmless


async def test_own_close_is_not_told(ends: Ends) -> None:
    ends.supervisor.close()
    ends.supervisor.close()
    assert await take(ends.at_worker) is None
    assert ends.at_supervisor.empty()


async def test_bytes_that_are_no_message_end_the_channel(ends: Ends) -> None:
    ends.supervisor._sock.send(b"\xc1 not msgpack")
    assert await take(ends.at_worker) is None
    assert ends.worker.closed


async def test_descriptors_that_the_kernel_dropped_end_the_channel(ends: Ends) -> None:
    fd = store(b"x")
    socket.send_fds(ends.supervisor._sock, [b"\x80"], [fd] * (channel.MAX_FDS + 50))
    os.close(fd)
    assert await take(ends.at_worker) is None


async def test_the_first_message_is_taken_from_a_blocking_socket() -> None:
    near, far = pair()
    settings = ProxySettings(address="::1", workers=3)
    with near, far:
        sender: Channel[Answer] = Channel(
            asyncio.get_running_loop(), near, ANSWERS, lambda _message, _fds: None, lambda: None
        )
        sender.send(Configure(settings, b"chain", b"key"))
        assert take_first(far) == Configure(settings, b"chain", b"key")
        sender.close()
        with pytest.raises(EOFError):
            take_first(far)


def test_a_key_never_shows_in_a_repr() -> None:
    assert "secret" not in repr(Configure(ProxySettings(), b"chain", b"secret"))
