"""Bodies: framed by length, by chunks and by the end of the connection, both ways, and responses without one."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from eventually import eventually
from portway_proxy.snapshot import Snapshot
from wire.http2_client import connect
from wire.peers import OK, Message, Peer, Truncated, answering, reply
from wire.site import Net, by_the_byte

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OLD_GET = b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nServer: s\r\n\r\nhello world"


async def ending(peer: Peer) -> None:
    """Answer with a body that ends with the connection."""
    await peer.request()
    peer.send(UNTIL_CLOSE)
    peer.close()


# --- requests


async def test_a_body_with_a_length_arrives_with_that_length(net: Net) -> None:
    _, endpoint, client = await net.pair()
    client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    assert (await client.response()).body == b"/ahello"
    assert b"\r\nContent-Length: 5\r\n\r\nhello" in endpoint.received[0]


async def test_a_body_that_comes_in_bytes_arrives_whole(net: Net) -> None:
    site, _, client = await net.pair()
    request = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    await by_the_byte(site, client, request)
    assert (await client.response()).body == b"/ahello"


async def test_a_chunked_body_arrives_in_chunks_without_extensions(net: Net) -> None:
    _, endpoint, client = await net.pair()
    client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send(b"5;name=value\r\nhello\r\n06\r\n world\r\n0\r\n\r\n")
    assert (await client.response()).body == b"/ahello world"
    head, _, body = endpoint.received[0].partition(b"\r\n\r\n")
    assert head.endswith(b"\r\nTransfer-Encoding: chunked")
    assert b"name" not in body


async def test_a_chunked_body_that_comes_in_bytes_arrives_whole(net: Net) -> None:
    site, _, client = await net.pair()
    request = (
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nT: x\r\n\r\n"
    )
    await by_the_byte(site, client, request)
    assert (await client.response()).body == b"/ahello!"
    assert (await client.get("/next")).body == b"/next"


@pytest.mark.parametrize("framing", [b"Content-Length: 0\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
async def test_an_empty_body_arrives_empty(net: Net, framing: bytes) -> None:
    _, endpoint, client = await net.pair()
    client.send(b"POST /a HTTP/1.1\r\nHost: a\r\n" + framing)
    assert (await client.response()).body == b"/a"
    assert endpoint.received[0].endswith(framing)
    assert (await client.get("/next")).body == b"/next"


async def test_a_body_is_passed_on_as_it_arrives(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        assert await peer.exactly(5) == b"first"
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.exactly(6) == b"second"
        peer.send(OK)

    _, _, client = await net.pair(script)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nfirst")
    assert (await client.response()).status == 100
    client.send(b"second")
    assert (await client.response()).body == b"ok"


async def test_an_http_1_0_client_may_send_a_body_with_a_length(net: Net) -> None:
    _, endpoint, client = await net.pair()
    client.send(b"POST /a HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
    assert (await client.response()).body == b"/ahello"
    assert endpoint.received[0].startswith(b"POST /a HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % endpoint.port)


async def test_a_get_may_have_a_body(net: Net) -> None:
    _, _, client = await net.pair()
    client.send(b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    assert (await client.response()).body == b"/ahello"
    assert (await client.get("/next")).body == b"/next"


# --- responses


async def test_a_chunked_response_arrives_in_chunks_without_extensions(net: Net) -> None:
    site, endpoint, client = await net.pair(answering(CHUNKED))
    for _ in range(3):
        client.send(GET)
        response = await client.response()
        assert response.get(b"transfer-encoding") == b"chunked"
        assert response.body == b"hello world"
    assert b"ext" not in client.received
    assert len(endpoint.peers) == site.pooled() == 1


async def test_a_chunked_response_to_an_http_1_0_client_is_unchunked_and_ended_by_the_connection(net: Net) -> None:
    site, _, client = await net.pair(answering(CHUNKED))
    client.send(OLD_GET)
    response = await client.response()
    assert response.get(b"transfer-encoding") is None
    assert response.closes
    assert response.body == b"hello world"
    assert site.pooled() == 1


async def test_a_response_that_its_connection_ends_is_chunked_for_an_http_1_1_client(net: Net) -> None:
    site, endpoint, client = await net.pair(ending)
    for _ in range(2):
        client.send(GET)
        response = await client.response()
        assert response.get(b"transfer-encoding") == b"chunked"
        assert response.body == b"hello world"
    assert len(endpoint.peers) == 2
    assert site.pooled() == 0


async def test_a_response_that_its_connection_ends_is_ended_likewise_for_an_http_1_0_client(net: Net) -> None:
    _, _, client = await net.pair(ending)
    client.send(OLD_GET)
    response = await client.response()
    assert (response.closes, response.body) == (True, b"hello world")


async def test_a_response_from_an_http_1_0_endpoint_is_ended_by_its_connection(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.0 200 OK\r\n\r\nhello world")
        peer.close()

    _, _, client = await net.pair(script)
    client.send(GET)
    assert (await client.response()).body == b"hello world"


async def test_an_empty_response_that_its_connection_ends_is_one_last_chunk(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.close()

    _, _, client = await net.pair(script)
    client.send(GET)
    assert (await client.response()).body == b""
    assert client.received.endswith(b"\r\n\r\n0\r\n\r\n")


async def test_a_response_with_length_zero_keeps_both_connections(net: Net) -> None:
    _, endpoint, client = await net.pair(answering(reply(b"")))
    for _ in range(3):
        client.send(GET)
        response = await client.response()
        assert (response.get(b"content-length"), response.body) == (b"0", b"")
    assert len(endpoint.peers) == 1


async def test_a_response_is_passed_on_as_it_arrives(net: Net) -> None:
    events: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while event := await events.get():
            peer.send(b"%x\r\n%b\r\n" % (len(event), event))
        peer.send(b"0\r\n\r\n")

    _, _, client = await net.pair(script)
    client.send(GET)
    await client.head()
    for event in (b"one", b"three", b"seventeen"):
        events.put_nowait(event)
        assert await client.until(b"\r\n") == b"%x\r\n" % len(event)
        assert await client.until(b"\r\n") == event + b"\r\n"
    events.put_nowait(b"")
    assert await client.until(b"\r\n\r\n") == b"0\r\n\r\n"


async def test_a_response_that_comes_in_bytes_arrives_whole(net: Net) -> None:
    async def script(peer: Peer) -> None:
        for response in (CHUNKED, reply(b"second")):
            await peer.request()
            for octet in response:
                peer.send(bytes([octet]))  # Written at once: each is a segment of its own.

    _, _, client = await net.pair(script)
    client.send(GET)
    assert (await client.response()).body == b"hello world"
    client.send(GET)
    assert (await client.response()).body == b"second"


# --- no body


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"Content-Length: 1000\r\n", b"1000"),
        (b"Transfer-Encoding: chunked\r\n", None),
        (b"", None),
        (b"Content-Length: 0\r\n", b"0"),
    ],
)
async def test_the_response_to_head_has_no_body_whatever_its_fields_say(
    net: Net, fields: bytes, expected: bytes | None
) -> None:
    site, endpoint, client = await net.pair(answering(b"HTTP/1.1 200 OK\r\n%b\r\n" % fields, OK))
    client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    response = await client.response(b"HEAD")
    assert (response.status, response.get(b"content-length")) == (200, expected)
    assert (await client.get()).body == b"ok"
    assert len(endpoint.peers) == site.pooled() == 1


@pytest.mark.parametrize(
    ("response", "length"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", None),
        (b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", None),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n", b"1000"),
    ],
)
async def test_a_response_whose_status_allows_no_body_ends_with_its_head(
    net: Net, response: bytes, length: bytes | None
) -> None:
    site, endpoint, client = await net.pair(answering(response, OK))
    client.send(GET)
    answer = await client.response()
    assert answer.get(b"content-length") == length
    assert answer.get(b"transfer-encoding") is None
    assert (await client.get()).body == b"ok"
    assert len(endpoint.peers) == site.pooled() == 1


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_an_own_reply_to_head_announces_a_body_and_sends_none(net: Net, method: bytes) -> None:
    site, _, client = await net.pair()
    site.serve(type(site.live.snapshot)())
    client.send(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method)
    response = await client.response(method)
    assert (response.status, response.get(b"content-length")) == (404, b"21")
    assert response.body == (b"default backend - 404" if method == b"GET" else b"")
    assert (await client.get()).status == 404


# --- heads that are rewritten


async def test_the_response_head_keeps_its_fields_and_loses_those_of_one_connection(net: Net) -> None:
    fields = (
        b"HTTP/1.1 201 Made It\r\nServer: theirs\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nSet-Cookie: a=1\r\n"
        b"Set-Cookie: b=2\r\nConnection: keep-alive, X-Private\r\nKeep-Alive: timeout=5\r\nX-Private: 1\r\n"
        b"Proxy-Connection: keep-alive\r\nX-Kept: \xe4  b\r\nContent-Length: 2\r\n\r\nok"
    )
    _, _, client = await net.pair(answering(fields))
    client.send(GET)
    response = await client.response()
    assert response == Message(
        b"HTTP/1.1 201 Made It",
        (
            (b"server", b"theirs"),
            (b"date", b"Thu, 01 Jan 1970 00:00:00 GMT"),
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"x-kept", b"\xe4  b"),
            (b"content-length", b"2"),
        ),
        b"ok",
    )


async def test_nobody_is_told_who_answers_where_that_is_turned_off(net: Net) -> None:
    site, _, old = await net.pair()
    new = await connect(net, site)
    for signed in (True, False, True):
        site.serve(msgspec.structs.replace(site.live.snapshot, signed=signed))
        said = b"portway" if signed else None
        assert [(await old.get()).get(b"server"), (await new.get()).get(b"server")] == [said, said]
    site.serve(Snapshot(signed=False))
    one, other = await old.get(), await new.get()
    assert (one.status, one.get(b"server"), other.status, other.get(b"server")) == (404, None, 404, None)


async def test_a_response_without_server_and_date_gets_ours(net: Net) -> None:
    _, _, client = await net.pair()
    response = await client.get()
    assert response.get(b"server") == b"portway"
    assert (response.get(b"date") or b"").endswith(b" GMT")


# --- bodies that end too early


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ],
)
@pytest.mark.parametrize("request_", [GET, OLD_GET], ids=["1.1", "1.0"])
async def test_a_client_sees_that_its_response_was_cut_off(
    net: Net, start: bytes, reset: bool, request_: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(start)
        await eventually(lambda: client.size > 0, what="the beginning arrives")
        if reset:
            peer.reset()
        else:
            peer.close()

    site, _, client = await net.pair(script)
    client.send(request_)
    with pytest.raises(Truncated):
        await client.response()
    assert client.how == "reset"
    assert not client.received.endswith(b"0\r\n\r\n")
    line = await site.line()
    assert (line["status"], line["reason"]) == (200, "upstream_reset")


async def test_a_reset_is_no_end_of_a_body_that_its_connection_ends(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(UNTIL_CLOSE)
        await eventually(lambda: client.size > 0, what="the beginning arrives")
        peer.reset()

    _, _, client = await net.pair(script)
    client.send(GET)
    with pytest.raises(Truncated):
        await client.response()
    assert not client.received.endswith(b"0\r\n\r\n")
