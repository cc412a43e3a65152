from __future__ import annotations

import logging

import pytest
from aiohttp import web

from fake_api import FakeApi, service, serving
from portway_operator.objects import Kind
from portway_operator.resync import Resync
from portway_operator.sources.connection import Connection
from portway_operator.sources.ledger import Ledger
from portway_operator.sources.resources import Target
from portway_operator.sources.scope import Pace
from portway_operator.sources.stream import Listed, Message, Stream

PACE = Pace(resync=300.0, grace=0.01)


async def checked(api: FakeApi, ledger: Ledger, *kinds: Kind) -> list[Target]:
    """Return what is listed after the versions of these kinds were compared with `ledger`."""
    connection, reports = Connection(api.url), list[Message]()
    streams = {Target(kind): Stream(Target(kind), connection, ledger, reports.append) for kind in kinds}
    async with connection.session() as session:
        await Resync(session, streams, PACE).check_all()
    return [report.target for report in reports if isinstance(report, Listed)]


async def test_every_target_is_compared_though_one_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as api:
        api.apply(service())
        api.fault = lambda request: web.Response(status=403) if "ingresses" in request.path else None
        listed = await checked(api, Ledger(), Kind.INGRESS, Kind.SERVICE, Kind.ENDPOINT_SLICE)
        # There is no EndpointSlice, and none is known.
        assert listed == [Target(Kind.SERVICE)]
        assert "Ingress was not compared: 403 Forbidden" in caplog.text


async def test_what_is_known_in_its_version_is_not_listed() -> None:
    async with serving() as api:
        ledger, name = Ledger(), ("shop", "web")
        ledger.admit(name, int(api.apply(service())["metadata"]["resourceVersion"]))
        assert await checked(api, ledger, Kind.SERVICE) == []
        # The API server is asked for nothing older than what is known.
        assert api.queries["/api/v1/services"]["resourceVersion"] == str(ledger.highest)


@pytest.mark.parametrize("lost", ["added", "changed", "deleted"])
async def test_what_a_watch_did_not_tell_is_listed(lost: str) -> None:
    async with serving() as api:
        ledger, name = Ledger(), ("shop", "web")
        if lost != "added":
            ledger.admit(name, int(api.apply(service())["metadata"]["resourceVersion"]))
        if lost == "deleted":
            api.delete(Kind.SERVICE, *name)
        else:
            api.apply(service())
        assert await checked(api, ledger, Kind.SERVICE) == [Target(Kind.SERVICE)]


async def test_versions_that_are_no_numbers_cannot_be_compared_so_all_is_listed() -> None:
    async with serving() as api:
        stored = api.apply(service())
        stored["metadata"]["resourceVersion"] = "v7"
        assert await checked(api, Ledger(), Kind.SERVICE) == [Target(Kind.SERVICE)]
