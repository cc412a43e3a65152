"""Bodies that wait in memory, and responses with a pace, on real connections."""

from __future__ import annotations

import asyncio

import pytest

from eventually import eventually
from portway_proxy.snapshot import Buffering, Policy, Rate
from wire.http2_client import pair, request_fields
from wire.peers import Peer, answering, echoing, reply
from wire.site import Net, everything_to, waits

# --- requests


@pytest.mark.parametrize(
    ("head", "parts"),
    [
        (b"Content-Length: 8", [b"half", b"half"]),
        (b"Transfer-Encoding: chunked", [b"4\r\nhalf\r\n", b"4\r\nhalf\r\n0\r\n", b"\r\n"]),
        (b"Transfer-Encoding: chunked", [b"8\r\nhalfhalf\r\n0\r\nX-T: 1", b"\r\n\r\n"]),
    ],
)
async def test_an_endpoint_is_connected_to_once_the_body_is_whole(net: Net, head: bytes, parts: list[bytes]) -> None:
    site, endpoint, client = await net.pair()
    site.serve(everything_to(endpoint.port, policy=Policy(buffering=Buffering(request=1000))))
    for _ in range(2):
        known = len(endpoint.peers)
        client.send(b"POST /a HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % head)
        for part in parts[:-1]:
            client.send(part)
            await client.flush()
            await asyncio.sleep(0.01)
            assert len(endpoint.peers) == known
        client.send(parts[-1])
        assert (await client.response(b"POST")).body == b"/ahalfhalf"
        endpoint.peers[-1].close()
        await eventually(lambda: endpoint.open == 0, what="the endpoint's connection ends")


async def test_a_body_that_comes_with_its_head_waits_for_nothing(net: Net) -> None:
    site, endpoint, client = await net.pair()
    site.serve(everything_to(endpoint.port, policy=Policy(buffering=Buffering(request=1000))))
    client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbodyGET /b HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.response(b"POST")).body == b"/abody"
    assert (await client.response()).body == b"/b"


async def test_what_is_longer_goes_on_as_it_comes(net: Net) -> None:
    site, endpoint, client = await net.pair()
    site.serve(everything_to(endpoint.port, policy=Policy(buffering=Buffering(request=100_000))))
    client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
    client.send(b"x" * 99_999)
    await client.flush()
    await asyncio.sleep(0.02)
    assert endpoint.peers == []
    client.send(b"x")
    await eventually(lambda: sum(map(len, endpoint.received)) > 100_000, what="what came so far goes on")
    client.send(b"x" * 100_000)
    assert len((await client.response(b"POST")).body) == 200_002


async def test_who_expects_to_be_told_is_told_by_the_proxy(net: Net) -> None:
    site, endpoint, client = await net.pair()
    site.serve(everything_to(endpoint.port, policy=Policy(buffering=Buffering(request=1000))))
    client.send(b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    assert (await client.head()).status == 100
    assert endpoint.peers == []
    client.send(b"body")
    assert (await client.response(b"PUT")).body == b"/abody"
    assert b"xpect" not in b"".join(endpoint.received)


async def test_a_body_that_is_none_or_never_ends_reaches_no_endpoint(net: Net) -> None:
    site, endpoint, client = await net.pair(timeouts=waits(body=0.05))
    site.serve(everything_to(endpoint.port, policy=Policy(buffering=Buffering(request=1000))))
    client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n")
    client.send(b"bodyX")
    assert (await client.response(b"POST")).status == 400
    client = await net.client(site)
    client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    assert (await client.response(b"POST")).status == 408
    client = await net.client(site)
    client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    await client.flush()
    client.close()
    assert [line["status"] for line in await site.lines(3)] == [400, 408, 499]
    assert endpoint.peers == []


# --- responses


async def test_more_of_a_response_waits_for_a_client_that_does_not_keep_up(net: Net) -> None:
    size = 3_000_000
    ended: list[int] = []

    async def sending(peer: Peer) -> None:
        await peer.request()
        peer.send(reply(b"x" * size))
        await peer.flush()
        ended.append(1)
        await peer.end()

    endpoint = await net.endpoint(sending)
    policy = Policy(buffering=Buffering(response=8 << 20))
    site = await net.site(everything_to(endpoint.port, policy=policy), window=4096)
    client = await net.client(site, window=4096)
    client.hold()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: bool(ended), what="the endpoint is done while its client reads nothing")
    client.go_on()
    assert len((await client.response()).body) == size


async def test_a_head_may_be_as_long_as_the_route_says(net: Net) -> None:
    long = b"X-Long: " + b"x" * 100_000
    site, endpoint, client = await net.pair(answering(reply(b"ok", b"200 OK", long)))
    assert (await client.get("/")).status == 502
    site.serve(everything_to(endpoint.port, policy=Policy(buffering=Buffering(head=128 << 10))))
    assert (await client.get("/")).get(b"x-long") == b"x" * 100_000
    site.serve(everything_to(endpoint.port, policy=Policy(buffering=Buffering(head=64 << 10))))
    assert (await client.get("/")).status == 502


# --- the pace of responses


async def test_a_response_takes_as_long_as_its_rate_wants(net: Net) -> None:
    site, endpoint, client = await net.pair(answering(reply(b"x" * 30_000)))
    site.serve(everything_to(endpoint.port, policy=Policy(rate=Rate(10_000, after=15_000))))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert (await client.get("/")).body == b"x" * 30_000
    # Of what is beyond the first 15,000 bytes, one second's worth comes at once.
    assert loop.time() - begun > 0.4
    assert (await client.get("/")).body == b"x" * 30_000
    assert len(endpoint.peers) == 1
    site.serve(everything_to(endpoint.port))
    assert (await client.get("/")).body == b"x" * 30_000


async def test_a_client_gets_nothing_beyond_its_rate(net: Net) -> None:
    site, endpoint, client = await net.pair(answering(reply(b"x" * 50_000)))
    site.serve(everything_to(endpoint.port, policy=Policy(rate=Rate(5_000))))
    begun = asyncio.get_running_loop().time()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.exactly(6_500)
    passed = asyncio.get_running_loop().time() - begun
    assert len(client.received) <= 5_000 * (passed + 1.0) + 1_000
    client.reset()
    await eventually(lambda: endpoint.open == 0, what="the endpoint is told that its client left")


async def test_a_body_without_length_and_one_in_chunks_have_a_pace_too(net: Net) -> None:
    async def until_close(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000)
        peer.close()

    site, endpoint, client = await net.pair(until_close)
    site.serve(everything_to(endpoint.port, policy=Policy(rate=Rate(1_500))))
    assert (await client.get("/")).body == b"x" * 2_000
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n%b\r\n0\r\n\r\n" % (b"x" * 2_000)
    site, endpoint, client = await net.pair(answering(chunked))
    site.serve(everything_to(endpoint.port, policy=Policy(rate=Rate(1_500))))
    assert (await client.get("/")).body == b"x" * 2_000


async def test_a_client_that_reads_nothing_holds_up_its_pace(net: Net) -> None:
    endpoint = await net.endpoint(answering(reply(b"x" * 400_000)))
    site = await net.site(everything_to(endpoint.port, policy=Policy(rate=Rate(1_000_000))), window=4096)
    client = await net.client(site, window=4096)
    client.hold()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: any(one.write_paused for one in site.clients), what="the client holds the response up")
    client.go_on()
    assert (await client.response()).body == b"x" * 400_000


async def test_bytes_beyond_a_response_end_the_connection_whatever_its_pace(net: Net) -> None:
    site, endpoint, client = await net.pair(answering(reply(b"x" * 2_000) + b"HTTP/1.1 200 OK\r\n\r\nsmuggled"))
    site.serve(everything_to(endpoint.port, policy=Policy(rate=Rate(1_500))))
    assert [(await client.get("/")).body for _ in range(2)] == [b"x" * 2_000] * 2
    assert len(endpoint.peers) == 2


# --- in which words endpoints are asked


async def test_an_endpoint_of_old_is_asked_by_http_1_0(net: Net) -> None:
    site, endpoint, client = await net.pair(answering(reply(b"ok")))
    site.serve(everything_to(endpoint.port, policy=Policy(old_http=True)))
    assert (await client.get("/a?b", "a", "Connection: Upgrade", "Upgrade: websocket")).status == 200
    assert endpoint.received[0].startswith(b"GET /a?b HTTP/1.0\r\nHost: a\r\n")
    assert b"pgrade" not in endpoint.received[0]
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert (await client.response(b"POST")).status == 411


async def test_the_connection_field_is_as_the_route_says_but_for_upgrades(net: Net) -> None:
    site, endpoint, client = await net.pair(answering(reply(b"ok")))
    site.serve(everything_to(endpoint.port, policy=Policy(connection="keep-alive")))
    assert (await client.get("/")).status == 200
    assert b"\r\nConnection: keep-alive\r\n" in endpoint.received[0]
    await client.get("/", "a", "Connection: Upgrade", "Upgrade: websocket")
    assert b"".join(endpoint.received).count(b"\r\nConnection: keep-alive\r\n") == 1


# --- clients of HTTP/2


async def test_clients_of_http2_have_all_of_it_but_the_waiting(net: Net) -> None:
    site, client = await pair(net, echoing)
    endpoint = site.live.snapshot.upstreams[0].endpoints[0].port
    for policy in (
        Policy(buffering=Buffering(request=1000, response=1 << 20)),
        Policy(rate=Rate(10_000)),
        Policy(old_http=True, connection="close"),
    ):
        site.serve(everything_to(endpoint, policy=policy))
        fields = [(b":method", b"POST"), *request_fields("/a")[1:], (b"content-length", b"4")]
        stream = client.ask(fields, end=False)
        await client.send(stream, b"body")
        assert (await client.answer(stream)).body == b"/abody"
    site.serve(everything_to(endpoint, policy=Policy(rate=Rate(1_000))))
    begun = asyncio.get_running_loop().time()
    assert len((await client.get("/" + "x" * 1_500)).body) == 1_501
    assert asyncio.get_running_loop().time() - begun > 0.3
