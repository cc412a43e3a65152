"""`fleet.py`: which proxies there are and how far each has come, and who is asked for figures."""

from __future__ import annotations

import asyncio

import pytest

from portway_operator.fleet import Fleet
from portway_operator.publish import Publisher
from portway_operator.rebuild import Update
from portway_operator.subscription import Subscription
from portway_proxy.codec import digest
from portway_proxy.dashboard.figures import Depth, Gathered, Moved
from portway_proxy.endpoint_states import EndpointPage, EndpointQuery, EndpointRow
from portway_proxy.explain.explanation import EndpointState
from portway_proxy.snapshot import Snapshot, Upstream
from portway_proxy.stream import Ack, Report, Verdict, Watch, decode
from portway_proxy.traffic import Labels

pytestmark = pytest.mark.looptime

WEB = "shop/web:80"


async def published() -> tuple[Publisher, str]:
    publisher, snapshot = Publisher(), Snapshot(upstreams=(Upstream(WEB),))
    await publisher.publish(Update(snapshot, digest(snapshot)))
    return publisher, digest(snapshot)


async def follow(publisher: Publisher, node: str) -> Subscription:
    """Return the subscription of a proxy that has heard the opening."""
    subscription = publisher.subscribe(node, None)
    assert await subscription.next()
    return subscription


def applied(publisher: Publisher, node: str, content: str) -> None:
    publisher.acknowledge(Ack(node, publisher.epoch, publisher.version, content, Verdict.APPLIED))


async def test_a_proxy_is_current_behind_rejects_or_is_away() -> None:
    publisher, content = await published()
    for node in ("current", "behind", "rejects"):
        await follow(publisher, node)
    applied(publisher, "current", content)
    applied(publisher, "behind", "0" * 32)
    publisher.acknowledge(Ack("rejects", publisher.epoch, 1, "", Verdict.REJECTED, "it is odd"))
    applied(publisher, "away", content)
    await asyncio.sleep(20)
    applied(publisher, "elsewhere", content)
    rows = {row.name: row.state for row in Fleet(publisher).fleet().proxies}
    assert rows == {"away": "away", "elsewhere": "current"} | {name: name for name in ("behind", "current", "rejects")}


async def test_proxies_are_asked_once_and_again_when_other_endpoints_are_looked_at() -> None:
    publisher, _ = await published()
    subscription = await follow(publisher, "proxy-0")
    fleet = Fleet(publisher)
    assert await fleet.figures(Depth.ROWS) == Gathered()
    (line,) = await subscription.next() or ()
    asked = decode(line)
    assert isinstance(asked, Watch)
    assert 9 < asked.seconds <= 10
    looking = asyncio.get_running_loop().create_task(fleet.endpoints(EndpointQuery(WEB)))
    (line,) = await subscription.next() or ()
    asked = decode(line)
    assert isinstance(asked, Watch)
    assert asked.endpoints == WEB
    rows = (
        EndpointRow(WEB, "10.0.0.1:80", EndpointState.EJECTED),
        EndpointRow("shop/api:80", "10.0.0.2:80", EndpointState.READY),
    )
    publisher.take(Report("proxy-0", "", "", Gathered(), WEB, EndpointPage(rows)))
    assert (await looking).endpoints == rows[:1]
    # What is known is told at once.
    assert (await fleet.endpoints(EndpointQuery(WEB))).endpoints == rows[:1]


async def test_a_proxy_that_does_not_report_holds_nobody_up_for_long() -> None:
    publisher, _ = await published()
    await follow(publisher, "older")
    await follow(publisher, "proxy-0")
    fleet = Fleet(publisher)
    await fleet.figures(Depth.ROWS)
    publisher.take(Report("proxy-0", "node-a", "0.1.0", Gathered(2.0, Moved(Labels(), 6, 0, 0, {0: 6}))))
    began = asyncio.get_running_loop().time()
    assert (await fleet.figures(Depth.ROWS)).total.requests == 6
    assert asyncio.get_running_loop().time() - began == 4
    assert [(row.name, row.node, row.requests) for row in fleet.fleet().proxies] == [
        ("older", "", 0),
        ("proxy-0", "node-a", 3),
    ]
    silent = await fleet.figures(Depth.ROWS)
    assert (silent.total.requests, silent.seconds, silent.over) == (0, 4, 4)
    assert (await fleet.endpoints(EndpointQuery(WEB))).endpoints == ()


async def test_a_report_of_who_is_not_there_is_not_taken() -> None:
    publisher, _ = await published()
    fleet = Fleet(publisher)
    await fleet.figures(Depth.ROWS)
    publisher.take(Report("stranger", "", "", Gathered(2.0, Moved(Labels(), 6, 0, 0, {0: 6}))))
    assert not publisher.reported.tellers
