"""Snapshots for tests: one that has something of everything, and arbitrary ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec
from hypothesis import strategies as st

from portway_proxy.snapshot import (
    Affinity,
    Balance,
    BasicAuth,
    Belief,
    Canary,
    Capacity,
    Certificate,
    Check,
    CheckKind,
    Cors,
    Credentials,
    Edits,
    Ejection,
    Endpoint,
    EndpointTls,
    ExternalAuth,
    HashOn,
    HashSource,
    Host,
    Keyring,
    Listener,
    Origin,
    PathMatch,
    Patience,
    Policy,
    Problem,
    Protocol,
    RateLimit,
    Redirect,
    Retries,
    Route,
    Severity,
    SharedKey,
    Snapshot,
    Source,
    Sources,
    Trust,
    Upstream,
    UpstreamPolicy,
)

__all__ = ["FULL", "HASH", "KEY", "histories", "snapshots", "upstreams"]

WEB = Origin("Ingress", "shop", "web", "spec.rules[0].http.paths[0]")
HASH = "$2y$05$secretsecretsecretsecret"
KEY = b"-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"

TUNED = UpstreamPolicy(
    hash_on=HashOn(HashSource.HEADER, "X-User"),
    affinity=Affinity("route", "/shop", "shop.example", 3600, "Strict", secure=True),
    check=Check(CheckKind.HTTP, "/healthz", "shop.example", 10.0),
    ejection=Ejection(3, 30.0, 70),
    slow_start=30.0,
    capacity=Capacity(20, 10, 50, 2.0),
    retries=Retries(2, (502, 503), ("GET",), 5.0, 50),
)

FULL = Snapshot(
    hosts=(
        Host("", (Route("/", PathMatch.PREFIX, "shop/none:80", WEB),)),
        Host("*.shop.example", (Route("/", PathMatch.PREFIX, "shop/external:443", WEB),)),
        Host(
            "shop.example",
            (
                Route("/exact", PathMatch.EXACT, "shop/web:80", WEB, Policy(https_redirect=True, body_size=1024)),
                Route("/closed", PathMatch.PREFIX, "shop/web:80", WEB, Policy(closed="bad_allow_list")),
                Route("/private", PathMatch.PREFIX, "shop/web:80", WEB, Policy(basic=BasicAuth("shop/users", "Shop"))),
                Route("/", PathMatch.PREFIX, "shop/web:80", WEB),
            ),
        ),
    ),
    default=Route("/", PathMatch.PREFIX, "shop/web:80", Origin("Ingress", "shop", "rest", "spec.defaultBackend")),
    upstreams=(
        Upstream("shop/db:5432", Protocol.OPAQUE, Balance.RANDOM, (Endpoint("fd00::1", 5432),)),
        Upstream(
            "shop/external:443",
            Protocol.HTTPS,
            external_name="api.example",
            external_port=443,
            tls=EndpointTls("api.example", verify=True, keyring="shop/keys@1"),
        ),
        Upstream("shop/none:80", reason="service_missing"),
        Upstream(
            "shop/tuned:80", balance=Balance.HASH, endpoints=(Endpoint("10.0.0.3", 80, "a", ("a", "b")),), policy=TUNED
        ),
        Upstream("shop/web:80", endpoints=(Endpoint("10.0.0.1", 8080, "a"), Endpoint("10.0.0.2", 8080))),
    ),
    listeners=(Listener(5432, "shop/db:5432", Origin("Service", "shop", "db", "spec.ports[0]")),),
    certificates=(Certificate("shop/tls", ("*.shop.example", "shop.example"), b"chain", KEY, 1_900_000_000),),
    keyrings=(Keyring("shop/keys@1", b"ca", chain=b"chain of ours", key=KEY),),
    default_certificate="shop/tls",
    affinity_key=SharedKey(KEY),
    trust=Trust(("10.0.0.0/8",), Belief.REQUEST, proxy_protocol=True),
    request_ids=False,
    signed=False,
    credentials=(Credentials("shop/users", (("ada", HASH),)),),
    problems=(
        Problem(
            Origin("Ingress", "shop", "old", "spec.rules[0]"),
            "service_missing",
            "There is no Service none.",
            "Its requests get 503.",
            "Create the Service.",
        ),
        Problem(
            Origin("IngressClass", "", "other"), "unused", "Nothing uses it.", "Nothing.", "Delete it.", Severity.NOTICE
        ),
    ),
    sources=(
        Sources("", (Source("body_size", ("ConfigMap ingress/portway key proxy-body-size",)),)),
        Sources(
            "Ingress shop/web",
            (
                Source("basic", ("annotation portway.dev/auth-type", "annotation portway.dev/auth-realm")),
                Source("https_redirect", ("annotation nginx.ingress.kubernetes.io/ssl-redirect",)),
            ),
        ),
        Sources("Service shop/tuned", (Source("slow_start", ("annotation portway.dev/slow-start",)),)),
    ),
)
"""A snapshot with something of everything."""

words = st.text(max_size=6)
numbers = st.integers(0, 65535)
origins = st.builds(Origin, words, words, words, words)
endpoints = st.builds(Endpoint, words, numbers, words, st.lists(words, max_size=2).map(tuple))
seconds = st.floats(0.1, 1e6)
upstream_policies = st.builds(
    UpstreamPolicy,
    st.none() | st.builds(HashOn, st.sampled_from(HashSource), words, numbers),
    st.none()
    | st.builds(
        Affinity,
        words,
        words,
        words,
        numbers,
        words,
        st.none() | st.booleans(),
        numbers,
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    st.none()
    | st.builds(
        Check, st.sampled_from(CheckKind), words, words, seconds, seconds, st.integers(1, 9), st.integers(1, 9)
    ),
    st.none() | st.builds(Ejection, numbers, seconds, st.integers(0, 100)),
    st.just(0.0) | seconds,
    st.none() | st.builds(Capacity, numbers, numbers, numbers, seconds),
    st.none()
    | st.builds(
        Retries,
        numbers,
        st.lists(numbers, max_size=2).map(tuple),
        st.lists(words, max_size=2).map(tuple),
        seconds,
        st.integers(0, 100),
    ),
)
upstreams = st.builds(
    Upstream,
    words,
    st.sampled_from(Protocol),
    st.sampled_from(Balance),
    st.lists(endpoints, max_size=3).map(tuple),
    words,
    numbers,
    words,
    st.none() | upstream_policies,
)
names = st.lists(words, max_size=2).map(tuple)
policies = st.builds(
    Policy,
    st.booleans(),
    st.none() | st.integers(0, 2**62),
    words,
    st.none() | st.builds(BasicAuth, words, words),
    names,
    names,
    st.booleans(),
    words,
    st.booleans(),
    st.none() | st.builds(Redirect, numbers, words),
    words,
    st.none() | st.builds(Cors, names, words, words, words, st.booleans(), numbers),
    st.none()
    | st.builds(RateLimit, words, st.lists(st.tuples(seconds, numbers), max_size=2).map(tuple), numbers, names),
    words,
    words,
    words,
    st.lists(st.tuples(words, words), max_size=2).map(tuple),
    st.none() | st.builds(Canary, words, words, words, words, words, numbers, numbers, st.booleans()),
    st.none() | st.builds(Patience, seconds, seconds, seconds),
    unlogged=st.booleans(),
    edits=st.none() | st.builds(Edits, *[st.none() | st.tuples(words, words)] * 3),
    external=st.none()
    | st.builds(
        ExternalAuth,
        words,
        words,
        words,
        words,
        words,
        words,
        names,
        st.lists(st.tuples(words, words), max_size=2).map(tuple),
        words,
        st.lists(st.tuples(numbers, seconds), max_size=2).map(tuple),
        st.booleans(),
    ),
)
routes = st.builds(Route, words, st.sampled_from(PathMatch), words, origins, st.none() | policies)
snapshots = st.builds(
    Snapshot,
    st.lists(st.builds(Host, words, st.lists(routes, max_size=2).map(tuple)), max_size=2).map(tuple),
    st.none() | routes,
    st.lists(upstreams, max_size=3, unique_by=lambda upstream: upstream.name).map(tuple),
    st.lists(st.builds(Listener, numbers, words, origins), max_size=2).map(tuple),
    st.lists(
        st.builds(Certificate, words, names, st.binary(), st.binary(), numbers, st.binary(), numbers),
        max_size=2,
    ).map(tuple),
    words,
    st.lists(st.builds(Problem, origins, words, words, words, words, st.sampled_from(Severity)), max_size=2).map(tuple),
    st.none() | st.builds(SharedKey, st.binary()),
    st.lists(st.builds(Credentials, words, st.lists(st.tuples(words, words), max_size=2).map(tuple)), max_size=2).map(
        tuple
    ),
    st.none()
    | st.builds(
        Trust,
        st.lists(words, max_size=2).map(tuple),
        st.sampled_from(Belief),
        words,
        st.booleans(),
        st.booleans(),
        seconds,
    ),
    st.booleans(),
    sources=st.lists(
        st.builds(Sources, words, st.lists(st.builds(Source, words, names), max_size=2).map(tuple)), max_size=2
    ).map(tuple),
)
"""Any snapshot, sensible or not; no two upstreams have one name."""

Part = TypeVar("Part", Host, Certificate, Upstream, Sources)


def sorted_parts(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return the parts with names of at most a letter, so that two snapshots have some in common, as compiles do."""
    found = {one.name[:1]: msgspec.structs.replace(one, name=one.name[:1]) for one in parts}
    return tuple(found[name] for name in sorted(found))


def canonical(snapshot: Snapshot) -> Snapshot:
    return msgspec.structs.replace(
        snapshot,
        hosts=sorted_parts(snapshot.hosts),
        certificates=sorted_parts(snapshot.certificates),
        upstreams=sorted_parts(snapshot.upstreams),
        sources=sorted_parts(snapshot.sources),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Snapshot]:
    """Draw snapshots of which each has something of the one before."""
    found = [canonical(draw(snapshots))]
    for _ in range(draw(st.integers(1, 3))):
        new = canonical(draw(snapshots))
        kept = draw(st.sets(st.sampled_from(Snapshot.__struct_fields__)))
        found.append(msgspec.structs.replace(new, **{name: getattr(found[-1], name) for name in kept}))
    return found
