from __future__ import annotations

import msgspec
import pytest

from portway_proxy.answering import endpoint_rows
from portway_proxy.clock import Still
from portway_proxy.endpoint_states import EndpointPage, EndpointQuery, EndpointRow, describe_endpoints
from portway_proxy.explain.explanation import EndpointState
from portway_proxy.snapshot import Check, CheckKind, Endpoint, Upstream, UpstreamPolicy
from portway_proxy.upstreams import LiveUpstream, Surroundings

READY, EJECTED, FAILING, DRAINING = (
    EndpointState.READY,
    EndpointState.EJECTED,
    EndpointState.FAILING,
    EndpointState.DRAINING,
)
A, B = Endpoint("10.0.0.1", 80), Endpoint("fd00::2", 80)


def row(address: str = "10.0.0.1:80", upstream: str = "shop/web:80", **known: object) -> EndpointRow:
    return msgspec.convert(
        {"upstream": upstream, "address": address, "state": "ready", **known}, EndpointRow, strict=False
    )


def live(policy: UpstreamPolicy | None = None, around: Surroundings | None = None) -> LiveUpstream:
    return LiveUpstream(Upstream("shop/web:80", endpoints=(A, B), policy=policy), around)


def test_an_endpoint_is_as_it_is_for_the_worker_that_thinks_least_of_it() -> None:
    well = row(requests=2, connections=3, idle=1)
    out = row(state="ejected", share=0.0, retry=7.0, failures=5, requests=1, connections=1, ready=0)
    assert well.plus(out) == out.plus(well)
    both = well.plus(out)
    assert (both.state, both.share, both.retry, both.failures) == (EJECTED, 0.0, 7.0, 5)
    assert (both.requests, both.connections, both.idle, both.workers, both.ready) == (3, 4, 1, 2, 1)
    assert both.plus(row(state="failing", ready=0)).state is FAILING


def test_the_rows_of_several_workers_are_joined_and_what_is_left_out_is_counted() -> None:
    rows = [row(f"10.0.0.{number}:80") for number in range(5)]
    query = EndpointQuery(limit=3)
    page = EndpointPage.join([EndpointPage.of(rows, query), EndpointPage.of(rows, query)], 3)
    assert [(one.address, one.workers) for one in page.endpoints] == [(f"10.0.0.{number}:80", 2) for number in range(3)]
    assert page.more == 2
    assert describe_endpoints(page).splitlines()[-1] == "and 2 more"


def test_workers_that_know_different_endpoints_are_told_by_the_order_of_upstreams() -> None:
    first, second = EndpointPage((row(upstream="shop/b:80"),)), EndpointPage((row(upstream="shop/a:80"),))
    assert [one.upstream for one in EndpointPage.join([first, second], 10).endpoints] == ["shop/a:80", "shop/b:80"]
    page = EndpointPage.join([first, second], 1)
    assert ([one.upstream for one in page.endpoints], page.more) == (["shop/a:80"], 1)


@pytest.mark.parametrize(
    ("name", "upstream", "named"),
    [
        ("", "shop/web:80", True),
        ("shop/web", "shop/web:80", True),
        ("shop/web:80", "shop/web:80", True),
        ("shop/web:80", "shop/web:80#canary", True),
        ("shop/web:80#canary", "shop/web:80#canary", True),
        ("shop/web:80#canary", "shop/web:80", False),
        ("other/one,shop/web", "shop/web:80", True),
        ("web", "shop/web:80", False),
        ("shop/web:8", "shop/web:80", False),
    ],
)
def test_an_upstream_is_named_by_its_service_with_or_without_a_port(name: str, upstream: str, named: bool) -> None:
    assert EndpointQuery(name).names(upstream) is named


def test_endpoints_that_are_well_share_alike() -> None:
    rows = list(endpoint_rows(live(), 0.0))
    assert [(one.address, one.state, one.share, one.ready) for one in rows] == [
        ("10.0.0.1:80", READY, 1.0, 1),
        ("[fd00::2]:80", READY, 1.0, 1),
    ]


def test_one_that_failed_requests_is_told_with_when_it_is_asked_again() -> None:
    upstream = live()
    for _ in range(5):
        upstream.failed(upstream.pools[0])
    first, second = endpoint_rows(upstream, 4.0)
    assert (first.state, first.share, first.failures, first.ready) == (EJECTED, 0.0, 5, 0)
    assert first.retry == upstream.pools[0].health.until - 4.0
    assert (second.state, second.retry) == (READY, 0.0)


def test_one_that_fails_its_checks_is_told_so_whatever_requests_say() -> None:
    upstream = live(UpstreamPolicy(check=Check(CheckKind.TCP, failures=1)))
    upstream.checked(upstream.pools[1], passed=False)
    assert [one.state for one in endpoint_rows(upstream, 0.0)] == [READY, FAILING]


def test_one_that_starts_slowly_gets_less() -> None:
    clock = Still()
    upstream = live(UpstreamPolicy(slow_start=30.0), Surroundings(clock))
    upstream.update(
        Upstream("shop/web:80", endpoints=(A, B, Endpoint("10.0.0.3", 80)), policy=upstream.upstream.policy)
    )
    shares = [one.share for one in endpoint_rows(upstream, clock.now)]
    assert shares[:2] == [1.0, 1.0]
    assert 0.0 < shares[2] < 1.0


def test_a_line_says_what_departs_from_the_usual() -> None:
    page = EndpointPage(
        (
            row(),
            row(state="ejected", share=0.0, retry=21.4, failures=5, workers=2, ready=1),
            row(share=0.25),
            row(state="draining", share=0.0, requests=1, connections=1, ready=0),
        )
    )
    nothing = "requests=0 connections=0 idle=0"
    assert describe_endpoints(page).splitlines() == [
        "shop/web:80 10.0.0.1:80 ready requests=0 connections=0 idle=0",
        "shop/web:80 10.0.0.1:80 ejected for 21s (ready for 1 of 2 workers) share=0% failures=5 " + nothing,
        "shop/web:80 10.0.0.1:80 ready share=25% requests=0 connections=0 idle=0",
        "shop/web:80 10.0.0.1:80 draining share=0% requests=1 connections=1 idle=0",
    ]
