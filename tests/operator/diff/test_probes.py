"""Which requests are asked for: one of each place between the rules, and few."""

from __future__ import annotations

from portway_operator.diff.probes import host_names, paths, probe_of
from portway_proxy.routing import HostRoutes, PatternRoutes, RouteTable
from portway_proxy.snapshot import Host, Origin, PathMatch, Route, Snapshot

WEB = Origin("Ingress", "shop", "web")


def route(path: str, match: PathMatch = PathMatch.PREFIX) -> Route:
    return Route(path, match, "shop/web:80", WEB)


def routes(*found: str) -> HostRoutes:
    return HostRoutes(Host("shop.example", tuple(map(route, found))))


def table(*names: str) -> RouteTable:
    return RouteTable.build(Snapshot(hosts=tuple(Host(name, (route("/"),)) for name in sorted(names))))


def test_each_rule_is_asked_for_as_a_path_as_a_folder_and_below() -> None:
    assert list(dict.fromkeys(paths(routes("/a/"), routes("/b")))) == [
        b"/a/", b"/b", b"/", b"/a", b"/a/x", b"/b/", b"/b/x", b"/x"
    ]  # fmt: skip


def test_what_is_below_a_rule_is_named_by_none() -> None:
    asked = set(paths(routes("/a", "/a/x", "/a/xx"), None))
    assert b"/a/xxx" in asked


def test_a_side_without_the_host_asks_for_the_rules_of_the_other() -> None:
    assert set(paths(None, routes("/a"))) == set(paths(routes("/a"), None))
    assert set(paths(None, None)) == {b"/", b"/x"}


def test_examples_of_an_expression_are_asked_for_below_each_path_too() -> None:
    patterns = PatternRoutes(Host("shop.example", (route("/.*[.]php", PathMatch.REGEX), route("/admin"))))
    asked = set(paths(patterns, None))
    assert {b"/.php", b"/admin/.php", b"/ADMIN", b"/.PHP"} <= asked


def test_requests_are_few_however_many_rules_there_are() -> None:
    rules = [f"/{number}/a" for number in range(1000)]
    assert sum(1 for _ in paths(routes(*rules), routes(*rules))) < 5 * len(rules)


def test_expressions_by_the_hundred_are_not_crossed_with_each_other_without_end() -> None:
    rules = [route(f"/{number}/[a-z]+", PathMatch.REGEX) for number in range(500)]
    assert sum(1 for _ in paths(PatternRoutes(Host("shop.example", tuple(rules))), None)) < 20_000


def test_hosts_are_those_of_both_sides_and_any_host_last() -> None:
    assert list(host_names(table("b.example", ""), table("a.example", "*.example"))) == [
        "*.example", "a.example", "b.example", ""
    ]  # fmt: skip


def test_a_wildcard_is_asked_by_a_name_that_is_no_host() -> None:
    old, new = table("x.example", "*.example"), table("xx.example")
    assert probe_of("*.example", old, new) == b"xxx.example"
    assert probe_of("a.example", old, new) == b"a.example"
    assert probe_of("", old, new) == b""
