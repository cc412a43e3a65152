from __future__ import annotations

import asyncio
import socket
from collections import Counter

import pytest

from eventually import eventually
from layer4 import DB, ORIGIN, Endpoints, greeter, is_reset, refusing, site, upstream
from portway_proxy.flows import FlowPage, FlowQuery
from portway_proxy.l4.passage import Terms
from portway_proxy.l4.passthrough import Introductions, Passthrough
from portway_proxy.l4.splicer import Splicer
from portway_proxy.networks import Networks
from portway_proxy.proxy_protocol import Address, header_v1, header_v2, read_header
from portway_proxy.settings import ProxySettings, Timeouts
from portway_proxy.snapshot import Balance, Listener, ListenerPolicy, ProxyVersion, UpstreamPolicy
from tcp import End, connect, descriptors

LOOPBACK = Introductions(Networks(["127.0.0.0/8"]), 5.0)


async def connect_from(address: str, port: int) -> End:
    sock = socket.socket()
    sock.settimeout(0)
    sock.bind((address, 0))
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return End(sock)


# --- balancing


async def test_least_connections_goes_where_the_fewest_are(splicer: Splicer) -> None:
    async with (
        greeter(b"a") as one,
        greeter(b"b") as two,
        site(splicer, upstream(one, two, balance=Balance.LEAST_CONNECTIONS)) as here,
    ):
        clients = [await connect(here.port) for _ in range(4)]
        names = [await client.exactly(1) for client in clients]
        assert Counter(names) == {b"a": 2, b"b": 2}
        leaving = [client for client, name in zip(clients, names, strict=True) if name == b"a"]
        for client in leaving:
            client.close()
        await here.ended(2)
        more = [await connect(here.port) for _ in range(2)]
        assert [await client.exactly(1) for client in more] == [b"a", b"a"]
        for client in (*clients, *more):
            client.close()


async def test_one_address_goes_to_one_endpoint_and_many_to_all(splicer: Splicer) -> None:
    async with (
        greeter(b"a") as one,
        greeter(b"b") as two,
        site(splicer, upstream(one, two, balance=Balance.HASH)) as here,
    ):
        found: dict[str, set[bytes]] = {}
        for number in range(2, 18):
            for _ in range(2):
                client = await connect_from(f"127.0.0.{number}", here.port)
                found.setdefault(f"127.0.0.{number}", set()).add(await client.exactly(1))
                client.close()
        assert all(len(names) == 1 for names in found.values())
        assert set.union(*found.values()) == {b"a", b"b"}


async def test_connections_under_way_count_as_load(splicer: Splicer) -> None:
    async with greeter(b"a") as port, site(splicer, upstream(port)) as here:
        (pool,) = here.live.upstreams[DB].pools
        client = await connect(here.port)
        assert await client.exactly(1) == b"a"
        assert (pool.load, pool.connecting) == (1, 0)
        client.finish()
        assert await client.rest() == b""
        await here.ended()
        assert pool.load == 0
        client.close()


async def test_connections_that_fail_have_the_endpoint_left_alone(splicer: Splicer) -> None:
    bad = refusing()
    async with greeter(b"a") as port, site(splicer, upstream(port, bad)) as here:
        for _ in range(14):
            client = await connect(here.port)
            assert await client.exactly(1) == b"a"
            client.close()
        assert here.sample("portway_upstream_connects_total", DB, "failed") == 5
        assert here.sample("portway_ejections_total", DB) == 1
        assert here.sample("portway_endpoints_out", DB, "ejected") == 1


# --- limits and times


async def test_more_clients_than_the_policy_allows_are_reset(splicer: Splicer) -> None:
    async with greeter(b"a") as port, site(splicer, upstream(port), policy=ListenerPolicy(clients=2)) as here:
        clients = [await connect(here.port) for _ in range(2)]
        for client in clients:
            assert await client.exactly(1) == b"a"
        assert await is_reset(here.port)
        assert here.sample("portway_relays_total", f"tcp/{here.port}", "too_many_clients") == 1
        assert here.access.reasons() == {"too_many_clients": 1}
        clients[0].close()
        await here.ended(2)
        client = await connect(here.port)
        assert await client.exactly(1) == b"a"
        for one in (client, clients[1]):
            one.close()


async def test_a_relay_ends_with_its_lifetime_however_busy(splicer: Splicer) -> None:
    async with greeter(b"a") as port, site(splicer, upstream(port), policy=ListenerPolicy(lifetime=10.0)) as here:
        client = await connect(here.port)
        assert await client.exactly(1) == b"a"
        splicer.clock.now += 10.5
        await client.send(b"busy")
        assert await client.exactly(4) == b"busy"
        splicer.clock.now += 1.0
        splicer.clock.start()
        splicer.clock.start()
        with pytest.raises(ConnectionResetError):
            await client.receive()
        splicer.clock.stop()
        assert here.access.reasons() == {"lifetime": 1}
        client.close()


async def test_the_policy_of_a_port_counts_over_the_settings() -> None:
    settings = ProxySettings(workers=4, timeouts=Timeouts(connect=5.0, lifetime=9.0, unacknowledged=7.0))
    assert Terms.of(None, settings, 60.0) == Terms((5.0, 7.0), 60.0, 9.0, None, accept_proxy=False, clients=0)
    policy = ListenerPolicy(ProxyVersion.V1, accept_proxy=True, clients=10, connect=1.0, idle=2.0, lifetime=3.0)
    expected = Terms((1.0, 7.0), 2.0, 3.0, ProxyVersion.V1, accept_proxy=True, clients=2)
    assert Terms.of(policy, settings, 60.0) == expected
    assert Terms.of(ListenerPolicy(clients=1), settings, 60.0).clients == 1


async def test_a_listener_may_be_given_other_terms(splicer: Splicer) -> None:
    async with greeter(b"a") as port, site(splicer, upstream(port)) as here:
        first = await connect(here.port)
        assert await first.exactly(1) == b"a"
        here.passthrough.take(Listener(here.port, DB, ORIGIN, policy=ListenerPolicy(clients=1)))
        assert await is_reset(here.port)
        await first.send(b"x")
        assert await first.exactly(1) == b"x"
        first.close()


# --- endpoints that go away


async def test_relays_to_an_endpoint_that_is_removed_run_until_the_drain_time(splicer: Splicer) -> None:
    async with greeter(b"a") as old, greeter(b"b") as new, site(splicer, upstream(old)) as here:
        early = await connect(here.port)
        assert await early.exactly(1) == b"a"
        (pool,) = here.live.upstreams[DB].pools
        here.serve(upstream(new))
        late = await connect(here.port)
        assert await late.exactly(1) == b"b"
        await early.send(b"still here")
        assert await early.exactly(10) == b"still here"
        assert pool.deadline == splicer.clock.now + 30.0
        pool.expire()
        with pytest.raises(ConnectionResetError):
            await early.receive()
        assert here.access.reasons() == {"endpoint_removed": 1}
        await late.send(b"x")
        assert await late.exactly(1) == b"x"
        for client in (early, late):
            client.close()


async def test_relays_of_a_service_that_is_gone_get_the_drain_time_too(splicer: Splicer) -> None:
    async with greeter(b"a") as port, site(splicer, upstream(port)) as here:
        client = await connect(here.port)
        assert await client.exactly(1) == b"a"
        (pool,) = here.live.upstreams[DB].pools
        here.serve()
        await client.send(b"x")
        assert await client.exactly(1) == b"x"
        pool.expire()
        with pytest.raises(ConnectionResetError):
            await client.receive()
        client.close()


async def test_close_on_removal_ends_relays_at_once(splicer: Splicer) -> None:
    at_once = UpstreamPolicy(close_on_removal=True)
    async with greeter(b"a") as old, greeter(b"b") as new, site(splicer, upstream(old, policy=at_once)) as here:
        client = await connect(here.port)
        assert await client.exactly(1) == b"a"
        here.serve(upstream(new, policy=at_once))
        with pytest.raises(ConnectionResetError):
            await client.receive()
        assert here.access.reasons() == {"endpoint_removed": 1}
        client.close()


# --- a port that is given up


async def test_a_port_that_is_given_up_serves_who_has_connected_and_resets_nobody(splicer: Splicer) -> None:
    async with greeter(b"a") as port, site(splicer, upstream(port)) as here:
        # As the supervisor has it: the socket is not closed with the worker's.
        copy = here.sock.dup()
        clients = [await connect(here.port) for _ in range(150)]
        here.passthrough.retire()
        here.passthrough.retire()
        with pytest.raises(ConnectionRefusedError):
            await connect(here.port)
        for client in clients:
            assert await client.exactly(1) == b"a"
            client.close()
        await here.ended(150)
        copy.close()


async def test_a_port_that_was_given_up_in_vain_accepts_again(splicer: Splicer) -> None:
    async with greeter(b"a") as port, site(splicer, upstream(port)) as here:
        # Bound to a number that was asked for, as ports of listeners are: the kernel takes back one of its own choice.
        sock = socket.create_server(("127.0.0.1", refusing()))
        listener = Listener(sock.getsockname()[1], DB, ORIGIN)
        first, second = Passthrough(here, listener, sock.dup()), Passthrough(here, listener, sock)
        first.start()
        first.retire()
        second.start()
        client = await connect(listener.port)
        assert await client.exactly(1) == b"a"
        client.close()
        await here.ended()
        second.close()


# --- the PROXY protocol


@pytest.mark.parametrize("version", list(ProxyVersion))
async def test_an_endpoint_is_told_who_its_client_is_before_anything_else(
    splicer: Splicer, version: ProxyVersion
) -> None:
    endpoint = Endpoints()
    async with site(splicer, upstream(endpoint.port), policy=ListenerPolicy(announce=version)) as here:
        client = await connect(here.port)
        await client.send(b"hello")
        peer = await endpoint.accept()
        make = header_v1 if version is ProxyVersion.V1 else header_v2
        source = Address(*client.sock.getsockname())
        expected = make(source, Address("127.0.0.1", here.port)) + b"hello"
        assert await peer.exactly(len(expected)) == expected
        await peer.send(b"welcome")
        assert await client.exactly(7) == b"welcome"
        client.close()
        peer.close()
    endpoint.close()


@pytest.mark.parametrize("size", [1, 5, 1000])
async def test_a_trusted_peer_says_who_its_client_is_and_not_one_byte_is_lost(splicer: Splicer, size: int) -> None:
    policy = ListenerPolicy(announce=ProxyVersion.V2, accept_proxy=True)
    source, destination = Address("192.0.2.9", 4711), Address("198.51.100.1", 25)
    said = header_v1(source, destination) + b"hello"
    endpoint = Endpoints()
    async with site(splicer, upstream(endpoint.port), policy=policy) as here:
        here.introductions = LOOPBACK
        client = await connect(here.port)
        for start in range(0, len(said), size):
            await client.send(said[start : start + size])
            await client.delivered()
            await asyncio.sleep(0)
        peer = await endpoint.accept()
        expected = header_v2(source, destination) + b"hello"
        assert await peer.exactly(len(expected)) == expected
        (flow,) = FlowPage.of(here.passthrough.flows(here.loop.time()), FlowQuery()).flows
        assert flow.client == "192.0.2.9:4711"
        client.finish()
        peer.finish()
        await here.ended()
        assert here.access.lines[0].client == "192.0.2.9"
        client.close()
        peer.close()
    endpoint.close()


async def test_a_peer_that_is_not_trusted_is_passed_through_as_it_is(splicer: Splicer) -> None:
    said = header_v1(Address("192.0.2.9", 4711), Address("198.51.100.1", 25))
    async with greeter() as port, site(splicer, upstream(port), policy=ListenerPolicy(accept_proxy=True)) as here:
        here.introductions = Introductions(Networks(["10.0.0.0/8"]))
        client = await connect(here.port)
        await client.send(said)
        assert await client.exactly(len(said)) == said
        client.close()


async def test_a_trusted_peer_that_says_nothing_sound_is_reset(splicer: Splicer) -> None:
    async with greeter() as port, site(splicer, upstream(port), policy=ListenerPolicy(accept_proxy=True)) as here:
        here.introductions = LOOPBACK
        client = await connect(here.port)
        await client.send(b"EHLO example.com\r\n")
        with pytest.raises(ConnectionResetError):
            await client.receive()
        client.close()
        silent = await connect(here.port)
        silent.finish()
        await here.ended(2)
        assert here.access.reasons() == {"bad_proxy_header": 1, "client_gone": 1}
        assert not here.passthrough.relays
        silent.close()


async def test_a_header_that_does_not_come_in_time_ends_the_connection(splicer: Splicer) -> None:
    async with greeter() as port, site(splicer, upstream(port), policy=ListenerPolicy(accept_proxy=True)) as here:
        here.introductions = LOOPBACK
        client = await connect(here.port)
        await eventually(lambda: here.passthrough.relays)
        splicer.clock.now += 6.0
        splicer.clock.start()
        splicer.clock.start()
        splicer.clock.stop()
        await here.ended()
        assert here.access.reasons() == {"request_timeout": 1}
        client.close()


async def test_close_ends_who_is_expected_to_say_something(splicer: Splicer) -> None:
    async with greeter() as port, site(splicer, upstream(port), policy=ListenerPolicy(accept_proxy=True)) as here:
        here.introductions = LOOPBACK
        before = descriptors()
        client = await connect(here.port)
        await eventually(lambda: here.passthrough.relays)
        here.passthrough.close()
        assert here.access.reasons() == {"closed": 1}
        client.close()
        assert descriptors() == before - 1


@pytest.mark.parametrize("version", list(ProxyVersion))
async def test_a_client_of_a_local_header_counts_as_who_connected(splicer: Splicer, version: ProxyVersion) -> None:
    policy = ListenerPolicy(announce=version, accept_proxy=True)
    endpoint = Endpoints()
    async with site(splicer, upstream(endpoint.port), policy=policy) as here:
        here.introductions = LOOPBACK
        client = await connect(here.port)
        await client.send(header_v2(None, None))
        peer = await endpoint.accept()
        header = read_header(await peer.receive())
        assert header is not None
        assert header.source == Address(*client.sock.getsockname())
        client.close()
        peer.close()
    endpoint.close()


# --- what is told


async def test_counts_are_told_for_each_endpoint_as_long_as_it_serves(splicer: Splicer) -> None:
    async with greeter(b"a") as old, greeter(b"b") as new, site(splicer, upstream(old)) as here:
        labels = (f"tcp/{here.port}", DB, f"127.0.0.1:{old}")
        for _ in range(2):
            client = await connect(here.port)
            await client.send(b"xyz")
            assert await client.exactly(4) == b"axyz"
            client.finish()
            assert await client.rest() == b""
            client.close()
        await here.ended(2)
        assert here.sample("portway_endpoint_connections_total", *labels) == 2
        assert here.sample("portway_endpoint_bytes_total", *labels, "in") == 6
        assert here.sample("portway_endpoint_bytes_total", *labels, "out") == 8
        here.serve(upstream(new))
        assert not [sample for sample in here.passthrough.samples() if f"127.0.0.1:{old}" in sample.labels]


async def test_flows_tell_age_and_bytes_while_they_run(splicer: Splicer) -> None:
    async with greeter(b"hello") as port, site(splicer, upstream(port)) as here:
        client = await connect(here.port)
        await client.send(b"abc")
        assert await client.exactly(8) == b"helloabc"
        (flow,) = here.passthrough.flows(here.loop.time() + 5.0)
        host, own = client.sock.getsockname()
        assert (flow.listener, flow.client, flow.upstream) == (f"tcp/{here.port}", f"{host}:{own}", DB)
        assert (flow.endpoint, flow.bytes_in, flow.bytes_out) == (f"127.0.0.1:{port}", 3, 8)
        assert 5.0 <= flow.seconds < 25.0
        client.close()
