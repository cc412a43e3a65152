"""Trusted peers, which speak for their clients, on real sockets: who a request is from, and what follows from that."""

from __future__ import annotations

import re

import msgspec
import pytest

from portway_proxy.snapshot import Affinity, Balance, Belief, Policy, Snapshot, Trust, UpstreamPolicy
from wire.peers import Client, Endpoint
from wire.several import several
from wire.site import Net, Site, everything_to
from wire.test_forwarded import OURS, SPOOFED, fields

REQUEST = Trust(("127.0.0.0/8",), Belief.REQUEST)
ADDRESS = Trust(("127.0.0.0/8",), Belief.ADDRESS)
OTHERS = Trust(("192.0.2.0/24", "::/0"), Belief.REQUEST)


def believing(endpoint: Endpoint, trust: Trust | None, policy: Policy | None = None) -> Snapshot:
    return msgspec.structs.replace(everything_to(endpoint.port, policy=policy), trust=trust)


async def pair(net: Net, trust: Trust | None, policy: Policy | None = None) -> tuple[Site, Endpoint, Client]:
    endpoint = await net.endpoint()
    site = await net.site(believing(endpoint, trust, policy))
    return site, endpoint, await net.client(site)


def last(endpoint: Endpoint) -> dict[bytes, bytes]:
    """Return the fields of the last request, by lower-case names; none may come twice."""
    found = fields(endpoint)
    assert len({name.lower() for name, _ in found}) == len(found)
    return {name.lower(): value for name, value in found}


# --- nobody else


@pytest.mark.parametrize("trust", [OTHERS, Trust((), Belief.REQUEST), Trust(("127.0.0.0/8",))])
async def test_what_a_peer_says_that_nobody_trusts_never_passes(net: Net, trust: Trust) -> None:
    site, endpoint, client = await pair(net, trust)
    for line in SPOOFED:
        await client.get("/", "Shop.Example:8080", line)
        got = last(endpoint)
        assert not any(b"6.6.6.6" in value for value in got.values()), line
        said = [got[name] for name in OURS]
        port = b"%d" % site.port
        assert said == [b"127.0.0.1", b"127.0.0.1", port, b"http", b"http", b"http", b"Shop.Example:8080"]


async def test_the_field_that_would_name_the_client_is_dropped_when_nobody_trusted_says_it(net: Net) -> None:
    _, endpoint, client = await pair(net, msgspec.structs.replace(OTHERS, field="CF-Connecting-IP"))
    await client.get("/", "a", "CF-Connecting-IP: 6.6.6.6", "cf-connecting-ip: 6.6.6.6")
    assert b"cf-connecting-ip" not in last(endpoint)


# --- who is trusted


async def test_an_endpoint_is_told_what_the_trusted_peer_says(net: Net) -> None:
    site, endpoint, client = await pair(net, REQUEST)
    client.send(
        b"PUT /a HTTP/1.1\r\nHost: lb.internal\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
        b"x-forwarded-host: Shop.Example\r\nX-Forwarded-Prefix: /shop\r\nX-Request-ID: my-id\r\nContent-Length: 2\r\n"
        b"\r\nhi"
    )
    await client.response()
    assert endpoint.received[0].splitlines() == [
        b"PUT /a HTTP/1.1",
        b"Host: lb.internal",
        b"X-Forwarded-For: 192.0.2.7",
        b"X-Real-IP: 192.0.2.7",
        b"X-Forwarded-Port: 443",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Scheme: https",
        b"X-Scheme: https",
        b"X-Original-Forwarded-For: 6.6.6.6, 192.0.2.7",
        b"X-Original-Forwarded-Host: Shop.Example",
        b"X-Forwarded-Prefix: /shop",
        b"X-Forwarded-Host: Shop.Example",
        b"X-Request-ID: my-id",
        b"Content-Length: 2",
        b"",
        b"hi",
    ]
    assert (await site.line())["client"] == "192.0.2.7"


async def test_requests_of_many_clients_on_one_connection_are_told_apart(net: Net) -> None:
    site, endpoint, client = await pair(net, REQUEST)
    clients = [f"192.0.2.{number}" for number in range(1, 9)]
    said = [f"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\n\r\n" for address in clients]
    client.send("".join(said).encode() + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for _ in range(len(clients) + 1):
        await client.response()
    expected = [*clients, "127.0.0.1"]
    assert re.findall(r"X-Forwarded-For: (\S+)", endpoint.received[0].decode()) == expected
    assert [line["client"] for line in await site.lines(len(expected))] == expected


@pytest.mark.parametrize(
    "nominated", ["X-Forwarded-For, X-Forwarded-Proto, X-Real-IP, X-Forwarded-Host, X-Request-ID", "x-forwarded-for"]
)
async def test_the_connection_field_cannot_take_away_what_a_trusted_peer_says(net: Net, nominated: str) -> None:
    _, endpoint, client = await pair(net, REQUEST)
    said = ("X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example")
    await client.get("/", "a", *said, f"Connection: {nominated}", "X-Request-ID: mine")
    got = last(endpoint)
    assert (got[b"x-forwarded-for"], got[b"x-real-ip"], got[b"x-forwarded-proto"]) == (
        b"192.0.2.7",
        b"192.0.2.7",
        b"https",
    )
    assert (got[b"x-forwarded-host"], got[b"x-request-id"]) == (b"shop.example", b"mine")


async def test_aliases_of_what_a_trusted_peer_says_are_dropped(net: Net) -> None:
    _, endpoint, client = await pair(net, REQUEST)
    aliases = ("X_Forwarded_For", "X.Forwarded.For", "X-Forwarded_For", "X_Real_IP", "X-Forwarded.Proto")
    await client.get("/", "a", *(f"{alias}: 6.6.6.6" for alias in aliases))
    got = last(endpoint)
    assert not any(b"6.6.6.6" in value for value in got.values())
    assert got[b"x-forwarded-for"] == b"127.0.0.1"


async def test_a_malformed_chain_is_refused_as_the_peers_own_request(net: Net) -> None:
    site, endpoint, client = await pair(net, msgspec.structs.replace(REQUEST, field="Forwarded"))
    await client.get("/", "a", "Forwarded: for=192.0.2.7")
    response = await client.get("/", "a", 'Forwarded: for="6.6.6.6', "Forwarded: for=192.0.2.8")
    assert response.status == 400
    assert len(endpoint.received[0].split(b"\r\n\r\n")) == 2
    assert [line["client"] for line in await site.lines(2)] == ["192.0.2.7", "127.0.0.1"]


# --- what follows


async def test_clients_that_came_by_tls_are_not_sent_there_again(net: Net) -> None:
    site, endpoint, client = await pair(net, REQUEST, Policy(https_redirect=True))
    site.http.https_port = 443
    assert (await client.get("/", "a", "X-Forwarded-Proto: https")).status == 200
    redirected = await client.get("/x", "a", "X-Forwarded-Proto: http", "X-Forwarded-Host: Shop.Example:80")
    assert (redirected.status, redirected.get(b"location")) == (308, b"https://shop.example/x")
    site.serve(believing(endpoint, ADDRESS, Policy(https_redirect=True)))
    assert (await client.get("/", "a", "X-Forwarded-Proto: https")).status == 308


async def test_a_hash_of_the_source_address_is_of_the_client(net: Net) -> None:
    some = await several(net, "abc", balance=Balance.HASH)
    some.site.serve(msgspec.structs.replace(some.snapshot(), trust=ADDRESS))
    said = [f"X-Forwarded-For: 6.6.6.6, 192.0.2.{number}" for number in range(60)]
    first = {line: await some.bodies(1, line) for line in said}
    assert set(first.values()) == set("abc")
    assert {line: await some.bodies(2, line) for line in said} == {line: letter * 2 for line, letter in first.items()}
    # What stands left of the client is the client's to say.
    again = {line: await some.bodies(1, line.replace("6.6.6.6", "7.7.7.7")) for line in said}
    assert again == first


async def test_a_cookie_is_for_tls_alone_where_the_client_came_by_it(net: Net) -> None:
    some = await several(net, "a", UpstreamPolicy(affinity=Affinity()))
    some.site.serve(msgspec.structs.replace(some.snapshot(), trust=REQUEST))
    for scheme, secure in (("https", True), ("http", False)):
        response = await (await some.client()).get("/", "a", f"X-Forwarded-Proto: {scheme}")
        assert (b"; Secure" in (response.get(b"set-cookie") or b"")) is secure


# --- live


async def test_whom_to_believe_changes_on_connections_that_are_open(net: Net) -> None:
    site, endpoint, client = await pair(net, None)
    for trust, told in ((None, b"127.0.0.1"), (REQUEST, b"192.0.2.7"), (OTHERS, b"127.0.0.1"), (ADDRESS, b"192.0.2.7")):
        site.serve(believing(endpoint, trust))
        for _ in range(2):
            await client.get("/", "a", "X-Forwarded-For: 192.0.2.7")
            assert last(endpoint)[b"x-forwarded-for"] == told


# --- ids and traces


async def test_no_id_is_made_where_none_is_wanted_and_one_that_came_is_kept(net: Net) -> None:
    site, endpoint, client = await pair(net, None)
    site.serve(msgspec.structs.replace(site.live.snapshot, request_ids=False))
    await client.get()
    assert b"x-request-id" not in last(endpoint)
    await client.get("/", "a", "X-Request-ID: mine")
    assert last(endpoint)[b"x-request-id"] == b"mine"
    assert [line["request_id"] for line in await site.lines(2)] == ["", "mine"]
    site.serve(msgspec.structs.replace(Snapshot(), request_ids=False))
    assert (await client.get()).get(b"x-request-id") is None


async def test_a_trace_passes_as_it_came(net: Net) -> None:
    _, endpoint, client = await pair(net, None)
    trace = [
        (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        (b"tracestate", b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (b"tracestate", b"other=1"),
        (b"baggage", b"user=1"),
    ]
    await client.get("/", "a", *(f"{name.decode()}: {value.decode()}" for name, value in trace))
    assert [pair for pair in fields(endpoint) if pair[0] in dict(trace)] == trace
