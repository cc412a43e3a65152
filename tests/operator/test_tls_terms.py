"""`compile/tls_terms.py`: ingress-nginx's keys about TLS."""

from __future__ import annotations

import pytest

from portway_operator.compile.tls_terms import WITHOUT_EFFECT
from portway_operator.settings import CompileSettings
from portway_proxy.snapshot import TlsTerms
from scenes import SHOP, codes, compiled

SETTINGS = CompileSettings(config_map="shop/settings")


def config_map(**data: str) -> str:
    lines = "".join(f"  {name.replace('_', '-')}: {value!r}\n" for name, value in data.items())
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings, namespace: shop}}\ndata:\n{lines}"


@pytest.mark.parametrize(
    ("data", "terms"),
    [
        ({"hsts": "true"}, None),
        ({"hsts": "false"}, TlsTerms(hsts="")),
        ({"hsts_max_age": "5", "hsts_preload": "true"}, TlsTerms(hsts="max-age=5; includeSubDomains; preload")),
        ({"hsts_include_subdomains": "false"}, TlsTerms(hsts="max-age=31536000")),
        ({"ssl_protocols": "TLSv1.3"}, TlsTerms(protocols=("TLSv1.3",))),
        ({"ssl_protocols": "TLSv1 TLSv1.1 TLSv1.2 TLSv1.3"}, None),
        ({"ssl_ciphers": "ECDHE-RSA-AES128-GCM-SHA256:!aNULL"}, TlsTerms(ciphers="ECDHE-RSA-AES128-GCM-SHA256:!aNULL")),
        ({"ssl_ecdh_curve": "auto"}, None),
        ({"ssl_ecdh_curve": "X25519:prime256v1"}, TlsTerms(curves="X25519:prime256v1")),
        ({"ssl_session_tickets": "false"}, TlsTerms(tickets=False)),
        ({"ssl_session_timeout": "10m"}, TlsTerms(session_timeout=600)),
        ({"ssl_reject_handshake": "true"}, TlsTerms(reject_unknown=True)),
        ({"http_redirect_code": "301"}, TlsTerms(redirect=301)),
        ({"no_tls_redirect_locations": "/a,/b"}, TlsTerms(plain_paths=("/a", "/b"))),
    ],
)
def test_a_key_of_ingress_nginx_says_how_tls_is_spoken(data: dict[str, str], terms: TlsTerms | None) -> None:
    found = compiled(SHOP, config_map(**data), settings=SETTINGS)
    assert found.snapshot.tls == terms
    assert not [code for code in codes(found) if code.startswith("config_")]


@pytest.mark.parametrize(
    "data",
    [
        {"ssl_protocols": "TLSv1.1"},
        {"ssl_protocols": "TLSv1.4"},
        {"ssl_ciphers": "a; evil"},
        {"ssl_ecdh_curve": ""},
        {"ssl_session_timeout": "0"},
        {"http_redirect_code": "200"},
        {"hsts_max_age": "-1"},
        {"no_tls_redirect_locations": "acme"},
    ],
)
def test_a_value_that_cannot_be_used_leaves_the_usual_and_says_so(data: dict[str, str]) -> None:
    found = compiled(SHOP, config_map(**data), settings=SETTINGS)
    assert found.snapshot.tls is None
    assert "config_value_invalid" in codes(found)


@pytest.mark.parametrize("name", sorted(WITHOUT_EFFECT))
def test_a_key_that_nothing_can_be_set_by_says_why(name: str) -> None:
    found = compiled(SHOP, config_map(**{name: "on"}), settings=SETTINGS)
    [told] = [problem for problem in found.problems if problem.code == "config_key_idle"]
    assert told.origin.field == f"data[{name}]"
    assert told.found == WITHOUT_EFFECT[name]
