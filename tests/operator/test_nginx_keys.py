"""The ConfigMap of ingress-nginx: every key of it is read, or said to have no effect."""

from __future__ import annotations

import pytest

from portway_operator.compile import for_all, tls_terms, tuning
from portway_operator.compile.configuration import KEYS
from portway_operator.compile.nginx_keys import NGINX_KEYS, is_nginx
from portway_operator.objects import ConfigMap, Meta
from portway_operator.problems import Severity
from portway_operator.settings import CompileSettings
from portway_proxy.snapshot import Blocked, Policy, Rate
from scenes import SHOP, compiled

# The options of docs/user-guide/nginx-configuration/configmap.md of ingress-nginx, and those that only its code has
# (internal/ingress/controller/config/config.go and internal/ingress/defaults/main.go).
_NAMES = """
access-log-params access-log-path add-headers allow-backend-server-header allow-cross-namespace-resources
allow-snippet-annotations annotation-value-word-blocklist annotations-risk-level app-root bind-address
bind-address-ipv4 bind-address-ipv6 block-cidrs block-referers block-user-agents brotli-level brotli-min-length
brotli-types client-body-buffer-size client-body-timeout client-header-buffer-size client-header-timeout
compute-full-forwarded-for custom-http-errors datadog-collector-host debug-connections default-type
denylist-source-range disable-access-log disable-http-access-log disable-ipv6 disable-ipv6-dns
disable-proxy-intercept-errors disable-stream-access-log enable-access-log-for-default-backend enable-aio-write
enable-auth-access-log enable-brotli enable-modsecurity enable-multi-accept enable-ocsp enable-opentelemetry
enable-opentracing enable-owasp-modsecurity-crs enable-real-ip enable-syslog enable-underscores-in-headers
error-log-level error-log-path force-ssl-redirect forwarded-for-header generate-request-id
geoip2-autoreload-in-minutes global-allowed-response-headers global-auth-always-set-cookie
global-auth-cache-duration global-auth-cache-key global-auth-method global-auth-request-redirect
global-auth-response-headers global-auth-signin global-auth-signin-redirect-param global-auth-snippet
global-auth-url global-rate-limit-memcached-host grpc-buffer-size-kb gzip-disable gzip-level gzip-min-length
gzip-types hide-headers hsts hsts-include-subdomains hsts-max-age hsts-preload http-access-log-path
http-redirect-code http-snippet http2-max-concurrent-streams http2-max-field-size http2-max-header-size
http2-max-requests ignore-invalid-headers jaeger-collector-host keep-alive keep-alive-requests
large-client-header-buffers limit-conn-status-code limit-conn-zone-variable limit-rate limit-rate-after
limit-req-status-code load-balance location-snippet log-format-escape-json log-format-escape-none
log-format-stream log-format-upstream lua-shared-dicts main-snippet map-hash-bucket-size max-worker-connections
max-worker-open-files modsecurity-snippet nginx-status-ipv4-whitelist nginx-status-ipv6-whitelist
no-auth-locations no-tls-redirect-locations opentelemetry-config opentelemetry-operation-name
opentelemetry-trust-incoming-span opentracing-operation-name otel-max-export-batch-size otel-max-queuesize
otel-sampler otel-sampler-parent-based otel-sampler-ratio otel-schedule-delay-millis otel-service-name
otlp-collector-host otlp-collector-port plugins preserve-trailing-slash proxy-add-original-uri-header
proxy-body-size proxy-buffer-size proxy-buffering proxy-buffers-number proxy-busy-buffers-size
proxy-connect-timeout proxy-cookie-domain proxy-cookie-path proxy-headers-hash-bucket-size
proxy-headers-hash-max-size proxy-http-version proxy-max-temp-file-size proxy-next-upstream
proxy-next-upstream-timeout proxy-next-upstream-tries proxy-protocol-header-timeout proxy-read-timeout
proxy-real-ip-cidr proxy-redirect-from proxy-redirect-to proxy-request-buffering proxy-send-timeout
proxy-set-headers proxy-ssl-location-only proxy-stream-next-upstream proxy-stream-next-upstream-timeout
proxy-stream-next-upstream-tries proxy-stream-responses proxy-stream-timeout relative-redirects
retry-non-idempotent reuse-port server-name-hash-bucket-size server-name-hash-max-size server-snippet
server-tokens service-upstream skip-access-log-urls ssl-buffer-size ssl-ciphers ssl-dh-param ssl-early-data
ssl-ecdh-curve ssl-protocols ssl-redirect ssl-reject-handshake ssl-session-cache ssl-session-cache-size
ssl-session-ticket-key ssl-session-tickets ssl-session-timeout stream-access-log-path stream-snippet
strict-validate-path-type syslog-host syslog-port upstream-hash-by upstream-hash-by-subset
upstream-hash-by-subset-size upstream-keepalive-connections upstream-keepalive-requests upstream-keepalive-time
upstream-keepalive-timeout use-forwarded-headers use-geoip use-geoip2 use-gzip use-http2 use-port-in-redirects
use-proxy-protocol variables-hash-bucket-size variables-hash-max-size whitelist-source-range
worker-cpu-affinity worker-processes worker-serial-reloads worker-shutdown-timeout zipkin-collector-host
"""


READ = {*KEYS, *for_all.KEYS, *tuning.KEYS, *tls_terms.WITHOUT_EFFECT}

_SETTINGS = CompileSettings(config_map="nginx/nginx")


def said(name: str, value: str) -> list[tuple[str, Severity]]:
    found = compiled(SHOP, ConfigMap(Meta("nginx", "nginx"), {name: value}), settings=_SETTINGS).problems
    return [(problem.code, problem.severity) for problem in found if problem.origin.kind == "ConfigMap"]


def policy(data: dict[str, str]) -> Policy | None:
    snapshot = compiled(SHOP, ConfigMap(Meta("nginx", "nginx"), data), settings=_SETTINGS).snapshot
    return snapshot.hosts[0].routes[0].policy


@pytest.mark.parametrize("name", _NAMES.split())
def test_no_key_of_ingress_nginx_is_unknown(name: str) -> None:
    # One that goes to standard output there; here only who starts the proxies may name a file.
    if name != "access-log-path":
        assert name in READ or is_nginx(name)


def test_a_key_that_is_read_has_no_row_that_says_it_is_not() -> None:
    assert not NGINX_KEYS.keys() & READ


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("worker-processes", "auto", [("config_key_idle", Severity.NOTICE)]),
        ("use-gzip", "false", []),
        ("use-gzip", "true", [("config_key_refused", Severity.NOTICE)]),
        ("load-balance", "round_robin", []),
        ("load-balance", "fair", [("config_value_invalid", Severity.ERROR)]),
        ("global-auth-url", "nowhere", [("config_value_invalid", Severity.ERROR)]),
        ("global-auth-cache-duration", "soon", [("config_value_invalid", Severity.ERROR)]),
        ("no-auth-locations", "acme", [("config_value_invalid", Severity.ERROR)]),
        ("retry-non-idempotent", "perhaps", [("config_value_invalid", Severity.ERROR)]),
        ("enable-modsecurity", "false", []),
        ("enable-modsecurity", "true", [("config_key_refused", Severity.ERROR)]),
        ("http-snippet", "map $a $b {}", [("config_key_refused", Severity.NOTICE)]),
        ("jaeger-collector-host", "jaeger", [("config_key_idle", Severity.NOTICE)]),
        ("whitelist-source-range", "somewhere", [("config_value_invalid", Severity.ERROR)]),
        ("worker-proceses", "4", [("config_key_unknown", Severity.NOTICE)]),
    ],
)
def test_a_key_without_a_setting_says_so_unless_its_value_changes_nothing(
    name: str, value: str, expected: list[tuple[str, Severity]]
) -> None:
    assert said(name, value) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"whitelist-source-range": "10.0.0.0/8"}, Policy(allow=("10.0.0.0/8",))),
        ({"denylist-source-range": "192.0.2.1"}, Policy(deny=("192.0.2.1/32",))),
        (
            {"denylist-source-range": "192.0.2.1", "block-cidrs": "10.0.0.0/8"},
            Policy(deny=("10.0.0.0/8", "192.0.2.1/32")),
        ),
        ({"force-ssl-redirect": "true"}, Policy(https_redirect=True)),
        ({"whitelist-source-range": "no"}, Policy(closed="config_value_invalid")),
        ({"enable-modsecurity": "true"}, Policy(closed="config_key_refused")),
        ({"use-gzip": "true"}, None),
        ({"allow-backend-server-header": "false", "hide-headers": "X-Inner"}, Policy(hidden=("server", "x-inner"))),
        ({"allow-backend-server-header": "true"}, None),
        ({"hide-headers": "X-Inner, Server"}, Policy(hidden=("server", "x-inner"))),
        (
            {"block-user-agents": "~*curl, bot", "block-referers": "spam.example"},
            Policy(blocked=Blocked(("bot", "~*curl"), ("spam.example",))),
        ),
        ({"block-user-agents": "~*("}, Policy(closed="config_value_invalid")),
        ({"limit-req-status-code": "429"}, None),
        ({"proxy-add-original-uri-header": "true"}, Policy(request=(("X-Original-Uri", "$request_uri"),))),
        ({"limit-rate": "1"}, Policy(rate=Rate(1024))),
    ],
)
def test_what_the_config_map_says_counts_for_an_ingress_that_says_nothing(
    data: dict[str, str], expected: Policy | None
) -> None:
    assert policy(data) == expected
