from __future__ import annotations

import socket
from collections.abc import Collection

from eventually import eventually
from portway_proxy.errors import ConnectFailed, ConnectTimeout, NameUnresolved, NoDescriptors, NoEndpoints, ProxyError
from portway_proxy.l4.connect import Dial, prepare
from portway_proxy.l4.splicer import Splicer
from portway_proxy.l7.pool import Pool
from portway_proxy.live import LiveUpstream
from portway_proxy.settings import Timeouts
from portway_proxy.snapshot import Endpoint, Protocol, Upstream
from tcp import PATIENCE, descriptors, no_descriptor_left


def upstream(*ports: int, reason: str = "") -> LiveUpstream:
    endpoints = tuple(sorted(Endpoint("127.0.0.1", port) for port in ports))
    return LiveUpstream(Upstream("shop/db:5432", Protocol.OPAQUE, endpoints=endpoints, reason=reason))


def listening(address: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, 0), family=family)


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def refusing() -> int:
    """Return a port that nobody listens on."""
    with listening() as sock:
        return port_of(sock)


class Hole:
    """A port that answers nothing: its backlog is full."""

    def __init__(self) -> None:
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(0)
        self.port = port_of(self._listening)
        self._filling = []
        for _ in range(3):
            self._filling.append(sock := socket.socket())
            sock.settimeout(0)
            sock.connect_ex(("127.0.0.1", self.port))

    def close(self) -> None:
        for sock in (self._listening, *self._filling):
            sock.close()


class Attempt:
    """A dial and what came of it."""

    def __init__(self, splicer: Splicer, to: LiveUpstream) -> None:
        self._splicer = splicer
        self.outcomes: list[socket.socket | ProxyError] = []
        self._to = to
        self.dial = Dial(splicer, to, b"127.0.0.1", (5.0, 0.0), self._done)
        self.dial.start()

    @property
    def endpoint(self) -> Endpoint | None:
        return self.dial.pool.endpoint if self.dial.pool is not None else None

    @property
    def failed(self) -> int:
        """Return how many attempts failed at the endpoints of the upstream, so far and in all."""
        assert not sum(pool.connecting for pool in self._to.pools)
        return sum(pool.failed for pool in self._to.pools)

    def _done(self, outcome: socket.socket | ProxyError) -> None:
        if isinstance(outcome, socket.socket):
            assert len(self._splicer) == 1
            self._splicer.unwatch(outcome.fileno())
        self.outcomes.append(outcome)

    async def outcome(self) -> socket.socket | ProxyError:
        await eventually(lambda: self.outcomes, PATIENCE)
        (outcome,) = self.outcomes
        return outcome

    async def connected(self) -> tuple[str, int]:
        """Return where it leads, and close it."""
        sock = await self.outcome()
        assert isinstance(sock, socket.socket), sock
        peer: tuple[str, int] = sock.getpeername()[:2]
        sock.close()
        return peer


async def test_a_dial_reaches_an_endpoint(splicer: Splicer) -> None:
    with listening() as sock:
        to = upstream(port_of(sock))
        attempt = Attempt(splicer, to)
        assert await attempt.connected() == ("127.0.0.1", port_of(sock))
        assert attempt.endpoint == Endpoint("127.0.0.1", port_of(sock))
        assert attempt.failed == 0
        assert [pool.connected for pool in to.pools] == [1]


async def test_a_dial_reaches_an_endpoint_of_ip_version_6(splicer: Splicer) -> None:
    with listening("::1") as sock:
        to = LiveUpstream(Upstream("shop/db:5432", endpoints=(Endpoint("::1", port_of(sock)),)))
        assert await Attempt(splicer, to).connected() == ("::1", port_of(sock))


async def test_an_endpoint_that_refuses_is_passed_over_for_another(splicer: Splicer) -> None:
    with listening() as sock:
        to = upstream(port_of(sock), refusing())
        for _ in range(4):
            attempt = Attempt(splicer, to)
            assert await attempt.connected() == ("127.0.0.1", port_of(sock))
        assert attempt.failed > 0


async def test_an_address_that_cannot_even_be_tried_is_passed_over_too(splicer: Splicer) -> None:
    with listening() as sock:
        good, bad = Endpoint("127.0.0.1", port_of(sock)), Endpoint("255.255.255.255", 1)
        to = LiveUpstream(Upstream("shop/db:5432", endpoints=(good, bad)))
        for _ in range(2):
            assert await Attempt(splicer, to).connected() == ("127.0.0.1", port_of(sock))


async def test_each_endpoint_is_tried_once_at_most(splicer: Splicer) -> None:
    attempt = Attempt(splicer, upstream(refusing(), refusing()))
    outcome = await attempt.outcome()
    assert isinstance(outcome, ConnectFailed)
    assert "Connection refused" in str(outcome)
    assert attempt.failed == 2


async def test_three_endpoints_are_tried_at_most(splicer: Splicer) -> None:
    attempt = Attempt(splicer, upstream(*(refusing() for _ in range(6))))
    assert isinstance(await attempt.outcome(), ConnectFailed)
    assert attempt.failed == 3


async def test_an_upstream_without_endpoints_says_why(splicer: Splicer) -> None:
    outcome = await Attempt(splicer, upstream(reason="service_missing")).outcome()
    assert isinstance(outcome, NoEndpoints)
    assert outcome.code == "service_missing"


async def test_any_reason_not_to_choose_is_passed_on(splicer: Splicer) -> None:
    class Unresolved:
        def reach(self, client: bytes, tried: Collection[Pool] = ()) -> Pool:
            raise NameUnresolved(f"db.example, for {client!r} without {len(tried)}")

        def failed(self, pool: Pool) -> None:
            raise AssertionError(pool)

        succeeded = failed

    outcomes: list[socket.socket | ProxyError] = []
    Dial(splicer, Unresolved(), b"127.0.0.1", (5.0, 0.0), outcomes.append).start()
    assert isinstance(outcomes[0], NameUnresolved)


async def test_an_endpoint_that_does_not_answer_is_given_up_at_the_deadline(splicer: Splicer) -> None:
    hole = Hole()
    clock = splicer.clock
    with listening() as sock:
        to = upstream(hole.port, port_of(sock))
        attempt = Attempt(splicer, to)
        if attempt.endpoint != Endpoint("127.0.0.1", hole.port):
            await attempt.connected()
            attempt = Attempt(splicer, to)
        assert attempt.endpoint == Endpoint("127.0.0.1", hole.port)
        assert clock.now + 5.0 < attempt.dial.deadline <= clock.now + 6.0
        attempt.dial.deadline = clock.now
        clock.start()
        clock.stop()
        assert await attempt.connected() == ("127.0.0.1", port_of(sock))
        assert attempt.failed == 1
    hole.close()


async def test_an_upstream_that_never_answers_is_a_timeout(splicer: Splicer) -> None:
    hole = Hole()
    attempt = Attempt(splicer, upstream(hole.port))
    attempt.dial.deadline = splicer.clock.now
    splicer.clock.start()
    splicer.clock.stop()
    assert isinstance(await attempt.outcome(), ConnectTimeout)
    hole.close()


async def test_a_cancelled_dial_leaves_nothing_behind(splicer: Splicer) -> None:
    hole = Hole()
    before = descriptors()
    attempt = Attempt(splicer, upstream(hole.port))
    assert descriptors() == before + 1
    attempt.dial.cancel()
    assert descriptors() == before
    assert not attempt.outcomes
    hole.close()


async def test_want_of_descriptors_is_not_held_against_endpoints(splicer: Splicer) -> None:
    to = upstream(refusing())
    with no_descriptor_left():
        attempt = Attempt(splicer, to)
    assert isinstance(await attempt.outcome(), NoDescriptors)
    assert attempt.failed == 0


def test_accepted_sockets_inherit_what_a_listening_one_was_prepared_with() -> None:
    with listening() as sock:
        prepare(sock, 90.0)
        with socket.create_connection(sock.getsockname()), sock.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 15
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 90_000


def test_by_default_the_kernel_ends_nobody_who_answers_but_reads_nothing() -> None:
    with listening() as sock:
        prepare(sock, Timeouts().unacknowledged)
        # Else it would count against a closed window, however well its peer answers probes.
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


async def test_an_endpoint_that_keeps_refusing_is_left_alone(splicer: Splicer) -> None:
    with listening() as sock:
        good, bad = port_of(sock), refusing()
        to = upstream(good, bad)
        for _ in range(12):
            assert await Attempt(splicer, to).connected() == ("127.0.0.1", good)
        pools = {pool.endpoint.port: pool for pool in to.pools}
        assert pools[bad].health.ejected
        assert pools[bad].failed == 5
        assert to.tally.ejections == 1


async def test_an_endpoint_that_was_left_alone_is_asked_again_by_one_connection(splicer: Splicer) -> None:
    with listening() as sock, listening() as other:
        to = upstream(port_of(sock), port_of(other))
        ill = to.pools[0]
        for _ in range(5):
            to.failed(ill)
        assert ill.health.ejected
        ill.health.until = 0.0
        to.expire()
        assert await Attempt(splicer, to).connected() == ("127.0.0.1", ill.endpoint.port)
        assert not ill.health.ejected


async def test_a_connection_that_was_made_to_an_endpoint_that_is_gone_by_then_goes_to_another(splicer: Splicer) -> None:
    with listening() as sock, listening() as other:
        to = upstream(port_of(sock))
        attempt = Attempt(splicer, to)
        ports = (port_of(other),)
        to.serve([Endpoint("127.0.0.1", port) for port in ports])
        assert await attempt.connected() == ("127.0.0.1", port_of(other))
