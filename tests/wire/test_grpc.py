"""gRPC through real workers: client and server are grpcio's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from itertools import chain
from pathlib import Path

import grpc
import msgspec
import pytest
from grpc import aio

from certs import Authority, issue
from eventually import eventually
from portway_proxy.snapshot import (
    BasicAuth,
    Certificate,
    Credentials,
    Endpoint,
    EndpointTls,
    Host,
    Keyring,
    PathMatch,
    Policy,
    Protocol,
    RateLimit,
    Route,
    Snapshot,
    Upstream,
)
from portway_proxy.supervisor import Supervisor
from portway_proxy.tasks import Tasks
from wire.calls import Caller, Calls
from wire.grpc_peers import Greeter, add, asking, channel, serving, talk, watch
from wire.parts import ORIGIN, WEB, free_port, port_of, running, settings
from wire.site import Net

_ESTABLISHED = "01"  # In /proc/net/tcp.


def to(*ports: int, policy: Policy | None = None, protocol: Protocol = Protocol.H2C) -> Snapshot:
    endpoints = tuple(Endpoint("127.0.0.1", port) for port in sorted(ports))
    upstream = Upstream(WEB, protocol, endpoints=endpoints, reason="" if ports else "no_endpoints")
    route = Route("/", PathMatch.PREFIX, WEB, ORIGIN, policy)
    return Snapshot(hosts=(Host("shop.example", (route,)),), upstreams=(upstream,))


@pytest.fixture
async def proxy() -> AsyncIterator[Supervisor]:
    async with running(settings(workers=1)) as supervisor:
        yield supervisor


@pytest.fixture
async def greeter() -> AsyncIterator[Greeter]:
    async with serving(Greeter("one")) as greeter:
        yield greeter


async def say(client: aio.Channel, text: bytes = b"hello", seconds: float | None = None) -> bytes:
    return await asking(client)(text, timeout=seconds)


def unconnected(port: int) -> bool:
    """Return whether nobody has a connection to a port."""
    tables = [Path(f"/proc/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    lines = [line.split() for line in chain(*tables)]
    return not any(line[1].endswith(f":{port:04X}") and line[3] == _ESTABLISHED for line in lines)


async def failure(
    client: aio.Channel, method: str = "Say", text: bytes = b"", seconds: float | None = None
) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as raised:
        await asking(client, method)(text, timeout=seconds)
    return raised.value


async def test_every_kind_of_call_passes(proxy: Supervisor, greeter: Greeter) -> None:
    await proxy.apply(to(greeter.port))

    async def numbers() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%d" % number

    async with channel(port_of(proxy)) as client:
        assert await say(client) == b"one hello"
        counted = [number async for number in watch(client, b"50", "Count")]
        assert counted == [b"%d" % number for number in range(50)]
        assert await add(client, numbers()) == b"4950"
        both = talk(client)
        for word in (b"a", b"b", b"c"):
            await both.write(word)
            assert await both.read() == b"one " + word
        await both.done_writing()
        assert await both.read() is aio.EOF
        assert await both.code() is grpc.StatusCode.OK


async def test_metadata_pass_before_and_behind(proxy: Supervisor, greeter: Greeter) -> None:
    await proxy.apply(to(greeter.port))
    async with channel(port_of(proxy)) as client:
        call = asking(client)(b"", metadata=(("x-ask", "what"), ("x-some-bin", b"\x00\x01")))
        first = dict(await call.initial_metadata())
        assert (first["x-first"], first["x-bytes-bin"]) == ("what", b"\x00\xff")
        last = dict(await call.trailing_metadata())
        assert (last["x-last"], last["x-last-bin"]) == ("behind", b"\x01\x02")


async def test_a_status_of_the_endpoint_s_passes_as_it_is(proxy: Supervisor, greeter: Greeter) -> None:
    await proxy.apply(to(greeter.port))
    async with channel(port_of(proxy)) as client:
        error = await failure(client, "Fail")
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not today: %")
        assert ("x-why", "said") in tuple(error.trailing_metadata())
        assert (await failure(client, "Nothing")).code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("size", [0, 1, 4 << 20, 20 << 20])
async def test_messages_of_any_size_pass(proxy: Supervisor, greeter: Greeter, size: int) -> None:
    await proxy.apply(to(greeter.port))
    async with channel(port_of(proxy)) as client:
        assert await say(client, b"x" * size) == b"one " + b"x" * size


async def test_calls_of_one_client_are_balanced_one_by_one(proxy: Supervisor) -> None:
    async with AsyncExitStack() as stack:
        three = [await stack.enter_async_context(serving(Greeter(str(number)))) for number in range(3)]
        await proxy.apply(to(*(greeter.port for greeter in three)))
        client = await stack.enter_async_context(channel(port_of(proxy)))
        for _ in range(30):
            await say(client)
        assert [greeter.calls for greeter in three] == [10, 10, 10]


async def test_open_streams_survive_a_hundred_swaps_and_the_removal_of_other_endpoints(proxy: Supervisor) -> None:
    async with AsyncExitStack() as stack:
        three = [await stack.enter_async_context(serving(Greeter(str(number)))) for number in range(3)]
        ports = [greeter.port for greeter in three]
        await proxy.apply(to(*ports))
        client = await stack.enter_async_context(channel(port_of(proxy)))
        watches = [watch(client, b"%d" % number) for number in range(9)]
        talks = [talk(client) for _ in range(3)]
        for each in watches:
            assert str(await each.read()).startswith("b'begun")
        for both in talks:
            await both.write(b"first")
            assert str(await both.read()).endswith("first'")
        for number in range(100):
            await proxy.apply(to(*ports, policy=Policy(body_size=1_000_000 + number)))
            assert await say(client)
        await proxy.apply(to(ports[0]))
        for both in talks:
            await both.write(b"last")
            assert str(await both.read()).endswith("last'")
            await both.done_writing()
            assert await both.read() is aio.EOF
        for greeter in three:
            greeter.go.set()
        for number, each in enumerate(watches):
            assert await each.read() == b"done %d" % number
            assert await each.code() is grpc.StatusCode.OK


async def test_a_rolling_update_costs_no_call(proxy: Supervisor) -> None:
    """Endpoints come and go, as a Deployment's do, while calls run: none fails."""
    failed: list[str] = []
    spawned = Tasks()
    done = asyncio.Event()
    served = 0

    async def calling(client: aio.Channel) -> None:
        nonlocal served
        while not done.is_set():
            try:
                await say(client)
                served += 1
            except aio.AioRpcError as error:
                failed.append(str(error))

    async with AsyncExitStack() as stack:
        old = [await stack.enter_async_context(serving(Greeter("old"))) for _ in range(2)]
        await proxy.apply(to(*(greeter.port for greeter in old)))
        client = await stack.enter_async_context(channel(port_of(proxy)))
        tasks = [spawned.spawn(calling(client), "calls") for _ in range(4)]
        for number in range(5):
            async with serving(new := Greeter(f"new {number}"), grace=5):
                await proxy.apply(to(new.port, old[0].port))
                await eventually(partial(new.called, 10), what="calls at the new one")
                await proxy.apply(to(old[0].port, old[1].port))
                # grpcio's server cancels what it has not begun when it stops, whatever grace it has.
                await eventually(partial(unconnected, new.port), what="the last call at the new one")
        done.set()
        await asyncio.gather(*tasks)
    assert failed == []
    assert served > 50


async def test_a_client_that_gives_up_ends_the_call_at_the_endpoint(proxy: Supervisor, greeter: Greeter) -> None:
    await proxy.apply(to(greeter.port))
    async with channel(port_of(proxy)) as client:
        assert (await failure(client, "Sleep", seconds=0.3)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: greeter.left == ["sleep"], what="the end of the call")
        call = asking(client, "Sleep")(b"")
        await eventually(lambda: greeter.begun == 2, what="another call")
        call.cancel()
        await eventually(lambda: greeter.left == ["sleep", "sleep"], what="the end of that, too")


async def test_over_tls_on_both_sides(proxy: Supervisor) -> None:
    authority = Authority()
    theirs, their_key = authority.issue("web.shop.svc")
    mine, mine_key = issue("shop.example")
    credentials = grpc.ssl_server_credentials([(their_key, theirs)])
    async with serving(Greeter("tls"), credentials) as greeter:
        made = to(greeter.port, protocol=Protocol.H2)
        terms = EndpointTls("web.shop.svc", verify=True, keyring="shop/keys@1")
        await proxy.apply(
            msgspec.structs.replace(
                made,
                upstreams=(msgspec.structs.replace(made.upstreams[0], tls=terms),),
                keyrings=(Keyring("shop/keys@1", authority.pem),),
                certificates=(Certificate("shop/tls", ("shop.example",), mine, mine_key, 2_000_000_000),),
            )
        )
        assert proxy.https_port
        trusting = grpc.ssl_channel_credentials(mine)
        async with channel(proxy.https_port, trusting) as client:
            assert await say(client) == b"tls hello"


# --- errors of ours

HASH = "$2y$04$" + "a" * 53


@pytest.mark.parametrize(
    ("policy", "code", "reason"),
    [
        (Policy(basic=BasicAuth("shop/users", "Shop")), grpc.StatusCode.UNAUTHENTICATED, "401 "),
        (Policy(deny=("0.0.0.0/0",)), grpc.StatusCode.PERMISSION_DENIED, "403 forbidden"),
        (Policy(limit=RateLimit("zone", ((0.001, 0),))), grpc.StatusCode.RESOURCE_EXHAUSTED, "503 limited"),
        (Policy(body_size=3), grpc.StatusCode.RESOURCE_EXHAUSTED, "413 body_too_large"),
        (Policy(closed="annotation_invalid"), grpc.StatusCode.UNAVAILABLE, "503 "),
    ],
    ids=["unauthorized", "forbidden", "limited", "too-large", "closed"],
)
async def test_whoever_is_refused_gets_a_status_of_grpc(
    proxy: Supervisor, greeter: Greeter, policy: Policy, code: grpc.StatusCode, reason: str
) -> None:
    made = to(greeter.port, policy=policy)
    await proxy.apply(msgspec.structs.replace(made, credentials=(Credentials("shop/users", (("ada", HASH),)),)))
    async with channel(port_of(proxy)) as client:
        if policy.limit is not None:
            await say(client)
        error = await failure(client, text=b"longer than three bytes")
        assert error.code() is code
        assert str(error.details()).startswith(reason)


async def test_no_route_is_unimplemented_and_no_endpoint_unavailable(proxy: Supervisor, greeter: Greeter) -> None:
    await proxy.apply(to(greeter.port))
    async with channel(port_of(proxy), host="other.example") as client:
        assert (await failure(client)).code() is grpc.StatusCode.UNIMPLEMENTED
    await proxy.apply(to())
    async with channel(port_of(proxy)) as client:
        error = await failure(client)
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "503 no_endpoints")


async def test_a_refused_connection_is_unavailable(proxy: Supervisor, greeter: Greeter) -> None:
    await proxy.apply(to(free_port()))
    async with channel(port_of(proxy)) as client:
        error = await failure(client)
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "502 connect_failed")


async def test_a_silent_endpoint_exceeds_the_deadline(greeter: Greeter) -> None:
    async with running(settings(workers=1, response=1.0)) as proxy:
        await proxy.apply(to(greeter.port))
        async with channel(port_of(proxy)) as client:
            error = await failure(client, "Sleep")
            assert (error.code(), error.details()) == (grpc.StatusCode.DEADLINE_EXCEEDED, "504 upstream_timeout")


async def test_an_endpoint_that_dies_within_a_stream_is_unavailable(proxy: Supervisor) -> None:
    async def die(call: Caller) -> None:
        await call.whole()
        call.head(200, ("content-type", "application/grpc"))
        await call.send(b"\0\0\0\0\5begun")
        await go.wait()
        call.connection.transport.abort()

    go = asyncio.Event()
    endpoint = Calls(die)
    await endpoint.start()
    await proxy.apply(to(endpoint.port))
    async with channel(port_of(proxy)) as client:
        begun = watch(client, b"")
        assert await begun.read() == b"begun"
        go.set()
        with pytest.raises(aio.AioRpcError) as raised:
            await begun.read()
        assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.UNAVAILABLE, "502 upstream_reset")
    await endpoint.close()


async def test_the_deadline_of_a_client_that_does_not_keep_it_ends_the_call(net: Net) -> None:
    async def hold(call: Caller) -> None:
        await call.until(lambda: call.reset is not None)

    endpoint = Calls(hold)
    await endpoint.start()
    net.stack.push_async_callback(endpoint.close)
    site = await net.site(to(endpoint.port))
    client = await net.client(site)
    more = b"Content-Type: application/grpc\r\nTE: trailers\r\nConnection: TE\r\nGRPC-Timeout: 5S\r\n"
    client.send(
        b"POST /example.Greeter/Sleep HTTP/1.1\r\nHost: shop.example\r\n%bContent-Length: 5\r\n\r\n12345" % more
    )
    await eventually(lambda: len(endpoint.calls) == 1, what="a call")
    assert endpoint.calls[0].get(b"grpc-timeout") == b"5S"
    site.later(10)
    response = await client.response()
    assert (response.status, response.get(b"grpc-status")) == (200, b"4")
    assert response.get(b"grpc-message") == b"504 deadline_exceeded"
    await eventually(lambda: endpoint.calls[0].reset is not None, what="the end of the call")
