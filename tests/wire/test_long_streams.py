"""Responses that come bit by bit, and answers that come before the request is complete."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from certs import issue
from eventually import eventually
from wire.peers import Client, Endpoint, Peer, TlsClient, reply
from wire.site import WEB, Net, Site, everything_to, prefix, table, upstream, waits

GET = b"GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n"
LONG = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
BLOCK = b"x" * 65536


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    chain, key = issue("a")
    pem = tmp_path / "tls.pem"
    pem.write_bytes(chain + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


async def client_of(net: Net, site: Site, context: ssl.SSLContext | None) -> Client:
    if context is None:
        return await net.client(site)
    if not site.tls_port:
        await site.start_tls(context)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    _, client = await asyncio.get_running_loop().create_connection(
        TlsClient, "127.0.0.1", site.tls_port, ssl=trusting, server_hostname="a"
    )
    net.stack.callback(client.transport.abort)
    return client


# --- events


class Events:
    """An endpoint that sends an event when it is told to, framed in one of three ways."""

    def __init__(self, framing: str) -> None:
        self.framing = framing
        self.wanted = asyncio.Queue[bytes]()

    async def script(self, peer: Peer) -> None:
        await peer.request()
        length = {"chunked": b"Transfer-Encoding: chunked\r\n", "length": b"Content-Length: 10000\r\n", "end": b""}
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%b\r\n" % length[self.framing])
        while True:
            event = await self.wanted.get()
            peer.send(b"%x\r\n%b\r\n" % (len(event), event) if self.framing == "chunked" else event)


@pytest.mark.parametrize("framing", ["chunked", "length", "end"])
@pytest.mark.parametrize("secure", [False, True])
async def test_each_event_reaches_the_client_before_the_next_is_made(
    net: Net, framing: str, secure: bool, context: ssl.SSLContext
) -> None:
    events = Events(framing)
    endpoint = await net.endpoint(events.script)
    site = await net.site(everything_to(endpoint.port))
    client = await client_of(net, site, context if secure else None)
    client.send(GET)
    assert (await client.head()).get(b"content-type") == b"text/event-stream"
    for number in range(50):
        event = b"data: %d\n\n" % number
        events.wanted.put_nowait(event)
        await client.until(event)


async def test_a_stream_lasts_as_long_as_its_pauses_are_short(net: Net) -> None:
    events = Events("chunked")
    endpoint = await net.endpoint(events.script)
    site = await net.site(everything_to(endpoint.port), timeouts=waits(response=10.0, read=100.0))
    client = await net.client(site)
    client.send(GET)
    await client.head()
    for number in range(10):
        site.later(90)
        events.wanted.put_nowait(b"tick %d" % number)
        await client.until(b"tick %d" % number)
    site.later(103)
    assert await client.end() == "reset"
    await eventually(lambda: endpoint.open == 0, what="the endpoint sees the end")
    assert (await site.line())["reason"] == "upstream_timeout"


async def test_a_long_poll_waits_for_its_response_head_as_long_as_the_setting_says(net: Net) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            site.later(290)
            peer.send(reply(b"news"))

    endpoint = await net.endpoint(script)
    site = await net.site(everything_to(endpoint.port), timeouts=waits(response=300.0, keep_alive=1000.0))
    client = await net.client(site)
    for _ in range(3):
        assert (await client.get()).body == b"news"


# --- answers that come early


async def push(client: Client, framing: bytes) -> int:
    """Send a body without regard for any answer until the other side ends; return how much was sent."""
    sent = 0
    client.send(framing)
    while not client.how and not client.lost:
        client.send(b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK) if framing is CHUNKED else BLOCK)
        sent += len(BLOCK)
        await client.flush()
        await asyncio.sleep(0)
        if sent > 90_000_000:
            break
    return sent


@pytest.mark.parametrize("framing", [LONG, CHUNKED])
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("status", [404, 413, 503])
async def test_a_client_that_uploads_regardless_gets_our_own_answer(
    net: Net, framing: bytes, secure: bool, status: int, context: ssl.SSLContext
) -> None:
    targets = {404: table({"b": [prefix("/")]}, upstream(WEB, 1)), 503: everything_to()}
    endpoint = Endpoint(refusing)
    await endpoint.start()
    net.stack.push_async_callback(endpoint.close)
    site = await net.site(targets.get(status, everything_to(endpoint.port)))
    client = await client_of(net, site, context if secure else None)
    pushing = site.tasks.spawn(push(client, framing), "upload")
    response = await client.response()
    assert (response.status, response.closes) == (status, True)
    assert await client.end() in ("eof", "")
    assert await pushing < 90_000_000
    site.later(7)  # For so long, and no longer, is it read what nobody wants.
    await eventually(lambda: not site.clients, what="the connection ends")


async def refusing(peer: Peer) -> None:
    """Refuse at the head, and end the connection with the body unread: the kernel sends RST."""
    await peer.head()
    peer.hold()
    peer.send(reply(b"too large", b"413 Content Too Large"))
    peer.close()


async def test_a_client_that_sends_on_after_an_answer_is_not_listened_to_for_ever(net: Net) -> None:
    site = await net.site(table({}))
    client = await net.client(site)
    client.send(LONG)
    assert (await client.response()).status == 404
    for _ in range(20):
        if not client.lost:
            client.send(BLOCK)
        site.later(1)
        await asyncio.sleep(0.001)
    await eventually(lambda: not site.clients, what="the connection is cut")


@pytest.mark.parametrize("secure", [False, True])
async def test_a_client_that_expects_100_continue_gets_our_own_answer_and_sends_nothing(
    net: Net, secure: bool, context: ssl.SSLContext
) -> None:
    site = await net.site(table({}))
    client = await client_of(net, site, context if secure else None)
    client.send(LONG.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    response = await client.response()
    # Whether the body comes after all nobody knows: the connection cannot go on.
    assert (response.status, response.closes) == (404, True)
    assert await client.end() == "eof"
    client.close()
    await eventually(lambda: not site.clients, what="the connection ends")
