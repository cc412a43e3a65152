"""Endpoints that speak HTTP/2: calls on shared connections, what is tried again, and who holds up whom."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec
import pytest
from h2.errors import ErrorCodes

from eventually import eventually
from portway_proxy.checks import Checks
from portway_proxy.l7.shared_pool import SharedPool
from portway_proxy.snapshot import (
    Check,
    EndpointTls,
    Keyring,
    Policy,
    Protocol,
    ProxyVersion,
    Rate,
    Snapshot,
    UpstreamPolicy,
)
from wire.calls import Answer, Caller, Calls
from wire.peers import Client, Peer
from wire.site import WEB, Net, everything_to, limits, waits

CHUNKED = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def echo(call: Caller) -> None:
    """Answer with the target and the body."""
    body = await call.whole()
    target = call.get(b":path") or b""
    call.head(200, ("content-type", "text/plain"))
    await call.send(target + body)
    call.finish()


async def calls(net: Net, answer: Answer = echo, most: int = 0) -> Calls:
    endpoint = Calls(answer, most)
    await endpoint.start()

    async def end() -> None:
        await endpoint.close()
        assert endpoint.faults == []

    net.stack.push_async_callback(end)
    return endpoint


def to(*endpoints: Calls, policy: UpstreamPolicy | None = None) -> Snapshot:
    made = everything_to(*(endpoint.port for endpoint in endpoints), protocol=Protocol.H2C)
    [upstream] = made.upstreams
    return msgspec.structs.replace(made, upstreams=(msgspec.structs.replace(upstream, policy=policy),))


async def test_a_request_of_http_1_becomes_a_call_and_its_answer_a_response(net: Net) -> None:
    endpoint = await calls(net)
    site = await net.site(to(endpoint))
    client = await net.client(site)
    response = await client.get("/a?b=c", "shop.example", "X-One: 1", "Cookie: a=b", "Connection: X-Two", "X-Two: 2")
    assert (response.status, response.body) == (200, b"/a?b=c")
    [call] = endpoint.calls
    named = dict(call.fields)
    assert [named[name] for name in (b":method", b":scheme", b":authority", b":path")] == [
        b"GET",
        b"http",
        b"shop.example",
        b"/a?b=c",
    ]
    assert (named[b"x-one"], named[b"cookie"], named[b"x-forwarded-for"]) == (b"1", b"a=b", b"127.0.0.1")
    assert named[b"te"] == b"trailers"
    assert {b"x-two", b"connection", b"host"}.isdisjoint(named)
    line = await site.line()
    assert (line["status"], line["endpoint"]) == (200, f"127.0.0.1:{endpoint.port}")


@pytest.mark.parametrize("size", [0, 5, 70_000, 1_000_000, 5_000_000])
async def test_bodies_of_any_size_pass_both_ways(net: Net, size: int) -> None:
    endpoint = await calls(net)
    site = await net.site(to(endpoint))
    client = await net.client(site)
    body = bytes(range(251)) * (size // 251 + 1)
    body = body[:size]
    client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (size, body))
    response = await client.response()
    assert response.body == b"/x" + body
    client.send(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")
    assert (await client.response()).body == b"/xhello"
    assert endpoint.calls[0].get(b"content-length") == b"%d" % size
    assert endpoint.calls[1].get(b"content-length") is None
    assert len(endpoint.connections) == 1


async def test_many_calls_share_a_connection(net: Net) -> None:
    open_ = asyncio.Event()

    async def wait(call: Caller) -> None:
        await open_.wait()
        await echo(call)

    endpoint = await calls(net, wait)
    site = await net.site(to(endpoint))
    clients = [await net.client(site) for _ in range(50)]
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: len(endpoint.calls) == 50, what="50 calls at once")
    open_.set()
    assert {(await client.response()).status for client in clients} == {200}
    assert len(endpoint.connections) == 1


async def test_no_more_calls_at_once_than_the_endpoint_allows(net: Net) -> None:
    at_once = 0
    most = 0

    async def count(call: Caller) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        await echo(call)
        at_once -= 1

    endpoint = await calls(net, count, most=3)
    site = await net.site(to(endpoint), limits(pool=2))
    clients = [await net.client(site) for _ in range(40)]
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    statuses = [(await client.response()).status for client in clients]
    assert statuses == [200] * 40
    assert most <= 6
    assert len(endpoint.connections) <= 2


async def test_a_call_that_finds_no_room_in_time_is_504(net: Net) -> None:
    async def hold(call: Caller) -> None:
        await call.until(lambda: call.reset is not None)

    endpoint = await calls(net, hold, most=1)
    site = await net.site(to(endpoint), limits(pool=1), waits(connect=1))
    first, second = await net.client(site), await net.client(site)
    first.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: len(endpoint.calls) == 1, what="a call")
    await eventually(lambda: endpoint.connections[0].h2.remote_settings is not None)
    second.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: site.live.upstreams[WEB].pools[0].load == 2, what="one that waits")
    site.later(3)
    assert (await second.response()).status == 504


async def test_interim_responses_and_trailers_pass(net: Net) -> None:
    async def answer(call: Caller) -> None:
        await call.whole()
        call.head(103, ("link", "</a.css>"))
        call.head(200)
        await call.send(b"body")
        call.finish(("x-sum", "1"), ("grpc-status", "0"))

    endpoint = await calls(net, answer)
    site = await net.site(to(endpoint))
    client = await net.client(site)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n")
    interim = await client.response()
    assert (interim.status, interim.get(b"link")) == (103, b"</a.css>")
    assert (await client.response()).body == b"body"
    assert client.trailers == [b"x-sum: 1", b"grpc-status: 0"]


async def test_trailers_of_a_request_pass(net: Net) -> None:
    endpoint = await calls(net)
    site = await net.site(to(endpoint))
    client = await net.client(site)
    client.send(CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
    assert (await client.response()).body == b"/xhello"
    assert list(endpoint.calls[0].trailers) == [(b"x-sum", b"1")]


@pytest.mark.parametrize("request_", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"])
@pytest.mark.parametrize("how", ["refused", "goaway"])
async def test_what_an_endpoint_did_not_take_is_sent_once_more_with_its_body(
    net: Net, request_: bytes, how: str
) -> None:
    seen = 0

    async def answer(call: Caller) -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            await echo(call)
        elif how == "refused":
            await call.whole()
            call.refuse()
        else:
            await call.whole()
            call.connection.goaway(0)

    endpoint = await calls(net, answer)
    site = await net.site(to(endpoint))
    client = await net.client(site)
    client.send(request_)
    response = await client.response()
    assert response.status == 200
    assert response.body in (b"/", b"/xhello")
    assert seen == 2


async def test_a_call_that_may_have_been_served_is_not_sent_again(net: Net) -> None:
    async def answer(call: Caller) -> None:
        await call.whole()
        call.refuse(ErrorCodes.INTERNAL_ERROR)

    one, two = await calls(net, answer), await calls(net, answer)
    site = await net.site(to(one, two))
    client = await net.client(site)
    client.send(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")
    assert (await client.response()).status == 502
    assert len(one.calls) + len(two.calls) == 1
    assert (await site.line())["reason"] == "upstream_reset"


async def test_an_endpoint_that_says_goodbye_finishes_what_it_has_and_gets_nothing_new(net: Net) -> None:
    slow = asyncio.Event()

    async def answer(call: Caller) -> None:
        if call.get(b":path") == b"/slow":
            call.connection.goaway(call.number)
            await slow.wait()
        await echo(call)

    endpoint = await calls(net, answer)
    site = await net.site(to(endpoint))
    first, second = await net.client(site), await net.client(site)
    first.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: len(endpoint.calls) == 1, what="a call")
    assert (await second.get("/next")).body == b"/next"
    assert len(endpoint.connections) == 2
    slow.set()
    assert (await first.response()).status == 200
    await eventually(lambda: endpoint.connections[0].lost, what="the end of the first connection")
    assert not endpoint.connections[1].lost


async def test_a_client_that_leaves_cancels_its_call_and_no_other(net: Net) -> None:
    async def hold(call: Caller) -> None:
        await call.until(lambda: call.reset is not None or call.get(b":path") == b"/go")
        if call.reset is None:
            await echo(call)

    endpoint = await calls(net, hold)
    site = await net.site(to(endpoint))
    first, second = await net.client(site), await net.client(site)
    first.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: len(endpoint.calls) == 1, what="a call")
    first.close()
    await eventually(lambda: endpoint.calls[0].reset == ErrorCodes.CANCEL, what="the call to be cancelled")
    assert (await second.get("/go")).status == 200
    assert len(endpoint.connections) == 1


async def test_a_slow_client_holds_up_its_own_endpoint_s_call_and_no_other(net: Net) -> None:
    big = b"x" * 20_000_000

    async def answer(call: Caller) -> None:
        call.head()
        await call.send(big if call.get(b":path") == b"/big" else b"small")
        if call.reset is None:
            call.finish()

    endpoint = await calls(net, answer)
    site = await net.site(to(endpoint), window=65536)
    slow, quick = await net.client(site, window=65536), await net.client(site)
    slow.hold()
    slow.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: len(site.clients) == 2 and any(c.write_paused for c in site.clients), what="a slow client")
    for _ in range(20):
        assert (await quick.get()).body == b"small"
    assert len(endpoint.connections) == 1
    slow.go_on()
    assert (await slow.response()).body == big


async def test_an_endpoint_that_takes_nothing_holds_up_its_own_client(net: Net) -> None:
    async def answer(call: Caller) -> None:
        if call.get(b":path") != b"/big":
            await echo(call)
            return
        await call.until(lambda: call.held == 65_535)
        await go.wait()
        call.take()
        await call.whole()
        call.head(200, end=True)

    go = asyncio.Event()
    endpoint = await calls(net, answer)
    endpoint.takes = False
    site = await net.site(to(endpoint), window=65536)
    slow, quick = await net.client(site, window=65536), await net.client(site)
    slow.send(b"POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 5_000_000)
    await eventually(lambda: any(client._paused for client in site.clients), what="a client that is held up")
    assert (await quick.get("/q")).body == b"/q"
    assert max(call.held for call in endpoint.calls) <= 65535
    go.set()
    assert (await slow.response()).status == 200


async def test_an_early_answer_ends_the_request_too(net: Net) -> None:
    async def answer(call: Caller) -> None:
        call.head(413)
        await call.send(b"too much")
        call.finish()

    endpoint = await calls(net, answer)
    site = await net.site(to(endpoint))
    client = await net.client(site)
    client.send(CHUNKED + b"5\r\nhello\r\n")
    response = await client.response()
    assert (response.status, response.body) == (413, b"too much")
    await eventually(lambda: endpoint.calls[0].reset is not None, what="the end of the call")


def has(client: Client, size: int) -> bool:
    return len(client.received) > size


async def test_calls_that_end_anyhow_leave_the_window_of_the_connection_as_it_was(net: Net) -> None:
    async def answer(call: Caller) -> None:
        path = call.get(b":path")
        call.head()
        await call.send(b"x" * 100_000)
        if path == b"/reset":
            call.refuse(ErrorCodes.INTERNAL_ERROR)
        elif path == b"/end":
            call.finish()

    endpoint = await calls(net, answer)
    site = await net.site(to(endpoint))
    for target in ("/reset", "/end", "/left") * 3:
        client = await net.client(site)
        client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await client.wait(partial(has, client, 50_000))
        client.close()
        await eventually(lambda: not site.clients, what="the end of the client")
    [pool] = site.live.upstreams[WEB].pools
    assert isinstance(pool, SharedPool)
    [connection] = pool._connections
    streams = connection._streams
    await eventually(lambda: not streams.streams, what="the end of all calls")
    await eventually(lambda: streams.room + streams._owed == streams.terms.connection_window, what="the whole window")
    assert pool.load == 0


async def test_a_response_with_a_pace_takes_its_time_and_comes_whole(net: Net) -> None:
    async def answer(call: Caller) -> None:
        call.head()
        await call.send(bytes(range(250)) * 400)
        call.finish()

    endpoint = await calls(net, answer)
    made = everything_to(endpoint.port, protocol=Protocol.H2C, policy=Policy(rate=Rate(50_000)))
    site = await net.site(made)
    client = await net.client(site)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.wait(partial(has, client, 45_000))
    assert len(client.received) < 80_000
    assert (await client.response()).body == bytes(range(250)) * 400
    assert (await client.get()).status == 200
    assert len(endpoint.connections) == 1


async def test_a_silent_endpoint_is_504_and_its_connection_stays(net: Net) -> None:
    async def hold(call: Caller) -> None:
        if call.get(b":path") == b"/go":
            await echo(call)

    endpoint = await calls(net, hold)
    site = await net.site(to(endpoint), timeouts=waits(response=5))
    client, other = await net.client(site), await net.client(site)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: len(endpoint.calls) == 1, what="a call")
    site.later(10)
    assert (await client.response()).status == 504
    assert endpoint.calls[0].connection.lost is False
    assert (await other.get("/go")).status == 200
    assert len(endpoint.connections) == 1


async def test_an_idle_connection_ends_in_time(net: Net) -> None:
    endpoint = await calls(net)
    site = await net.site(to(endpoint))
    client = await net.client(site)
    await client.get()
    assert site.pooled() == 1
    site.later(60)
    await eventually(lambda: endpoint.connections[0].lost, what="the end of the connection")
    assert site.pooled() == 0


async def test_a_silent_connection_with_calls_is_asked_whether_it_lives(net: Net) -> None:
    async def hold(call: Caller) -> None:
        call.head(200)
        await call.until(lambda: call.reset is not None)

    endpoint = await calls(net, hold)
    site = await net.site(to(endpoint), timeouts=waits(read=3600, body=3600))
    client = await net.client(site)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.head()
    for _ in range(5):
        site.later(330)
        await asyncio.sleep(0.05)
    assert not endpoint.connections[0].lost
    endpoint.connections[0].transport.pause_reading()
    site.later(330)
    site.later(30)
    assert await client.end() == "reset"


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"garbage" * 10])
async def test_what_is_no_http_2_is_502(net: Net, said: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.exactly(1)
        peer.send(said)

    endpoint = await net.endpoint(script)
    site = await net.site(everything_to(endpoint.port, protocol=Protocol.H2C))
    client = await net.client(site)
    assert (await client.get()).status == 502
    assert (await site.line())["reason"] == "upstream_bad_response"
    await eventually(lambda: endpoint.open == 0, what="the end of the connection")


async def test_calls_are_balanced_one_by_one(net: Net) -> None:
    endpoints = [await calls(net) for _ in range(3)]
    site = await net.site(to(*endpoints))
    client = await net.client(site)
    for _ in range(30):
        assert (await client.get()).status == 200
    assert [len(endpoint.calls) for endpoint in endpoints] == [10, 10, 10]
    assert [len(endpoint.connections) for endpoint in endpoints] == [1, 1, 1]


async def test_calls_survive_swaps_and_the_removal_of_other_endpoints(net: Net) -> None:
    go = asyncio.Event()

    async def hold(call: Caller) -> None:
        call.head(200)
        await call.send(b"begun ")
        await go.wait()
        await call.send(b"done")
        call.finish()

    one, two = await calls(net, hold), await calls(net, hold)
    site = await net.site(to(one, two))
    clients = [await net.client(site) for _ in range(4)]
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.until(b"begun ")
    for _ in range(50):
        site.serve(to(one, two))
    site.serve(to(one))
    go.set()
    for client in clients:
        assert await client.until(b"done")
    await eventually(lambda: two.connections[0].lost, what="the removed endpoint's connection to end")
    assert not one.connections[0].lost


async def test_of_an_endpoint_that_is_removed_nothing_is_left(net: Net) -> None:
    endpoint, other = [await calls(net) for _ in range(2)]
    site = await net.site(to(endpoint))
    watched = len(site.clock._watched)
    client = await net.client(site)
    assert (await client.get()).status == 200
    site.serve(to(other))
    await eventually(lambda: endpoint.connections[0].lost)
    client.close()
    await eventually(lambda: not site.clients)
    site.later(10)
    assert len(site.clock._watched) == watched


async def test_an_endpoint_that_is_removed_has_the_time_to_drain(net: Net) -> None:
    async def hold(call: Caller) -> None:
        await call.until(lambda: call.reset is not None)

    endpoint = await calls(net, hold)
    site = await net.site(to(endpoint), timeouts=waits(response=3600))
    client = await net.client(site)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: len(endpoint.calls) == 1, what="a call")
    site.serve(to())
    site.later(10)
    assert endpoint.calls[0].reset is None
    site.later(60)
    assert (await client.response()).status == 503
    await eventually(lambda: endpoint.connections[0].lost, what="the end of the connection")


async def test_over_tls_it_is_asked_for_by_name(net: Net) -> None:
    from certs import Authority
    from wire.test_endpoints_over_tls import NAME, secured

    authority = Authority()
    tls = secured(*authority.issue(NAME))
    tls.context.set_alpn_protocols(["h2", "http/1.1"])
    endpoint = Calls(echo)
    await endpoint.start(tls.context)
    net.stack.push_async_callback(endpoint.close)
    made = everything_to(endpoint.port, protocol=Protocol.H2)
    terms = EndpointTls(NAME, verify=True, keyring="shop/keys@1")
    upstream = msgspec.structs.replace(made.upstreams[0], tls=terms)
    keyrings = (Keyring("shop/keys@1", authority.pem),)
    site = await net.site(msgspec.structs.replace(made, upstreams=(upstream,), keyrings=keyrings))
    client = await net.client(site)
    for _ in range(3):
        assert (await client.get("/tls")).body == b"/tls"
    assert len(endpoint.connections) == 1
    made_by = endpoint.connections[0].transport.get_extra_info("ssl_object")
    assert made_by.selected_alpn_protocol() == "h2"
    assert endpoint.calls[0].get(b":scheme") == b"https"
    [pool] = site.live.upstreams[WEB].pools
    pool.empty()
    assert (await client.get("/tls")).body == b"/tls"
    assert endpoint.connections[1].transport.get_extra_info("ssl_object").session_reused


@pytest.mark.parametrize(("status", "well"), [(200, True), (204, True), (302, True), (404, False), (503, False)])
async def test_checks_ask_in_http_2(net: Net, status: int, well: bool) -> None:
    async def answer(call: Caller) -> None:
        call.head(status, end=True)

    endpoint = await calls(net, answer)
    check = Check(path="/healthz", host="shop.example", interval=0.01, failures=1)
    site = await net.site(to(endpoint, policy=UpstreamPolicy(check=check)))
    Checks(site.tasks).follow(site.live.upstreams.values())
    tally = site.live.upstreams[WEB].tally
    await eventually(lambda: tally.checks_passed + tally.checks_failed > 1, what="two checks")
    assert bool(tally.checks_passed) is well
    asked = dict(endpoint.calls[0].fields)
    assert (asked[b":path"], asked[b":authority"]) == (b"/healthz", b"shop.example")


async def test_an_endpoint_that_breaks_off_fails_its_check(net: Net) -> None:
    async def answer(call: Caller) -> None:
        call.refuse(ErrorCodes.INTERNAL_ERROR)

    endpoint = await calls(net, answer)
    site = await net.site(to(endpoint, policy=UpstreamPolicy(check=Check(interval=0.01, failures=1))))
    Checks(site.tasks).follow(site.live.upstreams.values())
    await eventually(lambda: site.live.upstreams[WEB].tally.checks_failed > 0, what="a check")


async def test_a_client_that_is_announced_has_a_connection_of_its_own(net: Net) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.until(b"\r\n"))
        seen.append(await peer.exactly(24))

    endpoint = await net.endpoint(script)
    made = everything_to(endpoint.port, protocol=Protocol.H2C)
    policy = UpstreamPolicy(announce=ProxyVersion.V1)
    made = msgspec.structs.replace(made, upstreams=(msgspec.structs.replace(made.upstreams[0], policy=policy),))
    site = await net.site(made)
    for _ in range(2):
        (await net.client(site)).send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: len(seen) == 4, what="two introductions")
    assert len(endpoint.peers) == 2
    assert [part[:6] for part in seen if part[:5] == b"PROXY"] == [b"PROXY "] * 2
