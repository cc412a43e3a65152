"""What holds for any two snapshots: whoever is let in now and was not before is found, and nobody else is claimed."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import product

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from portway_operator.diff import Effect, compare
from portway_operator.diff.guards import ACCESS
from portway_proxy.errors import BadTarget, NoHost, NoPath
from portway_proxy.routing import RouteTable
from portway_proxy.snapshot import (
    BasicAuth,
    ClientCertificate,
    Credentials,
    ExternalAuth,
    Host,
    Origin,
    PathMatch,
    Policy,
    Redirect,
    Route,
    Snapshot,
    Upstream,
    Verification,
)

HOSTS = ["", "a.example", "*.example", "b.a.example", "*.a.example"]
LITERALS = ["/", "/a", "/a/", "/a/b", "/b", "/a/b/c", "/x", "/a;b"]
PATTERNS = ["/a.*", "/.*b", "/(a|b)/c", "/A/b", "/[ab]/x$"]
REQUESTED = ["a.example", "x.example", "b.a.example", "c.a.example", "other", ""]
PATHS = ["/", "/a", "/a/", "/a/b", "/a/x", "/b", "/b/", "/ab", "/a/b/c", "/a/b/c/d", "/x", "/x/y", "/y", "/a;b", "/a/c"]
UPSTREAMS = ["shop/web:80", "shop/api:80", "bank/web:80"]
USERS = {"shop/users": ("alice",), "shop/more": ("alice", "eve"), "shop/others": ("eve",)}
NETWORKS = ["10.0.0.0/8", "10.0.0.0/24", "192.0.2.0/24", "fd00::/8", "0.0.0.0/0"]


@dataclass(frozen=True)
class Client:
    address: str
    user: str
    known_to: frozenset[str]
    certificate: str


CLIENTS = [
    Client(address, user, frozenset(known), certificate)
    for address, user, known, certificate in product(
        ("10.0.0.1", "10.1.0.1", "192.0.2.1", "198.51.100.1", "fd00::1", "2001:db8::1"),
        ("", "alice", "eve"),
        ((), ("auth",), ("login",)),
        ("", "one", "two"),
    )
]


def some_networks() -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(NETWORKS), max_size=2, unique=True).map(lambda found: tuple(sorted(found)))


def maybe(*values: object) -> st.SearchStrategy[object]:
    return st.sampled_from([None, None, *values])


POLICIES = st.builds(
    Policy,
    basic=maybe(*map(BasicAuth, USERS)),
    external=maybe(*(ExternalAuth(f"shop/{name}:80", "/", name) for name in ("auth", "login"))),
    allow=some_networks(),
    deny=some_networks(),
    any_suffices=st.booleans(),
    certificate=maybe(
        ClientCertificate("one"), ClientCertificate("two"), ClientCertificate("one", Verification.OPTIONAL)
    ),
    closed=st.sampled_from(["", "", "", "", "bad"]),
    redirect=maybe(Redirect(301, "/"), None, None),
)
ORIGINS = st.builds(Origin, st.just("Ingress"), st.sampled_from(["shop", "bank"]), st.sampled_from(["one", "two"]))
LITERAL = st.builds(
    Route,
    st.sampled_from(LITERALS),
    st.sampled_from([PathMatch.EXACT, PathMatch.PREFIX]),
    st.sampled_from(UPSTREAMS),
    ORIGINS,
    st.none() | POLICIES,
)
PATTERN = st.builds(
    Route,
    st.sampled_from(PATTERNS),
    st.just(PathMatch.REGEX),
    st.sampled_from(UPSTREAMS),
    ORIGINS,
    st.none() | POLICIES,
)


def snapshots(routes: st.SearchStrategy[Route]) -> st.SearchStrategy[Snapshot]:
    def snapshot(hosts: dict[str, list[Route]], default: Route | None) -> Snapshot:
        return Snapshot(
            hosts=tuple(Host(name, tuple(hosts[name])) for name in sorted(hosts)),
            default=default,
            upstreams=tuple(map(Upstream, sorted(UPSTREAMS))),
            credentials=tuple(Credentials(name, tuple((user, "x") for user in USERS[name])) for name in sorted(USERS)),
        )

    # Compiled hosts have a path of a kind once.
    unique = st.lists(routes, min_size=1, max_size=4, unique_by=lambda route: (route.path.rstrip("/"), route.match))
    return st.builds(snapshot, st.dictionaries(st.sampled_from(HOSTS), unique, max_size=3), st.none() | LITERAL)


def lets_in(policy: Policy | None, client: Client) -> bool:
    """Return whether a client reaches an endpoint, by the words of the policy's own documentation."""
    if policy is None:
        return True
    if policy.closed or policy.redirect:
        return False
    asked = policy.certificate
    if asked is not None and client.certificate != asked.authority:
        # A stranger's certificate is worse than none where one is optional.
        return asked.verification is Verification.OPTIONAL and not client.certificate and lets_in_by(policy, client)
    return lets_in_by(policy, client)


def lets_in_by(policy: Policy, client: Client) -> bool:
    here = ip_address(client.address)
    denied = any(here in ip_network(one) for one in policy.deny)
    listed = any(here in ip_network(one) for one in policy.allow) and not denied
    others = []
    if policy.basic is not None:
        others.append(client.user in USERS[policy.basic.credentials])
    if policy.external is not None:
        others.append(policy.external.host in client.known_to)
    if policy.any_suffices and others:
        return (listed and bool(policy.allow)) or any(others)
    return (listed or (not policy.allow and not denied)) and all(others)


def served_by(snapshot: Snapshot, host: str, path: str) -> Route | None:
    try:
        return RouteTable.build(snapshot).match(host.encode(), path.encode())
    except (BadTarget, NoHost, NoPath):
        return None


def newcomers(old: Route | None, new: Route | None) -> list[Client]:
    if old is None or new is None:
        return []
    if old.policy is not None and old.policy.closed and new.policy is not None and new.policy.guards:
        return []  # A path that was closed by mistake asks now for what it was meant to ask for.
    # What sends everybody elsewhere guards nothing.
    before = old.policy and msgspec.structs.replace(old.policy, redirect=None)
    return [one for one in CLIENTS if lets_in(new.policy, one) and not lets_in(before, one)]


def names(host: str, snapshot: Snapshot) -> str:
    """Return the name under which a finding tells of a host."""
    known = {one.name for one in snapshot.hosts}
    wildcard = "*." + host.partition(".")[2]
    return host if host in known else wildcard if wildcard in known else ""


def check_that_newcomers_are_found(old: Snapshot, new: Snapshot, host: str, path: str) -> None:
    routes = served_by(old, host, path), served_by(new, host, path)
    if newcomers(*routes):
        both = Snapshot(hosts=(*old.hosts, *new.hosts))
        lost = {one.host for one in compare(old, new).of(Effect.PROTECTION_LOST)}
        # What no rule serves on either side is told once for all hosts.
        assert ("" if routes == (old.default, new.default) else names(host, both)) in lost


@settings(max_examples=100)
@given(snapshots(LITERAL), snapshots(LITERAL), st.sampled_from(REQUESTED), st.sampled_from(PATHS))
def test_who_gets_further_than_before_is_found(old: Snapshot, new: Snapshot, host: str, path: str) -> None:
    check_that_newcomers_are_found(old, new, host, path)


@settings(max_examples=100)
@given(snapshots(LITERAL | PATTERN), snapshots(LITERAL | PATTERN), st.sampled_from(REQUESTED), st.sampled_from(PATHS))
def test_who_gets_further_by_a_pattern_is_found(old: Snapshot, new: Snapshot, host: str, path: str) -> None:
    check_that_newcomers_are_found(old, new, host, path)


@settings(max_examples=100)
@given(snapshots(LITERAL | PATTERN), snapshots(LITERAL | PATTERN))
def test_where_somebody_is_said_to_get_further_somebody_does(old: Snapshot, new: Snapshot) -> None:
    for one in compare(old, new).of(Effect.PROTECTION_LOST):
        if one.kind.rpartition("_")[0] in ACCESS and "optional" not in one.now:
            host = one.host.replace("*", "xyz") or "nowhere"
            routes = served_by(old, host, one.path), served_by(new, host, one.path)
            if not one.path:
                routes = old.default, new.default
            assert newcomers(*routes), one.sentence


@settings(max_examples=60)
@given(snapshots(LITERAL | PATTERN), snapshots(LITERAL | PATTERN), st.sampled_from(REQUESTED), st.sampled_from(PATHS))
def test_traffic_that_gets_404_now_is_found(old: Snapshot, new: Snapshot, host: str, path: str) -> None:
    if served_by(old, host, path) not in (None, old.default) and served_by(new, host, path) is None:
        both = Snapshot(hosts=(*old.hosts, *new.hosts))
        assert names(host, both) in {one.host for one in compare(old, new).of(Effect.TRAFFIC_LOST)}


@settings(max_examples=60)
@given(snapshots(LITERAL | PATTERN))
def test_a_snapshot_does_not_differ_from_itself(snapshot: Snapshot) -> None:
    assert compare(snapshot, snapshot).findings == ()


@settings(max_examples=40)
@given(snapshots(LITERAL | PATTERN), snapshots(LITERAL | PATTERN))
def test_the_gravest_stand_first(old: Snapshot, new: Snapshot) -> None:
    ranks = [list(Effect).index(one.effect) for one in compare(old, new).findings]
    assert ranks == sorted(ranks)
