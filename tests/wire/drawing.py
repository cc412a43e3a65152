"""Snapshots for the test that explain agrees with traffic, drawn out of all that needs nobody else.

The endpoints of a drawn snapshot have numbers for ports, which `placed` replaces: what is drawn is the same each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from hypothesis import strategies as st

from certs import Authority, certificate
from portway_proxy.snapshot import (
    Affinity,
    Balance,
    BasicAuth,
    Belief,
    Blocked,
    Buffering,
    Canary,
    Certificate,
    ClientAuthority,
    ClientCertificate,
    Cors,
    Credentials,
    Edits,
    Endpoint,
    ErrorPages,
    ExternalAuth,
    HashOn,
    HashSource,
    Host,
    Mirror,
    Origin,
    PathMatch,
    Patience,
    Policy,
    Rate,
    RateLimit,
    Redirect,
    Route,
    Snapshot,
    TlsTerms,
    Trust,
    Upstream,
    UpstreamPolicy,
    Verification,
)

__all__ = [
    "AUTHORITY",
    "ENDPOINTS",
    "MISSING",
    "NONE",
    "PAGES",
    "TWO",
    "USERS",
    "VERDICT",
    "WEB",
    "endpoints",
    "placed",
    "snapshots",
]

ENDPOINTS = 4
AUTHORITY = "shop/ca@1"
# Of the password `open sesame`.
HASH = "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy"
USERS = (Credentials("shop/users", (("ada", HASH),)),)
HOSTS = ("", "*.a.example", "a.example", "b.a.example", "other.example")
PATHS = ("/", "/a", "/a/", "/a/b", "/A", "/a/b/c", "/plain", "/start")
PATTERNS = ("/a", "/a/.*", "/(a|b)/(.*)", "/[^/]+/b", "/x\\d+")
NETWORKS = ("127.0.0.1/32", "127.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "2001:db8::/32")
TEMPLATES = ("https://other.example$request_uri", "$scheme://$host/moved?$args", "/x$uri", "https://b.a.example/")
WEB, TWO, HASHED, STICKY, NONE, PAGES, VERDICT, MISSING = (
    f"shop/{name}:80" for name in ("web", "two", "hashed", "sticky", "none", "pages", "verdict", "missing")
)


# --- snapshots


def endpoints(*numbers: int) -> tuple[Endpoint, ...]:
    """Return endpoints by their numbers."""
    return tuple(Endpoint("127.0.0.1", number) for number in numbers)


def _upstreams() -> st.SearchStrategy[tuple[Upstream, ...]]:
    hash_on = st.sampled_from(
        [
            HashOn(HashSource.HEADER, "X-User"),
            HashOn(HashSource.COOKIE, "user"),
            HashOn(HashSource.URI),
            HashOn(HashSource.ADDRESS),
            HashOn(HashSource.TEXT, "$arg_x$http_x_user"),
            HashOn(HashSource.ADDRESS, subset=2),
        ]
    )
    affinity = st.sampled_from([Affinity(), Affinity("route", "", spreads=True), Affinity(stays=True, secure=True)])
    return st.tuples(
        st.builds(
            lambda on: Upstream(HASHED, balance=Balance.HASH, endpoints=endpoints(0, 1, 2), policy=on),
            st.builds(lambda on: UpstreamPolicy(hash_on=on), hash_on),
        ),
        st.just(Upstream(MISSING, reason="service_missing")),
        st.sampled_from([Upstream(NONE), Upstream(NONE, reason="no_endpoints")]),
        st.just(Upstream(PAGES, endpoints=endpoints(3))),
        st.builds(
            lambda some: Upstream(STICKY, endpoints=endpoints(0, 2), policy=UpstreamPolicy(affinity=some)), affinity
        ),
        st.builds(lambda how: Upstream(TWO, balance=how, endpoints=endpoints(1, 2)), st.sampled_from(Balance)),
        st.just(Upstream(VERDICT, endpoints=endpoints(3))),
        st.just(Upstream(WEB, endpoints=endpoints(0))),
    )


_networks = st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=2, unique=True).map(
    lambda some: tuple(sorted(some))
)
_statuses = st.sampled_from([(404,), (401, 403), (503,), (404, 413, 502, 503)])
_canaries = st.builds(
    Canary,
    st.sampled_from([TWO, PAGES, NONE]),
    header=st.sampled_from(["", "X-Canary"]),
    value=st.sampled_from(["", "new"]),
    pattern=st.sampled_from(["", "^b"]),
    cookie=st.sampled_from(["", "canary"]),
    weight=st.sampled_from([0, 50, 100]),
)
_verdicts = st.builds(
    lambda status, signin, copied: ExternalAuth(
        VERDICT, f"/verdict/{status}", "auth.example", signin=signin, copied=copied, fields=(("X-Asked-By", "$host"),)
    ),
    st.sampled_from([200, 401, 403, 500]),
    st.sampled_from(["", "https://login.example/?rd=$scheme://$host$request_uri"]),
    st.sampled_from([(), ("x-user",)]),
)
_FEATURES: dict[str, st.SearchStrategy[Any]] = {
    "https_redirect": st.just(value=True),
    "body_size": st.sampled_from([0, 3, 100]),
    "closed": st.just("bad_allow_list"),
    "basic": st.just(BasicAuth("shop/users", "Shop")),
    "allow": _networks,
    "deny": _networks,
    "any_suffices": st.just(value=True),
    "app_root": st.just("/start"),
    "relative": st.just(value=True),
    "redirect": st.builds(Redirect, st.sampled_from([301, 302, 307]), st.sampled_from(TEMPLATES)),
    "www": st.just("www.a.example"),
    "cors": st.sampled_from([Cors(), Cors(("https://*.a.example", "https://b.example"), credentials=False)]),
    "limit": st.sampled_from([RateLimit("z", ((0.001, 0),)), RateLimit("z", connections=1, exempt=("127.0.0.2/32",))]),
    "rewrite": st.sampled_from(["/new", "/$1", "/new/$2?more=1", "/.$1/..$2"]),
    "host": st.sampled_from(["fixed.example", "x-$host", "$http_x_user"]),
    "prefix": st.just("/before"),
    "answer": st.just((("X-Answer", "yes"),)),
    "canary": _canaries,
    "patience": st.just(Patience(1.0, 30.0, 30.0)),
    "certificate": st.builds(
        ClientCertificate,
        st.just(AUTHORITY),
        st.sampled_from(Verification),
        subject=st.sampled_from(["", "CN=alice"]),
        error_page=st.sampled_from(["", "https://help.example/"]),
        forwarded=st.booleans(),
    ),
    "external": _verdicts,
    "edits": st.just(Edits(cookie_path=("/", "/x"), redirect=("http://", "https://"))),
    "errors": st.builds(ErrorPages, st.just(PAGES), _statuses, st.booleans()),
    "mirror": st.builds(Mirror, st.sampled_from([TWO, NONE]), st.just("/copy$request_uri"), st.just("copy.example")),
    "rate": st.just(Rate(10_000_000)),
    "buffering": st.sampled_from([Buffering(request=100), Buffering(response=100, head=100)]),
    "connection": st.sampled_from(["close", "keep-alive"]),
    "old_http": st.just(value=True),
    "request": st.sampled_from([(("X-From", "$remote_addr"),), (("X-User", ""), ("X-Uri", "$request_uri$is_args"))]),
    "hidden": st.just(("content-type",)),
    "blocked": st.sampled_from([Blocked(("bad",)), Blocked(("~^cu.l",), ("~*EVIL",))]),
}


@st.composite
def _policies(draw: st.DrawFn) -> Policy:
    names = draw(st.lists(st.sampled_from(sorted(_FEATURES)), min_size=1, max_size=4, unique=True))
    return Policy(**{name: draw(_FEATURES[name]) for name in names})


_targets = st.sampled_from([WEB, WEB, TWO, HASHED, STICKY, NONE, MISSING])
_PRECEDENCE = {PathMatch.EXACT: 0, PathMatch.PREFIX: 1, PathMatch.REGEX: 1}


@st.composite
def _hosts(draw: st.DrawFn, name: str, number: int) -> Host:
    literal = st.tuples(st.sampled_from([PathMatch.EXACT, PathMatch.PREFIX]), st.sampled_from(PATHS))
    pattern = st.tuples(st.just(PathMatch.REGEX), st.sampled_from(PATTERNS))
    places = draw(st.lists(st.one_of(literal, literal, pattern), min_size=1, max_size=4, unique=True))
    if draw(st.booleans()):
        places = list({*places, (PathMatch.PREFIX, "/")})
    places.sort(key=lambda place: (_PRECEDENCE[place[0]], -len(place[1]), place))
    routes = []
    for at, (match, path) in enumerate(places):
        origin = Origin("Ingress", "shop", f"i{number}", f"spec.rules[{number}].http.paths[{at}]")
        routes.append(Route(path, match, draw(_targets), origin, draw(st.one_of(_policies(), _policies(), st.none()))))
    return Host(name, tuple(routes))


_trusts = st.builds(
    Trust,
    st.just(("127.0.0.3/32",)),
    st.sampled_from(Belief),
    st.sampled_from(["X-Forwarded-For", "X-Client", "Forwarded"]),
    st.booleans(),
)
_terms = st.sampled_from([TlsTerms(redirect=301, plain_paths=("/plain",), hsts=""), TlsTerms(plain_paths=())])


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    names = draw(st.lists(st.sampled_from(HOSTS), max_size=4, unique=True).map(sorted))
    hosts = tuple(draw(_hosts(name, number)) for number, name in enumerate(names))
    default = None
    if draw(st.booleans()):
        origin = Origin("Ingress", "shop", "rest", "spec.defaultBackend")
        default = Route("/", PathMatch.PREFIX, draw(_targets), origin, draw(st.none() | _policies()))
    return Snapshot(
        hosts=hosts,
        default=default,
        upstreams=draw(_upstreams()),
        credentials=USERS,
        # Filled in by `placed`: keys are not drawn.
        authorities=(ClientAuthority(AUTHORITY, draw(st.sampled_from([(), ("a.example",), ("*.a.example",)])), b""),),
        trust=draw(st.none() | _trusts),
        request_ids=draw(st.booleans()),
        signed=draw(st.booleans()),
        tls=draw(st.none() | _terms),
    )


def placed(snapshot: Snapshot, ports: Sequence[int], zone: str) -> Snapshot:
    """Return a drawn snapshot with real endpoints, certificates and authorities; its limits count in `zone`."""
    certificates, authority = _certificates()
    return msgspec.structs.replace(
        snapshot,
        hosts=tuple(Host(host.name, tuple(_zoned(route, zone) for route in host.routes)) for host in snapshot.hosts),
        default=None if snapshot.default is None else _zoned(snapshot.default, zone),
        upstreams=tuple(
            msgspec.structs.replace(
                one, endpoints=tuple(sorted(Endpoint(each.address, ports[each.port]) for each in one.endpoints))
            )
            for one in snapshot.upstreams
        ),
        certificates=certificates,
        authorities=tuple(msgspec.structs.replace(one, ca=authority) for one in snapshot.authorities if one.hosts),
    )


def _zoned(route: Route, zone: str) -> Route:
    if route.policy is None or route.policy.limit is None:
        return route
    # What counts together has one limit.
    limit = msgspec.structs.replace(route.policy.limit, zone=f"{zone} {route.policy.limit.connections}")
    return msgspec.structs.replace(route, policy=msgspec.structs.replace(route.policy, limit=limit))


@cache
def _certificates() -> tuple[tuple[Certificate, ...], bytes]:
    return (certificate("shop/a", "a.example"), certificate("shop/below", "*.a.example")), Authority().pem
