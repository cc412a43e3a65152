"""`compile/client_certificates.py`: what Ingresses ask of clients' certificates."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certs import issue
from portway_operator.objects import Kind, Meta, Secret
from portway_operator.settings import CompileSettings
from portway_proxy.snapshot import ClientCertificate, Severity, Snapshot, Verification
from scenes import CLASS, SERVICE, SLICE, codes, compiled

NGINX = "nginx.ingress.kubernetes.io/auth-tls-"
CA = issue("authority")[0]


def secret(ca_crt: bytes = b"", ca_crl: bytes = b"", name: str = "ca") -> Secret:
    data = {"ca.crt": ca_crt, "ca.crl": ca_crl}
    return Secret(Meta("shop", name), "Opaque", {key: value for key, value in data.items() if value})


def ingress(name: str, path: str = "/", born: str = "1", **annotations: str) -> str:
    lines = "".join(f"    {NGINX}{key.replace('_', '-')}: {value!r}\n" for key, value in annotations.items())
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {name}
  namespace: shop
  creationTimestamp: 2024-01-0{born}T00:00:00Z
  annotations:
    portway.dev/ssl-redirect: "true"
{lines}
spec:
  ingressClassName: portway
  rules:
  - host: shop.example
    http:
      paths:
      - {{path: {path}, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}
"""


def asked(snapshot: Snapshot) -> dict[str, ClientCertificate | str | None]:
    """Return what each path asks for; the code of the problem where it is closed."""
    return {
        route.path: None if route.policy is None else route.policy.closed or route.policy.certificate
        for host in snapshot.hosts
        for route in host.routes
    }


BASE = (CLASS, SERVICE, SLICE)
DAY = 86_400
NOW = datetime.datetime.now(datetime.UTC)
TODAY = int(NOW.timestamp()) // DAY


def revocations(days: int) -> bytes:
    """Return a list of revoked certificates that is good for so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateRevocationListBuilder().issuer_name(x509.Name([]))
    builder = builder.last_update(NOW - datetime.timedelta(days=30)).next_update(NOW + datetime.timedelta(days=days))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_an_ingress_asks_clients_of_its_hosts_for_certificates_of_an_authority() -> None:
    found = compiled(
        *BASE,
        secret(ca_crt=CA),
        ingress("a", secret="shop/ca", verify_client="optional", verify_depth="3", match_cn="CN=x"),
    )
    [authority] = found.snapshot.authorities
    assert (authority.hosts, authority.ca, authority.depth) == (("shop.example",), CA, 3)
    assert asked(found.snapshot) == {"/": ClientCertificate(authority.name, Verification.OPTIONAL, "CN=x")}
    assert found.named == {(Kind.SECRET, "shop", "ca")}
    assert codes(found) == []


def test_other_paths_of_the_host_ask_for_the_same_or_they_would_lead_around_it() -> None:
    found = compiled(*BASE, secret(ca_crt=CA), ingress("a", secret="ca", born="2"), ingress("open", "/open", born="1"))
    [authority] = found.snapshot.authorities
    assert asked(found.snapshot) == dict.fromkeys(("/open", "/"), ClientCertificate(authority.name))


def test_an_ingress_that_asks_for_something_else_is_closed() -> None:
    found = compiled(
        *BASE,
        secret(ca_crt=CA),
        secret(issue("other")[0], name="other"),
        ingress("a", secret="ca"),
        ingress("b", "/b", born="2", secret="other"),
    )
    [authority] = found.snapshot.authorities
    assert asked(found.snapshot) == {"/b": "client_rules_taken", "/": ClientCertificate(authority.name)}
    assert codes(found) == ["client_rules_taken"]


@pytest.mark.parametrize(
    ("data", "annotations", "code"),
    [
        ((b"", b""), {"secret": "ca"}, "client_authority_unusable"),
        ((b"garbage", b""), {"secret": "ca"}, "client_authority_unusable"),
        ((CA, b"garbage"), {"secret": "ca"}, "client_authority_unusable"),
        ((CA, revocations(9)[:-30]), {"secret": "ca"}, "client_authority_unusable"),
        ((CA, revocations(9) + revocations(9)[:-30]), {"secret": "ca"}, "client_authority_unusable"),
        ((CA, b""), {"secret": "none"}, "auth_secret_missing"),
        ((CA, b""), {"secret": "foreign/ca"}, "auth_secret_foreign"),
        ((CA, b""), {"secret": "ca", "verify_client": "perhaps"}, "annotation_invalid"),
        ((CA, b""), {"secret": "ca", "verify_depth": "deep"}, "annotation_invalid"),
        ((CA, b""), {"secret": "ca", "match_cn": "alice"}, "annotation_invalid"),
        ((CA, b""), {"secret": "ca", "match_cn": "CN=("}, "annotation_invalid"),
    ],
)
def test_what_cannot_be_read_closes_the_path(data: tuple[bytes, bytes], annotations: dict[str, str], code: str) -> None:
    found = compiled(*BASE, secret(*data), ingress("a", **annotations))
    assert asked(found.snapshot) == {"/": code}
    assert [problem.code for problem in found.problems if problem.severity is Severity.ERROR] == [code]
    assert found.snapshot.authorities == ()


@pytest.mark.parametrize(
    ("ca_days", "crl_days", "code", "severity"),
    [
        ((15,), (1, 9), "", None),
        ((14,), (9,), "client_authority_expires", Severity.NOTICE),
        ((-5, 60), (9,), "", None),
        ((-5, -2), (), "client_authority_expired", Severity.ERROR),
        ((60,), (9, -2), "client_authority_expired", Severity.ERROR),
    ],
)
def test_authorities_and_lists_that_end_are_a_problem_before_nobody_is_let_in_any_more(
    ca_days: tuple[int, ...], crl_days: tuple[int, ...], code: str, severity: Severity | None
) -> None:
    ca = b"".join(issue("authority", days=days)[0] for days in ca_days)
    crl = b"".join(map(revocations, crl_days))
    found = compiled(*BASE, secret(ca, crl), ingress("a", secret="ca"), settings=CompileSettings(today=TODAY))
    told = [problem for problem in found.problems if problem.code.startswith("client_authority")]
    assert [(problem.code, problem.severity) for problem in told] == ([(code, severity)] if code else [])
    [authority] = found.snapshot.authorities
    assert (authority.ca, authority.crl) == (ca, crl)


def test_off_asks_nobody() -> None:
    found = compiled(*BASE, secret(ca_crt=CA), ingress("a", secret="ca", verify_client="off"))
    assert asked(found.snapshot) == {"/": None}


def test_rules_have_another_name_when_anything_about_them_changes() -> None:
    names = {
        compiled(*BASE, secret(ca_crt=ca), ingress("a", secret="ca", verify_depth=depth)).snapshot.authorities[0].name
        for ca, depth in ((CA, "1"), (CA, "2"), (issue("new")[0], "1"))
    }
    assert len(names) == 3


def test_a_host_that_asks_is_not_passed_through() -> None:
    text = ingress("a", secret="ca").replace(
        "    portway.dev/ssl-redirect", '    portway.dev/tls-passthrough: "true"\n    portway.dev/ssl-redirect'
    )
    found = compiled(*BASE, secret(ca_crt=CA), text)
    assert found.snapshot.passthroughs == ()
    assert "passthrough_guarded" in codes(found)
