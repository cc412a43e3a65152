from __future__ import annotations

import logging

import pytest
from aiohttp import web

from fake_api import service, serving
from portway_operator.objects import Kind
from portway_operator.resync import Resync
from portway_operator.sources.connection import Connection
from portway_operator.sources.ledger import Ledger
from portway_operator.sources.resources import Target
from portway_operator.sources.stream import Listed, Message, Stream


async def test_every_target_is_listed_though_one_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as api:
        api.apply(service())
        api.fault = lambda request: web.Response(status=403) if "ingresses" in request.path else None
        connection, reports = Connection(api.url), list[Message]()
        targets = [Target(kind) for kind in (Kind.INGRESS, Kind.SERVICE, Kind.ENDPOINT_SLICE)]
        streams = {target: Stream(target, connection, Ledger(), reports.append) for target in targets}
        async with connection.session() as session:
            await Resync(session, streams, 300.0).list_all()
        assert [report.target for report in reports if isinstance(report, Listed)] == targets[1:]
        assert "Ingress was not resynchronised: 403 Forbidden" in caplog.text
