"""Floods of HTTP/2 on real sockets: who sends one loses the connection, by the right error, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from eventually import eventually
from portway_proxy.http2 import frames
from portway_proxy.http2.codes import PREFACE, Code, Kind, Parameter
from portway_proxy.http2.packing import pack, pack_field
from portway_proxy.snapshot import Policy
from wire.http2_client import connect, pair, request_fields
from wire.parts import WEB
from wire.peers import Peer, answering, reply
from wire.site import Net, everything_to

_HEAD = pack(request_fields())
_LONG = pack(request_fields("/" + "x" * 7000))


def _numbers() -> Iterator[int]:
    return iter(range(1, 1 << 20, 2))


def _rapid_resets() -> Iterator[bytes]:
    for number in _numbers():
        yield frames.head(number, _HEAD, 1) + frames.reset(number, Code.CANCEL)


def _resets_by_us(fault: Callable[[int], bytes]) -> Callable[[], Iterator[bytes]]:
    """MadeYouReset (CVE-2025-8671): what has the server break off each stream."""

    def flood() -> Iterator[bytes]:
        for number in _numbers():
            yield frames.head(number, _HEAD, 0) + fault(number)

    return flood


def _refused() -> Iterator[bytes]:
    for number in _numbers():
        yield frames.head(number, _HEAD, 0)


def _again(frame: bytes) -> Callable[[], Iterator[bytes]]:
    def flood() -> Iterator[bytes]:
        yield frames.head(1, _HEAD, 0)
        while True:
            yield frame

    return flood


FLOODS = {
    "rapid reset": _rapid_resets,
    "a window widened by nothing": _resets_by_us(lambda number: frames.window_update(number, 0)),
    "a window too wide": _resets_by_us(lambda number: frames.window_update(number, (1 << 31) - 1)),
    "a head behind the end": _resets_by_us(lambda number: frames.data(number, b"", 1) + frames.head(number, _HEAD, 1)),
    "a body behind the end": _resets_by_us(lambda number: frames.data(number, b"", 1) + frames.data(number, b"x", 0)),
    "a priority of itself": _resets_by_us(
        lambda number: frames.frame(Kind.PRIORITY, 0, number, number.to_bytes(4) + b"\0")
    ),
    "streams beyond the limit": _refused,
    "continuations": _again(frames.frame(Kind.HEADERS, 0, 3, b"") + frames.frame(Kind.CONTINUATION, 0, 3, b"") * 50),
    "settings": _again(frames.settings({})),
    "pings": _again(frames.ping(bytes(8))),
    "empty bodies": _again(frames.data(1, b"", 0)),
    "padding alone": _again(frames.frame(Kind.DATA, 8, 1, b"\x00")),
    "priorities": _again(frames.frame(Kind.PRIORITY, 0, 7, b"\0\0\0\0\x10")),
    "window updates": _again(frames.window_update(0, 1)),
    "frames of no known kind": _again(frames.frame(0xEE, 0, 0, b"x" * 8)),
}


def _dribble() -> Iterator[bytes]:
    """Data Dribble (CVE-2019-9511): a body, byte by byte."""
    yield frames.settings({Parameter.INITIAL_WINDOW_SIZE: 0}) + frames.head(1, _LONG, 1)
    while True:
        yield frames.window_update(1, 1)


def _windows() -> Iterator[bytes]:
    """Yield frames each of which sets 2,700 windows, for each of many streams."""
    values = b"".join(b"\0\x04" + size.to_bytes(4) for size in range(2700))
    for number in range(1, 200, 2):
        yield frames.head(number, _LONG, 1)
    while True:
        yield frames.frame(Kind.SETTINGS, 0, 0, values)


FLOODS |= {"a body by the byte": _dribble, "windows": _windows}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_ends_who_sends_it_and_nobody_else(net: Net, name: str) -> None:
    async def script(peer: Peer) -> None:
        while True:
            head = await peer.head()
            if head.target == b"/":
                await peer.end()  # What is served makes up for what is not.
                return
            peer.send(reply(head.target))

    endpoint = await net.endpoint(script)
    site = await net.site(everything_to(endpoint.port))
    other = await connect(net, site)
    flooding = await net.client(site)
    flooding.send(PREFACE + frames.settings({}) + frames.ANSWERED_SETTINGS)
    for count, part in enumerate(FLOODS[name]()):
        if flooding.how:
            break
        flooding.send(part)
        if count % 100 == 0:
            await flooding.flush()
            assert (await other.get(f"/{count}")).body == b"/%d" % count
        assert count < 5000
    said = await flooding.rest()
    flooding.close()
    assert Code.ENHANCE_YOUR_CALM.to_bytes(4) in said
    assert site.counters.faults == {"enhance_your_calm": 1}
    assert (await other.get("/after")).body == b"/after"
    await eventually(lambda: len(site.clients) == 1 and all(one.exchange is None for one in site.upstreams))
    await eventually(lambda: not any(pool.connecting for pool in site.live.upstreams[WEB].pools))
    await eventually(lambda: endpoint.open == len(site.upstreams), what="those of the flood are closed")


async def test_a_bomb_of_fields_is_431_and_holds_no_memory(net: Net) -> None:
    site, _ = await pair(net)
    client = await net.client(site)
    large = b"\x40\x01x\x7f" + bytes((0x80 | (3900 - 127) & 0x7F, (3900 - 127) >> 7)) + b"v" * 3900
    client.send(PREFACE + frames.settings({}) + frames.head(1, _HEAD + large + b"\xbe" * 12000, 1))
    await eventually(lambda: site.counters.replies.get("fields_too_large"))


async def test_windows_of_nothing_hold_neither_endpoints_nor_memory_for_long(net: Net) -> None:
    site, client = await pair(net, answering(reply(bytes(1_000_000))), window=0)
    streams = [client.ask(request_fields()) for _ in range(50)]
    await client.until(lambda: all(client.answers[stream].fields for stream in streams))
    [home] = site.clients
    assert home.unsent < 50 * 700_000
    site.later(61)
    await client.until(lambda: all(client.answers[stream].over for stream in streams))
    assert {client.answers[stream].reset for stream in streams} == {Code.CANCEL}
    await eventually(lambda: not home.unsent and not any(one.exchange for one in site.upstreams))


async def test_who_reads_no_answers_gets_no_more_of_them(net: Net) -> None:
    endpoint = await net.endpoint(answering(b"HTTP/1.1 204 No Content\r\nX-Long: %b\r\n\r\n" % (b"x" * 5000)))
    site = await net.site(everything_to(endpoint.port), window=8192)
    client = await net.client(site, window=8192)
    client.hold()
    client.send(PREFACE + frames.settings({}) + frames.ANSWERED_SETTINGS)
    numbers = iter(range(1, 20_000, 2))
    for _ in range(100):
        client.send(b"".join(frames.head(next(numbers), _HEAD, 1) for _ in range(10)))
        await asyncio.sleep(0.005)
    [home] = site.clients
    assert home.connection.paused
    assert home.unsent < 2_000_000
    received = site.counters.received
    client.send(b"".join(frames.head(next(numbers), _HEAD, 1) for _ in range(1000)))
    await asyncio.sleep(0.1)
    assert site.counters.received == received
    site.later(31)
    site.later(31)
    await eventually(lambda: not site.clients)


async def test_answers_to_all_that_is_asked_in_one_read_do_not_gather_without_end(net: Net) -> None:
    site = await net.site(everything_to(1, policy=Policy(https_redirect=True)))
    other = await connect(net, site)
    client = await net.client(site, window=8192)
    client.hold()
    base = pack([(b":method", b"HEAD"), (b":scheme", b"http"), (b":authority", b"shop.example")])
    # Remembered, the path is one byte of each request, and 3,000 of each answer.
    long = bytearray(pack_field(b":path", b"/" + b"x" * 3000))
    long[0] |= 0x40
    client.send(PREFACE + frames.settings({}) + frames.ANSWERED_SETTINGS + frames.head(1, base + bytes(long), 1))
    numbers = iter(range(3, 20_001, 2))
    client.send(b"".join(frames.head(number, base + b"\xbe", 1) for number in numbers))
    await eventually(lambda: site.counters.faults)
    assert site.counters.faults == {"enhance_your_calm": 1}
    assert max(home.unsent for home in site.clients) < 3_000_000
    assert (await other.get()).status == 308
