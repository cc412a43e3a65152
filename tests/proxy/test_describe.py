from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.describe import describe, describe_json, describe_upstream
from portway_proxy.snapshot import (
    Balance,
    Check,
    CheckKind,
    Ejection,
    Endpoint,
    Host,
    Origin,
    PathMatch,
    Problem,
    Protocol,
    Route,
    Snapshot,
    Upstream,
    UpstreamPolicy,
)
from snapshots import FULL, TUNED, snapshots

GOLDEN = """\
* prefix / => shop/none:80 -> 503 service_missing  <- Ingress shop/web spec.rules[0].http.paths[0]
*.shop.example prefix / => shop/external:443 -> api.example:443\
 (https, verified as api.example to a depth of 1, keyring=shop/keys@1)  <- Ingress shop/web spec.rules[0].http.paths[0]
shop.example exact /exact => shop/web:80 -> 10.0.0.1:8080 10.0.0.2:8080 [https-redirect, body-size=1024]\
  <- Ingress shop/web spec.rules[0].http.paths[0]
shop.example prefix /closed => shop/web:80 -> 10.0.0.1:8080 10.0.0.2:8080 [closed=bad_allow_list]\
  <- Ingress shop/web spec.rules[0].http.paths[0]
shop.example prefix /private => shop/web:80 -> 10.0.0.1:8080 10.0.0.2:8080 [basic=shop/users]\
  <- Ingress shop/web spec.rules[0].http.paths[0]
shop.example prefix / => shop/web:80 -> 10.0.0.1:8080 10.0.0.2:8080  <- Ingress shop/web spec.rules[0].http.paths[0]
default => shop/web:80 -> 10.0.0.1:8080 10.0.0.2:8080  <- Ingress shop/rest spec.defaultBackend
tcp/5432 => shop/db:5432 -> [fd00::1]:5432 (opaque, random)  <- Service shop/db spec.ports[0]
certificate shop/tls (default): *.shop.example shop.example
trust 10.0.0.0/8 -> request by X-Forwarded-For, PROXY protocol within 5s
no request ids
no Server field
problem service_missing: Ingress shop/old spec.rules[0]: There is no Service none. Its requests get 503.\
 Create the Service.
problem unused: IngressClass other: Nothing uses it. Nothing. Delete it.
"""


def test_a_snapshot_is_a_line_for_each_thing_that_it_says() -> None:
    assert describe(FULL) == GOLDEN


def test_an_empty_snapshot_says_nothing() -> None:
    assert describe(Snapshot()) == ""


@pytest.mark.parametrize(
    ("upstream", "text"),
    [
        (Upstream("a/b:80"), "a/b:80 -> 503 no_endpoints"),
        (Upstream("a/b:80", reason="port_missing"), "a/b:80 -> 503 port_missing"),
        (Upstream("a/b:80", endpoints=(Endpoint("::1", 1),)), "a/b:80 -> [::1]:1"),
        (Upstream("a/b:80", external_name="x.example", external_port=81), "a/b:80 -> x.example:81"),
        (
            Upstream("a/b:80", Protocol.HTTPS, Balance.RANDOM, (Endpoint("10.0.0.1", 1),)),
            "a/b:80 -> 10.0.0.1:1 (https, random)",
        ),
        (
            Upstream("a/b:80", balance=Balance.HASH, endpoints=(Endpoint("10.0.0.1", 1),), policy=TUNED),
            (
                "a/b:80 -> 10.0.0.1:1 (consistent-hash, hash-on=header:X-User, affinity=route, "
                "check=http:shop.example/healthz every 10s, ejection=3 for 30s up to 70%, slow-start=30s, "
                "max-connections=20, max-requests=10, queue=50 for 2s, tries=2, retry-on=502 503, retry-methods=GET, "
                "retry-timeout=5s, retry-budget=50%)"
            ),
        ),
        (
            Upstream("a/b:80", policy=UpstreamPolicy(ejection=Ejection(failures=0), check=Check(CheckKind.TCP))),
            "a/b:80 -> 503 no_endpoints (check=tcp every 5s, ejection=off)",
        ),
    ],
)
def test_an_upstream_says_where_it_leads_and_what_departs_from_the_ordinary(upstream: Upstream, text: str) -> None:
    assert describe_upstream(upstream) == text


@given(st.text(max_size=20), st.text(max_size=20))
def test_nothing_in_an_object_breaks_a_line_or_drives_a_terminal(path: str, found: str) -> None:
    origin = Origin("Ingress", "a", "b")
    snapshot = Snapshot(
        hosts=(Host("h", (Route("/" + path, PathMatch.PREFIX, "a/b:80", origin),)),),
        upstreams=(Upstream("a/b:80"),),
        problems=(Problem(origin, "code", found, "", ""),),
    )
    text = describe(snapshot)
    assert text.count("\n") == 2
    assert text.replace("\n", "").isprintable()
    assert len(text.splitlines()) == 2


def test_what_is_escaped_can_still_be_recognised() -> None:
    origin = Origin("Ingress", "a", "b")
    problem = Problem(origin, "code", "Läßt\n\x1b[31m\u2028.", "", "")
    assert "Läßt\\n\\x1b[31m\\u2028." in describe(Snapshot(problems=(problem,)))


# --- JSON


def test_json_says_everything_but_the_keys() -> None:
    shown = json.loads(describe_json(FULL))
    assert shown["certificates"] == [
        {"name": "shop/tls", "hosts": ["*.shop.example", "shop.example"], "not_after": 1_900_000_000}
    ]
    assert b"secret" not in describe_json(FULL)
    assert "affinity_key" not in shown
    for part in ("hosts", "default", "upstreams", "listeners", "default_certificate", "problems"):
        assert shown[part] == json.loads(msgspec.json.encode(getattr(FULL, part)))


@given(snapshots)
def test_any_snapshot_is_json_without_its_keys(snapshot: Snapshot) -> None:
    shown = json.loads(describe_json(snapshot))
    assert [set(certificate) for certificate in shown["certificates"]] == [{"name", "hosts", "not_after"}] * len(
        snapshot.certificates
    )
    assert msgspec.convert(shown.get("upstreams", []), tuple[Upstream, ...]) == snapshot.upstreams
