"""Trailers on real sockets: from the client to the endpoint and back, and where they end."""

from __future__ import annotations

import pytest

from wire.peers import OK, Peer, reply
from wire.site import Net, limits

GET = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n"
POST = b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n%b\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n%b\r\n"


async def test_the_trailers_of_a_request_reach_the_endpoint(net: Net) -> None:
    async def script(peer: Peer) -> None:
        assert (await peer.request()).body == b"hello"
        peer.send(reply(b"|".join(peer.trailers)))
        assert (await peer.request()).body == b"hello"
        peer.send(reply(b"|".join(peer.trailers)))

    site, endpoint, client = await net.pair(script)
    client.send(POST % b"X-Sum: 1\r\nHost: evil\r\nContent-Length: 9\r\nX-Forwarded-For: 6.6.6.6\r\nY:2\r\n")
    assert (await client.response()).body == b"X-Sum: 1|Y: 2"
    client.send(POST % b"")
    assert (await client.response()).body == b""
    assert len(endpoint.peers) == site.pooled() == 1


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("willing", [True, False])
async def test_the_trailers_of_a_response_reach_a_client_that_takes_them(
    net: Net, version: bytes, willing: bool
) -> None:
    async def script(peer: Peer) -> None:
        head = await peer.request()
        assert head.all(b"te") == ([b"trailers"] if willing and version == b"1.1" else [])
        peer.send(CHUNKED % b"X-Sum: 1\r\nSet-Cookie: no\r\nTransfer-Encoding: chunked\r\n")

    _, _, client = await net.pair(script)
    client.send((GET % (b"TE: trailers\r\n" if willing else b"")).replace(b"1.1", version))
    response = await client.response()
    assert response.body == b"hello"
    assert client.trailers == ([b"X-Sum: 1"] if willing and version == b"1.1" else [])
    assert b"Set-Cookie" not in client.received


async def test_what_connection_nominates_goes_no_further_behind_a_body_either(net: Net) -> None:
    async def script(peer: Peer) -> None:
        assert (await peer.request()).body == b"hello"
        assert peer.trailers == [b"X-Sum: 1"]
        peer.send((CHUNKED % b"X-Hop: 1\r\nX-Sum: 2\r\n").replace(b"OK\r\n", b"OK\r\nConnection: x-hop\r\n"))

    _, _, client = await net.pair(script)
    nominating = POST.replace(b"Host: a", b"Host: a\r\nTE: trailers\r\nConnection: TE, X-hop")
    client.send(nominating % b"x-Hop: 1\r\nX-Sum: 1\r\n")
    assert (await client.response()).body == b"hello"
    assert client.trailers == [b"X-Sum: 2"]


async def test_a_response_without_chunks_has_no_trailers_though_they_are_taken(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
        peer.close()

    _, _, client = await net.pair(script)
    client.send(GET % b"TE: trailers\r\n")
    assert (await client.response()).body == b"ok"
    client.send(GET % b"TE: trailers\r\n")
    assert (await client.response()).body == b"until the end"
    assert client.trailers == []


async def test_trailers_beyond_their_limit_end_the_request_and_cut_off_the_response(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(CHUNKED % (b"X: yyyy\r\n" * 100))

    site, _, client = await net.pair(script, limits(trailers=400))
    client.send(POST % (b"X: yyyy\r\n" * 100))
    assert (await client.response()).status == 400
    client = await net.client(site)
    client.send(GET % b"TE: trailers\r\n")
    assert (await client.end(), b"\r\n0\r\n" in client.received) == ("reset", False)
    assert [line["reason"] for line in await site.lines(2)] == ["bad_chunk", "upstream_bad_response"]
