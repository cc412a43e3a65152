"""Clients of HTTP/2 on real sockets: many requests at once, each as good as one of HTTP/1.1."""

from __future__ import annotations

import asyncio
import gc

import msgspec
import pytest

from eventually import eventually
from portway_proxy.http2 import frames
from portway_proxy.http2.codes import PREFACE, Code
from portway_proxy.l7.http2 import Http2Client
from portway_proxy.snapshot import Buffering, Cors, Policy
from portway_proxy.tls_terms import TlsTerms
from portway_proxy.trust import Belief, Trust
from wire.http2_client import connect, pair, request_fields
from wire.peers import OK, Peer, Truncated, answering, reply
from wire.site import Net, everything_to, limits, waits

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n%b\r\n"
POST = request_fields(method="POST")


# --- requests and responses


async def test_a_request_is_that_of_any_client_to_its_endpoint(net: Net) -> None:
    async def script(peer: Peer) -> None:
        head = await peer.request()
        assert head.start == b"GET /a?b=c HTTP/1.1"
        assert head.get(b"host") == b"shop.example"
        assert head.all(b"cookie") == [b"a=1; b=2; c=3"]
        assert head.get(b"x-forwarded-for") == b"127.0.0.1"
        assert head.get(b"x-forwarded-proto") == b"http"
        assert head.all(b"te") == []
        peer.send(reply(b"hello", b"200 OK", b"X-Colour: Blue", b"Connection: x-hop", b"X-Hop: 1", b"Keep-Alive: 5"))

    site, client = await pair(net, script)
    crumbs = [("cookie", "a=1"), ("x-y", "z"), ("cookie", "b=2; c=3"), ("x-forwarded-for", "6.6.6.6")]
    answer = await client.get("/a?b=c", *crumbs)
    assert (answer.status, answer.body, answer.get(b"x-colour")) == (200, b"hello", b"Blue")
    assert {b"connection", b"x-hop", b"keep-alive", b"transfer-encoding"}.isdisjoint(dict(answer.fields))
    assert answer.get(b"date")
    assert answer.get(b"server") == b"portway"
    line = await site.line()
    assert (line["version"], line["status"], line["response_size"], line["host"]) == ("2.0", 200, 5, "shop.example")


async def test_many_requests_at_once_go_to_endpoints_of_their_own_and_come_back_in_any_order(net: Net) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request.target == b"/slow":
            await gate.wait()
        peer.send(reply(request.target + request.body))
        await echo_on(peer)

    async def echo_on(peer: Peer) -> None:
        while True:
            request = await peer.request()
            peer.send(reply(request.target))

    site, client = await pair(net, script)
    slow = client.ask(request_fields("/slow"))
    others = [client.ask(request_fields(f"/{number}")) for number in range(20)]
    for number, stream in enumerate(others):
        assert (await client.answer(stream)).body == b"/%d" % number
    assert not client.answers[slow].over
    gate.set()
    assert (await client.answer(slow)).body == b"/slow"
    assert len(site.clients) == 1


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_reaches_the_endpoint_and_its_echo_the_client(net: Net, announced: bool) -> None:
    _, client = await pair(net)
    body = bytes(range(256)) * 4096
    fields = [*POST, (b"content-length", b"%d" % len(body))] if announced else POST
    stream = client.ask(fields, end=False)
    await client.send(stream, body)
    assert (await client.answer(stream)).body == b"/" + body


async def test_trailers_go_both_ways(net: Net) -> None:
    async def script(peer: Peer) -> None:
        head = await peer.request()
        assert (head.body, peer.trailers) == (b"hello", [b"x-sum: 1"])
        assert head.all(b"te") == [b"trailers"]
        peer.send(CHUNKED % b"Grpc-Status: 0\r\nSet-Cookie: no\r\n")

    _, client = await pair(net, script)
    stream = client.ask([*POST, (b"te", b"trailers")], end=False)
    await client.send(stream, b"hello", trailers=[(b"x-sum", b"1"), (b"host", b"evil")])
    answer = await client.answer(stream)
    assert (answer.body, answer.trailers) == (b"hello", [(b"grpc-status", b"0")])


@pytest.mark.parametrize(
    ("method", "response", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", b"7"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", b"7"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"0"),
    ],
)
async def test_a_response_without_a_body_ends_with_its_head(
    net: Net, method: str, response: bytes, length: bytes | None
) -> None:
    _, client = await pair(net, answering(response))
    answer = await client.answer(client.ask(request_fields(method=method)))
    assert (answer.body, answer.ended, answer.get(b"content-length")) == (b"", True, length)


async def test_a_response_that_ends_with_its_connection_is_whole(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        peer.close()

    _, client = await pair(net, script)
    assert (await client.get()).body == b"all of it"


async def test_interim_responses_pass(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK)

    _, client = await pair(net, script)
    answer = await client.get()
    assert answer.interim == [[(b":status", b"103"), (b"link", b"</x>")]]
    assert answer.status == 200


async def test_our_own_answers_have_a_stream_each(net: Net) -> None:
    site, client = await pair(net)
    site.serve(everything_to())
    answer = await client.get()
    assert (answer.status, answer.body, answer.get(b"retry-after")) == (503, b"503 Service Unavailable\n", b"1")
    assert b"connection" not in dict(answer.fields)
    head = await client.answer(client.ask(request_fields(method="HEAD")))
    assert (head.status, head.body, head.get(b"content-length")) == (503, b"", b"24")
    assert not client.closed


async def test_policies_hold(net: Net) -> None:
    endpoint = await net.endpoint()
    site = await net.site(everything_to(endpoint.port, policy=Policy(cors=Cors(), deny=("10.0.0.0/8",))))
    client = await connect(net, site)
    answer = await client.get("/", ("origin", "https://web.example"))
    assert (answer.status, answer.get(b"access-control-allow-origin")) == (200, b"*")
    site.serve(everything_to(endpoint.port, policy=Policy(deny=("127.0.0.0/8",))))
    assert (await client.get()).status == 403


async def test_a_request_is_sent_again_where_a_pooled_connection_had_ended(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        await peer.head()
        peer.close()

    _, client = await pair(net, script)
    assert (await client.get()).status == 200
    assert (await client.get()).status == 200


# --- what is malformed, or too much


@pytest.mark.parametrize(
    "fields",
    [
        request_fields("/", ("Upper", "x")),
        request_fields("/", ("connection", "close")),
        request_fields("/", ("transfer-encoding", "chunked")),
        request_fields("/", ("x", "a\nb")),
        request_fields("/")[1:],
        [*request_fields("/"), (b":path", b"/again")],
        request_fields("/", ("content-length", "5")),
    ],
)
async def test_a_malformed_request_ends_its_stream_alone(net: Net, fields: list[tuple[bytes, bytes]]) -> None:
    _, client = await pair(net)
    assert (await client.answer(client.ask(fields))).reset == Code.PROTOCOL_ERROR
    assert (await client.get()).status == 200


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        (request_fields("/a b"), 400, "bad_head"),
        (request_fields("http://other.example/"), 400, "bad_target"),
        (request_fields("/%00"), 400, "bad_target"),
        (request_fields("/", host="a b"), 400, "bad_host"),
        (request_fields("/", ("host", "other.example")), 400, "bad_host"),
        ([(b":method", b"CONNECT"), (b":authority", b"a.example:443")], 405, "method_not_allowed"),
        (request_fields("/", (":protocol", "connect-udp"), method="CONNECT"), 501, "protocol_unknown"),
        (request_fields("/" + "x" * 9000), 414, "target_too_long"),
        (request_fields("/", *((f"x-{number}", "y") for number in range(120))), 431, "fields_too_large"),
        (request_fields("/", *((f"x-{number}", "y" * 15000) for number in range(5))), 431, "fields_too_large"),
    ],
)
async def test_what_nobody_serves_is_answered(
    net: Net, fields: list[tuple[bytes, bytes]], status: int, reason: str
) -> None:
    site, client = await pair(net)
    pseudo = [field for field in fields if field[0].startswith(b":")]
    answer = await client.answer(client.ask([*pseudo, *[field for field in fields if field not in pseudo]]))
    assert (answer.status, (await site.line())["reason"]) == (status, reason)
    assert (await client.get()).status == 200


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_beyond_the_limit_is_413_and_told_to_stop(net: Net, announced: bool) -> None:
    site, client = await pair(net, limits=limits(body=1000))
    stream = client.ask([*POST, (b"content-length", b"2000")] if announced else POST, end=False)
    client.h2.send_data(stream, b"x" * 1500)
    client.flush()
    answer = await client.answer(stream)
    await client.until(lambda: answer.reset is not None)
    assert (answer.status, answer.reset) == (413, Code.NO_ERROR)
    assert (await site.line())["reason"] == "body_too_large"
    assert (await client.get()).status == 200


@pytest.mark.parametrize(("sent", "end"), [(b"12345", True), (b"12345678901", False)])
async def test_a_body_that_is_not_as_long_as_was_said_ends_its_stream(net: Net, sent: bytes, end: bool) -> None:
    async def script(peer: Peer) -> None:
        with pytest.raises(Truncated):
            await peer.request()

    site, client = await pair(net, script)
    stream = client.ask([*POST, (b"content-length", b"10")], end=False)
    await eventually(lambda: site.upstreams)
    client.raw(frames.data(stream, sent, end))
    assert (await client.answer(stream)).reset == Code.PROTOCOL_ERROR
    assert (await site.line())["reason"] == "client_gone"
    await eventually(lambda: not site.upstreams)


async def test_more_streams_than_may_be_are_refused_and_may_come_again(net: Net) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await gate.wait()
            peer.send(OK)

    gate = asyncio.Event()
    _, client = await pair(net, script, limits=limits(streams=2))
    held = [client.ask(request_fields()) for _ in range(2)]
    await client.until(lambda: client.h2.remote_settings.max_concurrent_streams == 2)
    client.h2.remote_settings[3] = 100
    client.h2.remote_settings.acknowledge()
    assert (await client.answer(client.ask(request_fields()))).reset == Code.REFUSED_STREAM
    gate.set()
    assert [(await client.answer(stream)).status for stream in held] == [200, 200]
    assert (await client.get()).status == 200


# --- who breaks off


async def test_a_request_that_is_taken_back_is_taken_back_from_its_endpoint(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.end()

    site, client = await pair(net, script)
    stream = client.ask(request_fields())
    await eventually(lambda: site.upstreams)
    client.h2.reset_stream(stream, Code.CANCEL)
    client.flush()
    assert (await site.line())["reason"] == "client_gone"
    await eventually(lambda: not site.upstreams)
    assert not client.closed


async def test_a_response_that_breaks_off_breaks_off_its_stream(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        peer.close()

    _, client = await pair(net, script)
    answer = await client.get()
    assert (answer.body, answer.reset) == (b"hello", Code.INTERNAL_ERROR)
    assert not client.closed


async def test_a_client_that_hangs_up_takes_everything_back(net: Net) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.end()

    site, client = await pair(net, script)
    for _ in range(3):
        client.ask(request_fields())
    await eventually(lambda: len(site.upstreams) == 3)
    client.transport.abort()
    assert {line["reason"] for line in await site.lines(3)} == {"client_gone"}
    await eventually(lambda: not site.upstreams and not site.clients)


# --- who is slow


async def test_a_client_that_takes_nothing_holds_up_its_endpoint_and_nobody_else(net: Net) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request.target == b"/large":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n" + bytes(50_000_000))
            await peer.flush()
        else:
            peer.send(OK)

    site, client = await pair(net, script, window=20000)
    client.slow = True
    stream = client.ask(request_fields("/large"))
    await client.until(lambda: len(client.answers[stream].body) == 20000)
    [upstream] = site.upstreams
    await eventually(lambda: not upstream._transport.is_reading())
    [home] = site.clients
    assert home.unsent < 1_000_000
    client.slow = False
    assert (await client.get()).status == 200
    assert not client.answers[stream].over
    site.later(61)
    answer = await client.answer(stream)
    assert (answer.reset, len(answer.body)) == (Code.CANCEL, 20000)
    assert (await client.get()).status == 200


async def test_a_client_that_takes_a_little_is_waited_for(net: Net) -> None:
    body = bytes(1_000_000)
    site, client = await pair(net, answering(reply(body)))
    client.slow = True
    stream = client.ask(request_fields())
    await client.until(lambda: len(client.answers[stream].body) == 65535)
    for _ in range(5):
        before = len(client.answers[stream].body)
        client.h2.increment_flow_control_window(1000, stream)
        client.h2.increment_flow_control_window(1000)
        client.flush()
        await client.until(lambda: len(client.answers[stream].body) > before)  # noqa: B023 - called before the next round
        site.later(29)
    client.slow = False
    client.h2.increment_flow_control_window(1 << 24, stream)
    client.h2.increment_flow_control_window(1 << 24)
    client.flush()
    assert (await client.answer(stream)).body == body


async def test_an_answer_that_nobody_has_a_window_for_does_not_wait_for_ever(net: Net) -> None:
    site, client = await pair(net, window=0)
    stream = client.ask(request_fields())
    await client.until(lambda: bool(client.answers[stream].fields))
    site.later(61)
    assert (await client.answer(stream)).reset == Code.CANCEL


async def test_a_slow_endpoint_holds_up_its_own_upload_alone(net: Net) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        head = await peer.head()
        if head.target == b"/slow":
            peer.hold()
            await gate.wait()
            peer.go_on()
            await peer.exactly(5_000_000)
        peer.send(OK)

    site, client = await pair(net, script)
    fields = request_fields("/slow", ("content-length", "5000000"), method="POST")
    slow = client.ask(fields, end=False)
    sending = site.tasks.spawn(client.send(slow, bytes(5_000_000)), "an upload")
    await eventually(lambda: site.clients)
    [home] = site.clients
    await eventually(lambda: any(one.write_paused for one in site.upstreams), what="the endpoint is full")
    assert (await client.get()).status == 200
    assert home.unsent < 1_000_000
    gate.set()
    await sending
    assert (await client.answer(slow)).status == 200


async def test_a_body_that_does_not_come_in_time_is_408_on_its_stream(net: Net) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.head()
        if request.target == b"/other":
            peer.send(OK)
        else:
            await peer.end()

    site, client = await pair(net, script)
    stream = client.ask(POST, end=False)
    client.h2.send_data(stream, b"x")
    client.flush()
    await eventually(lambda: site.upstreams and site.upstreams[0].exchange)
    site.later(59)
    assert not client.answers[stream].over
    site.later(2)
    assert (await client.answer(stream)).status == 408
    assert (await client.get("/other")).status == 200


# --- the connection


async def test_an_idle_connection_is_told_good_bye(net: Net) -> None:
    site, client = await pair(net)
    assert (await client.get()).status == 200
    site.later(74)
    assert not client.goodbyes
    site.later(3)
    await client.end()
    assert client.goodbyes == [((1 << 31) - 1, 0), (1, 0)]
    await eventually(lambda: not site.clients)


async def test_what_comes_behind_a_good_bye_is_read_and_dropped(net: Net) -> None:
    site = await net.site(everything_to())
    client = await net.client(site)
    client.send(PREFACE + frames.settings({}) + frames.ANSWERED_SETTINGS)
    await client.until(frames.ANSWERED_SETTINGS)
    [home] = site.clients
    home.drain()
    client.send(frames.pong(b"farewell"))
    assert await client.end() == "eof"
    received = site.counters.received
    client.send(frames.ping(bytes(8)) + frames.settings({}))
    await eventually(lambda: site.counters.received > received)
    home.drain()
    client.close()
    await eventually(lambda: not site.clients)


async def test_a_busy_connection_is_not_idle(net: Net) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await gate.wait()
        peer.send(OK)

    site, client = await pair(net, script, timeouts=waits(response=1000))
    stream = client.ask(request_fields())
    await eventually(lambda: site.upstreams)
    site.later(500)
    gate.set()
    assert (await client.answer(stream)).status == 200
    assert not client.goodbyes


async def test_a_drain_serves_what_is_under_way_and_refuses_what_comes_after(net: Net) -> None:
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await gate.wait()
        peer.send(OK)

    site, client = await pair(net, script)
    stream = client.ask(request_fields())
    await eventually(lambda: site.upstreams)
    [home] = site.clients
    home.drain()
    await client.until(lambda: len(client.goodbyes) == 2)
    assert client.goodbyes == [((1 << 31) - 1, 0), (stream, 0)]
    gate.set()
    assert (await client.answer(stream)).status == 200
    await client.end()


async def test_settings_that_are_never_confirmed_end_the_connection(net: Net) -> None:
    endpoint = await net.endpoint()
    site = await net.site(everything_to(endpoint.port))
    client = await net.client(site)
    client.send(PREFACE + frames.settings({}))
    await client.until(frames.ANSWERED_SETTINGS)
    site.later(62)
    assert int.from_bytes((await client.rest())[-4 - len("the settings were not confirmed in time") :][:4]) == 4
    assert site.counters.faults == {"settings_timeout": 1}


@pytest.mark.parametrize(
    "start", [frames.frame(1, 0, 1, b"\x82"), frames.head(1, b"\x82\x86", 1)[:-1], frames.data(1, b"x" * 10, 0)[:12]]
)
async def test_a_frame_that_does_not_come_in_time_ends_the_connection(net: Net, start: bytes) -> None:
    site, client = await pair(net)
    assert (await client.get()).status == 200
    received = site.counters.received
    client.raw(start)
    await eventually(lambda: site.counters.received > received)
    site.later(62)
    await client.end()
    assert client.goodbyes[-1][1] == Code.ENHANCE_YOUR_CALM


async def test_the_preface_counts_as_no_request_and_wrong_ones_are_refused(net: Net) -> None:
    site, client = await pair(net)
    assert (await client.get()).status == 200
    assert len(await site.lines()) == 1
    other = await net.client(site)
    other.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
    await other.end()
    assert site.counters.faults == {"protocol_error": 1}


async def test_prior_knowledge_is_505_where_http_2_is_switched_off(net: Net) -> None:
    site, _, client = await net.pair()
    site.http.speak(TlsTerms(http2=False))
    client.send(PREFACE)
    assert (await client.response()).status == 505


async def test_the_peer_that_is_trusted_speaks_for_each_stream_anew(net: Net) -> None:
    async def script(peer: Peer) -> None:
        while True:
            head = await peer.request()
            peer.send(reply(head.get(b"x-real-ip") or b""))

    endpoint = await net.endpoint(script)
    trust = Trust(("127.0.0.0/8",), Belief.REQUEST)
    site = await net.site(msgspec.structs.replace(everything_to(endpoint.port), trust=trust))
    client = await connect(net, site)
    for address in ("7.7.7.7", "8.8.8.8"):
        assert (await client.get("/", ("x-forwarded-for", address))).body == address.encode()
    assert (await client.get()).body == b"127.0.0.1"
    assert [line["client"] for line in await site.lines(3)] == ["7.7.7.7", "8.8.8.8", "127.0.0.1"]


# --- buffers


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_is_gathered_before_its_endpoint_is_asked(net: Net, announced: bool) -> None:
    endpoint = await net.endpoint()
    site = await net.site(everything_to(endpoint.port, policy=Policy(buffering=Buffering(request=1_000_000))))
    client = await connect(net, site)
    body = bytes(range(250)) * 1200  # More than a window holds.
    stream = client.ask([*POST, (b"content-length", b"%d" % len(body))] if announced else POST, end=False)
    await client.send(stream, body[:-1], end=False)
    await eventually(lambda: site.counters.received > len(body))
    assert not endpoint.peers
    await client.send(stream, body[-1:])
    assert (await client.answer(stream)).body == b"/" + body


async def test_what_is_gathered_has_a_bound(net: Net) -> None:
    endpoint = await net.endpoint()
    site = await net.site(everything_to(endpoint.port, policy=Policy(buffering=Buffering(request=10_000))))
    client = await connect(net, site)
    stream = client.ask(POST, end=False)
    await client.send(stream, bytes(10_000), end=False)
    await eventually(lambda: endpoint.peers, what="what came so far goes on")
    await client.send(stream, bytes(200_000))
    assert (await client.answer(stream)).body == b"/" + bytes(210_000)


async def test_more_may_wait_for_a_slow_client_where_an_ingress_wants_it(net: Net) -> None:
    endpoint = await net.endpoint(answering(reply(bytes(300_000))))
    policy = Policy(buffering=Buffering(response=1_000_000))
    site = await net.site(everything_to(endpoint.port, policy=policy))
    client = await connect(net, site, window=0)
    stream = client.ask(request_fields())
    await eventually(site.pooled, what="the endpoint is done")
    client.h2.increment_flow_control_window(1 << 20, stream)
    client.h2.increment_flow_control_window(1 << 20)
    client.flush()
    assert len((await client.answer(stream)).body) == 300_000


async def test_a_connection_that_has_ended_is_gone_without_a_collection(net: Net) -> None:
    def left() -> int:
        site.journal.expire()
        return sum(isinstance(thing, Http2Client) for thing in gc.get_objects())

    site, client = await pair(net)
    gc.collect()
    gc.disable()
    try:
        assert (await client.get()).status == 200
        assert left() == 1
        client.transport.abort()
        await eventually(lambda: not left())
    finally:
        gc.enable()
