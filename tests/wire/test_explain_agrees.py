"""Explain agrees with traffic: what is drawn is asked for real, and explained, and both have to say the same.

`EXPLAIN_EXAMPLES=20000 pytest tests/wire/test_explain_agrees.py` looks further.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from portway_proxy.discretion import discreet_head, discreet_url
from portway_proxy.explain.explaining import View, explain
from portway_proxy.explain.explanation import Alternative, Explanation, OutcomeKind
from portway_proxy.explain.question import Question
from portway_proxy.observing import Observing
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import (
    BasicAuth,
    Blocked,
    Canary,
    ClientAuthority,
    ClientCertificate,
    Cors,
    Endpoint,
    ErrorPages,
    ExternalAuth,
    Host,
    Listener,
    Origin,
    Passthrough,
    PathMatch,
    Policy,
    RateLimit,
    Redirect,
    Route,
    Snapshot,
    Upstream,
)
from wire.asking import Answer, Asking, asking, hang_up_on
from wire.drawing import (
    AUTHORITY,
    ENDPOINTS,
    MISSING,
    NONE,
    PAGES,
    TWO,
    USERS,
    VERDICT,
    WEB,
    endpoints,
    placed,
    snapshots,
)
from wire.drawn_requests import CHUNK, CHUNKED, PASSWORD, Asked, asked
from wire.parts import free_port

SETTINGS = ProxySettings(
    http_port=0,
    https_port=0,
    admin_port=0,
    public_http_port=8080,
    public_https_port=8443,
    workers=1,
    access_log=False,
)
EXAMPLES = int(os.environ.get("EXPLAIN_EXAMPLES", "200"))
EVERYBODY = ("0.0.0.0/0", "::/0")
ASKING = "X-Portway-Explain: 1"
# They are others for each answer, or stand there because the test asks how it came about; and how the connection
# goes on is not what explain is asked.
_OWN = ("date: ", "x-request-id: ", "x-portway-", "connection: ", "transfer-encoding: ")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_zones = itertools.count()


@pytest.fixture(scope="module")
def proxy() -> Iterator[Asking]:
    with asking(SETTINGS, ENDPOINTS) as running:
        yield running


class Fate(msgspec.Struct, frozen=True):
    """What became of a request: as told by the proxy, or as explain has it."""

    status: int
    reason: str
    location: str = ""
    upstream: str = ""


def explained(snapshot: Snapshot, request: Asked) -> Explanation:
    scheme, name, port = ("http", "127.0.0.1", 8080) if request.name is None else ("https", request.name, 8443)
    # In HTTP/2 there are no such fields, a body needs none that frames it, and a Host that repeats the authority is one
    # with it.
    left_out = ("connection:", "upgrade:", f"host: {request.host}".lower()) if request.http2 else ()
    fields = [f"Host: {request.host}", *(one for one in request.fields if not one.lower().startswith(left_out))]
    question = Question.of(f"{scheme}://{name}:{port}{request.target}", request.method, fields, request.client)
    return explain(question, View(snapshot, time.time(), settings=SETTINGS))


def fate_of(answer: Answer) -> Fate:
    """Return what a response says of itself."""
    location = "" if _forwarded(answer) else discreet_url(answer.get("location"))
    return Fate(answer.status, answer.get("x-portway-reason"), location, answer.get("x-portway-upstream"))


def usual(found: Explanation) -> Fate:
    """Return what becomes of a request as explain has it."""
    outcome = found.outcome
    return Fate(_status(outcome.kind, outcome.status), outcome.reason, outcome.location, found.upstream)


def fates(found: Explanation, route: Route | None) -> list[Fate]:
    """Return what may become of it as explain has it; what a service says of it, the endpoints know."""
    outcome, expected = found.outcome, usual(found)
    external = None if route is None or route.policy is None else route.policy.external
    by_verdict = [one for one in outcome.otherwise if " answers " in one.when]
    if external is not None and by_verdict and not external.target.endswith("/200"):
        status = external.target.rpartition("/")[2]
        named = [one for one in by_verdict if f"answers {status}" in one.when or status not in ("401", "403")]
        return [_alternative(named[-1], route)] if named else [expected]
    by_chance = [_alternative(one, route) for one in outcome.otherwise if one.when.startswith("chance")]
    canary = None if route is None or route.policy is None else route.policy.canary
    if outcome.kind is OutcomeKind.ANSWER and canary is not None and 0 < canary.weight < canary.total:
        # Chance has its word before the answer, which is the same either way.
        by_chance.append(msgspec.structs.replace(expected, upstream=canary.upstream))
    too_long = [one for one in outcome.otherwise if one.when.startswith("the body has more than ")]
    if too_long and int(too_long[0].when.split(" ")[5]) < CHUNK:
        fate = _alternative(too_long[0], route)
        return [fate, *(msgspec.structs.replace(fate, upstream=one.upstream) for one in by_chance)]
    return [expected, *by_chance]


def _alternative(one: Alternative, route: Route | None) -> Fate:
    upstream = one.upstream or ("" if route is None else route.upstream)
    return Fate(_status(one.kind, one.status), one.reason, one.location, upstream)


def _status(kind: OutcomeKind, status: int) -> int:
    return 200 if kind is OutcomeKind.FORWARD else status


def _forwarded(answer: Answer) -> bool:
    return bool(answer.get("x-portway-endpoint"))


def shown(head: str) -> list[str]:
    """Return the lines of a head, as HTTP/2 leaves of them: in any order, names in lower case; no request ids."""
    lines = []
    for line in head.splitlines():
        name, colon, value = line.partition(": ")
        lines.append(f"{name.lower()}: {'...' if name.lower() == 'x-request-id' else value}" if colon else line)
    return sorted(lines)


def answer_of(head: str) -> list[str]:
    """Return what an answer of the proxy's own says."""
    return [line for line in shown(head) if not line.startswith(_OWN)]


def written(answer: Answer) -> str:
    """Return the head of a response as an explanation has it."""
    start = f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, 'Unknown')}"
    lines = [start, *(f"{name}: {value}" for name, value in answer.fields)]
    return discreet_head("\r\n".join(lines).encode("latin-1"))


def route_of(snapshot: Snapshot, found: Explanation) -> Route | None:
    routes = [route for host in snapshot.hosts for route in host.routes]
    routes += [] if snapshot.default is None else [snapshot.default]
    origin = "" if found.route is None else found.route.origin
    return next((route for route in routes if str(route.origin) == origin), None)


def check(proxy: Asking, snapshot: Snapshot, request: Asked) -> Fate:
    """Ask for real, have it explained, and compare; return what became of it."""
    found = explained(snapshot, request)
    route = route_of(snapshot, found)
    answer = proxy.ask(request.and_also(ASKING))
    fate = fate_of(answer)
    expected = fates(found, route)
    assert fate in expected, (fate, expected, found)
    assert answer.get("x-portway-route") == ("" if found.route is None else found.route.origin)
    endpoint = answer.get("x-portway-endpoint")
    if fate != usual(found) or fate not in expected[:1]:
        return fate  # By a chance or by a verdict: the rest is told of the other case.
    if endpoint:
        assert endpoint in [one.address for one in found.endpoints]
        assert found.outcome.endpoint in ("", endpoint)
        if request.method != "HEAD":
            assert shown(discreet_head(answer.body)) == shown(found.head)
    elif found.outcome.kind is OutcomeKind.ANSWER:
        assert answer_of(written(answer)) == answer_of(found.answer)
    again(proxy, request, found, route)
    return fate


def again(proxy: Asking, request: Asked, found: Explanation, route: Route | None) -> None:
    """Ask once more where that may be one request too many."""
    limited = [one for one in found.outcome.otherwise if "sends more requests than" in one.when]
    if route is None or route.policy is None or route.policy.limit is None or not route.policy.limit.rates:
        assert limited == []
        return
    fate = fate_of(proxy.ask(request.and_also(ASKING)))
    assert (fate.reason == "limited") is bool(limited)
    assert not limited or fate == _alternative(limited[0], route)


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(snapshots(), st.lists(asked(), min_size=1, max_size=5))
def test_what_is_explained_is_what_happens(proxy: Asking, drawn: Snapshot, requests: list[Asked]) -> None:
    observing = Observing(explain_to=EVERYBODY)
    for request in requests:
        # Limits count from nothing for each: what was asked before must not be part of the question.
        zone = f"zone-{next(_zones)}"
        snapshot = msgspec.structs.replace(placed(drawn, proxy.ports, zone), observing=observing)
        proxy.apply(snapshot)
        event(check(proxy, snapshot, request).reason or "endpoint")


def served(proxy: Asking, policy: Policy | None, upstream: str = WEB) -> Snapshot:
    """Serve one route for `a.example/a`, and its certificate; return the snapshot."""
    route = Route("/a", PathMatch.PREFIX, upstream, Origin("Ingress", "shop", "web", "spec.rules[0]"), policy)
    drawn = Snapshot(
        hosts=(Host("a.example", (route,)),),
        upstreams=(
            Upstream(MISSING, reason="service_missing"),
            Upstream(NONE),
            Upstream(PAGES, endpoints=endpoints(3)),
            Upstream(TWO, endpoints=endpoints(1, 2)),
            Upstream(VERDICT, endpoints=endpoints(3)),
            Upstream(WEB, endpoints=endpoints(0)),
        ),
        credentials=USERS,
        authorities=(ClientAuthority(AUTHORITY, ("a.example",), b""),),
        observing=Observing(explain_to=EVERYBODY),
    )
    snapshot = placed(drawn, proxy.ports, f"zone-{next(_zones)}")
    proxy.apply(snapshot)
    return snapshot


def verdict(status: int, signin: str = "") -> Policy:
    return Policy(external=ExternalAuth(VERDICT, f"/verdict/{status}", "auth.example", signin=signin))


GET = Asked("GET", "/a/b?x=1", "a.example", ("Connection: close",), "127.0.0.1", None)
TLS = dataclasses.replace(GET, name="a.example")


def with_fields(*fields: str, method: str = "GET", body: bytes = b"") -> Asked:
    return dataclasses.replace(GET, method=method, fields=(*fields, *GET.fields), body=body)


@pytest.mark.parametrize(
    ("policy", "request_", "status", "reason"),
    [
        (None, GET, 200, ""),
        (None, TLS, 200, ""),
        (None, dataclasses.replace(GET, http2=True), 200, ""),
        (None, dataclasses.replace(TLS, http2=True), 200, ""),
        # What answers a HEAD has no body, whatever is wrong with it.
        (None, dataclasses.replace(GET, method="HEAD", host="a..b", http2=True), 400, "bad_host"),
        (None, dataclasses.replace(GET, host="b.example"), 404, "no_host"),
        (None, dataclasses.replace(GET, target="/b"), 404, "no_path"),
        (None, dataclasses.replace(GET, target="/a%2f..%2fb"), 400, "bad_target"),
        (None, dataclasses.replace(GET, target="/" + "a" * 9000), 414, "target_too_long"),
        (None, with_fields(f"X: {'a' * 17_000}"), 431, "fields_too_large"),
        (None, with_fields("Content-Length: x"), 400, "bad_head"),
        (None, with_fields("Host: a.example"), 400, "bad_host"),
        (None, with_fields("Expect: miracles"), 417, "expectation_failed"),
        (None, with_fields("Transfer-Encoding: br, chunked"), 501, "unknown_coding"),
        (None, dataclasses.replace(GET, method="CONNECT"), 405, "method_not_allowed"),
        (Policy(https_redirect=True), GET, 308, "https_redirect"),
        (Policy(https_redirect=True), TLS, 200, ""),
        (Policy(redirect=Redirect(302, "https://other.example$request_uri")), GET, 302, "redirect"),
        (Policy(www="www.a.example"), TLS, 308, "redirect"),
        (Policy(app_root="/start"), GET, 200, ""),
        (Policy(closed="bad_allow_list"), GET, 503, "closed"),
        (Policy(allow=("10.0.0.0/8",)), GET, 403, "forbidden"),
        (Policy(deny=("127.0.0.2/32",)), dataclasses.replace(GET, client="127.0.0.2"), 403, "forbidden"),
        (Policy(blocked=Blocked(("bad",))), with_fields("User-Agent: bad"), 403, "forbidden"),
        (Policy(basic=BasicAuth("shop/users")), GET, 401, "unauthorized"),
        (Policy(basic=BasicAuth("shop/users")), with_fields(PASSWORD), 200, ""),
        (Policy(basic=BasicAuth("shop/users")), with_fields("Authorization: Basic YTpi"), 401, "unauthorized"),
        (verdict(200), GET, 200, ""),
        (verdict(401), GET, 401, "unauthorized"),
        (verdict(401, "https://login.example/"), GET, 302, "unauthorized"),
        (verdict(403), GET, 403, "auth_denied"),
        (verdict(500), GET, 500, "auth_unavailable"),
        (Policy(cors=Cors()), with_fields("Origin: https://b.example", method="OPTIONS"), 204, "preflight"),
        (Policy(cors=Cors()), with_fields("Origin: https://b.example"), 200, ""),
        (Policy(body_size=3), with_fields("Content-Length: 5", method="POST", body=b"abcde"), 413, "body_too_large"),
        (
            Policy(body_size=3),
            with_fields("Transfer-Encoding: chunked", method="POST", body=CHUNKED),
            413,
            "body_too_large",
        ),
        (Policy(body_size=5), with_fields("Transfer-Encoding: chunked", method="POST", body=CHUNKED), 200, ""),
        (Policy(certificate=ClientCertificate(AUTHORITY)), GET, 400, "certificate_needed"),
        (Policy(certificate=ClientCertificate(AUTHORITY)), TLS, 400, "certificate_needed"),
        (
            Policy(certificate=ClientCertificate(AUTHORITY)),
            dataclasses.replace(TLS, name="other.example"),
            421,
            "misdirected",
        ),
        (
            Policy(old_http=True),
            with_fields("Transfer-Encoding: chunked", method="POST", body=CHUNKED),
            411,
            "length_required",
        ),
        (Policy(old_http=True, rewrite="/new"), GET, 200, ""),
        (Policy(errors=ErrorPages(PAGES, (403,)), allow=("10.0.0.0/8",)), GET, 200, "forbidden"),
        (Policy(limit=RateLimit("z", ((0.001, 0),))), GET, 200, ""),
        (Policy(canary=Canary(TWO, header="X-Canary")), with_fields("X-Canary: always"), 200, ""),
        (Policy(canary=Canary(NONE, weight=100)), GET, 503, "no_endpoints"),
        (
            Policy(canary=Canary(NONE, weight=100), errors=ErrorPages(PAGES, (), stands_in=True)),
            GET,
            200,
            "no_endpoints",
        ),
    ],
)
def test_each_reason_is_explained_as_it_happens(
    proxy: Asking, policy: Policy | None, request_: Asked, status: int, reason: str
) -> None:
    fate = check(proxy, served(proxy, policy), request_)
    assert (fate.status, fate.reason) == (status, reason)


@pytest.mark.parametrize(("upstream", "reason"), [(NONE, "no_endpoints"), (MISSING, "service_missing")])
def test_an_upstream_without_endpoints_is_explained_as_it_answers(proxy: Asking, upstream: str, reason: str) -> None:
    fate = check(proxy, served(proxy, None, upstream), GET)
    assert (fate.status, fate.reason, fate.upstream) == (503, reason, upstream)


def below(snapshot: Snapshot, url: str) -> Explanation:
    """Return what explain has to say of a connection."""
    return explain(Question.of(url, client="127.0.0.1"), View(snapshot, time.time(), settings=SETTINGS))


def test_an_opaque_port_is_explained_as_it_relays(proxy: Asking) -> None:
    origin = Origin("Service", "shop", "web", "spec.ports[0]")
    listeners = tuple(sorted(Listener(free_port(), name, origin) for name in (WEB, NONE)))
    snapshot = msgspec.structs.replace(served(proxy, None), listeners=listeners)
    proxy.apply(snapshot)
    ports = {listener.upstream: listener.port for listener in listeners}
    found = below(snapshot, f"tcp://shop.example:{ports[WEB]}")
    with socket.create_connection(("127.0.0.1", ports[WEB]), 10) as sock:
        sock.sendall(GET.data)
        assert sock.recv(65536).endswith(GET.data)
    outcome = found.outcome
    assert (outcome.kind, found.upstream) == (OutcomeKind.RELAY, WEB)
    assert outcome.endpoint == f"127.0.0.1:{proxy.ports[0]}"
    found = below(snapshot, f"tcp://shop.example:{ports[NONE]}")
    with socket.create_connection(("127.0.0.1", ports[NONE]), 10) as sock, pytest.raises(ConnectionResetError):
        sock.recv(1)
    assert (found.outcome.kind, found.outcome.reason, found.upstream) == (OutcomeKind.REFUSE, "no_endpoints", NONE)


def test_tls_that_passes_through_is_explained_as_it_passes(proxy: Asking) -> None:
    with socket.create_server(("127.0.0.1", 0)) as endpoint:
        own = Upstream("shop/tls:443", endpoints=(Endpoint("127.0.0.1", endpoint.getsockname()[1]),))
        usual_one = served(proxy, None)
        passed = Passthrough("pass.example", own.name, Origin("Ingress", "shop", "pass"))
        upstreams = tuple(sorted((*usual_one.upstreams, own), key=lambda one: one.name))
        snapshot = msgspec.structs.replace(usual_one, passthroughs=(passed,), upstreams=upstreams)
        proxy.apply(snapshot)
        found = below(snapshot, "https://pass.example:8443/")
        assert (found.outcome.kind, found.upstream) == (OutcomeKind.PASSTHROUGH, own.name)
        endpoint.settimeout(10)
        asking_there = threading.Thread(target=hang_up_on, args=(endpoint,))
        asking_there.start()
        with pytest.raises((ConnectionError, ssl.SSLError)):
            proxy.ask(dataclasses.replace(TLS, name="pass.example"))
        asking_there.join()
        assert check(proxy, snapshot, TLS).upstream == WEB
