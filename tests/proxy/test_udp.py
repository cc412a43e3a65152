from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import cast

from eventually import eventually
from layer4 import Records
from portway_proxy.clock import Clock
from portway_proxy.codec import digest
from portway_proxy.flows import FlowPage, FlowQuery
from portway_proxy.l4.splicer import Splicer
from portway_proxy.l4.udp import UdpPassthrough
from portway_proxy.live import Live
from portway_proxy.settings import Limits, ProxySettings, Timeouts
from portway_proxy.snapshot import (
    Balance,
    Endpoint,
    Listener,
    ListenerPolicy,
    Origin,
    Protocol,
    Snapshot,
    Transport,
    Upstream,
    UpstreamPolicy,
)
from portway_proxy.upstreams import Surroundings
from tcp import descriptors, no_descriptor_left

PATIENCE = 5.0
DNS = "shop/dns:53/udp"
ORIGIN = Origin("Service", "shop", "dns")


def upstream(*ports: int, balance: Balance = Balance.ROUND_ROBIN, policy: UpstreamPolicy | None = None) -> Upstream:
    endpoints = tuple(sorted(Endpoint("127.0.0.1", port) for port in ports))
    return Upstream(DNS, Protocol.OPAQUE, balance, endpoints, policy=policy)


class Site:
    """A UDP listener with all that it needs of a worker."""

    def __init__(
        self,
        splicer: Splicer,
        *upstreams: Upstream,
        address: str = "127.0.0.1",
        policy: ListenerPolicy | None = None,
        most: int = 100,
        drain: float = 30.0,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.splicer = splicer
        self.settings = ProxySettings(workers=1, limits=Limits(udp_clients=most), timeouts=Timeouts(udp=0.0))
        self.access = Records()
        self.live = Live.empty(Surroundings(splicer.clock, drain=drain))
        self.serve(*upstreams)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.bind((address, 0))
        self.port: int = self.sock.getsockname()[1]
        listener = Listener(self.port, DNS, ORIGIN, Transport.UDP, policy=policy)
        self.passthrough = UdpPassthrough(self, listener, self.sock)

    def serve(self, *upstreams: Upstream) -> None:
        """Swap what is served, as a worker does."""
        snapshot = Snapshot(upstreams=upstreams)
        self.live = Live.build(snapshot, self.live.generation + 1, digest(snapshot), self.live)

    def sample(self, name: str, *labels: str) -> float:
        samples = self.passthrough.samples()
        (value,) = [one.value for one in samples if one.name == name and one.labels[-len(labels) :] == labels]
        return value


@asynccontextmanager
async def site(
    splicer: Splicer,
    *upstreams: Upstream,
    address: str = "127.0.0.1",
    policy: ListenerPolicy | None = None,
    most: int = 100,
    drain: float = 30.0,
) -> AsyncIterator[Site]:
    """Open a listener that reads, and end it with all its clients."""
    here = Site(splicer, *upstreams, address=address, policy=policy, most=most, drain=drain)
    here.passthrough.start()
    try:
        yield here
    finally:
        here.passthrough.close()


class Answers(asyncio.DatagramProtocol):
    """Answers each datagram with its name before it; `peers` are those who sent one."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.port = 0
        self.silent = False
        self.peers: list[tuple[str, int]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.peers.append(addr)
        if not self.silent:
            self.transport.sendto(self.name + data, addr)


@asynccontextmanager
async def endpoint(name: bytes = b"") -> AsyncIterator[Answers]:
    """Serve on a port."""
    loop = asyncio.get_running_loop()
    transport, served = await loop.create_datagram_endpoint(lambda: Answers(name), ("127.0.0.1", 0))
    served.port = transport.get_extra_info("sockname")[1]
    try:
        yield served
    finally:
        transport.close()


@contextmanager
def client(port: int, address: str = "127.0.0.1") -> Iterator[socket.socket]:
    """Lend a client's socket, which takes answers of the address that it asks alone."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0)
        sock.connect((address, port))
        yield sock


async def ask(sock: socket.socket, data: bytes) -> bytes:
    sock.send(data)
    async with asyncio.timeout(PATIENCE):
        return await asyncio.get_running_loop().sock_recv(sock, 65536)


async def sender_of(sock: socket.socket) -> object:
    """Return who sent the datagram that comes next; uvloop cannot wait for it."""
    senders: list[object] = []

    def received() -> bool:
        with suppress(BlockingIOError):
            senders.append(sock.recvfrom(100)[1])
        return bool(senders)

    await eventually(received)
    return senders[0]


def refusing() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def tick(clock: Clock) -> None:
    clock.start()
    clock.stop()


async def test_a_datagram_goes_to_the_endpoint_and_back_and_into_the_log(splicer: Splicer) -> None:
    async with endpoint(b"re: ") as dns, site(splicer, upstream(dns.port)) as here:
        with client(here.port) as sock:
            assert await ask(sock, b"who?") == b"re: who?"
            assert await ask(sock, b"") == b"re: "
            assert await ask(sock, b"x" * 40000) == b"re: " + b"x" * 40000
            address = sock.getsockname()
        here.passthrough.close()
        (record,) = here.access.lines
        assert (record.listener, record.client, record.upstream) == (f"udp/{here.port}", "127.0.0.1", DNS)
        assert (record.endpoint, record.bytes_in, record.bytes_out) == (f"127.0.0.1:{dns.port}", 40004, 40016)
        assert record.reason == "closed"
        assert address


async def test_a_client_keeps_its_endpoint_and_its_socket_and_clients_are_spread(splicer: Splicer) -> None:
    async with endpoint(b"a") as one, endpoint(b"b") as two, site(splicer, upstream(one.port, two.port)) as here:
        told: list[bytes] = []
        for _ in range(4):
            with client(here.port) as sock:
                answers = {await ask(sock, b"") for _ in range(3)}
                assert len(answers) == 1
                told += answers
        assert Counter(told) == {b"a": 2, b"b": 2}
        assert len({*one.peers, *two.peers}) == 4
        assert [pool.load for pool in here.live.upstreams[DNS].pools] == [2, 2]


async def test_a_client_without_traffic_ends_and_its_next_datagram_begins_anew(splicer: Splicer) -> None:
    policy = ListenerPolicy(idle=30.0)
    async with endpoint() as dns, site(splicer, upstream(dns.port), policy=policy) as here:
        with client(here.port) as sock:
            await ask(sock, b"x")
            tick(splicer.clock)
            assert not here.access.lines
            splicer.clock.now += 31.0
            here.passthrough.expire()
            assert here.access.reasons() == {"done": 1}
            assert here.sample("portway_relays_active", f"udp/{here.port}") == 0
            await ask(sock, b"x")
        assert len(set(dns.peers)) == 2


async def test_the_deadline_of_the_table_is_that_of_whom_was_silent_the_longest(splicer: Splicer) -> None:
    policy = ListenerPolicy(idle=30.0)
    async with endpoint() as dns, site(splicer, upstream(dns.port), policy=policy) as here:
        now = splicer.clock.now
        with client(here.port) as first, client(here.port) as second:
            await ask(first, b"x")
            splicer.clock.now = now + 10
            await ask(second, b"x")
            splicer.clock.now = now + 20
            await ask(first, b"x")
            assert here.passthrough.deadline == now + 31
            splicer.clock.now = now + 41
            here.passthrough.expire()
            assert here.access.reasons() == {"done": 1}
            assert here.passthrough.deadline == now + 51


async def test_a_client_that_got_no_answer_is_told_apart(splicer: Splicer) -> None:
    async with endpoint() as dns, site(splicer, upstream(dns.port)) as here:
        dns.silent = True
        with client(here.port) as sock:
            sock.send(b"x")
            await eventually(lambda: dns.peers)
        splicer.clock.now += 2.0
        here.passthrough.expire()
        assert here.access.reasons() == {"unanswered": 1}


async def test_an_endpoint_that_refuses_costs_no_datagram_and_is_left_alone_in_the_end(splicer: Splicer) -> None:
    bad = refusing()
    async with endpoint(b"a") as dns, site(splicer, upstream(bad, dns.port)) as here:
        for _ in range(16):
            with client(here.port) as sock:
                assert await ask(sock, b"x") == b"ax"
        pools = {pool.endpoint.port: pool for pool in here.live.upstreams[DNS].pools}
        assert pools[bad].failed == 5
        assert pools[bad].health.ejected
        assert pools[dns.port].load == 16


async def test_when_every_endpoint_refuses_the_datagram_is_lost_and_it_counts(splicer: Splicer) -> None:
    async with site(splicer, upstream(refusing())) as here:
        with client(here.port) as sock:
            sock.send(b"x")
            await eventually(lambda: here.access.lines)
        assert here.access.reasons() == {"connect_failed": 1}
        assert here.sample("portway_relays_total", f"udp/{here.port}", "connect_failed") == 1


async def test_an_endpoint_that_goes_away_is_replaced_at_the_next_datagram(splicer: Splicer) -> None:
    async with endpoint(b"b") as other, site(splicer) as here:
        async with endpoint(b"a") as dns:
            here.serve(upstream(dns.port))
            with client(here.port) as sock:
                assert await ask(sock, b"x") == b"ax"
                here.serve(upstream(dns.port, other.port))
                dns.transport.close()
                # The next datagram gets an ICMP error back, and the one after it another endpoint.
                answer = b""
                while not answer:
                    sock.send(b"y")
                    await asyncio.sleep(0.01)
                    try:
                        answer = sock.recv(100)
                    except BlockingIOError:
                        continue
                assert answer == b"by"
        assert here.access.reasons()["connect_failed"] >= 1


async def test_clients_of_an_endpoint_that_is_removed_stay_for_the_time_to_drain(splicer: Splicer) -> None:
    async with endpoint(b"a") as old, endpoint(b"b") as new, site(splicer, upstream(old.port)) as here:
        with client(here.port) as early, client(here.port) as late:
            assert await ask(early, b"x") == b"ax"
            pool = here.live.upstreams[DNS].pools[0]
            here.serve(upstream(new.port))
            assert await ask(early, b"x") == b"ax"
            assert await ask(late, b"x") == b"bx"
            pool.expire()
            assert here.access.reasons() == {"endpoint_removed": 1}
            assert await ask(early, b"x") == b"bx"


async def test_close_on_removal_ends_them_at_once(splicer: Splicer) -> None:
    at_once = UpstreamPolicy(close_on_removal=True)
    async with endpoint(b"a") as old, endpoint(b"b") as new, site(splicer, upstream(old.port, policy=at_once)) as here:
        with client(here.port) as sock:
            assert await ask(sock, b"x") == b"ax"
            here.serve(upstream(new.port, policy=at_once))
            assert here.access.reasons() == {"endpoint_removed": 1}
            assert await ask(sock, b"x") == b"bx"


async def test_a_full_table_makes_room_for_new_clients(splicer: Splicer) -> None:
    async with endpoint() as dns, site(splicer, upstream(dns.port), most=2) as here:
        with client(here.port) as one, client(here.port) as two, client(here.port) as three:
            await ask(one, b"x")
            await ask(two, b"x")
            await ask(one, b"x")
            await ask(three, b"x")
            assert here.access.reasons() == {"evicted": 1}
            before = len(set(dns.peers))
            await ask(one, b"x")
            assert len(set(dns.peers)) == before
            assert here.sample("portway_relays_active", f"udp/{here.port}") == 2


async def test_the_table_has_as_many_places_as_the_policy_says(splicer: Splicer) -> None:
    async with endpoint() as dns, site(splicer, upstream(dns.port), policy=ListenerPolicy(clients=1)) as here:
        with client(here.port) as one, client(here.port) as two:
            await ask(one, b"x")
            await ask(two, b"x")
            assert here.access.reasons() == {"evicted": 1}


async def test_answers_come_from_the_address_that_was_asked(splicer: Splicer) -> None:
    # A connected socket takes no answer from another address than the one that it asked.
    async with endpoint(b"re: ") as dns, site(splicer, upstream(dns.port), address="0.0.0.0") as here:
        for address in ("127.0.0.1", "127.0.0.2", "127.3.2.1"):
            with client(here.port, address) as sock:
                assert await ask(sock, b"who?") == b"re: who?"


async def test_answers_over_ip_version_6_come_from_there_too_also_to_clients_of_version_4(splicer: Splicer) -> None:
    async with endpoint(b"re: ") as dns, site(splicer, upstream(dns.port), address="::") as here:
        for address in ("::1", "127.0.0.2"):
            with client(here.port, address) as sock:
                assert await ask(sock, b"who?") == b"re: who?"


async def test_one_client_that_asks_two_addresses_is_two_clients(splicer: Splicer) -> None:
    async with endpoint() as dns, site(splicer, upstream(dns.port), address="0.0.0.0") as here:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0)
            sock.bind(("127.0.0.1", 0))
            for address in ("127.0.0.2", "127.0.0.3"):
                sock.sendto(b"x", (address, here.port))
                assert await sender_of(sock) == (address, here.port)
        assert len(set(dns.peers)) == 2


async def test_one_address_goes_to_one_endpoint_by_its_hash(splicer: Splicer) -> None:
    async with endpoint(b"a") as one, endpoint(b"b") as two:
        to = upstream(one.port, two.port, balance=Balance.HASH)
        async with site(splicer, to, address="0.0.0.0") as here:
            answers = set()
            for _ in range(6):
                with client(here.port) as sock:
                    answers.add(await ask(sock, b""))
            assert len(answers) == 1


async def test_a_full_receive_buffer_is_read_in_bounded_turns(splicer: Splicer) -> None:
    async with endpoint() as dns, site(splicer, upstream(dns.port), most=1000) as here:
        splicer.unwatch(here.sock.fileno())
        with client(here.port) as sock:
            for _ in range(100):
                sock.send(b"x")
            here.passthrough._readable(0)
            await eventually(lambda: len(dns.peers) == 64)
            here.passthrough._readable(0)
            await eventually(lambda: len(dns.peers) == 100)


async def test_without_a_descriptor_the_longest_silent_client_makes_room(splicer: Splicer) -> None:
    async with endpoint() as dns, site(splicer, upstream(dns.port)) as here:
        with client(here.port) as one, client(here.port) as two:
            await ask(one, b"x")
            with no_descriptor_left():
                two.send(b"x")
                await eventually(lambda: here.access.lines)
            assert here.access.reasons() == {"evicted": 1}
            await ask(two, b"x")


async def test_a_worker_that_drains_leaves_what_comes_to_its_successor_and_still_answers(splicer: Splicer) -> None:
    async with endpoint() as dns, site(splicer, upstream(dns.port)) as here, site(splicer, upstream(dns.port)) as other:
        successor = UdpPassthrough(other, here.passthrough.listener, here.sock.dup())
        with client(here.port) as sock:
            dns.silent = True
            sock.send(b"slow")
            await eventually(lambda: dns.peers)
            here.passthrough.finish_accepting()
            successor.start()
            dns.transport.sendto(b"answer", dns.peers[0])
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 100), PATIENCE) == b"answer"
            dns.silent = False
            await ask(sock, b"x")
            assert len(set(dns.peers)) == 2
            assert len(here.passthrough.relays) == 1
            splicer.clock.now += 5.0
            assert not here.passthrough.relays
            successor.close()


async def test_a_port_that_is_given_up_passes_on_what_has_come_and_leaves_no_descriptor(splicer: Splicer) -> None:
    async with endpoint() as dns:
        before = descriptors()
        here = Site(splicer, upstream(dns.port))
        here.passthrough.start()
        for _ in range(20):
            with client(here.port) as sock:
                sock.send(b"x")
        here.passthrough.retire()
        here.passthrough.retire()
        await eventually(lambda: len(dns.peers) == 20)
        assert descriptors() == before
        assert not here.passthrough.relays


async def test_without_an_endpoint_datagrams_are_lost_and_counted_by_the_reason(splicer: Splicer) -> None:
    nobody = Upstream(DNS, Protocol.OPAQUE, reason="service_missing")
    async with site(splicer, nobody) as here:
        with client(here.port) as sock:
            sock.send(b"x")
            await eventually(lambda: any("service_missing" in one.labels for one in here.passthrough.samples()))


async def test_clients_are_in_the_table_of_flows(splicer: Splicer) -> None:
    async with endpoint(b"re: ") as dns, site(splicer, upstream(dns.port)) as here:
        with client(here.port) as sock:
            await ask(sock, b"who?")
            page = FlowPage.of(here.passthrough.flows(here.loop.time()), FlowQuery())
            (flow,) = page.flows
            assert flow.client == f"127.0.0.1:{sock.getsockname()[1]}"
        assert (flow.listener, flow.upstream, flow.endpoint) == (f"udp/{here.port}", DNS, f"127.0.0.1:{dns.port}")
        assert (flow.bytes_in, flow.bytes_out) == (4, 8)
        assert here.sample("portway_endpoint_bytes_total", f"127.0.0.1:{dns.port}", "out") == 8
        assert here.sample("portway_endpoint_connections_total", f"127.0.0.1:{dns.port}") == 1
