"""Each stage of an explanation, on snapshots made for it; what people read is in the golden cases of the operator."""

from __future__ import annotations

import time

import msgspec
import pytest

from certs import certificate
from portway_proxy.affinity import CookieMaker
from portway_proxy.endpoint_states import EndpointRow
from portway_proxy.explain.explaining import View, explain
from portway_proxy.explain.explanation import EndpointState, Explanation, OutcomeKind, Stage
from portway_proxy.explain.question import Question
from portway_proxy.policies import (
    BasicAuth,
    Blocked,
    Canary,
    Cors,
    Credentials,
    ErrorPages,
    ExternalAuth,
    Mirror,
    Policy,
    RateLimit,
    Redirect,
)
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import (
    Affinity,
    Balance,
    Belief,
    ClientAuthority,
    ClientCertificate,
    Endpoint,
    Fallback,
    HashOn,
    HashSource,
    Host,
    Listener,
    Origin,
    Passthrough,
    PathMatch,
    Problem,
    Protocol,
    Route,
    SharedKey,
    Snapshot,
    TlsTerms,
    Transport,
    Trust,
    Upstream,
    UpstreamPolicy,
)
from portway_proxy.tuning import Setting

ORIGIN = Origin("Ingress", "shop", "web", "spec.rules[0].http.paths[0]")
WEB = Upstream("shop/web:80", endpoints=(Endpoint("10.0.0.1", 80), Endpoint("10.0.0.2", 80)))
ONE = Upstream("shop/one:80", endpoints=(Endpoint("10.0.0.9", 80),))
NONE = Upstream("shop/none:80", reason="service_missing")
CLOSED = Policy(closed="annotation_invalid")
USERS = Credentials("shop/users", (("ada", "{PLAIN}secret"),))


def serving(policy: Policy | None = None, upstream: str = "shop/web:80", **more: object) -> Snapshot:
    route = Route("/", PathMatch.PREFIX, upstream, ORIGIN, policy)
    parts: dict[str, object] = {"upstreams": (NONE, ONE, WEB), "hosts": (Host("shop.example", (route,)),)}
    return msgspec.structs.replace(Snapshot(credentials=(USERS,)), **{**parts, **more})


def asked(snapshot: Snapshot, url: str = "http://shop.example/", *fields: str, **more: str) -> Explanation:
    return explain(Question.of(url, fields=fields, **more), View(snapshot, time.time()))


def stage(found: Explanation, name: str) -> Stage:
    return next(one for one in found.stages if one.stage == name)


def does(found: Explanation, name: str) -> str:
    return next(part.does for part in found.policies if part.name == name)


def when(found: Explanation) -> dict[str, tuple[int, str]]:
    return {one.when: (one.status, one.upstream or one.reason) for one in found.outcome.otherwise}


# --- the listener


def test_the_scheme_says_which_port_and_an_unknown_one_is_said_to_be_unknown() -> None:
    assert stage(asked(serving()), "listener").chosen == "http, port 80"
    found = stage(asked(serving(), "http://shop.example:8080/"), "listener")
    assert (found.chosen, "others may lead there" in found.why) == ("http, port 8080", True)


@pytest.mark.parametrize(("public", "inner"), [(80, 8080), (None, 8080)])
def test_a_running_proxys_own_ports_are_known(public: int | None, inner: int) -> None:
    settings = ProxySettings(http_port=inner, https_port=8443, public_http_port=public)
    found = explain(Question.of(f"http://shop.example:{inner}/"), View(serving(), 0.0, 3, settings))
    assert (stage(found, "listener").why, found.generation) == ("", 3)
    refused = explain(Question.of("http://shop.example:8443/"), View(serving(), 0.0, settings=settings))
    assert (refused.outcome.status, refused.outcome.reason) == (400, "plain_http")


def test_a_port_that_the_proxy_does_not_have_ends_the_connection() -> None:
    settings = ProxySettings(http_port=80, https_port=None)
    found = explain(Question.of("https://shop.example/"), View(serving(), 0.0, settings=settings))
    assert (found.outcome.kind, found.outcome.fails) == (OutcomeKind.REFUSE, True)


def test_a_layer_4_port_is_told_by_its_transport() -> None:
    db = Upstream("shop/db:53/udp", Protocol.OPAQUE, endpoints=(Endpoint("10.0.0.5", 53),))
    snapshot = serving(upstreams=(db, WEB), listeners=(Listener(53, db.name, ORIGIN, Transport.UDP),))
    found = asked(snapshot, "udp://dns.example:53")
    assert (found.outcome.kind, found.outcome.endpoint) == (OutcomeKind.RELAY, "10.0.0.5:53")
    closed = asked(snapshot, "tcp://dns.example:53")
    assert (closed.outcome.kind, closed.outcome.reason) == (OutcomeKind.REFUSE, "port_closed")
    assert [rival.name for rival in stage(closed, "listener").passed_over] == ["udp/53"]


def test_other_protocols_on_the_http_port_go_to_the_fallback() -> None:
    found = asked(serving(fallback=Fallback("shop/one:80", ORIGIN)), "tcp://shop.example:80")
    assert (found.outcome.kind, found.upstream) == (OutcomeKind.RELAY, "shop/one:80")
    assert asked(serving(), "tcp://shop.example:80").outcome.reason == "not_http"


def test_a_relay_with_nobody_behind_it_says_so_with_the_problem_of_its_port() -> None:
    problem = Problem(Origin("Service", "shop", "none"), "service_missing", "It is gone.", "It ends.", "Create it.")
    snapshot = serving(listeners=(Listener(5432, NONE.name, ORIGIN),), problems=(problem,))
    found = asked(snapshot, "tcp://db.example:5432")
    assert (found.outcome.kind, found.outcome.reason) == (OutcomeKind.REFUSE, "service_missing")
    assert found.outcome.mend == "Create it. (Service shop/none)"
    assert found.problems == (problem,)


def test_a_port_that_the_proxy_could_not_open_is_closed() -> None:
    problem = Problem(ORIGIN, "port_unavailable", "Port 5432 is taken.", "Nobody can connect to it.", "Free it.")
    snapshot = serving(listeners=(Listener(5432, ONE.name, ORIGIN),))
    asked_for = Question.of("tcp://db.example:5432")
    found = explain(asked_for, View(snapshot, 0.0, problems=(problem,)))
    assert (found.outcome.kind, found.outcome.reason) == (OutcomeKind.REFUSE, "port_unavailable")
    assert found.outcome.mend == f"Free it. ({ORIGIN})"
    assert explain(asked_for, View(snapshot, 0.0)).outcome.kind is OutcomeKind.RELAY


def test_endpoints_are_told_the_port_that_clients_see() -> None:
    settings = ProxySettings(http_port=8080, https_port=8443)
    question = Question.of("http://shop.example/")
    assert "X-Forwarded-Port: 8080" in explain(question, View(serving(), 0.0, settings=settings)).head
    public = msgspec.structs.replace(settings, public_http_port=81)
    assert "X-Forwarded-Port: 81" in explain(question, View(serving(), 0.0, settings=public)).head
    assert "X-Forwarded-Port: 8000" in asked(serving(), "http://shop.example:8000/").head


# --- TLS


def test_tls_passes_through_by_the_name_an_exact_one_before_a_wildcard() -> None:
    other = Origin("Ingress", "shop", "wild", "spec.rules[0]")
    snapshot = serving(
        passthroughs=(Passthrough("*.example", "shop/one:80", other), Passthrough("vault.example", ONE.name, ORIGIN))
    )
    found = asked(snapshot, "https://vault.example/a")
    assert (found.outcome.kind, stage(found, "host").chosen) == (OutcomeKind.PASSTHROUGH, "vault.example")
    assert stage(asked(snapshot, "https://x.example/"), "host").origin == str(other)
    assert asked(snapshot, "https://a.b.example/").outcome.kind is OutcomeKind.ANSWER


def test_a_name_that_is_no_hosts_is_turned_away_where_that_is_asked_for() -> None:
    snapshot = serving(tls=TlsTerms(reject_unknown=True))
    assert asked(snapshot, "https://nobody.example/").outcome.reason == "handshake_failed"
    assert asked(snapshot, "https://shop.example/").outcome.kind is OutcomeKind.FORWARD


def test_a_host_with_its_own_certificate_answers_with_hsts() -> None:
    mine = certificate("shop/tls", "shop.example")
    assert "Strict-Transport-Security" in asked(serving(CLOSED, certificates=(mine,)), "https://shop.example").answer
    assert "Strict-Transport-Security" not in asked(serving(CLOSED), "https://shop.example").answer


def test_a_client_certificate_is_needed_and_what_follows_with_one() -> None:
    policy = Policy(certificate=ClientCertificate("shop/ca@1", subject="CN=ada"))
    snapshot = serving(policy, authorities=(ClientAuthority("shop/ca@1", ("shop.example",), b"ca"),))
    found = asked(snapshot, "https://shop.example/")
    assert (found.outcome.status, found.outcome.reason) == (400, "certificate_needed")
    assert "No certificate was sent" in found.outcome.says
    assert when(found) == {"the client shows a good certificate whose name fits CN=ada": (0, "shop/web:80")}
    assert asked(snapshot, "https://other.example/", "Host: shop.example").outcome.reason == "misdirected"


# --- the client


def test_a_trusted_peer_speaks_for_its_client_and_for_the_scheme() -> None:
    policy = Policy(https_redirect=True, allow=("203.0.113.0/24",))
    snapshot = serving(policy, trust=Trust(("10.0.0.0/8",), Belief.REQUEST))
    fields = ("X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https")
    found = asked(snapshot, "http://shop.example/", *fields, client="10.0.0.7")
    assert found.outcome.kind is OutcomeKind.FORWARD
    assert stage(found, "client").chosen == "203.0.113.9"
    assert "10.0.0.7 is trusted" in stage(found, "client").why
    assert "with TLS" in stage(found, "client").why
    stranger = asked(snapshot, "http://shop.example/", *fields, client="192.0.2.1")
    assert stranger.outcome.reason == "https_redirect"
    assert "X-Forwarded-For, X-Forwarded-Proto" not in stage(stranger, "client").why
    assert "no network that is trusted" in stage(stranger, "client").why


# --- host and route


def test_the_table_of_a_few_hosts_decides_as_the_whole_one() -> None:
    hosts = tuple(Host(name, (Route("/", PathMatch.PREFIX, WEB.name, ORIGIN),)) for name in ("", "*.b.example", "c"))
    snapshot = serving(hosts=hosts)
    chosen = {
        url: stage(asked(snapshot, url), "host").chosen
        for url in ("http://a.b.example", "http://b.example", "http://c")
    }
    assert chosen == {"http://a.b.example": "*.b.example", "http://b.example": "any host", "http://c": "c"}


def test_what_no_path_fits_goes_to_the_default_backend() -> None:
    default = Route("/", PathMatch.PREFIX, ONE.name, Origin("Ingress", "shop", "rest", "spec.defaultBackend"))
    found = asked(serving(default=default), "http://nobody.example/")
    assert (found.upstream, stage(found, "route").chosen) == ("shop/one:80", "the default backend")
    assert found.route is not None
    assert found.route.match == "default"


def test_ten_thousand_routes_name_a_few_rivals_and_count_the_rest() -> None:
    routes = [Route(f"/{'a/' * (number % 50)}x{number}", PathMatch.PREFIX, WEB.name, ORIGIN) for number in range(9_950)]
    fitting = [Route("/" + "s/" * number, PathMatch.PREFIX, WEB.name, ORIGIN) for number in range(50)]
    table = tuple(sorted([*routes, *fitting], key=lambda route: -len(route.path)))
    hosts = (Host("shop.example", table), *(Host(f"{number}.example", ()) for number in range(1_000)))
    found = asked(serving(hosts=hosts), "http://shop.example/" + "s/" * 60)
    assert stage(found, "route").chosen == "/" + "s/" * 49 + " (prefix)"
    assert (len(stage(found, "route").passed_over), stage(found, "route").more) == (8, 41)
    missed = asked(serving(hosts=hosts), "http://501.exmple/")
    assert "501.example" in [rival.name for rival in stage(missed, "host").passed_over]


# --- policies


def test_a_password_is_verified_and_the_endpoint_does_not_see_it() -> None:
    snapshot = serving(Policy(basic=BasicAuth("shop/users", "Shop")))
    found = asked(snapshot, "http://shop.example/", "Authorization: Basic YWRhOnNlY3JldA==")
    assert found.outcome.kind is OutcomeKind.FORWARD
    assert "Authorization" not in found.head
    assert found.request.fields == (("Authorization", "..."),)
    assert asked(snapshot, "http://shop.example/", "Authorization: Basic eDp5").outcome.status == 401


def test_what_a_service_says_decides_and_its_endpoints_are_not_asked() -> None:
    external = ExternalAuth("shop/one:80", "/verify", "sso", signin="https://sso.example/login?rd=$request_uri")
    found = asked(serving(Policy(external=external)), "http://shop.example/a")
    assert found.outcome.kind is OutcomeKind.FORWARD
    assert does(found, "external") == "shop/one:80 is asked GET /verify; the request goes on when it answers 2xx"
    assert when(found) == {
        "shop/one:80 answers 401": (302, "unauthorized"),
        "shop/one:80 answers 403": (403, "auth_denied"),
        "shop/one:80 answers anything else, or not at all": (500, "auth_unavailable"),
    }
    assert found.outcome.otherwise[0].location == "https://sso.example/login?rd=/a"
    nobody = msgspec.structs.replace(external, upstream="shop/none:80")
    assert asked(serving(Policy(external=nobody))).outcome.reason == "auth_unavailable"


def test_either_a_network_or_a_password_suffices() -> None:
    policy = Policy(allow=("10.0.0.0/8",), basic=BasicAuth("shop/users"), any_suffices=True)
    assert asked(serving(policy), client="10.0.0.1").outcome.kind is OutcomeKind.FORWARD
    found = asked(serving(policy))
    assert (found.outcome.status, does(found, "any_suffices")) == (401, "answers 401 (unauthorized)")
    assert does(found, "basic") == "one of those that suffice"


def test_a_limit_is_not_reached_by_asking_and_says_what_follows_when_it_is() -> None:
    policy = Policy(limit=RateLimit("zone", ((1.0, 0),), 1, ("10.0.0.0/8",), rate_status=429))
    snapshot = serving(policy)
    for _ in range(5):
        found = asked(snapshot)
    assert found.outcome.kind is OutcomeKind.FORWARD
    assert list(when(found).values()) == [(429, "limited"), (503, "limited")]
    exempt = asked(snapshot, client="10.0.0.1")
    assert (when(exempt), does(exempt, "limit")) == ({}, "nothing: 10.0.0.1 may ask for as much as it likes")


def test_chance_is_told_where_it_decides_and_only_there() -> None:
    snapshot = serving(Policy(canary=Canary("shop/one:80", "X-Canary", weight=80)))
    by_chance = asked(snapshot)
    assert by_chance.upstream == "shop/one:80"
    assert when(by_chance) == {"chance has it, for 20 of 100": (0, "shop/web:80")}
    by_header = asked(snapshot, "http://shop.example/", "X-Canary: never")
    assert (by_header.upstream, by_header.outcome.otherwise) == ("shop/web:80", ())


def test_what_comes_behind_an_answer_is_not_come_to() -> None:
    policy = Policy(redirect=Redirect(302, "https://new.example$request_uri"), rewrite="/x", limit=RateLimit("z"))
    found = asked(serving(policy), "http://shop.example/a")
    assert (found.outcome.location, found.outcome.fails) == ("https://new.example/a", False)
    assert does(found, "rewrite") == does(found, "limit") == "nothing: the request was answered before"
    assert found.head == ""
    assert stage(found, "upstream").why.startswith("not asked")


def test_a_page_for_an_error_is_made_by_its_upstream() -> None:
    policy = Policy(errors=ErrorPages("shop/one:80", (403, 503)), deny=("198.51.100.0/24",))
    found = asked(serving(policy))
    assert (found.outcome.kind, found.outcome.reason, found.upstream) == (
        OutcomeKind.FORWARD,
        "forbidden",
        "shop/one:80",
    )
    assert "X-Code: 403" in found.head
    assert does(found, "deny") == "answers 403 (forbidden)"
    stood_in = asked(serving(Policy(errors=ErrorPages("shop/one:80", (), stands_in=True)), "shop/none:80"))
    assert (stood_in.outcome.kind, stood_in.upstream) == (OutcomeKind.FORWARD, "shop/one:80")


def test_copies_preflights_and_blocked_clients_are_told() -> None:
    copied = asked(serving(Policy(mirror=Mirror("shop/one:80", "$request_uri", "copy.example"))))
    assert does(copied, "mirror") == "a copy goes to shop/one:80"
    assert copied.outcome.endpoint == ""
    preflight = explain(
        Question.of("http://shop.example/", "OPTIONS", ["Origin: https://a"]), View(serving(Policy(cors=Cors())), 0.0)
    )
    assert (preflight.outcome.status, preflight.outcome.fails) == (204, False)
    blocked = asked(serving(Policy(blocked=Blocked(("~bot",)))), "http://shop.example/", "User-Agent: a bot")
    assert (blocked.outcome.status, does(blocked, "blocked")) == (403, "answers 403 (forbidden)")


def test_a_body_is_judged_by_the_length_that_it_is_said_to_have() -> None:
    policy = Policy(body_size=10)
    long = asked(serving(policy), "http://shop.example/", "Content-Length: 11")
    assert (long.outcome.status, does(long, "body_size")) == (
        413,
        "answers 413 (body_too_large): the body has 11 bytes",
    )
    assert asked(serving(policy), "http://shop.example/", "Content-Length: 10").outcome.kind is OutcomeKind.FORWARD
    chunked = asked(serving(policy), "http://shop.example/", "Transfer-Encoding: chunked")
    assert "Transfer-Encoding: chunked" in chunked.head


def test_limits_of_the_snapshots_settings_count() -> None:
    snapshot = serving(settings=(Setting("field-size", 256),))
    found = asked(snapshot, "http://shop.example/", "X-A: " + "a" * 300)
    assert (found.outcome.status, found.outcome.reason) == (431, "fields_too_large")


def test_a_call_of_grpc_fails_by_a_status_of_its_own() -> None:
    found = asked(serving(upstream="shop/none:80"), "http://shop.example/", "Content-Type: application/grpc")
    assert (found.outcome.status, found.outcome.reason, found.outcome.fails) == (200, "service_missing", True)
    assert "grpc-status: 14" in found.answer


# --- endpoints


def test_a_hash_leads_to_one_endpoint_and_lacking_what_it_is_of_to_any() -> None:
    balanced = msgspec.structs.replace(
        WEB, balance=Balance.HASH, policy=UpstreamPolicy(hash_on=HashOn(HashSource.HEADER, "X-User"))
    )
    snapshot = serving(upstreams=(balanced,))
    chosen = {asked(snapshot, "http://shop.example/", "X-User: ada").outcome.endpoint for _ in range(10)}
    assert len(chosen) == 1
    assert chosen <= {"10.0.0.1:80", "10.0.0.2:80"}
    lacking = asked(snapshot)
    assert (lacking.outcome.endpoint, "lacks what the hash is taken of" in stage(lacking, "endpoint").why) == ("", True)


def test_the_cookie_of_an_affinity_ties_the_client_where_it_is_no_forged_one() -> None:
    sticky = msgspec.structs.replace(WEB, policy=UpstreamPolicy(affinity=Affinity()))
    snapshot = serving(upstreams=(sticky,), affinity_key=SharedKey(b"key"))
    value = CookieMaker(Affinity(), b"key", sticky.name).value(Endpoint("10.0.0.2", 80)).decode()
    tied = asked(snapshot, "http://shop.example/", f"Cookie: portway={value}")
    assert (tied.outcome.endpoint, stage(tied, "endpoint").why) == (
        "10.0.0.2:80",
        "the cookie portway ties the client to it",
    )
    assert asked(snapshot, "http://shop.example/", "Cookie: portway=forged").outcome.endpoint == ""
    alone = msgspec.structs.replace(snapshot, affinity_key=None)
    live = explain(
        Question.of("http://shop.example/", fields=[f"Cookie: portway={value}"]), View(alone, 0.0, key=b"key")
    )
    assert live.outcome.endpoint == "10.0.0.2:80"


def test_an_endpoint_that_is_out_in_all_workers_gets_nothing() -> None:
    rows = (
        EndpointRow(WEB.name, "10.0.0.1:80", EndpointState.EJECTED, retry=9.0, ready=0, connections=0),
        EndpointRow(WEB.name, "10.0.0.2:80", EndpointState.READY, connections=3),
        EndpointRow(WEB.name, "10.0.0.3:80", EndpointState.DRAINING, ready=0, connections=1),
    )
    found = explain(Question.of("http://shop.example/"), View(serving(), 0.0, rows={WEB.name: rows}))
    assert [(one.address, str(one.state), one.connections) for one in found.endpoints] == [
        ("10.0.0.1:80", "ejected", 0),
        ("10.0.0.2:80", "ready", 3),
        ("10.0.0.3:80", "draining", 1),
    ]
    assert (found.outcome.endpoint, stage(found, "endpoint").why) == ("10.0.0.2:80", "the only one that is well")


def test_endpoints_of_http_2_get_the_same_fields() -> None:
    spoken = msgspec.structs.replace(ONE, protocol=Protocol.H2C)
    found = asked(serving(upstream=ONE.name, upstreams=(spoken,)), "http://shop.example/a", "X-A: b")
    assert found.head.startswith("GET /a HTTP/2\nHost: shop.example\nX-A: b\n")


def test_an_external_name_is_the_endpoint() -> None:
    named = Upstream("shop/api:443", Protocol.HTTPS, external_name="api.example", external_port=443)
    found = asked(serving(upstream=named.name, upstreams=(named,)))
    assert (found.outcome.kind, found.outcome.endpoint) == (OutcomeKind.FORWARD, "api.example:443")


# --- the whole


def test_an_explanation_survives_json() -> None:
    found = asked(serving(Policy(basic=BasicAuth("shop/users")), certificates=(certificate("a/b", "shop.example"),)))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found


def test_nothing_secret_is_in_an_explanation() -> None:
    mine = certificate("shop/tls", "shop.example")
    snapshot = serving(Policy(basic=BasicAuth("shop/users")), certificates=(mine,), affinity_key=SharedKey(b"s3cret"))
    fields = ("Authorization: Basic YWRhOnNlY3JldA==", "Cookie: a=YWRhOnNlY3JldA==", "X-Token: YWRhOnNlY3JldA==")
    found = asked(snapshot, "https://shop.example/?token=YWRhOnNlY3JldA", *fields)
    text = msgspec.json.encode(found).decode()
    assert found.outcome.kind is OutcomeKind.FORWARD
    for secret in ("YWRhOnNlY3JldA", "{PLAIN}", "s3cret", "PRIVATE"):
        assert secret not in text
