"""WebSockets of a real client to a real server, through real workers: `ws` and `wss`."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close
from websockets.typing import Subprotocol

from certs import certificate
from eventually import eventually
from portway_proxy.snapshot import Endpoint, Host, PathMatch, Route, Snapshot, Upstream
from portway_proxy.supervisor import Supervisor
from wire.parts import ORIGIN, WEB, running, settings, snapshot

OTHER = "shop/other:80"
MANY = 1000
SCHEMES = pytest.mark.parametrize("scheme", ["ws", "wss"])


class Chat:
    """A server that sends back each message in the fragments that it came in, and notes how connections end."""

    def __init__(self) -> None:
        self.port = 0
        self.ends: list[Close | None] = []
        self.connections: set[ServerConnection] = set()

    async def answer(self, connection: ServerConnection) -> None:
        self.connections.add(connection)
        try:
            while True:
                await connection.send([part async for part in connection.recv_streaming()])
        except ConnectionClosed as end:
            self.ends.append(end.rcvd)
        finally:
            self.connections.discard(connection)


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    found = Chat()
    server: Server
    async with serve(found.answer, "127.0.0.1", 0, max_size=None, ping_interval=None, backlog=MANY) as server:
        found.port = next(iter(server.sockets)).getsockname()[1]
        yield found


@pytest.fixture
async def proxy(chat: Chat) -> AsyncIterator[Supervisor]:
    async with running(settings()) as supervisor:
        await supervisor.apply(chatting(chat))
        yield supervisor


def chatting(chat: Chat, *others: int) -> Snapshot:
    """Return a snapshot in which `chat` and the ports `others` serve all hosts, and these alone one of them.

    Each has a certificate of its own.
    """
    base = snapshot(chat.port, certificates=[certificate("shop/web", "chat.example")])
    endpoints = tuple(Endpoint("127.0.0.1", port) for port in sorted(others))
    upstreams = {one.name: one for one in base.upstreams} | {OTHER: Upstream(OTHER, endpoints=endpoints)}
    upstreams[WEB] = Upstream(WEB, endpoints=tuple(sorted((*upstreams[WEB].endpoints, *endpoints))))
    return msgspec.structs.replace(
        base,
        hosts=(*base.hosts, Host("other.example", (Route("/", PathMatch.PREFIX, OTHER, ORIGIN),))),
        upstreams=tuple(upstreams[name] for name in sorted(upstreams)),
    )


def enter(
    proxy: Supervisor, scheme: str, subprotocols: list[Subprotocol] | None = None, compression: str | None = None
) -> connect:
    """Return a connection to be opened; what it sends has the size that it says, unless there is a `compression`."""
    port = {"ws": proxy.http_port, "wss": proxy.https_port}[scheme]
    trusting = None
    if scheme == "wss":
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
    url = f"{scheme}://127.0.0.1:{port}/chat"
    return connect(
        url,
        ssl=trusting,
        max_size=None,
        ping_interval=None,
        open_timeout=30,
        subprotocols=subprotocols,
        compression=compression,
    )


@SCHEMES
async def test_pings_are_answered_by_the_other_end_both_ways(proxy: Supervisor, chat: Chat, scheme: str) -> None:
    async with enter(proxy, scheme) as client:
        await asyncio.wait_for(await client.ping(b"from the client"), 10)
        [server] = chat.connections
        await asyncio.wait_for(await server.ping(b"from the server"), 10)


@SCHEMES
async def test_messages_of_16_mib_and_more_pass_both_ways(proxy: Supervisor, scheme: str) -> None:
    async with enter(proxy, scheme) as client:
        for message in (bytes(range(256)) * 65_536, "ü" * (9 << 20), b""):
            await client.send(message)
            assert await asyncio.wait_for(client.recv(), 60) == message


@SCHEMES
async def test_a_fragmented_message_arrives_in_its_fragments(proxy: Supervisor, scheme: str) -> None:
    fragments = [b"a", b"", b"b" * 70_000, b"c" * (1 << 20), b"d"]
    async with enter(proxy, scheme) as client:
        await client.send(fragments)
        got = [part async for part in client.recv_streaming()]
        # The last frame of such a message is empty in this client, and again in this server.
        assert [part for part in got if part] == [part for part in fragments if part]
        assert len(got) >= len(fragments)


CODES = [(1000, ""), (1001, "going away"), (1008, "policy"), (1011, "x" * 123), (3000, "ü"), (4999, "own")]


@SCHEMES
@pytest.mark.parametrize(("code", "reason"), CODES)
async def test_close_codes_and_reasons_pass_untouched_both_ways(
    proxy: Supervisor, chat: Chat, scheme: str, code: int, reason: str
) -> None:
    async with enter(proxy, scheme) as client:
        await client.close(code, reason)
    await eventually(lambda: chat.ends == [Close(code, reason)], what="the server hears of the end")
    async with enter(proxy, scheme) as client:
        [server] = chat.connections
        await server.close(code, reason)
        with pytest.raises(ConnectionClosed) as end:
            await client.recv()
        assert end.value.rcvd == Close(code, reason)


@SCHEMES
async def test_an_end_without_a_close_frame_is_one_for_the_other_side_too(
    proxy: Supervisor, chat: Chat, scheme: str
) -> None:
    async with enter(proxy, scheme) as client:
        [server] = chat.connections
        server.transport.abort()
        with pytest.raises(ConnectionClosed) as end:
            await client.recv()
        assert end.value.rcvd is None
    async with enter(proxy, scheme) as client:
        client.transport.abort()
    await eventually(lambda: chat.ends[-1:] == [None] and not chat.connections, what="the server hears of the end")


@SCHEMES
async def test_what_client_and_server_agree_on_is_theirs_alone(chat: Chat, scheme: str) -> None:
    first, second = Subprotocol("chat.v1"), Subprotocol("chat.v2")
    async with (
        serve(chat.answer, "127.0.0.1", 0, subprotocols=[second], ping_interval=None) as server,
        running(settings(workers=1)) as proxy,
    ):
        chat.port = next(iter(server.sockets)).getsockname()[1]
        await proxy.apply(chatting(chat))
        async with enter(proxy, scheme, [first, second], "deflate") as client:
            assert client.subprotocol == second
            assert client.response is not None
            assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
            await client.send("x" * 100_000)
            assert await client.recv() == "x" * 100_000


def descriptors(proxy: Supervisor) -> int:
    """Return how many descriptors the workers have."""
    return sum(sum(1 for _ in Path(f"/proc/{process.pid}/fd").iterdir()) for process in proxy._serving.values())


async def test_a_thousand_outlive_a_thousand_swaps_and_the_endpoints_of_others(proxy: Supervisor, chat: Chat) -> None:
    before = descriptors(proxy)
    clients: list[ClientConnection] = []
    schemes: Callable[[], str] = itertools.cycle(["ws", "wss"]).__next__
    while len(clients) < MANY:
        clients += await asyncio.gather(*(enter(proxy, schemes()) for _ in range(50)))
    assert len(chat.connections) == MANY
    for number in range(MANY):
        # Other endpoints come and go, and with every tenth swap an upstream, a host and the certificate do.
        others = (1,) if number % 2 else (1, 2)
        await proxy.apply(chatting(chat, *others) if number % 10 else snapshot(chat.port))
        if number % 100 == 0:
            client = clients[number]
            await client.send("still there")
            assert await client.recv() == "still there"
    assert len(chat.connections) == MANY
    for client in clients:
        await client.send("ping")
    assert [await client.recv() for client in clients] == ["ping"] * MANY
    await asyncio.gather(*(client.close(4000, "enough") for client in clients))
    await eventually(lambda: len(chat.ends) == MANY, what="the server hears of every end")
    assert chat.ends == [Close(4000, "enough")] * MANY
    await eventually(lambda: descriptors(proxy) <= before + 8, what="nothing is left of them")
