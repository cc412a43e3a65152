from __future__ import annotations

import copy

import msgspec
import pytest

from portway_proxy.deltas import Changes, patch
from portway_proxy.errors import AddressRefused, BadSnapshot, NameUnresolved, NoEndpoints
from portway_proxy.live import Live, LiveUpstream
from portway_proxy.metrics import UPSTREAM_CONNECTS
from portway_proxy.snapshot import (
    Balance,
    Endpoint,
    Host,
    Listener,
    Origin,
    PathMatch,
    Protocol,
    Route,
    Snapshot,
    Upstream,
)

ORIGIN = Origin("Ingress", "shop", "web", "spec.rules[0]")
A, B, C = (Endpoint(f"10.0.0.{number}", 80) for number in (1, 2, 3))
WEB = "shop/web:80"


def upstream(*endpoints: Endpoint, name: str = WEB) -> Upstream:
    return Upstream(name, endpoints=endpoints)


def snapshot(*upstreams: Upstream) -> Snapshot:
    """Return a snapshot whose routes lead to these upstreams, each by a path of its own."""
    routes = tuple(Route(f"/{number}", PathMatch.PREFIX, some.name, ORIGIN) for number, some in enumerate(upstreams))
    return Snapshot(hosts=(Host("", routes),), upstreams=upstreams)


def build(content: Snapshot, generation: int = 1, previous: Live | None = None) -> Live:
    return Live.build(content, generation, f"digest {generation}", previous or Live.empty())


# --- an upstream


def test_an_upstream_chooses_among_its_endpoints() -> None:
    live = LiveUpstream(upstream(A, B, C))
    assert {live.reach(b"").endpoint for _ in range(6)} == {A, B, C}
    assert {live.reach(b"", [pool for pool in live.pools if pool.endpoint == A]).endpoint for _ in range(6)} == {B, C}
    assert {live.next_pool().endpoint for _ in range(6)} == {A, B, C}


def test_an_upstream_without_endpoints_gives_the_reason_of_the_snapshot() -> None:
    for some, code in ((Upstream(WEB, reason="service_missing"), "service_missing"), (upstream(), "no_endpoints")):
        with pytest.raises(NoEndpoints) as caught:
            LiveUpstream(some).reach(b"")
        assert caught.value.code == code


def test_endpoints_that_all_failed_are_no_endpoints() -> None:
    live = LiveUpstream(upstream(A, B))
    with pytest.raises(NoEndpoints):
        live.reach(b"", [pool for pool in live.pools if pool.endpoint in (A, B)])
    with pytest.raises(NoEndpoints):
        live.next_pool(live.pools)


def test_pools_of_endpoints_that_stay_are_kept_and_others_retire() -> None:
    live = LiveUpstream(upstream(A, B))
    first, second = live.pools
    live.update(upstream(B, C))
    assert [pool.endpoint for pool in live.pools] == [B, C]
    assert live.pools[0] is second
    assert (first.retired, second.retired, live.pools[1].retired) == (True, False, False)
    assert {live.reach(b"").endpoint for _ in range(6)} == {B, C}


def test_an_endpoint_that_comes_back_gets_a_pool_that_keeps_connections() -> None:
    live = LiveUpstream(upstream(A))
    live.update(upstream(B))
    live.update(upstream(A))
    assert [pool.retired for pool in live.pools] == [False]


def test_plain_connections_are_not_kept_when_endpoints_begin_to_speak_tls() -> None:
    live = LiveUpstream(upstream(A))
    (before,) = live.pools
    live.update(Upstream(WEB, Protocol.HTTPS, endpoints=(A,)))
    (after,) = live.pools
    assert (before.retired, before.secure, after.retired, after.secure) == (True, False, False, True)


def test_another_way_to_balance_takes_effect_and_keeps_the_pools() -> None:
    live = LiveUpstream(upstream(A, B))
    pools = live.pools
    live.update(Upstream(WEB, balance=Balance.RANDOM, endpoints=(A, B)))
    assert all(kept is pool for kept, pool in zip(live.pools, pools, strict=True))
    assert {live.reach(b"").endpoint for _ in range(60)} == {A, B}


def test_a_new_reason_takes_effect() -> None:
    live = LiveUpstream(upstream(A))
    live.update(Upstream(WEB, reason="port_missing"))
    with pytest.raises(NoEndpoints) as caught:
        live.reach(b"")
    assert caught.value.code == "port_missing"


EXTERNAL = Upstream(WEB, external_name="api.example", external_port=443)


def test_a_resolved_name_keeps_its_addresses_until_it_is_another_name() -> None:
    live = LiveUpstream(EXTERNAL)
    live.resolved((A,), NameUnresolved)
    live.update(msgspec.structs.replace(EXTERNAL, balance=Balance.RANDOM))
    assert live.reach(b"").endpoint == A
    (pool,) = live.pools
    live.update(msgspec.structs.replace(EXTERNAL, external_port=8443))
    assert live.pools == ()
    assert pool.retired


def test_a_name_that_no_longer_resolves_keeps_its_addresses_and_one_that_leads_astray_does_not() -> None:
    live = LiveUpstream(EXTERNAL)
    live.resolved((), NameUnresolved)
    with pytest.raises(NameUnresolved):
        live.reach(b"")
    live.resolved((A,), NameUnresolved)
    live.resolved((), NameUnresolved)
    assert live.reach(b"").endpoint == A
    live.resolved((), AddressRefused)
    with pytest.raises(AddressRefused):
        live.reach(b"")


def test_connections_are_counted_once_the_upstream_has_been_asked() -> None:
    live = LiveUpstream(upstream(A))
    live.requests = 1
    live.pools[0].connected = 2
    live.pools[0].failed = 1
    live.update(upstream(A, B))
    assert list(live.samples()) == [
        UPSTREAM_CONNECTS.sample(2, WEB, "connected"),
        UPSTREAM_CONNECTS.sample(1, WEB, "failed"),
    ]


def test_no_count_falls_when_an_endpoint_goes() -> None:
    live = LiveUpstream(upstream(A, B))
    live.requests = 1
    live.pools[0].connected = 2
    live.update(upstream(B))
    assert UPSTREAM_CONNECTS.sample(2, WEB, "connected") in list(live.samples())


def test_an_upstream_that_did_nothing_has_no_samples() -> None:
    assert list(LiveUpstream(upstream(A)).samples()) == []


# --- a snapshot in service


def test_before_the_first_snapshot_nothing_is_served() -> None:
    live = Live.empty()
    assert (live.generation, live.digest, live.snapshot, dict(live.upstreams)) == (0, "", Snapshot(), {})


def test_a_snapshot_is_served_with_its_generation_and_digest() -> None:
    live = build(snapshot(upstream(A)), 7)
    assert (live.generation, live.digest) == (7, "digest 7")
    assert live.table.match(b"h", b"/0").upstream == WEB
    assert live.upstreams[WEB].reach(b"").endpoint == A


def test_upstreams_that_stay_keep_their_pools_and_counts_over_a_swap() -> None:
    first = build(snapshot(upstream(A), upstream(C, name="shop/old:80")))
    kept, gone = first.upstreams[WEB], first.upstreams["shop/old:80"]
    kept.requests = 1
    pools = kept.pools
    second = build(snapshot(upstream(A, B), upstream(A, name="shop/new:80")), 2, first)
    assert second.upstreams[WEB] is kept
    assert kept.requests == 1
    assert kept.pools[0] is pools[0]
    assert set(second.upstreams) == {WEB, "shop/new:80"}
    assert gone.pools == ()
    assert first.table.match(b"h", b"/1").upstream == "shop/old:80"


def test_equal_content_is_not_even_looked_at_again() -> None:
    first = build(snapshot(upstream(A)))
    pools = first.upstreams[WEB].pools
    second = build(copy.deepcopy(first.snapshot), 2, first)
    assert second.upstreams[WEB].pools is pools


LISTENER = Listener(5432, "shop/none:80", Origin("Service", "shop", "db", "spec.ports[0]"))


@pytest.mark.parametrize(
    ("bad", "origin"),
    [
        (Snapshot(hosts=(Host("", (Route("/", PathMatch.PREFIX, "shop/none:80", ORIGIN),)),)), ORIGIN),
        (Snapshot(default=Route("/", PathMatch.PREFIX, "shop/none:80", ORIGIN)), ORIGIN),
        (Snapshot(listeners=(LISTENER,)), LISTENER.origin),
    ],
)
def test_a_snapshot_that_refers_to_what_it_does_not_have_changes_nothing(bad: Snapshot, origin: Origin) -> None:
    live = build(snapshot(upstream(A)))
    pools = live.upstreams[WEB].pools
    with pytest.raises(BadSnapshot, match="shop/none:80") as caught:
        build(msgspec.structs.replace(bad, upstreams=(upstream(B),)), 2, live)
    assert str(origin) in str(caught.value)
    assert live.upstreams[WEB].pools is pools
    assert not pools[0].retired


def test_a_delta_changes_its_upstreams_and_leaves_the_table() -> None:
    first = build(snapshot(upstream(A), upstream(C, name="shop/x:80")))
    second = first.patch((upstream(A, B),), 2, "digest 2")
    assert (second.generation, second.digest) == (2, "digest 2")
    assert second.snapshot == snapshot(upstream(A, B), upstream(C, name="shop/x:80"))
    assert second.table is first.table
    assert second.upstreams[WEB] is first.upstreams[WEB]
    assert {second.upstreams[WEB].reach(b"").endpoint for _ in range(4)} == {A, B}


def test_a_delta_for_an_upstream_that_is_not_there_changes_nothing() -> None:
    live = build(snapshot(upstream(A)))
    with pytest.raises(BadSnapshot):
        live.patch((upstream(B), upstream(C, name="shop/none:80")), 2, "digest 2")
    assert live.upstreams[WEB].reach(b"").endpoint == A


def hosts(*names: str) -> tuple[Host, ...]:
    return tuple(Host(name, (Route("/", PathMatch.PREFIX, WEB, ORIGIN),)) for name in names)


def test_what_a_wide_delta_leaves_as_it_is_stays_compiled() -> None:
    before = msgspec.structs.replace(snapshot(upstream(A)), hosts=hosts("", "*.x.example", "a.example", "b.example"))
    first = build(before)
    changes = Changes(hosts=hosts("b.example"), gone_hosts=("a.example",))
    second = build(patch(before, (upstream(B, name="shop/new:80"),), changes), 2, first)
    assert second.table.any_host is first.table.any_host
    assert second.table.wildcards == first.table.wildcards
    assert second.table.hosts.keys() == {b"b.example"}
    assert second.table.hosts[b"b.example"] is not first.table.hosts[b"b.example"]
    assert second.upstreams[WEB] is first.upstreams[WEB]
    assert second.upstreams["shop/new:80"].reach(b"").endpoint == B
    assert first.table.hosts.keys() == {b"a.example", b"b.example"}


def test_a_host_that_is_no_more_and_comes_back_with_equal_content_is_served() -> None:
    before = msgspec.structs.replace(snapshot(upstream(A)), hosts=hosts("a.example"))
    first = build(before)
    second = build(patch(before, (), Changes(gone_hosts=("a.example",))), 2, first)
    assert second.table.hosts == {}
    third = build(patch(second.snapshot, (), Changes(hosts=hosts("a.example"))), 3, second)
    assert third.table.match(b"a.example", b"/").upstream == WEB


def test_a_wide_delta_without_an_upstream_that_is_still_referred_to_changes_nothing() -> None:
    live = build(snapshot(upstream(A)))
    with pytest.raises(BadSnapshot, match=WEB):
        build(patch(live.snapshot, (), Changes(gone_upstreams=(WEB,))), 2, live)
    assert live.upstreams[WEB].reach(b"").endpoint == A
