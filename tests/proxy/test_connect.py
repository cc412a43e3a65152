from __future__ import annotations

import socket
from collections.abc import Collection

from eventually import eventually
from portway_proxy.errors import ConnectFailed, ConnectTimeout, NameUnresolved, NoDescriptors, NoEndpoints, ProxyError
from portway_proxy.l4.connect import Dial, prepare
from portway_proxy.l4.splicer import Splicer
from portway_proxy.live import LiveUpstream
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
        self.dial = Dial(splicer, to, 5.0, self._done)
        self.dial.start()

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
        attempt = Attempt(splicer, upstream(port_of(sock)))
        assert await attempt.connected() == ("127.0.0.1", port_of(sock))
        assert attempt.dial.endpoint == Endpoint("127.0.0.1", port_of(sock))
        assert attempt.dial.failed == 0


async def test_a_dial_reaches_an_endpoint_of_ip_version_6(splicer: Splicer) -> None:
    with listening("::1") as sock:
        to = LiveUpstream(Upstream("shop/db:5432", endpoints=(Endpoint("::1", port_of(sock)),)))
        assert await Attempt(splicer, to).connected() == ("::1", port_of(sock))


async def test_an_endpoint_that_refuses_is_passed_over_for_another(splicer: Splicer) -> None:
    with listening() as sock:
        to = upstream(port_of(sock), refusing())
        failed = 0
        for _ in range(4):
            attempt = Attempt(splicer, to)
            assert await attempt.connected() == ("127.0.0.1", port_of(sock))
            failed += attempt.dial.failed
        assert failed > 0


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
    assert attempt.dial.failed == 2


async def test_three_endpoints_are_tried_at_most(splicer: Splicer) -> None:
    attempt = Attempt(splicer, upstream(*(refusing() for _ in range(6))))
    assert isinstance(await attempt.outcome(), ConnectFailed)
    assert attempt.dial.failed == 3


async def test_an_upstream_without_endpoints_says_why(splicer: Splicer) -> None:
    outcome = await Attempt(splicer, upstream(reason="service_missing")).outcome()
    assert isinstance(outcome, NoEndpoints)
    assert outcome.code == "service_missing"


async def test_any_reason_not_to_choose_is_passed_on(splicer: Splicer) -> None:
    class Unresolved:
        def choose(self, exclude: Collection[Endpoint] = ()) -> Endpoint:
            raise NameUnresolved(f"db.example, without {len(exclude)}")

    outcomes: list[socket.socket | ProxyError] = []
    Dial(splicer, Unresolved(), 5.0, outcomes.append).start()
    assert isinstance(outcomes[0], NameUnresolved)


async def test_an_endpoint_that_does_not_answer_is_given_up_at_the_deadline(splicer: Splicer) -> None:
    hole = Hole()
    clock = splicer.clock
    with listening() as sock:
        to = upstream(hole.port, port_of(sock))
        attempt = Attempt(splicer, to)
        if attempt.dial.endpoint != Endpoint("127.0.0.1", hole.port):
            await attempt.connected()
            attempt = Attempt(splicer, to)
        assert attempt.dial.endpoint == Endpoint("127.0.0.1", hole.port)
        assert clock.now + 5.0 < attempt.dial.deadline <= clock.now + 6.0
        attempt.dial.deadline = clock.now
        clock.start()
        clock.stop()
        assert await attempt.connected() == ("127.0.0.1", port_of(sock))
        assert attempt.dial.failed == 1
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
    assert attempt.dial.failed == 0


def test_accepted_sockets_inherit_what_a_listening_one_was_prepared_with() -> None:
    with listening() as sock:
        prepare(sock)
        with socket.create_connection(sock.getsockname()), sock.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 15
