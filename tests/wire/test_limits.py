"""What is too much or not spoken here: the status, the reason in the access log, and the end of the connection."""

from __future__ import annotations

import pytest

from eventually import eventually
from portway_proxy.snapshot import Policy
from wire.peers import OK, Client, Peer, Truncated, answering, echoing
from wire.site import Net, Site, everything_to, limits

LENGTH = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def get(target: str = "/", *fields: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"GET {target} HTTP/1.1", "Host: a", *fields, "")).encode()


async def refused(site: Site, client: Client, status: int, reason: str) -> None:
    """Check that the client is answered and hung up on, and that the log says why."""
    response = await client.response()
    assert (response.status, response.closes) == (status, True)
    assert await client.rest() == b""
    line = await site.line()
    assert (line["status"], line["reason"]) == (status, reason)


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (b"GET /\r\n\r\n", 400, "bad_head"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_host"),
        (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_target"),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405, "method_not_allowed"),
        (get("/", "Expect: miracles", "Content-Length: 1"), 417, "expectation_failed"),
        (get("/", "Transfer-Encoding: gzip, chunked"), 501, "unknown_coding"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "version_unsupported"),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505, "version_unsupported"),
        (get("/" + "x" * 8192), 414, "target_too_long"),
        (get("/", "X: " + "x" * 16384), 431, "fields_too_large"),
        (get("/", *(f"X-{number}: 1" for number in range(100))), 431, "fields_too_large"),
        (get("/", *(f"X-{number}: {'x' * 16000}" for number in range(5))), 431, "fields_too_large"),
    ],
)
async def test_a_request_that_cannot_be_served_is_answered_and_ended(
    net: Net, request_: bytes, status: int, reason: str
) -> None:
    site, endpoint, client = await net.pair()
    client.send(request_)
    response = await client.response(request_.split(b" ")[0])
    assert (response.status, response.closes) == (status, True)
    assert await client.rest() == b""
    line = await site.line()
    assert (line["status"], line["reason"]) == (status, reason)
    assert site.counters.replies[reason] == 1
    assert endpoint.peers == []


@pytest.mark.parametrize(
    "request_",
    [
        get("/" + "x" * (8192 - len("GET / HTTP/1.1"))),
        get("/", "X: " + "x" * (16384 - len("X: "))),
        get("/", *(f"X-{number}: 1" for number in range(99))),
        get("/", *(f"X-{number}: {'x' * 16000}" for number in range(4))),
    ],
)
async def test_a_request_at_the_limit_is_served(net: Net, request_: bytes) -> None:
    _, _, client = await net.pair(answering(OK))
    client.send(request_)
    assert (await client.response()).status == 200


async def test_a_request_line_without_end_is_refused_before_it_ends(net: Net) -> None:
    site, endpoint, client = await net.pair()
    client.send(b"GET /" + b"x" * 9000)
    await refused(site, client, 414, "target_too_long")
    assert endpoint.peers == []


async def test_a_head_without_end_is_refused_before_it_ends(net: Net) -> None:
    site, endpoint, client = await net.pair()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 11000)
    await refused(site, client, 431, "fields_too_large")
    assert endpoint.peers == []


async def test_a_client_that_sends_on_after_a_refusal_can_read_it(net: Net) -> None:
    _, _, client = await net.pair()
    client.send(b"GET /\x00 HTTP/1.1\r\n\r\n")
    for _ in range(20):
        client.send(b"x" * 100_000)
    assert (await client.response()).status == 400
    client.send(b"x" * 100_000)
    assert await client.rest() == b""


# --- bodies


async def test_an_announced_body_beyond_the_limit_is_413_and_reaches_nobody(net: Net) -> None:
    endpoint = await net.endpoint()
    site = await net.site(everything_to(endpoint.port), limits(body=10))
    client = await net.client(site)
    client.send(LENGTH.format(11).encode())
    await refused(site, client, 413, "body_too_large")
    assert endpoint.peers == []


async def test_a_body_at_the_limit_passes(net: Net) -> None:
    endpoint = await net.endpoint()
    site = await net.site(everything_to(endpoint.port), limits(body=10))
    client = await net.client(site)
    client.send(LENGTH.format(10).encode() + b"0123456789")
    assert (await client.response()).body == b"/0123456789"
    client.send(CHUNKED + b"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n")
    assert (await client.response()).body == b"/0123456789"


async def test_a_chunked_body_that_grows_beyond_the_limit_is_413_and_never_complete(net: Net) -> None:
    endpoint = await net.endpoint()
    site = await net.site(everything_to(endpoint.port), limits(body=10))
    client = await net.client(site)
    client.send(CHUNKED + b"a\r\n0123456789\r\n")
    await eventually(lambda: endpoint.received and endpoint.received[0].endswith(b"0123456789\r\n"))
    client.send(b"1\r\nX\r\n0\r\n\r\n")
    await refused(site, client, 413, "body_too_large")
    await eventually(lambda: endpoint.open == 0, what="the endpoint sees the end")
    assert endpoint.received[0].endswith(b"0123456789\r\n")


@pytest.mark.parametrize(
    ("route", "size", "status"), [(5, 6, 413), (5, 5, 200), (0, 20, 200), (20, 20, 200), (None, 11, 413)]
)
async def test_a_routes_limit_replaces_the_proxys(net: Net, route: int | None, size: int, status: int) -> None:
    endpoint = await net.endpoint()
    site = await net.site(everything_to(endpoint.port, policy=Policy(body_size=route)), limits(body=10))
    client = await net.client(site)
    client.send(LENGTH.format(size).encode() + b"x" * size)
    assert (await client.response()).status == status


async def test_the_limit_of_one_route_does_not_stick_to_the_connection(net: Net) -> None:
    endpoint = await net.endpoint()
    site = await net.site(everything_to(endpoint.port, policy=Policy(body_size=5)))
    client = await net.client(site)
    client.send(LENGTH.format(5).encode() + b"x" * 5)
    assert (await client.response()).status == 200
    site.serve(everything_to(endpoint.port))
    client.send(CHUNKED + b"a\r\n0123456789\r\n0\r\n\r\n")
    assert (await client.response()).status == 200


# --- chunks


@pytest.mark.parametrize(
    "chunks",
    [
        b"x\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"00000000000000005\r\nhello\r\n0\r\n\r\n",
        b"5;" + b"x" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
        b"0\r\nX: " + b"y" * 17000 + b"\r\n\r\n",
        b"0\r\nX\r\n\r\n",
    ],
)
async def test_a_malformed_chunk_is_400_and_the_request_never_complete(net: Net, chunks: bytes) -> None:
    site, endpoint, client = await net.pair()
    client.send(CHUNKED + b"2\r\nhi\r\n")
    await eventually(
        lambda: endpoint.received and endpoint.received[0].endswith(b"2\r\nhi\r\n"), what="the first chunk"
    )
    client.send(chunks)
    await refused(site, client, 400, "bad_chunk")
    await eventually(lambda: endpoint.open == 0, what="the endpoint sees the end")
    assert not endpoint.received[0].endswith(b"0\r\n\r\n")
    assert site.pooled() == 0


async def test_a_malformed_chunk_after_the_response_began_cuts_it_off(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin")

    site, _, client = await net.pair(script)
    client.send(CHUNKED)
    await client.until(b"begin")
    client.send(b"x\r\n")
    with pytest.raises(Truncated):
        await client.rest()
    line = await site.line()
    assert (line["status"], line["reason"]) == (200, "bad_chunk")


async def test_an_endless_chunk_extension_is_bounded(net: Net) -> None:
    site, endpoint, client = await net.pair(echoing)
    client.send(CHUNKED + b"".join(b"1;%b\r\nx\r\n" % (b"e" * 4000) for _ in range(4)))
    await eventually(lambda: endpoint.peers)
    client.send(b"1;" + b"e" * 4000 + b"\r\nx\r\n")
    await refused(site, client, 400, "bad_chunk")
