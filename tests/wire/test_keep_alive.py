"""Connections that stay: the client's, the endpoint's, and pipelined requests."""

from __future__ import annotations

import pytest

from eventually import eventually
from wire.peers import OK, Client, Peer, answering, echoing, reply
from wire.site import Net, everything_to, limits, prefix, table, upstream


async def test_a_request_reaches_the_endpoint_and_its_response_comes_back(net: Net) -> None:
    site, _, client = await net.pair()
    response = await client.get("/hello?x=1")
    assert (response.status, response.body) == (200, b"/hello?x=1")
    assert (await site.line())["status"] == 200


async def test_requests_of_one_client_share_one_connection_on_either_side(net: Net) -> None:
    site, endpoint, client = await net.pair()
    for number in range(10):
        assert (await client.get(f"/{number}")).body == f"/{number}".encode()
    assert len(endpoint.peers) == 1
    assert site.pooled() == 1


async def test_clients_one_after_another_share_one_connection_to_the_endpoint(net: Net) -> None:
    site, endpoint, _ = await net.pair()
    for number in range(5):
        client = await net.client(site)
        assert (await client.get(f"/{number}")).body == f"/{number}".encode()
        client.close()
    assert len(endpoint.peers) == 1


async def test_the_clients_close_ends_its_own_connection_and_is_never_forwarded(net: Net) -> None:
    site, endpoint, client = await net.pair()
    response = await client.get("/", "shop.example", "Connection: close")
    assert response.closes
    assert await client.end() == "eof"
    other = await net.client(site)
    assert not (await other.get("/")).closes
    assert len(endpoint.peers) == 1
    assert b"connection" not in endpoint.received[0].lower()


async def test_the_endpoints_close_ends_its_own_connection_and_is_never_forwarded(net: Net) -> None:
    site, endpoint, client = await net.pair(answering(reply(b"ok", b"200 OK", b"Connection: close")))
    for _ in range(3):
        assert (await client.get()).get(b"connection") is None
    assert len(endpoint.peers) == 3
    assert site.pooled() == 0
    await eventually(lambda: endpoint.open == 0, what="every connection to the endpoint ends")


async def test_an_http_1_0_endpoint_is_asked_again_only_when_it_says_keep_alive(net: Net) -> None:
    old = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n%b\r\nok"
    site, endpoint, client = await net.pair(answering(old % b"Connection: keep-alive\r\n", old % b""))
    assert (await client.get()).body == b"ok"
    assert (await client.get()).body == b"ok"
    assert len(endpoint.peers) == 1
    await eventually(lambda: endpoint.open == 0, what="the connection that was not kept ends")
    assert site.pooled() == 0


@pytest.mark.parametrize(
    ("version", "connection", "kept", "said"),
    [
        ("1.1", None, True, None),
        ("1.1", "keep-alive", True, None),
        ("1.1", "close", False, b"close"),
        ("1.1", "Close", False, b"close"),
        ("1.1", "foo, close", False, b"close"),
        ("1.0", None, False, b"close"),
        ("1.0", "Keep-Alive", True, b"keep-alive"),
        ("1.0", "keep-alive, close", False, b"close"),
    ],
)
async def test_the_client_decides_whether_its_connection_stays(
    net: Net, version: str, connection: str | None, kept: bool, said: bytes | None
) -> None:
    _, _, client = await net.pair()
    fields = f"Connection: {connection}\r\n" if connection is not None else ""
    client.send(f"GET / HTTP/{version}\r\nHost: shop.example\r\n{fields}\r\n".encode())
    response = await client.response()
    assert response.get(b"connection") == said
    if kept:
        assert (await client.get("/again")).body == b"/again"
    else:
        assert await client.end() == "eof"


async def test_own_replies_keep_the_connection_too(net: Net) -> None:
    site, endpoint, client = await net.pair()
    site.serve(table({"other.example": [prefix("/")]}, upstream("shop/web:80", endpoint.port)))
    for _ in range(3):
        assert (await client.get()).status == 404
    assert (await client.get("/", "other.example")).status == 200


async def test_an_own_reply_to_an_http_1_0_client_says_that_the_connection_stays(net: Net) -> None:
    site = await net.site(table({}))
    client = await net.client(site)
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2)
    for _ in range(2):
        assert (await client.response()).get(b"connection") == b"keep-alive"


async def test_an_own_reply_before_the_body_was_read_ends_the_connection(net: Net) -> None:
    # Nobody wants that body; reading and dropping it would be work that a stranger asks for.
    site = await net.site(table({}))
    client = await net.client(site)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbodyGET / HTTP/1.1\r\nHost: a\r\n\r\n")
    response = await client.response()
    assert (response.status, response.closes) == (404, True)
    assert await client.rest() == b""


# --- pipelined requests


async def test_pipelined_requests_are_answered_in_their_order(net: Net) -> None:
    _, endpoint, client = await net.pair()
    client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(50)))
    assert [(await client.response()).body for _ in range(50)] == [b"/%d" % number for number in range(50)]
    assert len(endpoint.peers) == 1


async def test_a_pipelined_request_waits_until_the_one_before_is_answered(net: Net) -> None:
    async def script(peer: Peer) -> None:
        assert (await peer.request()).target == b"/first"
        assert peer.unread == b""
        peer.send(OK)
        assert (await peer.request()).target == b"/second"
        peer.send(OK)

    _, endpoint, client = await net.pair(script)
    client.send(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.response()
    await client.response()
    assert len(endpoint.peers) == 1


def thousand() -> bytes:
    """Return 1,000 requests: every third has no route, the next one a body, the rest is for the endpoint too."""
    kinds = (
        b"GET /%d HTTP/1.1\r\nHost: none\r\n\r\n",
        b"POST /%d HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nbody",
        b"GET /%d HTTP/1.1\r\nHost: shop\r\n\r\n",
    )
    return b"".join(kinds[number % 3] % number for number in range(1000))


async def thousand_answers(client: Client) -> None:
    for number in range(1000):
        response = await client.response()
        if number % 3 == 0:
            assert (response.status, response.body) == (404, b"default backend - 404")
        else:
            body = b"body" if number % 3 == 1 else b""
            assert (response.status, response.body) == (200, b"/%d" % number + body)


async def test_a_thousand_requests_in_one_write_get_a_thousand_answers_in_order(net: Net) -> None:
    endpoint = await net.endpoint()
    site = await net.site(table({"shop": [prefix("/")]}, upstream("shop/web:80", endpoint.port)))
    client = await net.client(site)
    client.send(thousand())
    await thousand_answers(client)
    assert len(endpoint.peers) == 1


async def test_a_client_that_pipelines_and_then_half_closes_gets_every_answer(net: Net) -> None:
    endpoint = await net.endpoint()
    site = await net.site(table({"shop": [prefix("/")]}, upstream("shop/web:80", endpoint.port)))
    client = await net.client(site)
    client.send(thousand())
    client.half_close()
    await thousand_answers(client)
    assert await client.rest() == b""


async def test_a_request_that_is_cut_off_after_an_answered_one_ends_the_connection(net: Net) -> None:
    _, endpoint, client = await net.pair()
    client.send(b"GET /whole HTTP/1.1\r\nHost: a\r\n\r\nGET /part HTTP/1.1\r\nHo")
    client.half_close()
    assert (await client.response()).body == b"/whole"
    assert await client.rest() == b""
    assert b"/part" not in endpoint.received[0]


async def test_requests_after_one_that_closes_are_not_answered(net: Net) -> None:
    _, endpoint, client = await net.pair()
    client.send(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.response()).body == b"/a"
    assert await client.rest() == b""
    assert b"/b" not in endpoint.received[0]


async def test_a_client_that_pipelines_and_reads_nothing_is_not_served_ahead(net: Net) -> None:
    body = b"x" * 30_000
    endpoint = await net.endpoint(answering(reply(body)))
    site = await net.site(everything_to(endpoint.port), limits(buffer=65536))
    client = await net.client(site, window=4096)
    client.hold()
    requests = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 500
    client.send(requests)
    await eventually(lambda: any(some.write_paused for some in site.clients), what="the client does not keep up")
    [connection] = site.clients
    waiting = connection._transport.get_write_buffer_size()
    assert waiting < 65536 + 2 * len(body)
    client.counting = True
    client.go_on()
    await client.flush()
    client.half_close()
    assert await client.end() == "eof"
    head = b"HTTP/1.1 200 OK\r\n"
    assert client.size > 500 * (len(body) + len(head))


async def test_a_response_that_a_slow_client_held_up_leaves_a_connection_that_serves_the_next(net: Net) -> None:
    body = b"x" * 5_000_000
    endpoint = await net.endpoint(answering(reply(body)))
    site = await net.site(everything_to(endpoint.port))
    client = await net.client(site, window=4096)
    for _ in range(5):
        client.hold()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: any(some.write_paused for some in site.clients), what="the client does not keep up")
        client.go_on()
        assert (await client.response()).body == body
    assert len(endpoint.peers) == 1


async def test_a_response_whose_end_overtakes_its_client_leaves_a_connection_that_serves_the_next(net: Net) -> None:
    # Its last bytes leave the client's buffer over the mark when the connection to the endpoint is already free.
    body = b"x" * 100_000
    endpoint = await net.endpoint(answering(reply(body)))
    site = await net.site(everything_to(endpoint.port), limits(buffer=1000), window=4096)
    client = await net.client(site, window=4096)
    for _ in range(3):
        client.hold()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: site.pooled() == 1 and any(some.write_paused for some in site.clients))
        other = await net.client(site)
        assert (await other.get()).body == body
        client.go_on()
        assert (await client.response()).body == body
    assert len(endpoint.peers) == 1


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
async def test_a_head_of_which_only_a_few_bytes_come_first_is_waited_for(net: Net, size: int) -> None:
    site, _, client = await net.pair(echoing)
    for request in (b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n") * 2:
        client.send(request[:size])
        before = site.counters.received
        await eventually(lambda: site.counters.received > before, what="the bytes arrive")  # noqa: B023
        client.send(request[size:])
        assert (await client.response()).body == request[4:6]


async def test_lone_empty_lines_before_requests_are_forgiven(net: Net) -> None:
    site, endpoint, client = await net.pair(echoing)
    for number in range(3):
        client.send(b"\r\nGET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        assert (await client.response()).body == b"/%d" % number
    for _ in range(4):
        before = site.counters.received
        client.send(b"\r\n")
        await eventually(lambda: site.counters.received > before, what="the line arrives")  # noqa: B023
        assert (await client.get("/3")).body == b"/3"
    assert len(endpoint.peers) == 1


@pytest.mark.parametrize("split", [False, True])
async def test_two_empty_lines_before_a_request_are_refused_however_they_arrive(net: Net, split: bool) -> None:
    site, endpoint, client = await net.pair()
    if split:
        for _ in range(2):
            client.send(b"\r\n")
            before = site.counters.received
            await eventually(lambda: site.counters.received > before, what="the line arrives")  # noqa: B023
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    else:
        client.send(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.response()).status == 400
    assert endpoint.peers == []
