from __future__ import annotations

import pytest

from portway_proxy.ingress_nginx import Controller, request_samples
from portway_proxy.l7.exchange import Exchange
from portway_proxy.l7.response import ResponseHead
from portway_proxy.l7.trail import trail_of
from portway_proxy.live import Live
from portway_proxy.metrics import (
    CONNECT_DURATION,
    LATENCY_BOUNDS,
    REQUEST_BYTES,
    REQUEST_DURATION,
    REQUESTS,
    RESPONSE_BYTES,
    UPSTREAM_DURATION,
    Family,
    Histogram,
    Sample,
)
from portway_proxy.snapshot import Endpoint, Host, Origin, PathMatch, Route, Snapshot, Upstream
from portway_proxy.traffic import OTHER, Traffic
from worker_parts import Parts

WEB = "shop/web:80"
LABELS = ("shop.example", "shop", "web", "web")


def route(path: str = "/", ingress: str = "web") -> Route:
    return Route(path, PathMatch.PREFIX, WEB, Origin("Ingress", "shop", ingress, "spec.rules[0]"))


def live(*hosts: Host, default: Route | None = None, before: Live | None = None) -> Live:
    upstream = Upstream(WEB, endpoints=(Endpoint("10.0.0.1", 80),))
    return Live.build(Snapshot(hosts=hosts, default=default, upstreams=(upstream,)), 1, "", before or Live.empty())


def finished(parts: Parts, serving: Live, **changes: object) -> Exchange:
    """Return an exchange that an endpoint answered after two milliseconds, with 10 bytes behind a head of 5."""
    method, host, path = (
        str(changes.pop(name, usual)) for name, usual in (("method", "GET"), ("host", "shop.example"), ("path", "/"))
    )
    exchange = parts.exchange(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), 100.0)
    exchange.route = serving.table.match(exchange.head.host, exchange.head.path)
    exchange.upstream = serving.upstreams[WEB]
    exchange.response = ResponseHead(1, 200, b"OK")
    exchange.response.plain = b"12345"
    exchange.response_size = 10
    exchange.status = 200
    exchange.ended = 100.002
    for name, value in changes.items():
        setattr(exchange, name, value)
    return exchange


def of(samples: list[Sample], family: Family) -> list[Sample]:
    return [sample for sample in samples if sample.name == family.name]


async def test_requests_are_counted_by_route_method_and_class_of_status() -> None:
    parts, traffic, serving = Parts(), Traffic(100), live(Host("shop.example", (route(),)))
    statuses = (200, 204, 502, 499)
    traffic.count([finished(parts, serving, status=status) for status in statuses], serving)
    traffic.count([finished(parts, serving, method="POST")], serving)
    assert of(list(traffic.samples()), REQUESTS) == [
        REQUESTS.sample(2, *LABELS, "GET", "2xx"),
        REQUESTS.sample(1, *LABELS, "GET", "5xx"),
        REQUESTS.sample(1, *LABELS, "GET", "4xx"),
        REQUESTS.sample(1, *LABELS, "POST", "2xx"),
    ]


async def test_times_and_bytes_of_a_whole_response_are_those_of_the_exchange() -> None:
    parts, traffic, serving = Parts(), Traffic(100), live(Host("shop.example", (route(),)))
    exchange = finished(parts, serving)
    traffic.count([exchange, exchange], serving)
    samples = list(traffic.samples())
    counts = (0, 2, *[0] * (len(LATENCY_BOUNDS) - 1))
    for family in (REQUEST_DURATION, UPSTREAM_DURATION):
        (sample,) = of(samples, family)
        assert (sample.counts, sample.labels) == (counts, LABELS)
        assert sample.value == pytest.approx(0.004)
    assert of(samples, REQUEST_BYTES) == [REQUEST_BYTES.sample(2 * exchange.head.size, *LABELS)]
    assert of(samples, RESPONSE_BYTES) == [RESPONSE_BYTES.sample(30, *LABELS)]
    assert of(samples, CONNECT_DURATION) == []


async def test_the_head_of_a_long_response_has_a_time_of_its_own() -> None:
    parts, traffic, serving = Parts(), Traffic(100), live(Host("shop.example", (route(),)))
    exchange = finished(parts, serving, ended=107.0)
    trail = trail_of(exchange)
    trail.sent, trail.connect, trail.headed, trail.head_size = 101.0, 0.5, 101.75, 7
    traffic.count([exchange], serving)
    samples = list(traffic.samples())
    assert of(samples, REQUEST_DURATION)[0].value == 7.0
    assert of(samples, UPSTREAM_DURATION)[0].value == 0.75
    assert of(samples, CONNECT_DURATION)[0].value == 0.5
    assert of(samples, RESPONSE_BYTES)[0].value == 17


async def test_a_request_without_a_route_is_counted_without_labels() -> None:
    parts, traffic, serving = Parts(), Traffic(100), live()
    exchange = parts.exchange(started=1.0)
    exchange.status, exchange.ended = 404, 1.0
    traffic.count([exchange], serving)
    samples = list(traffic.samples())
    assert of(samples, REQUESTS) == [REQUESTS.sample(1, "", "", "", "", "GET", "4xx")]
    assert of(samples, UPSTREAM_DURATION) == []


@pytest.mark.parametrize(
    ("host", "expected"), [("shop.example", "shop.example"), ("a.shop.example", "*.shop.example"), ("else", "*")]
)
async def test_the_host_is_spelt_as_in_the_ingress(host: str, expected: str) -> None:
    parts, traffic = Parts(), Traffic(100)
    names = ("", "*.shop.example", "shop.example")
    serving = live(*(Host(name, (route(),)) for name in names))
    traffic.count([finished(parts, serving, host=host)], serving)
    assert [sample.labels[0] for sample in of(list(traffic.samples()), REQUESTS)] == [expected]


async def test_what_the_default_serves_is_of_no_host() -> None:
    parts, traffic = Parts(), Traffic(100)
    serving = live(Host("shop.example", (route("/a"),)), default=route("/", "rest"))
    traffic.count([finished(parts, serving, path="/b")], serving)
    assert [sample.labels[:3] for sample in of(list(traffic.samples()), REQUESTS)] == [("*", "shop", "rest")]


async def test_hosts_are_one_when_they_are_not_to_be_told_apart() -> None:
    parts, traffic = Parts(), Traffic(100, per_host=False)
    serving = live(*(Host(name, (route(),)) for name in ("a.example", "b.example")))
    traffic.count([finished(parts, serving, host=host) for host in ("a.example", "b.example")], serving)
    assert of(list(traffic.samples()), REQUESTS) == [REQUESTS.sample(2, "", "shop", "web", "web", "GET", "2xx")]


async def test_counts_go_on_over_a_swap() -> None:
    parts, traffic, first = Parts(), Traffic(100), live(Host("shop.example", (route(),)))
    late = finished(parts, first)
    traffic.count([finished(parts, first)], first)
    second = live(Host("shop.example", (route(), route("/more"))), before=first)
    traffic.count([finished(parts, second), late], second)
    assert of(list(traffic.samples()), REQUESTS) == [REQUESTS.sample(3, *LABELS, "GET", "2xx")]


async def test_methods_and_statuses_that_are_made_up_are_one_series() -> None:
    parts, traffic, serving = Parts(), Traffic(100), live(Host("shop.example", (route(),)))
    made_up = [
        finished(parts, serving, method=method, status=status)
        for method in ("PROPFIND", "LOCK")
        for status in (250, 251)
    ]
    traffic.count(made_up, serving)
    (record,) = traffic.records
    assert set(record) == {(OTHER.encode(), 200)}
    assert of(list(traffic.samples()), REQUESTS) == [REQUESTS.sample(4, *LABELS, OTHER, "2xx")]


async def test_series_that_find_no_room_are_counted_together() -> None:
    parts, traffic = Parts(), Traffic(3)
    serving = live(*(Host(f"h{number}.example", (route(),)) for number in range(6)))
    traffic.count([finished(parts, serving, host=f"h{number}.example") for number in range(6)] * 2, serving)
    samples = of(list(traffic.samples()), REQUESTS)
    assert [sample.value for sample in samples] == [2, 2, 2, 6]
    assert samples[-1].labels == (OTHER, OTHER, OTHER, OTHER, "GET", "2xx")


async def test_what_is_served_no_more_makes_room() -> None:
    parts, traffic = Parts(), Traffic(2)
    first = live(Host("a.example", (route(),)), Host("b.example", (route(),)))
    traffic.count([finished(parts, first, host=host) for host in ("a.example", "b.example")], first)
    second = live(Host("b.example", (route(),)), Host("c.example", (route(),)), before=first)
    traffic.count([finished(parts, second, host="c.example")], second)
    assert [sample.labels[0] for sample in of(list(traffic.samples()), REQUESTS)] == ["b.example", "c.example"]


def test_a_bound_belongs_to_what_is_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 3.0):
        histogram.observe(value)
    assert (histogram.counts, histogram.total) == ([2, 2, 1], 7.5)


async def test_ingress_nginxs_names_tell_path_and_exact_status() -> None:
    parts, traffic, serving = Parts(), Traffic(100, lengths=True), live(Host("shop.example", (route("/a"),)))
    traffic.count([finished(parts, serving, path="/a/b", status=201)], serving)
    samples = list(request_samples(traffic.records, Controller.of("ingress", "pod-0")))
    assert {sample.name.removeprefix("nginx_ingress_controller_") for sample in samples} == {
        "requests",
        "request_duration_seconds",
        "header_duration_seconds",
        "response_duration_seconds",
        "connect_duration_seconds",
        "request_size",
        "response_size",
        "bytes_sent",
        "nginx_process_requests_total",
    }
    assert samples[0].labels == (
        "k8s.io/ingress-nginx",
        "ingress",
        "pod-0",
        "shop.example",
        "shop",
        "web",
        "web",
        "/a",
        "",
        "GET",
        "201",
    )
    (connects,) = [sample for sample in samples if sample.name.endswith("connect_duration_seconds")]
    assert connects.counts[0] == 1
