"""`compile/endpoint_tls.py`: what Ingresses ask of TLS to their endpoints."""

from __future__ import annotations

import pytest

from certs import Authority
from portway_operator.objects import Kind, Meta, Secret
from portway_operator.problems import Problem
from portway_proxy.snapshot import EndpointTls, Snapshot
from scenes import CLASS, SERVICE, SLICE, codes, compiled

AUTHORITY = Authority()
CHAIN, KEY = AUTHORITY.issue("portway")
OTHER = Authority().issue("other")
BASE = (CLASS, SERVICE, SLICE)
NAME = "web.shop.svc"


def secret(**data: bytes) -> Secret:
    return Secret(Meta("shop", "keys"), "Opaque", {name.replace("_", "."): value for name, value in data.items()})


def ingress(protocol: str = "HTTPS", prefix: str = "nginx.ingress.kubernetes.io", **annotations: str) -> str:
    lines = "".join(
        f"    {prefix}/proxy-ssl-{key.replace('_', '-')}: {value!r}\n" for key, value in annotations.items()
    )
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  namespace: shop
  annotations:
    nginx.ingress.kubernetes.io/backend-protocol: {protocol}
{lines}
spec:
  ingressClassName: portway
  rules:
  - host: shop.example
    http:
      paths:
      - {{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}
"""


def terms(snapshot: Snapshot) -> EndpointTls | None:
    [upstream] = snapshot.upstreams
    return upstream.tls


@pytest.mark.parametrize("prefix", ["nginx.ingress.kubernetes.io", "portway.dev"])
def test_every_annotation_is_a_term(prefix: str) -> None:
    found = compiled(
        *BASE,
        secret(ca_crt=AUTHORITY.pem, tls_crt=CHAIN, tls_key=KEY),
        ingress(
            prefix=prefix,
            secret="shop/keys",
            verify="on",
            verify_depth="3",
            name="api.internal",
            server_name="on",
            protocols="TLSv1.1 TLSv1.3",
            ciphers="ECDHE+AESGCM",
        ),
    )
    [keyring] = found.snapshot.keyrings
    assert (keyring.ca, keyring.crl, keyring.chain, keyring.key) == (AUTHORITY.pem, b"", CHAIN, KEY)
    assert terms(found.snapshot) == EndpointTls(
        "api.internal", True, 3, True, keyring.name, ("TLSv1.3",), "ECDHE+AESGCM"
    )
    assert found.named == {(Kind.SECRET, "shop", "keys")}
    assert codes(found) == []


def test_no_text_form_shows_the_key() -> None:
    found = compiled(*BASE, secret(tls_crt=CHAIN, tls_key=KEY), ingress(secret="keys"))
    assert "PRIVATE" not in repr(found.snapshot)


def test_the_name_to_expect_is_the_service_s_own_unless_another_is_given() -> None:
    found = compiled(*BASE, ingress(verify="on"))
    assert terms(found.snapshot) == EndpointTls(NAME, verify=True)


def test_of_an_external_service_it_is_the_external_name() -> None:
    service = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {type: ExternalName, externalName: api.example, ports: [{port: 80}]}
"""
    found = compiled(CLASS, service, ingress(verify="on"))
    assert terms(found.snapshot) == EndpointTls("api.example", verify=True)


def test_other_content_of_the_secret_is_another_keyring() -> None:
    one = compiled(*BASE, secret(ca_crt=AUTHORITY.pem), ingress(secret="keys"))
    two = compiled(*BASE, secret(ca_crt=Authority().pem), ingress(secret="keys"))
    assert one.snapshot.keyrings[0].name != two.snapshot.keyrings[0].name


@pytest.mark.parametrize(
    ("data", "annotations", "code"),
    [
        (None, {"secret": "keys"}, "auth_secret_missing"),
        ({"ca_crt": AUTHORITY.pem}, {"secret": "foreign/keys"}, "auth_secret_foreign"),
        ({}, {"secret": "keys"}, "endpoint_secret_unusable"),
        ({"ca_crt": b"garbage"}, {"secret": "keys"}, "endpoint_secret_unusable"),
        ({"ca_crt": AUTHORITY.pem, "ca_crl": b"garbage"}, {"secret": "keys"}, "endpoint_secret_unusable"),
        ({"tls_crt": CHAIN}, {"secret": "keys"}, "endpoint_secret_unusable"),
        ({"tls_crt": CHAIN, "tls_key": OTHER[1]}, {"secret": "keys"}, "endpoint_secret_unusable"),
    ],
)
def test_a_secret_that_cannot_be_used_closes_the_path_and_leaves_no_endpoint(
    data: dict[str, bytes] | None, annotations: dict[str, str], code: str
) -> None:
    secrets = () if data is None else (secret(**data),)
    found = compiled(*BASE, *secrets, ingress(**annotations))
    [upstream] = found.snapshot.upstreams
    assert (upstream.endpoints, upstream.reason) == ((), code)
    assert found.snapshot.keyrings == ()
    assert codes(found) == [code]


@pytest.mark.parametrize(
    "annotations",
    [
        {"secret": "a/b/c"},
        {"verify": "perhaps"},
        {"verify": "on", "verify_depth": "deep"},
        {"verify": "on", "name": "two words"},
        {"verify": "on", "name": "a.example, b.example"},
        {"protocols": "TLSv1.1"},
        {"ciphers": "a; b"},
    ],
)
def test_an_annotation_that_cannot_be_read_closes_the_path(annotations: dict[str, str]) -> None:
    found = compiled(*BASE, ingress(**annotations))
    [route] = found.snapshot.hosts[0].routes
    assert route.policy is not None
    assert route.policy.closed == "annotation_invalid"


def test_terms_for_endpoints_in_clear_are_a_notice() -> None:
    found = compiled(*BASE, ingress("HTTP", verify="on"))
    assert terms(found.snapshot) is None
    [problem] = found.problems
    assert isinstance(problem, Problem)
    assert problem.code == "endpoint_tls_idle"


@pytest.mark.parametrize("annotations", [{"name": "api.internal"}, {"verify_depth": "2"}])
def test_what_says_more_of_what_is_off_is_a_notice(annotations: dict[str, str]) -> None:
    assert codes(compiled(*BASE, ingress(**annotations))) == ["annotation_idle"]
