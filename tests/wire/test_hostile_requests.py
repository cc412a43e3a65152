"""No hostile request lets anything disallowed through, becomes two, or is repaired (see `hostile`)."""

from __future__ import annotations

import re

import h11
import pytest

from wire.hostile import SMUGGLED, Case, Outcome
from wire.hostile_bodies import BODIES
from wire.hostile_heads import HEADS
from wire.peers import Client, Peer, Truncated, reply
from wire.site import Net, Site, by_the_byte

CASES = [*HEADS, *BODIES]
_LINE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
# What may never reach an endpoint, whoever sent it.
_DISALLOWED = {
    b"te",
    b"trailer",
    b"keep-alive",
    b"proxy-connection",
    b"proxy",
    b"forwarded",
    b"upgrade",
    b"connection",
    b"http2-settings",
}


async def accepting(peer: Peer) -> None:
    """Answer every complete request, with its target."""
    while True:
        request = await peer.request()
        body = b"" if request.start.startswith(b"HEAD") else b"for " + request.target
        peer.send(reply(body) if body else b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")


def complete_requests(received: bytes) -> tuple[list[h11.Request], bool]:
    """Return what another strict parser reads from a connection: the complete requests, and whether a part follows."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(received)
    found: list[h11.Request] = []
    begun: h11.Request | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA or event is h11.PAUSED:
            return found, begun is not None or bool(connection.trailing_data[0])
        if isinstance(event, h11.Request):
            begun = event
        elif isinstance(event, h11.EndOfMessage):
            # An ordinary trailer is the only one that may follow.
            assert {name for name, _ in event.headers} <= {b"x"}
            assert begun is not None
            found.append(begun)
            begun = None
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()


def check_clean(request: h11.Request, site: Site) -> None:
    """Check that a request is in the one form that the proxy writes."""
    names = [name for name, _ in request.headers]
    fields = dict(request.headers)
    assert not _DISALLOWED.intersection(names)
    assert all(re.fullmatch(rb"[a-z0-9-]+", name) for name in names)
    assert all(_LINE.fullmatch(value) for value in fields.values())
    assert names.count(b"host") == 1
    assert fields[b"host"].lower() == b"a"
    assert names.count(b"x-forwarded-for") == 1
    assert fields[b"x-forwarded-for"] == b"127.0.0.1"
    assert fields[b"x-forwarded-port"] == b"%d" % site.port
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert b"smuggled" not in request.target
    assert not any(b"smuggled" in value for value in fields.values())
    assert request.http_version == b"1.1"


def check_lines(received: bytes) -> None:
    """Check the raw bytes of the first head: no line in it ends or hides in another way."""
    head = received.partition(b"\r\n\r\n")[0]
    assert all(_LINE.fullmatch(line) for line in head.split(b"\r\n")), head


async def answers(client: Client, case: Case) -> list[int]:
    """Return the statuses that a client gets until its connection ends."""
    method = case.data.lstrip().split(b" ", 1)[0]
    statuses: list[int] = []
    while True:
        try:
            response = await client.response(b"GET" if statuses else method)
        except Truncated as end:
            if end.args != ("eof", b""):
                raise
            return statuses
        if response.status >= 200:
            statuses.append(response.status)
            # Whatever follows was refused by now, or nothing does.
            client.half_close()


def test_the_corpus_is_as_large_as_it_says() -> None:
    assert len(CASES) >= 300
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_hostile_request_gets_no_further_than_it_may(net: Net, case: Case) -> None:
    site, endpoint, client = await net.pair(accepting)
    client.send(case.data)
    statuses = await answers(client, case)
    assert statuses[0] == case.status
    assert statuses[1:] in ([], [400])
    # Another client is not touched by any of it.
    other = await net.client(site)
    assert (await other.get("/benign")).body == b"for /benign"
    seen: list[h11.Request] = []
    parts = 0
    for received in endpoint.received:
        found, part = complete_requests(received)
        check_lines(received)
        seen += found
        parts += part
    assert seen.pop().target == b"/benign"
    assert len(seen) == (1 if case.outcome is Outcome.ONE else 0)
    assert parts <= (1 if case.outcome is Outcome.PART else 0)
    for request in seen:
        check_clean(request, site)
    if case.outcome is Outcome.NOTHING:
        assert not any(SMUGGLED[:14] in received for received in endpoint.received)
        assert [data.count(b" HTTP/1.1\r\n") for data in endpoint.received] == [1]


# A few are long on purpose; what is special about them is not how they arrive.
@pytest.mark.parametrize("case", [case for case in CASES if len(case.data) < 1000], ids=lambda case: case.name)
async def test_a_hostile_request_is_no_different_when_it_comes_by_the_byte(net: Net, case: Case) -> None:
    site, endpoint, client = await net.pair(accepting)
    await by_the_byte(site, client, case.data)
    statuses = await answers(client, case)
    assert statuses[0] == case.status
    assert statuses[1:] in ([], [400])
    seen = [request for received in endpoint.received for request in complete_requests(received)[0]]
    assert len(seen) == (1 if case.outcome is Outcome.ONE else 0)
    for request in seen:
        check_clean(request, site)
