from __future__ import annotations

from collections.abc import Iterable

import pytest

from portway_proxy.dashboard.figures import Depth, Gathered, Moved
from portway_proxy.dashboard.lookout import Lookout
from portway_proxy.l4.ports import Ports
from portway_proxy.l7.exchange import Exchange
from portway_proxy.l7.response import ResponseHead
from portway_proxy.live import Live
from portway_proxy.snapshot import Endpoint, Host, Origin, PathMatch, Route, Snapshot, Upstream
from portway_proxy.traffic import Labels
from worker_parts import Parts

WEB = "shop/web:80"
ORIGIN = Origin("Ingress", "shop", "web", "spec.rules[0]")


class Looked:
    """A worker with two routes that somebody looks at."""

    def __init__(self) -> None:
        self.parts = parts = Parts()
        routes = tuple(Route(path, PathMatch.PREFIX, WEB, ORIGIN) for path in ("/cart", "/"))
        upstream = Upstream(WEB, endpoints=(Endpoint("10.0.0.1", 80),))
        parts.live = Live.build(Snapshot((Host("shop.example", routes),), None, (upstream,)), 1, "", Live.empty())
        self.lookout = Lookout(parts, Ports(parts))  # type: ignore[arg-type] # no port is opened

    def serve(self, path: str = "/", *, status: int = 200, seconds: float = 0.0004, whole: bool = True) -> None:
        """End a request."""
        exchange = self.parts.exchange(f"GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n".encode(), 100.0)
        exchange.route = self.parts.live.table.match(exchange.head.host, exchange.head.path)
        exchange.status = status
        exchange.ended = 100.0 + seconds
        if whole:
            exchange.response = ResponseHead(1, status, b"")
            exchange.response.plain = b"12345"
        self.parts.journal.note(exchange)

    def look(self, depth: Depth = Depth.ROWS) -> Gathered:
        return self.lookout.look(depth)


@pytest.fixture
async def looked() -> Looked:
    return Looked()


def by_path(moved: Iterable[Moved]) -> dict[str, Moved]:
    return {one.labels.path: one for one in moved}


async def test_the_first_look_tells_nothing_of_what_was_before(looked: Looked) -> None:
    looked.serve()
    assert looked.look() == Gathered()
    found = looked.look()
    assert (found.total.requests, found.moved) == (0, [])
    assert found.seconds > 0


async def test_a_look_tells_what_moved_since_the_one_before_route_by_route(looked: Looked) -> None:
    looked.look()
    looked.serve("/cart")
    looked.serve("/cart", status=502, seconds=0.02)
    looked.serve("/", status=404, whole=False)
    found = looked.look()
    labels = Labels("shop.example", "shop", "web", "web", "/cart")
    moved = by_path(found.moved)
    assert moved["/cart"] == Moved(labels, 2, 1, 0, {0: 1, 4: 1})
    assert (moved["/"].requests, moved["/"].refused, moved["/"].counts) == (1, 1, {0: 1})
    assert found.total == Moved(Labels(), 3, 1, 1, {0: 2, 4: 1})
    looked.serve("/cart")
    assert by_path(looked.look().moved) == {"/cart": Moved(labels, 1, 0, 0, {0: 1})}


async def test_totals_alone_leave_what_moved_on_routes_to_the_next_look_at_them(looked: Looked) -> None:
    looked.look()
    looked.serve()
    first = looked.look(Depth.TOTALS)
    assert (first.total.requests, first.over, first.moved) == (1, 0.0, [])
    looked.serve()
    second = looked.look(Depth.ROWS)
    assert second.total.requests == 1
    assert by_path(second.moved)["/"].requests == 2
    assert second.over > second.seconds


async def test_nothing_is_kept_behind_the_last_look(looked: Looked) -> None:
    looked.look()
    looked.serve()
    assert looked.look(Depth.LAST) == Gathered()
    journal = looked.parts.journal
    assert journal.pulse is None
    assert [series._seen for record in journal.traffic.records for series in record.values()] == [None]
    looked.serve()
    assert looked.look() == Gathered()
    looked.serve()
    assert looked.look().total.requests == 1


async def test_upstreams_with_ejected_endpoints_are_told(looked: Looked) -> None:
    looked.look()
    assert looked.look().unwell == []
    upstream = looked.parts.live.upstreams[WEB]
    (pool,) = upstream.pools
    for _ in range(5):
        upstream.failed(pool)
    assert [(row.upstream, row.ejected, row.failing) for row in looked.look().unwell] == [(WEB, 1, 0)]
    upstream.succeeded(pool)
    assert looked.look().unwell == []


async def test_an_exchange_without_a_route_counts_in_the_total(looked: Looked) -> None:
    looked.look()
    exchange: Exchange = looked.parts.exchange(b"GET / HTTP/1.1\r\nHost: none.example\r\n\r\n", 100.0)
    exchange.status, exchange.ended = 404, 100.001
    looked.parts.journal.note(exchange)
    found = looked.look()
    assert (found.total.requests, found.total.refused) == (1, 1)
    assert [moved.labels for moved in found.moved] == [Labels()]
