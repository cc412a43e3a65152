"""WebSocket over HTTP/2 (RFC 8441): a client of `h2` and `websockets`, to a server of `websockets`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.typing import Subprotocol

from eventually import eventually
from portway_proxy.http2.codes import Code
from wire.http2_client import Http2Peer, connect, pair, request_fields
from wire.peers import Peer, answering, reply
from wire.site import Net, Site, everything_to

HANDSHAKE = (("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat"), ("origin", "https://web.example"))


class Chat:
    """A server that sends back what it gets, and notes the fields and the end of each connection."""

    def __init__(self) -> None:
        self.port = 0
        self.fields: list[dict[str, str]] = []
        self.ends: list[Close | None] = []

    async def answer(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.fields.append({name.lower(): value for name, value in connection.request.headers.raw_items()})
        try:
            while True:
                await connection.send(await connection.recv())
        except ConnectionClosed as end:
            self.ends.append(end.rcvd)


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    found = Chat()
    server: Server
    async with serve(
        found.answer,
        "127.0.0.1",
        0,
        subprotocols=[Subprotocol("chat")],
        compression=None,
        max_size=None,
        ping_interval=None,
        close_timeout=0.2,
    ) as server:
        found.port = next(iter(server.sockets)).getsockname()[1]
        yield found


class Socket:
    """A WebSocket on one stream of `client`."""

    def __init__(self, client: Http2Peer) -> None:
        self.client = client
        self.stream = client.ask(
            [*request_fields("/chat", (":protocol", "websocket"), *HANDSHAKE, method="CONNECT")], end=False
        )
        self.protocol = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)
        self.seen = 0

    async def opened(self) -> Socket:
        answer = self.client.answers[self.stream]
        await self.client.until(lambda: bool(answer.fields) or answer.over)
        assert (answer.status, answer.get(b"sec-websocket-protocol")) == (200, b"chat")
        assert {b"sec-websocket-accept", b"upgrade", b"connection"}.isdisjoint(dict(answer.fields))
        return self

    async def say(self, text: bytes) -> None:
        self.protocol.send_binary(text)
        await self.client.send(self.stream, b"".join(self.protocol.data_to_send()), end=False)

    async def heard(self, size: int) -> list[Frame]:
        """Return the frames that came, once they are `size` bytes and more."""
        frames: list[Frame] = []
        while sum(len(frame.data) for frame in frames) < size:
            answer = self.client.answers[self.stream]
            await self.client.until(lambda: len(answer.body) > self.seen or answer.over)  # noqa: B023 - used at once
            assert len(answer.body) > self.seen, answer
            self.protocol.receive_data(answer.body[self.seen :])
            self.seen = len(answer.body)
            frames += [event for event in self.protocol.events_received() if isinstance(event, Frame)]
        return frames


async def begun(net: Net, chat: Chat) -> tuple[Site, Http2Peer]:
    site = await net.site(everything_to(chat.port))
    return site, await connect(net, site)


async def test_messages_go_to_and_fro_on_many_streams_beside_requests(net: Net, chat: Chat) -> None:
    site, client = await begun(net, chat)
    sockets = [await Socket(client).opened() for _ in range(10)]
    assert client.h2.remote_settings.enable_connect_protocol == 1
    for number, socket in enumerate(sockets):
        await socket.say(b"hello %d" % number)
    for number, socket in enumerate(sockets):
        assert [frame.data for frame in await socket.heard(7)] == [b"hello %d" % number]
    assert site.tunnels == 10
    fields = chat.fields[0]
    assert fields["origin"] == "https://web.example"
    assert fields["x-forwarded-for"] == "127.0.0.1"


async def test_a_large_message_passes_whole_whatever_the_windows(net: Net, chat: Chat) -> None:
    _, client = await begun(net, chat)
    socket = await Socket(client).opened()
    body = bytes(range(256)) * 12_000
    await socket.say(body)
    assert b"".join(frame.data for frame in await socket.heard(len(body))) == body


async def test_close_codes_pass_and_end_the_stream_and_the_endpoint(net: Net, chat: Chat) -> None:
    site, client = await begun(net, chat)
    socket = await Socket(client).opened()
    socket.protocol.send_close(4321, "enough")
    await client.send(socket.stream, b"".join(socket.protocol.data_to_send()), end=False)
    frames = await socket.heard(8)
    assert [(frame.opcode, Close.parse(frame.data)) for frame in frames] == [(Opcode.CLOSE, Close(4321, "enough"))]
    client.h2.end_stream(socket.stream)
    client.flush()
    await eventually(lambda: chat.ends == [Close(4321, "enough")])
    assert (await client.answer(socket.stream)).ended
    await eventually(lambda: not site.tunnels)
    line = await site.line()
    assert (line["status"], line["reason"], line["target"]) == (101, "", "/chat")
    assert not client.closed


async def test_a_stream_that_is_broken_off_ends_its_endpoint_and_no_other(net: Net, chat: Chat) -> None:
    site, client = await begun(net, chat)
    gone, stays = [await Socket(client).opened() for _ in range(2)]
    client.h2.reset_stream(gone.stream, Code.CANCEL)
    client.flush()
    await eventually(lambda: chat.ends == [None] and site.tunnels == 1)
    await stays.say(b"still here")
    assert [frame.data for frame in await stays.heard(10)] == [b"still here"]
    assert (await site.line())["reason"] == "client_reset"


async def test_a_connection_that_ends_takes_its_websockets_along(net: Net, chat: Chat) -> None:
    site, client = await begun(net, chat)
    for _ in range(3):
        await Socket(client).opened()
    client.transport.abort()
    await eventually(lambda: len(chat.ends) == 3 and not site.tunnels and not site.clients)


async def test_an_endpoint_that_breaks_off_breaks_off_its_stream(net: Net) -> None:
    async def script(peer: Peer) -> None:
        head = await peer.head()
        assert head.start == b"GET /chat HTTP/1.1"
        assert head.get(b"upgrade") == b"websocket"
        assert head.get(b"sec-websocket-key")
        peer.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: x\r\n\r\n"
        )
        assert await peer.exactly(5) == b"early"
        peer.send(b"late")
        await peer.flush()
        peer.reset()

    site, client = await pair(net, script)
    socket = Socket(client)
    await client.send(socket.stream, b"early", end=False)
    await socket.opened()
    answer = await client.answer(socket.stream)
    assert answer.reset is not None
    await eventually(lambda: not site.tunnels)
    assert (await site.line())["reason"] == "upstream_reset"


@pytest.mark.parametrize("status", [200, 204, 403])
async def test_an_endpoint_that_does_not_switch_is_no_tunnel(net: Net, status: int) -> None:
    _, client = await pair(net, answering(reply(b"" if status == 204 else b"no", b"%d X" % status)))
    socket = Socket(client)
    answer = await client.answer(socket.stream)
    if status < 300:  # Its client would take it for a tunnel.
        assert (answer.reset, answer.fields) == (Code.INTERNAL_ERROR, [])
    else:
        assert (answer.status, answer.body) == (status, b"no")
    assert not client.closed


async def test_a_slow_reader_of_a_websocket_holds_up_its_endpoint(net: Net, chat: Chat) -> None:
    site, client = await begun(net, chat)
    socket = await Socket(client).opened()
    client.slow = True
    body = bytes(3_000_000)
    await socket.say(body)
    await client.until(lambda: len(client.answers[socket.stream].body) == 65535)
    [home] = site.clients
    await eventually(lambda: home.connection.streams[socket.stream].queued > 65536)
    assert home.connection.streams[socket.stream].queued < 1_000_000
    client.slow = False
    client.h2.increment_flow_control_window(1 << 24, socket.stream)
    client.h2.increment_flow_control_window(1 << 24)
    client.flush()
    assert sum(len(frame.data) for frame in await socket.heard(len(body))) == len(body)


async def test_what_waits_for_nobody_when_a_tunnel_has_ended_does_not_wait_for_ever(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(
            b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\n\r\nlast"
        )
        peer.close()

    endpoint = await net.endpoint(script)
    site = await net.site(everything_to(endpoint.port))
    client = await connect(net, site, window=0)
    socket = await Socket(client).opened()
    client.h2.end_stream(socket.stream)
    client.flush()
    await eventually(lambda: not site.tunnels)
    site.later(61)
    answer = await client.answer(socket.stream)
    assert (answer.reset, answer.body) == (Code.CANCEL, b"")
