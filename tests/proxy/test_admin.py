from __future__ import annotations

import json
import socket
from base64 import b64decode
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest

from certs import certificate
from portway_proxy.admin import Admin
from portway_proxy.describe import describe
from portway_proxy.endpoint_states import EndpointPage, EndpointQuery, EndpointRow
from portway_proxy.explain.explanation import EndpointState
from portway_proxy.flows import Flow, FlowPage, FlowQuery
from portway_proxy.history import Step
from portway_proxy.history_pages import Chronicle
from portway_proxy.listeners import PortUnavailable
from portway_proxy.metrics import REPLIES, Sample
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import Endpoint, Host, Origin, PathMatch, Problem, Route, Snapshot, Upstream

ORIGIN = Origin("Ingress", "shop", "web", "spec.rules[0]")
SECRET = certificate("shop/tls", "shop.example")
PROBLEM = Problem(ORIGIN, "service_missing", "There is no Service.", "Requests get 503.", "Create it.")
SNAPSHOT = Snapshot(
    hosts=(Host("shop.example", (Route("/", PathMatch.PREFIX, "shop/web:80", ORIGIN),)),),
    upstreams=(Upstream("shop/web:80", endpoints=(Endpoint("10.0.0.1", 8080),)),),
    certificates=(SECRET,),
    problems=(PROBLEM,),
)


class Proxy:
    """What an admin server shows, set by the test."""

    settings = ProxySettings()
    http_port: int | None = 80
    https_port: int | None = 443
    generation = 7
    affinity_key = b""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = SNAPSHOT
        self.problems = (Problem(ORIGIN, "port_unavailable", "Port 1 is taken.", "It is closed.", "Free it."),)
        self.reason = ""
        self.history = Chronicle()

    def unready(self) -> str:
        return self.reason

    async def collect(self) -> list[Sample]:
        return [REPLIES.sample(3, "no_host")]

    async def flows(self, query: FlowQuery) -> FlowPage:
        flow = Flow("tcp/5432", "192.0.2.1:4711", "shop/db:5432/tcp", "10.0.0.1:5432", 90.0, 7, 9)
        return FlowPage.of([flow], query)

    async def endpoints(self, query: EndpointQuery) -> EndpointPage:
        rows = (
            EndpointRow("shop/web:80", "10.0.0.1:8080", EndpointState.READY, requests=2, connections=3, idle=1),
            EndpointRow("shop/web:80", "10.0.0.2:8080", EndpointState.EJECTED, 0.0, 7.5, 5, ready=0),
        )
        return EndpointPage.of((row for row in rows if query.names(row.upstream)), query)


class Pages:
    def __init__(self, proxy: Proxy, port: int, session: aiohttp.ClientSession) -> None:
        self.proxy = proxy
        self.port = port
        self._session = session

    async def get(self, path: str, accept: str = "*/*") -> tuple[int, str, str]:
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self._session.get(url, headers={"Accept": accept}) as response:
            return response.status, response.content_type, await response.text()


@pytest.fixture
async def pages() -> AsyncIterator[Pages]:
    proxy = Proxy()
    admin = Admin(proxy)
    port = await admin.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        yield Pages(proxy, port, session)
    await admin.close()


async def test_health_is_200_while_the_loop_runs(pages: Pages) -> None:
    assert await pages.get("/healthz") == (200, "text/plain", "ok\n")


async def test_readiness_is_503_with_the_reason_until_there_is_none(pages: Pages) -> None:
    pages.proxy.reason = "no snapshot yet"
    assert await pages.get("/readyz") == (503, "text/plain", "no snapshot yet\n")
    pages.proxy.reason = ""
    assert await pages.get("/readyz") == (200, "text/plain", "ready\n")


async def test_routes_are_one_line_each(pages: Pages) -> None:
    status, kind, text = await pages.get("/routes")
    assert (status, kind) == (200, "text/plain")
    assert "shop.example prefix / => shop/web:80 -> 10.0.0.1:8080" in text


@pytest.mark.parametrize(("path", "accept"), [("/routes?format=json", "*/*"), ("/routes", "application/json")])
async def test_routes_come_as_json_when_asked_for(pages: Pages, path: str, accept: str) -> None:
    status, kind, text = await pages.get(path, accept)
    assert (status, kind) == (200, "application/json")
    assert '"path":"/"' in text
    assert '{"name":"shop/tls","hosts":["shop.example"],"not_after":2000000000}' in text


async def test_the_format_in_the_query_goes_before_the_accept_field(pages: Pages) -> None:
    assert (await pages.get("/routes?format=text", "application/json"))[1] == "text/plain"


@pytest.mark.parametrize("path", ["/routes", "/routes?format=json", "/problems", "/problems?format=json", "/metrics"])
async def test_no_page_shows_a_key(pages: Pages, path: str) -> None:
    _, _, text = await pages.get(path)
    assert "PRIVATE KEY" not in text
    assert SECRET.key.decode().split("\n")[1] not in text
    assert "LS0tLS1CRUdJTi" not in text  # what a PEM begins with in base64


async def test_problems_of_the_snapshot_and_of_the_proxy_are_listed(pages: Pages) -> None:
    _, _, text = await pages.get("/problems")
    assert text.splitlines() == [
        f"error service_missing {PROBLEM}",
        f"error port_unavailable {pages.proxy.problems[0]}",
    ]
    _, kind, text = await pages.get("/problems?format=json")
    assert kind == "application/json"
    assert '"code":"port_unavailable"' in text


async def test_everything_answers_before_the_first_snapshot(pages: Pages) -> None:
    pages.proxy.snapshot = None
    for path in ("/routes", "/routes?format=json", "/problems", "/metrics", "/healthz"):
        assert (await pages.get(path))[0] == 200


async def test_metrics_are_rendered_in_prometheus_text_format(pages: Pages) -> None:
    status, kind, text = await pages.get("/metrics")
    assert (status, kind) == (200, "text/plain")
    assert 'portway_replies_total{reason="no_host"} 3\n' in text


async def test_a_port_that_is_taken_is_said_to_be() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortUnavailable, match=f"Port {port} of 127.0.0.1 cannot be opened: another program"):
            await Admin(Proxy()).start("127.0.0.1", port)


async def test_flows_are_one_line_each_or_json_and_filtered(pages: Pages) -> None:
    line = "tcp/5432 192.0.2.1:4711 -> shop/db:5432/tcp 10.0.0.1:5432 90s in=7 out=9\n"
    assert await pages.get("/flows") == (200, "text/plain", line)
    assert await pages.get("/flows?client=192.0.2.2") == (200, "text/plain", "")
    status, kind, text = await pages.get("/flows?listener=5432&format=json")
    assert (status, kind, json.loads(text)["flows"][0]["bytes_out"]) == (200, "application/json", 9)


@pytest.mark.parametrize("asked", ["limit=100000", "limit=x", "color=red"])
async def test_flows_that_cannot_be_asked_for_are_a_bad_request(pages: Pages, asked: str) -> None:
    status, _, text = await pages.get(f"/flows?{asked}")
    assert status == 400
    assert text


async def test_endpoints_are_one_line_each_and_tell_how_they_fare(pages: Pages) -> None:
    _, _, text = await pages.get("/upstreams")
    assert text.splitlines() == [
        "shop/web:80 10.0.0.1:8080 ready requests=2 connections=3 idle=1",
        "shop/web:80 10.0.0.2:8080 ejected for 8s share=0% failures=5 requests=0 connections=0 idle=0",
    ]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("name=shop/web", ["10.0.0.1:8080", "10.0.0.2:8080"]),
        ("name=shop/web:80&state=ejected", ["10.0.0.2:8080"]),
        ("name=other/one,shop/web:80&limit=1", ["10.0.0.1:8080"]),
        ("name=shop/we", []),
    ],
)
async def test_endpoints_are_told_of_the_upstreams_that_are_asked_for(
    pages: Pages, asked: str, told: list[str]
) -> None:
    _, kind, text = await pages.get(f"/upstreams?{asked}&format=json")
    assert kind == "application/json"
    assert [row["address"] for row in json.loads(text)["endpoints"]] == told


async def test_a_state_that_is_none_is_refused_with_the_name_of_the_field(pages: Pages) -> None:
    status, _, text = await pages.get("/upstreams?state=happy")
    assert (status, text) == (400, "Invalid enum value 'happy' - at `$.state`\n")


async def test_history_shows_what_was_served_and_never_a_key(pages: Pages) -> None:
    assert await pages.get("/history") == (200, "text/plain", "nothing was served yet\n")
    pages.proxy.history.note(Step(7, SNAPSHOT, "abc"), 0.25)
    status, kind, text = await pages.get("/history?format=json")
    assert (status, kind) == (200, "application/json")
    (row,) = msgspec.json.decode(text)
    assert row.pop("at").endswith("Z")
    assert row == {
        "generation": 7,
        "first": 7,
        "digest": "abc",
        "causes": [],
        "more": 0,
        "summary": "the first: 1 route",
        "endpoints": False,
        "took": 0.25,
        "kept": True,
    }
    _, _, text = await pages.get("/history/7?format=json")
    assert msgspec.json.decode(text, type=Snapshot).hosts == SNAPSHOT.hosts
    assert "fingerprint:" in b64decode(msgspec.json.decode(text)["certificates"][0]["key"]).decode()
    _, _, text = await pages.get("/history/7")
    lines = text.splitlines()
    assert lines[0].endswith("UTC: the first: 1 route, applied in 250 ms (abc)")
    assert lines[1:] == ["", *describe(SNAPSHOT).splitlines()]


async def test_what_is_not_kept_is_404_and_says_what_is(pages: Pages) -> None:
    pages.proxy.history.note(Step(7, SNAPSHOT, "abc"))
    said = "Generation 8 is not kept: 7 is.\n"
    assert await pages.get("/history/8?format=json") == (404, "text/plain", said)
