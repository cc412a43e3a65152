"""How long a client is waited for: every wait ends, not before its time, with the blame where it belongs.

The clock is put forward, so that the usual timeouts cost no time. Every wait is checked on both sides of its end.
"""

from __future__ import annotations

import pytest

from eventually import eventually
from wire.peers import OK, Client, Peer, Truncated, answering, reply
from wire.site import Net, Site, everything_to, limits

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"


async def arrived(site: Site, size: int) -> None:
    """Wait until the site has `size` bytes from its clients."""
    await eventually(lambda: site.counters.received >= size, what=f"{size} bytes arrive")


# --- the client


async def test_a_client_that_sends_nothing_is_ended_without_a_word(net: Net) -> None:
    site, _, client = await net.pair()
    await eventually(lambda: site.clients)
    site.later(59)
    assert len(site.clients) == 1
    site.later(2)
    assert await client.end()
    assert client.received == b""
    await eventually(lambda: not site.clients)


@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\nHo", b"GET / HTTP/1.1\r\nHost: a\r\n\r"])
async def test_a_head_that_does_not_come_in_time_is_408(net: Net, start: bytes) -> None:
    site, endpoint, client = await net.pair()
    client.send(start)
    await arrived(site, len(start))
    site.later(59)
    assert site.counters.replies == {}
    site.later(2)
    response = await client.response()
    assert (response.status, response.closes) == (408, True)
    assert await client.rest() == b""
    assert (await site.line())["reason"] == "request_timeout"
    assert endpoint.peers == []


async def test_a_head_that_trickles_has_no_more_time(net: Net) -> None:
    site, _, client = await net.pair()
    for number, octet in enumerate(GET[:6]):
        client.send(bytes([octet]))
        await arrived(site, number + 1)
        site.later(9)
    assert site.counters.replies == {}
    client.send(GET[6:7])
    await arrived(site, 7)
    site.later(9)
    assert (await client.response()).status == 408


async def test_a_pipelined_head_that_trickles_has_no_more_time(net: Net) -> None:
    site, _, client = await net.pair()
    client.send(GET + GET[:5])
    assert (await client.response()).status == 200
    for number, octet in enumerate(GET[5:10]):
        client.send(bytes([octet]))
        await arrived(site, len(GET) + 6 + number)
        site.later(13)
    assert (await client.response()).status == 408


async def test_empty_lines_buy_a_client_no_time(net: Net) -> None:
    site, _, client = await net.pair()
    for number in range(3):
        client.send(b"\r\n")
        await eventually(lambda: site.counters.received >= 2 * number + 2 or client.received)  # noqa: B023 - at once
        site.later(50)
    assert (await client.response()).status in (400, 408)


async def test_an_idle_client_is_ended_without_a_word(net: Net) -> None:
    site, _, client = await net.pair()
    await client.get()
    site.later(74)
    await client.get()
    site.later(74)
    assert len(site.clients) == 1
    site.later(2)
    assert await client.rest() == b""
    await eventually(lambda: not site.clients)
    assert len(await site.lines(2)) == 2


async def test_an_idle_client_that_begins_a_request_has_the_time_of_a_head(net: Net) -> None:
    site, _, client = await net.pair()
    await client.get()
    site.later(70)
    size = site.counters.received
    client.send(GET[:10])
    await arrived(site, size + 10)
    site.later(59)
    client.send(GET[10:])
    assert (await client.response()).status == 200


@pytest.mark.parametrize("start", [b"", b"half"])
async def test_a_body_that_stops_is_408_and_ends_the_endpoints_connection(net: Net, start: bytes) -> None:
    site, endpoint, client = await net.pair()
    client.send(POST + start)
    await eventually(lambda: endpoint.received and endpoint.received[0].endswith(b"\r\n\r\n" + start))
    site.later(59)
    assert site.counters.replies == {}
    site.later(2)
    response = await client.response()
    assert (response.status, response.closes) == (408, True)
    assert await client.rest() == b""
    assert (await site.line())["reason"] == "request_timeout"
    await eventually(lambda: endpoint.open == 0, what="the endpoint sees the end")
    assert site.pooled() == 0


async def trickle(net: Net, pieces: int, size: int, every: float) -> tuple[Site, Client]:
    """Return a site and its client, which sent so many pieces of its body, one in so many seconds."""
    site, endpoint, client = await net.pair()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (pieces * size))
    await eventually(lambda: endpoint.received and endpoint.received[0].endswith(b"\r\n\r\n"))
    head = len(endpoint.received[0])
    for number in range(pieces):
        client.send(b"x" * size)
        came = head + size * (number + 1)
        await eventually(lambda: endpoint.received[0][came - 1 : came] or client.received)  # noqa: B023 - at once
        if client.received:
            break
        site.later(every)
    return site, client


async def test_a_slow_body_has_all_the_time_that_it_needs(net: Net) -> None:
    # hostile-world 2, row 2: ten minutes at 100 kB/s, and a quarter of an hour at the least rate.
    _, client = await trickle(net, 20, 3_000_000, 30)
    assert len((await client.response()).body) == 60_000_001
    _, client = await trickle(net, 20, 240 * 50, 50)
    assert len((await client.response()).body) == 20 * 240 * 50 + 1


async def test_a_body_that_always_comes_in_time_but_hardly_at_all_is_408(net: Net) -> None:
    # The same row: an octet a second.
    site, client = await trickle(net, 200, 1, 1.0)
    response = await client.response()
    assert (response.status, response.closes) == (408, True)
    line = await site.line()
    assert line["reason"] == "request_timeout"
    assert 55 <= int(str(line["request_size"])) <= 70


async def test_without_a_least_rate_a_body_may_trickle(net: Net) -> None:
    endpoint = await net.endpoint()
    site = await net.site(everything_to(endpoint.port), limits(body_rate=0))
    client = await net.client(site)
    client.send(POST)
    await eventually(lambda: endpoint.received and endpoint.received[0].endswith(b"\r\n\r\n"))
    head = len(endpoint.received[0])
    for number in range(20):
        client.send(b"x" * 5)
        await eventually(lambda: sum(map(len, endpoint.received)) == head + 5 * number + 5)  # noqa: B023 - at once
        site.later(50)
    assert (await client.response()).body == b"/" + b"x" * 100


async def held_up(net: Net, script_ends: bytes = OK) -> tuple[Site, Peer, Client, int]:
    """Return a site whose client is held up in its body by an endpoint that reads nothing."""
    total = 20_000_000

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.hold()
        peer.counting = True
        await peer.wait(lambda: peer.size >= total)
        peer.send(script_ends)

    site, endpoint, client = await net.pair(script)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (total + 100) + b"x" * total)
    await eventually(lambda: any(some.write_paused for some in site.upstreams), what="the proxy holds the client up")
    return site, endpoint.peers[0], client, total


async def test_a_client_that_an_endpoint_holds_up_is_not_blamed_for_it(net: Net) -> None:
    site, peer, client, total = await held_up(net)
    site.later(59)
    peer.go_on()
    await eventually(lambda: peer.size >= total, what="the endpoint takes what has come")
    site.later(59)
    client.send(b"x" * 100)
    assert (await client.response()).status == 200


async def test_an_endpoint_that_takes_no_body_is_504(net: Net) -> None:
    site, peer, client, _ = await held_up(net)
    site.later(59)
    assert site.counters.replies == {}
    site.later(2)
    response = await client.response()
    assert (response.status, response.closes) == (504, True)
    assert (await site.line())["reason"] == "upstream_timeout"
    peer.go_on()
    assert await peer.end()


async def test_a_client_that_stops_once_a_slow_endpoint_takes_more_is_408(net: Net) -> None:
    site, peer, client, total = await held_up(net, b"")
    site.later(59)
    peer.go_on()
    await eventually(lambda: peer.size >= total, what="the endpoint takes what has come")
    site.later(61)
    assert (await client.response()).status == 408


async def test_a_client_that_reads_nothing_is_given_up(net: Net) -> None:
    endpoint = await net.endpoint(answering(reply(b"x" * 10_000_000)))
    site = await net.site(everything_to(endpoint.port), window=4096)
    client = await net.client(site, window=4096)
    client.hold()
    client.send(GET)
    await eventually(lambda: any(some.write_paused for some in site.clients))
    site.later(31)
    assert len(site.clients) == 1
    site.later(31)
    await eventually(lambda: not site.clients, what="the client is given up")
    await eventually(lambda: endpoint.open == 0, what="the endpoint sees the end")
    line = await site.line()
    assert (line["status"], line["reason"]) == (200, "client_gone")
    client.go_on()
    with pytest.raises(Truncated):
        await client.response()


async def test_a_client_that_reads_slowly_is_waited_for(net: Net) -> None:
    body = b"x" * 3_000_000
    endpoint = await net.endpoint(answering(reply(body)))
    site = await net.site(everything_to(endpoint.port), limits(buffer=2_000_000), window=16384)
    client = await net.client(site, window=16384)
    client.hold()
    client.send(GET)
    await eventually(lambda: any(some.write_paused for some in site.clients))
    [connection] = site.clients
    # It takes a part of what waits, too small for anything to move on to the endpoint.
    client.sipping = True
    for _ in range(10):
        size = client.size
        waiting = connection._transport.get_write_buffer_size()
        while connection._transport.get_write_buffer_size() == waiting:
            client.go_on()
            await eventually(lambda: client.size > size)  # noqa: B023 - awaited at once
            size = client.size
        site.later(31)
        assert connection.write_paused
    client.sipping = False
    client.go_on()
    assert (await client.response()).body == body


async def test_the_last_bytes_for_a_slow_reader_have_the_time_to_send_not_to_linger(net: Net) -> None:
    body = b"x" * 50_000
    endpoint = await net.endpoint(answering(reply(body)))
    site = await net.site(everything_to(endpoint.port), window=4096)
    client = await net.client(site, window=4096)
    client.hold()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await eventually(lambda: any(some._lingering for some in site.clients), what="the response is complete")
    site.later(29)
    client.go_on()
    assert (await client.response()).body == body
    assert await client.end() == "eof"


async def test_a_client_that_never_reads_the_last_bytes_is_given_up(net: Net) -> None:
    endpoint = await net.endpoint(answering(reply(b"x" * 50_000)))
    site = await net.site(everything_to(endpoint.port), window=4096)
    client = await net.client(site, window=4096)
    client.hold()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await eventually(lambda: any(some._lingering for some in site.clients), what="the response is complete")
    for _ in range(3):
        site.later(31)
    await eventually(lambda: not site.clients, what="the client is given up")


async def test_a_client_that_sends_on_after_its_answer_is_given_up(net: Net) -> None:
    site, _, client = await net.pair()
    client.send(b"nonsense\r\n\r\n")
    assert (await client.response()).status == 400
    site.later(4)
    client.send(b"more")
    assert len(site.clients) == 1
    site.later(2)
    await eventually(lambda: not site.clients)
