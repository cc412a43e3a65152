from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.errors import BadTarget, NoHost, NoPath
from portway_proxy.routing import HostRoutes, RouteTable
from portway_proxy.snapshot import Host, Origin, PathMatch, Policy, Route, Snapshot

EXACT = PathMatch.EXACT
PREFIX = PathMatch.PREFIX
ORIGIN = Origin("Ingress", "shop", "web")

Rule = tuple[str, PathMatch]


def route(path: str, match: PathMatch = PREFIX, upstream: str = "", policy: Policy | None = None) -> Route:
    return Route(path, match, upstream or f"{match} {path}", ORIGIN, policy)


def host(name: str, *rules: Rule) -> Host:
    """A host with its routes in the order of precedence that the contract asks for."""
    order = sorted(rules, key=lambda rule: (rule[1] is PREFIX, -len(rule[0].split("/")), -len(rule[0])))
    return Host(name, tuple(route(path, match) for path, match in order))


def table(*hosts: Host, default: Route | None = None) -> RouteTable:
    return RouteTable.build(Snapshot(hosts=hosts, default=default))


def served(rules: list[Rule], path: str) -> str | None:
    try:
        return table(host("h", *rules)).match(b"h", path.encode()).upstream
    except NoPath:
        return None


# Copied from "Examples" of https://kubernetes.io/docs/concepts/services-networking/ingress/#examples (KEP-1453).
@pytest.mark.parametrize(
    ("rules", "path", "winner"),
    [
        ([("/", PREFIX)], "/anything/at/all", ("/", PREFIX)),
        ([("/", PREFIX)], "/", ("/", PREFIX)),
        ([("/foo", EXACT)], "/foo", ("/foo", EXACT)),
        ([("/foo", EXACT)], "/bar", None),
        ([("/foo", EXACT)], "/foo/", None),
        ([("/foo/", EXACT)], "/foo", None),
        ([("/foo/", EXACT)], "/foo/", ("/foo/", EXACT)),
        ([("/foo", PREFIX)], "/foo", ("/foo", PREFIX)),
        ([("/foo", PREFIX)], "/foo/", ("/foo", PREFIX)),
        ([("/foo/", PREFIX)], "/foo", ("/foo/", PREFIX)),
        ([("/foo/", PREFIX)], "/foo/", ("/foo/", PREFIX)),
        ([("/aaa/bb", PREFIX)], "/aaa/bbb", None),
        ([("/aaa/bbb", PREFIX)], "/aaa/bbb", ("/aaa/bbb", PREFIX)),
        ([("/aaa/bbb/", PREFIX)], "/aaa/bbb", ("/aaa/bbb/", PREFIX)),
        ([("/aaa/bbb", PREFIX)], "/aaa/bbb/", ("/aaa/bbb", PREFIX)),
        ([("/aaa/bbb", PREFIX)], "/aaa/bbb/ccc", ("/aaa/bbb", PREFIX)),
        ([("/aaa/bbb", PREFIX)], "/aaa/bbbxyz", None),
        ([("/", PREFIX), ("/aaa", PREFIX)], "/aaa/ccc", ("/aaa", PREFIX)),
        ([("/", PREFIX), ("/aaa", PREFIX)], "/aaa", ("/aaa", PREFIX)),
        ([("/", PREFIX), ("/aaa", PREFIX)], "/ccc", ("/", PREFIX)),
        ([("/", PREFIX), ("/aaa", PREFIX), ("/aaa/bbb", PREFIX)], "/aaa/bbb", ("/aaa/bbb", PREFIX)),
        ([("/", PREFIX), ("/aaa", PREFIX), ("/aaa/bbb", PREFIX)], "/ccc", ("/", PREFIX)),
        ([("/aaa", PREFIX)], "/ccc", None),
        ([("/foo", PREFIX), ("/foo", EXACT)], "/foo", ("/foo", EXACT)),
        ([("/foo", PREFIX), ("/foo", EXACT)], "/foo/", ("/foo", PREFIX)),
    ],
)
def test_kubernetes_examples(rules: list[Rule], path: str, winner: Rule | None) -> None:
    expected = None if winner is None else f"{winner[1]} {winner[0]}"
    assert served(rules, path) == expected


@pytest.mark.parametrize("path", ["/foo", "/foo/", "/foo/x"])
def test_of_two_spellings_of_a_prefix_the_longer_wins(path: str) -> None:
    assert served([("/foo", PREFIX), ("/foo/", PREFIX)], path) == "prefix /foo/"


def test_an_exact_path_beats_a_longer_prefix_spelling() -> None:
    assert served([("/foo", EXACT), ("/foo/", PREFIX)], "/foo") == "exact /foo"


@pytest.mark.parametrize("path", ["/Foo", "/FOO", "/fo", "/foobar", "/x/foo", "/foo.html"])
def test_a_prefix_is_compared_by_whole_segments_and_case(path: str) -> None:
    assert served([("/foo", PREFIX)], path) is None


def test_a_deep_prefix_is_found_below_shallow_ones() -> None:
    rules: list[Rule] = [("/", PREFIX), ("/a/b/c/d", PREFIX), ("/a/b", PREFIX)]
    assert served(rules, "/a/b/c/d/e/f/g") == "prefix /a/b/c/d"
    assert served(rules, "/a/b/c/dd/e") == "prefix /a/b"
    assert served(rules, "/a/b/c") == "prefix /a/b"
    assert served(rules, "/a") == "prefix /"


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["a", "b", "aa"]), max_size=4).map(lambda parts: "/" + "/".join(parts)),
            st.sampled_from([EXACT, PREFIX]),
        ),
        max_size=8,
        unique=True,
    ),
    st.lists(st.sampled_from(["a", "b", "aa", "c"]), max_size=6).map(lambda parts: "/" + "/".join(parts)),
    st.sampled_from(["", "/"]),
)
def test_a_match_is_what_the_definition_says(rules: list[Rule], path: str, ending: str) -> None:
    path = path if path == "/" else path + ending

    def elements(text: str) -> list[str]:
        return [element for element in text.split("/") if element]

    prefixes = [
        rule for rule, match in rules if match is PREFIX and elements(path)[: len(elements(rule))] == elements(rule)
    ]
    if (path, EXACT) in rules:
        expected: str | None = f"exact {path}"
    else:
        expected = f"prefix {max(prefixes, key=lambda rule: len(elements(rule)))}" if prefixes else None
    assert served(rules, path) == expected


class Counting(dict[bytes, Route]):
    """A dict that counts its look-ups, and the bytes that were hashed for them."""

    lookups = 0
    hashed = 0

    def get(self, key: bytes, default: Route | None = None) -> Route | None:  # type: ignore[override]
        self.lookups += 1
        self.hashed += len(key)
        return super().get(key, default)


@pytest.mark.parametrize("path", [b"/" * 10_000, b"/a" * 5_000, b"/a/b/c" + b"/x" * 4_000])
def test_a_path_of_many_segments_costs_no_more_lookups_than_the_deepest_rule(path: bytes) -> None:
    routes = HostRoutes(host("h", ("/a/b/c", PREFIX), ("/b", EXACT), ("/", PREFIX)))
    routes.prefix = counting = Counting(routes.prefix)
    assert routes.match(path) is not None
    assert counting.lookups <= 4
    assert counting.hashed < 100


# --- hosts


def test_an_exact_host_whose_paths_do_not_match_goes_to_the_default_and_never_to_the_wildcard() -> None:
    default = route("/", upstream="default")
    hosts = (host("*.shop.example", ("/", PREFIX)), host("a.shop.example", ("/only", PREFIX)), host("", ("/", PREFIX)))
    assert table(*hosts, default=default).match(b"a.shop.example", b"/other") is default
    with pytest.raises(NoPath):
        table(*hosts).match(b"a.shop.example", b"/other")


def test_a_wildcard_whose_paths_do_not_match_goes_to_the_default_and_never_to_any_host() -> None:
    default = route("/", upstream="default")
    hosts = (host("*.shop.example", ("/only", PREFIX)), host("", ("/", PREFIX)))
    assert table(*hosts, default=default).match(b"a.shop.example", b"/other") is default


@pytest.mark.parametrize(
    ("name", "matched"),
    [
        (b"a.bar.com", "*.bar.com"),
        (b"xn--bcher-kva.bar.com", "*.bar.com"),
        (b"exact.bar.com", "exact.bar.com"),
        (b"a.b.bar.com", ""),
        (b"bar.com", ""),
        (b"abar.com", ""),
        (b"com", ""),
        (b"", ""),
        (b"[::1]", ""),
        (b"10.0.0.1", ""),
    ],
)
def test_a_wildcard_stands_for_exactly_one_label(name: bytes, matched: str) -> None:
    hosts = [host(pattern, ("/", PREFIX)) for pattern in ("*.bar.com", "exact.bar.com", "")]
    found = table(*hosts).host(name)
    assert found is not None
    assert found.name == matched


def test_a_nested_wildcard_does_not_fall_back_to_the_wider_one() -> None:
    routes = table(host("*.bar.com", ("/", PREFIX)), host("*.b.bar.com", ("/", PREFIX)))
    found = routes.host(b"a.b.bar.com")
    assert found is not None
    assert found.name == "*.b.bar.com"
    assert routes.host(b"a.c.bar.com") is None


def test_without_a_default_an_unknown_host_is_no_host() -> None:
    with pytest.raises(NoHost):
        table(host("a.example", ("/", PREFIX))).match(b"b.example", b"/")
    with pytest.raises(NoHost):
        table().match(b"", b"/")


def test_the_default_serves_what_no_host_does() -> None:
    default = route("/", upstream="default")
    routes = table(host("a.example", ("/", PREFIX)), default=default)
    assert routes.match(b"b.example", b"/x") is default
    assert routes.match(b"", b"/x") is default


def test_options_for_the_whole_host_goes_to_its_root_rule() -> None:
    assert served([("/a", PREFIX), ("/", PREFIX)], "*") == "prefix /"
    assert served([("/a", PREFIX)], "*") is None


# --- paths with two readings

ADMIN = route("/admin", upstream="admin")
USERS = route("/admin/users", EXACT, upstream="users")
REST = route("/", upstream="rest")


@pytest.mark.parametrize(
    "path",
    [
        b"/admin%2Fusers",
        b"/%2Fadmin",
        b"/%2Fadmin/x",
        b"/admin%5Cusers",
        b"/%5Cadmin",
        b"/admin;x",
        b"/admin;x=1/users",
        b"/admin%3Bx/users",
        b"/;x/admin",
        b"/x%2F%2F",
        b"/a%2Fb;c%2Fd/e",
    ],
)
def test_a_path_whose_route_depends_on_its_reading_is_refused(path: bytes) -> None:
    rules = (
        route("/x/", EXACT, upstream="x"),
        ADMIN,
        route("/a/b/e", upstream="e"),
        REST,
    )
    with pytest.raises(BadTarget):
        table(Host("h", rules)).match(b"h", path)


@pytest.mark.parametrize(
    ("path", "upstream"),
    [
        (b"/projects/group%2Fname", "rest"),
        (b"/@scope%2Fpackage", "rest"),
        (b"/a;v=1/b", "rest"),
        (b"/admin/users%2F5", "admin"),
        (b"/admin/x;y", "admin"),
        (b"/a%20b", "rest"),
    ],
)
def test_a_path_with_two_readings_passes_where_no_rule_depends_on_them(path: bytes, upstream: str) -> None:
    assert table(Host("h", (ADMIN, REST))).match(b"h", path).upstream == upstream


def test_two_rules_with_the_same_upstream_and_policy_are_one_reading() -> None:
    api = route("/api", upstream="rest")
    assert table(Host("h", (api, REST))).match(b"h", b"/api%2Fx") is REST
    closed = route("/api", upstream="rest", policy=Policy(closed="bad_allow_list"))
    with pytest.raises(BadTarget):
        table(Host("h", (closed, REST))).match(b"h", b"/api%2Fx")


def test_a_reading_that_reaches_a_rule_is_refused_even_where_the_path_itself_has_none() -> None:
    with pytest.raises(BadTarget):
        table(Host("h", (ADMIN,))).match(b"h", b"/admin%2Fx")
    with pytest.raises(NoPath):
        table(Host("h", (ADMIN,))).match(b"h", b"/other%2Fx")
    with pytest.raises(BadTarget):
        table(Host("h", (USERS,)), default=REST).match(b"h", b"/admin%2Fusers")
