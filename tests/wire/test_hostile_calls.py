"""Endpoints that speak HTTP/2 and lie: no client gets a byte that is not of its own response."""

from __future__ import annotations

import pytest

from eventually import eventually
from portway_proxy.http2 import frames
from portway_proxy.http2.codes import PREFACE, Code, Kind, Parameter
from portway_proxy.http2.packing import pack
from portway_proxy.snapshot import Protocol
from wire.http2_client import connect, request_fields
from wire.peers import Peer, Script
from wire.site import Net, Site, everything_to

OK = (b":status", b"200")
SMUGGLED = frames.data(1, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 1)


def head(*fields: tuple[bytes, bytes], end: int = 0) -> bytes:
    return frames.head(1, pack(fields), end)


def saying(answer: bytes) -> Script:
    """Return the script of an endpoint that answers the first call with these frames, and nothing else."""

    async def script(peer: Peer) -> None:
        await peer.until(PREFACE)
        peer.send(frames.settings({}))
        while await _kind(peer) != Kind.HEADERS:
            pass
        peer.send(answer)
        await peer.end()

    return script


async def _kind(peer: Peer) -> int:
    """Take a frame and return its kind."""
    start = await peer.exactly(9)
    await peer.exactly(int.from_bytes(start[:3]))
    return start[3]


async def site_to(net: Net, script: Script) -> Site:
    endpoint = await net.endpoint(script)
    return await net.site(everything_to(endpoint.port, protocol=Protocol.H2C))


NO_BODY = {
    "head": (b"HEAD", head(OK) + SMUGGLED),
    "head with a length": (b"HEAD", head(OK, (b"content-length", b"40")) + SMUGGLED),
    "204": (b"GET", head((b":status", b"204")) + SMUGGLED),
    "304": (b"GET", head((b":status", b"304")) + SMUGGLED),
    "304 with a length": (b"GET", head((b":status", b"304"), (b"content-length", b"40")) + SMUGGLED),
}


@pytest.mark.parametrize("name", NO_BODY)
async def test_a_body_where_none_may_be_never_reaches_the_client(net: Net, name: str) -> None:
    method, answer = NO_BODY[name]
    site = await site_to(net, saying(answer))
    client = await net.client(site)
    client.send(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method)
    assert await client.end() == "reset"
    assert bytes(client.received).endswith(b"\r\n\r\n")
    assert b"evil" not in client.received


@pytest.mark.parametrize("name", NO_BODY)
async def test_a_body_where_none_may_be_breaks_off_the_stream_of_a_client_of_http_2(net: Net, name: str) -> None:
    method, answer = NO_BODY[name]
    site = await site_to(net, saying(answer))
    client = await connect(net, site)
    got = await client.answer(client.ask(request_fields(method=method.decode())))
    assert (got.body, got.reset) == (b"", Code.INTERNAL_ERROR)


BROKEN = {
    "no status": head((b"x", b"y")),
    "a status of two digits": head((b":status", b"20")),
    "101": head((b":status", b"101")),
    "interim responses without end": head((b":status", b"103")) * 1000,
    "an interim response that is the last": head((b":status", b"103"), end=1),
    "a body before the head": frames.data(1, b"x", 1),
    "a body behind an interim response": head((b":status", b"103")) + frames.data(1, b"x", 1),
    "a line end in a value": head(OK, (b"x", b"a\r\nset-cookie: b=c"), end=1),
    "a NUL in a value": head(OK, (b"x", b"a\0b"), end=1),
    "a line end in a name": head(OK, (b"x: a\r\ny", b"b"), end=1),
    "a capital letter": head(OK, (b"X", b"a"), end=1),
    "a field of connections": head(OK, (b"transfer-encoding", b"chunked"), end=1),
    "two lengths": head(OK, (b"content-length", b"1"), (b"content-length", b"2")),
    "a length and no body": head(OK, (b"content-length", b"5"), end=1),
    "a push": frames.frame(Kind.PUSH_PROMISE, 4, 1, b"\0\0\0\2\x88"),
    "a head without end": frames.frame(Kind.HEADERS, 0, 1, b"\x88") + frames.frame(Kind.CONTINUATION, 0, 1, b"") * 50,
    "a bomb of fields": frames.head(1, b"\x88\x40\x01x\x7f\xbd\x1d" + b"v" * 3900 + b"\xbe" * 12000, 1),
    "a window too wide": frames.settings({Parameter.INITIAL_WINDOW_SIZE: (1 << 32) - 1}),
    "a stream that nobody opened": frames.head(3, pack([OK]), 1),
    "a stream of its own": frames.head(2, pack([OK]), 1),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_no_response_is_502(net: Net, name: str) -> None:
    site = await site_to(net, saying(BROKEN[name]))
    client = await net.client(site)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    response = await client.response()
    while response.status == 103:
        response = await client.response()
    assert (response.status, response.body) == (502, b"502 Bad Gateway\n")
    assert {b"x", b"X", b"y", b"set-cookie"}.isdisjoint(name.lower() for name, _ in response.fields)


CUT_OFF = {
    "two heads": head(OK) + head((b":status", b"404")),
    "a second head as trailers": head(OK) + head((b":status", b"404"), end=1),
    "trailers that are not the end": head(OK) + head((b"x", b"y")),
    "more than its length": head(OK, (b"content-length", b"2")) + frames.data(1, b"evil", 1),
    "less than its length": head(OK, (b"content-length", b"8")) + frames.data(1, b"evil", 1),
}


@pytest.mark.parametrize("name", CUT_OFF)
async def test_a_response_that_goes_wrong_is_cut_off_where_it_does(net: Net, name: str) -> None:
    site = await site_to(net, saying(CUT_OFF[name]))
    client = await net.client(site)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await client.end() == "reset"
    assert b"0\r\n\r\n" not in client.received.partition(b"\r\n\r\n")[2]
    assert b"evil" not in client.received


@pytest.mark.parametrize(
    "said",
    [
        frames.settings({}) + frames.goaway(0, Code.NO_ERROR),
        frames.settings({}) + frames.goaway((1 << 31) - 1, Code.NO_ERROR),
        frames.settings({Parameter.MAX_CONCURRENT_STREAMS: 0}),
    ],
    ids=["goodbye", "goodbye that spares all", "no streams"],
)
@pytest.mark.parametrize("closes", [True, False])
async def test_an_endpoint_that_takes_no_call_from_the_first_is_asked_once(net: Net, said: bytes, closes: bool) -> None:
    async def script(peer: Peer) -> None:
        peer.send(said)
        if closes:
            peer.close()
        else:
            await peer.end()

    endpoint = await net.endpoint(script)
    site = await net.site(everything_to(endpoint.port, protocol=Protocol.H2C))
    client = await net.client(site)
    assert (await client.get()).status == 502
    assert len(endpoint.peers) == 1
    await eventually(lambda: endpoint.open == 0, what="the end of the connection")
