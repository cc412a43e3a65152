"""`reported.py`: what proxies report, added up by whoever looks."""

from __future__ import annotations

import pytest

from portway_operator.reported import Reported
from portway_proxy.dashboard.figures import Depth, Gathered, Moved
from portway_proxy.stream import Report
from portway_proxy.traffic import Labels

SHOP = Labels("shop.example", "shop", "web", "web", "/")
WIKI = Labels("wiki.example", "wiki", "web", "web", "/")


def report(node: str, requests: int, seconds: float = 2.0, over: float = 2.0, route: Labels = SHOP) -> Report:
    """Return a report of so many requests in each second."""
    total = Moved(Labels(), int(requests * seconds), 0, 0, {1: int(requests * seconds)})
    moved = [Moved(route, int(requests * over), 0, 0, {1: int(requests * over)})] if over else []
    return Report(node, "node-a", "0.1.0", Gathered(seconds, total, over, moved))


@pytest.fixture
async def reported() -> Reported:
    found = Reported()
    found.want(10)
    return found


def rates(found: Gathered) -> dict[str, float]:
    """Return the requests a second of all, and of each host."""
    rows = {moved.labels.host: moved.figure(found.over).requests for moved in found.moved}
    return {"": found.total.figure(found.seconds).requests} | rows


async def test_what_proxies_report_is_added_up(reported: Reported) -> None:
    reported.take(report("one", 10))
    reported.take(report("two", 5))
    reported.take(report("three", 5, route=WIKI))
    assert rates(reported.look(Depth.ROWS)) == {"": 20.0, "shop.example": 15.0, "wiki.example": 5.0}
    assert reported.look(Depth.ROWS) == Gathered()


async def test_a_proxy_that_counted_for_longer_counts_no_more_than_others(reported: Reported) -> None:
    for node in ("one", "two"):
        reported.take(report(node, 10))
    reported.take(report("slow", 10, seconds=6.0, over=12.0))
    assert rates(reported.look(Depth.ROWS)) == {"": 30.0, "shop.example": 30.0}


async def test_a_proxy_that_tells_of_routes_less_often_counts_as_it_told_last(reported: Reported) -> None:
    reported.take(report("one", 10))
    reported.take(report("slow", 10, over=8.0))
    assert rates(reported.look(Depth.ROWS))["shop.example"] == 20.0
    reported.take(report("one", 20))
    reported.take(report("slow", 10, over=0.0))
    assert rates(reported.look(Depth.ROWS)) == {"": 30.0, "shop.example": 30.0}


async def test_reports_that_nobody_looked_at_are_not_lost(reported: Reported) -> None:
    reported.take(report("one", 10))
    reported.take(report("one", 30))
    assert rates(reported.look(Depth.TOTALS)) == {"": 20.0}
    reported.take(report("one", 20, over=0.0))
    assert rates(reported.look(Depth.ROWS)) == {"": 20.0, "shop.example": 20.0}


async def test_nothing_is_taken_that_nobody_wants(reported: Reported) -> None:
    reported.take(report("one", 10))
    assert reported.tellers.keys() == {"one"}
    reported.want(0)
    assert not reported.tellers
    reported.take(report("two", 10))
    assert not reported.tellers
    assert reported.look(Depth.ROWS) == Gathered()


async def test_whoever_waits_goes_on_once_all_have_reported_or_the_time_is_over(reported: Reported) -> None:
    reported.take(report("one", 10))
    await reported.wait(["one"], 60)
    await reported.wait(["one", "gone"], 0.01)
    assert reported.look(Depth.TOTALS).seconds == 2.0
