"""Copies of requests: what they hold, and that nobody waits for what becomes of them."""

from __future__ import annotations

import asyncio

import pytest

from eventually import eventually
from portway_proxy.snapshot import Mirror, Policy
from wire.http2_client import connect, request_fields
from wire.peers import Client, Endpoint, Message, Peer, Script, answering, echoing, reply
from wire.site import WEB, Net, Site, prefix, table, upstream

TWIN = "shop/twin:80"
MIRROR = Mirror(TWIN, "/copy$request_uri", "twin.example")
DONE = answering(reply(b"never read"))


class Shop:
    """A site whose requests go to an endpoint, and copies of them to its twin."""

    def __init__(self, site: Site, web: Endpoint, twin: Endpoint, client: Client) -> None:
        self.site, self.web, self.twin, self.client = site, web, twin, client

    async def copy(self) -> Message:
        """Return the first copy."""
        await eventually(lambda: bool(self.twin.received and self.twin.received[0]), what="a copy comes")
        peer = Peer()
        peer.received += self.twin.received[0]
        return await peer.request()


async def shop(net: Net, script: Script = DONE, mirror: Mirror = MIRROR, policy: Policy | None = None) -> Shop:
    web, twin = await net.endpoint(echoing), await net.endpoint(script)
    routes = {"": [prefix("/", policy=policy or Policy(mirror=mirror))]}
    site = await net.site(table(routes, upstream(WEB, web.port), upstream(TWIN, twin.port)))
    return Shop(site, web, twin, await net.client(site))


async def test_a_copy_has_the_fields_and_the_body_and_its_answer_is_dropped(net: Net) -> None:
    here = await shop(net)
    here.client.send(b"POST /a?b HTTP/1.1\r\nHost: shop.example\r\nX-A: b\r\nContent-Length: 4\r\n\r\nbody")
    assert (await here.client.response(b"POST")).body == b"/a?bbody"
    await eventually(lambda: here.twin.received[0].endswith(b"body"), what="the copy is whole")
    copy = await here.copy()
    assert (copy.start, copy.get(b"host")) == (b"POST /copy/a?b HTTP/1.1", b"twin.example")
    assert (copy.get(b"x-a"), copy.get(b"x-forwarded-host"), copy.body) == (b"b", b"shop.example", b"body")
    assert len(await here.site.lines(1)) == 1


async def test_a_chunked_body_is_copied_chunk_by_chunk(net: Net) -> None:
    here = await shop(net)
    here.client.send(b"PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n")
    here.client.send(b"3\r\nend\r\n0\r\n\r\n")
    assert (await here.client.response(b"PUT")).body == b"/abodyend"
    await eventually(lambda: b"end\r\n0\r\n\r\n" in b"".join(here.twin.received), what="the copy is whole")


async def test_without_its_body_a_copy_has_the_head_alone(net: Net) -> None:
    here = await shop(net, mirror=Mirror(TWIN, "/", "twin.example", body=False))
    here.client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
    assert (await here.client.response(b"POST")).status == 200
    copy = await here.copy()
    assert (copy.start, copy.get(b"content-length"), copy.body) == (b"POST / HTTP/1.1", None, b"")


async def test_nobody_waits_for_a_service_that_hangs_or_is_away(net: Net) -> None:
    async def hanging(peer: Peer) -> None:
        await peer.end()

    here = await shop(net, hanging)
    assert [(await here.client.get("/a")).body for _ in range(3)] == [b"/a"] * 3
    here = await shop(net)
    here.twin.refuse()
    assert [(await here.client.get("/a")).body for _ in range(3)] == [b"/a"] * 3


async def test_a_service_that_does_not_keep_up_loses_the_copy_and_holds_nothing_up(net: Net) -> None:
    answered, gone = asyncio.Event(), asyncio.Event()

    async def deaf(peer: Peer) -> None:
        peer.hold()
        await answered.wait()
        peer.go_on()
        await peer.end()
        gone.set()

    here = await shop(net, deaf)
    body = b"x" * 20_000_000
    here.client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
    here.client.send(body)
    assert len((await here.client.response(b"POST")).body) == len(body) + 2
    answered.set()
    await eventually(gone.is_set, what="the copy was given up")
    assert sum(map(len, here.twin.received)) < len(body)


async def test_a_request_that_is_cut_off_leaves_no_whole_copy(net: Net) -> None:
    ends: list[str] = []

    async def listening(peer: Peer) -> None:
        await peer.head()
        ends.append(await peer.end())

    here = await shop(net, listening)
    here.client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
    await eventually(lambda: b"half" in b"".join(here.twin.received), what="half of the copy comes")
    here.client.reset()
    await eventually(lambda: bool(ends), what="the copy ends")


async def test_who_may_not_come_in_is_not_copied(net: Net) -> None:
    here = await shop(net, policy=Policy(mirror=MIRROR, deny=("127.0.0.0/8",)))
    assert (await here.client.get("/")).status == 403
    await asyncio.sleep(0)
    assert here.twin.peers == []


async def test_a_service_that_hangs_gets_a_bounded_number_of_copies(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hanging(peer: Peer) -> None:
        await peer.end()

    monkeypatch.setattr("portway_proxy.l7.mirror._MOST", 2)
    here = await shop(net, hanging)
    assert [(await here.client.get("/a")).status for _ in range(5)] == [200] * 5
    await eventually(lambda: len(here.twin.peers) == 2, what="two copies are under way")


async def test_requests_of_http2_are_copied_with_their_bodies(net: Net) -> None:
    here = await shop(net)
    client = await connect(net, here.site)
    fields = [(b":method", b"POST"), *request_fields("/a")[1:], (b"content-length", b"4")]
    stream = client.ask(fields, end=False)
    await client.send(stream, b"body")
    assert (await client.answer(stream)).body == b"/abody"
    await eventually(lambda: b"".join(here.twin.received).endswith(b"body"), what="the copy is whole")
