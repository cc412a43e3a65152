"""Every annotation of ingress-nginx that is built, on real requests to `portway run`, with an endpoint that reports.

A row of the table that is in no case here is shown by a test that `ELSEWHERE` names.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest
from aiohttp import web

from portway_operator.annotations import IngressAnnotations, rows
from wire.command import ANY_PORTS, portway

NGINX = "nginx.ingress.kubernetes.io/"
TESTS = Path(__file__).parent
PASSWORD = {"Authorization": "Basic " + base64.b64encode(b"ada:password").decode()}
EVIL = {"Origin": "https://evil.example"}
GOOD = {"Origin": "https://good.example"}


@dataclass(frozen=True)
class Answer:
    """What a client got, and in `told` what the endpoint says that reached it."""

    status: int
    fields: Mapping[str, str]
    text: str
    seconds: float

    @property
    def told(self) -> dict[str, Any]:
        return dict(json.loads(self.text))

    def field(self, name: str) -> str:
        return self.fields.get(name, "")

    def reached(self, name: str) -> str:
        """Return a field that the endpoint got."""
        return str(self.told["fields"].get(name.lower(), ""))


Claim = Callable[[Answer], bool]


@dataclass(frozen=True)
class Case:
    """Annotations, a request, and what has to be so of the last of so many answers."""

    annotations: dict[str, str]
    claim: Claim
    path: str = "/"
    method: str = "GET"
    fields: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    times: int = 1
    rule: tuple[str, str] = ("/", "Prefix")
    host: str = ""
    declared: str = ""
    tls: bool = False
    nginx: bool = False
    to: str = "web"


def status(number: int) -> Claim:
    return lambda got: got.status == number


def location(text: str) -> Claim:
    return lambda got: got.field("Location") == text


def has(name: str, text: str) -> Claim:
    return lambda got: got.field(name) == text


BASIC = {"auth-type": "basic", "auth-secret": "users"}
AUTH = {"auth-url": "http://web.default.svc/auth"}
NOBODY = {"auth-url": "http://web.default.svc/status/401"}
COOKIE = {"affinity": "cookie"}
CORS = {"enable-cors": "true"}
CASES = [
    # --- routing
    Case(
        {"rewrite-target": "/$2", "x-forwarded-prefix": "/api"},
        lambda got: (got.told["path"], got.reached("x-forwarded-prefix")) == ("/a?b", "/api"),
        path="/api/a?b",
        rule=("/api(/|$)(.*)", "ImplementationSpecific"),
    ),
    Case({"use-regex": "true"}, status(200), path="/V12", rule=("/v[0-9]+", "ImplementationSpecific")),
    Case({"app-root": "/app"}, lambda got: got.field("Location").endswith(".example/app")),
    Case({"app-root": "/app", "relative-redirects": "true"}, location("/app")),
    Case({"force-ssl-redirect": "true"}, lambda got: got.status == 308 and got.field("Location").startswith("https:")),
    Case({"permanent-redirect": "https://a.example$request_uri"}, location("https://a.example/x?y"), path="/x?y"),
    Case({"permanent-redirect": "https://a.example", "permanent-redirect-code": "308"}, status(308)),
    Case({"temporal-redirect": "https://a.example"}, status(302)),
    Case({"temporal-redirect": "https://a.example", "temporal-redirect-code": "307"}, status(307)),
    Case({"server-alias": "alias.example"}, lambda got: got.reached("host") == "alias.example", host="alias.example"),
    Case(
        {"from-to-www-redirect": "true"},
        location("http://bare.example/a?b"),
        path="/a?b",
        host="www.bare.example",
        declared="bare.example",
    ),
    Case({"ssl-redirect": "false"}, status(200), tls=True),
    Case({"ssl-redirect": "true"}, status(308), tls=True),
    Case(
        {"use-port-in-redirects": "true"},
        lambda got: re.search(r":[0-9]+/a/$", got.field("Location")) is not None,
        path="/a",
        rule=("/a/", "Prefix"),
        nginx=True,
    ),
    Case({"upstream-vhost": "inner.example"}, lambda got: got.reached("host") == "inner.example"),
    # --- who may come
    Case({"whitelist-source-range": "192.0.2.0/24"}, status(403)),
    Case({"allowlist-source-range": "127.0.0.0/8"}, status(200)),
    Case({"denylist-source-range": "127.0.0.0/8"}, status(403)),
    Case({**BASIC, "auth-realm": "shop"}, has("WWW-Authenticate", 'Basic realm="shop"')),
    Case(BASIC, lambda got: got.status == 200 and not got.reached("authorization"), fields=PASSWORD),
    Case({**BASIC, "auth-secret": "map", "auth-secret-type": "auth-map"}, status(200), fields=PASSWORD),
    Case({**BASIC, "whitelist-source-range": "127.0.0.1", "satisfy": "any"}, status(200)),
    Case(NOBODY, status(401)),
    Case(
        {**NOBODY, "auth-signin": "https://in.example/", "auth-signin-redirect-param": "back"},
        lambda got: "back=http" in got.field("Location"),
    ),
    Case({**AUTH, "auth-response-headers": "X-User"}, lambda got: got.reached("x-user") == "ada"),
    Case({"auth-url": "http://web.default.svc/method/HEAD", "auth-method": "HEAD"}, status(200)),
    Case({"auth-url": "http://web.default.svc/redirected/to-me", "auth-request-redirect": "to-me"}, status(200)),
    Case({"auth-url": "http://web.default.svc/team/shop", "auth-proxy-set-headers": "team"}, status(200)),
    Case(
        {**AUTH, "auth-always-set-cookie": "true"}, lambda got: "seen=1" in got.field("Set-Cookie"), path="/status/418"
    ),
    Case(
        {
            "auth-url": "http://web.default.svc/once/key",
            "auth-cache-key": "$http_host",
            "auth-cache-duration": "200 1m",
        },
        status(200),
        times=3,
    ),
    Case({**AUTH, "enable-global-auth": "false"}, status(200)),
    # --- limits
    Case({"limit-rps": "1", "limit-burst-multiplier": "1"}, status(503), times=9),
    Case({"limit-rpm": "1", "limit-burst-multiplier": "1"}, status(503), times=9),
    Case({"limit-rpm": "1", "limit-whitelist": "127.0.0.0/8"}, status(200), times=9),
    Case({"limit-rpm": "1", "limit-allowlist": "127.0.0.0/8"}, status(200), times=9),
    Case({"limit-connections": "1"}, status(200)),
    Case({"limit-rate": "4", "limit-rate-after": "4"}, lambda got: got.seconds > 0.5, path="/long/12000"),
    Case({"proxy-body-size": "1k"}, status(413), method="POST", body=b"x" * 2000),
    # --- cross-origin requests
    Case({**CORS, "cors-allow-origin": "https://good.example"}, has("Access-Control-Allow-Origin", ""), fields=EVIL),
    Case({**CORS, "cors-allow-methods": "PUT"}, has("Access-Control-Allow-Methods", "PUT"), "/", "OPTIONS", GOOD),
    Case({**CORS, "cors-allow-headers": "X-A"}, has("Access-Control-Allow-Headers", "X-A"), "/", "OPTIONS", GOOD),
    Case({**CORS, "cors-expose-headers": "X-B"}, has("Access-Control-Expose-Headers", "X-B"), fields=GOOD),
    Case({**CORS, "cors-allow-credentials": "false"}, has("Access-Control-Allow-Credentials", ""), fields=GOOD),
    Case({**CORS, "cors-max-age": "7"}, has("Access-Control-Max-Age", "7"), "/", "OPTIONS", GOOD),
    # --- fields, cookies and redirects of answers
    Case({"custom-headers": "fields"}, has("X-Team", "shop")),
    Case(
        {"proxy-cookie-domain": "old.example new.example"},
        lambda got: "Domain=new.example" in got.field("Set-Cookie"),
        path="/cookie",
    ),
    Case({"proxy-cookie-path": "/old /new"}, lambda got: "Path=/new" in got.field("Set-Cookie"), path="/cookie"),
    Case({"proxy-redirect-from": "http://old/", "proxy-redirect-to": "/new/"}, location("/new/x"), path="/redirect"),
    # --- endpoints
    Case({**COOKIE, "session-cookie-name": "stay"}, lambda got: got.field("Set-Cookie").startswith("stay=")),
    Case({**COOKIE, "session-cookie-path": "/p"}, lambda got: "Path=/p" in got.field("Set-Cookie")),
    Case({**COOKIE, "session-cookie-domain": "a.example"}, lambda got: "Domain=a.example" in got.field("Set-Cookie")),
    Case({**COOKIE, "session-cookie-max-age": "60"}, lambda got: "Max-Age=60" in got.field("Set-Cookie")),
    Case({**COOKIE, "session-cookie-expires": "60"}, lambda got: "Expires=" in got.field("Set-Cookie")),
    Case({**COOKIE, "session-cookie-samesite": "Strict"}, lambda got: "SameSite=Strict" in got.field("Set-Cookie")),
    Case({**COOKIE, "session-cookie-secure": "true"}, lambda got: "Secure" in got.field("Set-Cookie")),
    Case({**COOKIE, "session-cookie-partitioned": "true"}, lambda got: "Partitioned" in got.field("Set-Cookie")),
    Case({**COOKIE, "affinity-mode": "persistent"}, lambda got: "INGRESSCOOKIE=" in got.field("Set-Cookie")),
    Case({"load-balance": "ewma"}, status(200), times=3),
    Case(
        {"upstream-hash-by": "$request_uri", "upstream-hash-by-subset": "true", "upstream-hash-by-subset-size": "2"},
        status(200),
    ),
    Case(
        {"proxy-next-upstream": "http_503", "proxy-next-upstream-tries": "2", "proxy-next-upstream-timeout": "5"},
        status(503),
        path="/status/503",
    ),
    Case({"proxy-read-timeout": "1"}, status(504), path="/silent"),
    Case({"proxy-connect-timeout": "1", "proxy-send-timeout": "1"}, status(200)),
    # --- errors
    Case(
        {"custom-http-errors": "404", "default-backend": "pages"},
        lambda got: got.told["fields"]["x-code"] == "404",
        path="/status/404",
    ),
    Case({"default-backend": "pages"}, lambda got: got.told["fields"]["x-code"] == "418", path="/status/418"),
    Case(
        {"default-backend": "pages", "disable-proxy-intercept-errors": "true"},
        lambda got: (got.status, got.text) == (418, "none"),
        path="/status/418",
    ),
    # --- endpoints
    Case({"service-upstream": "true"}, status(200), to="inner"),
    Case({"service-upstream": "false"}, status(502), to="inner"),
    # --- bytes
    Case(
        {"proxy-request-buffering": "on", "client-body-buffer-size": "1k"},
        lambda got: got.told["body"] == "body",
        method="POST",
        body=b"body",
    ),
    Case(
        {"proxy-buffering": "on", "proxy-buffers-number": "8", "proxy-buffer-size": "128k"},
        lambda got: len(got.field("X-Long")) == 7000,
        path="/head/7000",
    ),
    Case({"proxy-http-version": "1.0"}, lambda got: got.told["version"] == "1.0"),
    Case({"connection-proxy-header": "keep-alive"}, lambda got: got.reached("connection") == "keep-alive"),
]

ELSEWHERE = """
test_affinity_of_ingresses.py test_a_cookie_is_given_once_and_keeps_its_client_where_it_is: affinity
test_affinity_of_ingresses.py test_the_canarys_rules_count_before_the_cookie_where_that_is_asked_for:
    affinity_canary_behavior
test_affinity_of_ingresses.py test_a_failure_changes_the_cookie_where_that_is_asked_for:
    session_cookie_change_on_failure
test_affinity_of_ingresses.py test_browsers_that_misread_same_site_none_get_none:
    session_cookie_conditional_samesite_none
test_client_certificates.py test_a_good_certificate_is_let_in_and_told_to_the_endpoint:
    auth_tls_pass_certificate_to_upstream
test_client_certificates.py test_who_is_let_in_with_nothing_a_strangers_and_an_expired_certificate:
    auth_tls_secret auth_tls_verify_client
test_client_certificates.py test_revoked_certificates_and_long_chains_are_not_let_in: auth_tls_verify_depth
test_client_certificates.py test_a_name_that_does_not_fit_is_forbidden_and_an_error_page_takes_the_place_of_the_400:
    auth_tls_error_page auth_tls_match_cn
test_edits.py test_requests_of_a_quiet_route_leave_no_access_line_whatever_became_of_them: access_log
test_endpoints_over_tls.py test_a_verified_endpoint_is_told_its_name_only_where_that_is_asked_for:
    proxy_ssl_verify proxy_ssl_name proxy_ssl_server_name
test_endpoints_over_tls.py test_endpoints_that_ask_are_shown_the_certificate_of_the_keyring: proxy_ssl_secret
test_endpoints_over_tls.py test_a_chain_is_as_long_as_it_may_be: proxy_ssl_verify_depth
test_endpoints_over_tls.py test_versions_are_those_that_are_asked_for: proxy_ssl_protocols
test_endpoints_over_tls.py test_ciphers_are_those_that_are_asked_for: proxy_ssl_ciphers
test_grpc.py test_over_tls_on_both_sides: backend_protocol
test_mirror.py test_a_copy_has_the_fields_and_the_body_and_its_answer_is_dropped: mirror_target mirror_host
test_mirror.py test_without_its_body_a_copy_has_the_head_alone: mirror_request_body
test_route_changes.py test_a_header_decides_else_a_cookie_else_chance:
    canary canary_by_header canary_by_header_value canary_by_header_pattern canary_by_cookie
test_route_changes.py test_chance_takes_about_its_share: canary_weight canary_weight_total
test_sharing.py test_tls_passes_through_by_its_name_and_ends_here_for_all_others: tls_passthrough
test_tls.py test_a_host_has_ciphers_of_its_own: ssl_ciphers
test_tracing.py test_a_route_may_be_traced_never: enable_opentelemetry
test_tracing.py test_a_route_may_be_traced_alone_and_call_its_spans_as_it_likes: opentelemetry_operation_name
test_tracing.py test_a_route_may_trust_otherwise: opentelemetry_trust_incoming_span
"""


def elsewhere() -> dict[str, tuple[str, str]]:
    """Return the file and the name of the test that shows a row, by the row's field."""
    found: dict[str, tuple[str, str]] = {}
    for entry in re.sub(r"\n +", " ", ELSEWHERE.strip()).splitlines():
        where, _, names = entry.partition(": ")
        path, _, test = where.partition(" ")
        found |= dict.fromkeys(names.split(), (path, test))
    return found


async def report(request: web.Request) -> web.StreamResponse:
    """Answer with what came, or with what the path says."""
    _, kind, *rest = request.path.split("/")
    match kind, rest:
        case "status", [number]:
            return web.Response(status=int(number), text="none")
        case "auth", []:
            return web.Response(headers={"X-User": "ada", "Set-Cookie": "seen=1"})
        case "method", [wanted]:
            return web.Response(status=200 if request.method == wanted else 401)
        case "redirected", [wanted]:
            return web.Response(status=200 if request.headers["X-Auth-Request-Redirect"] == wanted else 401)
        case "team", [wanted]:
            return web.Response(status=200 if request.headers.get("X-Team") == wanted else 401)
        case "once", [key]:
            asked = request.app[ASKED]
            asked.append(key)
            return web.Response(status=200 if asked.count(key) < 3 else 401)
        case "cookie", []:
            return web.Response(headers={"Set-Cookie": "a=b; Domain=old.example; Path=/old"})
        case "redirect", []:
            return web.Response(status=302, headers={"Location": "http://old/x"})
        case "long", [size]:
            return web.Response(body=b"x" * int(size))
        case "head", [size]:
            return web.Response(headers={"X-Long": "x" * int(size)})
        case "silent", []:
            await asyncio.sleep(30)
    told = {
        "path": request.path_qs,
        "method": request.method,
        "version": f"{request.version.major}.{request.version.minor}",
        "fields": {name.lower(): value for name, value in request.headers.items()},
        "body": (await request.read()).decode(),
    }
    return web.json_response(told)


ASKED = web.AppKey("asked", list[str])


def objects(port: int) -> str:
    hashed = bcrypt.hashpw(b"password", bcrypt.gensalt(4)).decode()
    ingresses = []
    for number, case in enumerate(CASES):
        annotations = {NGINX + name: value for name, value in case.annotations.items()}
        path, kind = case.rule
        backend = {"service": {"name": case.to, "port": {"name": "http"}}}
        annotations |= {"portway.dev/compatibility": "ingress-nginx"} if case.nginx else {}
        host = case.declared or f"h{number}.example"
        rule = {"host": host, "http": {"paths": [{"path": path, "pathType": kind, "backend": backend}]}}
        meta = {"name": f"i{number}", "annotations": annotations}
        spec = {"rules": [rule]} | ({"tls": [{"hosts": [host]}]} if case.tls else {})
        ingress = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta, "spec": spec}
        ingresses.append(f"---\n{json.dumps(ingress)}\n")
    return f"""\
apiVersion: v1
kind: Service
metadata: {{name: web, annotations: {{portway.dev/endpoints: "127.0.0.1:{port}"}}}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: inner, annotations: {{portway.dev/endpoints: "127.0.0.1:1"}}}}
spec: {{clusterIP: 127.0.0.1, ports: [{{name: http, port: {port}}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: pages, annotations: {{portway.dev/endpoints: "127.0.0.1:{port}"}}}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: Secret
metadata: {{name: users}}
stringData: {{auth: "ada:{hashed}"}}
---
apiVersion: v1
kind: Secret
metadata: {{name: map}}
stringData: {{ada: "{hashed}"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: team}}
data: {{X-Team: shop}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: fields}}
data: {{X-Team: shop}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings, namespace: portway}}
data: {{global-allowed-response-headers: X-Team, custom-http-errors: "418"}}
{"".join(ingresses)}"""


@asynccontextmanager
async def endpoint() -> AsyncIterator[int]:
    app = web.Application()
    app[ASKED] = []
    app.router.add_route("*", "/{path:.*}", report)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def ask(session: aiohttp.ClientSession, port: int, number: int, case: Case) -> Answer:
    fields = {"Host": case.host or case.declared or f"h{number}.example", **case.fields}
    url = f"http://127.0.0.1:{port}{case.path}"
    begun = time.monotonic()
    async with session.request(case.method, url, headers=fields, data=case.body, allow_redirects=False) as got:
        text = await got.text()
        return Answer(got.status, dict(got.headers), text, time.monotonic() - begun)


async def test_each_annotation_does_to_real_requests_what_it_says(tmp_path: Path) -> None:
    flags = ("--workers", "1", "--configmap", "portway/settings", "-f", tmp_path)
    async with endpoint() as behind, aiohttp.ClientSession() as session:
        (tmp_path / "shop.yaml").write_text(objects(behind))
        async with portway("run", *ANY_PORTS, *flags) as command:
            await command.serving()
            port = await command.port("http")
            wrong = []
            for number, case in enumerate(CASES):
                answers = [await ask(session, port, number, case) for _ in range(case.times)]
                if not case.claim(answers[-1]):
                    wrong.append((case.annotations, answers[-1]))
            assert wrong == []
            assert command.errors("^problem") == []


CASED = {annotation for case in CASES for annotation in case.annotations}
# What stands in cases of others, and means nothing by itself.
BESIDE = {"affinity"}


@pytest.mark.parametrize("name", sorted(rows(IngressAnnotations)))
def test_every_row_has_a_case_or_a_test_that_shows_it(name: str) -> None:
    row = rows(IngressAnnotations)[name]
    if not row.nginx or (set(row.nginx) <= CASED and name not in BESIDE):
        return
    path, test = elsewhere()[name]
    assert test in re.findall(r"^(?:async )?def (test_\w+)", (TESTS / path).read_text(), re.MULTILINE)


def test_no_row_is_shown_twice() -> None:
    table = rows(IngressAnnotations)
    assert [name for name in elsewhere() if set(table[name].nginx) <= CASED and name not in BESIDE] == []
