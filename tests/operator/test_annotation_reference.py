from __future__ import annotations

from pathlib import Path

import pytest

from portway_operator.annotations import IngressAnnotations, Invalid, Row, other_rows, read, rows
from portway_operator.annotations.fidelity import Grade
from portway_operator.annotations.reference import reference
from portway_operator.objects import Ingress, Meta

NGINX = "nginx.ingress.kubernetes.io/"
UNBUILT = {row.nginx[0]: row for row in other_rows(IngressAnnotations)}

# The annotations that ingress-nginx documents (docs/user-guide/nginx-configuration/annotations-risk.md of its last
# version), and the older names that it still reads.
_NAMES = """
affinity affinity-canary-behavior affinity-mode allowlist-source-range app-root auth-always-set-cookie
auth-cache-duration auth-cache-key auth-keepalive auth-keepalive-requests auth-keepalive-share-vars
auth-keepalive-timeout auth-method auth-proxy-set-headers auth-realm auth-request-redirect auth-response-headers
auth-secret auth-secret-type auth-signin auth-signin-redirect-param auth-snippet auth-tls-error-page auth-tls-match-cn
auth-tls-pass-certificate-to-upstream auth-tls-secret auth-tls-verify-client auth-tls-verify-depth auth-type auth-url
backend-protocol canary canary-by-cookie canary-by-header canary-by-header-pattern canary-by-header-value canary-weight
canary-weight-total client-body-buffer-size configuration-snippet connection-proxy-header cors-allow-credentials
cors-allow-headers cors-allow-methods cors-allow-origin cors-expose-headers cors-max-age custom-headers
custom-http-errors default-backend denylist-source-range disable-proxy-intercept-errors enable-access-log enable-cors
enable-global-auth enable-modsecurity enable-opentelemetry enable-owasp-core-rules enable-rewrite-log fastcgi-index
fastcgi-params-configmap force-ssl-redirect from-to-www-redirect http2-push-preload limit-allowlist
limit-burst-multiplier limit-connections limit-rate limit-rate-after limit-rpm limit-rps load-balance mirror-host
mirror-request-body mirror-target modsecurity-snippet modsecurity-transaction-id opentelemetry-operation-name
opentelemetry-trust-incoming-span permanent-redirect permanent-redirect-code preserve-trailing-slash proxy-body-size
proxy-buffer-size proxy-buffering proxy-buffers-number proxy-busy-buffers-size proxy-connect-timeout
proxy-cookie-domain proxy-cookie-path proxy-http-version proxy-max-temp-file-size proxy-next-upstream
proxy-next-upstream-timeout proxy-next-upstream-tries proxy-read-timeout proxy-redirect-from proxy-redirect-to
proxy-request-buffering proxy-send-timeout proxy-ssl-ciphers proxy-ssl-name proxy-ssl-protocols proxy-ssl-secret
proxy-ssl-server-name proxy-ssl-verify proxy-ssl-verify-depth relative-redirects rewrite-target satisfy server-alias
server-snippet service-upstream session-cookie-change-on-failure session-cookie-conditional-samesite-none
session-cookie-domain session-cookie-expires session-cookie-max-age session-cookie-name session-cookie-partitioned
session-cookie-path session-cookie-samesite session-cookie-secure ssl-ciphers ssl-passthrough
ssl-prefer-server-ciphers ssl-redirect stream-snippet temporal-redirect temporal-redirect-code upstream-hash-by
upstream-hash-by-subset upstream-hash-by-subset-size upstream-vhost use-port-in-redirects use-regex x-forwarded-prefix
limit-whitelist whitelist-source-range
"""
DOCUMENTED = _NAMES.split()


def table() -> list[Row]:
    return [*rows(IngressAnnotations).values(), *other_rows(IngressAnnotations)]


def test_the_page_in_the_documentation_says_what_the_table_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "annotations.md"
    assert page.read_text().splitlines() == reference().splitlines(), "run `make reference`"


def test_every_annotation_of_ingress_nginx_has_one_row() -> None:
    names = [name for row in table() for name in row.nginx]
    assert sorted(set(DOCUMENTED) - set(names)) == []
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_what_is_not_exact_says_why() -> None:
    for row in table():
        fidelity = row.fidelity
        assert (fidelity.grade is Grade.EXACT) is not fidelity.words.endswith("."), row
        assert fidelity.remedy.endswith(".") is (fidelity.grade in (Grade.REFUSED, Grade.OBSOLETE)), row


def test_a_row_without_a_field_is_never_said_to_be_built() -> None:
    assert {row.fidelity.grade for row in UNBUILT.values()} == {Grade.REFUSED, Grade.OBSOLETE}


@pytest.mark.parametrize("name", UNBUILT)
def test_what_is_not_built_is_a_problem_when_it_is_used(name: str) -> None:
    reading = read(IngressAnnotations, Ingress(Meta("shop", "web", annotations={NGINX + name: "something"})))
    [problem] = reading.problems
    assert (problem.code, problem.origin.field) == ("annotation_refused", f"metadata.annotations[{NGINX}{name}]")
    assert (problem.found, problem.remedy) == (UNBUILT[name].fidelity.words, UNBUILT[name].fidelity.remedy)
    assert bool(reading.closed) is (UNBUILT[name].invalid is Invalid.CLOSE)


GUARDS = ["auth-snippet", "enable-modsecurity", "configuration-snippet"]


@pytest.mark.parametrize("name", GUARDS)
def test_what_would_guard_a_path_and_is_not_built_closes_it(name: str) -> None:
    reading = read(IngressAnnotations, Ingress(Meta("shop", "web", annotations={NGINX + name: "true"})))
    assert reading.closed == "annotation_refused"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enable-modsecurity", "false"),
        ("proxy-ssl-verify", "off"),
        ("mirror-target", ""),
        ("auth-proxy-set-headers", ""),
    ],
)
def test_what_asks_for_nothing_is_no_problem(name: str, value: str) -> None:
    reading = read(IngressAnnotations, Ingress(Meta("shop", "web", annotations={NGINX + name: value})))
    assert (reading.problems, reading.closed) == ((), "")


@pytest.mark.parametrize("name", sorted({name for row in table() for name in row.nginx}))
def test_every_annotation_is_in_a_golden_case(name: str) -> None:
    cases = (Path(__file__).parent / "golden").glob("*.yaml")
    assert any(f"{NGINX}{name}: " in case.read_text() for case in cases)
