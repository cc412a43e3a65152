"""The whole fleet as the operator's dashboard shows it: what is published, who serves it, and all their traffic."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final

from portway_operator.publish import Proxy, Publisher
from portway_operator.reported import Teller
from portway_proxy.dashboard.feed import Proxies, ProxyRow, Role
from portway_proxy.dashboard.figures import Depth, Gathered
from portway_proxy.endpoint_states import EndpointPage, EndpointQuery
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import Problem, Snapshot

__all__ = ["Fleet"]

_WATCH: Final = 10.0  # Seconds for which reports are wanted after somebody looked.
_ROUND: Final = 4.0  # Seconds until those that have not reported do not count: a proxy does so every two.
_QUIET: Final = 15.0  # A proxy that follows another operator says every ten seconds that it is there.
_ANSWER: Final = 3.0  # Seconds for proxies to say how endpoints fare; they do at once.
_NAMES: Final = re.compile(r"[A-Za-z0-9._:/#-]{1,600}")
_NOBODY: Final = Teller()
_PORTS: Final = ProxySettings(http_port=80, https_port=443, workers=1)


class Fleet:
    """What the pages of the operator whose `publisher` this is show and explain; it runs on `node`.

    Ports and keys are each proxy's own: here they are the usual ones, and none.
    """

    settings = _PORTS
    http_port = _PORTS.http_port
    https_port = _PORTS.https_port
    affinity_key = b""

    def __init__(self, publisher: Publisher, node: str = "") -> None:
        self._publisher = publisher
        self.role = Role.OPERATOR
        self.node = node
        self._looking = False

    @property
    def generation(self) -> int:
        """The number of what is published."""
        return self._publisher.version

    @property
    def snapshot(self) -> Snapshot | None:
        """What is published, or None before the first time."""
        update = self._publisher.published
        return None if update is None else update.snapshot

    @property
    def problems(self) -> tuple[Problem, ...]:
        """No more than those of the snapshot."""
        return ()

    @property
    def digest(self) -> str:
        """The digest of the snapshot."""
        update = self._publisher.published
        return "" if update is None else update.digest

    @property
    def served_since(self) -> float:
        """When the snapshot was published, in seconds since the epoch."""
        return self._publisher.published_at

    def fleet(self) -> Proxies:
        """Return the proxies that are there, by name."""
        proxies, tellers = self._publisher.proxies, self._publisher.reported.tellers
        state = _states(self.digest)
        return Proxies([_row(proxies[name], tellers.get(name, _NOBODY), state) for name in sorted(proxies)])

    async def endpoints(self, query: EndpointQuery) -> EndpointPage:
        """Return how the endpoints of the upstream that is asked for fare, for all proxies together.

        Those are asked; one that does not answer in time is left out. All upstreams at once are none.
        """
        if not _NAMES.fullmatch(query.name):
            return EndpointPage()
        self._publisher.watch(_WATCH, query.name)
        streaming = [proxy.node for proxy in self._publisher.proxies.values() if proxy.streaming]
        pages = await self._publisher.reported.pages(query.name, streaming, _ANSWER)
        rows = (EndpointPage.of((row for row in page.endpoints if query.names(row.upstream)), query) for page in pages)
        return EndpointPage.join(rows, query.limit)

    async def figures(self, depth: Depth) -> Gathered:
        """Return what proxies counted since this was called before; nothing the first time, and the `LAST`.

        It takes as long as they do to report, so that no proxy's figures come and go.
        """
        reported = self._publisher.reported
        first, self._looking = not self._looking, depth is not Depth.LAST
        if depth is Depth.LAST:
            reported.want(0)
            return Gathered()
        self._publisher.watch(_WATCH)
        if first:
            return Gathered()
        began = asyncio.get_running_loop().time()
        await reported.wait(self._publisher.proxies.keys(), _ROUND)
        found = reported.look(depth)
        if found.seconds:
            return found
        # Where nobody reports all figures are zeros, and not what they were.
        waited = max(1.0, asyncio.get_running_loop().time() - began)
        return Gathered(seconds=waited, over=waited)


def _states(digest: str) -> Callable[[Proxy], str]:
    """Return what tells a proxy's state where this digest is published."""
    now = asyncio.get_running_loop().time()

    def state(proxy: Proxy) -> str:
        if not proxy.streaming and now - proxy.seen > _QUIET:
            return "away"
        if proxy.error:
            return "rejects"
        return "current" if proxy.digest == digest else "behind"

    return state


def _row(proxy: Proxy, teller: Teller, state: Callable[[Proxy], str]) -> ProxyRow:
    return ProxyRow(
        proxy.node,
        teller.place,
        teller.version,
        state(proxy),
        proxy.version,
        proxy.digest,
        round(proxy.since, 3),
        teller.requests,
    )
