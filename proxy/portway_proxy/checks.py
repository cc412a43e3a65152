"""Active health checks: every worker asks the endpoints of the upstreams that want it, again and again."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from portway_proxy.errors import EndpointUnreadable
from portway_proxy.http2_check import status_of
from portway_proxy.l7.pool import Pool
from portway_proxy.snapshot import Check, CheckKind

if TYPE_CHECKING:
    from portway_proxy.tasks import Tasks
    from portway_proxy.upstreams import LiveUpstream

__all__ = ["Checks"]

_log = logging.getLogger(__name__)

_AT_ONCE = 16  # Checks of one upstream that run together: 1,000 endpoints are no reason for 1,000 connections.
_LONGEST_LINE = 1024
_UNREAD = (asyncio.IncompleteReadError, asyncio.LimitOverrunError)
_WELL = re.compile(rb"HTTP/1\.[01] [23][0-9][0-9](?: [^\r\n]*)?\r\n")


class Checks:
    """Keeps what is known of the endpoints of checked upstreams up to date, by a task for each such upstream."""

    __slots__ = ("_followed", "_tasks")

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._followed: dict[LiveUpstream, tuple[Check, asyncio.Task[None]]] = {}

    def follow(self, upstreams: Iterable[LiveUpstream]) -> None:
        """Check those of `upstreams` whose policy asks for it from now on, and no others."""
        wanted = [live for live in upstreams if _check_of(live) is not None]
        for live in self._followed.keys() - set(wanted):
            self._forget(live)
        self.update(wanted)

    def update(self, upstreams: Iterable[LiveUpstream]) -> None:
        """Check these as their policies ask for now; all others stay as they are."""
        for live in upstreams:
            check = _check_of(live)
            if live in self._followed and self._followed[live][0] != check:
                self._forget(live)
            if check is not None and live not in self._followed:
                task = self._tasks.spawn(_keep(live, check), f"check {live.upstream.name}")
                self._followed[live] = (check, task)

    def _forget(self, live: LiveUpstream) -> None:
        _, task = self._followed.pop(live)
        task.cancel()


def _check_of(live: LiveUpstream) -> Check | None:
    return None if live.upstream.policy is None else live.upstream.policy.check


async def _keep(live: LiveUpstream, check: Check) -> None:
    # Workers and proxies that begin together must not ask together for ever.
    await asyncio.sleep(random.random() * min(check.interval, 1.0))  # noqa: S311 - it spreads load, it guards nothing
    few = asyncio.Semaphore(_AT_ONCE)
    while True:
        await asyncio.gather(*(_ask(live, pool, check, few) for pool in live.pools))
        await asyncio.sleep(check.interval)


async def _ask(live: LiveUpstream, pool: Pool, check: Check, few: asyncio.Semaphore) -> None:
    async with few:
        passed = False
        with suppress(OSError, TimeoutError, EndpointUnreadable, *_UNREAD):
            async with asyncio.timeout(check.timeout):
                passed = await _passes(pool, check)
    if pool.retired:
        return
    before = pool.health.failing
    live.checked(pool, passed=passed)
    if pool.health.failing is not before:
        _log.info("%s of %s %s", pool.endpoint, live.upstream.name, "is well again" if before else "fails its checks")


async def _passes(pool: Pool, check: Check) -> bool:
    """Return whether the endpoint accepts a connection, and over HTTP answers well."""
    http = check.kind is CheckKind.HTTP
    tls = pool.context() if http else None
    endpoint = pool.endpoint
    reader, writer = await asyncio.open_connection(
        endpoint.address,
        endpoint.port,
        ssl=tls,
        server_hostname=None if tls is None else pool.speech.name,
        limit=_LONGEST_LINE,
    )
    try:
        if not http:
            return True
        if pool.speech.shared:
            host = check.host or str(endpoint)
            return 200 <= await status_of(reader, writer, check.path, host, secure=pool.secure) < 400
        fields = f"Host: {check.host or endpoint}\r\nUser-Agent: portway-check\r\nConnection: close\r\n"
        writer.write(f"GET {check.path} HTTP/1.1\r\n{fields}\r\n".encode())
        return _WELL.fullmatch(await reader.readuntil(b"\n")) is not None
    finally:
        # At once: whatever else it sends is of no interest, and a peer that reads nothing must not hold a descriptor.
        writer.transport.abort()
