"""What is found on pairs of manifests: each pair with the findings that it must give, and no others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from portway_operator.diff import Effect, compare
from short_manifests import authority, compiled, ingress, passwords, secret, service, slices, tls

Raw = dict[str, Any]
LOST, TRAFFIC, HANDS = Effect.PROTECTION_LOST, Effect.TRAFFIC_LOST, Effect.HANDS
SHADOWED, CHANGED, GAINED = Effect.SHADOWED, Effect.CHANGED, Effect.PROTECTION_GAINED
ADDED, MENDED = Effect.ADDED, Effect.MENDED

USERS = passwords("users", "alice")
ASKED = {"auth-type": "basic", "auth-secret": "users"}
SHOP = "shop.example"
BALANCED = {"load-balance": "ewma"}
CANARY = {"canary": "true", "canary-weight": "10"}
VERIFIED = {"backend-protocol": "HTTPS", "proxy-ssl-secret": "shop/ca", "proxy-ssl-verify": "on"}


@dataclass(frozen=True)
class Pair:
    """The objects of both sides, and each finding as its effect, kind, host and path."""

    old: list[Raw]
    new: list[Raw]
    findings: list[tuple[Effect, str, str, str]]


def guarded(*rules: str, name: str = "guarded", host: str = SHOP, **more: str) -> Raw:
    return ingress(*rules, name=name, host=host, nginx=ASKED, **more)


def default(**annotations: str) -> Raw:
    made = ingress("/", name="default", nginx=None, **annotations)
    made["spec"] = {
        "ingressClassName": "portway",
        "defaultBackend": {"service": {"name": "api", "port": {"number": 80}}},
    }
    return made


PAIRS = {
    "a password is not asked for any more": Pair(
        [guarded("/admin"), USERS],
        [ingress("/admin", name="guarded"), USERS],
        [(LOST, "password_lost", SHOP, "/admin")],
    ),
    "a guard goes with its route, and the path is served by the route above": Pair(
        [ingress("/"), guarded("/admin"), USERS],
        [ingress("/"), USERS],
        [(LOST, "password_lost", SHOP, "/admin"), (HANDS, "hands_changed", SHOP, "/admin")],
    ),
    "a route without guard opens below a guarded one": Pair(
        [guarded("/admin"), USERS],
        [guarded("/admin"), ingress("/admin/public"), USERS],
        [(LOST, "password_lost", SHOP, "/admin/public"), (HANDS, "hands_changed", SHOP, "/admin/public")],
    ),
    "a guarded prefix becomes an exact path": Pair(
        [ingress("/"), guarded("/admin"), USERS],
        [ingress("/"), guarded("=/admin"), USERS],
        [(LOST, "password_lost", SHOP, "/admin/"), (HANDS, "hands_changed", SHOP, "/admin/")],
    ),
    "an exact path without guard opens in a guarded prefix": Pair(
        [guarded("/admin"), USERS],
        [guarded("/admin"), ingress("=/admin"), USERS],
        [(LOST, "password_lost", SHOP, "/admin"), (HANDS, "hands_changed", SHOP, "/admin")],
    ),
    "an exact host without guard takes over from a guarded wildcard": Pair(
        [guarded("/", host="*.shop.example"), USERS],
        [guarded("/", host="*.shop.example"), ingress("/", host="a.shop.example"), USERS],
        [(LOST, "password_lost", "a.shop.example", "/"), (HANDS, "hands_changed", "a.shop.example", "/")],
    ),
    "a guarded host goes, and its requests come to the wildcard": Pair(
        [guarded("/", host="a.shop.example"), ingress("/", host="*.shop.example"), USERS],
        [ingress("/", host="*.shop.example"), USERS],
        [(LOST, "password_lost", "a.shop.example", "/"), (HANDS, "hands_changed", "a.shop.example", "/")],
    ),
    "a guarded host goes, and its requests come to rules for any host": Pair(
        [guarded("/"), ingress("/", host=""), USERS],
        [ingress("/", host=""), USERS],
        [(LOST, "password_lost", SHOP, "/"), (HANDS, "hands_changed", SHOP, "/")],
    ),
    "passwords of another Secret are asked for": Pair(
        [guarded("/"), USERS, passwords("others", "eve")],
        [ingress("/", name="guarded", auth_type="basic", auth_secret="others"), USERS, passwords("others", "eve")],
        [(LOST, "password_other", SHOP, "/")],
    ),
    "a Secret holds more users": Pair(
        [guarded("/"), USERS],
        [guarded("/"), passwords("users", "alice", "eve")],
        [(CHANGED, "users_changed", "", "")],
    ),
    "the allow-list is wider": Pair(
        [ingress(allow_source_range="10.0.0.0/24,192.0.2.1")],
        [ingress(allow_source_range="10.0.0.0/16,192.0.2.1")],
        [(LOST, "networks_widened", SHOP, "/")],
    ),
    "the allow-list is narrower": Pair(
        [ingress(allow_source_range="10.0.0.0/16")],
        [ingress(allow_source_range="10.0.1.0/24")],
        [(GAINED, "networks_gained", SHOP, "/")],
    ),
    "the allow-list is gone": Pair(
        [ingress(allow_source_range="10.0.0.0/24")],
        [ingress()],
        [(LOST, "networks_lost", SHOP, "/")],
    ),
    "the deny-list is shorter": Pair(
        [ingress(deny_source_range="10.0.0.0/8,192.0.2.0/24")],
        [ingress(deny_source_range="10.0.0.0/8")],
        [(LOST, "networks_widened", SHOP, "/")],
    ),
    "network or password suffices where both were asked for": Pair(
        [guarded("/", allow_source_range="10.0.0.0/8"), USERS],
        [guarded("/", allow_source_range="10.0.0.0/8", satisfy="any"), USERS],
        [(LOST, "either_suffices", SHOP, "/")],
    ),
    "both network and password are asked for where one sufficed": Pair(
        [guarded("/", allow_source_range="10.0.0.0/8", satisfy="any"), USERS],
        [guarded("/", allow_source_range="10.0.0.0/8"), USERS],
        [(GAINED, "either_gained", SHOP, "/")],
    ),
    "another service is asked who may come": Pair(
        [ingress(auth_url="http://auth.shop.svc.cluster.local/check")],
        [ingress(auth_url="http://login.shop.svc.cluster.local/check")],
        [(LOST, "external_other", SHOP, "/")],
    ),
    "no service is asked who may come": Pair(
        [ingress(auth_url="http://auth.shop.svc.cluster.local/check")],
        [ingress()],
        [(LOST, "external_lost", SHOP, "/")],
    ),
    "no certificate of clients is asked for": Pair(
        [ingress(secret="cert", nginx={"auth-tls-secret": "shop/ca"}), tls("cert", "one"), authority("ca", "one")],
        [ingress(secret="cert"), tls("cert", "one"), authority("ca", "one")],
        [(LOST, "client_certificate_lost", SHOP, "/")],
    ),
    "another authority vouches for clients as well": Pair(
        [ingress(secret="cert", nginx={"auth-tls-secret": "shop/ca"}), tls("cert", "one"), authority("ca", "one")],
        [
            ingress(secret="cert", nginx={"auth-tls-secret": "shop/ca"}),
            tls("cert", "one"),
            authority("ca", "one", "two"),
        ],
        [(LOST, "client_certificate_other", SHOP, "/")],
    ),
    "certificates of clients are optional now": Pair(
        [ingress(secret="cert", nginx={"auth-tls-secret": "shop/ca"}), tls("cert", "one"), authority("ca", "one")],
        [
            ingress(secret="cert", nginx={"auth-tls-secret": "shop/ca", "auth-tls-verify-client": "optional"}),
            tls("cert", "one"),
            authority("ca", "one"),
        ],
        [(LOST, "client_certificate_weakened", SHOP, "/")],
    ),
    "clients without TLS are not sent to https": Pair(
        [ingress(secret="cert"), tls("cert", "one")],
        [ingress(secret="cert", ssl_redirect="false"), tls("cert", "one")],
        [(LOST, "https_lost", SHOP, "/")],
    ),
    "the certificate of a host goes": Pair(
        [ingress(secret="cert", ssl_redirect="false"), tls("cert", "one")],
        [ingress(ssl_redirect="false")],
        [(LOST, "certificate_lost", SHOP, "")],
    ),
    "the certificate of a host is another one": Pair(
        [ingress(secret="cert"), tls("cert", "one")],
        [ingress(secret="cert"), tls("cert", "two")],
        [(CHANGED, "certificate_changed", SHOP, "")],
    ),
    "the rate limit goes": Pair(
        [ingress(limit_rps="5")],
        [ingress()],
        [(LOST, "limit_lost", SHOP, "/")],
    ),
    "the rate limit is looser": Pair(
        [ingress(limit_rps="5")],
        [ingress(limit_rps="50")],
        [(LOST, "limit_loosened", SHOP, "/")],
    ),
    "bodies may be larger": Pair(
        [ingress(body_size="1m")],
        [ingress(body_size="10m")],
        [(LOST, "body_size_grown", SHOP, "/")],
    ),
    "endpoints are not verified any more": Pair(
        [
            ingress(nginx={"backend-protocol": "HTTPS", "proxy-ssl-secret": "shop/ca", "proxy-ssl-verify": "on"}),
            secret("ca", ca_crt="", tls_crt="", tls_key=""),
            authority("ca", "one"),
        ],
        [ingress(nginx={"backend-protocol": "HTTPS"}), authority("ca", "one")],
        [(LOST, "endpoint_unverified", SHOP, "/"), (CHANGED, "upstream_terms", "", "")],
    ),
    "endpoints are spoken to without TLS": Pair(
        [ingress(nginx={"backend-protocol": "HTTPS"})],
        [ingress()],
        [(LOST, "endpoint_plain", SHOP, "/"), (CHANGED, "upstream_terms", "", "")],
    ),
    "TLS of a host passes through": Pair(
        [ingress(secret="cert"), tls("cert", "one")],
        [ingress(secret="cert", tls_passthrough="true"), tls("cert", "one")],
        [(LOST, "passthrough_opened", SHOP, "")],
    ),
    "a port is opened": Pair(
        [ingress()],
        [ingress(), service(tcp_ports="5432")],
        [(LOST, "port_opened", "", "")],
    ),
    "a port is closed": Pair(
        [ingress(), service(tcp_ports="5432")],
        [ingress()],
        [(TRAFFIC, "port_closed", "", "")],
    ),
    "a route goes": Pair(
        [ingress("/api", "/app")],
        [ingress("/api")],
        [(TRAFFIC, "route_gone", SHOP, "/app")],
    ),
    "a host goes": Pair(
        [ingress(), ingress("/a", "/b", name="other", host="other.example")],
        [ingress()],
        [(TRAFFIC, "host_gone", "other.example", "")],
    ),
    "a bad annotation closes a path": Pair(
        [ingress()],
        [ingress(allow_source_range="10.0.0.0/33")],
        [
            (TRAFFIC, "route_closed", SHOP, "/"),
            (ADDED, "problem_added", "", ""),
        ],
    ),
    "a closed path is opened to anybody": Pair(
        [ingress(allow_source_range="10.0.0.0/33")],
        [ingress()],
        [
            (LOST, "closure_lost", SHOP, "/"),
            (MENDED, "problem_mended", "", ""),
            (MENDED, "route_open", SHOP, "/"),
        ],
    ),
    "a host changes hands": Pair(
        [ingress()],
        [ingress(namespace="bank")],
        [(HANDS, "hands_changed", SHOP, "/")],
    ),
    "other things are asked for": Pair(
        [ingress(rewrite_target="/a")],
        [ingress(rewrite_target="/b", enable_cors="true")],
        [(CHANGED, "policy_changed", SHOP, "/")],
    ),
    "values that are not shown differ": Pair(
        [guarded("/", auth_realm="one"), USERS],
        [guarded("/", auth_realm="two"), USERS],
        [(CHANGED, "policy_changed", SHOP, "/")],
    ),
    "a Service has no endpoint left": Pair(
        [ingress("/a", "bare:/"), service("bare"), slices("bare")],
        [ingress("/a", "bare:/"), service("bare")],
        [(TRAFFIC, "endpoints_gone", "", ""), (ADDED, "notice_added", "", "")],
    ),
    "a Service has endpoints again": Pair(
        [ingress("/a", "bare:/"), service("bare")],
        [ingress("/a", "bare:/"), service("bare"), slices("bare")],
        [(MENDED, "endpoints_found", "", ""), (MENDED, "problem_mended", "", "")],
    ),
    "a default backend comes": Pair(
        [ingress("/a")],
        [ingress("/a"), default()],
        [(ADDED, "default_added", "", "")],
    ),
    "a host gets a certificate": Pair(
        [ingress(ssl_redirect="false")],
        [ingress(secret="cert"), tls("cert", "one")],
        [(GAINED, "certificate_gained", SHOP, ""), (GAINED, "https_gained", SHOP, "/")],
    ),
    "other authorities vouch for endpoints": Pair(
        [ingress(nginx=VERIFIED), authority("ca", "one")],
        [ingress(nginx=VERIFIED), authority("ca", "one", "two")],
        [(LOST, "endpoint_authority", SHOP, "/"), (CHANGED, "upstream_terms", "", "")],
    ),
    "the default backend goes": Pair(
        [ingress("/a"), default()],
        [ingress("/a")],
        [(TRAFFIC, "default_gone", "", "")],
    ),
    "the default backend is no longer guarded": Pair(
        [ingress("/a"), ingress("/a", name="b", host="b.example"), default(allow_source_range="10.0.0.0/8")],
        [ingress("/a"), ingress("/a", name="b", host="b.example"), default()],
        [(LOST, "networks_lost", "", "")],
    ),
    "an Ingress with terms of its own for endpoints goes": Pair(
        [ingress("/a", name="a", nginx={"load-balance": "ewma"}), ingress("/b")],
        [ingress("/b")],
        [(TRAFFIC, "route_gone", SHOP, "/a")],
    ),
    "a path goes to another service": Pair(
        [ingress("/")],
        [ingress("api:/")],
        [(CHANGED, "upstream_changed", SHOP, "/")],
    ),
    "a path is shadowed by an older Ingress": Pair(
        [ingress("/a"), ingress("/b", name="young")],
        [ingress("/a"), ingress("/b", "/a", name="young")],
        [(SHADOWED, "shadowed", "", "")],
    ),
    "a guarded pattern goes": Pair(
        [ingress("/"), guarded("/ad.*/users", use_regex="true"), USERS],
        [ingress("/"), USERS],
        [(LOST, "password_lost", SHOP, "/ad/users"), (HANDS, "hands_changed", SHOP, "/ad/users")],
    ),
    "a password is asked for": Pair(
        [ingress("/")],
        [ingress("/", nginx=ASKED), USERS],
        [(GAINED, "password_gained", SHOP, "/")],
    ),
    "routes and hosts come": Pair(
        [ingress("/a")],
        [ingress("/a", "/b"), ingress(name="new", host="new.example")],
        [(ADDED, "host_added", "new.example", ""), (ADDED, "route_added", SHOP, "/b")],
    ),
}

SAME = {
    "an Ingress and its canary under other names": (
        [ingress(name="one", nginx=BALANCED), ingress("api:/", name="two", nginx={**BALANCED, **CANARY})],
        [ingress(name="three", nginx=BALANCED), ingress("api:/", name="four", nginx={**BALANCED, **CANARY})],
    ),
    "rules in another order": ([ingress("/a", "/b", "=/c")], [ingress("=/c", "/b", "/a")]),
    "two Ingresses merged": (
        [ingress("/a", name="one", limit_rps="5"), ingress("/b", name="two", limit_rps="5")],
        [ingress("/a", "/b", limit_rps="5")],
    ),
    "an annotation by its other name": (
        [ingress(allow_source_range="10.0.0.0/8")],
        [ingress(nginx={"whitelist-source-range": "10.0.0.0/8"})],
    ),
    "a value in another spelling": ([ingress(body_size="1m")], [ingress(body_size="1024k")]),
    "a slash at the end of a prefix": ([ingress("/a")], [ingress("/a/")]),
    "a route that the one above serves alike": ([ingress("/", "/a")], [ingress("/")]),
    "the same certificate in another Secret": (
        [ingress(secret="old"), tls("old", "one")],
        [ingress(secret="new"), tls("new", "one")],
    ),
    "the same networks in another order": (
        [ingress(allow_source_range="10.0.0.0/8,192.0.2.0/24")],
        [ingress(allow_source_range="192.0.2.0/24, 10.0.0.0/8")],
    ),
}


def found(pair: Pair) -> list[tuple[Effect, str, str, str]]:
    difference = compare(compiled(*pair.old), compiled(*pair.new))
    return [(one.effect, one.kind, one.host, one.path) for one in difference.findings]


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_the_pair_gives_just_its_findings(pair: Pair) -> None:
    assert found(pair) == pair.findings


@pytest.mark.parametrize(("old", "new"), SAME.values(), ids=SAME)
def test_what_is_served_alike_gives_no_finding(old: list[Raw], new: list[Raw]) -> None:
    assert compare(compiled(*old), compiled(*new)).findings == ()
    assert compare(compiled(*new), compiled(*old)).findings == ()


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_a_snapshot_does_not_differ_from_itself(pair: Pair) -> None:
    assert compare(compiled(*pair.new), compiled(*pair.new)).findings == ()


def test_the_guide_names_every_kind_with_its_effect() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "diff.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| ([a-z-]+) \| (`.*`) \|$", guide, re.MULTILINE))
    named = {(effect, kind) for effect, kinds in rows.items() for kind in re.findall(r"`([a-z_]+)`", kinds)}
    both = [(pair.old, pair.new) for pair in PAIRS.values()]
    found = {
        (str(one.effect), one.kind)
        for old, new in [*both, *(sides[::-1] for sides in both)]
        for one in compare(compiled(*old), compiled(*new)).findings
    }
    assert found <= named
