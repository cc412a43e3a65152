from __future__ import annotations

import pytest

from portway_operator.annotations import ServiceAnnotations, read, rows
from portway_operator.compile.upstream_policies import with_policy
from portway_operator.objects import Meta, Service
from portway_operator.settings import CompileSettings
from portway_proxy.snapshot import (
    Affinity,
    Balance,
    Capacity,
    Check,
    CheckKind,
    Ejection,
    HashOn,
    HashSource,
    Protocol,
    ProxyVersion,
    Retries,
    SharedKey,
    Upstream,
    UpstreamPolicy,
)
from scenes import SHOP, compiled


def upstream(protocol: Protocol = Protocol.HTTP, **annotations: str) -> Upstream:
    """Return the upstream of a Service with these annotations; in their names, `_` is `-`."""
    named = {f"portway.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    reading = read(ServiceAnnotations, Service(Meta("shop", "web", annotations=named)))
    assert reading.problems == ()
    return with_policy(Upstream("shop/web:80", protocol), reading.values)


def test_a_port_that_speaks_http_announces_clients_when_its_own_number_says_so() -> None:
    reading = read(
        ServiceAnnotations, Service(Meta("shop", "web", annotations={"portway.dev/proxy-protocol": "80:v2, 25:v1"}))
    )
    told = {port: with_policy(Upstream(f"shop/web:{port}"), reading.values, port).policy for port in (80, 81)}
    assert told == {80: UpstreamPolicy(announce=ProxyVersion.V2), 81: None}
    everywhere = read(
        ServiceAnnotations, Service(Meta("shop", "web", annotations={"portway.dev/proxy-protocol": "v2"}))
    )
    assert with_policy(Upstream("shop/web:80"), everywhere.values, 80).policy is None


def policy(**annotations: str) -> UpstreamPolicy | None:
    return upstream(Protocol.HTTP, **annotations).policy


def test_a_service_that_asks_for_nothing_has_no_policy() -> None:
    assert upstream() == Upstream("shop/web:80")


@pytest.mark.parametrize(
    ("annotations", "balance", "hash_on"),
    [
        ({"balance": "random"}, Balance.RANDOM, None),
        ({"balance": "power-of-two"}, Balance.POWER_OF_TWO, None),
        ({"balance": "least-connections"}, Balance.LEAST_CONNECTIONS, None),
        ({"balance": "consistent-hash"}, Balance.HASH, HashOn()),
        ({"hash_on": "uri"}, Balance.HASH, HashOn(HashSource.URI)),
        ({"balance": "consistent-hash", "hash_on": "cookie:a"}, Balance.HASH, HashOn(HashSource.COOKIE, "a")),
        ({"balance": "random", "hash_on": "uri"}, Balance.RANDOM, None),
    ],
)
def test_how_a_service_is_balanced(annotations: dict[str, str], balance: Balance, hash_on: HashOn | None) -> None:
    one = upstream(Protocol.HTTP, **annotations)
    assert (one.balance, one.policy and one.policy.hash_on) == (balance, hash_on)


def test_an_affinity_has_all_that_is_said_of_its_cookie() -> None:
    assert policy(affinity="cookie") == UpstreamPolicy(affinity=Affinity())
    assert policy(
        affinity="cookie",
        affinity_cookie_name="route",
        affinity_cookie_path="/shop",
        affinity_cookie_domain="shop.example",
        affinity_cookie_ttl="1h",
        affinity_cookie_same_site="None",
        affinity_cookie_secure="false",
    ) == UpstreamPolicy(affinity=Affinity("route", "/shop", "shop.example", 3600, "None", secure=False))


def test_a_check_has_all_that_is_said_of_it() -> None:
    assert policy(health_check="tcp") == UpstreamPolicy(check=Check(CheckKind.TCP))
    assert policy(
        health_check="http",
        health_check_path="/ok",
        health_check_host="shop.example",
        health_check_interval="7s",
        health_check_timeout="3s",
        health_check_failures="4",
        health_check_passes="5",
    ) == UpstreamPolicy(check=Check(CheckKind.HTTP, "/ok", "shop.example", 7.0, 3.0, 4, 5))


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({"ejection_failures": "0"}, UpstreamPolicy(ejection=Ejection(failures=0))),
        ({"ejection_time": "20s"}, UpstreamPolicy(ejection=Ejection(seconds=20.0))),
        ({"ejection_share": "10"}, UpstreamPolicy(ejection=Ejection(share=10))),
        ({"slow_start": "1m"}, UpstreamPolicy(slow_start=60.0)),
        ({"max_connections": "5"}, UpstreamPolicy(capacity=Capacity(connections=5))),
        ({"max_requests": "5"}, UpstreamPolicy(capacity=Capacity(requests=5))),
        (
            {"max_requests": "5", "queue": "7", "queue_timeout": "1s"},
            UpstreamPolicy(capacity=Capacity(requests=5, queue=7, timeout=1.0)),
        ),
        ({"retries": "0"}, UpstreamPolicy(retries=Retries(tries=1))),
        ({"retry_on": "503"}, UpstreamPolicy(retries=Retries(statuses=(503,)))),
        ({"retry_methods": "GET, PUT"}, UpstreamPolicy(retries=Retries(methods=("GET", "PUT")))),
        ({"retry_timeout": "1s"}, UpstreamPolicy(retries=Retries(timeout=1.0))),
        ({"retry_budget": "0"}, UpstreamPolicy(retries=Retries(budget=0))),
        ({"ejection_failures": "5", "retries": "2", "max_requests": "0"}, None),
    ],
)
def test_each_annotation_is_its_part_of_the_policy(
    annotations: dict[str, str], expected: UpstreamPolicy | None
) -> None:
    assert policy(**annotations) == expected


def test_a_port_that_is_passed_through_takes_what_needs_no_look_into_its_bytes() -> None:
    asked = {"slow_start": "5s", "affinity": "cookie", "max_requests": "5", "retry_on": "503"}
    assert upstream(Protocol.OPAQUE, health_check="tcp", **asked).policy == UpstreamPolicy(
        check=Check(CheckKind.TCP), slow_start=5.0
    )
    assert upstream(Protocol.OPAQUE, health_check="http").policy is None
    for balance in ("random", "least-connections", "power-of-two"):
        assert upstream(Protocol.OPAQUE, balance=balance).balance == balance
    by_address = upstream(Protocol.OPAQUE, hash_on="source-address")
    assert (by_address.balance, by_address.policy) == (Balance.HASH, UpstreamPolicy(hash_on=HashOn()))
    leaving = upstream(Protocol.OPAQUE, close_on_removal="true", ejection_failures="2").policy
    assert leaving == UpstreamPolicy(ejection=Ejection(failures=2), close_on_removal=True)
    assert upstream(Protocol.HTTP, close_on_removal="true").policy is None
    assert upstream(Protocol.OPAQUE, hash_on="uri") == Upstream("shop/web:80", Protocol.OPAQUE)


def test_every_value_that_a_policy_takes_has_its_proxys_default() -> None:
    # Or an annotation that says the default would be another thing than none.
    values = ServiceAnnotations()
    assert (values.retries + 1, values.retry_methods) == (Retries().tries, Retries().methods)
    assert all(rows(ServiceAnnotations)[field].doc for field in rows(ServiceAnnotations))


def test_the_key_of_cookies_is_in_the_snapshot_when_a_service_needs_it() -> None:
    settings = CompileSettings(affinity_key=b"k" * 32)
    sticky = SHOP.replace(
        "kind: Service\nmetadata: {name: web, namespace: shop}",
        "kind: Service\nmetadata: {name: web, namespace: shop, annotations: {portway.dev/affinity: cookie}}",
    )
    assert sticky != SHOP
    assert compiled(sticky, settings=settings).snapshot.affinity_key == SharedKey(b"k" * 32)
    assert compiled(SHOP, settings=settings).snapshot.affinity_key is None
    assert compiled(sticky).snapshot.affinity_key is None
    assert b"k" * 8 not in repr(settings).encode()


@pytest.mark.parametrize(
    ("value", "app_protocol", "protocol", "code"),
    [
        ("HTTPS", "", Protocol.HTTPS, ""),
        ("https", "", Protocol.HTTPS, ""),
        ("HTTP", "https", Protocol.HTTP, ""),
        ("AUTO_HTTP", "https", Protocol.HTTPS, ""),
        ("GRPC", "", Protocol.H2C, ""),
        ("FCGI", "", Protocol.HTTP, "annotation_invalid"),
    ],
)
def test_an_ingress_says_what_endpoints_speak(value: str, app_protocol: str, protocol: Protocol, code: str) -> None:
    annotation = f"annotations: {{nginx.ingress.kubernetes.io/backend-protocol: {value}}}"
    text = SHOP.replace("kind: Ingress\nmetadata: {", f"kind: Ingress\nmetadata: {{{annotation}, ")
    text = (
        text.replace("targetPort: 8080}", f"targetPort: 8080, appProtocol: {app_protocol}}}") if app_protocol else text
    )
    found = compiled(text)
    [served] = found.snapshot.upstreams
    assert served.protocol is protocol
    assert [problem.code for problem in found.problems] == ([code] if code else [])
