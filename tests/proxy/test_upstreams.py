"""What of an upstream in service needs no socket; the rest is in `test_live.py` and on the wire."""

from __future__ import annotations

from portway_proxy.clock import NEVER, Timed
from portway_proxy.metrics import EJECTIONS, QUEUED
from portway_proxy.snapshot import (
    Affinity,
    Balance,
    Capacity,
    Check,
    Ejection,
    Endpoint,
    Protocol,
    SharedKey,
    Snapshot,
    Upstream,
    UpstreamPolicy,
)
from portway_proxy.upstreams import LiveUpstream, Surroundings
from worker_parts import Parts

WEB = "shop/web:80"
A, B, C = (Endpoint(f"10.0.0.{number}", 80) for number in (1, 2, 3))


class Hands:
    """A clock whose hands a test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.watched: set[Timed] = set()

    def watch(self, item: Timed) -> None:
        self.watched.add(item)

    def unwatch(self, item: Timed) -> None:
        self.watched.discard(item)

    def move(self, seconds: float) -> None:
        self.now += seconds
        for item in tuple(self.watched):
            if item.deadline <= self.now:
                item.expire()


def upstream(*endpoints: Endpoint, policy: UpstreamPolicy | None = None) -> Upstream:
    return Upstream(WEB, endpoints=endpoints, policy=policy)


def fail(live: LiveUpstream, number: int, times: int = 5) -> None:
    for _ in range(times):
        live.failed(live.pools[number])


def chosen(live: LiveUpstream) -> set[Endpoint]:
    return {live.reach(b"").endpoint for _ in range(12)}


def test_an_ordinary_upstream_is_plain_and_costs_the_clock_nothing() -> None:
    clock = Hands()
    live = LiveUpstream(upstream(A, B), Surroundings(clock))
    assert live.plain
    assert clock.watched == set()


def test_it_is_plain_again_when_the_trouble_is_over() -> None:
    clock = Hands()
    live = LiveUpstream(upstream(A, B), Surroundings(clock))
    fail(live, 0)
    assert chosen(live) == {B}
    assert clock.watched == {live}
    assert live.plain
    clock.move(10)
    assert not live.plain
    live.pools[0].health.probe(clock.now)
    live.succeeded(live.pools[0])
    assert live.plain
    assert chosen(live) == {A, B}
    assert (clock.watched, live.deadline) == (set(), NEVER)
    assert EJECTIONS.sample(1, WEB) in list(live.samples())


def test_only_pools_that_failed_are_attentive() -> None:
    live = LiveUpstream(upstream(A, B))
    fail(live, 0, 1)
    assert [pool.attentive for pool in live.pools] == [True, False]
    live.succeeded(live.pools[0])
    assert [pool.attentive for pool in live.pools] == [False, False]


def test_what_is_known_of_an_endpoint_stays_with_it_over_changes() -> None:
    live = LiveUpstream(upstream(A, B, C), Surroundings(Hands()))
    fail(live, 0)
    live.update(upstream(A, B))
    assert chosen(live) == {B}
    live.update(upstream(A, B, policy=UpstreamPolicy(slow_start=5.0)))
    assert chosen(live) == {B}


def test_an_endpoint_that_comes_back_from_nowhere_is_known_no_more() -> None:
    live = LiveUpstream(upstream(A, B), Surroundings(Hands()))
    fail(live, 0)
    live.update(upstream(B))
    live.update(upstream(A, B))
    assert chosen(live) == {A, B}


def test_a_pool_that_retired_is_of_no_consequence() -> None:
    live = LiveUpstream(upstream(A, B))
    gone = live.pools[0]
    live.update(upstream(B, C))
    for _ in range(9):
        live.failed(gone)
    live.succeeded(gone)
    assert live.tally.ejections == 0


def test_an_upstream_that_leaves_while_an_endpoint_is_ejected_leaves_the_clock_too() -> None:
    clock = Hands()
    live = LiveUpstream(upstream(A, B), Surroundings(clock))
    fail(live, 0)
    live.close()
    assert clock.watched == set()


def test_checks_that_end_and_ejections_that_are_switched_off_are_forgotten() -> None:
    live = LiveUpstream(upstream(A, B, policy=UpstreamPolicy(check=Check(failures=1))))
    live.checked(live.pools[0], passed=False)
    assert chosen(live) == {B}
    live.update(upstream(A, B))
    assert chosen(live) == {A, B}
    live.checked(live.pools[0], passed=False)  # One that was under way.
    assert chosen(live) == {A, B}
    fail(live, 1)
    assert chosen(live) == {A}
    live.update(upstream(A, B, policy=UpstreamPolicy(ejection=Ejection(failures=0))))
    assert chosen(live) == {A, B}


def test_a_queue_is_there_with_a_limit_only() -> None:
    live = LiveUpstream(upstream(A, policy=UpstreamPolicy(capacity=Capacity(requests=1))))
    assert QUEUED.sample(0, WEB) in list(live.samples())
    assert not live.plain
    assert QUEUED.name not in {sample.name for sample in LiveUpstream(upstream(A)).samples()}


def test_each_way_to_balance_serves_ports_that_are_passed_through_too() -> None:
    for balance in Balance:
        live = LiveUpstream(Upstream(WEB, Protocol.OPAQUE, balance, (A, B)))
        assert {live.reach(b"%d" % number).endpoint for number in range(40)} == {A, B}
        assert live.reach(b"", [pool for pool in live.pools if pool.endpoint == A]).endpoint == B


async def test_nobody_overtakes_who_waits() -> None:
    parts = Parts()
    live = LiveUpstream(upstream(A, policy=UpstreamPolicy(capacity=Capacity(requests=1))), Surroundings(parts.clock))
    (pool,) = live.pools
    pool.connecting = 1
    assert live.assign(parts.exchange()) is None
    pool.connecting = 0  # There is room, and who waits has not yet heard of it.
    assert live.assign(parts.exchange()) is None
    assert QUEUED.sample(2, WEB) in list(live.samples())


async def test_a_budget_that_is_spent_lets_pass_what_costs_nobody_anything() -> None:
    live = LiveUpstream(upstream(A, B, C))
    exchange = Parts().exchange()
    exchange.tried = (live.pools[0],)
    while live.another(exchange, "reset") is not None:
        pass
    assert live.another(exchange, "refused") in live.pools[1:]
    assert live.another(exchange, "connect") in live.pools[1:]
    fail(live, 1, 1)
    fail(live, 2, 1)
    assert live.another(exchange, "connect") is None
    assert live.another(exchange, "refused") in live.pools[1:]


def test_no_text_form_of_the_surroundings_shows_the_key() -> None:
    assert "secret" not in repr(Surroundings(Hands(), key=b"secret"))
    assert "secret" not in repr(Snapshot(affinity_key=SharedKey(b"secret")))


def test_another_key_makes_other_cookies_and_the_same_one_none() -> None:
    sticky = upstream(A, policy=UpstreamPolicy(affinity=Affinity()))
    live = LiveUpstream(sticky, Surroundings(Hands(), key=b"own"))
    terms = live._terms
    live.update(sticky, b"")
    assert live._terms is terms
    live.update(sticky, b"shared")
    assert live._terms is not terms
