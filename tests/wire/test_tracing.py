"""Traces as a collector gets them: real workers, real exporters, and what they send decoded."""

# ruff: noqa: ANN401 - the messages of OpenTelemetry's protocol have no types.

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import AsyncIterator, Mapping
from concurrent import futures
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from eventually import eventually
from portway_proxy.observing import Export, Observing, Sampler, Tracing
from portway_proxy.snapshot import Host, PathMatch, Policy, Route, Snapshot, Traced
from wire.parts import ORIGIN, WEB, free_port, metrics, port_of, running, settings, snapshot

pytest.importorskip("opentelemetry.sdk", reason="the extra portway[otel] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PATIENCE = 20
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def _requests() -> Any:
    return importlib.import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")


class Collector:
    """A collector of traces; `spans` are those that came, with the attributes of their resource."""

    def __init__(self) -> None:
        self.spans: list[tuple[Any, dict[str, Any]]] = []
        self.url = ""
        self.batches = 0
        self.status = 200

    def take(self, request: Any) -> None:
        self.batches += 1
        for resource in request.resource_spans:
            of = attributes(resource.resource)
            for scope in resource.scope_spans:
                self.spans += [(span, of) for span in scope.spans]

    async def over_http(self, request: web.Request) -> web.Response:
        assert (request.path, request.content_type) == ("/v1/traces", "application/x-protobuf")
        if self.status == 200:
            self.take(_requests().ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response(status=self.status, content_type="application/x-protobuf")

    async def span(self) -> tuple[Any, dict[str, Any]]:
        """Return the only span."""
        await eventually(lambda: bool(self.spans), PATIENCE, "a span")
        (found,) = self.spans
        return found


def attributes(of: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/{path:.*}", collector.over_http)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()


class Told:
    """An endpoint that remembers the fields of requests; `/broken` answers 500."""

    def __init__(self) -> None:
        self.port = 0
        self.fields: list[Mapping[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.fields.append(dict(request.headers))
        return web.Response(text="told", status=500 if request.path == "/broken" else 200)


@pytest.fixture
async def endpoint() -> AsyncIterator[Told]:
    told = Told()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", told.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    told.port = runner.addresses[0][1]
    yield told
    await runner.cleanup()


@asynccontextmanager
async def traced(endpoint: Told, tracing: Tracing | None, observing: Observing | None = None) -> AsyncIterator[Any]:
    """Run a proxy of one worker and yield it with what fetches a path, with fields."""
    chosen = msgspec.structs.replace(settings(1), tracing=tracing, node="proxy-0")
    served: Snapshot = msgspec.structs.replace(snapshot(endpoint.port), observing=observing)
    async with running(chosen) as proxy, aiohttp.ClientSession() as session:
        await proxy.apply(served)

        async def get(path: str = "/shop?q=1", **fields: str) -> int:
            url = f"http://127.0.0.1:{port_of(proxy)}{path}"
            async with session.get(url, headers={"Host": "shop.example", **fields}) as answer:
                await answer.read()
                return answer.status

        yield proxy, get


async def test_a_span_says_what_the_conventions_for_http_servers_ask_for(endpoint: Told) -> None:
    async with collecting() as collector, traced(endpoint, Tracing(collector.url, service="edge")) as (_, get):
        assert await get(**{"User-Agent": "agent/1", "X-Request-ID": "id-1"}) == 200
        span, resource = await collector.span()
    found = attributes(span)
    assert found.pop("portway.endpoint") == f"127.0.0.1:{endpoint.port}"
    assert found == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.request.body.size": 0,
        "http.response.body.size": 4,
        "http.route": "/",
        "url.scheme": "http",
        "url.path": "/shop",
        "url.query": "q=1",
        "client.address": "127.0.0.1",
        "server.address": "shop.example",
        "network.protocol.version": "1.1",
        "user_agent.original": "agent/1",
        "portway.request_id": "id-1",
        "portway.origin": "Ingress shop/web spec.rules[0]",
        "portway.upstream": WEB,
    }
    assert (span.name, span.kind, span.parent_span_id) == ("GET /", 2, b"")
    assert resource["service.name"] == "edge"
    assert resource["service.instance.id"] == "proxy-0"
    assert 0 <= span.end_time_unix_nano - span.start_time_unix_nano < 30e9


@asynccontextmanager
async def by_route(policy: Policy, endpoint: Told, tracing: Tracing, **fields: str) -> AsyncIterator[None]:
    """Run a proxy that got a request for a path with that policy, and one for another."""
    async with traced(endpoint, tracing) as (proxy, get):
        plain = snapshot(endpoint.port)
        route = Route("/told", PathMatch.PREFIX, WEB, ORIGIN, policy)
        hosts = (Host("", (route, *plain.hosts[0].routes)),)
        await proxy.apply(msgspec.structs.replace(plain, hosts=hosts))
        assert [await get("/told", **fields), await get("/other", **fields)] == [200, 200]
        yield


async def test_a_route_may_be_traced_alone_and_call_its_spans_as_it_likes(endpoint: Told) -> None:
    policy = Policy(tracing=Traced(enabled=True, name="HTTP $request_method $uri"))
    async with collecting() as collector, by_route(policy, endpoint, Tracing(collector.url, everywhere=False)):
        span, _ = await collector.span()
    assert span.name == "HTTP GET /told"
    assert ["traceparent" in fields for fields in endpoint.fields] == [True, False]


async def test_a_route_may_be_traced_never(endpoint: Told) -> None:
    policy = Policy(tracing=Traced(enabled=False))
    async with collecting() as collector, by_route(policy, endpoint, Tracing(collector.url)):
        span, _ = await collector.span()
    assert (span.name, ["traceparent" in fields for fields in endpoint.fields]) == ("GET /", [False, True])


@pytest.mark.parametrize("trust", [False, True])
async def test_a_route_may_trust_otherwise(endpoint: Told, trust: bool) -> None:
    tracing = Tracing("http://127.0.0.1:9", trust_incoming=not trust)
    said = f"00-{TRACE}-{PARENT}-01"
    async with by_route(Policy(tracing=Traced(trust_incoming=trust)), endpoint, tracing, traceparent=said):
        pass
    assert [TRACE in fields["traceparent"] for fields in endpoint.fields] == [trust, not trust]


async def test_the_endpoint_is_told_of_the_span_and_continues_its_trace(endpoint: Told) -> None:
    async with collecting() as collector, traced(endpoint, Tracing(collector.url)) as (_, get):
        await get()
        span, _ = await collector.span()
    assert endpoint.fields[0]["traceparent"] == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"


async def test_a_trace_that_a_client_began_goes_on(endpoint: Told) -> None:
    async with collecting() as collector, traced(endpoint, Tracing(collector.url)) as (_, get):
        await get(traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="vendor=1")
        span, _ = await collector.span()
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    told = endpoint.fields[0]
    assert told["traceparent"] == f"00-{TRACE}-{span.span_id.hex()}-01"
    assert told["tracestate"] == "vendor=1"


async def test_a_client_that_does_not_trace_is_followed_to_the_byte(endpoint: Told) -> None:
    said = f"00-{TRACE}-{PARENT}-00"
    async with collecting() as collector, traced(endpoint, Tracing(collector.url)) as (proxy, get):
        await get(traceparent=said)
        counted = await metrics(proxy)
        assert collector.spans == []
    assert endpoint.fields[0]["traceparent"] == said
    assert counted["portway_spans_total", "exported"] == 0


@pytest.mark.parametrize(
    "said",
    [
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01",
        "nonsense",
    ],
)
async def test_a_malformed_parent_begins_a_new_trace_without_its_state(endpoint: Told, said: str) -> None:
    async with traced(endpoint, Tracing("http://127.0.0.1:9", sampler=Sampler.ALWAYS_OFF)) as (_, get):
        await get(traceparent=said, tracestate="vendor=1")
    told = endpoint.fields[0]
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", told["traceparent"])
    assert TRACE not in told["traceparent"]
    assert "tracestate" not in told


async def test_a_parent_of_a_later_version_is_understood(endpoint: Told) -> None:
    async with collecting() as collector, traced(endpoint, Tracing(collector.url)) as (_, get):
        await get(traceparent=f"01-{TRACE}-{PARENT}-01-what-comes-then")
        span, _ = await collector.span()
    assert span.trace_id.hex() == TRACE


async def test_a_parent_that_is_not_trusted_is_ignored(endpoint: Told) -> None:
    tracing = Tracing("http://127.0.0.1:9", sampler=Sampler.ALWAYS_OFF, trust_incoming=False)
    async with traced(endpoint, tracing) as (_, get):
        await get(traceparent=f"00-{TRACE}-{PARENT}-01")
    assert TRACE not in endpoint.fields[0]["traceparent"]


async def test_without_tracing_what_a_client_says_of_its_trace_passes(endpoint: Told) -> None:
    async with traced(endpoint, None) as (_, get):
        await get(traceparent="anything", tracestate="vendor=1")
    assert (endpoint.fields[0]["traceparent"], endpoint.fields[0]["tracestate"]) == ("anything", "vendor=1")


async def test_a_ratio_decides_by_the_trace_whatever_the_client_says(endpoint: Told) -> None:
    async with collecting() as collector:
        tracing = Tracing(collector.url, sampler=Sampler.RATIO, ratio=0.5, parent_based=False)
        async with traced(endpoint, tracing) as (_, get):
            for half in ("1", "f"):
                await get(traceparent=f"00-{TRACE[:16]}{half * 16}-{PARENT}-01")
            span, _ = await collector.span()
    assert span.trace_id.hex() == TRACE[:16] + "1" * 16
    assert [told["traceparent"][-2:] for told in endpoint.fields] == ["01", "00"]


async def test_a_fault_is_an_error_with_its_reason(endpoint: Told) -> None:
    async with collecting() as collector, traced(endpoint, Tracing(collector.url)) as (_, get):
        assert await get("/broken") == 500
        span, _ = await collector.span()
    assert (span.status.code, attributes(span)["error.type"]) == (2, "500")


async def test_spans_go_in_batches(endpoint: Told) -> None:
    async with collecting() as collector, traced(endpoint, Tracing(collector.url)) as (_, get):
        for _ in range(100):
            await get()
        await eventually(lambda: len(collector.spans) == 100, PATIENCE, "all spans")
        assert collector.batches < 20


async def test_a_collector_that_takes_nothing_costs_no_request(endpoint: Told) -> None:
    async with collecting() as collector, traced(endpoint, Tracing(collector.url)) as (proxy, get):
        collector.status = 400
        for _ in range(20):
            assert await get() == 200

        async with asyncio.timeout(PATIENCE):
            while (await metrics(proxy))["portway_spans_total", "failed"] < 20:
                pass


async def test_the_operator_turns_tracing_on_and_off_while_it_runs(endpoint: Told) -> None:
    async with collecting() as collector, traced(endpoint, None) as (proxy, get):
        await get()
        served = proxy.snapshot
        assert served is not None
        on = msgspec.structs.replace(served, observing=Observing(tracing=Tracing(collector.url)))
        await proxy.apply(on)
        await get()
        await collector.span()
        await proxy.apply(served)
        await get()
    assert ["traceparent" in told for told in endpoint.fields] == [False, True, False]


async def test_spans_travel_by_grpc_too(endpoint: Told) -> None:
    grpc = pytest.importorskip("grpc")
    service = importlib.import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc")
    collector = Collector()

    class Servicer(service.TraceServiceServicer):  # type: ignore[misc, name-defined] # The library is not typed.
        def Export(self, request: Any, _: object) -> Any:  # noqa: N802 - the protocol's name
            collector.take(request)
            return _requests().ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(1))
    service.add_TraceServiceServicer_to_server(Servicer(), server)
    port = free_port()
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    server.start()
    try:
        async with traced(endpoint, Tracing(f"http://127.0.0.1:{port}", Export.GRPC)) as (_, get):
            await get()
            span, _ = await collector.span()
    finally:
        server.stop(None).wait()
    assert span.name == "GET /"
