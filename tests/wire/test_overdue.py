"""The time that a whole request may take, however busy its parts are."""

from __future__ import annotations

import pytest

from eventually import eventually
from wire.peers import Peer, Truncated
from wire.site import Net, waits
from wire.test_upgrade import tunnel

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def silent(peer: Peer) -> None:
    """Take a request and say nothing."""
    await peer.request()


async def test_a_request_without_an_answer_by_then_is_504_and_its_endpoint_sees_the_end(net: Net) -> None:
    site, endpoint, client = await net.pair(silent, timeouts=waits(request=10))
    client.send(GET)
    await eventually(lambda: endpoint.received and endpoint.received[0].endswith(b"\r\n\r\n"))
    site.later(9)
    assert site.counters.replies == {}
    site.later(2)
    assert (await client.response()).status == 504
    line = await site.line()
    assert (line["status"], line["reason"]) == (504, "request_overdue")
    await eventually(lambda: endpoint.open == 0, what="the endpoint sees the end")


async def test_a_response_that_is_always_in_time_but_never_over_is_cut_off(net: Net) -> None:
    site, endpoint, client = await net.pair(silent, timeouts=waits(request=100))
    client.send(GET)
    await eventually(lambda: endpoint.peers and endpoint.peers[0].received)
    endpoint.peers[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
    await client.until(b"\r\n\r\n")
    for octet in b"ab":
        site.later(45)
        endpoint.peers[0].send(bytes([octet]))
        assert await client.exactly(1) == bytes([octet])
    site.later(11)
    with pytest.raises(Truncated):
        await client.rest()
    assert (await site.line())["reason"] == "request_overdue"


async def test_an_upload_that_is_always_in_time_but_never_over_is_504(net: Net) -> None:
    site, endpoint, client = await net.pair(timeouts=waits(request=100))
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    await eventually(lambda: endpoint.received and endpoint.received[0].endswith(b"\r\n\r\n"))
    before = site.counters.received
    for number in (1, 2):
        client.send(b"x" * 20000)
        await eventually(lambda: site.counters.received == before + 20000 * number)  # noqa: B023 - awaited at once
        site.later(45)
    site.later(11)
    assert (await client.response()).status == 504


async def test_each_request_of_a_connection_has_its_own_time_and_an_idle_one_needs_none(net: Net) -> None:
    site, _, client = await net.pair(timeouts=waits(request=10))
    for _ in range(3):
        assert (await client.get()).status == 200
        site.later(30)


async def test_a_tunnel_may_last_longer(net: Net) -> None:
    site, peer, client = await tunnel(net, timeouts=waits(request=10))
    site.later(60)
    peer.send(b"still here")
    assert await client.exactly(10) == b"still here"
