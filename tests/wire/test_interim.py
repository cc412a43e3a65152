"""Before the response: 1xx heads, Expect, and final responses that come before the request is complete."""

from __future__ import annotations

import pytest

from eventually import eventually
from wire.peers import OK, Peer, Script, reply
from wire.site import Net, everything_to, limits

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
EXPECTING = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"


def asking(response: bytes = OK) -> Script:
    """Return a script that asks for the body by a 100 and answers once it has it."""

    async def script(peer: Peer) -> None:
        while True:
            head = await peer.head()
            assert head.get(b"expect") == b"100-continue"
            assert peer.unread == b""
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            await peer.exactly(5)
            peer.send(response)

    return script


def hinting(count: int) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(EARLY_HINTS * count + OK)

    return script


# --- interim responses


async def test_a_client_that_expects_100_continue_gets_it_from_the_endpoint(net: Net) -> None:
    _, endpoint, client = await net.pair(asking())
    for _ in range(3):
        client.send(EXPECTING)
        assert (await client.response()).start == b"HTTP/1.1 100 Continue"
        client.send(b"hello")
        assert (await client.response()).status == 200
    assert len(endpoint.peers) == 1


async def test_a_client_that_does_not_wait_for_100_continue_is_served(net: Net) -> None:
    _, endpoint, client = await net.pair()
    client.send(EXPECTING + b"hello")
    assert (await client.response()).body == b"/hello"
    assert b"\r\nExpect: 100-continue\r\n" in endpoint.received[0]


async def test_an_endpoint_that_refuses_the_expectation_is_heard_and_never_gets_the_body(net: Net) -> None:
    site, endpoint, client = await net.pair(answering_heads(reply(b"no", b"403 Forbidden")))
    client.send(EXPECTING)
    response = await client.response()
    assert (response.status, response.closes) == (403, True)
    client.send(b"hello")
    assert await client.rest() == b""
    await eventually(lambda: endpoint.open == 0, what="the connection to the endpoint ends")
    assert endpoint.received[0].endswith(b"\r\n\r\n")
    assert site.pooled() == 0


def answering_heads(response: bytes) -> Script:
    """Return a script that answers each head, whatever body it has."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.head()
            peer.send(response)

    return script


async def test_an_expectation_without_a_body_goes_no_further(net: Net) -> None:
    _, endpoint, client = await net.pair()
    assert (await client.get("/", "a", "Expect: 100-continue")).status == 200
    assert b"expect" not in endpoint.received[0].lower()
    assert (await client.get("/next")).body == b"/next"


async def test_an_http_1_0_client_cannot_expect_anything(net: Net) -> None:
    _, endpoint, client = await net.pair()
    client.send(b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
    assert (await client.response()).body == b"/hello"
    assert b"expect" not in endpoint.received[0].lower()


async def test_early_hints_arrive_before_the_response(net: Net) -> None:
    _, endpoint, client = await net.pair(hinting(2))
    client.send(GET)
    for _ in range(2):
        hints = await client.response()
        assert hints.start == b"HTTP/1.1 103 Early Hints"
        assert hints.fields == ((b"link", b"</a.css>; rel=preload"),)
    assert (await client.response()).body == b"ok"
    assert len(endpoint.peers) == 1


async def test_early_hints_arrive_while_the_response_is_not_ready(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(EARLY_HINTS)
        await eventually(lambda: client.size > 0 and client.unread == b"", what="the client has the hints")
        peer.send(OK)

    _, _, client = await net.pair(script)
    client.send(GET)
    assert (await client.response()).status == 103
    assert (await client.response()).status == 200


async def test_an_http_1_0_client_gets_no_interim_response(net: Net) -> None:
    _, _, client = await net.pair(hinting(3))
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    response = await client.response()
    assert (response.status, response.body) == (200, b"ok")


async def test_sixteen_interim_responses_are_passed_on(net: Net) -> None:
    _, _, client = await net.pair(hinting(16))
    client.send(GET)
    assert [(await client.response()).status for _ in range(17)] == [103] * 16 + [200]


async def test_an_endpoint_that_never_comes_to_the_point_is_502(net: Net) -> None:
    site, endpoint, client = await net.pair(hinting(17))
    client.send(GET)
    assert [(await client.response()).status for _ in range(17)] == [103] * 16 + [502]
    assert (await site.line())["reason"] == "upstream_bad_response"
    await eventually(lambda: endpoint.open == 0, what="the connection to the endpoint ends")


async def test_interim_responses_count_anew_for_each_request(net: Net) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(EARLY_HINTS * 10 + OK)

    _, _, client = await net.pair(script)
    for _ in range(3):
        client.send(GET)
        assert [(await client.response()).status for _ in range(11)] == [103] * 10 + [200]


# --- final responses that come early


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nbegin",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n",
    ],
)
@pytest.mark.parametrize("body", [b"no", b"n" * 300_000], ids=["short", "long"])
async def test_a_response_to_half_a_request_arrives_whole_and_ends_both_connections(
    net: Net, request_: bytes, body: bytes
) -> None:
    site, endpoint, client = await net.pair(answering_heads(reply(body, b"413 Too Large")))
    client.send(request_)
    response = await client.response()
    assert (response.status, response.closes, response.body) == (413, True, body)
    assert await client.end() == "eof"
    await eventually(lambda: endpoint.open == 0, what="the connection to the endpoint ends")
    assert site.pooled() == 0
    line = await site.line()
    assert (line["status"], line["reason"]) == (413, "")


async def test_a_client_that_sends_on_gets_the_early_response_whole(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.exactly(100_000)
        peer.send(reply(b"no" * 50_000, b"413 Too Large"))
        peer.counting = True  # It reads on, as a polite endpoint does.

    _, _, client = await net.pair(script)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
    sent = 0
    while not client.how:
        client.send(b"x" * 65536)
        sent += 65536
        await client.flush()
        if client.size > 100_000:
            break
    response = await client.response()
    assert (response.status, response.body) == (413, b"no" * 50_000)
    # What it sends while the connection ends is read and dropped: a RST would destroy the response on its way.
    client.send(b"x" * 65536)
    assert await client.end() == "eof"
    assert sent < 100_000_000


async def test_an_endpoint_that_answers_early_and_hangs_up_is_heard(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.hold()
        peer.send(reply(b"no", b"413 Too Large"))
        peer.close()  # With unread data on its side: the kernel sends RST.

    site, _, client = await net.pair(script)
    for _ in range(20):
        client = await net.client(site)
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 1_000_000)
        response = await client.response()
        assert (response.status, response.closes) == (413, True)


async def test_a_request_that_is_completed_during_its_early_response_ends_both_connections_too(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await peer.exactly(5)
        peer.send(b"cd")

    site, endpoint, client = await net.pair(script)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    await client.until(b"\r\n\r\nab")
    client.send(b"hello")
    assert await client.rest() == b"cd"
    await eventually(lambda: endpoint.open == 0, what="the connection to the endpoint ends")
    assert site.pooled() == 0


async def test_a_response_before_the_endpoint_took_the_whole_body_ends_its_connection(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.hold()
        await eventually(lambda: all(some.request_read for some in site.clients), what="the proxy has the request")
        peer.send(OK)

    endpoint = await net.endpoint(script)
    site = await net.site(everything_to(endpoint.port), limits(buffer=20_000_000))
    client = await net.client(site)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 10_000_000)
    response = await client.response()
    assert (response.status, response.closes) == (200, False)
    await eventually(lambda: not site.upstreams, what="the connection to the endpoint ends")
    assert site.pooled() == 0
