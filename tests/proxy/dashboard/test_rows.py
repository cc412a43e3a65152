from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given

from portway_proxy import codec
from portway_proxy.dashboard import rows as rows_module
from portway_proxy.dashboard.feed import Counts, Generation, Table
from portway_proxy.dashboard.rows import Rows
from portway_proxy.deltas import diff, patch
from portway_proxy.snapshot import Certificate, Endpoint, Host, Origin, PathMatch, Policy, Route, Snapshot, Upstream
from portway_proxy.traffic import Labels
from snapshots import FULL, histories

ORIGIN = Origin("Ingress", "shop", "web", "spec.rules[0]")
WEB = Upstream("shop/web:80", endpoints=(Endpoint("10.0.0.1", 80),))
SERVED = Generation("", 7, "digest", 1.0, Counts())


def route(path: str, origin: Origin = ORIGIN, policy: Policy | None = None) -> Route:
    return Route(path, PathMatch.PREFIX, "shop/web:80", origin, policy)


def certificate(name: str, *hosts: str) -> Certificate:
    return Certificate(name, hosts, b"chain", b"key", 2_000_000_000)


def taken(*snapshots: Snapshot) -> Rows:
    rows = Rows()
    for snapshot in snapshots:
        rows.update(snapshot)
    return rows


def apply(table: Table, news: Generation) -> Table:
    """Return what a page makes of what it has and what it is told."""
    routes = {row.id: row for row in table.routes} | {row.id: row for row in news.routes}
    upstreams = {row.name: row for row in table.upstreams} | {row.name: row for row in news.upstreams}
    return Table(
        news.mark,
        news.number,
        [row for row in routes.values() if row.id not in news.routes_gone],
        [row for row in upstreams.values() if row.name not in news.upstreams_gone],
        table.certificates if news.certificates is None else news.certificates,
        table.listeners if news.listeners is None else news.listeners,
    )


def content(table: Table) -> Table:
    """Return a table in an order that does not depend on how it came about."""
    routes = sorted(table.routes, key=lambda row: row.id)
    upstreams = sorted(table.upstreams, key=lambda row: row.name)
    return msgspec.structs.replace(table, routes=routes, upstreams=upstreams)


def test_a_route_is_told_with_its_host_policy_certificate_and_origin() -> None:
    rows = taken(FULL).table(1).routes
    assert [(row.host, row.match, row.path) for row in rows] == [
        ("*", "prefix", "/"),
        ("*.shop.example", "prefix", "/"),
        ("shop.example", "exact", "/exact"),
        ("shop.example", "prefix", "/closed"),
        ("shop.example", "prefix", "/private"),
        ("shop.example", "prefix", "/"),
        ("*", "default", "/"),
    ]
    exact = rows[2]
    assert (exact.upstream, exact.certificate) == ("shop/web:80", "shop/tls")
    assert exact.origin == "Ingress shop/web spec.rules[0].http.paths[0]"
    assert exact.does == ("https-redirect", "body-size=1024")


def test_the_certificate_of_a_host_is_that_of_its_name_then_the_wildcard_then_the_default_one() -> None:
    hosts = [Host(name, (route("/"),)) for name in ("*.b.example", "a.example", "b.example", "x.b.example")]
    rows = taken(
        Snapshot(
            hosts=tuple(hosts),
            upstreams=(WEB,),
            certificates=(certificate("s/a", "a.example"), certificate("s/b", "*.b.example"), certificate("s/d")),
            default_certificate="s/d",
        )
    )
    found = {row.host: row.certificate for row in rows.table(1).routes}
    assert found == {"*.b.example": "s/b", "a.example": "s/a", "b.example": "s/d", "x.b.example": "s/b"}


def test_only_the_routes_of_a_host_that_changed_are_new() -> None:
    first = Snapshot(
        hosts=(Host("a.example", (route("/one"), route("/two"))), Host("b.example", (route("/"),))), upstreams=(WEB,)
    )
    rows = taken(first)
    before = rows.table(1)
    changed = Host("a.example", (route("/two"), route("/three")))
    rows.update(msgspec.structs.replace(first, hosts=(changed, first.hosts[1])))
    news = rows.news(1, SERVED)
    assert [(row.host, row.path) for row in news.routes] == [("a.example", "/three")]
    assert news.routes_gone == [row.id for row in before.routes if row.path == "/one"]
    assert (news.whole, news.upstreams, news.certificates, news.listeners) == (False, [], None, None)


def test_a_route_keeps_its_number_when_only_its_policy_changes() -> None:
    before, after = route("/"), route("/", policy=Policy(https_redirect=True))
    first = Snapshot(hosts=(Host("a.example", (before,)),), upstreams=(WEB,))
    rows = taken(first, msgspec.structs.replace(first, hosts=(Host("a.example", (after,)),)))
    (row,) = rows.news(1, SERVED).routes
    assert (row.id, row.does) == (1, ("https-redirect",))


def test_another_certificate_is_told_and_changes_the_routes_of_its_hosts_alone() -> None:
    hosts = (Host("a.example", (route("/"),)), Host("b.example", (route("/"),)))
    first = Snapshot(hosts=hosts, upstreams=(WEB,))
    rows = taken(first, msgspec.structs.replace(first, certificates=(certificate("s/a", "a.example"),)))
    news = rows.news(1, SERVED)
    assert [(row.host, row.certificate) for row in news.routes] == [("a.example", "s/a")]
    assert news.certificates is not None
    assert [row.name for row in news.certificates] == ["s/a"]


def test_an_upstream_is_told_when_its_number_of_endpoints_changes_and_not_when_they_move() -> None:
    first = Snapshot(upstreams=(WEB,))
    moved = msgspec.structs.replace(WEB, endpoints=(Endpoint("10.0.0.9", 80),))
    more = msgspec.structs.replace(WEB, endpoints=(Endpoint("10.0.0.9", 80), Endpoint("10.0.0.8", 80)))
    rows = taken(first, Snapshot(upstreams=(moved,)))
    assert rows.news(1, SERVED).upstreams == []
    rows.update(Snapshot(upstreams=(more,)))
    assert [(row.name, row.endpoints) for row in rows.news(2, SERVED).upstreams] == [("shop/web:80", 2)]


def test_who_has_nothing_or_too_little_is_to_read_everything() -> None:
    rows = taken(Snapshot(), FULL)
    assert rows.news(0, SERVED).whole
    assert not rows.news(1, SERVED).whole
    for mark in ("", "other-1", f"{rows.mark}0", "-", "nonsense", rows.mark.replace("-", "-x")):
        assert rows.stamp(mark) in (0, 20), mark
    assert rows.news(rows.stamp(f"{rows.mark}0"), SERVED).whole
    assert rows.stamp(rows.mark) == 2
    assert rows.news(rows.stamp(rows.mark + "0" * 10_000), SERVED).whole


def test_certificates_come_in_the_order_of_their_ends() -> None:
    late, soon = certificate("s/late"), msgspec.structs.replace(certificate("s/soon"), not_after=1)
    rows = taken(Snapshot(certificates=(late, soon)))
    assert [row.name for row in rows.table(1).certificates] == ["s/soon", "s/late"]


def test_figures_find_the_route_by_what_it_is_counted_under_and_without_a_host_all_that_share_it() -> None:
    hosts = (Host("a.example", (route("/"),)), Host("b.example", (route("/"), route("/x"))))
    rows = taken(Snapshot(hosts=hosts, upstreams=(WEB,)))
    one = rows.labelled(Labels("b.example", "shop", "web", "web", "/"))
    assert [(row.host, row.path) for row in one] == [("b.example", "/")]
    both = rows.labelled(Labels("", "shop", "web", "web", "/"))
    assert [row.host for row in both] == ["a.example", "b.example"]
    assert rows.labelled(Labels("c.example", "shop", "web", "web", "/")) == []
    assert rows.labelled(Labels()) == []
    rows.update(Snapshot(hosts=hosts[:1], upstreams=(WEB,)))
    assert [row.host for row in rows.labelled(Labels("", "shop", "web", "web", "/"))] == ["a.example"]


def test_five_thousand_routes_are_well_under_a_megabyte() -> None:
    hosts = tuple(
        Host(
            f"shop-{number}.customers.example",
            tuple(
                route(
                    f"/department/{path}",
                    Origin("Ingress", f"customer-{number}", "storefront", f"spec.rules[0].http.paths[{path}]"),
                )
                for path in range(10)
            ),
        )
        for number in range(500)
    )
    table = taken(Snapshot(hosts=hosts, upstreams=(WEB,))).table(1)
    assert len(table.routes) == 5000
    assert len(msgspec.json.encode(table)) < 800_000


@given(histories())
def test_who_is_told_what_is_new_has_what_who_reads_everything_has(history: list[Snapshot]) -> None:
    rows = taken(history[0])
    tables = [rows.table(1)]
    for before, after in pairwise(history):
        # As proxies do it: what is the same stays the same object.
        delta = diff(before, after, codec.digest(before), codec.digest(after))
        rows.update(patch(before, delta.upstreams, delta.changes))
        tables.append(rows.table(1))
    for version, table in enumerate(tables, 1):
        news = rows.news(version, SERVED)
        assert content(apply(table, news)) == content(msgspec.structs.replace(tables[-1], generation=7))
    assert taken(history[-1]).table(1).listeners == tables[-1].listeners
    assert len(tables[-1].routes) == len(taken(history[-1]).table(1).routes)


def test_who_missed_more_rows_than_are_remembered_reads_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_GONE", 3)
    rows = Rows()
    rows.update(Snapshot(hosts=(Host("a.example", tuple(route(f"/{path}") for path in range(5))),), upstreams=(WEB,)))
    rows.update(Snapshot(upstreams=(WEB,)))
    assert rows.news(1, SERVED).whole
    rows.update(Snapshot())
    assert not rows.news(2, SERVED).whole
