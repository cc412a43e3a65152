"""What clients in chosen networks are told in responses: X-Portway-Reason, and more where they ask for it."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from certs import certificate
from eventually import eventually
from portway_proxy.errors import (
    BadSnapshot,
    ClientGone,
    Limited,
    LoopLate,
    MemoryShort,
    NoEndpoints,
    ProxyError,
)
from portway_proxy.l7 import flow
from portway_proxy.l7.asker import Asker
from portway_proxy.l7.exchange import Exchange
from portway_proxy.l7.request import RequestHead
from portway_proxy.observing import Observing
from portway_proxy.settings import Limits
from portway_proxy.snapshot import (
    BasicAuth,
    Belief,
    Canary,
    Cors,
    Credentials,
    ErrorPages,
    ExternalAuth,
    Origin,
    PathMatch,
    Policy,
    RateLimit,
    Redirect,
    Route,
    Snapshot,
    Trust,
)
from portway_proxy.supervisor import Supervisor
from wire.http2_client import connect as connect_http2
from wire.parts import metrics, port_of, running, settings
from wire.peers import Peer, answering, echoing, reply
from wire.programs import needed, output
from wire.site import Net, everything_to, prefix, table, upstream

HERE = ("127.0.0.0/8",)
ELSEWHERE = ("192.0.2.0/24", "2001:db8::/32")
ASKING = "X-Portway-Explain: 1"
OURS = (b"x-portway-reason", b"x-portway-route", b"x-portway-upstream", b"x-portway-endpoint")
PATIENCE = 20.0


# --- every reason, to curl, as the log and the metrics have it


class Case(NamedTuple):
    """A request by curl, and the status and the reason of the answer."""

    target: str
    status: int
    reason: str
    options: Sequence[str] = ()
    host: str = "shop.example"


CASES = (
    Case("/", 404, "no_host", host="nowhere.example"),
    Case("/none", 404, "no_path"),
    Case("/a/%zz", 400, "bad_target"),
    Case(f"/{'x' * 9000}", 414, "target_too_long"),
    Case("/web", 431, "fields_too_large", ("-H", f"Long: {'x' * 17000}")),
    Case("/web", 417, "expectation_failed", ("-H", "Expect: miracles")),
    Case("/missing", 503, "service_missing"),
    Case("/empty", 503, "no_endpoints"),
    Case("/closed", 503, "closed"),
    Case("/forbidden", 403, "forbidden"),
    Case("/basic", 401, "unauthorized"),
    Case("/external", 500, "auth_unavailable"),
    Case("/asked", 403, "auth_denied"),
    Case("/redirect", 302, "redirect"),
    Case("/www", 308, "redirect"),
    Case("/tls", 308, "https_redirect"),
    Case("/cors", 204, "preflight", ("-X", "OPTIONS", "-H", "Origin: https://a.example")),
    Case("/small", 413, "body_too_large", ("-d", "more than one byte")),
    Case("/limited", 429, "limited"),
    Case("/dead", 502, "connect_failed"),
    Case("/bad", 502, "upstream_bad_response"),
    Case("/paged", 200, "connect_failed"),
    Case("/stood-in", 200, "no_endpoints"),
    Case("/web", 200, ""),
)


def _routes() -> Iterator[Route]:
    origin = Origin("Ingress", "shop", "web")
    policies = {
        "closed": Policy(closed="bad_allow_list"),
        "forbidden": Policy(allow=ELSEWHERE),
        "basic": Policy(basic=BasicAuth("shop/users")),
        "external": Policy(external=ExternalAuth(upstream="shop/dead:80", host="auth.example", target="/")),
        "asked": Policy(external=ExternalAuth(upstream="shop/deny:80", host="auth.example", target="/")),
        "redirect": Policy(redirect=Redirect(302, "https://other.example/")),
        "www": Policy(www="www.shop.example"),
        "tls": Policy(https_redirect=True),
        "cors": Policy(cors=Cors(("*",), "GET", "", "", max_age=1)),
        "small": Policy(body_size=1),
        # The zone is full once one request is in, which is before any of them here.
        "limited": Policy(limit=RateLimit("shop/web", ((0.001, 0),), rate_status=429)),
        "paged": Policy(errors=ErrorPages("shop/web:80", (502,))),
        "stood-in": Policy(errors=ErrorPages("shop/web:80", (), stands_in=True)),
        "web": None,
    }
    others = {
        "missing": "missing",
        "empty": "empty",
        "dead": "dead",
        "bad": "bad",
        "paged": "dead",
        "stood-in": "empty",
    }
    for number, name in enumerate(sorted({*policies, *others})):
        field = f"spec.rules[0].http.paths[{number}]"
        service = others.get(name, "web")
        yield Route(
            f"/{name}", PathMatch.PREFIX, f"shop/{service}:80", msgspec.structs.replace(origin, field=field),
            policies.get(name),
        )  # fmt: skip


def _snapshot(web: int, bad: int, deny: int) -> Snapshot:
    snapshot = table(
        {"shop.example": list(_routes())},
        upstream("shop/web:80", web),
        upstream("shop/bad:80", bad),
        upstream("shop/deny:80", deny),
        upstream("shop/dead:80", 1),
        upstream("shop/empty:80"),
        upstream("shop/missing:80", reason="service_missing"),
    )
    return msgspec.structs.replace(
        snapshot,
        credentials=(Credentials("shop/users", ()),),
        certificates=(certificate("shop/web", "shop.example"),),
    )


@asynccontextmanager
async def _proxy(net: Net, log: Path, networks: tuple[str, ...]) -> AsyncIterator[Supervisor]:
    chosen = msgspec.structs.replace(
        settings(workers=1), access_log=True, access_log_path=str(log), log_format="json", explain_to=networks
    )
    endpoints = [
        await net.endpoint(script) for script in (echoing, answering(b"SSH-2.0\r\n"), answering(reply(b"", b"403 No")))
    ]
    async with running(chosen) as proxy:
        await proxy.apply(_snapshot(*(endpoint.port for endpoint in endpoints)))
        yield proxy


async def _curl(proxy: Supervisor, case: Case, version: str, *options: str) -> tuple[int, dict[str, str]]:
    """Return the status and the fields of an answer."""
    target = f"http://{case.host}:{proxy.http_port}{case.target}"
    said = await output(
        *(*needed("curl"), "-sS", "--path-as-is", "--max-time", "15", version, "-D", "-", "-o", "/dev/null"),
        *("--connect-to", f"::127.0.0.1:{proxy.http_port}", *case.options, *options, target),
    )
    # An interim head may come before.
    head = said.strip().split("\r\n\r\n")[-1].split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
    return int(head[0].split(" ")[1]), fields


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
async def test_each_reason_is_in_the_header_the_log_and_the_metrics(net: Net, tmp_path: Path, version: str) -> None:
    log = tmp_path / "access.log"
    async with _proxy(net, log, HERE) as proxy:
        await _curl(proxy, Case("/limited", 200, ""), version)
        # curl 7 takes the reset behind an answer, which saves it the rest of its body, for a failure of that answer.
        cases = [case for case in CASES if version == "--http1.1" or case.reason != "body_too_large"]
        found = []
        for case in cases:
            status, fields = await _curl(proxy, case, version)
            found.append(case._replace(status=status, reason=fields.get("x-portway-reason", "")))
        assert found == cases
        counted = await metrics(proxy)
        await eventually(lambda: log.read_text().count("\n") == len(cases) + 1, PATIENCE, "all lines")
        lines = [json.loads(line) for line in log.read_text().splitlines()][1:]
        assert [line["reason"] for line in lines] == [case.reason for case in cases]
        for reason, count in Counter(case.reason for case in cases if case.reason).items():
            assert (reason, counted["portway_replies_total", reason]) == (reason, count)


async def test_clients_of_other_networks_are_told_nothing(net: Net, tmp_path: Path) -> None:
    async with _proxy(net, tmp_path / "access.log", ELSEWHERE) as proxy:
        await _curl(proxy, Case("/limited", 200, ""), "--http1.1")
        for case in CASES:
            status, fields = await _curl(proxy, case, "--http1.1", "-H", ASKING)
            assert (case.target, status) == (case.target, case.status)
            assert [name for name in fields if name.startswith("x-portway")] == []


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
async def test_who_asks_hears_of_route_upstream_and_endpoint(net: Net, tmp_path: Path, version: str) -> None:
    async with _proxy(net, tmp_path / "access.log", HERE) as proxy:
        _, fields = await _curl(proxy, Case("/web", 200, ""), version, "-H", ASKING)
        number = next(number for number, route in enumerate(_routes()) if route.path == "/web")
        assert {name: value for name, value in fields.items() if name.startswith("x-portway")} == {
            "x-portway-route": f"Ingress shop/web spec.rules[0].http.paths[{number}]",
            "x-portway-upstream": "shop/web:80",
            "x-portway-endpoint": f"127.0.0.1:{net._endpoints[0].port}",
        }
        _, fields = await _curl(proxy, Case("/dead", 502, ""), version, "-H", ASKING)
        assert fields["x-portway-reason"] == "connect_failed"
        assert fields["x-portway-endpoint"] == "127.0.0.1:1"
        _, fields = await _curl(proxy, Case("/", 404, "", host="nowhere.example"), version, "-H", ASKING)
        assert [name for name in fields if name.startswith("x-portway")] == ["x-portway-reason"]


# --- every code that there is


def _errors(root: type[ProxyError] = ProxyError) -> Iterator[type[ProxyError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _errors(kind)


def _make(kind: type[ProxyError]) -> ProxyError:
    return kind() if issubclass(kind, (NoEndpoints, Limited)) else kind("why")


UNANSWERED = (ClientGone, BadSnapshot)
ANSWERED = sorted({kind for kind in _errors() if kind not in UNANSWERED}, key=lambda kind: kind.__name__)


def _failing_with(error: ProxyError) -> Callable[[Asker, RequestHead], None]:
    def begin(client: Asker, head: RequestHead) -> None:
        exchange = client.exchange = Exchange(client, head, client.http.loop.time())
        flow.fail(exchange, error)

    return begin


@pytest.mark.parametrize("kind", ANSWERED, ids=lambda kind: kind.__name__)
async def test_whatever_goes_wrong_its_code_is_told(net: Net, kind: type[ProxyError]) -> None:
    site = await net.site(table({}))
    site.http.tell(HERE)
    error = _make(kind)
    site.http.begin = _failing_with(error)
    answer = await (await net.client(site)).get()
    assert (answer.status, answer.get(b"x-portway-reason")) == (error.status, kind.reason.encode())
    http2 = await connect_http2(net, site)
    said = await http2.get()
    assert (said.status, said.get(b"x-portway-reason")) == (error.status, kind.reason.encode())
    assert [line["reason"] for line in await site.lines(2)] == [kind.reason] * 2
    assert dict(site.counters.replies) == {kind.reason: 2}


# --- what is no request


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET /\r\n\r\n", b"bad_head"),
        (b"GET / HTTP/2.0\r\n\r\n", b"version_unsupported"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", b"method_not_allowed"),
        (b"GET / HTTP/1.1\r\n\r\n", b"bad_host"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", b"unknown_coding"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"tls_to_plain_port"),
    ],
)
async def test_what_is_no_request_is_told_why(net: Net, data: bytes, reason: bytes) -> None:
    site = await net.site(table({}))
    site.http.tell(HERE)
    client = await net.client(site)
    client.send(data)
    assert (await client.response()).get(b"x-portway-reason") == reason
    assert (await site.line())["reason"] == reason.decode()
    assert dict(site.counters.replies) == {reason.decode(): 1}


async def test_a_head_that_takes_too_long_is_told_why(net: Net) -> None:
    site = await net.site(table({}))
    site.http.tell(HERE)
    client = await net.client(site)
    client.send(b"GET / HTTP/1.1\r\n")
    await eventually(lambda: site.counters.received > 0, what="the half of a head")
    site.later(61)
    answer = await client.response()
    assert (answer.status, answer.get(b"x-portway-reason")) == (408, b"request_timeout")
    assert (await site.line())["reason"] == "request_timeout"


@pytest.mark.parametrize("why", [MemoryShort, LoopLate])
async def test_who_comes_when_it_is_too_much_is_told_so(net: Net, why: type[MemoryShort | LoopLate]) -> None:
    site, _, client = await net.pair()
    site.http.tell(HERE)
    site.http.shedding = why
    site.http.late_from = float("inf")
    if why is LoopLate:
        # In time still: such a request is served, and told of.
        assert (await client.get("/", "a", ASKING)).get(b"x-portway-upstream") == b"shop/web:80"
        site.http.late_from = 0.0
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: bool(site.http.refused), what="a request that waits for its refusal")
        flow.fail(site.http.refused.pop(), LoopLate("too late"))
        answer = await client.response()
    else:
        answer = await client.get()
    assert (answer.status, answer.get(b"x-portway-reason")) == (503, why.reason.encode())


# --- at the door


async def test_who_is_turned_away_at_the_door_is_told_why_and_leaves_a_line(net: Net, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    chosen = msgspec.structs.replace(
        settings(workers=1),
        limits=Limits(connections=1),
        explain_to=HERE,
        access_log=True,
        access_log_path=str(log),
        log_format="json",
    )
    endpoint = await net.endpoint()
    async with running(chosen) as proxy:
        await proxy.apply(everything_to(endpoint.port))
        inside = await asyncio.open_connection("127.0.0.1", port_of(proxy))
        case = Case("/", 503, "")
        # The first one may not be in yet.
        await eventually_refused(proxy, case)
        _, fields = await _curl(proxy, case, "--http1.1")
        assert fields["x-portway-reason"] == "too_many_connections"
        inside[1].close()
        https = f"http://127.0.0.1:{proxy.https_port}/"
        await _until_served(proxy)
        said = await output(*needed("curl"), "-sS", "-i", "--max-time", "15", https)
        assert said.startswith("HTTP/1.1 400 ")
        assert "X-Portway-Reason: plain_http\r\n" in said
        await eventually(lambda: "plain_http" in log.read_text(), PATIENCE, "the line")
        counted = await metrics(proxy)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    away = [line for line in lines if "listener" in line]
    assert {(line["listener"], line["client"], line["reason"]) for line in away} == {
        ("http", "127.0.0.1", "too_many_connections"),
        ("https", "127.0.0.1", "plain_http"),
    }
    for reason, count in Counter(line["reason"] for line in away).items():
        assert counted["portway_connections_refused_total", reason] == count


async def eventually_refused(proxy: Supervisor, case: Case) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await _curl(proxy, case, "--http1.1"))[0] != 503:
            pass


async def _until_served(proxy: Supervisor) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await _curl(proxy, Case("/", 200, ""), "--http1.1"))[0] != 200:
            pass


# --- what it says, and to whom


async def test_the_field_that_asks_goes_no_further_when_it_is_obeyed(net: Net) -> None:
    site, endpoint, client = await net.pair()
    site.http.tell(HERE)
    await client.get("/1", "a", ASKING)
    await client.get("/2", "a", "X-Portway-Explain: 0")
    site.http.tell(ELSEWHERE)
    await client.get("/3", "a", ASKING)
    site.http.tell(())
    await client.get("/4", "a", ASKING)
    heads = bytes(endpoint.received[0]).split(b"\r\n\r\n")[:4]
    assert [re.findall(rb"X-Portway-Explain: .", head) for head in heads] == [
        [],
        [b"X-Portway-Explain: 0"],
        [b"X-Portway-Explain: 1"],
        [b"X-Portway-Explain: 1"],
    ]


@pytest.mark.parametrize("told", [HERE, ()])
async def test_an_endpoint_cannot_say_what_only_we_say(net: Net, told: tuple[str, ...]) -> None:
    fields = [name.title() + b": forged" for name in OURS]
    site, _, client = await net.pair(answering(reply(b"ok", b"404 Not Found", *fields)))
    site.http.tell(told)
    assert [name for name, _ in (await client.get()).fields if name in OURS] == []


async def test_a_name_out_of_a_snapshot_cannot_begin_a_line(net: Net) -> None:
    endpoint = await net.endpoint()
    route = Route("/", PathMatch.PREFIX, "shop/web:80", Origin("Ingress", "shop", "web\r\nSet-Cookie: a=b", "x\u00e9"))
    site = await net.site(table({"": [route]}, upstream("shop/web:80", endpoint.port)))
    site.http.tell(HERE)
    answer = await (await net.client(site)).get("/", "a", ASKING)
    assert answer.get(b"x-portway-route") == b"Ingress shop/web??Set-Cookie: a=b x?"
    assert answer.get(b"set-cookie") is None


async def test_the_client_that_counts_is_the_one_that_a_trusted_peer_names(net: Net) -> None:
    site = await net.site(msgspec.structs.replace(table({}), trust=Trust(HERE, Belief.ADDRESS)))
    site.http.tell(("192.0.2.7",))
    client = await net.client(site)
    for said, reason in (("192.0.2.7", b"no_host"), ("192.0.2.8", None), ("2001:db8::1", None)):
        answer = await client.get("/", "a", f"X-Forwarded-For: {said}")
        assert (said, answer.get(b"x-portway-reason")) == (said, reason)
    assert (await client.get()).get(b"x-portway-reason") is None


async def test_a_canary_and_a_policy_that_changes_answers_are_told_of_too(net: Net) -> None:
    web, other = await net.endpoint(), await net.endpoint()
    canary = Canary("shop/new:80", header="X-New")
    policy = Policy(canary=canary, cors=Cors(("*",), "GET", "", "", max_age=1))
    site = await net.site(
        table(
            {"": [prefix("/", policy=policy)]}, upstream("shop/web:80", web.port), upstream("shop/new:80", other.port)
        )
    )
    site.http.tell(HERE)
    client = await net.client(site)
    answer = await client.get("/", "a", ASKING, "X-New: always", "Origin: https://b.example")
    assert answer.get(b"x-portway-upstream") == b"shop/new:80"
    assert answer.get(b"x-portway-endpoint") == b"127.0.0.1:%d" % other.port
    assert answer.get(b"access-control-allow-origin") == b"*"
    assert (await client.get("/", "a", ASKING)).get(b"x-portway-upstream") == b"shop/web:80"
    assert (await client.get("/", "a", "X-New: always")).get(b"x-portway-upstream") is None


async def test_a_switch_of_protocols_is_told_of_in_the_101(net: Net) -> None:
    async def upgrading(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")

    site, endpoint, client = await net.pair(upgrading)
    site.http.tell(HERE)
    client.send(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Portway-Explain: 1\r\n\r\n"
    )
    await eventually(lambda: b"\r\n\r\n" in client.received, what="the head of the 101")
    assert b"HTTP/1.1 101 " in client.received
    assert b"X-Portway-Endpoint: 127.0.0.1:%d\r\n" % endpoint.port in client.received


async def test_a_call_of_grpc_is_told_beside_its_status(net: Net) -> None:
    site = await net.site(table({}))
    site.http.tell(HERE)
    client = await connect_http2(net, site)
    said = await client.get("/a.B/C", ("content-type", "application/grpc"))
    assert (said.get(b"grpc-status"), said.get(b"x-portway-reason")) == (b"12", b"no_host")


async def test_another_endpoint_that_answers_in_the_end_is_the_one_that_is_named(net: Net) -> None:
    endpoint = await net.endpoint()
    site = await net.site(everything_to(1, endpoint.port))
    site.http.tell(HERE)
    client = await net.client(site)
    named = {(await client.get("/", "a", ASKING)).get(b"x-portway-endpoint") for _ in range(4)}
    assert named == {b"127.0.0.1:%d" % endpoint.port}


# --- the setting


async def test_nothing_of_it_is_in_the_way_of_a_request_when_it_is_off(net: Net) -> None:
    site = await net.site(table({}))
    assert site.http.begin is flow.begin
    site.http.tell(HERE)
    assert site.http.begin is not flow.begin
    site.http.tell(())
    assert site.http.begin is flow.begin


async def test_the_operator_says_to_whom_over_the_proxys_own_setting(net: Net) -> None:
    chosen = msgspec.structs.replace(settings(workers=1), explain_to=ELSEWHERE)
    case = Case("/", 404, "")
    async with running(chosen) as proxy:
        for said, told in ((None, False), (HERE, True), ((), False)):
            await proxy.apply(Snapshot(observing=Observing(explain_to=said)))
            _, fields = await _curl(proxy, case, "--http1.1")
            assert (said, "x-portway-reason" in fields) == (said, told)


async def test_a_snapshot_with_networks_that_are_none_is_rejected_and_the_old_one_stays() -> None:
    text = msgspec.json.encode(Snapshot(observing=Observing(explain_to=HERE))).replace(b"127.0.0.0/8", b"here")
    with pytest.raises(msgspec.ValidationError, match="here"):
        msgspec.json.decode(text, type=Snapshot)
