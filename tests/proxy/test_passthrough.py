from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from eventually import eventually
from layer4 import DB, ORIGIN, Endpoints, Site, greeter, is_reset, refusing, site, upstream
from portway_proxy.l4.passthrough import Passthrough
from portway_proxy.l4.records import RelayRecord
from portway_proxy.l4.splicer import Splicer
from portway_proxy.metrics import FAMILIES, Sample
from portway_proxy.settings import Timeouts
from portway_proxy.snapshot import Listener
from tcp import PATIENCE, connect, descriptors, no_descriptor_left


async def test_a_connection_goes_to_the_endpoint_and_back_and_into_the_log(splicer: Splicer) -> None:
    async with greeter(b"hello") as port, site(splicer, upstream(port)) as here:
        client = await connect(here.port)
        assert await client.exactly(5) == b"hello"
        await client.send(b"ping")
        client.finish()
        assert await client.rest() == b"ping"
        await here.ended()
        (record,) = here.access.lines
        assert record.seconds >= 0
        assert record == RelayRecord(
            listener=f"tcp/{here.port}",
            client="127.0.0.1",
            upstream=DB,
            endpoint=f"127.0.0.1:{port}",
            bytes_in=4,
            bytes_out=9,
            seconds=record.seconds,
            reason="done",
        )
        client.close()


async def test_500_clients_at_once_each_get_their_own_bytes(splicer: Splicer) -> None:
    async def talk(port: int, number: int) -> None:
        client = await connect(port)
        said = b"this is client %d " % number * 20
        await client.send(said)
        client.finish()
        assert await client.rest() == said
        client.close()

    async with greeter() as port, site(splicer, upstream(port)) as here:
        async with asyncio.TaskGroup() as tasks:
            for number in range(500):
                tasks.create_task(talk(here.port, number))
        await here.ended(500)
        assert here.access.reasons() == {"done": 500}
        assert not here.passthrough.relays


async def test_connections_are_spread_over_the_endpoints(splicer: Splicer) -> None:
    async with greeter(b"a") as one, greeter(b"b") as two, site(splicer, upstream(one, two)) as here:
        clients = [await connect(here.port) for _ in range(6)]
        assert Counter([await client.exactly(1) for client in clients]) == {b"a": 3, b"b": 3}
        assert [pool.load for pool in here.live.upstreams[DB].pools] == [3, 3]
        for client in clients:
            client.close()
        await here.ended(6)
        assert [pool.load for pool in here.live.upstreams[DB].pools] == [0, 0]


async def test_an_endpoint_that_refuses_costs_no_client(splicer: Splicer) -> None:
    async with greeter(b"a") as port, site(splicer, upstream(port, refusing())) as here:
        for _ in range(4):
            client = await connect(here.port)
            assert await client.exactly(1) == b"a"
            client.close()
        await here.ended(4)
        assert here.sample("portway_upstream_connects_total", DB, "connected") == 4
        assert here.sample("portway_upstream_connects_total", DB, "failed") > 0
        assert {record.endpoint for record in here.access.lines} == {f"127.0.0.1:{port}"}


async def test_when_every_endpoint_refuses_the_client_is_reset_and_it_counts(splicer: Splicer) -> None:
    bad = refusing()
    async with site(splicer, upstream(bad)) as here:
        assert await is_reset(here.port)
        await here.ended()
        (record,) = here.access.lines
        assert (record.reason, record.endpoint) == ("connect_failed", f"127.0.0.1:{bad}")
        assert here.sample("portway_relays_total", f"tcp/{here.port}", "connect_failed") == 1
        assert here.sample("portway_relays_active", f"tcp/{here.port}") == 0


async def test_without_an_endpoint_the_client_is_reset_and_the_log_says_why(splicer: Splicer) -> None:
    async with site(splicer, upstream(reason="service_missing")) as here:
        assert await is_reset(here.port)
        await here.ended()
        assert here.access.lines[0].reason == "service_missing"
        assert here.access.lines[0].endpoint == ""


async def test_an_upstream_that_is_served_no_more_resets_the_client(splicer: Splicer) -> None:
    async with site(splicer) as here:
        assert await is_reset(here.port)
        await here.ended()
        assert here.access.reasons() == {"no_endpoints": 1}


async def test_resets_pass_both_ways_and_the_log_says_whose_they_were(splicer: Splicer) -> None:
    endpoint = Endpoints()
    async with site(splicer, upstream(endpoint.port)) as here:
        client = await connect(here.port)
        peer = await endpoint.accept()
        client.reset()
        with pytest.raises(ConnectionResetError):
            await peer.receive()
        peer.close()
        await here.ended(1)
        client = await connect(here.port)
        peer = await endpoint.accept()
        await peer.send(b"x")
        assert await client.exactly(1) == b"x"
        peer.reset()
        with pytest.raises(ConnectionResetError):
            await client.receive()
        client.close()
        await here.ended(2)
        assert [record.reason for record in here.access.lines] == ["client_reset", "upstream_reset"]
    endpoint.close()


async def test_stop_refuses_new_clients_and_keeps_relays(splicer: Splicer) -> None:
    async with greeter(b"a") as port, site(splicer, upstream(port)) as here:
        client = await connect(here.port)
        assert await client.exactly(1) == b"a"
        here.passthrough.stop()
        here.passthrough.stop()
        with pytest.raises(ConnectionRefusedError):
            await connect(here.port)
        assert len(here.passthrough.relays) == 1
        await client.send(b"still here")
        assert await client.exactly(10) == b"still here"
        client.finish()
        assert await client.rest() == b""
        await eventually(lambda: not here.passthrough.relays)
        client.close()


async def test_close_ends_relays_and_those_on_their_way(splicer: Splicer) -> None:
    # The backlog of this endpoint is full: it neither accepts nor refuses.
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    fillers = [socket.socket() for _ in range(3)]
    for filler in fillers:
        filler.settimeout(0)
        filler.connect_ex(full.getsockname())
    async with greeter(b"a") as port, site(splicer, upstream(port)) as here:
        relayed = await connect(here.port)
        assert await relayed.exactly(1) == b"a"
        here.serve(upstream(full.getsockname()[1]))
        waiting = await connect(here.port)
        await eventually(lambda: len(here.passthrough.relays) == 2)
        here.passthrough.close()
        for client in (relayed, waiting):
            with pytest.raises(ConnectionResetError):
                await client.receive()
            client.close()
        assert here.access.reasons() == {"closed": 2}
        assert not here.passthrough.relays
    for sock in (full, *fillers):
        sock.close()


async def test_after_a_swap_relays_run_on_and_new_clients_go_to_the_new_endpoint(splicer: Splicer) -> None:
    async with greeter(b"a") as old, greeter(b"b") as new, site(splicer, upstream(old)) as here:
        early = await connect(here.port)
        assert await early.exactly(1) == b"a"
        here.serve(upstream(new))
        late = await connect(here.port)
        assert await late.exactly(1) == b"b"
        await early.send(b"still here")
        assert await early.exactly(10) == b"still here"
        early.close()
        late.close()


async def test_a_listener_may_be_given_another_upstream(splicer: Splicer) -> None:
    other = "shop/other:1"
    async with (
        greeter(b"a") as old,
        greeter(b"b") as new,
        site(splicer, upstream(old), upstream(new, name=other)) as here,
    ):
        early = await connect(here.port)
        assert await early.exactly(1) == b"a"
        here.passthrough.take(Listener(here.port, other, ORIGIN))
        late = await connect(here.port)
        assert await late.exactly(1) == b"b"
        assert here.sample("portway_upstream_connects_total", other, "connected") == 1
        early.close()
        late.close()


async def test_samples_hold_the_bytes_of_relays_that_run_still(splicer: Splicer) -> None:
    async with greeter(b"hello") as port, site(splicer, upstream(port)) as here:
        name = f"tcp/{here.port}"
        first = await connect(here.port)
        assert await first.exactly(5) == b"hello"
        assert here.sample("portway_bytes_total", name, "out") == 5
        first.finish()
        assert await first.rest() == b""
        await here.ended()
        second = await connect(here.port)
        await second.send(b"abc")
        assert await second.exactly(8) == b"helloabc"
        assert here.sample("portway_bytes_total", name, "in") == 3
        assert here.sample("portway_bytes_total", name, "out") == 13
        assert here.sample("portway_connections_total", name) == 2
        assert here.sample("portway_relays_active", name) == 1
        assert here.sample("portway_relays_total", name, "done") == 1
        families = {family.name: family for family in FAMILIES}
        samples: list[Sample] = list(here.passthrough.samples())
        assert all(len(sample.labels) == len(families[sample.name].labels) for sample in samples)
        first.close()
        second.close()


async def test_a_relay_without_traffic_ends_after_the_tunnel_timeout(splicer: Splicer) -> None:
    async with greeter(b"a") as port, site(splicer, upstream(port), timeouts=Timeouts(tunnel=0.0)) as here:
        client = await connect(here.port)
        assert await client.exactly(1) == b"a"
        splicer.clock.start()
        with pytest.raises(ConnectionResetError):
            await client.receive()
        splicer.clock.stop()
        await here.ended()
        assert here.access.reasons() == {"idle": 1}
        client.close()


async def test_a_full_backlog_is_accepted_in_bounded_turns(splicer: Splicer) -> None:
    async with greeter(b"a") as port:
        here = Site(splicer, upstream(port))
        clients = [await connect(here.port) for _ in range(150)]
        here.passthrough.start()
        here.passthrough._acceptor._accept()
        assert 0 < len(here.passthrough.relays) <= 64
        for client in clients:
            assert await client.exactly(1) == b"a"
            client.close()
        await here.ended(150)
        here.passthrough.close()


async def test_a_thousand_connections_leave_no_descriptor_behind(splicer: Splicer) -> None:
    async with greeter(b"a") as port, site(splicer, upstream(port)) as here:
        before = descriptors()
        for turn in range(10):
            clients = [await connect(here.port) for _ in range(100)]
            for number, client in enumerate(clients):
                assert await client.exactly(1) == b"a"
                if number % 2:
                    client.reset()
                else:
                    client.close()
            await here.ended(100 * (turn + 1))
        splicer.pipes.close()
        # Fewer is no fault: what a test before this one left to the collector may go meanwhile.
        await eventually(lambda: descriptors() <= before, what=f"{descriptors()} instead of {before}")
        assert len(splicer) == 0


class CountingSocket(socket.socket):
    """A listening socket that counts how often somebody tried to accept."""

    tries = 0

    def _accept(self) -> tuple[int, tuple[str, int]]:
        self.tries += 1
        accepted: tuple[int, tuple[str, int]] = super()._accept()  # type: ignore[misc] # as in Acceptor
        return accepted


async def test_without_descriptors_accepting_pauses_and_clients_wait(
    splicer: Splicer, caplog: pytest.LogCaptureFixture
) -> None:
    async with greeter(b"a") as port:
        here = Site(splicer, upstream(port))
        listening = CountingSocket(fileno=here.sock.detach())
        here.passthrough = Passthrough(here, Listener(here.port, DB, ORIGIN), listening)
        clients = [await connect(here.port) for _ in range(3)]
        with no_descriptor_left():
            here.passthrough.start()
            # One try in each tenth of a second, and not in each turn of the loop.
            await asyncio.sleep(0.35)
            assert 2 <= listening.tries <= 5
            assert not here.passthrough.relays
        for client in clients:
            assert await client.exactly(1) == b"a"
            client.close()
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert [record.message for record in warnings] == [
            f"tcp/{here.port}: no descriptor is left, so that clients wait"
        ]
        await here.ended(3)
        here.passthrough.close()


async def test_a_client_that_took_the_last_descriptor_is_reset_and_accepting_pauses(splicer: Splicer) -> None:
    async with greeter(b"a") as port:
        here = Site(splicer, upstream(port))
        spare = os.dup(here.sock.fileno())
        clients = [await connect(here.port) for _ in range(2)]
        with no_descriptor_left():
            os.close(spare)
            here.passthrough.start()
            with pytest.raises(ConnectionResetError):
                await clients[0].receive()
            assert here.access.reasons() == {"no_descriptors": 1}
        assert await clients[1].exactly(1) == b"a"
        for client in clients:
            client.close()
        here.passthrough.close()


async def test_stop_while_accepting_pauses_is_final(splicer: Splicer) -> None:
    async with greeter(b"a") as port:
        here = Site(splicer, upstream(port))
        client = await connect(here.port)
        with no_descriptor_left():
            here.passthrough.start()
            await asyncio.sleep(0.02)
            here.passthrough.stop()
        with pytest.raises(ConnectionResetError):
            await client.receive()
        await asyncio.sleep(0.15)
        assert not here.access.lines
        client.close()


CROWDED = """
import asyncio, resource, socket, sys
from types import SimpleNamespace
import uvloop
from portway_proxy.clock import Clock
from portway_proxy.gate import Gate
from portway_proxy.l4.passthrough import Introductions, Passthrough
from portway_proxy.l4.splicer import Splicer
from portway_proxy.live import LiveUpstream
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import Endpoint, Listener, Origin, Upstream

async def main():
    loop = asyncio.get_running_loop()
    clock = Clock(loop)
    clock.start()
    upstream = LiveUpstream(Upstream("shop/db:5432", endpoints=(Endpoint("127.0.0.1", int(sys.argv[1])),)))
    worker = SimpleNamespace(
        loop=loop, splicer=Splicer(loop, clock), settings=ProxySettings(),
        live=SimpleNamespace(upstreams={"shop/db:5432": upstream}), access=SimpleNamespace(relay=lambda record: None),
        gate=Gate(1000), introductions=Introductions(),
    )
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener = Listener(sock.getsockname()[1], "shop/db:5432", Origin("Service", "shop", "db"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    Passthrough(worker, listener, sock).start()
    print(listener.port, flush=True)
    await asyncio.Event().wait()

uvloop.run(main())
"""


@asynccontextmanager
async def crowded(port: int) -> AsyncIterator[int]:
    """Pass through to `port` in a process that may have 128 descriptors; yields the port to connect to."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CROWDED, str(port), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            yield int(await process.stdout.readline())
        assert process.returncode is None
    finally:
        process.kill()
        await process.communicate()


async def test_more_clients_than_descriptors_are_served_in_their_turn_or_reset() -> None:
    async def talk(port: int) -> bool:
        try:
            client = await connect(port)
        except ConnectionResetError:
            return False
        try:
            await client.send(b"x" * 1000)
            await client.exactly(1000)
            # Nobody leaves before everybody has come.
            await asyncio.sleep(0.2)
        except ConnectionResetError:
            return False
        finally:
            client.close()
        return True

    async with greeter() as endpoint, crowded(endpoint) as port:
        served = Counter(await asyncio.gather(*(talk(port) for _ in range(300))))
        assert served[True] >= 200
        assert await talk(port)
