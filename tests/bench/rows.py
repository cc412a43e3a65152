"""The rows of the benchmark. Another one is one entry in `ROWS`, and a function when it measures in a new way."""

from __future__ import annotations

from collections.abc import Callable

from bench.accounting import memory
from bench.contest import Budget, Column, Contender, Row, Running, Values
from bench.load import (
    CLOSING,
    FAST,
    KNOWN,
    PACED,
    VARIED,
    Manner,
    Traffic,
    bodies,
    h2load,
    handshakes,
    held,
    pings,
    wrk,
)
from bench.looking import looked_at
from bench.peers import Baseline, Envoy, HAProxy, Nginx, Portway
from bench.quota import capped
from bench.scene import Scene

__all__ = ["ROWS"]

_CLIENTS = 2000
_RELAYS = 9_000  # A process may often have 20,000 descriptors, and a relay takes two.
_STREAMS = 16
_AT_ONCE = 32  # Streams of a connection of HTTP/2.
_CALLERS, _CALLS = 8, 8  # Connections of clients of gRPC, and calls at once on each.
_LARGE = 1 << 20
_HUGE = 1 << 30
_HTTP = Scene("http")
_HTTPS = Scene("https")
_GRPC = Scene("https", grpc=True)
_TCP = Scene("tcp")
_HTTP_BULK = Scene("http", bulk=True)
_TCP_BULK = Scene("tcp", bulk=True)
_FEW = Scene("http", routes=10)
_MANY = Scene("http", routes=10_000)
_MOST = Scene("http", routes=100_000)
_LOOKED_AT = Scene("http", routes=5_000)
_PART = 0.2  # Of a core, for each worker: the load and the endpoint have what is left, and are never the bottleneck.

_RATE = Column("rate", "requests/s", 0)
_P99 = Column("p99", "p99 ms", 2)
_ASIDE = Column("aside", "supervisor, % of a core", 2)
_CPU = Column("cpu", "CPU us/request", 1, compared=True)
_PER_GB = Column("cpu", "CPU s/GB", 3, compared=True)
_SPEED = Column("speed", "GB/s", 2)
_RSS = Column("rss", "RSS MB", 1, compared=True)
_PSS = Column("pss", "PSS MB", 1)


def small(manner: Manner) -> Callable[[Running, float], Values]:
    """Return the method that counts CPU time per small request."""

    def measure(running: Running, seconds: float) -> Values:
        running.logged()
        cpu, aside = running.cpu()
        load = wrk(running, seconds, manner)
        cpu_after, aside_after = running.cpu()
        return {
            "cpu": (cpu_after - cpu) / load.requests * 1e6,
            "rate": load.rate,
            "p99": load.p99 * 1e3,
            "capacity": load.requests / (cpu_after - cpu),
            "aside": (aside_after - aside) / (load.requests / load.rate) * 100,
            "log": running.logged() / load.requests,
        }

    return measure


def part(running: Running, seconds: float) -> Values:
    """Return the rate of small requests when each worker has a part of a core."""
    with capped(running.processes, _PART):
        load = wrk(running, seconds, FAST)
    return {"rate": load.rate, "p99": load.p99 * 1e3}


def multiplexed(running: Running, seconds: float) -> Values:
    """Return the CPU time per small request of many at once on a connection, or per call of gRPC on some."""
    cpu, _ = running.cpu()
    calls = running.scene.grpc
    load = h2load(running, seconds, _CALLERS if calls else 1, _CALLS if calls else _AT_ONCE)
    after, _ = running.cpu()
    return {"cpu": (after - cpu) / load.requests * 1e6, "rate": load.rate, "longest": load.p99 * 1e3}


def meetings(*, resumed: bool) -> Callable[[Running, float], Values]:
    """Return the method that counts TLS handshakes per second of CPU time."""

    def measure(running: Running, seconds: float) -> Values:
        before, _ = running.cpu()
        made = handshakes(running, seconds, resumed=resumed)
        after, _ = running.cpu()
        return {"capacity": made / (after - before), "cpu": (after - before) / made * 1e6}

    return measure


def bulk(traffic: Traffic) -> Callable[[Running, float], Values]:
    """Return the method that counts CPU time per byte of a body."""

    def measure(running: Running, seconds: float) -> Values:
        before, _ = running.cpu()
        moved = bodies(running, seconds, traffic)
        after, _ = running.cpu()
        return {"cpu": (after - before) / moved.bytes * 1e9, "speed": moved.bytes / moved.seconds / 1e9}

    return measure


def idle(running: Running, _seconds: float) -> Values:
    """Return the memory of a proxy that has served one request since it started."""
    own, aside = memory(running.processes), memory(running.aside)
    return {"rss": own.rss / 1e6, "pss": own.pss / 1e6, "aside": aside.pss / 1e6}


def clients(running: Running, seconds: float) -> Values:
    """Return the memory that a client costs which keeps its connection and asks for nothing."""
    wrk(running, seconds, FAST)
    before = memory(running.processes)
    with held(running.scene, running.port, _CLIENTS):
        after = memory(running.processes)
    return {"rss": (after.rss - before.rss) / _CLIENTS / 1024, "pss": (after.pss - before.pss) / _CLIENTS / 1024}


def relays(running: Running, seconds: float) -> Values:
    """Return the memory that a relay costs through which nothing passes."""
    wrk(running, seconds, FAST)
    before = memory(running.processes)
    with held(running.scene, running.port, _RELAYS):
        after = memory(running.processes)
    return {"rss": (after.rss - before.rss) / _RELAYS / 1024, "pss": (after.pss - before.pss) / _RELAYS / 1024}


def latency(running: Running, seconds: float) -> Values:
    """Return the time that a proxy adds to an exchange of 64 bytes with an endpoint on another core."""
    proxied, across, beside = pings(running, seconds)
    middle, tail = (across[len(across) // 2], across[len(across) * 99 // 100])
    return {
        "added": (proxied[len(proxied) // 2] - middle) * 1e6,
        "p99": (proxied[len(proxied) * 99 // 100] - tail) * 1e6,
        "direct": middle * 1e6,
        "beside": beside[len(beside) // 2] * 1e6,
    }


def _all(scene: Scene, *peers: Nginx | HAProxy | Envoy | Baseline | Portway) -> tuple[Contender, ...]:
    return tuple(Contender(peer, scene) for peer in peers)


_NETWORKS = ",".join(f"10.{number >> 8}.{number & 255}.0/24" for number in range(10_000))
_LISTED = Portway.annotated("10,000 networks allowed", allowlist_source_range=_NETWORKS + ",127.0.0.0/8")
_PASSWORD = Portway.annotated("basic auth", auth_type="basic", auth_secret="users")
_ASKED = Portway.annotated(
    "external auth, cached", auth_url="http://endpoint.bench.svc/", auth_cache_key="$http_authorization"
)

_BODIES = (Nginx(), Nginx(streaming=True), HAProxy(), Envoy(), Portway())
_BULK = (HAProxy(), HAProxy(splice=True), Portway())
_BULK_BUDGETS = (Budget("portway", "cpu", 0.5, "haproxy"), Budget("portway", "cpu", 1.1, "haproxy, splice"))

ROWS: tuple[Row, ...] = (
    Row(
        key="l7",
        title="L7 keep-alive, 69-byte response, 64 connections, access log on",
        contenders=_all(_HTTP, Nginx(), Nginx(log_buffer=False), HAProxy(), Envoy(), Baseline(), Portway()),
        columns=(_CPU, _RATE, _P99, Column("log", "log bytes/request", 0), _ASIDE),
        measure=small(FAST),
        baselines=("nginx", "envoy"),
        budgets=(Budget("portway", "cpu", 1.7, "nginx"), Budget("portway", "cpu", 0.6, "envoy")),
    ),
    Row(
        key="l7-varied",
        title="L7 keep-alive, no two heads alike: 10,000 cookies and targets, an ETag of its own in each response",
        contenders=_all(_HTTP, Nginx(), HAProxy(), Envoy(), Portway()),
        columns=(_CPU, _RATE, _P99),
        measure=small(VARIED),
        baselines=("nginx", "envoy"),
    ),
    Row(
        key="l7-paced",
        title="L7 keep-alive, about 10,000 requests/s: 128 connections that wait 10 ms after each response",
        contenders=_all(_HTTP, Nginx(), HAProxy(), Envoy(), Portway()),
        columns=(_CPU, _RATE, _P99),
        measure=small(PACED),
        baselines=("nginx", "envoy"),
    ),
    Row(
        key="l7-routes",
        title="L7 keep-alive, requests spread over 10, 10,000 and 100,000 routes",
        contenders=(
            Contender(Nginx(), _FEW, ", 10 routes"),
            Contender(Nginx(), _MANY, ", 10,000 routes"),
            Contender(Portway(), _FEW, ", 10 routes"),
            Contender(Portway(), _MANY, ", 10,000 routes"),
            Contender(Portway(), _MOST, ", 100,000 routes"),
        ),
        columns=(_CPU, _RATE, _P99),
        measure=small(FAST),
        baselines=("nginx, 10 routes", "portway, 10 routes"),
        budgets=(
            Budget("portway, 10,000 routes", "cpu", 1.15, "portway, 10 routes"),
            Budget("portway, 100,000 routes", "cpu", 1.15, "portway, 10 routes"),
        ),
    ),
    Row(
        key="l7-guards",
        title="L7 keep-alive, routes that nobody guards, and those that ask who comes",
        contenders=_all(_HTTP, Portway(), _LISTED, _PASSWORD, _ASKED),
        columns=(_CPU, _RATE, _P99),
        measure=small(KNOWN),
        baselines=("portway",),
        budgets=(
            Budget(_LISTED.label, "cpu", 5.0, "portway", more=True),
            Budget(_PASSWORD.label, "cpu", 15.0, "portway", more=True),
            Budget(_ASKED.label, "cpu", 15.0, "portway", more=True),
        ),
    ),
    Row(
        key="l7-workers",
        title=f"L7 keep-alive, one and two workers, each with {_PART:.0%} of a core",
        contenders=_all(_HTTP, Portway(), Portway.with_workers(2)),
        columns=(Column("rate", "requests/s", 0, compared=True), _P99),
        measure=part,
        baselines=("portway",),
        budgets=(Budget("portway, 2 workers", "rate", 1.8, "portway", least=True),),
    ),
    Row(
        key="l7-tls",
        title="L7 over TLS 1.3, keep-alive, 69-byte response, 64 connections",
        contenders=_all(_HTTPS, Nginx(), HAProxy(), Envoy(), Portway()),
        columns=(_CPU, _RATE, _P99),
        measure=small(FAST),
        baselines=("nginx", "envoy"),
        budgets=(Budget("portway", "cpu", 1.8, "nginx"),),
    ),
    Row(
        key="l7-h2",
        title=f"HTTP/2 over TLS 1.3, 69-byte response, one connection with {_AT_ONCE} streams",
        contenders=_all(_HTTPS, Nginx(), HAProxy(), Envoy(), Portway()),
        columns=(_CPU, _RATE, Column("longest", "longest ms", 1)),
        measure=multiplexed,
        baselines=("nginx", "envoy"),
        budgets=(Budget("portway", "cpu", 1.2, "envoy"),),
    ),
    Row(
        key="grpc",
        title=f"gRPC, unary calls over TLS 1.3, {_CALLERS} connections with {_CALLS} calls each, to HTTP/2 in clear",
        contenders=_all(_GRPC, Nginx(), Envoy(), Portway()),
        columns=(_CPU, _RATE, Column("longest", "longest ms", 1)),
        measure=multiplexed,
        baselines=("nginx", "envoy"),
        budgets=(Budget("portway", "cpu", 1.2, "envoy"),),
    ),
    *(
        Row(
            key=f"tls-handshakes{suffix}",
            title=f"TLS 1.3 handshakes, {what}, each with a request and its answer, one after the other",
            contenders=_all(_HTTPS, Nginx(), HAProxy(), Portway()),  # Envoy answers HTTP/1.0 with 426 and waits.
            columns=(
                Column("capacity", "handshakes per CPU second", 0, compared=True),
                Column("cpu", "CPU us/handshake", 0),
            ),
            measure=meetings(resumed=bool(suffix)),
            baselines=("nginx",),
            budgets=(Budget("portway", "capacity", 0.4, "nginx", least=True),),
        )
        for suffix, what in (("", "full"), ("-resumed", "resumed"))
    ),
    Row(
        key="l7-bodies-down",
        title=f"L7, 1 MiB response bodies, {_STREAMS} connections",
        contenders=_all(_HTTP_BULK, *_BODIES),
        columns=(_PER_GB, _SPEED),
        measure=bulk(Traffic(_STREAMS, download=_LARGE)),
        baselines=("nginx", "nginx, streaming", "envoy"),
        budgets=(Budget("portway", "cpu", 1.3, "nginx"),),
    ),
    Row(
        key="l7-bodies-up",
        title=f"L7, 1 MiB request bodies, {_STREAMS} connections",
        contenders=_all(_HTTP_BULK, *_BODIES),
        columns=(_PER_GB, _SPEED),
        measure=bulk(Traffic(_STREAMS, upload=_LARGE)),
        baselines=("nginx", "nginx, streaming", "envoy"),
        # By default nginx writes a large request body to a file first, which is no measure.
        budgets=(Budget("portway", "cpu", 1.3, "nginx, streaming"),),
    ),
    *(
        Row(
            key=f"l4-bulk-{streams}",
            title=f"L4 bulk, streams: {streams}",
            contenders=_all(_TCP_BULK, *_BULK),
            columns=(_PER_GB, _SPEED),
            measure=bulk(Traffic(streams, download=_HUGE)),
            baselines=("haproxy", "haproxy, splice"),
            budgets=_BULK_BUDGETS,
        )
        for streams in (1, 8)
    ),
    Row(
        key="l4-connections",
        title="L4 connections: connect, one request, close; 64 at a time",
        contenders=_all(_TCP, HAProxy(), Portway()),
        columns=(
            Column("capacity", "connections per CPU second", 0, compared=True),
            Column("cpu", "CPU us/connection", 1),
            Column("rate", "connections/s", 0),
        ),
        measure=small(CLOSING),
        baselines=("haproxy",),
        budgets=(Budget("portway", "capacity", 0.5, "haproxy", least=True),),
    ),
    Row(
        key="l4-latency",
        title="L4 exchange of 64 bytes on a connection that is there: what the proxy adds to a direct one",
        contenders=_all(_TCP_BULK, HAProxy(), Portway()),
        columns=(
            Column("added", "added p50 us", 1, compared=True),
            Column("p99", "added p99 us", 1),
            Column("direct", "direct p50 us", 1),
            Column("beside", "direct to the proxy's endpoint p50 us", 1),
        ),
        measure=latency,
        baselines=("haproxy",),
        budgets=(Budget("portway", "added", 100),),
    ),
    Row(
        key="l4-relays",
        title=f"Memory per idle relay, {_RELAYS} of them",
        contenders=_all(_TCP, Portway()),
        columns=(Column("rss", "RSS KiB/relay", 2), Column("pss", "PSS KiB/relay", 2)),
        measure=relays,
        baselines=(),
        budgets=(Budget("portway", "rss", 20),),
        once=True,
    ),
    Row(
        key="dashboard",
        title="The dashboard's stream at 5,000 routes, about 1,000 requests/s spread over all of them, one reader",
        contenders=_all(_LOOKED_AT, Portway()),
        columns=(
            Column("cpu", "CPU us/request while nobody looks", 1),
            _ASIDE,
            Column("watched", "supervisor with a reader, % of a core", 2),
            Column("stream", "for the reader, all processes, % of a core", 2),
            Column("sent", "kB/s sent", 1),
            _RATE,
        ),
        measure=looked_at,
        budgets=(Budget("portway", "stream", 1.0),),
    ),
    Row(
        key="memory-idle",
        title="Memory of an idle proxy with one route",
        contenders=_all(_HTTP, Nginx(), HAProxy(), Envoy(), Portway()),
        columns=(_RSS, _PSS, Column("aside", "supervisor PSS MB", 1)),
        measure=idle,
        baselines=("nginx",),
        budgets=(Budget("portway", "rss", 60),),
        once=True,
    ),
    Row(
        key="memory-clients",
        title=f"Memory per idle keep-alive client, {_CLIENTS} of them",
        contenders=_all(_HTTP, Nginx(), HAProxy(), Envoy(), Portway()),
        columns=(Column("rss", "RSS KiB/client", 2, compared=True), Column("pss", "PSS KiB/client", 2)),
        measure=clients,
        baselines=("nginx",),
        budgets=(Budget("portway", "rss", 8),),
        once=True,
    ),
)
"""All rows, in the order in which they run."""
