"""Ends requests that take longer than a whole request may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portway_proxy.clock import NEVER
from portway_proxy.errors import RequestOverdue
from portway_proxy.l7 import flow
from portway_proxy.l7.exchange import TUNNEL

if TYPE_CHECKING:
    from portway_proxy.l7.http import Http

__all__ = ["Overdue"]


class Overdue:
    """Looks at all requests at each tick while there is a limit: without one, none costs anything."""

    __slots__ = ("_http", "deadline")

    def __init__(self, http: Http) -> None:
        self._http = http
        self.deadline = NEVER

    def follow(self) -> None:
        """Begin or end looking, as the timeouts say now."""
        if self._http.timeouts.request:
            self.deadline = 0.0
            self._http.clock.watch(self)
        else:
            self._http.clock.unwatch(self)

    def expire(self) -> None:
        """Answer, or cut off, what began too long ago; a tunnel has its own limit."""
        http = self._http
        limit = http.timeouts.request
        begun = http.loop.time() - limit
        begun_by = [exchange for client in http.worker.clients for exchange in client.exchanges]
        for exchange in begun_by:
            if exchange.started <= begun and exchange.state is not TUNNEL:
                flow.fail(exchange, RequestOverdue(f"the request took longer than {limit:g} s"))
